//! How a policy's changes spread over its gateways: few at a time, canaries first, and no further where too many fail.
//!
//! What must survive the operator's death is the [`Record`] in the policy's status and what each gateway's status says of
//! itself. Everything else is found out again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::lifetime::Target;
use crate::crd::{NumberOrPercent, Phase};

/// Below this, in seconds, people are logged out often enough to notice.
const SHORT: u32 = 3600;
/// A fleet smaller than this is changed at once.
const FLEET: usize = 4;
/// Time between the first gateway of a risky change and the others.
const GUARD_SOAK: Duration = Duration::from_mins(1);

/// What bounds a rollout, in gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Under change at once, at most.
    pub max_concurrent: usize,
    /// Failed changes that are borne.
    pub max_failures: usize,
    /// Who goes first.
    pub canary: Option<Canary>,
}

impl Rules {
    /// One gateway first, then, a minute later, all others: for a risky change by a policy without bounds of its own.
    #[must_use]
    pub fn guard() -> Self {
        let canary = Canary { choice: Choice::First(1), soak: GUARD_SOAK };
        Self { max_concurrent: usize::MAX, max_failures: usize::MAX, canary: Some(canary) }
    }

    /// So many drifting within one interval are put back at once; more of them are a reset of a whole site.
    #[must_use]
    pub fn bearable_drifts(&self) -> usize {
        self.max_failures.saturating_add(self.max_concurrent)
    }
}

/// The gateways that are changed first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// Which.
    pub choice: Choice,
    /// Time from their change until the others follow.
    pub soak: Duration,
}

/// How canaries are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// So many, in the order of their names.
    First(usize),
    /// These.
    Named(BTreeSet<String>),
}

/// A number of gateways, where a share of `matched` is rounded up.
#[must_use]
pub fn at_least_one(limit: &NumberOrPercent, matched: usize) -> usize {
    match share(limit) {
        Ok(number) => number.max(1),
        Err(percent) => matched.saturating_mul(percent).div_ceil(100).max(1),
    }
}

/// A number of gateways, where a share of `matched` is rounded down.
#[must_use]
pub fn at_most(limit: &NumberOrPercent, matched: usize) -> usize {
    match share(limit) {
        Ok(number) => number,
        Err(percent) => matched.saturating_mul(percent) / 100,
    }
}

/// The number, or else the percentage.
fn share(limit: &NumberOrPercent) -> Result<usize, usize> {
    match limit {
        NumberOrPercent::Number(number) => Ok(usize::try_from(*number).unwrap_or(usize::MAX)),
        NumberOrPercent::Percent(text) => Err(text.trim_end_matches('%').parse().unwrap_or(0)),
    }
}

/// Whether a target makes sessions so short that changing many gateways at once would be felt.
#[must_use]
pub fn is_short(target: Target) -> bool {
    target.bounds().1 < SHORT
}

/// Whether changing all that wait would be felt: more than half of a fleet of four or more would be tightened to below an
/// hour. `tightened` counts the gateways whose lifetime would become shorter.
#[must_use]
pub fn is_risky(target: Target, fleet: usize, tightened: usize) -> bool {
    is_short(target) && fleet >= FLEET && tightened.saturating_mul(2) > fleet
}

/// Where a gateway stands with regard to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Nobody has looked yet.
    Unread,
    /// It could not be read, or cannot be changed.
    Unreadable,
    /// It was read, differs, and asks to be changed.
    Waiting,
    /// It was proven at this target before, has been changed by somebody else, and asks to be put back.
    Drifted,
    /// A change was begun.
    UnderWay,
    /// Its last change in this rollout failed after a write was sent.
    Failed {
        /// Whether it asks for another try.
        asks: bool,
    },
    /// Proven at the target.
    Proven,
    /// Its policy is going, or it has left it: asks for the value from before to be put back.
    Restoring,
}

