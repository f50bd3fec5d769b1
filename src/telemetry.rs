//! Logging.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Begins to log to standard error: text on a terminal and JSON otherwise, unless a format is given.
///
/// The level is that of tenure's own lines. Libraries only report errors: what they have to say at lower levels may quote
/// requests and answers.
pub fn start(format: Option<Format>, level: Level) {
    let filter = EnvFilter::new(format!("error,tenure={}", level.as_str()));
    let text = format.map_or_else(|| std::io::stderr().is_terminal(), |format| format == Format::Text);
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    if text {
        builder.init();
    } else {
        builder.json().flatten_event(true).init();
    }
}

/// A panic says where it happened and nothing else: its message may quote a secret.
pub fn guard_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "a panic: this is a bug, please report it");
    }));
}
