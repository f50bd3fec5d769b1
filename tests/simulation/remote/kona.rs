//! One Kona server, as the vendor's page and a server of its family behave.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::accounts::{Accounts, Role, jwt};
use super::call::{Call, Effect, Reply};
use super::fields::Fields;

/// The lifetimes that tokens have where nothing is set, in seconds.
const DEFAULTS: (u64, u64) = (7_200, 86_400);

/// What differs from server to server.
#[derive(Clone, Copy, Debug)]
pub struct Make {
    /// Customers carry a version, and a stale one is refused.
    pub versions: bool,
    /// The path of customers is served with the slash at its end, as on the vendor's page; else only without.
    pub slash: bool,
    /// `additionalInfo` is answered as a string that holds the object.
    pub info_as_text: bool,
}

/// One server.
#[derive(Debug)]
pub struct Server {
    pub make: Make,
    pub accounts: Accounts,
    /// Customers by id.
    pub customers: BTreeMap<String, Fields>,
    /// Customers that a body without an id has created: there must never be one.
    pub created: u32,
    tokens: BTreeMap<String, Issued>,
    issued: u64,
}

#[derive(Debug)]
struct Issued {
    user: String,
    until: Duration,
    refresh: bool,
}

impl Server {
    pub fn new(make: Make) -> Self {
        Self {
            make,
            accounts: Accounts::default(),
            customers: BTreeMap::new(),
            created: 0,
            tokens: BTreeMap::new(),
            issued: 0,
        }
    }

    /// Forgets all tokens, as a new signing key does.
    pub fn forget_tokens(&mut self) {
        self.tokens.clear();
    }

    /// A colleague's change of a customer.
    pub fn edit(&mut self, id: &str, change: impl FnOnce(&mut Fields)) {
        let Some(customer) = self.customers.get_mut(id) else { return };
        change(customer);
        bump(customer);
    }

    /// Carries out a request.
    pub fn serve(&mut self, call: &Call, now: Duration) -> (Reply, Effect) {
        match (call.method, call.path.as_str()) {
            ("POST", "/api/auth/login") => self.log_in(call, now),
            ("POST", "/api/auth/token") => (self.refresh(call, now), Effect::None),
            ("POST", "/api/customer/") if self.make.slash => self.write(call, now),
            ("POST", "/api/customer") if !self.make.slash => self.write(call, now),
            ("GET", path) => (self.read(call, path, now), Effect::None),
            _ => (failure(404, 32), Effect::None),
        }
    }

    fn log_in(&mut self, call: &Call, now: Duration) -> (Reply, Effect) {
        let (user, password) = call.credentials();
        if self.accounts.check(&user, &password).is_none() {
            return (failure(401, 10), Effect::LoginRefused { user, password });
        }
        (self.issue(&user, call.wall, now), Effect::LoggedIn { user, password })
    }

    fn refresh(&mut self, call: &Call, now: Duration) -> Reply {
        let sent: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let token = sent["refreshToken"].as_str().unwrap_or_default();
        match self.tokens.get(token) {
            Some(issued) if issued.until <= now => failure(401, 11),
            Some(issued) if issued.refresh => {
                let user = issued.user.clone();
                self.issue(&user, call.wall, now)
            }
            Some(_) => failure(500, 2),
            None => failure(401, 11),
        }
    }

    fn issue(&mut self, user: &str, wall: i64, now: Duration) -> Reply {
        let (access, refresh) = self.lifetimes(user);
        let mut token = |seconds: u64, refresh: bool| {
            self.issued += 1;
            let end = wall + i64::try_from(seconds).expect("a lifetime in seconds");
            let token = jwt(&json!({"sub": user, "iat": wall, "exp": end, "jti": self.issued}));
            let until = now + Duration::from_secs(seconds);
            self.tokens.insert(token.clone(), Issued { user: user.to_owned(), until, refresh });
            token
        };
        let (token, refresh) = (token(access, false), token(refresh, true));
        Reply::ok(&json!({"token": token, "refreshToken": refresh}))
    }

    /// The lifetimes of a user's new tokens.
    fn lifetimes(&self, user: &str) -> (u64, u64) {
        let Some(Role::Customer(id)) = self.accounts.role(user) else { return DEFAULTS };
        let set = self.customers.get(&id).map(token_ttls).unwrap_or_default();
        (set.0.unwrap_or(DEFAULTS.0), set.1.unwrap_or(DEFAULTS.1))
    }

