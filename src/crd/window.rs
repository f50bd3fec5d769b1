//! Change windows: the times at which remote values may be changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// A recurring time at which changes may be made: it opens on a schedule and stays open for a duration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// When the window opens: the five fields of cron, minute, hour, day of month, month and day of week, as in a `CronJob`.
    /// 0 22 * * SAT is every Saturday at 22:00. Names (JAN-DEC, SUN-SAT) are supported; Sunday is 0 or 7. If both day of
    /// month and day of week are restricted, either opens it.
    #[schemars(length(max = 128), extend("x-kubernetes-validations" = rules::cron()))]
    pub schedule: String,
    /// How long the window stays open, 1m to 168h (seven days), such as 4h. Overlapping windows are joined.
    #[schemars(length(max = 16), extend("x-kubernetes-validations" = rules::duration("1m", "168h", "4h or 1h30m")))]
    pub duration: String,
    /// The time zone of the schedule, such as Europe/Berlin: a name from the IANA database. An opening skipped by daylight
    /// saving time starts right after the gap; one in a repeated hour opens only once, the first time.
    #[serde(default = "default_time_zone")]
    #[schemars(length(max = 64), extend("x-kubernetes-validations" = rules::time_zone(), "default" = "Etc/UTC"))]
    pub time_zone: String,
}

fn default_time_zone() -> String {
    "Etc/UTC".to_owned()
}
