//! The endpoints of a simulated server.

use std::borrow::Cow;

use hyper::Method;
use serde::Deserialize;

use super::{
    Hall, LoginContentType, WritePath,
    accounts::{Refusal, Scope, Use},
    answers::{Failure, failure, not_found},
    customers::is_uuid,
    fields::Fields,
};
use crate::{
    requests::Kind,
    server::{Call, Reply},
};

/// What a call asks for, by method and path.
pub(super) enum Route<'a> {
    Login,
    Refresh,
    /// `GET /api/customer/{customerId}`.
    Read(&'a str),
    /// `POST /api/customer/` or `/api/customer`.
    Write {
        slash: bool,
    },
    Other,
}

impl<'a> Route<'a> {
    pub(super) fn of(call: &'a Call) -> Self {
        match (&call.method, call.path.as_str()) {
            (&Method::POST, "/api/auth/login") => Self::Login,
            (&Method::POST, "/api/auth/token") => Self::Refresh,
            (&Method::POST, "/api/customer/") => Self::Write { slash: true },
            (&Method::POST, "/api/customer") => Self::Write { slash: false },
            (&Method::GET, path) => {
                let id = path.strip_prefix("/api/customer/").filter(|id| !id.is_empty() && !id.contains('/'));
                id.map_or(Self::Other, Self::Read)
            }
            _ => Self::Other,
        }
    }

    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Login => Kind::Login,
            Self::Refresh => Kind::Refresh,
            Self::Read(_) => Kind::Get,
            Self::Write { .. } => Kind::Write,
            Self::Other => Kind::Other,
        }
    }
}

#[derive(Deserialize)]
struct Credentials<'a> {
    #[serde(borrow)]
    username: Cow<'a, str>,
    #[serde(borrow)]
    password: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RefreshRequest<'a> {
    #[serde(borrow)]
    refresh_token: Cow<'a, str>,
}

impl Hall {
    /// The customer a call is about: the one in its path or body, or the one whose user logs in.
    pub(super) fn customer_of(&self, call: &Call, route: &Route<'_>) -> Option<String> {
        match route {
            Route::Read(id) => Some((*id).to_owned()).filter(|id| is_uuid(id)),
            Route::Write { .. } => {
                let body = Fields::parse(std::str::from_utf8(&call.body).ok()?)?;
                let id = Fields::parse(body.get("id")?)?;
                serde_json::from_str(id.get("id")?).ok().filter(|id: &String| is_uuid(id))
            }
            Route::Login => {
                let given: Credentials<'_> = serde_json::from_slice(&call.body).ok()?;
                match self.accounts.lock().scope_of(&given.username)? {
                    Scope::CustomerUser(id) => Some(id.clone()),
                    Scope::TenantAdmin => None,
                }
            }
            Route::Refresh | Route::Other => None,
        }
    }

    pub(super) fn carry_out(&self, call: &Call) -> Reply {
        match Route::of(call) {
            Route::Login => self.log_in(call),
            Route::Refresh => self.refresh(call),
            Route::Read(id) => self.read(call, id),
            Route::Write { slash } => self.write(call, slash),
            Route::Other => not_found(),
        }
    }

    fn log_in(&self, call: &Call) -> Reply {
        let rules = *self.rules.lock();
        let accepted = match rules.login_content_type {
            LoginContentType::TextPlain => call.is_of_type("text/plain"),
            LoginContentType::Any => true,
        };
        if !accepted {
            return failure(Failure::General, "Content-Type is not supported");
        }
        let Ok(given) = serde_json::from_slice::<Credentials<'_>>(&call.body) else {
            return failure(Failure::General, "Invalid login request payload");
        };
        let mut accounts = self.accounts.lock();
        let user = match accounts.check_password(&given.username, &given.password) {
            Ok(user) => user,
            Err(Refusal::WrongPassword) => {
                return failure(Failure::Authentication, "Invalid username or password");
            }
            Err(Refusal::Locked) => {
                return failure(Failure::Authentication, "User account is locked due to security policy");
            }
        };
        let ttls = self.ttls_for(accounts.scope(user));
        let pair = accounts.issue(user, ttls);
        Reply::json(200, serde_json::to_vec(&pair).expect("two strings"))
    }

    fn refresh(&self, call: &Call) -> Reply {
        let Ok(given) = serde_json::from_slice::<RefreshRequest<'_>>(&call.body) else {
            return failure(Failure::General, "Invalid refresh token request payload");
        };
        let mut accounts = self.accounts.lock();
        match accounts.holder(&given.refresh_token) {
            Some((user, Use::Refresh)) => {
                let ttls = self.ttls_for(accounts.scope(user));
                let pair = accounts.issue(user, ttls);
                Reply::json(200, serde_json::to_vec(&pair).expect("two strings"))
            }
            Some((_, Use::Access)) => failure(Failure::General, "Invalid refresh token scope"),
            None => failure(Failure::Token, "Token has expired"),
        }
    }

    fn read(&self, call: &Call, id: &str) -> Reply {
        match self.caller(call) {
            Err(refusal) => refusal,
            Ok(Scope::CustomerUser(own)) if own != id => forbidden(),
            Ok(_) => self.customers.lock().show(id),
        }
    }

    fn write(&self, call: &Call, slash: bool) -> Reply {
        match self.caller(call) {
            Err(refusal) => return refusal,
            Ok(Scope::CustomerUser(_)) => return forbidden(),
            Ok(Scope::TenantAdmin) => {}
        }
        let served = match self.rules.lock().write_path {
            WritePath::WithSlash => slash,
            WritePath::WithoutSlash => !slash,
            WritePath::Both => true,
        };
        if !served {
            return not_found();
        }
        if !call.is_of_type("application/json") {
            return failure(Failure::General, "Content-Type is not supported");
        }
        match std::str::from_utf8(&call.body) {
            Ok(body) => self.customers.lock().save(body),
            Err(_) => failure(Failure::BadRequest, "Malformed JSON"),
        }
    }

    /// Who calls, or the answer to someone who may not.
    fn caller(&self, call: &Call) -> Result<Scope, Reply> {
        let token = call.header("x-authorization").and_then(|value| value.strip_prefix("Bearer "));
        let Some(token) = token.filter(|token| !token.is_empty() && !token.contains(' ')) else {
            return Err(Reply::empty(302).header("location", "/login"));
        };
        let accounts = self.accounts.lock();
        match accounts.holder(token) {
            Some((user, Use::Access)) => accounts.scope(user).cloned().ok_or_else(forbidden),
            Some((_, Use::Refresh)) => Err(failure(Failure::General, "Refresh token is no access token")),
            None => Err(failure(Failure::Token, "Token has expired")),
        }
    }
}

fn forbidden() -> Reply {
    failure(Failure::Permission, "You don't have permission to perform this operation!")
}
