//! Permission to log in: the waiting around the rules of [`crate::engine::login`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::sync::oneshot;

use super::credentials::Credentials;
use crate::clock;
use crate::engine::login::{
    Account, Answer, Decision, Guesses, Holder, Identity, Ledger, LoginState, Moment, NotTried, Outcome,
    Pass, Refusal, SecretVersion, User,
};

/// How long to wait for logins that are requested at about the same time, before one of them is picked.
const GATHERING: Duration = Duration::from_millis(50);

/// Longest wait for others that try the same password. Three of them may do so at once, for ten seconds each.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// Grants logins.
#[derive(Debug, Default)]
pub struct Admission(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    ledger: Ledger,
    guesses: Guesses,
    /// The key of the hashes that represent users.
    users: RandomState,
    waiting: HashMap<u64, oneshot::Sender<Decision>>,
    /// Objects that are to log in again for the sake of others, and whether they have been notified.
    called: BTreeSet<Holder>,
    untold: Vec<Holder>,
}

impl State {
    /// Admits those that wait, as far as that is possible now.
    fn decide(&mut self, account: &Account) {
        for (id, decision) in self.ledger.decide(account, moment(), &mut clock::random) {
            // The waiting task is gone: dropping it reports that.
            let _ = self.waiting.remove(&id).map(|waiter| waiter.send(decision));
        }
    }

    /// A user at a system. Names that differ in case may be the same account.
    fn user(&self, Credentials { identity, username, .. }: &Credentials, system: &str) -> User {
        let name = self.users.hash_one(username.expose_secret().trim().to_ascii_lowercase());
        User { namespace: identity.account.namespace.clone(), system: system.to_owned(), name }
    }

    fn may_try(&mut self, user: &User, version: &SecretVersion) -> Result<(), NotTried> {
        let Self { ledger, guesses, .. } = self;
        let is_guest = || ledger.is_guest(&user.namespace, &user.system);
        guesses.may_try(user, version, is_guest, clock::uptime())
    }

    /// Has a system asked that let the user in before, if the next try is left to one.
    fn probe(&mut self, who: &Identity) {
        if let Some(holder) = self.ledger.probe(who, moment(), clock::random()) {
            self.called.insert(holder.clone());
            self.untold.push(holder);
        }
    }
}

fn moment() -> Moment {
    Moment { wall: clock::now().0, uptime: clock::uptime() }
}

/// Permission to log in once.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    admission: &'a Admission,
    who: Identity,
    user: User,
    id: u64,
    /// What is noted if it is dropped.
    outcome: Outcome,
    /// Whether others wait for the outcome.
    pub(crate) awaited: bool,
}

impl Ticket<'_> {
    /// It is this password's turn, unless too many others were refused.
    fn admitted(mut self, pass: Pass) -> Result<Self, NotTried> {
        let permitted = self.admission.state().may_try(&self.user, &self.who.version);
        permitted?;
        (self.awaited, self.outcome) = (pass.awaited, Outcome::Unknown);
        Ok(self)
    }

    /// Records the outcome of the login.
    pub(crate) fn ended(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        state.waiting.remove(&self.id);
        let (who, now) = (&self.who, moment());
        state.guesses.ended(&self.user, &who.version, self.outcome, now.uptime);
        state.ledger.ended(&who.account, self.id, self.outcome, now);
        state.decide(&who.account);
    }
}

impl Admission {
    /// `forget_after` is the time after which a refused password is tried again; by default it never is.
    #[must_use]
    pub(crate) fn new(forget_after: Option<Duration>) -> Self {
        Self(Mutex::new(State { ledger: Ledger::new(forget_after), ..State::default() }))
    }

