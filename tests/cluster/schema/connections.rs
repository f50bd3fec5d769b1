//! How a remote system is reached: the part that X2Gateway and KonaServer have in common.

use serde_json::{Value, json};

use super::super::fixture::*;
use super::{Case, accepts, field, judge, long, refuses, values};

const URL: &str = "must be a base URL such as https://10.20.0.11; port and path prefix are allowed, user info, query and \
    fragment are not";
const PROXY: &str =
    "must be scheme, host and port of a proxy, such as http://proxy.example:3128, without a user name";
const TIMEOUT: &str =
    "must be a duration between 1s and 5m in hours, minutes and seconds, such as 10s or 1m30s";
const NAME: &str = "must be the name of an object in this namespace: lower-case letters, digits, '-' and '.'";
const KEY: &str = "must be a key of the object's data: letters, digits, '-', '_' and '.'";
const SERVER_NAME: &str =
    "must be a host name from the certificate, such as x2.example.net, not an IP address";

/// The bare minimum of either kind.
fn bases() -> [Value; 2] {
    let spec = json!({"url": "https://10.20.0.11", "credentialsSecretRef": {"name": "login"}});
    ["X2Gateway", "KonaServer"].map(|kind| {
        json!({"apiVersion": "tenure.dev/v1alpha1", "kind": kind, "metadata": {"name": "bounds"}, "spec": spec})
    })
}

async fn judge_both(name: &str, cases: impl Fn() -> Vec<Case>) {
    let f = Fixture::new(name).await;
    for base in bases() {
        judge(&f, &base, cases()).await;
    }
    f.finish().await;
}

