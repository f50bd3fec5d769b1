//! What is printed: plain lines of at most a hundred columns, coloured on a terminal only.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _, stdout};

use tokio::sync::Notify;

/// Columns that prose is wrapped to; tables are laid out for it.
const WIDTH: usize = 100;
/// Where continued lines of prose begin.
const INDENT: usize = 14;

/// Standard output.
pub(crate) struct Screen {
    colour: bool,
    closed: Notify,
}

/// How a word looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Plain,
    Bold,
    Dim,
    Green,
    Yellow,
    Red,
}

impl Screen {
    /// Coloured where a terminal is looked at and nobody asked for plain text.
    pub(crate) fn new(plain: bool) -> Self {
        Self { colour: !plain && stdout().is_terminal(), closed: Notify::new() }
    }

    /// Waits until nobody reads any more.
    pub(crate) async fn closed(&self) {
        self.closed.notified().await;
    }

    /// One line.
    pub(crate) fn line(&self, text: impl Display) {
        if writeln!(stdout().lock(), "{text}").is_err() {
            self.closed.notify_one();
        }
    }

    pub(crate) fn blank(&self) {
        self.line("");
    }

    /// The headline of a step or part.
    pub(crate) fn title(&self, text: &str) {
        self.blank();
        self.line(self.paint(Look::Bold, text));
    }

    /// A word or two, and what there is to say of it.
    pub(crate) fn item(&self, label: &str, text: &str) {
        self.wrapped(Look::Plain, label, text);
    }

    /// As [`item`](Self::item), but the text keeps its spaces.
    pub(crate) fn row(&self, label: &str, text: &str) {
        self.line(format!("  {label:<width$}{text}", width = INDENT - 2));
    }

    /// Something that was checked and found right.
    pub(crate) fn ok(&self, text: &str) {
        self.wrapped(Look::Green, "ok", text);
    }

    /// A command that does the same.
    pub(crate) fn command(&self, text: &str) {
        self.line(format!("  {}", self.paint(Look::Dim, &format!("$ {text}"))));
    }

    /// Something that went wrong. What has lines of its own keeps them.
    pub(crate) fn failed(&self, text: &str) {
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        self.wrapped(Look::Red, "failed", first);
        rest.lines().for_each(|line| self.line(format!("{}{line}", " ".repeat(INDENT))));
    }

    fn wrapped(&self, look: Look, label: &str, text: &str) {
        let mut label = self.paint(look, &format!("{label:<width$}", width = INDENT - 2));
        for line in wrap(text, WIDTH - INDENT) {
            self.line(format!("  {label}{line}"));
            label = " ".repeat(INDENT - 2);
        }
    }

    /// The text in a look, if there are any here.
    pub(crate) fn paint(&self, look: Look, text: &str) -> String {
        let code = match look {
            _ if !self.colour => return text.to_owned(),
            Look::Plain => return text.to_owned(),
            Look::Bold => "1",
            Look::Dim => "2",
            Look::Green => "32",
            Look::Yellow => "33",
            Look::Red => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
