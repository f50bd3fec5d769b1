//! What the layout promises: the engine is pure, `lib.rs` is a map, and the words users see are those of the contract.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tenure::engine::reason::{Kstatus, Reason};
use tenure::engine::tally::State;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let (folders, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| rust_files(folder));
    files.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).chain(below).collect()
}

/// The words of a file's code: identifiers, without comments.
fn words(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.map(|line| line.split(" // ").next().unwrap()).collect::<Vec<_>>().join("\n");
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|w| !w.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_engine_is_pure() {
    let mut files = rust_files(&source().join("engine"));
    files.push(source().join("engine.rs"));
    assert!(files.len() >= 10, "{files:?}");
    let impure = [
        "kube",
        "reqwest",
        "tokio",
        "async",
        "await",
        "clock",
        "env",
        "fs",
        "net",
        "process",
        "thread",
        "fastrand",
        "rand",
        "Instant",
        "SystemTime",
        "now_utc",
        "futures",
        "tracing",
        "vendor",
        "controller",
        "cli",
        "println",
        "eprintln",
        "Mutex",
        "OnceLock",
        "RefCell",
    ];
    for file in files {
        let words: BTreeSet<String> = words(&file).into_iter().collect();
        let found: Vec<_> = impure.iter().filter(|word| words.contains(**word)).collect();
        assert!(found.is_empty(), "{} mentions {found:?}", file.display());
    }
}

/// That the search above finds what it is meant to find.
#[test]
fn the_search_for_impurity_finds_it() {
    let vendor: BTreeSet<String> = words(&source().join("vendor/http.rs")).into_iter().collect();
    for word in ["reqwest", "tokio", "async", "clock", "Mutex"] {
        assert!(vendor.contains(word), "{word}");
    }
}

#[test]
fn the_resources_types_are_free_of_io() {
    let mut files = rust_files(&source().join("crd"));
    files.push(source().join("crd.rs"));
    for file in files {
        let words: BTreeSet<String> = words(&file).into_iter().collect();
        for word in ["reqwest", "tokio", "async", "clock", "engine", "vendor", "controller", "cli"] {
            assert!(!words.contains(word), "{} mentions {word}", file.display());
        }
    }
}

#[test]
fn the_vendors_know_nothing_of_kubernetes() {
    for file in rust_files(&source().join("vendor")) {
        let words: BTreeSet<String> = words(&file).into_iter().collect();
        for word in ["kube", "controller", "cli"] {
            assert!(!words.contains(word), "{} mentions {word}", file.display());
        }
    }
}

#[test]
fn the_library_is_a_map() {
    for line in std::fs::read_to_string(source().join("lib.rs")).unwrap().lines() {
        let is_module = line.starts_with("pub mod ") && line.ends_with(';');
        assert!(
            line.is_empty() || line.starts_with("//!") || is_module,
            "lib.rs holds more than docs and modules: {line}"
        );
    }
}

/// The contract's table: which reasons stand for what in the eyes of kstatus.
const CURRENT: &str = "InSync Unmanaged Overridden Observed";
const IN_PROGRESS: &str = "Drifted Progressing AwaitingWindow AwaitingRollout NoGatewaysMatch GatewaysNotReady \
    SecretNotFound SecretKeyMissing ConfigMapNotFound ServerNotFound ServerNotReady Unreachable TimedOut RateLimited \
    UnexpectedAnswer";
const FAILED: &str = "InvalidSpec PlaintextRefused InsecureTlsRefused OriginNotAllowed AddressRefused SecretTypeRefused \
    CaUnusable TlsFailed AuthenticationFailed AdminRoleRequired Forbidden CustomerNotFound AdditionalInfoUnusable \
    VerificationFailed Conflict Contested RolloutHalted";

fn promised(word: &str) -> Option<Kstatus> {
    let listed = |list: &str| list.split_whitespace().any(|w| w == word);
    let table = [(CURRENT, Kstatus::Current), (IN_PROGRESS, Kstatus::InProgress), (FAILED, Kstatus::Failed)];
    table.into_iter().find(|(list, _)| listed(list)).map(|(_, kstatus)| kstatus)
}

#[test]
fn reasons_are_the_contracts_words_and_stand_as_its_table_says() {
    assert_eq!(promised("Whim"), None);
    for &reason in Reason::ALL {
        let word = reason.as_str();
        assert_eq!(promised(word), Some(reason.kstatus()), "{word}");
        assert_eq!(Reason::parse(word), Some(reason), "{word}");
        assert_eq!(format!("{reason:?}"), word);
    }
    let words: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let listed = [CURRENT, IN_PROGRESS, FAILED].join(" ");
    assert_eq!(words, listed.split_whitespace().collect(), "every word of the table, and no other");
    assert_eq!(Reason::parse("insync"), None);
}

#[test]
fn states_are_the_words_of_the_statuses() {
    let words: Vec<&str> = State::ALL.into_iter().map(State::as_str).collect();
    assert_eq!(words, ["inSync", "pending", "drifted", "failed", "overridden", "suspended"]);
    let counts = serde_json::to_value(tenure::crd::GatewayCounts::default()).unwrap();
    for word in words {
        assert!(counts.get(word).is_some(), "gateways.{word} is no field of the status");
    }
}

/// Files of a size that can be read at one go; functions are held short by clippy.
#[test]
fn files_are_short() {
    for file in rust_files(&source()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let without_tests = text.split("#[cfg(test)]").next().unwrap().lines().count();
        assert!(without_tests <= 420, "{} has {without_tests} lines", file.display());
    }
}

/// An unbiased `select!` takes a random branch: a schedule could not be replayed from its seed.
#[test]
fn every_select_is_biased() {
    let mut found = 0;
    for file in rust_files(&source()) {
        let text = std::fs::read_to_string(&file).unwrap();
        for after in text.split("select! {").skip(1) {
            found += 1;
            assert!(after.trim_start().starts_with("biased;"), "{}: {after:.80}", file.display());
        }
    }
    assert!(found >= 10, "the search finds them: {found}");
}
