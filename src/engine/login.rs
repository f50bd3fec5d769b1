//! Which password may be tried where, so that no account is locked out: many systems may ask one directory.
//!
//! The rules, for one version of a Secret (an edit of its metadata alone makes no new version):
//!
//! 1. A system that refused the password is not tried again, unless a request or `--retry-refused-logins-after` allows it.
//! 2. Failures *in a row* since the password was last accepted anywhere are counted, across objects and restarts. After
//!    three it is tried nowhere, until the Secret changes or a request clears the row (at most once in ten minutes).
//! 3. The third try of a row is left to a system whose status shows that this user was let in there before, as long as there
//!    is one that may still let it in: so systems that refuse a user do not stop those that accept it.
//! 4. At most three tries whose outcome may count are under way at once (one after a request), in no fixed order, systems
//!    that let the user in before first. Shortly after an acceptance there is no such limit.
//! 5. A password that was never accepted, and whose tries remain unanswered, is tried ever more slowly.
//!
//! For all versions of all Secrets of a namespace together:
//!
//! 6. At most ten passwords of a user may be refused by a system within an hour, and three if only users of other namespaces
//!    have been let in there.
//!
//! All of it is state and time in, decisions out: who waits, and for how long, is up to the caller.

mod guesses;
mod identity;
mod row;
mod state;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use self::guesses::{Guesses, User};
pub use self::identity::{Account, Identity, SecretVersion};
use self::row::{Row, View};
pub use self::state::{LogsIn, Shown, account, login_state};
pub use self::words::{Failure, News, record, verdict};
use super::remote::{Fault, NoAnswer, Shown as Content};
use crate::crd::{Kind, RefusedLogin};

/// Longest login whose outcome others wait for.
pub const LONGEST: Duration = Duration::from_secs(10);
/// Time between two logins that are made elsewhere for the sake of the third try of a row.
const BETWEEN_PROBES: Duration = Duration::from_mins(1);

/// The time on both clocks: the wall clock, as statuses show it, and a monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Wall-clock time.
    pub wall: Timestamp,
    /// Monotonic time.
    pub uptime: Duration,
}

/// An object that logs in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What an object and its status show of logins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginState {
    /// Whose password it uses.
    pub account: Account,
    /// Effective URL of the system that it logs in to.
    pub system: String,
    /// Whether its status shows that the user was let in there, and has not been refused since.
    pub let_in: bool,
    /// When a login last succeeded there, if the status shows it.
    pub proven: Option<Timestamp>,
    /// Refused logins that the status shows.
    pub refused: Vec<RefusedLogin>,
}

/// Why a login is not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTried {
    /// This system refused it before.
    Here,
    /// Three systems in a row have refused it.
    InARow,
    /// Two systems in a row have refused it; the next try is left to one that let the user in before.
    Reserved,
    /// It was never accepted, and nothing is known of the latest tries.
    Unanswered,
    /// Too many other passwords of the user were refused there in the last hour.
    TooMany,
    /// Passwords of too many users of the namespace were refused in the last hour.
    TooManyUsers,
}

/// Permission to try a password once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Identifies the try.
    pub id: u64,
    /// Whether others wait for its outcome, so that it may last no longer than [`LONGEST`].
    pub awaited: bool,
}

/// What was decided.
pub type Decision = Result<Pass, NotTried>;

/// The answer to a request to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Decided at once.
    Now(Decision),
    /// The decision follows later, under this number.
    Later(u64),
}

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A token with a lifetime was issued.
    Accepted,
    /// The system refused user name or password.
    Refused,
    /// The system may have refused it: the answer was lost, late or made no sense.
    Unknown,
    /// The password was not sent.
    Unsent,
}

impl Outcome {
    /// What a failed login shows of the password.
    #[must_use]
    pub fn of_failed(login: &NoAnswer) -> Self {
        let error = match login {
            NoAnswer::Failed(error) => error,
            NoAnswer::NotSent => return Self::Unsent,
            NoAnswer::NotAwaited => return Self::Unknown,
        };
        match error.fault {
            // Something in front of the system answers with a 403, too.
            Fault::Status { code: 401, .. }
            | Fault::Refused { code: 401, .. }
            | Fault::Refused { code: 403, shown: Content::Vendor } => Self::Refused,
            Fault::Unreachable(_)
            | Fault::Tls(_)
            | Fault::AddressRefused(_)
            | Fault::Paused { .. }
            | Fault::NoTurn
            | Fault::OtherPeer => Self::Unsent,
            Fault::Status { .. } | Fault::Refused { .. } | Fault::TimedOut | Fault::Malformed(_) => {
                Self::Unknown
            }
        }
    }
}

/// Decisions on logins that waited.
pub type Settled = Vec<(u64, Decision)>;

/// A refused login, as a status shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When it was refused.
    pub time: Timestamp,
    /// How many failures in a row there had been, this one included.
    pub in_a_row: u32,
}

