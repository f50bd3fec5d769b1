//! The Kona server, endpoint by endpoint.

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tenure_kit::{
    faults::Fault,
    kona::{Failure, InfoForm, KonaOptions, KonaServer, KonaUser, TokenTtls, WritePath},
    requests::{Counts, Kind},
};

use crate::{answer, client, difference, json, payload};

const ID: &str = "1d2b7a10-4f1e-11ee-be56-0242ac120002";
const TENANT: (&str, &str) = ("tenant@example.net", "kona-admin-password");

/// A server over plain HTTP and someone who asks it.
struct Asker {
    http: reqwest::Client,
    server: KonaServer,
}

impl Asker {
    fn new(options: KonaOptions) -> Self {
        let server = KonaServer::start(KonaOptions { tls: false, ..options }).unwrap();
        Self { http: client(None), server }
    }

    fn login(&self, (username, password): (&str, &str)) -> RequestBuilder {
        let body = json!({"username": username, "password": password}).to_string();
        self.http
            .post(format!("{}/api/auth/login", self.server.url()))
            .header("content-type", "text/plain")
            .body(body)
    }

    /// Access and refresh token of a login that succeeds.
    async fn pair(&self, user: (&str, &str)) -> (Value, Value) {
        let (status, mut pair) = json(self.login(user)).await;
        assert_eq!(status, 200, "{pair}");
        (pair["token"].take(), pair["refreshToken"].take())
    }

    async fn token(&self) -> String {
        self.pair(TENANT).await.0.as_str().unwrap().to_owned()
    }

    fn refresh(&self, token: &Value) -> RequestBuilder {
        self.http.post(format!("{}/api/auth/token", self.server.url())).json(&json!({"refreshToken": token}))
    }

    fn get(&self, token: &str, id: &str) -> RequestBuilder {
        let url = format!("{}/api/customer/{id}", self.server.url());
        self.http.get(url).header("x-authorization", format!("Bearer {token}"))
    }

    fn post_to(&self, path: &str, token: &str, body: &str) -> RequestBuilder {
        let request = self.http.post(format!("{}{path}", self.server.url())).body(body.to_owned());
        request
            .header("content-type", "application/json")
            .header("x-authorization", format!("Bearer {token}"))
    }

    fn post(&self, token: &str, body: &str) -> RequestBuilder {
        self.post_to("/api/customer/", token, body)
    }
}

/// Status and error code of an answer.
async fn failure(request: RequestBuilder) -> (u16, u64) {
    let (status, body) = json(request).await;
    assert_eq!(body["status"], status);
    assert!(body["message"].is_string() && body["timestamp"].is_u64(), "{body}");
    (status, body["errorCode"].as_u64().unwrap())
}

