//! The state of one appliance: its timeout, its users, and the tokens it has issued.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;

use super::{FACTORY_TIMEOUT, FleetOptions, address_of};
use crate::{clock, faults::Faults, jwt::Signer, server::Door};

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Not the token timeout.
    Viewer,
}

impl Role {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Viewer => "viewer",
        }
    }
}

/// A user of an appliance.
#[derive(Clone, Debug)]
pub struct X2User {
    /// Name to log in with.
    pub username: String,
    /// Password to log in with.
    pub password: String,
    /// What the user may do.
    pub role: Role,
}

impl X2User {
    /// A user.
    #[must_use]
    pub fn new(username: &str, password: &str, role: Role) -> Self {
        Self { username: username.to_owned(), password: password.to_owned(), role }
    }
}

/// What a PUT that is answered with "Successfully updated" really does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PutEffect {
    /// New tokens have the new lifetime.
    #[default]
    Applied,
    /// GET shows the new value; new tokens keep the old lifetime.
    ShownOnly,
    /// GET shows the new value; this many logins still get the old lifetime, the next one the new.
    AfterLogins(u32),
    /// Nothing at all.
    Dropped,
}

/// What a login answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenShape {
    /// A token as on the vendor's page.
    #[default]
    Genuine,
    /// A JWT without `exp`; the appliance accepts it.
    WithoutExp,
    /// A JWT without `nbf`; the appliance accepts it.
    WithoutNbf,
    /// This text instead of a JWT; the appliance accepts it.
    Text(String),
    /// No `token` in the answer.
    Missing,
}

/// One appliance.
pub(crate) struct Device {
    /// Such as `x2-0007`, as the log names it.
    pub(crate) name: Arc<str>,
    pub(crate) door: Door,
    pub(crate) faults: Faults,
    signer: Signer,
    pub(crate) state: Mutex<State>,
}

impl Device {
    pub(super) fn new(index: usize, seed: &[u8], options: &FleetOptions) -> Self {
        let name = options.names.get(index).cloned().unwrap_or_else(|| format!("x2-{index:04}"));
        let secret = [seed, name.as_bytes()].concat();
        Self {
            door: Door::new(address_of(index), format!("{name}.{}", options.domain)),
            name: name.into(),
            faults: Faults::default(),
            signer: Signer::hs256(&secret),
            state: Mutex::new(State::new(options)),
        }
    }

    /// A login with a password that was found right: the token the answer shows.
    pub(super) fn issue(&self, state: &mut State, user: usize) -> Option<String> {
        let lifetime = state.lifetime_for_login();
        let now = clock::unix_seconds(state.clock_offset);
        let expires = now.saturating_add_unsigned(lifetime);
        let account = state.accounts.get(user)?;
        let mut claims = Claims::new(now, expires, &account.user);
        let token = match &state.token_shape {
            TokenShape::Genuine => self.signer.sign(&claims),
            TokenShape::WithoutExp => {
                claims.exp = None;
                self.signer.sign(&claims)
            }
            TokenShape::WithoutNbf => {
                claims.nbf = None;
                self.signer.sign(&claims)
            }
            TokenShape::Text(text) => text.clone(),
            TokenShape::Missing => return None,
        };
        state.issued.retain(|_, issued| issued.expires > now);
        state.issued.insert(token.clone(), Issued { user, expires, tracked: true });
        Some(token)
    }
}

/// What changes at run time.
pub(crate) struct State {
    /// What GET shows.
    shown: u64,
    /// What a new token gets.
    lifetime: u64,
    /// Logins until `shown` becomes `lifetime`.
    lag: Option<u32>,
    pub(crate) put_effect: PutEffect,
    pub(crate) token_shape: TokenShape,
    /// The appliance's clock against ours, in seconds.
    pub(crate) clock_offset: i64,
    lockout_after: Option<u32>,
    accounts: Vec<Account>,
    issued: HashMap<String, Issued>,
}

struct Account {
    user: X2User,
    wrong_in_a_row: u32,
}

/// A token the appliance has issued.
struct Issued {
    user: usize,
    /// Seconds since 1970 by the appliance's clock.
    expires: i64,
    /// Cleared by a logout; such a token is good for nothing but another logout.
    tracked: bool,
}

/// Who sent a request, by the token in its header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// A user with a token in force.
    User(usize),
    /// A user whose tokens were all invalidated.
    LoggedOut(usize),
    Unknown,
}

impl State {
    fn new(options: &FleetOptions) -> Self {
        let accounts = options.users.iter().cloned().map(|user| Account { user, wrong_in_a_row: 0 });
        Self {
            shown: options.initial_timeout,
            lifetime: options.initial_timeout,
            lag: None,
            put_effect: PutEffect::default(),
            token_shape: TokenShape::default(),
            clock_offset: 0,
            lockout_after: options.lockout_after,
            accounts: accounts.collect(),
            issued: HashMap::new(),
        }
    }

    pub(crate) const fn timeout(&self) -> u64 {
        self.shown
    }

    pub(crate) const fn lifetime(&self) -> u64 {
        self.lifetime
    }

    /// Sets the timeout as an administrator at the console would, out of range or not.
    pub(crate) const fn set_timeout(&mut self, seconds: u64) {
        self.shown = seconds;
        self.lifetime = seconds;
        self.lag = None;
    }

