//! The plumbing the simulated servers share: a listener on loopback, TLS, HTTP/1.1, and the faults in between.

mod exchange;
mod socket;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

pub(crate) use self::exchange::{Call, Reply};
use self::socket::Socket;
use crate::{
    faults::Drawn,
    pki::{Certificate, Pki, Shown, Subject},
    requests::{Kind, RequestLog, Tally},
};

/// What a listener gives the requests to.
pub(crate) trait Site: Send + Sync + 'static {
    /// What the listener needs to know of the site as a whole.
    fn premises(&self) -> &Premises;

    /// Who stands at a local address.
    fn door(&self, address: Ipv4Addr) -> Option<&Door>;

    /// What a request is about.
    fn topic(&self, address: Ipv4Addr, call: &Call) -> Topic;

    /// Carries a request out.
    fn answer(&self, address: Ipv4Addr, call: &Call) -> Reply;
}

/// What a request is about, and what shall happen to it.
pub(crate) struct Topic {
    pub(crate) kind: Kind,
    pub(crate) object: Option<Arc<str>>,
    pub(crate) tally: Option<Arc<Tally>>,
    pub(crate) drawn: Drawn,
    /// How long every such request takes.
    pub(crate) latency: Duration,
}

impl Topic {
    /// A request about nothing in particular, to which nothing happens.
    pub(crate) fn other() -> Self {
        Self {
            kind: Kind::Other,
            object: None,
            tally: None,
            drawn: Drawn::default(),
            latency: Duration::ZERO,
        }
    }
}

/// What all addresses of a site share.
pub(crate) struct Premises {
    pub(crate) log: Arc<RequestLog>,
    /// Absent: plain HTTP.
    pub(crate) pki: Option<Pki>,
    hang_ups: watch::Sender<()>,
    closed: AtomicBool,
}

impl Premises {
    pub(crate) fn new(pki: Option<Pki>) -> Self {
        Self { log: RequestLog::new(), pki, hang_ups: watch::Sender::new(()), closed: AtomicBool::new(false) }
    }

    pub(crate) fn url(&self, address: Ipv4Addr, port: u16) -> String {
        let scheme = if self.pki.is_some() { "https" } else { "http" };
        format!("{scheme}://{address}:{port}")
    }

    /// Cuts every connection made through this door, as a restart of the appliance would.
    pub(crate) fn hang_up(&self, door: &Door) {
        door.epoch.fetch_add(1, AcqRel);
        self.hang_ups.send_replace(());
    }

    fn set_closed(&self, closed: bool) {
        self.closed.store(closed, Release);
        self.hang_ups.send_replace(());
    }
}

/// How a server receives connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reception {
    /// As it should.
    #[default]
    Open,
    /// Connections are reset at once.
    Reset,
    /// Connections are accepted, and nothing is ever said on them.
    Silent,
}

/// One address of a site.
pub(crate) struct Door {
    subject: Subject,
    pub(crate) tally: Arc<Tally>,
    reception: Mutex<Reception>,
    identity: Mutex<Identity>,
    epoch: AtomicU64,
}

#[derive(Default)]
struct Identity {
    certificate: Certificate,
    /// Made when it is first needed.
    shown: Option<Shown>,
}

impl Door {
    pub(crate) fn new(address: Ipv4Addr, dns_name: String) -> Self {
        Self {
            subject: Subject { address, dns_name },
            tally: Arc::default(),
            reception: Mutex::default(),
            identity: Mutex::default(),
            epoch: AtomicU64::new(0),
        }
    }

    pub(crate) const fn address(&self) -> Ipv4Addr {
        self.subject.address
    }

    pub(crate) fn dns_name(&self) -> &str {
        &self.subject.dns_name
    }

    /// The DNS name without its domain.
    fn name(&self) -> &str {
        self.dns_name().split('.').next().unwrap_or_default()
    }

    /// Takes effect for new connections.
    pub(crate) fn set_certificate(&self, certificate: Certificate) {
        *self.identity.lock() = Identity { certificate, shown: None };
    }

    pub(crate) fn set_reception(&self, reception: Reception) {
        *self.reception.lock() = reception;
    }

    /// What it shows in the handshake.
    pub(crate) fn shown(&self, pki: &Pki) -> Shown {
        let mut identity = self.identity.lock();
        let certificate = identity.certificate;
        identity.shown.get_or_insert_with(|| pki.identity(certificate, &self.subject)).clone()
    }
}

