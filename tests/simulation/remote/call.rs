//! A request as a remote system receives it, its answer, and what it has changed.

use std::time::Duration;

use serde_json::Value;

/// A request.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: &'static str,
    pub path: String,
    pub token: Option<String>,
    pub body: Vec<u8>,
    /// The remote system's own clock, in seconds since 1970.
    pub wall: i64,
}

impl Call {
    /// The token of the request.
    pub fn bearer(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// User name and password in the body.
    pub fn credentials(&self) -> (String, String) {
        let sent: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let text = |name: &str| sent[name].as_str().unwrap_or_default().to_owned();
        (text("username"), text("password"))
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
    pub retry_after: Option<Duration>,
}

impl Reply {
    pub fn ok(body: &Value) -> Self {
        Self::refused(200, body)
    }

    pub fn refused(status: u16, body: &Value) -> Self {
        Self { status, body: body.to_string().into_bytes(), retry_after: None }
    }

    pub fn status(status: u16) -> Self {
        Self { status, body: Vec::new(), retry_after: None }
    }
}

/// What a request has changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    None,
    LoggedIn {
        user: String,
        password: String,
    },
    LoginRefused {
        user: String,
        password: String,
    },
    Revoked {
        user: String,
    },
    Timeout {
        from: u32,
        to: u32,
    },
    /// A customer was replaced; both as raw text.
    Customer {
        id: String,
        before: String,
        after: String,
    },
}
