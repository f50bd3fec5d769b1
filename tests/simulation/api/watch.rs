//! Watches: which change is reported to which client, and the stream that carries it. Only the end of a stream depends on a
//! runtime, so that a write in one replica's runtime wakes the watch of another's.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Bytes;
use futures::Stream;
use serde_json::json;
use tokio::time::{Instant, Sleep};

use super::Api;
use super::faults::Break;
use super::refusal::Refusal;
use super::resource::{Kind, Query, Target};
use super::selector::Selection;
use super::store::{Change, Form, State, Stored};

/// How long a watch lasts that asks for no time. The server takes a random time between half an hour and an hour.
const DEFAULT_TIMEOUT: u64 = 2400;
/// Time between two bookmarks.
const BOOKMARKS: Duration = Duration::from_mins(1);
/// The last bookmark comes so long before the end.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// One client's watch.
#[derive(Debug)]
pub struct Watcher {
    pub client: Arc<str>,
    selection: Selection,
    form: Form,
    feed: Weak<Feed>,
}

impl Watcher {
    /// Reports a change, if it is about what is watched. False if the watch has ended.
    pub fn notify(&self, change: &Change) -> bool {
        let Some(feed) = self.feed.upgrade() else { return false };
        if let Some(line) = self.line(change) {
            feed.push(line);
        }
        true
    }

    fn line(&self, change: &Change) -> Option<Bytes> {
        let seen = |stored: &Option<Arc<Stored>>| {
            stored.clone().filter(|stored| self.selection.holds(&stored.value))
        };
        let (event, object) = match (seen(&change.before), seen(&change.after)) {
            (None, None) => return None,
            (None, Some(now)) => ("ADDED", now),
            (Some(_), Some(now)) => ("MODIFIED", now),
            // As it was, with the version of the change, also if it only leaves the selection.
            (Some(before), None) => ("DELETED", Stored::new(before.value.clone(), change.version)),
        };
        Some(line(event, &object.json_as(self.form)))
    }

    pub fn set_held(&self, held: bool) {
        if let Some(feed) = self.feed.upgrade() {
            feed.change(|inner| inner.held = held);
        }
    }

    pub fn end(&self, how: Break) {
        if let Some(feed) = self.feed.upgrade() {
            feed.change(|inner| inner.end = Some(how));
        }
    }
}

fn line(event: &str, object: &[u8]) -> Bytes {
    let mut text = format!("{{\"type\":\"{event}\",\"object\":").into_bytes();
    text.extend_from_slice(object);
    text.extend_from_slice(b"}\n");
    text.into()
}

/// What is on its way to a client.
#[derive(Debug, Default)]
struct Feed(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    lines: VecDeque<Bytes>,
    held: bool,
    end: Option<Break>,
    waker: Option<Waker>,
}

impl Feed {
    fn push(&self, line: Bytes) {
        self.change(|inner| inner.lines.push_back(line));
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let waker = {
            let mut inner = self.0.lock().unwrap();
            change(&mut inner);
            inner.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// What comes next; none while nothing does.
    fn next(&self, waker: &Waker) -> Option<Result<Bytes, Break>> {
        let mut inner = self.0.lock().unwrap();
        if let Some(how) = inner.end {
            return Some(Err(how));
        }
        if !inner.held
            && let Some(line) = inner.lines.pop_front()
        {
            return Some(Ok(line));
        }
        inner.waker = Some(waker.clone());
        None
    }

    fn is_drained(&self) -> bool {
        self.0.lock().unwrap().lines.is_empty()
    }
}

/// The body of a watch's answer.
pub struct WatchStream {
    api: Api,
    kind: Kind,
    feed: Arc<Feed>,
    bookmarks: bool,
    end: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl WatchStream {
    /// Begins a watch. What has changed since the version that it asks for comes first.
    pub fn begin(
        api: &Api,
        state: &mut State,
        client: &Arc<str>,
        (target, query, form): (&Target, &Query, Form),
    ) -> Result<Self, Refusal> {
        let feed = Arc::new(Feed::default());
        let selection = Selection::of(target, query)?;
        let watcher = Watcher { client: Arc::clone(client), selection, form, feed: Arc::downgrade(&feed) };
        let kind = target.kind;
        let table = state.table(kind);
        match query.get("resourceVersion") {
            None | Some("0") => {
                let all = table.objects.values().filter(|stored| watcher.selection.holds(&stored.value));
                all.for_each(|stored| feed.push(line("ADDED", &stored.json_as(form))));
            }
            Some(version) => {
                let version =
                    version.parse().map_err(|_| Refusal::bad_request("invalid resource version"))?;
                match table.since(version) {
                    Ok(changes) => {
                        changes.filter_map(|change| watcher.line(change)).for_each(|line| feed.push(line));
                    }
                    // The server begins such a watch, and ends it by an event.
                    Err(refusal) => {
                        feed.push(line("ERROR", refusal.status().to_string().as_bytes()));
                        feed.change(|inner| inner.held = false);
                        return Ok(Self::ended(api, kind, feed));
                    }
                }
            }
        }
        watcher.set_held(state.held.contains(&(Arc::clone(client), kind)));
        state.table_mut(kind).watchers.push(watcher);
        let seconds =
            query.number("timeoutSeconds").filter(|seconds| *seconds > 0).unwrap_or(DEFAULT_TIMEOUT);
        let end = tenure::clock::instant() + Duration::from_secs(seconds);
        let bookmarks = query.is_true("allowWatchBookmarks");
        let first = if bookmarks { next_bookmark(end).unwrap_or(end) } else { end };
        let alarm = Box::pin(tokio::time::sleep_until(first));
        Ok(Self { api: api.clone(), kind, feed, bookmarks, end, alarm })
    }

    /// A watch that ends when it has delivered what is there.
    fn ended(api: &Api, kind: Kind, feed: Arc<Feed>) -> Self {
        let end = tenure::clock::instant();
        let alarm = Box::pin(tokio::time::sleep_until(end));
        Self { api: api.clone(), kind, feed, bookmarks: false, end, alarm }
    }

    /// Unless something is still on its way, everything up to the server's version is known.
    fn bookmark(&self) -> Option<Bytes> {
        let version = self.api.version();
        let resource = self.kind.resource();
        self.feed.is_drained().then(|| {
            let object = json!({
                "kind": resource.kind, "apiVersion": resource.api_version,
                "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null},
            });
            line("BOOKMARK", object.to_string().as_bytes())
        })
    }
}

/// When the next bookmark is due, if one is before the end.
fn next_bookmark(end: Instant) -> Option<Instant> {
    let now = tenure::clock::instant();
    Some((now + BOOKMARKS).min(end.checked_sub(LAST_BOOKMARK)?)).filter(|next| *next > now)
}

impl Stream for WatchStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.feed.next(cx.waker()) {
                Some(Ok(line)) => return Poll::Ready(Some(Ok(line))),
                Some(Err(Break::Closed)) => return Poll::Ready(None),
                Some(Err(Break::Failed)) => {
                    return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())));
                }
                None => {}
            }
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if !self.bookmarks || tenure::clock::instant() >= self.end {
                return Poll::Ready(None);
            }
            let next = next_bookmark(self.end).unwrap_or(self.end);
            self.alarm.as_mut().reset(next);
            if let Some(line) = self.bookmark() {
                return Poll::Ready(Some(Ok(line)));
            }
        }
    }
}
