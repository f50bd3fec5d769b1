//! What is known of one password.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Answer, Moment, NotTried, Outcome, Pass, Refusal, Settled, pick};

/// Failures in a row after which a password is tried nowhere.
const ROW: u32 = 3;
/// Probing logins without an outcome, after which the third try is no longer reserved for another system.
const PROBES: u32 = 3;
/// Time after an accepted login during which tries are not limited in number.
const FRESH: Duration = Duration::from_secs(30);
/// Shortest time between two clearings of a row at a user's request.
const BETWEEN_CLEARINGS: Duration = Duration::from_mins(10);
/// Unanswered tries of a password that was never accepted, after which it is tried more slowly.
const UNANSWERED: u32 = 9;
/// First pause between such tries. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Longest pause between such tries.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

/// What the rules take into account beside a password's own row.
pub(super) struct View<'a> {
    /// Systems that let the user in before.
    pub(super) witnesses: &'a BTreeMap<String, usize>,
    /// When a login with any version of the Secret is known to have succeeded last.
    pub(super) proven: Option<Timestamp>,
    pub(super) forget_after: Option<Duration>,
    pub(super) now: Moment,
}

impl View<'_> {
    fn is_forgotten(&self, at: Timestamp) -> bool {
        self.forget_after.is_some_and(|limit| self.now.wall.duration_since(at).unsigned_abs() >= limit)
    }
}

/// What a system last made of the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Accepted,
    Refused {
        in_a_row: u32,
    },
    /// Perhaps refused, or its tokens are.
    Doubtful,
    /// Refused, but a person requested another try.
    Forgiven,
}

/// What is known of one password.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Stands for user name and password.
    pub(super) fingerprint: Option<u64>,
    /// When logins were last made elsewhere for the sake of the third try, and how many of them came to nothing.
    pub(super) probed: Option<Duration>,
    pub(super) probes: u32,
    systems: BTreeMap<String, (Last, Timestamp)>,
    /// The latest refusal that a status shows from before this process, unless the row has been broken since.
    recorded: Option<Refusal>,
    /// Failures since then, and the time of the last.
    failures: u32,
    failed: Option<Timestamp>,
    /// Whether the row was broken in this process: what statuses show is older.
    broken: bool,
    accepted: Option<Duration>,
    acceptances: u64,
    unanswered: u32,
    unanswered_at: Duration,
    cleared: Option<Duration>,
    /// Whether the row was cleared at a user's request, and the password has not been accepted since.
    cautious: bool,
    trying: BTreeMap<u64, Try>,
    waiting: BTreeMap<u64, String>,
}

/// What the rules decide about a try now. None: it is to wait for the outcome of others.
type Judgement = Option<Result<Limit, NotTried>>;

/// Whether tries are limited in number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    None,
    Some,
}

/// A try under way.
#[derive(Debug)]
struct Try {
    system: String,
    limit: Limit,
    /// Acceptances before it began.
    began: u64,
}

impl Row {
    /// Whether a decision or an outcome is awaited.
    pub(super) fn is_busy(&self) -> bool {
        !self.trying.is_empty() || !self.waiting.is_empty()
    }

    pub(super) fn refusal(&self, system: &str) -> Option<Refusal> {
        match self.systems.get(system) {
            Some((Last::Refused { in_a_row }, time)) => Some(Refusal { time: *time, in_a_row: *in_a_row }),
            _ => None,
        }
    }

    /// Takes over a refusal that a status shows, unless something newer is known.
    pub(super) fn recall(&mut self, system: &str, refusal: Refusal) {
        if self.systems.get(system).is_some_and(|(_, at)| refusal.time <= *at) {
            return;
        }
        let Refusal { time, in_a_row } = refusal;
        self.systems.insert(system.to_owned(), (Last::Refused { in_a_row }, time));
        let is_later = |known: &Refusal| (known.time, known.in_a_row) < (time, in_a_row);
        if self.recorded.as_ref().is_none_or(is_later) {
            self.recorded = Some(refusal);
        }
    }

    /// A system's tokens are refused: it is no witness anymore.
    pub(super) fn doubt(&mut self, system: &str, at: Timestamp) {
        if self.refusal(system).is_none() {
            self.systems.insert(system.to_owned(), (Last::Doubtful, at));
        }
    }

