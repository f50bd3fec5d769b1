//! What a hostile server can make the operator keep: a raw TCP server sends whatever it likes, and then nothing more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tenure::engine::access::AccessError;
use tenure::engine::remote::Fault;
use tenure::vendor::credentials::Credentials;
use tenure::vendor::http::Purpose;
use tenure::vendor::kona::Kona;
use tenure::vendor::remotes::Remotes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::world::*;

const CUSTOMER: &str = "1d2b7a10-0000-4000-8000-000000000001";
/// For answers that never end.
const SOON: Duration = Duration::from_secs(5);
/// For others, however busy the machine is.
const LATE: Duration = Duration::from_mins(2);
/// {"iat":1,"nbf":1,"exp":86401}
const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJpYXQiOjEsIm5iZiI6MSwiZXhwIjo4NjQwMX0.c2ln";

/// Resident memory of this process, in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A Kona server that lets everyone in, answers each other request with these bytes, and then leaves the connection open.
struct Server {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<AtomicUsize> = Arc::default();
        let (count, answer) = (Arc::clone(&asked), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answer), Arc::clone(&count)));
            }
        });
        Self { url, asked }
    }

    async fn read_customer(
        &self,
        remotes: &Remotes,
        (namespace, object): (&str, usize),
        timeout: Duration,
    ) -> Result<(), AccessError> {
        let mut endpoint = endpoint(&self.url, None);
        namespace.clone_into(&mut endpoint.namespace);
        endpoint.timeout = timeout;
        let login = login(namespace, object);
        let kona = Kona::new(remotes, &endpoint, &login, None);
        kona.read_customer(CUSTOMER, Purpose::Ask).await.map(drop)
    }
}

/// Each object has a Secret of its own, so that no login waits for another.
fn login(namespace: &str, object: usize) -> Credentials {
    let mut login = credentials("tenant@example.net", "kona-admin-password", "1");
    let account = &mut login.identity.account;
    (account.namespace, account.secret) = (namespace.to_owned(), format!("login-{object}"));
    login
}

async fn serve(mut stream: TcpStream, answer: Arc<Vec<u8>>, asked: Arc<AtomicUsize>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        if !head.starts_with("POST /api/auth/login ") {
            asked.fetch_add(1, Ordering::Relaxed);
            let _ = stream.write_all(&answer).await;
            continue;
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        stream.read_exact(&mut vec![0; length.parse().unwrap()]).await.unwrap();
        let tokens = format!(r#"{{"token":"{TOKEN}","refreshToken":"{TOKEN}"}}"#);
        stream.write_all(whole(&tokens).as_bytes()).await.unwrap();
    }
}

fn whole(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Content in one chunk, without the end.
fn half(length: usize) -> Vec<u8> {
    let body = "x".repeat(length);
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}").into_bytes()
}

fn customer(keys: usize) -> String {
    let keys: Vec<String> = (0..keys).map(|key| format!(r#""{key:x}":1"#)).collect();
    format!(r#"{{"id":{{"id":"{CUSTOMER}"}},"additionalInfo":null,{}}}"#, keys.join(","))
}

/// What comes of so many objects of a namespace that are read at once, and by how much memory grows meanwhile, in KiB.
async fn read(
    server: &Arc<Server>,
    remotes: &Arc<Remotes>,
    objects: usize,
    timeout: Duration,
) -> (Vec<Fault>, usize) {
    let before = resident();
    let mut reads = JoinSet::new();
    for object in 0..objects {
        let (server, remotes) = (Arc::clone(server), Arc::clone(remotes));
        reads.spawn(async move { server.read_customer(&remotes, ("hostile", object), timeout).await });
    }
    let mut most = before;
    let mut faults = Vec::new();
    while let Some(read) = reads.join_next().await {
        most = most.max(resident());
        faults.push(remote(read.unwrap().unwrap_err()).fault);
    }
    (faults, most - before)
}

async fn hostile(answer: Vec<u8>, objects: usize, timeout: Duration) -> (Vec<Fault>, usize) {
    let server = Arc::new(Server::start(answer).await);
    // They are kept: so is what they have under way.
    let (remotes, _ending) = remotes(loopback(), objects);
    let read = read(&server, &Arc::new(remotes), objects, timeout).await;
    assert_eq!(server.asked.load(Ordering::Relaxed), objects);
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_of_an_answer_is_bounded() {
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(length)).into_bytes();
    let (faults, grown) = hostile(head(400_000), 200, LATE).await;
    println!("200 heads of 400 kB: {grown} KiB");
    for fault in faults {
        assert_eq!(fault, Fault::Malformed("its head is too long"));
    }
    let (faults, grown) = hostile(head(30_000), 200, SOON).await;
    println!("200 heads of 30 kB without an end: {grown} KiB");
    assert!(faults.iter().all(|fault| *fault == Fault::TimedOut), "{faults:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_answers_that_never_end_take_no_more_room_than_a_namespace_has() {
    let server = Arc::new(Server::start(half(1024 * 1024 - 1)).await);
    let (remotes, _ending) = remotes(loopback(), 200);
    let remotes = Arc::new(remotes);
    let hostile = {
        let (server, remotes) = (Arc::clone(&server), Arc::clone(&remotes));
        tokio::spawn(async move { read(&server, &remotes, 100, SOON).await })
    };
    while server.asked.load(Ordering::Relaxed) < 100 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Meanwhile another namespace has all the room that it needs.
    let good = Server::start(whole(&customer(4_000)).into_bytes()).await;
    for object in 0..10 {
        good.read_customer(&remotes, ("honest", object), LATE).await.unwrap();
    }
    let (faults, grown) = hostile.await.unwrap();
    println!("100 answers of 1 MiB without an end: {grown} KiB");
    assert!(faults.iter().all(|fault| *fault == Fault::TimedOut), "{faults:?}");
}

#[tokio::test]
async fn a_customer_with_too_many_keys_is_not_read() {
    let (faults, grown) = hostile(whole(&customer(100_000)).into_bytes(), 20, LATE).await;
    println!("20 customers of 100,000 keys: {grown} KiB");
    for fault in faults {
        assert_eq!(fault, Fault::Malformed("it has more than 4096 keys"));
    }
}
