//! Errors in the form of the ThingsBoard family: `{status, message, errorCode, timestamp}`.

use crate::{clock, server::Reply};

/// What can be wrong, with its HTTP status and error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 500, code 2. Often the caller's fault.
    General,
    /// 401, code 10: a wrong password.
    Authentication,
    /// 401, code 11: expired, forged or logged-out token, disabled user, changed password.
    Token,
    /// 403, code 20.
    Permission,
    /// 400, code 31.
    BadRequest,
    /// 404, code 32.
    NotFound,
    /// 429, code 33; without `Retry-After`.
    TooManyRequests,
    /// 409, code 35.
    StaleVersion,
    /// 500, code 46.
    Database,
}

impl Failure {
    /// HTTP status and `errorCode`.
    #[must_use]
    pub const fn codes(self) -> (u16, u16) {
        match self {
            Self::General => (500, 2),
            Self::Authentication => (401, 10),
            Self::Token => (401, 11),
            Self::Permission => (403, 20),
            Self::BadRequest => (400, 31),
            Self::NotFound => (404, 32),
            Self::TooManyRequests => (429, 33),
            Self::StaleVersion => (409, 35),
            Self::Database => (500, 46),
        }
    }

    /// The body of such an answer.
    #[must_use]
    pub fn body(self, message: &str) -> String {
        let (status, code) = self.codes();
        let message = serde_json::Value::from(message);
        let timestamp = clock::since_epoch().as_millis();
        format!(r#"{{"status":{status},"message":{message},"errorCode":{code},"timestamp":{timestamp}}}"#)
    }
}

pub(super) fn failure(failure: Failure, message: &str) -> Reply {
    Reply::json(failure.codes().0, failure.body(message))
}

pub(super) fn not_found() -> Reply {
    failure(Failure::NotFound, "Requested item wasn't found!")
}