/// A gateway of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it stands.
    pub standing: Standing,
    /// It has come, or could be read, only after the rollout began.
    pub late: bool,
    /// When a look last found it in order.
    pub checked: Option<Timestamp>,
    /// Looks in a row that have failed.
    pub tries: u8,
}

/// Looks at a canary that may fail before the rollout halts.
const TRIES: u8 = 3;

/// What of a rollout must not be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// How far it has got.
    pub phase: Phase,
    /// For which target.
    pub target_hash: String,
    /// Who goes first.
    pub canaries: Vec<String>,
    /// Until when the canaries are only watched.
    pub soak_until: Option<Timestamp>,
    /// When it began, or was resumed: changes begun before do not count.
    pub started: Timestamp,
}

/// Everything a plan is made of.
#[derive(Clone, Debug)]
pub struct Scene<'a> {
    /// The bounds.
    pub rules: &'a Rules,
    /// The target.
    pub target: Target,
    /// Every gateway that the policy governs, and those that are to be restored for it.
    pub members: &'a BTreeMap<String, Member>,
    /// Gateways that have drifted within one interval, those put back included.
    pub drifts: usize,
    /// When the latest change was begun that statuses tell of.
    pub latest_attempt: Option<Timestamp>,
    /// Whether changes may begin.
    pub window_open: bool,
    /// Somebody asks for a halted rollout to go on.
    pub resume: bool,
    /// The time.
    pub now: Timestamp,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// To be kept in the policy's status before anything is begun.
    pub record: Option<Record>,
    /// Gateways to be changed now, in this order.
    pub begin: Vec<String>,
    /// Canaries to be looked at now.
    pub check: Vec<String>,
    /// Nothing can be said yet: not every gateway has been looked at.
    pub undecided: bool,
    /// The canaries' selector selects no gateway of the policy.
    pub lacks_canaries: bool,
}

