//! What a connection has to be before anything is asked.

use serde_json::{Value, json};
use tenure::crd::Connection;
use tenure::engine::connection::{Restrictions, validate};
use tenure::engine::reason::Reason;

fn connection(more: &Value) -> Connection {
    let mut spec = json!({"url": "https://10.20.0.11", "credentialsSecretRef": {"name": "x2-admin"}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

#[test]
fn what_the_operator_forbids_is_refused_with_the_name_of_its_flag() {
    let none = Restrictions::default();
    for (more, restrictions, reason, flag) in [
        (
            json!({"url": "http://10.20.0.11", "allowPlaintext": true}),
            Restrictions { plaintext: true, ..none },
            Reason::PlaintextRefused,
            "--forbid-plaintext",
        ),
        (
            json!({"tls": {"insecureSkipVerify": true}}),
            Restrictions { insecure_tls: true, ..none },
            Reason::InsecureTlsRefused,
            "--forbid-insecure-tls",
        ),
        (
            json!({"tls": {"caConfigMapRef": {"name": "ca"}}}),
            Restrictions { custom_ca: true, ..none },
            Reason::CaUnusable,
            "--forbid-custom-ca",
        ),
        (
            json!({"tls": {"caSecretRef": {"name": "ca"}}}),
            Restrictions { custom_ca: true, ..none },
            Reason::CaUnusable,
            "--forbid-custom-ca",
        ),
        (
            json!({"proxyUrl": "http://proxy.example:3128"}),
            Restrictions { proxy: true, ..none },
            Reason::AddressRefused,
            "--forbid-proxy",
        ),
    ] {
        let connection = connection(&more);
        assert!(validate(&connection, none).is_ok(), "{more}");
        let refused = validate(&connection, restrictions).unwrap_err();
        assert_eq!(refused.reason, reason);
        assert!(refused.message.contains(flag), "{refused:?}");
    }
    let all = Restrictions {
        plaintext: true,
        insecure_tls: true,
        custom_ca: true,
        proxy: true,
        origins_required: true,
    };
    assert!(validate(&connection(&json!({"tls": {"serverName": "x2.example.net"}})), all).is_ok());
}