/// What is known of every password in use.
#[derive(Debug, Default)]
pub struct Ledger {
    forget_after: Option<Duration>,
    next: u64,
    accounts: BTreeMap<Arc<Account>, Entry>,
    logins: BTreeMap<Arc<Holder>, Arc<Account>>,
}

#[derive(Debug, Default)]
struct Entry {
    rows: BTreeMap<SecretVersion, Row>,
    /// The versions that were presented last, the newest first.
    presented: Vec<SecretVersion>,
    logins: BTreeMap<Arc<Holder>, (String, bool)>,
    /// Systems whose objects' statuses show that the user was let in, with the number of such objects.
    witnesses: BTreeMap<String, usize>,
    proven: Option<Timestamp>,
}

impl Entry {
    fn view<'a>(
        &'a mut self,
        version: &SecretVersion,
        now: Moment,
        forget_after: Option<Duration>,
    ) -> (&'a mut Row, View<'a>) {
        let row = self.rows.entry(version.clone()).or_default();
        (row, View { witnesses: &self.witnesses, proven: self.proven, forget_after, now })
    }

    /// Takes over which password a version holds. An older version with the same one passes on all that is known of it.
    fn present(&mut self, version: &SecretVersion, fingerprint: u64) {
        if self.presented.first() == Some(version) {
            return;
        }
        let same = self.rows.iter().find(|(other, row)| {
            *other != version && other.uid == version.uid && row.fingerprint == Some(fingerprint)
        });
        if let Some(older) = same.map(|(other, _)| other.clone()).filter(|other| other.is_older_than(version))
            && let Some(row) = self.rows.remove(&older)
        {
            self.rows.insert(version.clone(), row);
        }
        self.rows.entry(version.clone()).or_default().fingerprint = Some(fingerprint);
        self.presented.retain(|other| other != version);
        let place = usize::from(self.presented.first().is_some_and(|newest| version.is_older_than(newest)));
        self.presented.insert(place, version.clone());
        self.presented.truncate(2);
        let kept = &self.presented;
        self.rows.retain(|other, row| kept.contains(other) || row.is_busy() || version.is_older_than(other));
    }

    fn unseat(&mut self, holder: &Holder) {
        let Some((system, let_in)) = self.logins.remove(holder) else { return };
        if let_in && let Some(count) = self.witnesses.get_mut(&system) {
            *count -= 1;
            if *count == 0 {
                self.witnesses.remove(&system);
            }
        }
    }
}

impl Ledger {
    /// After `forget_after` a refused password is tried again; none: never.
    #[must_use]
    pub fn new(forget_after: Option<Duration>) -> Self {
        Self { forget_after, ..Self::default() }
    }

    /// Takes over what an object and its status show, each time that they change; None once the object is gone, paused or
    /// makes no sense.
    pub fn observe(&mut self, holder: &Holder, state: Option<LoginState>) {
        let before = self.logins.remove_entry(holder);
        if let Some(entry) = before.as_ref().and_then(|(_, account)| self.accounts.get_mut(account)) {
            entry.unseat(holder);
        }
        let Some(LoginState { account, system, let_in, proven, refused }) = state else { return };
        let holder = before.map_or_else(|| Arc::new(holder.clone()), |(holder, _)| holder);
        let account = self.shared(&account);
        self.logins.insert(Arc::clone(&holder), Arc::clone(&account));
        let entry = self.accounts.entry(account).or_default();
        if let_in {
            *entry.witnesses.entry(system.clone()).or_default() += 1;
        }
        entry.proven = entry.proven.max(proven);
        for login in &refused {
            let version = SecretVersion {
                uid: login.secret_uid.clone(),
                resource_version: login.secret_resource_version.clone(),
            };
            // Versions that are known to have been replaced are of no interest.
            let replaced = entry.presented.iter().any(|newer| version.is_older_than(newer));
            if !replaced || entry.rows.contains_key(&version) {
                let row = entry.rows.entry(version).or_default();
                row.recall(&system, Refusal { time: login.time.0, in_a_row: login.in_a_row.unwrap_or(1) });
            }
        }
        entry.logins.insert(holder, (system, let_in));
    }

    /// An account as it is known already: all objects of a fleet have the same.
    fn shared(&self, account: &Account) -> Arc<Account> {
        let known = self.accounts.get_key_value(account);
        known.map_or_else(|| Arc::new(account.clone()), |(known, _)| Arc::clone(known))
    }

    /// An object wants to log in. `fingerprint` represents user name and password: equal ones are the same password.
    pub fn want(&mut self, who: &Identity, fingerprint: u64, system: &str, now: Moment) -> Answer {
        self.next += 1;
        let (id, forget_after) = (self.next, self.forget_after);
        let entry = self.accounts.entry(self.shared(&who.account)).or_default();
        entry.present(&who.version, fingerprint);
        let (row, view) = entry.view(&who.version, now, forget_after);
        row.want(id, system, &view)
    }