/// The name a target has in a rollout's record: sixteen hexadecimal digits (FNV-1a). The reset of a whole site, where
/// gateways that were proven go through the rollout, too, has another.
#[must_use]
pub fn target_hash(target: Target, of_drifts: bool) -> String {
    let text = format!("{target}{}", if of_drifts { " again" } else { "" });
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Makes a plan. Total, and independent of the order in which things have happened.
#[must_use]
pub fn plan(record: Option<&Record>, scene: &Scene<'_>) -> Plan {
    let mut plan =
        Plan { record: None, begin: Vec::new(), check: Vec::new(), undecided: false, lacks_canaries: false };
    let mut rollout = record.filter(|record| scene.concerns(record)).cloned();
    // Each pass takes one step at the most: canaries, others, complete.
    for _ in 0..4 {
        let next = scene.step(rollout.as_ref(), &mut plan);
        let began = next.as_ref().map(|r| r.started) != rollout.as_ref().map(|r| r.started);
        let moved = next != rollout;
        rollout = next;
        // Where it has just begun or been resumed, standings still tell of what was before it.
        if began || !moved {
            break;
        }
    }
    if let Some(active) = &rollout {
        plan.check = scene.to_be_checked(active);
    }
    plan.begin = scene.next(rollout.as_ref(), &plan);
    plan.record = rollout;
    plan
}

impl Scene<'_> {
    fn concerns(&self, record: &Record) -> bool {
        [false, true].iter().any(|of_drifts| record.target_hash == target_hash(self.target, *of_drifts))
    }

    fn is_of_drifts(&self, record: Option<&Record>) -> bool {
        let hash = target_hash(self.target, true);
        record.is_some_and(|record| record.phase != Phase::Complete && record.target_hash == hash)
    }

    /// Too many have drifted at once for each to be put back by itself.
    fn is_reset(&self) -> bool {
        self.drifts > self.rules.bearable_drifts()
    }

    fn standing(&self, name: &str) -> Option<Standing> {
        self.members.get(name).map(|member| member.standing)
    }

    fn has(&self, wanted: impl Fn(Standing) -> bool) -> bool {
        self.members.values().any(|member| wanted(member.standing))
    }

    fn step(&self, record: Option<&Record>, plan: &mut Plan) -> Option<Record> {
        let Some(record) = record else { return self.begun(plan) };
        match record.phase {
            Phase::Complete => Some(self.begun(plan).unwrap_or_else(|| record.clone())),
            Phase::Halted => Some(self.advanced(record)),
            _ if self.has_lost_its_canaries(record) => {
                Some(self.begun(plan).unwrap_or_else(|| self.advanced(record)))
            }
            _ => Some(self.advanced(record)),
        }
    }

    /// A new rollout, where one is needed and everybody who may take part is known.
    fn begun(&self, plan: &mut Plan) -> Option<Record> {
        let reset = self.is_reset() && self.has(|s| s == Standing::Drifted);
        let asks = |s| matches!(s, Standing::Waiting | Standing::Failed { asks: true });
        if !reset && !self.has(asks) {
            return None;
        }
        if self.has(|s| s == Standing::Unread) {
            plan.undecided = true;
            return None;
        }
        let canaries = self.canaries(plan)?;
        let phase = if canaries.is_empty() { Phase::Progressing } else { Phase::Canary };
        let target_hash = target_hash(self.target, reset);
        Some(Record { phase, target_hash, canaries, soak_until: None, started: self.start() })
    }

    /// Now, or later than the latest change that statuses tell of: times in statuses are whole seconds.
    fn start(&self) -> Timestamp {
        let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap_or(time);
        let after = |time: Timestamp| time.checked_add(Duration::from_secs(1)).unwrap_or(time);
        self.latest_attempt.map_or(whole(self.now), |latest| whole(after(latest)).max(whole(self.now)))
    }

    fn canaries(&self, plan: &mut Plan) -> Option<Vec<String>> {
        let Some(canary) = &self.rules.canary else { return Some(Vec::new()) };
        let readable = |s| !matches!(s, Standing::Unread | Standing::Unreadable | Standing::Restoring);
        match &canary.choice {
            Choice::First(count) => {
                let asks =
                    |s| matches!(s, Standing::Waiting | Standing::Drifted | Standing::Failed { asks: true });
                let asking = self.members.iter().filter(|(_, member)| asks(member.standing));
                Some(asking.take(*count).map(|(name, _)| name.clone()).collect())
            }
            Choice::Named(names) => {
                plan.lacks_canaries = !names.iter().any(|name| self.members.contains_key(name));
                let present = names.iter().filter(|name| self.standing(name).is_some_and(readable));
                let present: Vec<String> = present.cloned().collect();
                (!present.is_empty()).then_some(present)
            }
        }
    }

    /// Every canary has been deleted, suspended, or has gone to another policy.
    fn has_lost_its_canaries(&self, record: &Record) -> bool {
        !record.canaries.is_empty() && self.present(record).next().is_none()
    }

    fn present<'r>(&self, record: &'r Record) -> impl Iterator<Item = (&'r String, &Member)> {
        record.canaries.iter().filter_map(|name| Some((name, self.members.get(name)?)))
    }

    fn advanced(&self, record: &Record) -> Record {
        let mut next = record.clone();
        let first = if record.canaries.is_empty() { Phase::Progressing } else { Phase::Canary };
        match record.phase {
            Phase::Halted if !self.resume => return next,
            Phase::Halted => {
                (next.phase, next.started) = (first, self.start());
                return next;
            }
            // What was watched before a window closed is looked at once more when the next one opens.
            Phase::AwaitingWindow => next.phase = first,
            Phase::Canary | Phase::Progressing | Phase::Complete => {}
        }
        if self.has_failed(&next) {
            next.phase = Phase::Halted;
            return next;
        }
        if next.phase == Phase::Canary && self.present(record).all(|(_, m)| m.standing == Standing::Proven) {
            let soak = self.rules.canary.as_ref().map_or(Duration::ZERO, |canary| canary.soak);
            let until = self.now.checked_add(soak).unwrap_or(self.now);
            let until = *next.soak_until.get_or_insert(until);
            let in_order = |m: &Member| m.checked.is_some_and(|checked| checked >= until);
            if self.now >= until && self.present(record).all(|(_, m)| in_order(m)) {
                next.phase = Phase::Progressing;
            }
        }
        if next.phase == Phase::Progressing && !self.has(is_open) {
            next.phase = Phase::Complete;
        }
        if !self.window_open && self.is_held_up(&next) {
            next.phase = Phase::AwaitingWindow;
        }
        next
    }

    fn has_failed(&self, record: &Record) -> bool {
        let failed = self.members.values().filter(|m| matches!(m.standing, Standing::Failed { .. })).count();
        let watched = record.phase == Phase::Canary;
        failed > self.rules.max_failures || watched && self.present(record).any(|(_, m)| m.tries >= TRIES)
    }

    fn is_held_up(&self, record: &Record) -> bool {
        let drifts = self.is_of_drifts(Some(record));
        self.members.iter().any(|(name, member)| may_begin(record, drifts, name, member.standing))
    }

    fn to_be_checked(&self, record: &Record) -> Vec<String> {
        let Some(until) = record.soak_until.filter(|until| self.now >= *until) else { return Vec::new() };
        let open = |m: &Member| m.checked.is_none_or(|checked| checked < until);
        if !matches!(record.phase, Phase::Canary | Phase::AwaitingWindow) {
            return Vec::new();
        }
        self.present(record).filter(|(_, m)| open(m)).map(|(name, _)| name.clone()).collect()
    }

    /// Who is changed now: what is to be restored, then what has drifted, then the rollout's next.
    fn next(&self, record: Option<&Record>, plan: &Plan) -> Vec<String> {
        let under_way = self.members.values().filter(|m| m.standing == Standing::UnderWay).count();
        let free = self.rules.max_concurrent.saturating_sub(under_way);
        let drifts = self.is_of_drifts(record) || self.is_reset();
        let halted = record.is_some_and(|record| record.phase == Phase::Halted);
        let rank = |name: &str, member: &Member| match member.standing {
            Standing::Restoring => Some(0),
            _ if halted || !self.window_open => None,
            Standing::Drifted if !drifts => Some(1),
            _ if plan.undecided => None,
            standing => record.filter(|r| may_begin(r, drifts, name, standing)).map(|_| match standing {
                Standing::Failed { .. } => 4,
                _ if member.late => 3,
                _ => 2,
            }),
        };
        let mut ready: Vec<(u8, &String)> =
            self.members.iter().filter_map(|(name, member)| Some((rank(name, member)?, name))).collect();
        ready.sort();
        ready.into_iter().take(free).map(|(_, name)| name.clone()).collect()
    }
}

/// Whether a rollout would change this gateway now, were there room and a window.
fn may_begin(record: &Record, drifts: bool, name: &str, standing: Standing) -> bool {
    let asks = match standing {
        Standing::Waiting | Standing::Failed { asks: true } => true,
        Standing::Drifted => drifts,
        _ => false,
    };
    let turn = match record.phase {
        Phase::Canary => record.canaries.iter().any(|canary| canary == name),
        Phase::Progressing => true,
        Phase::Complete | Phase::Halted | Phase::AwaitingWindow => false,
    };
    asks && turn
}

/// Whether a rollout has to go on for the sake of such a gateway.
fn is_open(standing: Standing) -> bool {
    match standing {
        Standing::Waiting
        | Standing::Drifted
        | Standing::UnderWay
        | Standing::Failed { .. }
        | Standing::Unread => true,
        Standing::Unreadable | Standing::Proven | Standing::Restoring => false,
    }
}
