//! Logging and traces.

pub mod traces;

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing::Metadata;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use self::traces::Traces;

/// Target of the lines about writes to remote systems: they are logged at every level.
pub(crate) const AUDIT: &str = "tenure::audit";

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Human-readable.
    Text,
    /// One JSON object per line.
    Json,
}

/// The log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) enum Level {
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

/// Starts logging to standard error: text on a terminal and JSON otherwise, unless a format is given.
///
/// The level is that of tenure's own lines. Libraries only log errors: at lower levels they may quote requests and
/// responses. The record of writes to remote systems is kept at every level.
pub(crate) fn start(format: Option<Format>, level: Level, traces: Option<&Traces>) {
    let filter = EnvFilter::new(format!("error,tenure={},{}=info", level.as_str(), AUDIT));
    let filter = filter.and(filter_fn(is_event));
    let is_terminal = std::io::stderr().is_terminal();
    let text = format.map_or(is_terminal, |format| format == Format::Text);
    let mut lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    // On a terminal, the library honours `NO_COLOR`.
    if !is_terminal {
        lines.set_ansi(false);
    }
    let lines = if text {
        lines.boxed()
    } else {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    };
    let traces = traces.map(Traces::layer);
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(traces).init();
}

/// Spans are for traces; in log lines they would only repeat the line's own fields.
fn is_event(metadata: &Metadata<'_>) -> bool {
    metadata.is_event()
}

/// Logs only where a panic happened: its message may quote a secret.
pub(crate) fn guard_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic: this is a bug, please report it");
    }));
}
