//! What the users want, by the contract's rules.

use std::time::Duration;

use serde_json::Value;

use crate::api::{Api, Kind};
use crate::manifest::OUT_OF_SCOPE;
use crate::oracle::{Claim, claim};
use crate::plan::reached_by;

/// The lifetimes that a policy admits, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub least: u64,
    pub most: u64,
}

impl Target {
    pub fn admits(self, seconds: u32) -> bool {
        (self.least..=self.most).contains(&seconds.into())
    }
}

/// The policy that governs a gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Governing {
    pub name: String,
    pub target: Target,
    pub suspended: bool,
    pub windows: Windows,
    pub revoke: String,
    /// `maxConcurrent` of its rollout.
    pub at_once: Option<usize>,
}

impl Governing {
    /// What a policy asks for.
    pub fn of(policy: &Value) -> Self {
        let spec = &policy["spec"];
        let bound = |name: &str| spec["timeoutSeconds"].as_u64().or_else(|| spec[name].as_u64());
        Self {
            name: text(&policy["metadata"]["name"]),
            target: Target {
                least: bound("minTimeoutSeconds").unwrap_or(0),
                most: bound("maxTimeoutSeconds").unwrap_or(u64::MAX),
            },
            suspended: spec["suspend"] == true,
            windows: Windows::of(&spec["windows"]),
            at_once: spec["rollout"]["maxConcurrent"].as_u64().and_then(|most| usize::try_from(most).ok()),
            revoke: spec["revokeTokens"].as_str().unwrap_or("Never").to_owned(),
        }
    }
}

/// What is wanted of one customer.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomerIntent {
    pub name: String,
    pub id: String,
    pub claim: Claim,
    /// Where its server is, if there is one.
    pub url: Option<String>,
    pub suspended: bool,
    pub deleting: bool,
    pub ttls: (Option<u64>, Option<u64>),
    pub windows: Windows,
}

impl CustomerIntent {
    /// What a resource asks for; its server may be suspended.
    pub fn of(customer: &Value, server: Option<&Value>) -> Self {
        let (meta, spec) = (&customer["metadata"], &customer["spec"]);
        Self {
            name: text(&meta["name"]),
            id: text(&spec["customerId"]),
            claim: claim(meta),
            url: server.map(|server| reached_by(&server["spec"])),
            suspended: spec["suspend"] == true
                || server.is_some_and(|server| server["spec"]["suspend"] == true),
            deleting: is_deleting(customer),
            ttls: (spec["accessTokenTtlSeconds"].as_u64(), spec["refreshTokenTtlSeconds"].as_u64()),
            windows: Windows::of(&spec["windows"]),
        }
    }
}

/// Whether the operator does not see an object.
pub fn is_out_of_scope(object: &Value) -> bool {
    object["metadata"]["labels"]["scope"] == OUT_OF_SCOPE
}

/// Whether an object is being deleted.
pub fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// Windows that open each hour at a minute, for some minutes. None: always open.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows(Vec<(u64, u64)>);

impl Windows {
    fn of(windows: &Value) -> Self {
        let number = |text: &str| text.parse::<u64>().expect("a window of this simulation");
        let window = |window: &Value| {
            let long = number(text(&window["duration"]).trim_end_matches('m'));
            let schedule = text(&window["schedule"]);
            let minutes = schedule.split(' ').next().unwrap_or_default().split(',');
            minutes.map(|minute| (number(minute), long)).collect::<Vec<_>>()
        };
        Self(windows.as_array().into_iter().flatten().flat_map(window).collect())
    }

    /// Whether one is open at some time between two.
    pub fn open_between(&self, from: Duration, to: Duration) -> bool {
        const HOUR: u64 = 3_600_000;
        let (from, to) = (millis(from), millis(to));
        let opens = |(minute, minutes): &(u64, u64)| {
            let (begin, long) = (minute * 60_000, minutes * 60_000);
            // Beginnings before `to`, the last of which counts.
            let last = (to >= begin).then(|| begin + (to - begin) / HOUR * HOUR);
            let before = begin + long > HOUR && from < begin + long - HOUR;
            before || last.is_some_and(|last| from < last + long)
        };
        self.0.is_empty() || self.0.iter().any(opens)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("some hours")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The place of a policy among those that ask for a gateway: the first of them governs it. None if it does not ask.
pub fn rank<'a>(policy: &'a Value, gateway: &Value) -> Option<(i64, &'a str)> {
    let (meta, spec) = (&policy["metadata"], &policy["spec"]);
    let wanted = &spec["gatewaySelector"]["matchLabels"]["group"];
    let selects = wanted.is_null() || *wanted == gateway["metadata"]["labels"]["group"];
    let same_namespace = meta["namespace"] == gateway["metadata"]["namespace"];
    let asks = same_namespace && spec["mode"] != "Observe" && !is_deleting(policy) && selects;
    asks.then(|| (-spec["priority"].as_i64().unwrap_or_default(), meta["name"].as_str().unwrap_or_default()))
}

/// Of all Enforce policies that select a gateway the one with the highest priority, or else the first by name.
pub fn governing(api: &Api, gateway: &Value) -> Option<Governing> {
    let policies = api.all(Kind::TokenPolicy);
    let policies = policies.iter().map(|policy| &policy.value).filter(|policy| !is_out_of_scope(policy));
    let best =
        policies.filter_map(|policy| Some((rank(policy, gateway)?, policy))).min_by_key(|(rank, _)| *rank);
    best.map(|(_, policy)| Governing::of(policy))
}

#[test]
fn windows_open_each_hour() {
    let open = |minute: u64, minutes: u64, at: u64| {
        let at = Duration::from_mins(at);
        Windows(vec![(minute, minutes)]).open_between(at, at)
    };
    assert!(open(10, 5, 10) && open(10, 5, 14) && !open(10, 5, 15) && !open(10, 5, 9) && open(10, 5, 132));
    assert!(open(50, 20, 5) && open(50, 20, 65) && !open(50, 20, 10) && open(50, 20, 59));
    let long = Windows(vec![(10, 5)]);
    assert!(long.open_between(Duration::from_mins(5), Duration::from_mins(11)));
    assert!(!long.open_between(Duration::from_mins(15), Duration::from_mins(69)));
}
