//! Proxies: used where one is configured, and checked like any other address.

use std::sync::{Arc, Mutex};

use tenure::engine::remote::{Fault as Seen, Tls};
use tenure::engine::url::BaseUrl;
use tenure::engine::verdict::Reason;
use tenure::vendor::address::DialPolicy;
use tenure_kit::pki::Certificate;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::world::*;

/// A proxy that knows CONNECT, and keeps the heads of all requests.
struct Proxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, heads) = (listener.local_addr().unwrap().port(), Arc::default());
        let kept = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer, Arc::clone(&kept)));
            }
        });
        Self { port, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, answer: &'static str, heads: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let target = head.split(' ').nth(1).unwrap().to_owned();
    heads.lock().unwrap().push(head);
    stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await.unwrap();
    if answer.starts_with("200") {
        let mut onward = TcpStream::connect(target).await.unwrap();
        let _ = copy_bidirectional(&mut stream, &mut onward).await;
    }
}

fn through(world: &mut World, proxy: &str) {
    world.endpoint.transport.proxy = Some(BaseUrl::parse(proxy).unwrap());
}

#[tokio::test]
async fn a_name_is_verified_also_through_a_proxy() {
    let proxy = Proxy::start("200 OK").await;
    let (fleet, mut world) = secured();
    let appliance = fleet.appliance(0);
    through(&mut world, &format!("http://127.0.0.1:{}", proxy.port));
    // Its certificate is for the address as well as for this name, and for no other.
    for (name, verified) in [(appliance.dns_name(), true), ("other.example.net", false)] {
        world.endpoint.transport.server_name = Some(name.to_owned());
        assert_eq!(world.x2().read_timeout().await.is_ok(), verified, "{name}");
    }
    appliance.set_certificate(Certificate::WrongName);
    assert_eq!(world.x2().read_timeout().await, Ok(86_400), "a certificate for this name alone");
    let logins = fleet.counts().total();
    for certificate in [Certificate::UnknownCa, Certificate::Expired] {
        appliance.set_certificate(certificate);
        world.endpoint.transport.server_name = Some(appliance.dns_name().to_owned());
        let error = world.failure().await;
        assert_eq!(error.reason(), Reason::TlsFailed, "{certificate:?}: {error}");
    }
    for name in ["127.0.0.1", "[::1]", ""] {
        world.endpoint.transport.server_name = Some(name.to_owned());
        let error = world.failure().await;
        assert_eq!(error.fault, Seen::Tls(Tls::NotAName), "{name}");
    }
    assert_eq!(fleet.counts().total(), logins, "nothing was sent");
    let asked = format!("CONNECT {}:{} HTTP/1.1\r\n", appliance.address(), appliance.port());
    for head in proxy.heads() {
        assert!(head.starts_with(&asked), "the proxy is asked for the URL's host: {head}");
    }
}

#[tokio::test]
async fn a_proxy_is_used_where_one_is_configured() {
    let proxy = Proxy::start("200 OK").await;
    for host in ["127.0.0.1", "localhost"] {
        let (fleet, mut world) = secured();
        through(&mut world, &format!("http://{host}:{}", proxy.port));
        assert_eq!(world.x2().read_timeout().await, Ok(86_400));
        let appliance = fleet.appliance(0);
        let head = proxy.heads().pop().unwrap();
        assert!(
            head.starts_with(&format!("CONNECT {}:{} HTTP/1.1\r\n", appliance.address(), appliance.port())),
            "{head}"
        );
        assert!(!head.to_lowercase().contains("authorization"), "the token is for the appliance: {head}");
    }
    let before = proxy.heads().len();
    let (_fleet, world) = secured();
    assert_eq!(world.x2().read_timeout().await, Ok(86_400));
    assert_eq!(proxy.heads().len(), before, "and nowhere else");
}

#[tokio::test]
async fn a_proxys_address_is_checked_and_so_is_an_address_in_the_url() {
    let proxy = Proxy::start("200 OK").await;
    for host in ["127.0.0.1", "localhost"] {
        let (_fleet, mut world) = secured();
        world.endpoint.base = BaseUrl::parse("https://192.0.2.1").unwrap();
        (world.remotes, world.ending) = remotes(DialPolicy::default(), 64);
        through(&mut world, &format!("http://{host}:{}", proxy.port));
        let (code, reason, text) = judged(&world.failure().await);
        assert_eq!((code.as_str(), reason), ("connect", Reason::AddressRefused), "{host}: {text}");
    }
    let (_fleet, mut world) = secured();
    world.endpoint.base = BaseUrl::parse("https://169.254.169.254").unwrap();
    through(&mut world, &format!("http://127.0.0.1:{}", proxy.port));
    let error = world.failure().await;
    assert_eq!(error.reason(), Reason::AddressRefused);
    assert!(error.to_string().contains("169.254.169.254"), "{error}");
    assert_eq!(proxy.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn a_proxy_that_refuses_is_unreachability() {
    for answer in ["407 Proxy Authentication Required", "403 Forbidden", "502 Bad Gateway"] {
        let proxy = Proxy::start(answer).await;
        let (fleet, mut world) = secured();
        through(&mut world, &format!("http://127.0.0.1:{}", proxy.port));
        let (code, reason, text) = judged(&world.failure().await);
        assert_eq!((code.as_str(), reason), ("connect", Reason::Unreachable), "{answer}: {text}");
        assert!(text.contains("check the URL, the proxy and the network"), "{answer}: {text}");
        assert_eq!(fleet.requests().connections(), 0);
        assert_eq!(proxy.heads().len(), 1, "tried once");
    }
}