    /// A person asks for another try.
    pub(super) fn requested(&mut self, system: &str, view: &View<'_>) {
        let now = view.now;
        if self.refusal(system).is_some() {
            self.systems.insert(system.to_owned(), (Last::Forgiven, now.wall));
        }
        let may_clear = self.cleared.is_none_or(|at| now.uptime >= at + BETWEEN_CLEARINGS);
        if self.in_a_row(view) > 0 && may_clear {
            self.break_row();
            (self.cleared, self.cautious) = (Some(now.uptime), true);
        }
    }

    pub(super) fn want(&mut self, id: u64, system: &str, view: &View<'_>) -> Answer {
        match self.judge(system, self.is_reserved(view), view) {
            Some(Err(why)) => Answer::Now(Err(why)),
            // Otherwise the same objects would always come first.
            Some(Ok(limit)) if limit == Limit::None || self.accepted.is_some() => {
                Answer::Now(Ok(self.admit(id, system.to_owned(), limit)))
            }
            _ => {
                self.waiting.insert(id, system.to_owned());
                Answer::Later(id)
            }
        }
    }

    /// Decides on logins that wait, as far as that is possible now.
    pub(super) fn decide(&mut self, view: &View<'_>, random: &mut dyn FnMut() -> f64) -> Settled {
        let mut settled = Settled::new();
        while !self.waiting.is_empty() && !self.is_full(view) {
            let reserved = self.is_reserved(view);
            let (mut ready, mut known, mut limit) = (Vec::new(), Vec::new(), Limit::Some);
            for (id, system) in &self.waiting {
                match self.judge(system, reserved, view) {
                    Some(Ok(judged)) => {
                        limit = judged;
                        if self.is_hopeful(system, view) { &mut known } else { &mut ready }.push(*id);
                    }
                    Some(Err(why)) => settled.push((*id, Err(why))),
                    None => {}
                }
            }
            for (id, decision) in &settled {
                if decision.is_err() {
                    self.waiting.remove(id);
                }
            }
            let first = if known.is_empty() { &ready } else { &known };
            let Some(first) = pick(first, random()).copied() else { break };
            let admitted = if limit == Limit::None { [known, ready].concat() } else { vec![first] };
            for id in admitted {
                if let Some(system) = self.waiting.remove(&id) {
                    settled.push((id, Ok(self.admit(id, system, limit))));
                }
            }
        }
        settled
    }

    /// A try has ended, or the caller no longer waits for a decision.
    pub(super) fn ended(&mut self, id: u64, outcome: Outcome, view: &View<'_>) {
        self.waiting.remove(&id);
        let Some(tried) = self.trying.remove(&id) else { return };
        let now = view.now;
        let last = match outcome {
            Outcome::Unsent => return,
            Outcome::Accepted => {
                self.break_row();
                (self.accepted, self.unanswered, self.cautious) = (Some(now.uptime), 0, false);
                self.acceptances += 1;
                Last::Accepted
            }
            Outcome::Refused => Last::Refused { in_a_row: self.count_refusal(&tried, view) },
            Outcome::Unknown => {
                self.unanswered = self.unanswered.saturating_add(1);
                self.unanswered_at = now.uptime;
                Last::Doubtful
            }
        };
        self.probes = 0;
        self.systems.insert(tried.system, (last, now.wall));
    }

    pub(super) fn retain(&mut self, in_use: impl Fn(&String) -> bool) {
        self.systems.retain(|system, _| in_use(system));
    }

    /// Whether a system let the user in before, and may do so now.
    pub(super) fn is_hopeful(&self, system: &str, view: &View<'_>) -> bool {
        match self.systems.get(system) {
            Some((Last::Accepted, _)) => true,
            Some((Last::Refused { .. } | Last::Doubtful, _)) => false,
            Some((Last::Forgiven, _)) | None => view.witnesses.contains_key(system),
        }
    }

    fn admit(&mut self, id: u64, system: String, limit: Limit) -> Pass {
        self.trying.insert(id, Try { system, limit, began: self.acceptances });
        Pass { id, awaited: limit == Limit::Some }
    }