    /// Decides on logins that wait, as far as that is possible now.
    pub fn decide(&mut self, account: &Account, now: Moment, random: &mut dyn FnMut() -> f64) -> Settled {
        let forget_after = self.forget_after;
        let Some(entry) = self.accounts.get_mut(account) else { return Settled::new() };
        let view = View { witnesses: &entry.witnesses, proven: entry.proven, forget_after, now };
        entry.rows.values_mut().flat_map(|row| row.decide(&view, random)).collect()
    }

    /// A try has ended, or the caller no longer waits for a decision.
    pub fn ended(&mut self, account: &Account, id: u64, outcome: Outcome, now: Moment) {
        let forget_after = self.forget_after;
        let Some(entry) = self.accounts.get_mut(account) else { return };
        let view = View { witnesses: &entry.witnesses, proven: entry.proven, forget_after, now };
        entry.rows.values_mut().for_each(|row| row.ended(id, outcome, &view));
    }

    /// A person asks for another try at a system.
    pub fn requested(&mut self, who: &Identity, fingerprint: u64, system: &str, now: Moment) {
        let forget_after = self.forget_after;
        let entry = self.accounts.entry(self.shared(&who.account)).or_default();
        entry.present(&who.version, fingerprint);
        let (row, view) = entry.view(&who.version, now, forget_after);
        row.requested(system, &view);
    }

    /// A system refuses a token that it issued: it may not know the user anymore.
    pub fn token_refused(&mut self, who: &Identity, system: &str, now: Moment) {
        let entry = self.accounts.get_mut(&who.account);
        if let Some(row) = entry.and_then(|entry| entry.rows.get_mut(&who.version)) {
            row.doubt(system, now.wall);
        }
    }

    /// The refusal of a password by a system, if it was refused there.
    #[must_use]
    pub fn refusal(&self, who: &Identity, system: &str) -> Option<Refusal> {
        self.accounts.get(&who.account)?.rows.get(&who.version)?.refusal(system)
    }

    /// Chooses an object whose system let the user in before, to make the third try of a row there: at most one per minute.
    pub fn probe(&mut self, who: &Identity, now: Moment, random: f64) -> Option<Holder> {
        let forget_after = self.forget_after;
        let entry = self.accounts.get_mut(&who.account)?;
        let view = View { witnesses: &entry.witnesses, proven: entry.proven, forget_after, now };
        let row = entry.rows.get_mut(&who.version)?;
        if row.probed.is_some_and(|at| now.uptime < at + BETWEEN_PROBES) {
            return None;
        }
        let hopeful = |(system, let_in): &(String, bool)| *let_in && row.is_hopeful(system, &view);
        let hopeful: Vec<&Holder> =
            entry.logins.iter().filter(|(_, state)| hopeful(state)).map(|(holder, _)| &**holder).collect();
        let chosen = pick(&hopeful, random).copied().cloned()?;
        row.probed = Some(now.uptime);
        row.probes += 1;
        Some(chosen)
    }

    /// Drops what no object uses anymore. Call it periodically.
    pub fn purge(&mut self) {
        self.accounts.retain(|_, entry| !entry.logins.is_empty() || entry.rows.values().any(Row::is_busy));
        for entry in self.accounts.values_mut() {
            let systems: BTreeSet<&String> = entry.logins.values().map(|(system, _)| system).collect();
            entry.rows.values_mut().for_each(|row| row.retain(|system| systems.contains(system)));
        }
    }

    /// Whether only users of other namespaces have been let in at a system.
    #[must_use]
    pub fn is_guest(&self, namespace: &str, system: &str) -> bool {
        let hosts = || self.accounts.iter().filter(|(_, entry)| entry.witnesses.contains_key(system));
        hosts().next().is_some() && hosts().all(|(account, _)| account.namespace != namespace)
    }

    /// The systems that objects log in to, by account.
    #[must_use]
    pub fn systems(&self) -> BTreeMap<Account, BTreeSet<String>> {
        let systems = |entry: &Entry| entry.logins.values().map(|(system, _)| system.clone()).collect();
        self.accounts.iter().map(|(account, entry)| (Account::clone(account), systems(entry))).collect()
    }

    /// How many passwords something is known of.
    #[must_use]
    pub fn passwords(&self) -> usize {
        self.accounts.values().map(|entry| entry.rows.len()).sum()
    }
}

/// One of several, by a random number in 0..1.
fn pick<T>(from: &[T], random: f64) -> Option<&T> {
    let last = from.len().checked_sub(1)?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a position among those waiting, kept in range"
    )]
    let position = (random.clamp(0.0, 1.0) * from.len() as f64) as usize;
    from.get(position.min(last))
}
