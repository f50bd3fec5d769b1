//! What a connection has to be before anything is asked.

use serde_json::{Value, json};
use tenure::crd::Connection;
use tenure::engine::connection::{Restrictions, validate};
use tenure::engine::ports::Ports;
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
            Restrictions { plaintext: true, ..none.clone() },
            Reason::PlaintextRefused,
            "--forbid-plaintext",
        ),
        (
            json!({"tls": {"insecureSkipVerify": true}}),
            Restrictions { insecure_tls: true, ..none.clone() },
            Reason::InsecureTlsRefused,
            "--forbid-insecure-tls",
        ),
        (
            json!({"tls": {"caConfigMapRef": {"name": "ca"}}}),
            Restrictions { custom_ca: true, ..none.clone() },
            Reason::CaUnusable,
            "--forbid-custom-ca",
        ),
        (
            json!({"tls": {"caSecretRef": {"name": "ca"}}}),
            Restrictions { custom_ca: true, ..none.clone() },
            Reason::CaUnusable,
            "--forbid-custom-ca",
        ),
        (
            json!({"proxyUrl": "http://proxy.example:3128"}),
            Restrictions { proxy: true, ..none.clone() },
            Reason::AddressRefused,
            "--forbid-proxy",
        ),
    ] {
        let connection = connection(&more);
        assert!(validate(&connection, &none).is_ok(), "{more}");
        let refused = validate(&connection, &restrictions).unwrap_err();
        assert_eq!(refused.reason, reason);
        assert!(refused.message.contains(flag), "{refused:?}");
    }
    let all = Restrictions {
        plaintext: true,
        insecure_tls: true,
        custom_ca: true,
        proxy: true,
        origins_required: true,
        ports: ports("443"),
    };
    assert!(validate(&connection(&json!({"tls": {"serverName": "x2.example.net"}})), &all).is_ok());
}

fn ports(text: &str) -> Vec<Ports> {
    text.split(',').map(|ports| ports.parse().unwrap()).collect()
}

#[test]
fn a_port_that_the_operator_does_not_list_is_refused() {
    let restrictions = Restrictions { ports: ports("443,8000-8100"), ..Restrictions::default() };
    for (more, field) in [
        (json!({"url": "https://10.20.0.11"}), None),
        (json!({"url": "https://10.20.0.11:8000", "proxyUrl": "http://proxy.example:8100"}), None),
        (json!({"url": "https://10.20.0.11:8443"}), Some("spec.url")),
        (json!({"url": "https://10.20.0.11:7999"}), Some("spec.url")),
        (json!({"url": "https://10.20.0.11:8101"}), Some("spec.url")),
        (json!({"url": "http://10.20.0.11", "allowPlaintext": true}), Some("spec.url")),
        (json!({"proxyUrl": "http://proxy.example:3128"}), Some("spec.proxyUrl")),
    ] {
        let refused = validate(&connection(&more), &restrictions).err();
        assert_eq!(refused.is_some(), field.is_some(), "{more}: {refused:?}");
        let Some((refused, field)) = refused.zip(field) else { continue };
        assert_eq!(refused.reason, Reason::AddressRefused);
        assert!(
            refused.message.starts_with(field) && refused.message.contains("--allow-ports"),
            "{refused:?}"
        );
    }
    for text in ["0", "65536", "9-8", "https", "-1", "1-", "", "1-2-3", "0-5"] {
        assert!(text.parse::<Ports>().is_err(), "{text}");
    }
}
