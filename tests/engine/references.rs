//! What a reference that cannot be used leads to.

use tenure::engine::reason::Reason;
use tenure::engine::references::{Missing, Named, Unread, refuse_type, secret_text};

#[test]
fn what_cannot_be_read_is_reported_unless_nothing_is_known_of_it() {
    for (kind, missing, reason, word) in [
        (Named::Secret, Missing::NotFound, Reason::SecretNotFound, "create"),
        (Named::Secret, Missing::Forbidden, Reason::SecretNotFound, "Grant"),
        (Named::ConfigMap, Missing::NotFound, Reason::ConfigMapNotFound, "create"),
        (Named::ConfigMap, Missing::Forbidden, Reason::ConfigMapNotFound, "Grant"),
    ] {
        let Unread::Refused(verdict) = kind.unread("login", missing) else { panic!("{kind:?} {missing:?}") };
        assert_eq!(verdict.reason, reason);
        assert!(verdict.message.contains("login") && verdict.message.contains(word), "{}", verdict.message);
    }
    assert_eq!(Named::Secret.unread("login", Missing::NoAnswer), Unread::Silence);
}

#[test]
fn a_login_is_text_in_a_secret_that_is_none_of_kubernetes_own() {
    assert!(refuse_type(Some("Opaque"), "login").is_ok() && refuse_type(None, "login").is_ok());
    let refused = refuse_type(Some("kubernetes.io/service-account-token"), "login").unwrap_err();
    assert_eq!(refused.reason, Reason::SecretTypeRefused);
    assert_eq!(secret_text(Some(b"admin"), "login", "username").as_deref(), Ok("admin"));
    for value in [None, Some([].as_slice()), Some(&[0xff])] {
        assert_eq!(secret_text(value, "login", "username").unwrap_err().reason, Reason::SecretKeyMissing);
    }
}
