//! What is reported about a failed login, and which refused logins a status remembers.

use super::{NotTried, Refusal, SecretVersion};
use crate::crd::{RefusedLogin, Time};
use crate::engine::verdict::{Reason, Verdict};

/// Why a login failed, or why its token cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// User name and password were refused now.
    Refused,
    /// They were not tried.
    NotTried(NotTried),
    /// The password was accepted as the first of two steps only.
    Half,
    /// The user is known, but lacks the role admin.
    NotAdmin,
    /// Even a token that was just issued is refused.
    TokenRefused,
}

/// What to report of it. `system` is what the remote system is called, `secret` the Secret's name.
#[must_use]
pub fn verdict(failure: Failure, system: &str, secret: &str) -> Verdict {
    let reason = match failure {
        Failure::NotAdmin => Reason::AdminRoleRequired,
        Failure::NotTried(NotTried::Unanswered) => Reason::TimedOut,
        _ => Reason::AuthenticationFailed,
    };
    let message = match failure {
        Failure::Refused => not_tried(NotTried::Here, system, secret),
        Failure::NotTried(why) => not_tried(why, system, secret),
        Failure::Half => format!(
            "{system} accepted the password of Secret {secret} only as the first of several steps (two-factor authentication). Use a user \
             that can log in with only a password."
        ),
        Failure::NotAdmin => format!(
            "{system} accepted the login, but the user of Secret {secret} lacks the role admin. Grant the role, or use another user."
        ),
        Failure::TokenRefused => format!(
            "{system} rejects tokens that it has just issued to the user of Secret {secret}. Check the system's clock and the settings of \
             this user."
        ),
    };
    Verdict { reason, message }
}

fn not_tried(why: NotTried, system: &str, secret: &str) -> String {
    match why {
        NotTried::Here => format!(
            "{system} rejected the user name or password of Secret {secret}, or the account is disabled or locked. Correct the Secret, or \
             repair the account and set the annotation tenure.dev/reconcile-requested-at to a new value to retry the login."
        ),
        NotTried::InARow => format!(
            "The user name or password of Secret {secret} was rejected by three systems in a row and is not tried here, to avoid locking \
             the account: correct the Secret, or set the annotation tenure.dev/reconcile-requested-at to try it again."
        ),
        NotTried::Reserved => format!(
            "The user name or password of Secret {secret} was rejected by other systems. To avoid locking the account, it is tried here only after a system that \
             accepted it before accepts it again: correct the Secret, or the user on those systems."
        ),
        NotTried::TooMany => format!(
            "{system} has rejected several passwords of this user within an hour. To avoid locking the account, the password of Secret {secret} is \
             tried only after that hour."
        ),
        NotTried::TooManyUsers => format!(
            "Systems have rejected the passwords of more than 4,000 logins of this namespace within an hour, so the password of Secret {secret} \
             is tried only after that hour. Correct the Secrets, or delete the resources that use them."
        ),
        NotTried::Unanswered => format!(
            "The latest logins with Secret {secret} got no answer, and no system has accepted its password yet. The login is retried at intervals of up to 10m. \
             Check that the systems that use this Secret are reachable."
        ),
    }
}

/// What is new about an object's logins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The user was let in.
    LetIn,
    /// The object no longer logs in, or logs in to another system.
    Elsewhere,
    /// The login is refused.
    Refused(RefusedLogin),
}

impl News {
    /// A system has refused a password.
    #[must_use]
    pub fn refused(version: &SecretVersion, Refusal { time, in_a_row }: Refusal) -> Self {
        Self::Refused(RefusedLogin {
            secret_uid: version.uid.clone(),
            secret_resource_version: version.resource_version.clone(),
            time: Time(time),
            in_a_row: Some(in_a_row),
        })
    }
}

/// Takes news over into the refused logins that a status remembers: the newest first, two at most.
pub fn record(list: &mut Vec<RefusedLogin>, news: &News) {
    match news {
        News::LetIn | News::Elsewhere => list.clear(),
        News::Refused(refused) => {
            let version =
                |login: &RefusedLogin| (login.secret_uid.clone(), login.secret_resource_version.clone());
            list.retain(|login| version(login) != version(refused));
            list.insert(0, refused.clone());
            list.truncate(2);
        }
    }
}
