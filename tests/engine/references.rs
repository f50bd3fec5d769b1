//! What may serve as a login, how large it may be, and what a reference that cannot be used leads to.

use tenure::engine::reason::Reason;
use tenure::engine::references::{LONGEST_USERNAME, Missing, Named, Unread, check_type, secret_text};

#[test]
fn only_secrets_meant_for_logins_are_logins() {
    for kind in [None, Some(""), Some("Opaque"), Some("kubernetes.io/basic-auth"), Some("tenure.dev/login")] {
        assert_eq!(check_type(kind, "x2-admin"), Ok(()), "{kind:?}");
    }
    for kind in [
        "kubernetes.io/service-account-token",
        "kubernetes.io/dockercfg",
        "kubernetes.io/dockerconfigjson",
        "kubernetes.io/ssh-auth",
        "kubernetes.io/tls",
        "bootstrap.kubernetes.io/token",
        "helm.sh/release.v1",
        "example.net/anything",
        "opaque",
    ] {
        let refused = check_type(Some(kind), "x2-admin").unwrap_err();
        assert_eq!(refused.reason, Reason::SecretTypeRefused);
        assert!(refused.message.contains("Secret x2-admin") && refused.message.contains(kind), "{refused:?}");
    }
    let long = "x".repeat(100_000);
    assert!(check_type(Some(&long), "x2-admin").unwrap_err().message.len() < 1024);
}

#[test]
fn a_value_of_a_secret_is_text_of_a_bounded_length() {
    let text = |value| secret_text(value, ("x2-admin", "username"), LONGEST_USERNAME);
    let longest = "a".repeat(LONGEST_USERNAME);
    assert_eq!(text(Some(longest.as_bytes())), Ok(longest.as_str()));
    let longer = [b'a'; LONGEST_USERNAME + 1];
    for (value, says) in [
        (None, "has no key username"),
        (Some(b"".as_slice()), "empty value for key username"),
        (Some(b"\xff"), "UTF-8 text for key username"),
        (Some(&longer), "more than 256 bytes for key username"),
    ] {
        let refused = text(value).unwrap_err();
        assert_eq!(refused.reason, Reason::SecretKeyMissing);
        assert!(refused.message.contains("Secret x2-admin") && refused.message.contains(says), "{refused:?}");
    }
}

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
