//! Logging and traces.

pub mod traces;

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{self, DefaultFields, FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
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
    let filter = EnvFilter::new(directives(level));
    let filter = filter.and(filter_fn(is_event));
    let is_terminal = std::io::stderr().is_terminal();
    let text = format.map_or(is_terminal, |format| format == Format::Text);
    let mut lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    // On a terminal, the library honours `NO_COLOR`.
    if !is_terminal {
        lines.set_ansi(false);
    }
    let lines = if text {
        lines.fmt_fields(WithTrace(DefaultFields::new())).boxed()
    } else {
        let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
        lines.map_event_format(WithTrace).boxed()
    };
    let traces = traces.map(Traces::layer);
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(traces).init();
}

/// What is logged: tenure's own lines at a level, the audit log, and the errors of libraries, whose warnings may quote a body.
fn directives(level: Level) -> String {
    format!("error,tenure={},{AUDIT}=info", level.as_str())
}

/// Spans are for traces; in log lines they would only repeat the line's own fields.
fn is_event(metadata: &Metadata<'_>) -> bool {
    metadata.is_event()
}

/// Adds `trace_id` to the lines of a reconcile whose trace is sent to a collector.
struct WithTrace<F>(F);

/// As JSON, where the library calls no [`FormatFields`].
impl<S, N> FormatEvent<S, N> for WithTrace<format::Format<format::Json>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let Some(trace) = traces::current() else { return self.0.format_event(context, writer, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let fields = line.trim_end().strip_suffix('}').ok_or(std::fmt::Error)?;
        writeln!(writer, "{fields},\"trace_id\":\"{trace}\"}}")
    }
}

/// As text.
impl<'writer> FormatFields<'writer> for WithTrace<DefaultFields> {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> std::fmt::Result {
        self.0.format_fields(writer.by_ref(), fields)?;
        traces::current().map_or(Ok(()), |trace| write!(writer, " trace_id={trace}"))
    }
}

/// Logs only where a panic happened: its message may quote a secret.
pub(crate) fn guard_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic: this is a bug, please report it");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_log_errors_alone_at_every_level() {
        assert_eq!(directives(Level::Trace), "error,tenure=trace,tenure::audit=info");
        assert_eq!(directives(Level::Error), "error,tenure=error,tenure::audit=info");
    }
}
