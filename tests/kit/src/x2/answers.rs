//! The endpoints of an appliance, as on the vendor's page.

use hyper::Method;
use serde::{Deserialize, Serialize};

use super::device::{Caller, Device, Role, State};
use crate::{
    requests::Kind,
    server::{Call, Reply},
};

const TOKENS: &str = "/api2/tokens";
const TIMEOUT: &str = "/api2/token/timeout";

const ALL_INVALIDATED: &str = r#"{"message":"All tokens invalidated successfully"}"#;
const LOGGED_OUT: &str = r#"{"message":"Logged out successfully"}"#;
const UPDATED: &str = r#"{"statusCode":200,"message":"Successfully updated the token timeout."}"#;
const NO_HEADER: &str =
    r#"{"statusCode":400,"error":"Bad Request","message":"Authorization header is required"}"#;
const OUT_OF_RANGE: &str =
    r#"{"statusCode":400,"error":"Bad Request","message":"Timeout must be between 600 and 2592000 seconds"}"#;
const BAD_TOKEN: &str = r#"{"statusCode":401,"error":"Unauthorized","message":"Invalid or expired token"}"#;
const NOT_ADMIN: &str = r#"{"statusCode":403,"error":"Forbidden","message":"Admin role required"}"#;
// The page is silent on the following four.
const BAD_LOGIN: &str =
    r#"{"statusCode":401,"error":"Unauthorized","message":"Invalid username or password"}"#;
const BAD_BODY: &str = r#"{"statusCode":400,"error":"Bad Request","message":"Invalid request payload"}"#;
const NOT_JSON: &str =
    r#"{"statusCode":415,"error":"Unsupported Media Type","message":"Unsupported Media Type"}"#;
const NOT_FOUND: &str = r#"{"statusCode":404,"error":"Not Found","message":"Not Found"}"#;

/// What a request is for, by method and path.
pub(super) fn kind_of(call: &Call) -> Kind {
    match (&call.method, call.path.as_str()) {
        (&Method::POST, TOKENS) => Kind::Login,
        (&Method::DELETE, TOKENS) => Kind::Delete,
        (&Method::GET, TIMEOUT) => Kind::Get,
        (&Method::PUT, TIMEOUT) => Kind::Write,
        _ => Kind::Other,
    }
}

#[derive(Deserialize)]
struct Credentials<'a> {
    #[serde(borrow)]
    username: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    password: std::borrow::Cow<'a, str>,
}

#[derive(Serialize)]
struct Session<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    role: &'a str,
    id: usize,
    source: &'a str,
}

#[derive(Deserialize)]
struct Setting {
    /// Signed, so that a negative number is out of range rather than unreadable.
    timeout_seconds: i64,
}

#[derive(Serialize)]
struct Shown {
    timeout_seconds: u64,
}

impl Device {
    pub(super) fn answer(&self, call: &Call) -> Reply {
        match kind_of(call) {
            Kind::Login => self.log_in(call),
            Kind::Delete => self.log_out(call),
            Kind::Get => self.as_admin(call, |state| json(&Shown { timeout_seconds: state.timeout() })),
            Kind::Write => self.as_admin(call, |state| put_timeout(state, call)),
            Kind::Refresh | Kind::Other => Reply::json(404, NOT_FOUND),
        }
    }

    fn log_in(&self, call: &Call) -> Reply {
        let Ok(given) = serde_json::from_slice::<Credentials<'_>>(&call.body) else {
            return Reply::json(400, BAD_BODY);
        };
        let mut state = self.state.lock();
        let Some(user) = state.check_password(&given.username, &given.password) else {
            return Reply::json(401, BAD_LOGIN);
        };
        let token = self.issue(&mut state, user);
        // The page's sample shows id 21 for a local user.
        json(&Session { token, role: state.role_name(user), id: 21 + user, source: "local" })
    }

    fn log_out(&self, call: &Call) -> Reply {
        if call.header("authorization").is_none() {
            return Reply::json(400, NO_HEADER);
        }
        let mut state = self.state.lock();
        let (Caller::User(user) | Caller::LoggedOut(user)) = caller(&state, call) else {
            return Reply::json(401, BAD_TOKEN);
        };
        let any = state.log_out(user);
        Reply::json(200, if any { ALL_INVALIDATED } else { LOGGED_OUT })
    }

    fn as_admin(&self, call: &Call, act: impl FnOnce(&mut State) -> Reply) -> Reply {
        let mut state = self.state.lock();
        let Caller::User(user) = caller(&state, call) else {
            return Reply::json(401, BAD_TOKEN);
        };
        if state.role(user) != Some(Role::Admin) {
            return Reply::json(403, NOT_ADMIN);
        }
        act(&mut state)
    }
}

fn put_timeout(state: &mut State, call: &Call) -> Reply {
    if !call.is_of_type("application/json") {
        return Reply::json(415, NOT_JSON);
    }
    let Ok(setting) = serde_json::from_slice::<Setting>(&call.body) else {
        return Reply::json(400, BAD_BODY);
    };
    match u64::try_from(setting.timeout_seconds) {
        Ok(seconds @ 600..=2_592_000) => {
            state.put(seconds);
            Reply::json(200, UPDATED)
        }
        _ => Reply::json(400, OUT_OF_RANGE),
    }
}

fn caller(state: &State, call: &Call) -> Caller {
    let token = call.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    token.map_or(Caller::Unknown, |token| state.caller(token))
}

fn json(answer: &impl Serialize) -> Reply {
    Reply::json(200, serde_json::to_vec(answer).expect("an answer is plain data"))
}
