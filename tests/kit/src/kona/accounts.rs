//! The users of a simulated server and the tokens they were given.

use std::collections::HashMap;

use serde::Serialize;

use crate::{clock, jwt::Signer};

/// Whose user it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The tenant's administrator: reads and writes customers.
    TenantAdmin,
    /// A user of the customer with this id: reads that customer, and has its token lifetimes.
    CustomerUser(String),
}

/// A user of the server.
#[derive(Clone, Debug)]
pub struct KonaUser {
    /// Name to log in with.
    pub username: String,
    /// Password to log in with.
    pub password: String,
    /// Whose user it is.
    pub scope: Scope,
}

impl KonaUser {
    /// An administrator of the tenant.
    #[must_use]
    pub fn tenant_admin(username: &str, password: &str) -> Self {
        Self { username: username.to_owned(), password: password.to_owned(), scope: Scope::TenantAdmin }
    }

    /// A user of a customer.
    #[must_use]
    pub fn of_customer(username: &str, password: &str, customer_id: &str) -> Self {
        let scope = Scope::CustomerUser(customer_id.to_owned());
        Self { username: username.to_owned(), password: password.to_owned(), scope }
    }
}

/// What a token is good for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Access,
    Refresh,
}

struct Account {
    user: KonaUser,
    enabled: bool,
    wrong_in_a_row: u32,
}

struct Issued {
    user: usize,
    purpose: Use,
    /// Seconds since 1970 by the server's clock.
    expires: i64,
    live: bool,
}

/// Why nobody was let in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    WrongPassword,
    /// Disabled by hand or by too many wrong passwords.
    Locked,
}

/// A new pair of tokens, in the vendor's words.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pair {
    token: String,
    refresh_token: String,
}

/// Lifetimes of a new pair, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenTtls {
    /// Of the access token.
    pub access: u64,
    /// Of the refresh token.
    pub refresh: u64,
}

pub(super) struct Accounts {
    signer: Signer,
    members: Vec<Account>,
    issued: HashMap<String, Issued>,
    sessions: u64,
    lockout_after: Option<u32>,
    /// The server's clock against ours, in seconds.
    pub(super) clock_offset: i64,
}

impl Accounts {
    pub(super) fn new(secret: &[u8], lockout_after: Option<u32>) -> Self {
        Self {
            signer: Signer::hs512(secret),
            members: Vec::new(),
            issued: HashMap::new(),
            sessions: 0,
            lockout_after,
            clock_offset: 0,
        }
    }

    fn now(&self) -> i64 {
        clock::unix_seconds(self.clock_offset)
    }

    /// Adds a user, or replaces the one of that name.
    pub(super) fn set_user(&mut self, user: KonaUser) {
        let account = Account { user, enabled: true, wrong_in_a_row: 0 };
        match self.place(&account.user.username).and_then(|place| self.members.get_mut(place)) {
            Some(other) => *other = account,
            None => self.members.push(account),
        }
    }

    fn place(&self, username: &str) -> Option<usize> {
        self.members.iter().position(|account| account.user.username == username)
    }

    pub(super) fn scope_of(&self, username: &str) -> Option<&Scope> {
        self.members.get(self.place(username)?).map(|account| &account.user.scope)
    }

    pub(super) fn scope(&self, user: usize) -> Option<&Scope> {
        self.members.get(user).map(|account| &account.user.scope)
    }

    /// Changes a password, which invalidates the user's tokens; `false` when there is no such user.
    pub(super) fn set_password(&mut self, username: &str, password: &str) -> bool {
        self.change(username, |account| password.clone_into(&mut account.user.password))
    }

    /// Enables or disables a user, which invalidates its tokens; `false` when there is no such user.
    pub(super) fn set_enabled(&mut self, username: &str, enabled: bool) -> bool {
        self.change(username, |account| {
            account.enabled = enabled;
            account.wrong_in_a_row = 0;
        })
    }

