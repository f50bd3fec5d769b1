//! The documentation is complete, its links lead somewhere, and what is made of the program is what the program says.
//!
//! `REFRESH=1 cargo test --test book` writes the made parts anew.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod command_line;
mod forms;
mod links;
mod lists;
mod pictures;
mod reasons;
mod reference;
mod threats;

use std::path::{Path, PathBuf};

use tenure_kit::book::{self, Page};
use tenure_kit::program::root;

pub fn pages() -> Vec<Page> {
    let pages = book::pages(root()).unwrap();
    assert!(pages.len() >= 15, "only {} pages", pages.len());
    pages
}

pub fn page(path: &str) -> Page {
    let found = pages().into_iter().find(|page| page.path == Path::new(path));
    found.unwrap_or_else(|| panic!("there is no {path}"))
}

/// Compares a file with what it has to hold, or writes it.
pub fn hold(file: &str, wanted: &str) {
    let path: PathBuf = root().join(file);
    if std::env::var_os("REFRESH").is_some() {
        std::fs::write(&path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{file} is stale: run `REFRESH=1 cargo test --test book` and commit what it writes"
    );
}