    /// Waits for permission to log in at a system, by its effective URL.
    pub(crate) async fn enter(
        &self,
        credentials: &Credentials,
        system: &str,
    ) -> Result<Ticket<'_>, NotTried> {
        let who = &credentials.identity;
        let (ticket, decided) = {
            let mut state = self.state();
            let user = state.user(credentials, system);
            let ticket = |id| Ticket {
                admission: self,
                who: who.clone(),
                user,
                id,
                outcome: Outcome::Unsent,
                awaited: true,
            };
            let id = match state.ledger.want(who, credentials.fingerprint, system, moment()) {
                Answer::Now(Err(why)) => return Err(refused(&mut state, who, why)),
                Answer::Now(Ok(pass)) => {
                    drop(state);
                    return ticket(pass.id).admitted(pass);
                }
                Answer::Later(id) => id,
            };
            let (decide, decided) = oneshot::channel();
            state.waiting.insert(id, decide);
            (ticket(id), decided)
        };
        let mut decided = std::pin::pin!(decided);
        let decision = tokio::select! {
            biased;
            decision = &mut decided => decision,
            () = tokio::time::sleep(GATHERING) => {
                self.state().decide(&who.account);
                let late = Ok(Err(NotTried::Unanswered));
                tokio::time::timeout(LONGEST_WAIT, decided).await.unwrap_or(late)
            }
        };
        match decision {
            Ok(Ok(pass)) => ticket.admitted(pass),
            Ok(Err(why)) => Err(refused(&mut self.state(), who, why)),
            // Cannot happen: a waiting login is in the list until it is decided.
            Err(_) => Err(NotTried::Unanswered),
        }
    }

    /// Takes over what an object and its status show of logins, each time that they change.
    pub(crate) fn observe(&self, holder: &Holder, login: Option<LoginState>) {
        let mut state = self.state();
        if login.is_none() {
            state.called.remove(holder);
        }
        state.ledger.observe(holder, login);
    }

    /// A person requests another attempt.
    pub(crate) fn requested(&self, credentials: &Credentials, system: &str) {
        let Credentials { identity, fingerprint, .. } = credentials;
        let mut state = self.state();
        state.ledger.requested(identity, *fingerprint, system, moment());
        state.decide(&identity.account);
    }

    /// A system refuses a token that it issued.
    pub(crate) fn token_refused(&self, who: &Identity, system: &str) {
        self.state().ledger.token_refused(who, system, moment());
    }

    /// The refusal of a password by a system, if it was refused there.
    #[must_use]
    pub(crate) fn refusal(&self, who: &Identity, system: &str) -> Option<Refusal> {
        self.state().ledger.refusal(who, system)
    }

    /// Objects to wake, because they are to log in again.
    #[must_use]
    pub(crate) fn take_untold(&self) -> Vec<Holder> {
        std::mem::take(&mut self.state().untold)
    }

    /// Whether an object is to log in again.
    #[must_use]
    pub(crate) fn calls(&self, holder: &Holder) -> bool {
        self.state().called.contains(holder)
    }

    /// The same; takes the request.
    #[must_use]
    pub(crate) fn take_call(&self, holder: &Holder) -> bool {
        self.state().called.remove(holder)
    }

    /// The systems that objects log in to, by account.
    #[must_use]
    pub(crate) fn systems(&self) -> BTreeMap<Account, BTreeSet<String>> {
        self.state().ledger.systems()
    }

    /// Drops what no object uses anymore; to be called now and then.
    pub(crate) fn purge(&self) {
        let mut state = self.state();
        state.ledger.purge();
        state.guesses.purge(clock::uptime());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(state: &mut State, who: &Identity, why: NotTried) -> NotTried {
    if why == NotTried::Reserved {
        state.probe(who);
    }
    why
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use secrecy::SecretString;

    use super::super::credentials::SecretVersion;
    use super::*;

    fn credentials() -> Credentials {
        let keys = ("username".to_owned(), "password".to_owned());
        let account = Account { namespace: "a".to_owned(), secret: "login".to_owned(), keys };
        let version = SecretVersion { uid: "u".to_owned(), resource_version: "1".to_owned() };
        Credentials {
            identity: Identity { account, version },
            fingerprint: 1,
            username: SecretString::from("admin"),
            password: SecretString::from("admin"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silent_systems_delay_no_other_for_long() {
        let admission = Arc::new(Admission::default());
        let begun = clock::instant();
        let silent = (0..2).map(|index| (format!("silent-{index}"), Outcome::Unknown));
        let good = (0..50).map(|index| (format!("good-{index}"), Outcome::Accepted));
        let logins: Vec<_> = silent
            .chain(good)
            .map(|(system, outcome)| {
                let admission = Arc::clone(&admission);
                tokio::spawn(async move {
                    let ticket = admission.enter(&credentials(), &system).await.unwrap();
                    let answer = if outcome == Outcome::Unknown { 300 } else { 1 };
                    tokio::time::sleep(Duration::from_secs(answer)).await;
                    ticket.ended(outcome);
                    (outcome, begun.elapsed())
                })
            })
            .collect();
        for login in logins {
            let (outcome, took) = login.await.unwrap();
            // One of three places is left for systems that answer.
            assert!(outcome == Outcome::Unknown || took < Duration::from_secs(4), "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_or_trying_makes_room() {
        let admission = Admission::default();
        let me = credentials();
        let mut tickets = Vec::new();
        for system in ["a", "b", "c"] {
            tickets.push(admission.enter(&me, system).await.unwrap());
        }
        for system in ["d", "e"] {
            let given_up = tokio::time::timeout(Duration::from_secs(1), admission.enter(&me, system)).await;
            assert!(given_up.is_err(), "{system}");
        }
        drop(tickets.pop());
        tickets.push(admission.enter(&me, "f").await.unwrap());
        assert_eq!(admission.state().waiting.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_never_comes_is_waited_for_five_minutes() {
        let admission = Admission::default();
        let me = credentials();
        let mut tickets = Vec::new();
        for system in ["a", "b", "c"] {
            tickets.push(admission.enter(&me, system).await.unwrap());
        }
        let begun = clock::instant();
        let late = tokio::time::timeout(Duration::from_mins(6), admission.enter(&me, "d")).await.unwrap();
        assert_eq!(late.map(drop), Err(NotTried::Unanswered));
        assert!(begun.elapsed() > Duration::from_mins(4), "{:?}", begun.elapsed());
        assert_eq!(admission.state().waiting.len(), 0);
        drop(tickets);
        assert!(admission.enter(&me, "d").await.is_ok());
    }
}