/// Accepts connections for a site until it is stopped or dropped.
pub(crate) struct Listener<S: Site> {
    address: SocketAddr,
    site: Arc<S>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl<S: Site> Listener<S> {
    /// A listener on a free port. With the unspecified address it serves the whole of 127.0.0.0/8; what comes in
    /// from elsewhere is dropped unread.
    pub(crate) fn start(address: Ipv4Addr, site: Arc<S>) -> io::Result<Self> {
        let listener = bind(SocketAddrV4::new(address, 0).into())?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(Arc::clone(&site), listener));
        Ok(Self { address, site, accepting: Mutex::new(Some(accepting)) })
    }

    pub(crate) const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Closes the port and every connection: from then on connecting is refused.
    pub(crate) async fn stop(&self) {
        self.site.premises().set_closed(true);
        let accepting = self.accepting.lock().take();
        if let Some(accepting) = accepting {
            accepting.abort();
            // Cancelled is what it should be; only the end counts, as the port is free then.
            let _cancelled = accepting.await;
        }
    }

    /// Opens the same port again after [`stop`](Self::stop).
    pub(crate) fn resume(&self) -> io::Result<()> {
        let mut accepting = self.accepting.lock();
        if accepting.is_none() {
            let listener = bind(self.address)?;
            self.site.premises().set_closed(false);
            *accepting = Some(tokio::spawn(accept(Arc::clone(&self.site), listener)));
        }
        Ok(())
    }
}

impl<S: Site> Drop for Listener<S> {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.get_mut().take() {
            accepting.abort();
        }
        self.site.premises().set_closed(true);
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    // Ten thousand appliances may be called at once.
    socket.listen(8192)
}

async fn accept<S: Site>(site: Arc<S>, listener: TcpListener) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(receive(Arc::clone(&site), stream));
        } else {
            // Out of descriptors, most likely: trying again at once would only spin.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The local address, if both ends are on loopback.
fn loopback(stream: &TcpStream) -> Option<Ipv4Addr> {
    let (local, peer) = (stream.local_addr().ok()?.ip(), stream.peer_addr().ok()?.ip());
    match local {
        IpAddr::V4(local) if local.is_loopback() && peer.is_loopback() => Some(local),
        _ => None,
    }
}

async fn receive<S: Site>(site: Arc<S>, stream: TcpStream) {
    let Some(address) = loopback(&stream) else { return };
    let Some(door) = site.door(address) else { return };
    let premises = site.premises();
    let _open = premises.log.connected(&door.tally);
    let mut hang_ups = premises.hang_ups.subscribe();
    let line = Line { site: site.as_ref(), door, address, epoch: door.epoch.load(Acquire) };
    let hung_up = async {
        // Fails only once the premises are gone, which this task keeps.
        let _ = hang_ups.wait_for(|()| line.is_cut()).await;
    };
    tokio::select! {
        () = hung_up => {}
        () = converse(line, stream) => {}
    }
}

/// One connection.
struct Line<'a, S> {
    site: &'a S,
    door: &'a Door,
    address: Ipv4Addr,
    /// The door's when the connection was made.
    epoch: u64,
}

impl<S> Clone for Line<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Line<'_, S> {}

impl<S: Site> Line<'_, S> {
    /// Whether the connection was cut since it was made. Asked before every answer too, since the task that cuts it
    /// may run later than the one that answers.
    fn is_cut(&self) -> bool {
        let closed = self.site.premises().closed.load(Acquire);
        closed || self.door.epoch.load(Acquire) != self.epoch
    }
}

async fn converse<S: Site>(line: Line<'_, S>, stream: TcpStream) {
    let Line { site, door, .. } = line;
    let socket = Socket::new(stream);
    let reception = *door.reception.lock();
    match reception {
        Reception::Open => {}
        Reception::Reset => return socket.reset_on_drop(),
        Reception::Silent => return std::future::pending().await,
    }
    let reset = socket.reset_switch();
    let Some(pki) = &site.premises().pki else {
        return exchange::serve(line, None, reset, socket).await;
    };
    let acceptor = TlsAcceptor::from(door.shown(pki).config);
    // A client that does not like the certificate goes away here.
    let Ok(stream) = acceptor.accept(socket).await else { return };
    let server_name = stream.get_ref().1.server_name().map(Arc::from);
    exchange::serve(line, server_name, reset, stream).await;
}