    fn read(&self, call: &Call, path: &str, now: Duration) -> Reply {
        let Some(user) = self.caller(call, now) else { return failure(401, 11) };
        let id = path.strip_prefix("/api/customer/").unwrap_or_default();
        if self
            .accounts
            .role(user)
            .is_some_and(|role| role != Role::Admin && role != Role::Customer(id.to_owned()))
        {
            return failure(403, 20);
        }
        match self.customers.get(id) {
            Some(customer) => {
                Reply { status: 200, body: self.shown(customer).into_bytes(), retry_after: None }
            }
            None => failure(404, 32),
        }
    }

    fn shown(&self, customer: &Fields) -> String {
        let mut shown = customer.clone();
        let info = customer.get("additionalInfo").filter(|info| info.starts_with('{'));
        if let Some(info) = info.filter(|_| self.make.info_as_text) {
            shown.set("additionalInfo", &serde_json::to_string(info).expect("a string"));
        }
        shown.text()
    }

    fn write(&mut self, call: &Call, now: Duration) -> (Reply, Effect) {
        let Some(user) = self.caller(call, now) else { return (failure(401, 11), Effect::None) };
        if self.accounts.role(user) != Some(Role::Admin) {
            return (failure(403, 20), Effect::None);
        }
        let sent = std::str::from_utf8(&call.body).ok().and_then(Fields::parse);
        let Some(mut sent) = sent else { return (failure(400, 31), Effect::None) };
        let Some(id) = id_of(&sent) else {
            self.created += 1;
            return (failure(400, 31), Effect::None);
        };
        let Some(stored) = self.customers.get(&id) else { return (failure(404, 32), Effect::None) };
        if let Some(version) = stored.get("version") {
            if sent.get("version").is_some_and(|theirs| theirs != "null" && theirs != version) {
                return (failure(409, 35), Effect::None);
            }
            sent.set("version", version);
            bump(&mut sent);
        }
        let before = stored.text();
        let echo = sent.text();
        let missing: Vec<String> = stored
            .iter()
            .filter(|(name, _)| sent.get(name).is_none())
            .map(|(name, _)| name.to_owned())
            .collect();
        missing.iter().for_each(|name| sent.set(name, "null"));
        let after = sent.text();
        self.customers.insert(id.clone(), sent);
        (
            Reply { status: 200, body: echo.into_bytes(), retry_after: None },
            Effect::Customer { id, before, after },
        )
    }

    fn caller(&self, call: &Call, now: Duration) -> Option<&str> {
        let issued = self.tokens.get(call.bearer()?)?;
        (issued.until > now && !issued.refresh).then_some(issued.user.as_str())
    }
}

/// The token lifetimes of a customer, in seconds, each if it is set.
pub fn token_ttls(customer: &Fields) -> (Option<u64>, Option<u64>) {
    let raw = customer.get("additionalInfo").unwrap_or("null");
    let inner = serde_json::from_str::<String>(raw).ok();
    let Some(info) = Fields::parse(inner.as_deref().unwrap_or(raw)) else { return (None, None) };
    let seconds = |name| info.get(name).and_then(|raw| raw.parse().ok()).filter(|seconds| *seconds > 0);
    (seconds("accessTokenTtlSeconds"), seconds("refreshTokenTtlSeconds"))
}

/// A customer with the fields of the vendor's page and some more.
pub fn customer(id: &str, title: &str, info: &str, versions: bool) -> Fields {
    let version = if versions { r#","version":1"# } else { "" };
    let text = format!(
        r#"{{"additionalInfo":{info},"address":"Hauptstrasse 1","address2":null,"city":"Berlin","createdTime":1700000000123,"devicesCount":12,"email":"ops@example.net","id":{{"entityType":"CUSTOMER","id":"{id}"}},"name":"{title}","odd":1.10,"large":12345678901234567890,"providerId":{{"entityType":"PROVIDER","id":"16fd2706-8baf-433b-82eb-8c7fada847da"}},"title":"{title}","zip":"10115"{version}}}"#
    );
    Fields::parse(&text).expect("a customer is a JSON object")
}

/// The id of a customer.
pub fn id_of(customer: &Fields) -> Option<String> {
    let id = Fields::parse(customer.get("id")?)?;
    serde_json::from_str(id.get("id")?).ok()
}

fn bump(customer: &mut Fields) {
    if let Some(version) = customer.get("version").and_then(|version| version.parse::<u64>().ok()) {
        customer.set("version", &(version + 1).to_string());
    }
}

fn failure(status: u16, code: u16) -> Reply {
    Reply::refused(
        status,
        &json!({"status": status, "message": "refused", "errorCode": code, "timestamp": 0}),
    )
}
