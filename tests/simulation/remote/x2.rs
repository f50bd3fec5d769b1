//! One X2 appliance, as the vendor's page on tokens describes it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::accounts::{Accounts, Role, jwt};
use super::call::{Call, Effect, Reply};

/// The lifetime that a new appliance has, in seconds.
pub const FACTORY: u32 = 86_400;

/// One appliance.
#[derive(Debug)]
pub struct Appliance {
    pub timeout: u32,
    pub accounts: Accounts,
    /// By how many seconds tokens last longer than is set.
    pub excess: i64,
    /// Who a token was issued to, and until when it is valid.
    tokens: BTreeMap<String, (String, Duration)>,
    issued: u64,
}

impl Appliance {
    pub fn new(timeout: u32) -> Self {
        Self { timeout, accounts: Accounts::default(), excess: 0, tokens: BTreeMap::new(), issued: 0 }
    }

    /// The factory setting, and none of the tokens issued before.
    pub fn factory_reset(&mut self) {
        self.timeout = FACTORY;
        self.tokens.clear();
    }

    /// Forgets all tokens, as a restart with a new signing secret does.
    pub fn forget_tokens(&mut self) {
        self.tokens.clear();
    }

    /// Carries out a request.
    pub fn serve(&mut self, call: &Call, now: Duration) -> (Reply, Effect) {
        match (call.method, call.path.as_str()) {
            ("POST", "/api2/tokens") => self.log_in(call, now),
            ("DELETE", "/api2/tokens") => match self.caller(call, now) {
                Some(user) => {
                    self.tokens.retain(|_, (owner, _)| *owner != user);
                    let answer = json!({"message": "All tokens invalidated successfully"});
                    (Reply::ok(&answer), Effect::Revoked { user })
                }
                None => (unauthorized("Invalid or expired token"), Effect::None),
            },
            ("GET" | "PUT", "/api2/token/timeout") => self.setting(call, now),
            _ => (Reply::status(404), Effect::None),
        }
    }

    fn log_in(&mut self, call: &Call, now: Duration) -> (Reply, Effect) {
        let (user, password) = call.credentials();
        let Some(role) = self.accounts.check(&user, &password) else {
            return (unauthorized("Invalid username or password"), Effect::LoginRefused { user, password });
        };
        self.issued += 1;
        let (begin, end) = (call.wall, call.wall + i64::from(self.timeout) + self.excess);
        let claims = json!({
            "exp": end, "hostname": "", "nbf": begin, "password": password, "port": "0",
            "role": role.as_str(), "secret": "", "username": user, "serial": self.issued,
        });
        let token = jwt(&claims);
        let valid_until = now + Duration::from_secs(self.timeout.into());
        self.tokens.insert(token.clone(), (user.clone(), valid_until));
        let answer = json!({"token": token, "role": role.as_str(), "id": 21, "source": "local"});
        (Reply::ok(&answer), Effect::LoggedIn { user, password })
    }

    fn setting(&mut self, call: &Call, now: Duration) -> (Reply, Effect) {
        let Some(user) = self.caller(call, now) else {
            return (unauthorized("Invalid or expired token"), Effect::None);
        };
        if self.accounts.role(&user) != Some(Role::Admin) {
            let answer = json!({"statusCode": 403, "error": "Forbidden", "message": "Admin role required"});
            return (Reply::refused(403, &answer), Effect::None);
        }
        if call.method == "GET" {
            return (Reply::ok(&json!({"timeout_seconds": self.timeout})), Effect::None);
        }
        let sent: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let Some(to) = sent["timeout_seconds"].as_u64().filter(|to| (600..=2_592_000).contains(to)) else {
            let message = "Timeout must be between 600 and 2592000 seconds";
            let answer = json!({"statusCode": 400, "error": "Bad Request", "message": message});
            return (Reply::refused(400, &answer), Effect::None);
        };
        let to = u32::try_from(to).expect("within the range");
        let from = std::mem::replace(&mut self.timeout, to);
        let answer = json!({"statusCode": 200, "message": "Successfully updated the token timeout."});
        (Reply::ok(&answer), Effect::Timeout { from, to })
    }

    fn caller(&self, call: &Call, now: Duration) -> Option<String> {
        let (user, until) = self.tokens.get(call.bearer()?)?;
        (*until > now).then(|| user.clone())
    }
}

fn unauthorized(message: &str) -> Reply {
    Reply::refused(401, &json!({"statusCode": 401, "error": "Unauthorized", "message": message}))
}