    pub(crate) const fn factory_reset(&mut self) {
        self.set_timeout(FACTORY_TIMEOUT);
    }

    /// Carries out an accepted PUT.
    pub(super) const fn put(&mut self, seconds: u64) {
        match self.put_effect {
            PutEffect::Applied => self.set_timeout(seconds),
            PutEffect::ShownOnly => self.shown = seconds,
            PutEffect::AfterLogins(logins) => {
                self.shown = seconds;
                self.lag = Some(logins);
            }
            PutEffect::Dropped => {}
        }
    }

    const fn lifetime_for_login(&mut self) -> u64 {
        match self.lag {
            Some(0) => self.set_timeout(self.shown),
            Some(logins) => self.lag = Some(logins - 1),
            None => {}
        }
        self.lifetime
    }

    /// The user this password lets in; a wrong one is counted.
    pub(super) fn check_password(&mut self, username: &str, password: &str) -> Option<usize> {
        let index = self.accounts.iter().position(|account| account.user.username == username)?;
        let account = self.accounts.get_mut(index)?;
        let locked = self.lockout_after.is_some_and(|limit| account.wrong_in_a_row >= limit);
        if locked || account.user.password != password {
            account.wrong_in_a_row = account.wrong_in_a_row.saturating_add(1);
            return None;
        }
        account.wrong_in_a_row = 0;
        Some(index)
    }

    pub(super) fn caller(&self, token: &str) -> Caller {
        let now = clock::unix_seconds(self.clock_offset);
        match self.issued.get(token) {
            Some(issued) if issued.expires <= now => Caller::Unknown,
            Some(issued) if issued.tracked => Caller::User(issued.user),
            Some(issued) => Caller::LoggedOut(issued.user),
            None => Caller::Unknown,
        }
    }

    pub(super) fn role(&self, user: usize) -> Option<Role> {
        self.accounts.get(user).map(|account| account.user.role)
    }

    pub(super) fn role_name(&self, user: usize) -> &'static str {
        self.role(user).unwrap_or(Role::Viewer).as_str()
    }

    /// Invalidates the tokens of one user; whether there were any.
    pub(super) fn log_out(&mut self, user: usize) -> bool {
        let mut any = false;
        for issued in self.issued.values_mut().filter(|issued| issued.user == user) {
            any |= issued.tracked;
            issued.tracked = false;
        }
        any
    }

    /// Forgets every token, as if the appliance's signing secret had changed.
    pub(crate) fn forget_tokens(&mut self) {
        self.issued.clear();
    }

    /// Tokens in force.
    pub(crate) fn live_tokens(&self) -> usize {
        let now = clock::unix_seconds(self.clock_offset);
        self.issued.values().filter(|issued| issued.tracked && issued.expires > now).count()
    }

    /// Adds a user, or replaces the one of that name; lifts a lock, and invalidates nothing.
    pub(crate) fn set_user(&mut self, user: X2User) {
        let account = Account { user, wrong_in_a_row: 0 };
        let place = self.accounts.iter_mut().find(|other| other.user.username == account.user.username);
        match place {
            Some(other) => *other = account,
            None => self.accounts.push(account),
        }
    }

    /// Changes a password; `false` when there is no such user.
    pub(crate) fn set_password(&mut self, username: &str, password: &str) -> bool {
        let account = self.accounts.iter_mut().find(|account| account.user.username == username);
        account.is_some_and(|account| {
            password.clone_into(&mut account.user.password);
            account.wrong_in_a_row = 0;
            true
        })
    }

    pub(crate) fn is_locked(&self, username: &str) -> bool {
        let account = self.accounts.iter().find(|account| account.user.username == username);
        let wrong = account.map_or(0, |account| account.wrong_in_a_row);
        self.lockout_after.is_some_and(|limit| wrong >= limit)
    }
}

/// The payload of a token, in the order of the sample on the vendor's page.
#[derive(Serialize)]
struct Claims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    hostname: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    /// In clear, as on the page.
    password: &'a str,
    port: &'a str,
    role: &'a str,
    secret: &'a str,
    username: &'a str,
}

impl<'a> Claims<'a> {
    fn new(now: i64, expires: i64, user: &'a X2User) -> Self {
        Self {
            exp: Some(expires),
            hostname: "",
            nbf: Some(now),
            password: &user.password,
            port: "0",
            role: user.role.as_str(),
            secret: "",
            username: &user.username,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Claims, Role, X2User};
    use crate::jwt::Signer;

    #[test]
    fn a_token_has_the_header_and_payload_of_the_vendors_sample() {
        let sample = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE1NjUzNDMwODksImhvc3RuYW1lIjoiIiwibmJmIjox\
                      NTY1MjU2Njg5LCJwYXNzd29yZCI6IlF3ZXJ0eTEyMyIsInBvcnQiOiIwIiwicm9sZSI6ImFkbWluIiwic2VjcmV0I\
                      joiIiwidXNlcm5hbWUiOiJkZW5pcyJ9";
        let user = X2User::new("denis", "Qwerty123", Role::Admin);
        let token = Signer::hs256(b"any").sign(&Claims::new(1_565_256_689, 1_565_343_089, &user));
        assert_eq!(token.rsplit_once('.').unwrap().0, sample);
    }
}
