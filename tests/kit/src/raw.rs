//! A server that lets everyone in and then sends whatever it was given, whether that is HTTP or not.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A token of a day, which nobody has to verify: {"iat":1,"nbf":1,"exp":86401}.
pub const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJpYXQiOjEsIm5iZiI6MSwiZXhwIjo4NjQwMX0.c2ln";

/// A server without TLS, on a port of 127.0.0.1. Dropping it closes its connections.
#[derive(Debug)]
pub struct RawServer {
    port: u16,
    asked: watch::Receiver<u64>,
    // Aborted when dropped.
    _tasks: JoinSet<()>,
}

impl RawServer {
    /// Starts a server that answers logins of both vendors, at any path, with this token, each other request with these bytes,
    /// and leaves the connection open.
    ///
    /// # Errors
    /// When there is no port to listen on.
    pub async fn start(token: &str, answer: Vec<u8>) -> io::Result<Self> {
        Self::dripping(Some(token), answer, Duration::ZERO).await
    }

    /// The same with a pause after each byte, except of the answers to logins. Without a token, logins are requests like others.
    ///
    /// # Errors
    /// When there is no port to listen on.
    pub async fn dripping(token: Option<&str>, answer: Vec<u8>, pause: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let login =
            |token| whole(&format!(r#"{{"token":"{token}","refreshToken":"{token}","role":"admin"}}"#));
        let (count, asked) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let answers = Answers { login: token.map(login), other: answer, pause, count };
        tasks.spawn(accept(listener, Arc::new(answers)));
        Ok(Self { port, asked, _tasks: tasks })
    }

    /// The URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How many requests that are no logins it has had.
    #[must_use]
    pub fn asked(&self) -> u64 {
        *self.asked.borrow()
    }

    /// Waits until it has had this many requests that are no logins.
    ///
    /// # Panics
    /// Never: it does not end before it is dropped.
    pub async fn wait_asked(&self, times: u64) {
        self.asked.clone().wait_for(|asked| *asked >= times).await.expect("it is not dropped");
    }
}

/// What it sends, and how many requests that are no logins it has had.
struct Answers {
    login: Option<Vec<u8>>,
    other: Vec<u8>,
    /// After each byte of the others.
    pause: Duration,
    count: watch::Sender<u64>,
}

impl Answers {
    async fn send_other(&self, stream: &mut BufReader<TcpStream>) -> io::Result<()> {
        self.count.send_modify(|count| *count += 1);
        if self.pause.is_zero() {
            return stream.write_all(&self.other).await;
        }
        for byte in self.other.chunks(1) {
            stream.write_all(byte).await?;
            tokio::time::sleep(self.pause).await;
        }
        Ok(())
    }
}

/// A token that is valid for 136 years, with this many bytes beside what it needs.
#[must_use]
pub fn long_token(padding: usize) -> String {
    let claims = format!(r#"{{"iat":1,"nbf":1,"exp":{},"x":"{}"}}"#, u32::MAX, "x".repeat(padding * 3 / 4));
    format!("eyJhbGciOiJIUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

/// A whole answer with status 200.
#[must_use]
pub fn whole(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The head of an answer without its end, of this many bytes and a few.
#[must_use]
pub fn half_head(length: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(length)).into_bytes()
}

/// A body of this many bytes in one chunk, without the last.
#[must_use]
pub fn half_body(length: usize) -> Vec<u8> {
    let body = "x".repeat(length);
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}").into_bytes()
}

/// A customer of Kona with this many fields beside those that it needs.
#[must_use]
pub fn customer(id: &str, fields: usize) -> String {
    let fields: Vec<String> = (0..fields).map(|field| format!(r#""{field:x}":1"#)).collect();
    format!(r#"{{"id":{{"id":"{id}"}},"additionalInfo":null,{}}}"#, fields.join(","))
}

async fn accept(listener: TcpListener, answers: Arc<Answers>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&answers)));
        while connections.try_join_next().is_some() {}
    }
}

/// Serves one connection until the client closes it.
async fn serve(stream: TcpStream, answers: Arc<Answers>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.and_then(|length| length.parse().ok()).unwrap_or_default();
        stream.read_exact(&mut vec![0; length]).await?;
        let line = head.lines().next().unwrap_or_default();
        let is_login = line.starts_with("POST ")
            && (line.contains("/api/auth/login ") || line.contains("/api2/tokens "));
        match answers.login.as_ref().filter(|_| is_login) {
            Some(login) => stream.write_all(login).await?,
            None => answers.send_other(&mut stream).await?,
        }
    }
}