fn urls() -> Vec<Case> {
    let good = [
        "https://10.20.0.11",
        "http://10.20.0.11/",
        "https://x2.example.net",
        "https://x2.example.net.",
        "https://X2_1.Example.net:8443/prefix/of~it/",
        "https://[2001:db8::1]:1",
        "https://localhost:65535",
        "https://a/%20",
    ];
    let bad = [
        "",
        "10.20.0.11",
        "ftp://10.20.0.11",
        "HTTPS://10.20.0.11",
        "https://",
        "https:///path",
        "https://user@10.20.0.11",
        "https://user:password@10.20.0.11",
        "https://10.20.0.11?query",
        "https://10.20.0.11/path?query=1",
        "https://10.20.0.11#fragment",
        "https://10.20.0.11:99999",
        "https://10.20.0.11:65536",
        "https://10.20.0.11:0",
        "https://10.20.0.11:",
        "https://10.20.0.11:port",
        "https://a b",
        "https://-a",
        "https://10.20.0.11/\n",
        " https://10.20.0.11",
        "https://[2001:db8::1",
        "https://a/\\b",
    ];
    for url in good {
        assert!(tenure::engine::url::BaseUrl::parse(url).is_ok(), "{url} is accepted and must be understood");
    }
    let mut cases = field("url", &values(&good), URL, &values(&bad));
    cases.push(accepts(json!({"url": format!("https://a/{}", long(502))})));
    cases.push(refuses(
        "url",
        "may not be more than 512",
        json!({"url": format!("https://a/{}", long(503))}),
    ));
    cases.push(refuses("url", "Required value", json!({"url": null})));
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_scheme_and_host() {
    judge_both("url", urls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_url_is_scheme_host_and_port() {
    judge_both("proxy", || {
        let good = ["http://proxy.example:3128", "https://10.0.0.1", "http://[fd00::1]:8080/"];
        let bad = [
            "",
            "proxy.example:3128",
            "socks5://proxy.example:1080",
            "http://user:password@proxy.example:3128",
            "http://proxy.example:3128/path",
            "http://proxy.example:3128?query",
            "http://proxy.example:3128#fragment",
            "http://proxy.example:70000",
        ];
        let mut cases = field("proxyUrl", &values(&good), PROXY, &values(&bad));
        let too_long = format!("http://{}.example", long(504));
        cases.push(refuses("proxyUrl", "may not be more than 512", json!({"proxyUrl": too_long})));
        cases
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_timeout_is_a_duration_from_a_second_to_five_minutes() {
    judge_both("timeout", || {
        let good = ["1s", "10s", "90s", "1m30s", "5m", "300s", "4m60s"];
        let bad = [
            "", "0s", "0m", "301s", "5m1s", "1h", "10", "10 s", "1.5s", "500ms", "-1s", "1m30", "s", "30s1m",
            "1d", "999999s", "10S", "+1s",
        ];
        let mut cases = field("requestTimeout", &values(&good), TIMEOUT, &values(&bad));
        cases.push(refuses(
            "requestTimeout",
            "may not be more than 16",
            json!({"requestTimeout": "00001h00001m00001s"}),
        ));
        cases
    })
    .await;
}

fn name_cases(name: &'static str) -> Vec<Case> {
    let bad = ["-a", "a-", "A", "a_b", "a b", "a/b", "a..b", ".a", "a.", "a.-b", "ä"];
    let mut good = values(&["a", "a-b.c-d.9", "0"]);
    good.push(json!(long(253)));
    let mut cases = field(name, &good, NAME, &values(&bad));
    cases.extend(field(name, &[], "may not be more than 253", &[json!(long(254))]));
    cases.extend(field(name, &[], "should be at least 1 chars long", &[json!("")]));
    cases.extend(field(name, &[], "Required value", &[json!(null)]));
    cases
}

fn key_cases(name: &'static str) -> Vec<Case> {
    let mut good = values(&["a", "Ca_1.crt", "-", "0"]);
    good.push(json!(long(253)));
    let mut cases = field(name, &good, KEY, &values(&["a b", "a/b", "ä", "a\n"]));
    cases.extend(field(name, &[], "may not be more than 253", &[json!(long(254))]));
    cases.extend(field(name, &[], "should be at least 1 chars long", &[json!("")]));
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_keys_are_such_as_kubernetes_has() {
    judge_both("names", || {
        let mut cases = name_cases("credentialsSecretRef.name");
        cases.extend(key_cases("credentialsSecretRef.usernameKey"));
        cases.extend(key_cases("credentialsSecretRef.passwordKey"));
        cases.extend(name_cases("tls.caSecretRef.name"));
        cases.extend(name_cases("tls.caConfigMapRef.name"));
        let key = |reference: &str, key: &str| json!({"tls": {reference: {"name": "ca", "key": key}}});
        for (reference, path) in
            [("caSecretRef", "tls.caSecretRef.key"), ("caConfigMapRef", "tls.caConfigMapRef.key")]
        {
            cases.push(accepts(key(reference, "tls.crt")));
            cases.push(refuses(path, KEY, key(reference, "a b")));
            cases.push(refuses(path, "should be at least 1 chars long", key(reference, "")));
            cases.push(refuses(path, "may not be more than 253", key(reference, &long(254))));
        }
        cases.push(refuses("credentialsSecretRef", "Required value", json!({"credentialsSecretRef": null})));
        cases
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_takes_one_ca_and_a_host_name() {
    judge_both("tls", || {
        let good = ["x2.example.net", "X2", "a-b.c", "x2-1", "1.example", "0xa.example", "3com"];
        let bad = [
            "-a",
            "a-",
            "a..b",
            "a b",
            "https://a",
            "a:443",
            "*.example.net",
            "a_b",
            "10.20.0.11",
            "2130706433",
            "0x7f000001",
            "127.0x1",
            "a.1",
            "::1",
            "[::1]",
        ];
        let mut cases = field("tls.serverName", &values(&good), SERVER_NAME, &values(&bad));
        cases.extend(field("tls.serverName", &[], "may not be more than 253", &[json!(long(254))]));
        cases.extend(field("tls.serverName", &[], "should be at least 1 chars long", &[json!("")]));
        let (ca, both) =
            ("caSecretRef", json!({"tls": {"caSecretRef": {"name": "a"}, "caConfigMapRef": {"name": "b"}}}));
        cases.extend([
            accepts(json!({"tls": {}})),
            accepts(
                json!({"tls": {ca: {"name": "a"}, "serverName": "a.example", "insecureSkipVerify": true}}),
            ),
            accepts(json!({"tls": {"caConfigMapRef": {"name": "b"}}})),
            refuses("tls", "specify either caSecretRef or caConfigMapRef, not both", both),
            accepts(json!({"tls": {ca: {"name": "a"}}, "proxyUrl": "http://proxy.example:3128"})),
            accepts(json!({"tls": {"serverName": "a.example"}, "proxyUrl": "http://proxy.example:3128"})),
        ]);
        cases
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_are_true_or_false_and_unknown_fields_are_refused() {
    judge_both("switches", || {
        let mut cases = Vec::new();
        for switch in ["suspend", "allowPlaintext"] {
            cases.push(accepts(json!({switch: true})));
            cases.push(accepts(json!({switch: false})));
            cases.push(refuses("", switch, json!({switch: "yes"})));
        }
        cases.push(refuses("", "insecureSkipVerify", json!({"tls": {"insecureSkipVerify": 1}})));
        cases.push(refuses("", "field not declared in schema", json!({"pasword": "a"})));
        cases.push(refuses("", "field not declared in schema", json!({"tls": {"ca": "a"}})));
        cases.push(refuses(
            "",
            "field not declared in schema",
            json!({"credentialsSecretRef": {"namespace": "other"}}),
        ));
        cases
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kona_servers_limits_are_bounded() {
    let f = Fixture::new("limits").await;
    let [_, base] = bases();
    let mut cases = Vec::new();
    for (name, most, too_much) in [
        ("limits.requestsPerSecond", 1000, "should be less than or equal to 1000"),
        ("limits.maxConcurrent", 256, "should be less than or equal to 256"),
    ] {
        cases.extend(field(
            name,
            &values(&[1, most]),
            "should be greater than or equal to 1",
            &values(&[0, -1]),
        ));
        cases.extend(field(name, &[], too_much, &values(&[most + 1])));
    }
    judge(&f, &base, cases).await;
    f.finish().await;
}
