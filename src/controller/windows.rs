//! Whether a resource's change windows, or the override annotation, allow changes now.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use kube::ResourceExt;

use super::context::Context;
use crate::clock;
use crate::crd::{OVERRIDE_WINDOW_UNTIL, Window};
use crate::engine::window::{InvalidWindow, Override, State, Windows, override_until};

/// Maximum number of cached windows; with more, all are parsed again.
const KEPT: usize = 1000;

type Read = Result<Windows, InvalidWindow>;

/// Parsed windows: parsing them is much more expensive than querying them.
#[derive(Debug, Default)]
pub struct Cache(Mutex<HashMap<Vec<Window>, Read>>);

impl Cache {
    /// Reads the windows of a resource.
    pub fn read(&self, windows: &[Window]) -> Read {
        if windows.is_empty() {
            return Windows::parse(windows, clock::now().0);
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = kept.get(windows) {
            return read.clone();
        }
        if kept.len() >= KEPT {
            kept.clear();
        }
        let read = Windows::parse(windows, clock::now().0);
        kept.insert(windows.to_vec(), read.clone());
        read
    }
}

/// No window is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// When the next one opens.
    pub next: Timestamp,
    /// What is wrong with the override annotation.
    pub note: Option<&'static str>,
}

impl Closed {
    /// What to report of an object that waits. `whose` names the resource with the windows.
    #[must_use]
    pub fn message(self, whose: &str) -> String {
        let note = self.note.map_or_else(String::new, |note| format!(" {note}."));
        format!("A change is waiting for the next change window of {whose}.{note}")
    }
}

/// What keeps changes from being made now, if anything does.
pub fn closed(context: &Context, windows: &[Window], object: &impl ResourceExt) -> Option<Closed> {
    let now = clock::now().0;
    // Windows that make no sense are refused with the whole spec, before this.
    let State::Closed { next } = context.windows.read(windows).ok()?.state(now) else { return None };
    match override_until(override_annotation(object), now) {
        Override::Until(_) => None,
        Override::None => Some(Closed { next, note: None }),
        Override::Unusable(note) => Some(Closed { next, note: Some(note) }),
    }
}

/// The annotation that opens windows manually.
pub fn override_annotation(object: &impl ResourceExt) -> Option<&str> {
    object.annotations().get(OVERRIDE_WINDOW_UNTIL).map(String::as_str)
}
