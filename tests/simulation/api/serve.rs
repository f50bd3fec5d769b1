//! From an HTTP request to an answer, by way of what the harness decides.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request as HttpRequest, Response, header, request::Parts};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tower::BoxError;

use super::Api;
use super::faults::{Course, RequestInfo, Verdict};
use super::patch::PatchKind;
use super::refusal::Refusal;
use super::resource::{Query, Target, Verb};
use super::store::{Form, Origin, Stored};
use super::watch::WatchStream;
use super::write::Deleted;

/// A request that can be applied.
#[derive(Debug)]
pub struct Request {
    origin: Origin,
    query: Query,
    form: Form,
    content_type: Option<String>,
    body: Bytes,
}

/// What a request is answered with.
pub enum Answer {
    Object(u16, Bytes),
    Watch(WatchStream),
}

/// Serves a client's request.
pub async fn answer(
    api: Api,
    client: Arc<str>,
    request: HttpRequest<kube::client::Body>,
) -> Result<Response<Body>, BoxError> {
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await?;
    let mut request = match Request::read(&api, Arc::clone(&client), &parts, body) {
        Ok(request) => request,
        Err(refusal) => return Ok(refused(&refusal)),
    };
    let Verdict { before, after, course } = request.verdict(&api);
    if let Course::CutOff = course {
        pass(before).await;
        return Err("the connection was refused".into());
    }
    if let Course::Refuse(refusal) = course {
        pass(before + after).await;
        return Ok(refused(&refusal));
    }
    if let Course::Deny(refusal) = &course {
        request.origin.denial = Some(refusal.clone());
    }
    let underway = Underway::new(api.clone(), request, before);
    pass(before).await;
    let answer = underway.apply();
    if let Course::Silence = course {
        return std::future::pending().await;
    }
    pass(after).await;
    if !api.is_listening(&client) {
        return std::future::pending().await;
    }
    if let Course::LoseAnswer = course {
        return Err("the connection was closed before the answer".into());
    }
    Ok(match answer {
        Ok(Answer::Object(code, body)) => response(code).body(Body::from(body))?,
        Ok(Answer::Watch(stream)) => response(200).body(Body::from_stream(stream))?,
        Err(refusal) => refused(&refusal),
    })
}

async fn pass(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

fn response(code: u16) -> axum::http::response::Builder {
    Response::builder().status(code).header(header::CONTENT_TYPE, "application/json")
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let mut builder = response(refusal.code);
    if let Some(seconds) = refusal.retry_after {
        builder = builder.header(header::RETRY_AFTER, seconds);
    }
    builder.body(Body::from(refusal.status().to_string())).expect("the answer is well-formed")
}

/// A request that waits to be applied, and will be, whether its client still waits or not.
struct Underway {
    api: Api,
    due: Timestamp,
    request: Option<Request>,
}

impl Underway {
    fn new(api: Api, request: Request, before: Duration) -> Self {
        let due = request.origin.time + SignedDuration::try_from(before).unwrap_or_default();
        Self { api, due, request: Some(request) }
    }

    fn apply(mut self) -> Result<Answer, Refusal> {
        self.api.catch_up();
        let mut request = self.request.take().expect("a request is applied once");
        request.origin.time = self.api.now();
        request.apply(&self.api)
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if let Some(mut request) = self.request.take().filter(|request| request.origin.verb.writes()) {
            request.origin.time = self.due;
            self.api.0.late.lock().unwrap().push((self.due, request));
        }
    }
}

impl Request {
    fn read(api: &Api, client: Arc<str>, parts: &Parts, body: Bytes) -> Result<Self, Refusal> {
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let target = Target::of_path(parts.uri.path()).ok_or_else(|| Refusal::of_code(404))?;
        let query = Query::of(parts.uri.query());
        let verb = target.verb(parts.method.as_str(), &query).ok_or_else(|| {
            Refusal::new(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            )
        })?;
        let metadata =
            header(header::ACCEPT).is_some_and(|accept| accept.contains("as=PartialObjectMetadata"));
        let manager = query.get("fieldManager").unwrap_or(&client).to_owned();
        let time = api.now();
        Ok(Self {
            origin: Origin { sent: time, time, client, verb, target, manager, denial: None },
            query,
            form: if metadata { Form::Metadata } else { Form::Full },
            content_type: header(header::CONTENT_TYPE).map(str::to_owned),
            body,
        })
    }

    /// Asks the harness.
    fn verdict(&self, api: &Api) -> Verdict {
        let Origin { time, client, verb, target, .. } = self.origin.clone();
        let info = RequestInfo { time, client, verb, target, body: self.body.clone() };
        (api.0.judge.lock().unwrap())(&info)
    }

    /// Does what is asked for.
    pub fn apply(&self, api: &Api) -> Result<Answer, Refusal> {
        let (origin, target) = (&self.origin, &self.origin.target);
        let check = api.validator();
        let mut state = api.state();
        let object = |stored: &Arc<Stored>, code| Answer::Object(code, stored.json_as(self.form));
        match origin.verb {
            Verb::Get => state.named(target).map(|(_, stored)| object(&stored, 200)),
            Verb::List => state.list(target, &self.query, self.form).map(|body| Answer::Object(200, body)),
            Verb::Watch => {
                let asked = (target, &self.query, self.form);
                WatchStream::begin(api, &mut state, &origin.client, asked).map(Answer::Watch)
            }
            Verb::Create => state.create(origin, self.content()?, &*check).map(|stored| object(&stored, 201)),
            Verb::Replace => {
                state.replace(origin, self.content()?, &*check).map(|stored| object(&stored, 200))
            }
            Verb::Patch => {
                let kind = PatchKind::of_content_type(self.content_type.as_deref())?;
                state.patch(origin, (kind, self.content()?), &*check).map(|stored| object(&stored, 200))
            }
            Verb::Delete => {
                let options = if self.body.is_empty() { Value::Null } else { self.content()? };
                state.delete(origin, &options).map(|deleted| match deleted {
                    Deleted::Waits(stored) => object(&stored, 200),
                    Deleted::Gone(stored) => Answer::Object(200, success(target, &stored)),
                })
            }
        }
    }

    fn content(&self) -> Result<Value, Refusal> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Refusal::bad_request(format!("error decoding: {error}")))
    }
}

/// The answer to a delete that has removed something.
fn success(target: &Target, gone: &Stored) -> Bytes {
    let resource = target.kind.resource();
    let details = json!({
        "name": target.name, "group": resource.group, "kind": resource.plural, "uid": gone.text("uid"),
    });
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    Bytes::from(status.to_string())
}