    /// Counts a refusal, and returns how many there have been in a row.
    fn count_refusal(&mut self, tried: &Try, view: &View<'_>) -> u32 {
        // What has been forgotten does not count anymore.
        if self.in_a_row(view) == 0 {
            self.break_row();
        }
        let unlimited = tried.limit == Limit::None;
        // The password has been accepted elsewhere since this try began: this system alone refuses it.
        let alone = unlimited && tried.began < self.acceptances;
        // Among many at once, too, the third place is left to a system that let the user in before.
        let reserved = unlimited
            && self.in_a_row(view) + 1 >= ROW
            && !self.is_hopeful(&tried.system, view)
            && self.has_witness(view);
        if !alone && !reserved {
            self.failures += 1;
            self.failed = Some(view.now.wall);
        }
        self.in_a_row(view).max(1)
    }

    fn break_row(&mut self) {
        (self.failures, self.failed, self.broken) = (0, None, true);
    }

    /// Failures in a row.
    fn in_a_row(&self, view: &View<'_>) -> u32 {
        let counts = |refusal: &Refusal| {
            !self.broken
                && view.proven.is_none_or(|proven| refusal.time >= proven)
                && !view.is_forgotten(refusal.time)
        };
        let recorded = self.recorded.filter(counts).map_or(0, |refusal| refusal.in_a_row);
        let own = self.failed.filter(|at| !view.is_forgotten(*at)).map_or(0, |_| self.failures);
        recorded.saturating_add(own)
    }

    fn under_way(&self) -> u32 {
        u32::try_from(self.trying.len()).unwrap_or(u32::MAX)
    }

    /// Whether no try can be admitted or rejected before a try under way has ended.
    fn is_full(&self, view: &View<'_>) -> bool {
        let failures = self.in_a_row(view);
        failures < ROW && !self.is_open(failures, view) && self.under_way() >= self.room(failures)
    }

    /// How many tries may be under way.
    fn room(&self, failures: u32) -> u32 {
        let quiet = self.accepted.is_none() && self.unanswered >= UNANSWERED;
        if self.cautious || quiet { 1 } else { ROW - failures.min(ROW) }
    }

    /// Whether the password was accepted a moment ago, and refused nowhere since.
    fn is_open(&self, failures: u32, view: &View<'_>) -> bool {
        failures == 0 && self.accepted.is_some_and(|at| view.now.uptime < at + FRESH)
    }

    /// Whether the next try would be the third of a row, and there is a system it is left to.
    fn is_reserved(&self, view: &View<'_>) -> bool {
        self.in_a_row(view) + self.under_way() == ROW - 1 && self.probes < PROBES && self.has_witness(view)
    }

    /// Whether there is a system that let the user in before, may do so now, and is not being asked.
    fn has_witness(&self, view: &View<'_>) -> bool {
        view.witnesses.keys().any(|system| self.is_hopeful(system, view) && !self.is_tried_now(system))
    }

    fn is_tried_now(&self, system: &str) -> bool {
        self.trying.values().any(|tried| tried.system == system)
    }

    fn judge(&self, system: &str, reserved: bool, view: &View<'_>) -> Judgement {
        let failures = self.in_a_row(view);
        if let Some((Last::Refused { .. }, at)) = self.systems.get(system)
            && !view.is_forgotten(*at)
        {
            return Some(Err(NotTried::Here));
        }
        if failures >= ROW {
            return Some(Err(NotTried::InARow));
        }
        if self.is_open(failures, view) {
            return Some(Ok(Limit::None));
        }
        if self.under_way() >= self.room(failures) || self.is_tried_now(system) {
            return None;
        }
        if reserved && !self.is_hopeful(system, view) {
            return if self.trying.is_empty() { Some(Err(NotTried::Reserved)) } else { None };
        }
        if self.accepted.is_none() && self.unanswered >= UNANSWERED {
            let doublings = (self.unanswered - UNANSWERED).min(6);
            let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
            if view.now.uptime < self.unanswered_at + pause {
                return Some(Err(NotTried::Unanswered));
            }
        }
        Some(Ok(Limit::Some))
    }
}