    fn change(&mut self, username: &str, change: impl FnOnce(&mut Account)) -> bool {
        let Some(user) = self.place(username) else { return false };
        let Some(account) = self.members.get_mut(user) else { return false };
        change(account);
        self.invalidate(|issued| issued.user == user);
        true
    }

    pub(super) fn is_enabled(&self, username: &str) -> bool {
        let account = self.place(username).and_then(|place| self.members.get(place));
        account.is_some_and(|account| account.enabled)
    }

    /// Invalidates all access tokens, so that the next call is answered 401 and a refresh still works.
    pub(super) fn expire_access_tokens(&mut self) {
        self.invalidate(|issued| issued.purpose == Use::Access);
    }

    /// Invalidates everything.
    pub(super) fn expire_all_tokens(&mut self) {
        self.invalidate(|_| true);
    }

    fn invalidate(&mut self, which: impl Fn(&Issued) -> bool) {
        for issued in self.issued.values_mut().filter(|issued| which(issued)) {
            issued.live = false;
        }
    }

    /// The user this password lets in; too many wrong ones disable the user for good.
    pub(super) fn check_password(&mut self, username: &str, password: &str) -> Result<usize, Refusal> {
        let user = self.place(username).ok_or(Refusal::WrongPassword)?;
        let account = self.members.get_mut(user).ok_or(Refusal::WrongPassword)?;
        if !account.enabled {
            return Err(Refusal::Locked);
        }
        if account.user.password == password {
            account.wrong_in_a_row = 0;
            return Ok(user);
        }
        account.wrong_in_a_row = account.wrong_in_a_row.saturating_add(1);
        if self.lockout_after.is_some_and(|limit| account.wrong_in_a_row >= limit) {
            account.enabled = false;
            self.invalidate(|issued| issued.user == user);
        }
        Err(Refusal::WrongPassword)
    }

    /// The user and use of a token in force.
    pub(super) fn holder(&self, token: &str) -> Option<(usize, Use)> {
        let issued = self.issued.get(token)?;
        (issued.live && issued.expires > self.now()).then_some((issued.user, issued.purpose))
    }

    /// Issues a pair to a user.
    pub(super) fn issue(&mut self, user: usize, ttls: TokenTtls) -> Pair {
        let now = self.now();
        self.issued.retain(|_, issued| issued.expires > now);
        self.sessions += 1;
        let token = self.sign(user, Use::Access, ttls.access);
        let refresh_token = self.sign(user, Use::Refresh, ttls.refresh);
        Pair { token, refresh_token }
    }

    fn sign(&mut self, user: usize, purpose: Use, ttl: u64) -> String {
        let issued_at = self.now();
        let expires = issued_at.saturating_add_unsigned(ttl);
        let account = self.members.get(user).expect("callers pass the index of an account");
        let (scope, customer) = match &account.user.scope {
            Scope::TenantAdmin => ("TENANT_ADMIN", None),
            Scope::CustomerUser(id) => ("CUSTOMER_USER", Some(id.as_str())),
        };
        let access = purpose == Use::Access;
        let claims = Claims {
            sub: &account.user.username,
            user_id: format!("00000000-0000-4000-9000-{user:012}"),
            scopes: [if access { scope } else { "REFRESH_TOKEN" }],
            session_id: format!("00000000-0000-4000-a000-{:012}", self.sessions),
            iss: "kona.example.net",
            iat: issued_at,
            exp: expires,
            enabled: access.then_some(true),
            is_public: false,
            customer_id: customer.filter(|_| access),
        };
        let token = self.signer.sign(&claims);
        self.issued.insert(token.clone(), Issued { user, purpose, expires, live: true });
        token
    }
}

/// The payload of a token in the ThingsBoard family.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Claims<'a> {
    sub: &'a str,
    user_id: String,
    scopes: [&'a str; 1],
    session_id: String,
    iss: &'a str,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    is_public: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<&'a str>,
}
