//! What host names lead to: asked by the operator itself, since the C library takes a thread for each name that it waits for.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};

use super::shares::Shares;

/// Lookups under way for one namespace.
const EACH: usize = 16;
/// Lookups under way in all.
const ALL: usize = 256;
/// Answers that are kept, for as long as they are valid. Each lookup takes two.
const KEPT: u64 = 1024;
/// How long it is remembered that there is no such name: it may be added at any time.
const NO_NAME: Duration = Duration::from_secs(5);

/// Resolves host names.
pub(super) struct Names {
    hosts: Hosts,
    resolver: Option<TokioResolver>,
    lookups: Shares,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

impl Names {
    /// Asks the name servers of `/etc/resolv.conf`, after `/etc/hosts`.
    pub(super) fn of_the_system() -> Self {
        let (config, options) = read_system_conf().unwrap_or_else(|error| {
            tracing::warn!(%error, "/etc/resolv.conf cannot be used: only the names in /etc/hosts are known");
            (ResolverConfig::from_parts(None, Vec::new(), Vec::new()), ResolverOpts::default())
        });
        Self::new(Hosts::from_system().unwrap_or_default(), config, options)
    }

    fn new(hosts: Hosts, config: ResolverConfig, options: ResolverOpts) -> Self {
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = KEPT;
        options.negative_max_ttl = Some(NO_NAME);
        options.max_active_requests = 2 * ALL;
        Self { hosts, resolver: builder.build().ok(), lookups: Shares::new(EACH, ALL) }
    }

    /// The addresses of a host, for a namespace; none if the name has no address, or no name server answers.
    pub(super) async fn lookup(&self, namespace: &str, host: &str) -> Option<Vec<IpAddr>> {
        let mut addresses = self.in_hosts(host);
        if addresses.is_empty() {
            let _share = self.lookups.take(namespace, 1).await?;
            addresses = self.resolver.as_ref()?.lookup_ip(absolute(host)).await.ok()?.iter().collect();
        }
        (!addresses.is_empty()).then_some(addresses)
    }

    /// The addresses of a host in `/etc/hosts`. If it is there, no name server is asked for a family that is not.
    fn in_hosts(&self, host: &str) -> Vec<IpAddr> {
        let name = Name::from_utf8(host).unwrap_or_default();
        let of = |family| self.hosts.lookup_static_host(&Query::query(name.clone(), family));
        let found: Vec<_> = [RecordType::A, RecordType::AAAA].into_iter().filter_map(of).collect();
        found.iter().flat_map(Lookup::answers).filter_map(|record| record.data.ip_addr()).collect()
    }

