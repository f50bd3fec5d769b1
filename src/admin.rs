//! `/metrics`, `/healthz` and `/readyz`. Any Pod of the cluster may reach them: what one client does costs the others nothing.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::clock;
use crate::leader::fence::Fence;
use crate::metrics::{Format, Metrics};
use crate::runtime::watch::View;

/// Longest wait for the head of a request.
const HEAD: Duration = Duration::from_secs(5);
/// Longest head of a request, in bytes.
const LONGEST_HEAD: usize = 16 * 1024;
/// Longest time that a connection lasts. Each serves one request.
const LONGEST: Duration = Duration::from_secs(30);
/// Connections at a time.
const CONNECTIONS: usize = 64;
/// The same, of one address.
const PER_ADDRESS: usize = 16;

/// What probes and scrapes are answered from.
#[derive(Clone, Debug)]
pub struct Health {
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What is watched, once it is.
    pub(crate) watches: Arc<OnceLock<Vec<View>>>,
    /// Whether work has started.
    pub(crate) started: Arc<AtomicBool>,
    /// Whether this replica may work.
    pub(crate) fence: Fence,
}

impl Health {
    /// Why this replica does not know what there is; none if it does. A standby is ready, too.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        match self.watches.get() {
            Some(watches) => watches.iter().find_map(View::not_ready),
            None => Some("nothing is watched yet".to_owned()),
        }
    }
}

