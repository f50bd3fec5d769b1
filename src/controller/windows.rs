//! Whether a resource's change windows, or the override annotation, allow changes now.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kube::core::ObjectMeta;

use crate::clock;
use crate::crd::Window;
use crate::engine::window::{Closed, InvalidWindow, Windows, override_annotation};

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

    /// What keeps changes of a resource with these windows from being made now, if anything does.
    pub fn closed(&self, windows: &[Window], meta: &ObjectMeta) -> Option<Closed> {
        // Windows that make no sense are refused with the whole spec, before this.
        self.read(windows).ok()?.closed(override_annotation(meta), clock::now().0)
    }
}
