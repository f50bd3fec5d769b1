//! How a policy's changes spread over its gateways: few at a time, canaries first, and no further if too many fail.
//!
//! What must survive a restart of the operator is the [`Record`] in the policy's status and what each gateway's status shows of
//! itself. Everything else is rebuilt.

mod bounds;
mod decide;
mod decision;
mod gateway;
mod guard;
mod machine;
mod outcome;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

use bounds::fitting;
pub use bounds::{Bound, Canary, Choice, Rules, is_bounded, is_risky, is_short, size};
pub use decide::{Circumstances, decide};
pub use decision::Decision;
pub use gateway::{Gateway, Relation};
pub use machine::{Machine, Permit, Reply, Survey, Wish};
pub use outcome::Outcome;

use super::lifetime::Target;
use crate::crd::{Approval, Phase};

/// The state of a gateway with regard to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It was not checked yet.
    Unread,
    /// It could not be read, or cannot be changed.
    Unreadable,
    /// It was read, differs, and asks to be changed.
    Waiting,
    /// It was proven at this target before, was changed by something else, and asks to be corrected.
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
    /// Its policy is being deleted or no longer governs it: it asks for its original value to be restored.
    Restoring,
}

/// A gateway of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its state.
    pub standing: Standing,
    /// It has come, or could be read, only after the rollout began.
    pub late: bool,
    /// When a check last found it healthy.
    pub checked: Option<Timestamp>,
    /// Checks in a row that have failed.
    pub tries: u8,
}

impl Member {
    /// Whether so many checks have failed that a rollout halts if it is a canary.
    fn is_lost(&self) -> bool {
        self.tries >= TRIES
    }
}

/// Checks of a canary that may fail before the rollout halts.
const TRIES: u8 = 3;

/// The state of a rollout that must survive a restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// How far it has got.
    pub phase: Phase,
    /// For which target.
    pub target_hash: String,
    /// The gateways that are changed first.
    pub canaries: Vec<String>,
    /// Until when the canaries are only watched.
    pub soak_until: Option<Timestamp>,
    /// When it began, or was resumed: changes begun before do not count.
    pub started: Timestamp,
}

/// The record as a policy's status holds it.
impl From<&crate::crd::RolloutStatus> for Record {
    fn from(status: &crate::crd::RolloutStatus) -> Self {
        Self {
            phase: status.phase,
            target_hash: status.target_hash.clone(),
            canaries: status.canaries.clone(),
            soak_until: status.soak_until.as_ref().map(|time| time.0),
            started: status.started_time.0,
        }
    }
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
    /// Changes under way of gateways that the policy does not govern anymore.
    pub elsewhere: usize,
    /// Gateways that have drifted within one interval, corrected ones included.
    pub drifts: usize,
    /// When the latest change was begun that statuses show.
    pub latest_attempt: Option<Timestamp>,
    /// Whether changes may begin.
    pub window_open: bool,
    /// A halted rollout is to go on.
    pub resume: bool,
    /// The target hash that a person has approved.
    pub approved: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
}

/// The next steps of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plan {
    /// To be kept in the policy's status before anything is begun.
    pub record: Option<Record>,
    /// Gateways to be changed now, in this order.
    pub begin: Vec<String>,
    /// Canaries to be checked now.
    pub check: Vec<String>,
    /// Nothing can be said yet: not every gateway was checked.
    pub undecided: bool,
    /// The canaries' selector selects no gateway of the policy.
    pub lacks_canaries: bool,
}