    /// Drops what is not in use anymore; to be called now and then.
    pub(super) fn purge(&self) {
        self.lookups.purge();
    }
}

/// A name with a dot in it is asked for as it is: in a Pod, whose search list comes first otherwise, a tenant could have a
/// Service whose name answers to it.
fn absolute(host: &str) -> String {
    if host.contains('.') && !host.ends_with('.') { format!("{host}.") } else { host.to_owned() }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;
    use std::sync::{Arc, Mutex};

    use futures::future::join_all;
    use hickory_resolver::config::NameServerConfig;
    use tokio::net::UdpSocket;
    use tokio::task::JoinSet;

    use super::*;

    /// A name server that knows one name, answers for others that there are none, and is silent about a zone.
    pub(in crate::vendor) struct Server {
        pub(in crate::vendor) names: Arc<Names>,
        asked: Arc<Mutex<Vec<String>>>,
    }

    pub(in crate::vendor) const KNOWN: &str = "x2.example.net.";

    impl Server {
        async fn start() -> Self {
            Self::answering(vec![vec![Ipv4Addr::new(192, 0, 2, 7)]], 60).await
        }

        /// One whose name leads to each of these in turn, for so many seconds.
        pub(in crate::vendor) async fn answering(turns: Vec<Vec<Ipv4Addr>>, seconds: u8) -> Self {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let at = socket.local_addr().unwrap();
            let asked: Arc<Mutex<Vec<String>>> = Arc::default();
            tokio::spawn(serve(socket, (turns, seconds), Arc::clone(&asked)));
            let mut server = NameServerConfig::udp(at.ip());
            server.connections.iter_mut().for_each(|connection| connection.port = at.port());
            let search =
                ["a.svc.cluster.local.", "net."].map(|zone| Name::from_ascii(zone).unwrap()).to_vec();
            let config = ResolverConfig::from_parts(None, search, vec![server]);
            let mut options = ResolverOpts::default();
            (options.ndots, options.attempts) = (5, 1);
            let mut hosts = Hosts::default();
            hosts.read_hosts_conf("192.0.2.8 four.silent\n2001:db8::8 six.silent\n".as_bytes()).unwrap();
            Self { names: Arc::new(Names::new(hosts, config, options)), asked }
        }

        /// The names that were asked for.
        fn asked(&self) -> BTreeSet<String> {
            std::mem::take(&mut *self.asked.lock().unwrap()).into_iter().collect()
        }
    }

    async fn serve(
        socket: UdpSocket,
        (turns, seconds): (Vec<Vec<Ipv4Addr>>, u8),
        asked: Arc<Mutex<Vec<String>>>,
    ) {
        let mut turns = turns.iter().cycle();
        let mut query = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut query).await.unwrap();
            let (name, end) = question(&query[..length]);
            asked.lock().unwrap().push(name.clone());
            if name.ends_with(".silent.") {
                continue;
            }
            let is_known = name == KNOWN && query[end - 3] == 1;
            let addresses = if is_known { turns.next().unwrap().as_slice() } else { &[] };
            let code = if name == KNOWN { 0 } else { 3 };
            let mut answer = query[..end].to_vec();
            // An answer, with recursion; its code; how many questions, answers and others it has.
            answer[2..12].copy_from_slice(&[
                0x81,
                0x80 | code,
                0,
                1,
                0,
                u8::try_from(addresses.len()).unwrap(),
                0,
                0,
                0,
                0,
            ]);
            for address in addresses {
                // The name in the question, an address, and for how long.
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, seconds, 0, 4]);
                answer.extend(address.octets());
            }
            socket.send_to(&answer, from).await.unwrap();
        }
    }

    /// The name that a query is about, and where the question ends.
    fn question(query: &[u8]) -> (String, usize) {
        let (mut name, mut at) = (String::new(), 12);
        while query[at] > 0 {
            let end = at + 1 + usize::from(query[at]);
            name += &std::str::from_utf8(&query[at + 1..end]).unwrap().to_lowercase();
            name.push('.');
            at = end;
        }
        (name, at + 5)
    }

    #[tokio::test]
    async fn a_name_with_a_dot_is_asked_for_as_it_is() {
        let server = Server::start().await;
        let found = server.names.lookup("a", "x2.example.net").await;
        assert_eq!(found, Some(vec![IpAddr::from([192, 0, 2, 7])]));
        assert_eq!(server.names.lookup("a", "x2.lan").await, None);
        assert_eq!(server.asked(), BTreeSet::from([KNOWN.to_owned(), "x2.lan.".to_owned()]));
        assert_eq!(server.names.lookup("a", "x2").await, None);
        let searched = ["x2.a.svc.cluster.local.", "x2.net.", "x2."].map(str::to_owned);
        assert_eq!(server.asked(), BTreeSet::from(searched));
    }

    #[tokio::test]
    async fn a_host_of_one_address_family_is_no_matter_for_name_servers() {
        let server = Server::start().await;
        for (host, address) in [("four.silent", "192.0.2.8"), ("Six.silent", "2001:db8::8")] {
            assert_eq!(server.names.lookup("a", host).await, Some(vec![address.parse().unwrap()]));
        }
        assert!(server.asked().is_empty());
    }

    #[tokio::test]
    async fn names_that_are_not_answered_for_hold_up_no_other_namespace() {
        let server = Server::start().await;
        let mut slow = JoinSet::new();
        for number in 0..200 {
            let names = Arc::clone(&server.names);
            slow.spawn(async move { names.lookup("b", &format!("x2-{number}.silent")).await });
        }
        while server.names.lookups.taken() < EACH {
            tokio::task::yield_now().await;
        }
        assert!(server.names.lookup("a", "x2.example.net").await.is_some());
        let asked = server.asked();
        assert!((2..=EACH + 1).contains(&asked.len()), "the others wait: {asked:?}");
        slow.shutdown().await;
        server.names.purge();
        assert_eq!(server.names.lookups.taken(), 0);
        // What all ask for at once is asked for once.
        let many = join_all((0..EACH).map(|_| server.names.lookup("a", "other.example.net"))).await;
        assert!(many.iter().all(Option::is_none));
        assert!(server.asked.lock().unwrap().len() <= 4, "A and AAAA");
    }
}
