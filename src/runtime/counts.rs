//! The metrics that count the parts of a whole: the gateways of a policy, the customers of a server.

use super::object::Key;
use crate::engine::tally::{State, Tally};
use crate::metrics::{Metrics, Whole};

/// Counts parts by state. Without a tally, the whole is gone.
pub(crate) fn count(metrics: &Metrics, whole: Whole, key: &Key, tally: Option<&Tally>) {
    // A customer obeys one server only.
    let counted = |state: &State| whole == Whole::Policy || *state != State::Overridden;
    for state in State::ALL.into_iter().filter(counted) {
        let count = tally.map(|tally| tally.count(state));
        metrics.counted(whole, &key.name, &key.namespace, state.as_str(), count);
    }
}
