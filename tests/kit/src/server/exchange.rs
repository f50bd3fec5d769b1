//! One request and its answer, with whatever is ordered to go wrong.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Line, Site, socket::ResetSwitch};
use crate::{
    faults::{Delay, Drawn, Outcome},
    requests::{Arrival, Kind},
};

/// A request, read to its end.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether `Content-Type` names this media type, parameters aside.
    pub(crate) fn is_of_type(&self, media_type: &str) -> bool {
        let essence = self.header("content-type").and_then(|value| value.split(';').next());
        essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(media_type))
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(status: u16, body: impl Into<Bytes>) -> Self {
        let content_type = Some("application/json");
        Self { status, content_type, headers: Vec::new(), body: body.into() }
    }

    pub(crate) const fn empty(status: u16) -> Self {
        Self { status, content_type: None, headers: Vec::new(), body: Bytes::new() }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// The connection ends here.
#[derive(Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("cut on purpose")
    }
}

impl std::error::Error for Cut {}

type Payload = UnsyncBoxBody<Bytes, Cut>;

/// Serves one connection to its end.
pub(super) async fn serve<S: Site>(
    line: Line<'_, S>,
    server_name: Option<Arc<str>>,
    reset: ResetSwitch,
    stream: impl AsyncRead + AsyncWrite + Unpin,
) {
    let service = service_fn(|request| {
        let (server_name, reset) = (server_name.clone(), reset.clone());
        async move {
            let reply = handle(line, server_name, request).await;
            if reply.is_err() {
                reset.pull();
            }
            reply
        }
    });
    // An error is a client that went away or a connection cut on purpose.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn handle<S: Site>(
    line: Line<'_, S>,
    server_name: Option<Arc<str>>,
    request: Request<Incoming>,
) -> Result<Response<Payload>, Cut> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    if line.is_cut() {
        return Err(Cut);
    }
    let (site, address) = (line.site, line.address);
    let first_line = format!("{} {}", head.method, head.uri);
    let path = head.uri.path().to_owned();
    let call = Call { method: head.method, path, headers: head.headers, body };
    let topic = site.topic(address, &call);
    let written = (topic.kind == Kind::Write).then(|| String::from_utf8_lossy(&call.body).into_owned());
    let host = call.header(HOST.as_str()).map(str::to_owned);
    let ticket = site.premises().log.arrive(Arrival {
        kind: topic.kind,
        object: topic.object,
        tally: topic.tally,
        line: first_line,
        host,
        server_name,
        written,
    });
    if !topic.latency.is_zero() {
        tokio::time::sleep(topic.latency).await;
    }
    let Drawn { before, instead, after, then } = topic.drawn;
    pass(&before).await;
    let (reply, outcome) = match instead {
        Some(Outcome::Answer(reply)) => (reply, None),
        Some(Outcome::Reset) => {
            ticket.served(None);
            return Err(Cut);
        }
        _ => {
            let reply = site.answer(address, &call);
            ticket.took_effect();
            (reply, then)
        }
    };
    pass(&after).await;
    let response = finish(reply, outcome);
    let status = response.as_ref().ok().map(|response| response.status().as_u16());
    if let Some(status) = status {
        tracing::info!("{}: {} {}: {status}", line.door.name(), call.method, call.path);
    }
    ticket.served(status);
    response
}

async fn pass(delays: &[Delay]) {
    for delay in delays {
        delay.pass().await;
    }
}

/// The answer as it goes out.
fn finish(mut reply: Reply, outcome: Option<Outcome>) -> Result<Response<Payload>, Cut> {
    let mut length = None;
    let body = match outcome {
        None => whole(reply.body.clone()),
        Some(Outcome::Answer(other)) => {
            reply = other;
            whole(reply.body.clone())
        }
        Some(Outcome::Reset) => return Err(Cut),
        Some(Outcome::Body(body, content_type)) => {
            reply.content_type = Some(content_type);
            whole(body)
        }
        Some(Outcome::Truncate) => {
            length = Some(reply.body.len().max(2));
            broken_off(&reply.body)
        }
        Some(Outcome::Oversize { bytes, chunked: false }) => whole(padded(&reply.body, bytes)),
        Some(Outcome::Oversize { bytes, chunked: true }) => in_chunks(padded(&reply.body, bytes)),
        Some(Outcome::Drip(interval)) => {
            length = Some(reply.body.len());
            dripping(reply.body.clone(), interval)
        }
    };
    Ok(response(&reply, length, body))
}

fn response(reply: &Reply, length: Option<usize>, body: Payload) -> Response<Payload> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(reply.status).expect("a status between 100 and 999");
    let headers = response.headers_mut();
    if let Some(content_type) = reply.content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    for (name, value) in &reply.headers {
        headers.append(*name, HeaderValue::from_str(value).expect("a header value without line breaks"));
    }
    response
}

fn whole(body: Bytes) -> Payload {
    Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// The first half, a moment for it to reach the wire, and the end of the connection.
fn broken_off(body: &Bytes) -> Payload {
    let half = body.slice(..body.len() / 2);
    let end = stream::once(async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Err(Cut)
    });
    let chunks = stream::iter([Ok(Frame::data(half))]).chain(end);
    StreamBody::new(chunks).boxed_unsync()
}

fn padded(body: &Bytes, length: usize) -> Bytes {
    let mut padded = BytesMut::with_capacity(length.max(body.len()));
    padded.extend_from_slice(body);
    padded.resize(length.max(body.len()), b' ');
    padded.freeze()
}

fn in_chunks(body: Bytes) -> Payload {
    let chunks = stream::unfold(body, |mut rest| async move {
        let next = rest.split_to(rest.len().min(16 * 1024));
        (!next.is_empty()).then_some((Ok(Frame::data(next)), rest))
    });
    StreamBody::new(chunks).boxed_unsync()
}

fn dripping(body: Bytes, interval: Duration) -> Payload {
    let bytes = stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(interval).await;
        let next = rest.split_to(1);
        Some((Ok(Frame::data(next)), rest))
    });
    StreamBody::new(bytes).boxed_unsync()
}
