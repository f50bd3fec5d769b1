//! What the operator logs: none of it may hold a password or a token, and none may own up to a bug.

use std::cell::RefCell;
use std::fmt::{Debug, Write as _};
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what is logged on this thread, from the level of warnings on.
pub struct Log;

/// Lets every thread of this process log to [`Log`] at any time. A place that logs for the first time on a thread without a
/// subscriber would be remembered as one that nobody listens to, for other threads as well.
pub fn begin() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| drop(tracing::subscriber::set_global_default(Ignored)));
}

/// What is logged without [`Log`]: it is wanted, and dropped.
struct Ignored;

impl Subscriber for Ignored {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Log.enabled(metadata)
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        Log.new_span(attributes)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// What was logged since this was last asked.
pub fn drain() -> Vec<String> {
    LINES.take()
}

#[derive(Default)]
struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words(event.metadata().level().to_string());
        event.record(&mut words);
        LINES.with_borrow_mut(|lines| lines.push(words.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
