//! Requests to one system: a connection is made first, then it is asked whether the request is still to be sent to that peer,
//! and what is left open serves the next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;

use super::diagnosis::diagnose;
use super::dial::{Connection, Connector};
use crate::engine::remote::{Broken, Fault};
use crate::engine::system::KeyId;

/// Longest head of an answer, in bytes.
const LONGEST_HEAD: usize = 32 * 1024;
/// How long a connection may take to end the exchange before, once its answer was read.
const SETTLING: Duration = Duration::from_millis(100);

/// Makes exchanges with one system, and keeps a connection for the next one. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    connector: Connector,
    kept: Arc<Mutex<Option<Line>>>,
}

/// A connection, for one exchange at a time.
pub(super) struct Line {
    sender: SendRequest<Full<Bytes>>,
    /// The key that the peer has proven to have, if it has.
    pub(super) met: Option<KeyId>,
    /// Whether a proxy reads the requests.
    is_proxy: bool,
    /// Whether it was kept from an exchange before.
    was_kept: bool,
}

impl Client {
    /// Makes connections with this.
    pub(super) fn new(connector: Connector) -> Self {
        Self { connector, kept: Arc::default() }
    }

    /// Sends a request if `may_send` permits that once there is a connection, to a peer that has proven to have this key. None
    /// or a fault if it does not: then no byte has left.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        may_send: impl Fn(Option<KeyId>) -> Result<bool, Fault>,
    ) -> Result<Option<(Response<Incoming>, Line)>, Fault> {
        let target = request.uri().clone();
        loop {
            let mut line = self.line(&target).await?;
            *request.uri_mut() = line.form(&target);
            // From here to the first byte nothing is awaited.
            let permitted = may_send(line.met);
            if permitted != Ok(true) {
                self.keep(line);
                return permitted.map(|_| None);
            }
            match line.sender.try_send_request(request).await {
                Ok(answer) => return Ok(Some((answer, line))),
                // The peer has closed it meanwhile: the request was not begun.
                Err(mut error) => match error.take_message().filter(|_| line.was_kept) {
                    Some(unsent) => request = unsent,
                    None => return Err(diagnose(&error.into_error(), Broken::Lost)),
                },
            }
        }
    }

    /// Keeps a connection whose answer was read, for the next exchange.
    pub(super) fn keep(&self, line: Line) {
        *self.kept() = Some(Line { was_kept: true, ..line });
    }

    fn kept(&self) -> MutexGuard<'_, Option<Line>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was kept, if it is still open, or a new one.
    async fn line(&self, target: &Uri) -> Result<Line, Fault> {
        let kept = self.kept().take();
        if let Some(mut line) = kept
            && matches!(tokio::time::timeout(SETTLING, line.sender.ready()).await, Ok(Ok(())))
        {
            return Ok(line);
        }
        let connection = self.connector.connect(target).await;
        let Connection { stream, met, is_proxy } =
            connection.map_err(|error| diagnose(&*error, Broken::NotMade))?;
        let handshake = Builder::new().max_buf_size(LONGEST_HEAD).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| diagnose(&error, Broken::NotMade))?;
        // It ends with the sender. Its error is that of the request.
        tokio::spawn(connection);
        Ok(Line { sender, met, is_proxy, was_kept: false })
    }
}

impl Line {
    /// How the request line names what is asked for: a proxy has to know the host.
    fn form(&self, target: &Uri) -> Uri {
        let path = target.path_and_query().filter(|_| !self.is_proxy);
        path.map_or_else(|| target.clone(), |path| path.clone().into())
    }
}
