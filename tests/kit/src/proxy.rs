//! A proxy that knows CONNECT.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What a proxy does with a request.
#[derive(Clone, Debug)]
pub enum Onward {
    /// It connects to where it is asked to.
    Asked,
    /// It connects to this host and port, whatever it is asked for.
    To(String),
    /// It answers with this status and reason.
    Refused(&'static str),
}

/// A proxy. Dropping it closes all connections through it.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    onward: Arc<Mutex<Onward>>,
    heads: Arc<Mutex<Vec<String>>>,
    // Aborted when dropped.
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy on a port of its own.
    ///
    /// # Errors
    /// When there is no port to listen on.
    pub async fn start(onward: Onward) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (port, heads) = (listener.local_addr()?.port(), Arc::default());
        let onward = Arc::new(Mutex::new(onward));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&onward), Arc::clone(&heads)));
        Ok(Self { port, onward, heads, _tasks: tasks })
    }

    /// Does this with the connections that are made from now on.
    pub fn set_onward(&self, onward: Onward) {
        *self.onward.lock().unwrap_or_else(PoisonError::into_inner) = onward;
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The heads of all requests so far.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(listener: TcpListener, onward: Arc<Mutex<Onward>>, heads: Arc<Mutex<Vec<String>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let onward = onward.lock().unwrap_or_else(PoisonError::into_inner).clone();
        connections.spawn(serve(stream, onward, Arc::clone(&heads)));
        while connections.try_join_next().is_some() {}
    }
}

/// Serves one connection until either side closes it.
async fn serve(stream: TcpStream, onward: Onward, heads: Arc<Mutex<Vec<String>>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let asked = head.split(' ').nth(1).unwrap_or_default().to_owned();
    heads.lock().unwrap_or_else(PoisonError::into_inner).push(head);
    let target = match onward {
        Onward::Asked => asked,
        Onward::To(target) => target,
        Onward::Refused(answer) => {
            return stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await;
        }
    };
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    let mut target = TcpStream::connect(target).await?;
    copy_bidirectional(&mut stream, &mut target).await.map(drop)
}