/// A customer's id object.
fn id_json() -> String {
    format!(r#"{{"entityType":"CUSTOMER","id":"{ID}"}}"#)
}

#[tokio::test]
async fn a_login_gives_a_pair_with_the_admins_lifetimes() {
    let admin_ttls = TokenTtls { access: 900, refresh: 1800 };
    let asker = Asker::new(KonaOptions { admin_ttls, ..KonaOptions::default() });
    let (access, refresh) = asker.pair(TENANT).await;
    let (access, refresh) = (payload(&access), payload(&refresh));
    assert_eq!((difference(&access, "exp", "iat"), difference(&refresh, "exp", "iat")), (900, 1800));
    assert_eq!((&access["scopes"][0], &access["sub"]), (&json!("TENANT_ADMIN"), &json!(TENANT.0)));
    assert_eq!(refresh["scopes"][0], "REFRESH_TOKEN");
    assert_eq!(failure(asker.login((TENANT.0, "wrong"))).await, (401, 10));
    let json_login = asker.http.post(format!("{}/api/auth/login", asker.server.url()));
    let as_json = json_login.json(&json!({"username": TENANT.0, "password": TENANT.1}));
    assert_eq!(failure(as_json).await, (500, 2));
}

#[tokio::test]
async fn a_customers_users_have_the_lifetimes_in_additional_info() {
    let asker = Asker::new(KonaOptions::default());
    let customer = asker.server.add_customer(ID, "Acme");
    asker.server.set_user(KonaUser::of_customer("user@acme.example", "secret", ID));
    let cases = [
        ("null", 7200, 86_400),
        (r#""free text""#, 7200, 86_400),
        (r#"{"accessTokenTtlSeconds":3600,"refreshTokenTtlSeconds":7200}"#, 3600, 7200),
        (r#""{\"accessTokenTtlSeconds\":60}""#, 60, 86_400),
    ];
    for (info, access_ttl, refresh_ttl) in cases {
        customer.set_field("additionalInfo", info);
        let (access, refresh) = asker.pair(("user@acme.example", "secret")).await;
        let lifetimes =
            (difference(&payload(&access), "exp", "iat"), difference(&payload(&refresh), "exp", "iat"));
        assert_eq!(lifetimes, (access_ttl, refresh_ttl), "{info}");
    }
    assert_eq!(customer.counts(), Counts { login: 4, ..Counts::default() });
    let (access, _) = asker.pair(("user@acme.example", "secret")).await;
    let access = access.as_str().unwrap();
    assert_eq!(json(asker.get(access, ID)).await.0, 200);
    assert_eq!(failure(asker.post(access, &customer.json().unwrap())).await, (403, 20));
}

#[tokio::test]
async fn tokens_are_good_for_what_they_are_for() {
    let asker = Asker::new(KonaOptions::default());
    asker.server.add_customer(ID, "Acme");
    let (access, refresh) = asker.pair(TENANT).await;
    let token = access.as_str().unwrap();
    assert_eq!(failure(asker.get(refresh.as_str().unwrap(), ID)).await, (500, 2));
    assert_eq!(failure(asker.refresh(&access)).await, (500, 2));
    assert_eq!(failure(asker.get("forged", ID)).await, (401, 11));
    let url = format!("{}/api/customer/{ID}", asker.server.url());
    for header in ["", token, &format!("bearer {token}"), &format!("Bearer  {token}"), "Bearer "] {
        let request = asker.http.get(&url).header("x-authorization", header);
        assert_eq!(answer(request).await, Some((302, String::new())), "{header:?}");
    }
    let standard = asker.http.get(&url).bearer_auth(token);
    assert_eq!(answer(standard).await, Some((302, String::new())));
    asker.server.expire_access_tokens();
    assert_eq!(failure(asker.get(token, ID)).await, (401, 11));
    let (status, pair) = json(asker.refresh(&refresh)).await;
    assert_eq!(status, 200);
    assert_eq!(json(asker.get(pair["token"].as_str().unwrap(), ID)).await.0, 200);
    asker.server.set_password(TENANT.0, "new");
    assert_eq!(failure(asker.get(pair["token"].as_str().unwrap(), ID)).await, (401, 11));
    assert_eq!(failure(asker.refresh(&pair["refreshToken"])).await, (401, 11));
}

#[tokio::test]
async fn wrong_passwords_disable_a_user_for_good() {
    let asker = Asker::new(KonaOptions { lockout_after: Some(2), ..KonaOptions::default() });
    for _ in 0..2 {
        assert_eq!(failure(asker.login((TENANT.0, "wrong"))).await, (401, 10));
    }
    assert!(!asker.server.is_enabled(TENANT.0));
    assert_eq!(failure(asker.login(TENANT)).await, (401, 10), "even the right one");
    asker.server.set_enabled(TENANT.0, true);
    asker.token().await;
}

#[tokio::test]
async fn a_customer_comes_back_byte_for_byte() {
    let asker = Asker::new(KonaOptions::default());
    let token = asker.token().await;
    let text = format!(
        r#"{{"id":{}, "a":1.10,"b":1e400,"c":12345678901234567890123,"d":"\u00e9é","zip":null}}"#,
        id_json()
    );
    asker.server.put_customer_raw(ID, &text);
    assert_eq!(answer(asker.get(&token, ID)).await, Some((200, text)));
    let sent = format!(r#"{{"id":{},"b":1e400,"n":-0.0,"additionalInfo":{{"x":1.10}}}}"#, id_json());
    assert_eq!(answer(asker.post(&token, &sent)).await, Some((200, sent.clone())), "an echo");
    let stored = asker.server.customer_json(ID).unwrap();
    assert!(stored.starts_with(sent.trim_end_matches('}')), "{stored}");
    let stored = asker.server.customer(ID);
    assert_eq!(stored.field("a").as_deref(), Some("null"), "left out");
    assert_eq!(stored.field("title").as_deref(), Some("null"), "documented, and left out");
    assert_eq!(stored.requests().written(), [sent]);
    assert_eq!(failure(asker.get(&token, "00000000-0000-0000-0000-000000000000")).await, (404, 32));
    assert_eq!(failure(asker.get(&token, "x")).await, (400, 31));
}

#[tokio::test]
async fn a_body_without_id_creates_a_customer() {
    let asker = Asker::new(KonaOptions::default());
    let token = asker.token().await;
    let (status, created) = json(asker.post(&token, r#"{"title":"Oops"}"#)).await;
    let created = created["id"]["id"].as_str().unwrap();
    assert_eq!((status, asker.server.created()), (200, vec![created.to_owned()]));
    assert_eq!(json(asker.get(&token, created)).await.1["title"], "Oops");
    let unknown = format!(r#"{{"id":{}}}"#, id_json());
    assert_eq!(failure(asker.post(&token, &unknown)).await, (404, 32));
    let misnamed = format!(r#"{{"id":{{"entityType":"TENANT","id":"{ID}"}}}}"#);
    assert_eq!(failure(asker.post(&token, &misnamed)).await, (400, 31));
}

#[tokio::test]
async fn a_stale_version_is_refused_and_an_absent_one_is_not() {
    let asker = Asker::new(KonaOptions::default());
    let token = asker.token().await;
    let text = |version: &str| format!(r#"{{"id":{}{version}}}"#, id_json());
    asker.server.put_customer_raw(ID, &text(r#","version":7"#));
    let version = || asker.server.customer(ID).field("version").unwrap();
    let (status, echo) = json(asker.post(&token, &text(r#","version":7"#))).await;
    assert_eq!((status, &echo["version"], version().as_str()), (200, &json!(8), "8"));
    assert_eq!(failure(asker.post(&token, &text(r#","version":7"#))).await, (409, 35));
    assert_eq!(json(asker.post(&token, &text(r#","version":null"#))).await.0, 200);
    assert_eq!(json(asker.post(&token, &text(""))).await.0, 200);
    assert_eq!(version(), "10");
    asker.server.customer(ID).set_field("city", r#""Bonn""#);
    assert_eq!(version(), "11", "a colleague's change counts too");
}

#[tokio::test]
async fn additional_info_is_kept_in_every_shape_or_refused_whole() {
    let asker = Asker::new(KonaOptions::default());
    let token = asker.token().await;
    let customer = asker.server.add_customer(ID, "Acme");
    let body = |info: &str| format!(r#"{{"id":{},"additionalInfo":{info}}}"#, id_json());
    for info in ["null", r#""""#, r#""text""#, "42", "[1,2]", r#"{"a":{}}"#, r#""{\"a\":1}""#] {
        assert_eq!(json(asker.post(&token, &body(info))).await.0, 200, "{info}");
        assert_eq!(customer.field("additionalInfo").as_deref(), Some(info));
    }
    let kept = customer.json();
    let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(100_001));
    for info in [r#"{"a":"<b>"}"#, r#"{"a":["\u003cscript>"]}"#, &long] {
        assert_eq!(failure(asker.post(&token, &body(info))).await, (400, 31));
    }
    assert_eq!(customer.json(), kept);
    assert_eq!(failure(asker.post(&token, "[]")).await, (400, 31));
    customer.set_field("additionalInfo", r#"{"a": 1.0}"#);
    asker.server.set_info_form(InfoForm::AsString);
    assert_eq!(json(asker.get(&token, ID)).await.1["additionalInfo"], r#"{"a": 1.0}"#);
}

#[tokio::test]
async fn the_path_and_the_type_of_a_write_matter() {
    let asker = Asker::new(KonaOptions::default());
    let token = asker.token().await;
    let text = asker.server.add_customer(ID, "Acme").json().unwrap();
    for (mode, with_slash, without) in
        [(WritePath::WithSlash, 200, 404), (WritePath::WithoutSlash, 404, 200), (WritePath::Both, 200, 200)]
    {
        asker.server.set_write_path(mode);
        assert_eq!(json(asker.post_to("/api/customer/", &token, &text)).await.0, with_slash, "{mode:?}");
        assert_eq!(json(asker.post_to("/api/customer", &token, &text)).await.0, without, "{mode:?}");
    }
    asker.server.set_write_path(WritePath::WithoutSlash);
    assert_eq!(failure(asker.post(&token, &text)).await, (404, 32));
    let plain = asker.http.post(format!("{}/api/customer", asker.server.url())).body(text);
    let plain =
        plain.header("content-type", "text/plain").header("x-authorization", format!("Bearer {token}"));
    assert_eq!(failure(plain).await, (500, 2));
}

#[tokio::test]
async fn faults_strike_one_customer_or_the_server() {
    let other = "9c858901-8a57-4791-81fe-4c455b099bc9";
    let asker = Asker::new(KonaOptions::default());
    let token = asker.token().await;
    let customer = asker.server.add_customer(ID, "Acme");
    asker.server.add_customer(other, "Other");
    let busy = Failure::TooManyRequests;
    customer.fault(Fault::status(busy.codes().0, busy.body("Too many requests")).on(Kind::Get));
    assert_eq!(failure(asker.get(&token, ID)).await, (429, 33));
    assert_eq!(json(asker.get(&token, other)).await.0, 200);
    asker.server.fault(Fault::status(500, Failure::Database.body("down")));
    assert_eq!(failure(asker.login(TENANT)).await, (500, 46));
    assert_eq!(failure(asker.get(&token, other)).await, (500, 46));
    asker.server.clear_faults();
    customer.clear_faults();
    assert_eq!(json(asker.get(&token, ID)).await.0, 200);
    assert_eq!(asker.server.counts_by_customer()[ID], Counts { get: 2, ..Counts::default() });
    assert_eq!(asker.server.counts(), Counts { login: 2, get: 4, ..Counts::default() });
}