/// The name a target has in a rollout's record: sixteen hexadecimal digits (FNV-1a). The reset of a whole site, in which
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
    let mut plan = Plan::default();
    let before = record.filter(|record| scene.concerns(record));
    // One step at a time: if a rollout has just begun or been resumed, standings still show what was before it.
    let mut rollout = scene.step(before, &mut plan);
    if let Some(active) = &mut rollout {
        if !scene.window_open && scene.is_held_up(active, before) {
            active.phase = Phase::AwaitingWindow;
        }
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

    /// Too many have drifted at once for each to be corrected by itself.
    fn is_reset(&self) -> bool {
        self.drifts > self.rules.bearable_drifts()
    }

    fn has_been_reset(&self) -> bool {
        self.is_reset() && self.has(|s| s == Standing::Drifted)
    }

    fn standing(&self, name: &str) -> Option<Standing> {
        self.members.get(name).map(|member| member.standing)
    }

    fn has(&self, matches: impl Fn(Standing) -> bool) -> bool {
        self.members.values().any(|member| matches(member.standing))
    }

    fn step(&self, record: Option<&Record>, plan: &mut Plan) -> Option<Record> {
        let Some(record) = record else { return self.begun(None, plan) };
        Some(match record.phase {
            Phase::Complete => self.begun(Some(record), plan).unwrap_or_else(|| record.clone()),
            Phase::Halted => self.advanced(record),
            Phase::Progressing if self.window_open => self.advanced(record),
            // No gateway follows canaries that may not have passed.
            _ if self.has_lost_its_canaries(record) => {
                let phase = if self.has(is_open) { record.phase } else { Phase::Complete };
                self.begun(Some(record), plan).unwrap_or_else(|| Record { phase, ..record.clone() })
            }
            _ => self.advanced(record),
        })
    }

    /// A new rollout, if one is needed and every gateway that may take part is known.
    fn begun(&self, record: Option<&Record>, plan: &mut Plan) -> Option<Record> {
        // What was reset stays with its rollout, also if that one has to begin again with other canaries.
        let again = self.is_of_drifts(record) || self.is_reset();
        let takes_part = |s| match s {
            Standing::Waiting | Standing::Failed { asks: true } => true,
            Standing::Drifted => again,
            _ => false,
        };
        if !self.has(takes_part) {
            return None;
        }
        if self.has(|s| s == Standing::Unread) {
            plan.undecided = true;
            return None;
        }
        let canaries = self.canaries(takes_part, plan)?;
        let phase = if canaries.is_empty() { Phase::Progressing } else { Phase::Canary };
        let target_hash = target_hash(self.target, again && self.has(|s| s == Standing::Drifted));
        Some(Record { phase, target_hash, canaries, soak_until: None, started: self.start(record) })
    }

    /// Now, or later than `before` and the latest change that statuses show.
    fn start(&self, before: Option<&Record>) -> Timestamp {
        let after = |time: Timestamp| later(time, Duration::from_secs(1));
        let earlier = [before.map(|record| record.started), self.latest_attempt];
        let earlier = earlier.into_iter().flatten().map(after);
        earlier
            .chain([self.now])
            .map(|time| whole(time, RoundMode::Floor))
            .fold(Timestamp::MIN, Timestamp::max)
    }

    fn canaries(&self, takes_part: impl Fn(Standing) -> bool, plan: &mut Plan) -> Option<Vec<String>> {
        let Some(canary) = &self.rules.canary else { return Some(Vec::new()) };
        match &canary.choice {
            Choice::First(count) => {
                let open = self.members.iter().filter(|(_, member)| takes_part(member.standing));
                Some(fitting(open.take(*count).map(|(name, _)| name)))
            }
            Choice::Named(names) => {
                plan.lacks_canaries = !names.iter().any(|name| self.members.contains_key(name));
                let readable =
                    |s| !matches!(s, Standing::Unread | Standing::Unreadable | Standing::Restoring);
                let present = names.iter().filter(|name| self.standing(name).is_some_and(readable));
                let present = fitting(present);
                (!present.is_empty()).then_some(present)
            }
        }
    }

    /// Every canary has been deleted, suspended, or goes to another policy.
    fn has_lost_its_canaries(&self, record: &Record) -> bool {
        !record.canaries.is_empty() && self.present(record).next().is_none()
    }

    fn present<'r>(&self, record: &'r Record) -> impl Iterator<Item = (&'r String, &Member)> {
        let members = record.canaries.iter().filter_map(|name| Some((name, self.members.get(name)?)));
        members.filter(|(_, member)| member.standing != Standing::Restoring)
    }

    fn advanced(&self, record: &Record) -> Record {
        let mut next = record.clone();
        let first = if record.canaries.is_empty() { Phase::Progressing } else { Phase::Canary };
        // What is reset while a rollout goes on takes part in it, to its end.
        if self.has_been_reset() {
            next.target_hash = target_hash(self.target, true);
        }
        match record.phase {
            Phase::Halted if !self.resume => return next,
            Phase::Halted => {
                (next.phase, next.started) = (first, self.start(Some(record)));
                return next;
            }
            // Canaries that have passed are known by the time of their check.
            Phase::AwaitingWindow => next.phase = first,
            Phase::Canary | Phase::AwaitingApproval | Phase::Progressing | Phase::Complete => {}
        }
        if next.phase == Phase::Canary && self.present(record).all(|(_, m)| m.standing == Standing::Proven) {
            let soak = self.rules.canary.as_ref().map_or(Duration::ZERO, |canary| canary.soak);
            next.soak_until.get_or_insert_with(|| whole(later(self.now, soak), RoundMode::Ceil));
        }
        let passed = match next.phase {
            Phase::Canary => self.present(record).all(|(_, m)| self.has_passed(&next, m)),
            // So they had before the wait.
            phase => phase == Phase::AwaitingApproval,
        };
        if passed {
            next.phase = if self.is_approved(&next) { Phase::Progressing } else { Phase::AwaitingApproval };
        }
        if self.has_failed(record, &next) {
            next.phase = Phase::Halted;
        } else if matches!(next.phase, Phase::AwaitingApproval | Phase::Progressing) && !self.has(is_open) {
            next.phase = Phase::Complete;
        }
        next
    }

    /// Whether the others may follow canaries that have passed.
    fn is_approved(&self, record: &Record) -> bool {
        let required = self.rules.canary.as_ref().is_some_and(|canary| canary.approval == Approval::Required);
        !required || self.approved == Some(&*record.target_hash)
    }

    /// Whether a canary was found healthy after the soak.
    fn has_passed(&self, record: &Record, member: &Member) -> bool {
        let until = record.soak_until.filter(|until| self.now >= *until);
        until.is_some_and(|until| member.checked.is_some_and(|checked| checked >= until))
    }

    fn has_failed(&self, record: &Record, next: &Record) -> bool {
        let failed = self.members.values().filter(|m| matches!(m.standing, Standing::Failed { .. })).count();
        // What waits for a window is judged when it opens: before, canaries may not have been changed, or have passed long ago.
        let soaks = record.phase == Phase::Canary && next.soak_until.is_some();
        let waits = next.phase == Phase::AwaitingApproval;
        let watched = waits || next.phase == Phase::Canary && (self.window_open || soaks);
        let lost = |m: &Member| m.is_lost() && (waits || !self.has_passed(next, m));
        failed > self.rules.max_failures || watched && self.present(next).any(|(_, m)| lost(m))
    }

    /// Whether a gateway waits for a window, or still does, though it is not known which since the operator was restarted.
    fn is_held_up(&self, record: &Record, before: Option<&Record>) -> bool {
        let drifts = self.is_of_drifts(Some(record)) || self.is_reset();
        let waited = before.is_some_and(|before| before.phase == Phase::AwaitingWindow);
        waited && matches!(record.phase, Phase::Canary | Phase::Progressing)
            || self.members.iter().any(|(name, member)| may_begin(record, drifts, name, member.standing))
    }

    fn to_be_checked(&self, record: &Record) -> Vec<String> {
        let soaked = record.soak_until.is_some_and(|until| self.now >= until);
        if !soaked || !matches!(record.phase, Phase::Canary | Phase::AwaitingWindow) {
            return Vec::new();
        }
        // What has to be changed first is checked after that: until then each check would end in the same wait.
        let waits = |s| match s {
            Standing::Waiting | Standing::Drifted | Standing::UnderWay => true,
            s => s == Standing::Failed { asks: true },
        };
        let open = self.present(record).filter(|(_, m)| !waits(m.standing) && !self.has_passed(record, m));
        open.map(|(name, _)| name.clone()).collect()
    }

    /// The gateways to change now: what is to be restored, then what has drifted, then the rollout's next.
    fn next(&self, record: Option<&Record>, plan: &Plan) -> Vec<String> {
        let under_way = self.members.values().filter(|m| m.standing == Standing::UnderWay).count();
        let free = self.rules.max_concurrent.saturating_sub(under_way + self.elsewhere);
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

/// A time in whole seconds, as statuses hold them.
fn whole(time: Timestamp, mode: RoundMode) -> Timestamp {
    time.round(TimestampRound::new().smallest(Unit::Second).mode(mode)).unwrap_or(time)
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(time)
}

/// Whether a rollout would change this gateway now, were there room and a window.
fn may_begin(record: &Record, drifts: bool, name: &str, standing: Standing) -> bool {
    let asks = match standing {
        Standing::Waiting | Standing::Failed { asks: true } => true,
        Standing::Drifted => drifts,
        _ => false,
    };
    let is_next = match record.phase {
        Phase::Canary | Phase::AwaitingApproval => record.canaries.iter().any(|canary| canary == name),
        Phase::Progressing => true,
        Phase::Complete | Phase::Halted | Phase::AwaitingWindow => false,
    };
    asks && is_next
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
