//! Which resources a command applies to.

use std::collections::BTreeSet;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::runtime::watch::Scope;

/// Longest name of a namespace.
const LONGEST: usize = 63;

/// Options that select what a command applies to. An empty value is refused: a script's unset variable must not select
/// everything.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// Namespaces of the resources that the command applies to, separated by commas [default: all]
    #[arg(long, env = "TENURE_NAMESPACES", value_delimiter = ',', value_parser = namespace)]
    namespaces: Vec<String>,
    /// Label selector: apply only to resources that match it [default: all]
    #[arg(long, env = "TENURE_SELECTOR", value_parser = NonEmptyStringValueParser::new())]
    selector: Option<String>,
}

impl Selection {
    /// The scopes to watch: one per namespace, or one for all.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let scope = |namespace| Scope { namespace, selector: self.selector.clone() };
        match self.namespaces.as_slice() {
            [] => vec![scope(None)],
            some => {
                // Each once, even if it is given twice.
                let names: BTreeSet<&String> = some.iter().collect();
                names.into_iter().map(|namespace| scope(Some(namespace.clone()))).collect()
            }
        }
    }
}

fn namespace(text: &str) -> Result<String, &'static str> {
    let name = text.trim();
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_name = name.starts_with(is_plain)
        && name.ends_with(is_plain)
        && name.chars().all(|c| is_plain(c) || c == '-')
        && name.len() <= LONGEST;
    is_name
        .then(|| name.to_owned())
        .ok_or("must be namespace names; omit the option to select all namespaces")
}