/// Answers until the process ends.
pub(crate) async fn serve(listener: TcpListener, health: Health) -> Infallible {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(Admin { health, texts: Mutex::default() }));
    let mut connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let answering = tokio::spawn(answer(stream, router.clone()));
                connections.admit(peer.ip(), answering.abort_handle());
            }
            // There are no more file descriptors, or the client has gone.
            Err(error) => {
                tracing::debug!(%error, "a connection for /metrics, /healthz or /readyz was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Answers one request.
async fn answer(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LONGEST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A client that breaks off is its own business.
    let _ = tokio::time::timeout(LONGEST, connection).await;
}

/// The connections under way, the oldest first.
#[derive(Debug, Default)]
struct Connections(VecDeque<(IpAddr, AbortHandle)>);

impl Connections {
    /// Adds one. If there are too many, of its address or in all, the oldest of that address or of the one with most of them ends:
    /// a probe always gets its answer.
    fn admit(&mut self, address: IpAddr, connection: AbortHandle) {
        self.0.retain(|(_, connection)| !connection.is_finished());
        let count = |of: IpAddr| self.0.iter().filter(|(other, _)| *other == of).count();
        let crowded = if count(address) >= PER_ADDRESS {
            Some(address)
        } else if self.0.len() >= CONNECTIONS {
            // From the newest on, because the last of several that have as many counts.
            self.0.iter().rev().map(|(address, _)| *address).max_by_key(|address| count(*address))
        } else {
            None
        };
        let oldest = crowded.and_then(|crowded| self.0.iter().position(|(address, _)| *address == crowded));
        if let Some((_, oldest)) = oldest.and_then(|oldest| self.0.remove(oldest)) {
            oldest.abort();
        }
        self.0.push_back((address, connection));
    }
}

/// What requests are answered from.
#[derive(Debug)]
struct Admin {
    health: Health,
    /// The text of the metrics in each format, and until when it serves.
    texts: Mutex<BTreeMap<Format, (Bytes, Instant)>>,
}

impl Admin {
    /// The text of the metrics. It is written at most a tenth of the time, however often it is asked for.
    fn text(&self, format: Format) -> Bytes {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = clock::instant();
        if let Some((text, _)) = texts.get(&format).filter(|(_, until)| begun < *until) {
            return text.clone();
        }
        let Health { metrics, started, fence, .. } = &self.health;
        metrics.leads(started.load(Ordering::Acquire) && fence.is_open());
        let text = Bytes::from(metrics.text_in(format));
        texts.insert(format, (text.clone(), clock::instant() + 9 * begun.elapsed()));
        text
    }
}

async fn readyz(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    match admin.health.not_ready() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "Accept")], admin.text(format))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpSocket;
    use tokio::sync::watch;

    use super::*;
    use crate::leader::fence::Term;

    fn health() -> Health {
        let ((_, ending), (_, term)) = (watch::channel(false), watch::channel(Term::Endless));
        Health {
            metrics: Arc::new(Metrics::new(false)),
            watches: Arc::new(OnceLock::from(Vec::new())),
            started: Arc::default(),
            fence: Fence::new(ending, term),
        }
    }

    async fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, health()));
        address
    }

    /// A connection from an address of the loopback network.
    async fn connect(server: SocketAddr, from: [u8; 4]) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        socket.connect(server).await.unwrap()
    }

    async fn get(server: SocketAddr, path: &str) -> String {
        get_as(server, path, "*/*").await
    }

    async fn get_as(server: SocketAddr, path: &str, accept: &str) -> String {
        let mut stream = connect(server, [127, 0, 0, 1]).await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn requests_are_answered_one_per_connection() {
        let server = server().await;
        for (path, says) in [("/healthz", "ok"), ("/readyz", "ok"), ("/metrics", "tenure_build_info")] {
            let answer = get(server, path).await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(says), "{answer}");
            assert!(answer.contains("connection: close"), "{answer}");
        }
        assert!(get(server, "/secrets").await.starts_with("HTTP/1.1 404 "));
    }

    #[tokio::test]
    async fn half_sent_heads_keep_nobody_from_an_answer() {
        let server = server().await;
        let mut halves = Vec::new();
        for index in 0..600_u16 {
            let [high, low] = (index / 20).to_be_bytes();
            let mut stream = connect(server, [127, 7, high, low + 1]).await;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nX: aaaa").await.unwrap();
            halves.push(stream);
        }
        assert!(get(server, "/healthz").await.starts_with("HTTP/1.1 200 "));
        // The oldest were closed at once, the others are after a while.
        for mut stream in halves {
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_sent_head_is_waited_for_five_seconds() {
        let mut stream = connect(server().await, [127, 0, 0, 1]).await;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX: aaaa").await.unwrap();
        let begun = clock::instant();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        // Not only when the connection has lasted too long.
        assert!((HEAD..LONGEST).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_head_is_short() {
        let server = server().await;
        let mut stream = connect(server, [127, 0, 0, 1]).await;
        let _ = stream.write_all(format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(100_000)).as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_address_with_most_connections_makes_room() {
        let mut connections = Connections::default();
        let mut begun = |address: u8| {
            let task = tokio::spawn(std::future::pending::<()>());
            connections.admit(IpAddr::from([10, 0, 0, address]), task.abort_handle());
            task
        };
        let probe = begun(1);
        let mut of_one: Vec<_> = (0..=PER_ADDRESS).map(|_| begun(2)).collect();
        assert!(of_one.remove(0).await.unwrap_err().is_cancelled());
        tokio::task::yield_now().await;
        assert!(!probe.is_finished() && of_one.iter().all(|task| !task.is_finished()));
        // Forty addresses with many each displace one another.
        for n in 0..10 * CONNECTIONS {
            drop(begun(u8::try_from(n % 40).unwrap() + 100));
        }
        tokio::task::yield_now().await;
        assert!(!probe.is_finished());
        // Of as many addresses as there are places, the oldest makes room.
        let others: Vec<_> = (0..CONNECTIONS).map(|n| begun(u8::try_from(n).unwrap() + 150)).collect();
        assert!(probe.await.unwrap_err().is_cancelled());
        assert!(others.iter().all(|task| !task.is_finished()));
    }

    #[tokio::test]
    async fn the_text_is_not_written_anew_for_each_request() {
        let (text, until) = (Bytes::from("kept"), clock::instant() + Duration::from_secs(60));
        let kept = BTreeMap::from([(Format::OpenMetrics, (text.clone(), until))]);
        let admin = Admin { health: health(), texts: Mutex::new(kept) };
        assert_eq!(admin.text(Format::OpenMetrics), text);
        assert_ne!(admin.text(Format::Prometheus), text);
        admin.texts.lock().unwrap().insert(Format::OpenMetrics, (text.clone(), clock::instant()));
        assert_ne!(admin.text(Format::OpenMetrics), text);
    }

    #[tokio::test]
    async fn metrics_come_in_the_format_that_the_client_accepts() {
        let server = server().await;
        let plain = get(server, "/metrics").await;
        assert!(plain.contains("content-type: text/plain; version=0.0.4"), "{plain}");
        assert!(
            plain.contains("# TYPE tenure_panics_total counter\n") && !plain.contains("# EOF"),
            "{plain}"
        );
        let open = get_as(server, "/metrics", "application/openmetrics-text; version=1.0.0, */*;q=0.1").await;
        assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0"), "{open}");
        assert!(open.contains("# TYPE tenure_panics counter\n") && open.ends_with("# EOF\n"), "{open}");
    }
}
