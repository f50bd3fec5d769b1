//! The operator's way to the remote systems, in place of the network.

use std::future::pending;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use secrecy::ExposeSecret as _;
use tenure::engine::remote::{Broken, Fault, Malformed};
use tenure::vendor::endpoint::Endpoint;
use tenure::vendor::wire::{Answer, Content, MaySend, Request, Wire};

use super::call::{Call, Reply};
use super::internet::Internet;
use super::mood::{Course, Fate};
use crate::crash::Crash;
use crate::plan;
use crate::time;

/// One replica's network.
#[derive(Debug)]
pub struct Line {
    pub internet: Internet,
    pub replica: usize,
    pub crash: Crash,
}

impl Wire for Line {
    fn transfer<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        request: Request<'a>,
        may_send: MaySend<'a>,
    ) -> BoxFuture<'a, Result<Option<Answer>, Fault>> {
        async move {
            self.crash.point().await;
            if !may_send() {
                return Ok(None);
            }
            let (call, cap) = (call(&request), request.cap);
            let proxy = endpoint.transport.proxy.as_ref().map(ToString::to_string);
            let url = plan::reached(&endpoint.base.to_string(), proxy.as_deref());
            let (exchange, Fate { before, after, course }) =
                self.internet.at(time::now()).send(self.replica, &url, call, time::now());
            let mut flight = Flight { line: self, exchange, landed: false };
            self.crash.point().await;
            tokio::time::sleep(before).await;
            flight.landed = true;
            drop(self.internet.at(time::now()));
            self.crash.point().await;
            if let Course::Silent { .. } = course {
                pending::<()>().await;
            }
            tokio::time::sleep(after).await;
            self.crash.point().await;
            let answer = self.answer(exchange, &course, cap);
            let key = self.internet.at(time::now()).key(&url);
            answer.map(|(status, content)| Some(Answer { status, content, key }))
        }
        .boxed()
    }
}

impl Line {
    fn answer(&self, exchange: u64, course: &Course, cap: usize) -> Result<(u16, Content), Fault> {
        let reply = match course {
            Course::Served => self.internet.at(time::now()).take_reply(exchange),
            Course::Answered { status, page: true, .. } => Some(Reply {
                status: *status,
                body: b"<html><body>Welcome</body></html>".to_vec(),
                retry_after: None,
            }),
            Course::Answered { status, retry_after, page: false } => {
                Some(Reply { retry_after: *retry_after, ..Reply::status(*status) })
            }
            Course::Spoilt(status) => Some(Reply::status(*status)),
            Course::Lost | Course::AnswerLost | Course::Silent { .. } => None,
        };
        match reply {
            None => Err(Fault::Unreachable(Broken::Closed)),
            Some(reply) if reply.body.len() > cap => Err(Fault::Malformed(Malformed::Long)),
            Some(reply) if (200..300).contains(&reply.status) => Ok((reply.status, reply.body.into())),
            Some(reply) => Err(Fault::Status { code: reply.status, retry_after: reply.retry_after }),
        }
    }
}

/// A request that is given up before it has arrived does not arrive in half of all cases.
struct Flight<'a> {
    line: &'a Line,
    exchange: u64,
    landed: bool,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !self.landed && self.exchange.is_multiple_of(2) {
            // No catching up: it may be dropped outside of its runtime.
            self.line.internet.at(std::time::Duration::ZERO).recall(self.exchange);
        }
    }
}

fn call(request: &Request<'_>) -> Call {
    Call {
        method: match request.method.as_str() {
            "GET" => "GET",
            "PUT" => "PUT",
            "DELETE" => "DELETE",
            _ => "POST",
        },
        path: request.path.to_owned(),
        token: request.token.as_ref().map(|(_, token)| token.expose_secret().to_owned()),
        body: request.body.as_ref().map(|(_, body)| body.to_vec()).unwrap_or_default(),
        wall: time::EPOCH_SECONDS,
    }
}
