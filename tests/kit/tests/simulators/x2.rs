//! The X2 appliance, endpoint by endpoint.

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tenure_kit::{
    requests::Counts,
    x2::{Appliance, FleetOptions, PutEffect, TokenShape, X2Fleet},
};

use crate::{client, difference, json, payload};

pub(crate) const ADMIN: (&str, &str) = ("admin", "x2-admin-password");
const VIEWER: (&str, &str) = ("viewer", "x2-viewer-password");

/// An appliance over plain HTTP and someone who asks it.
pub(crate) struct Asker {
    pub(crate) http: reqwest::Client,
    pub(crate) appliance: Appliance,
}

impl Asker {
    pub(crate) fn new(appliance: Appliance) -> Self {
        Self { http: client(None), appliance }
    }

    pub(crate) fn login(&self, (username, password): (&str, &str)) -> RequestBuilder {
        let url = format!("{}/api2/tokens", self.appliance.url());
        self.http.post(url).json(&json!({"username": username, "password": password}))
    }

    /// The claims and the token of a login that succeeds.
    pub(crate) async fn token(&self, user: (&str, &str)) -> (Value, String) {
        let (status, answer) = json(self.login(user)).await;
        assert_eq!(status, 200, "{answer}");
        (payload(&answer["token"]), answer["token"].as_str().unwrap().to_owned())
    }

    async fn lifetime(&self) -> i64 {
        difference(&self.token(ADMIN).await.0, "exp", "nbf")
    }

    pub(crate) fn get(&self, token: &str) -> RequestBuilder {
        self.http.get(format!("{}/api2/token/timeout", self.appliance.url())).bearer_auth(token)
    }

    pub(crate) fn put(&self, token: &str, body: &Value) -> RequestBuilder {
        let url = format!("{}/api2/token/timeout", self.appliance.url());
        self.http.put(url).bearer_auth(token).json(body)
    }

    fn delete(&self, token: &str) -> RequestBuilder {
        self.http.delete(format!("{}/api2/tokens", self.appliance.url())).bearer_auth(token)
    }
}

/// A fleet over plain HTTP, with someone to ask its first appliance.
pub(crate) fn fleet(options: FleetOptions) -> (X2Fleet, Asker) {
    let fleet = X2Fleet::start(FleetOptions { tls: false, ..options }).unwrap();
    let asker = Asker::new(fleet.appliance(0));
    (fleet, asker)
}

fn unauthorized() -> (u16, Value) {
    (401, json!({"statusCode": 401, "error": "Unauthorized", "message": "Invalid or expired token"}))
}

#[tokio::test]
async fn a_login_answers_as_on_the_vendors_page() {
    let (_fleet, asker) = fleet(FleetOptions { initial_timeout: 7200, ..FleetOptions::default() });
    let (status, answer) = json(asker.login(ADMIN)).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&answer["role"], &answer["id"], &answer["source"]),
        (&json!("admin"), &json!(21), &json!("local"))
    );
    let claims = payload(&answer["token"]);
    assert_eq!(difference(&claims, "exp", "nbf"), 7200);
    assert_eq!(claims["password"], "x2-admin-password", "the page's token holds it in clear");
    let (status, refused) = json(asker.login(("admin", "wrong"))).await;
    assert_eq!((status, &refused["message"]), (401, &json!("Invalid username or password")));
}

#[tokio::test]
async fn a_change_reaches_new_tokens_only() {
    let (_fleet, asker) = fleet(FleetOptions::default());
    let (_, token) = asker.token(ADMIN).await;
    assert_eq!(json(asker.get(&token)).await, (200, json!({"timeout_seconds": 86400})));
    let updated = json!({"statusCode": 200, "message": "Successfully updated the token timeout."});
    assert_eq!(json(asker.put(&token, &json!({"timeout_seconds": 600}))).await, (200, updated));
    assert_eq!(json(asker.get(&token)).await, (200, json!({"timeout_seconds": 600})));
    assert_eq!((asker.appliance.timeout(), asker.lifetime().await), (600, 600));
    asker.appliance.set_clock_offset(601);
    assert_eq!(json(asker.get(&token)).await.0, 200, "the first token keeps its day");
    asker.appliance.set_clock_offset(86_401);
    assert_eq!(json(asker.get(&token)).await, unauthorized());
}

#[tokio::test]
async fn a_put_wants_an_integer_in_range_and_says_so() {
    let (_fleet, asker) = fleet(FleetOptions::default());
    let (_, token) = asker.token(ADMIN).await;
    for seconds in [0, -1, 599, 2_592_001, i64::MAX] {
        let (status, answer) = json(asker.put(&token, &json!({"timeout_seconds": seconds}))).await;
        let message = json!("Timeout must be between 600 and 2592000 seconds");
        assert_eq!((status, &answer["message"]), (400, &message), "{seconds}");
    }
    for body in [json!({"timeout_seconds": "600"}), json!({"timeout_seconds": 600.5}), json!({}), json!([])] {
        assert_eq!(json(asker.put(&token, &body)).await.0, 400, "{body}");
    }
    let url = format!("{}/api2/token/timeout", asker.appliance.url());
    let untyped = asker.http.put(url).bearer_auth(&token).body(r#"{"timeout_seconds":900}"#);
    assert_eq!(json(untyped).await.0, 415);
    assert_eq!(asker.appliance.timeout(), 86_400);
}

#[tokio::test]
async fn the_timeout_is_for_administrators() {
    let (fleet, asker) = fleet(FleetOptions { appliances: 2, ..FleetOptions::default() });
    let (_, viewer) = asker.token(VIEWER).await;
    let forbidden = json!({"statusCode": 403, "error": "Forbidden", "message": "Admin role required"});
    assert_eq!(json(asker.get(&viewer)).await, (403, forbidden.clone()));
    assert_eq!(json(asker.put(&viewer, &json!({"timeout_seconds": 600}))).await, (403, forbidden));
    let (_, elsewhere) = Asker::new(fleet.appliance(1)).token(ADMIN).await;
    assert_eq!(json(asker.get(&elsewhere)).await, unauthorized(), "another appliance's token");
    assert_eq!(json(asker.get("nonsense")).await, unauthorized());
}

#[tokio::test]
async fn a_logout_reaches_every_token_of_its_user_and_no_other() {
    let (_fleet, asker) = fleet(FleetOptions::default());
    let (_, first) = asker.token(ADMIN).await;
    asker.appliance.set_timeout(7200);
    let (_, second) = asker.token(ADMIN).await;
    let (_, viewer) = asker.token(VIEWER).await;
    let all = json!({"message": "All tokens invalidated successfully"});
    assert_eq!(json(asker.delete(&first)).await, (200, all.clone()));
    assert_eq!(json(asker.get(&second)).await, unauthorized());
    assert_eq!(json(asker.delete(&second)).await, (200, json!({"message": "Logged out successfully"})));
    assert_eq!(json(asker.delete(&viewer)).await, (200, all));
    let bare = asker.http.delete(format!("{}/api2/tokens", asker.appliance.url()));
    let message =
        json!({"statusCode": 400, "error": "Bad Request", "message": "Authorization header is required"});
    assert_eq!(json(bare).await, (400, message));
    asker.token(ADMIN).await;
    assert_eq!(asker.appliance.live_tokens(), 1);
}

#[tokio::test]
async fn an_accepted_put_can_fail_to_take_effect() {
    let (_fleet, asker) = fleet(FleetOptions::default());
    let (_, token) = asker.token(ADMIN).await;
    let to = |seconds: u64| asker.put(&token, &json!({"timeout_seconds": seconds}));
    asker.appliance.set_put_effect(PutEffect::ShownOnly);
    assert_eq!(json(to(600)).await.0, 200);
    assert_eq!((asker.appliance.timeout(), asker.lifetime().await), (600, 86_400));
    asker.appliance.set_put_effect(PutEffect::Dropped);
    assert_eq!(json(to(700)).await.0, 200);
    assert_eq!((asker.appliance.timeout(), asker.lifetime().await), (600, 86_400));
    asker.appliance.set_put_effect(PutEffect::AfterLogins(1));
    assert_eq!(json(to(800)).await.0, 200);
    assert_eq!(asker.appliance.timeout(), 800);
    assert_eq!([asker.lifetime().await, asker.lifetime().await], [86_400, 800]);
    asker.appliance.factory_reset();
    assert_eq!((asker.appliance.timeout(), asker.lifetime().await), (86_400, 86_400));
}

#[tokio::test]
async fn a_clock_that_is_wrong_leaves_the_lifetime_right() {
    let (_fleet, asker) = fleet(FleetOptions::default());
    let (before, _) = asker.token(ADMIN).await;
    asker.appliance.set_clock_offset(-3600);
    let (after, token) = asker.token(ADMIN).await;
    assert!(after["exp"].as_i64() < before["exp"].as_i64());
    assert_eq!(difference(&after, "exp", "nbf"), 86_400);
    assert_eq!(json(asker.get(&token)).await.0, 200);
}

#[tokio::test]
async fn passwords_change_and_wrong_ones_lock() {
    let (_fleet, asker) = fleet(FleetOptions { lockout_after: Some(3), ..FleetOptions::default() });
    let (_, token) = asker.token(ADMIN).await;
    asker.appliance.set_password("admin", "new");
    for _ in 0..3 {
        assert_eq!(json(asker.login(ADMIN)).await.0, 401);
    }
    assert!(asker.appliance.is_locked("admin"));
    assert_eq!(json(asker.login(("admin", "new"))).await.0, 401, "locked, even with the right password");
    assert_eq!(json(asker.get(&token)).await.0, 200, "tokens stay");
    asker.appliance.set_password("admin", "new");
    asker.token(("admin", "new")).await;
    asker.appliance.forget_tokens();
    assert_eq!(json(asker.get(&token)).await, unauthorized());
}

#[tokio::test]
async fn tokens_come_in_bad_shapes() {
    let (_fleet, asker) = fleet(FleetOptions::default());
    asker.appliance.set_token_shape(TokenShape::WithoutExp);
    let (claims, token) = asker.token(ADMIN).await;
    assert_eq!((claims.get("exp"), claims["nbf"].is_i64()), (None, true));
    assert_eq!(json(asker.get(&token)).await.0, 200);
    asker.appliance.set_token_shape(TokenShape::WithoutNbf);
    assert_eq!(asker.token(ADMIN).await.0.get("nbf"), None);
    asker.appliance.set_token_shape(TokenShape::Text("no.jwt.here".to_owned()));
    assert_eq!(json(asker.login(ADMIN)).await.1["token"], "no.jwt.here");
    assert_eq!(json(asker.get("no.jwt.here")).await.0, 200);
    asker.appliance.set_token_shape(TokenShape::Missing);
    assert_eq!(json(asker.login(ADMIN)).await.1.get("token"), None);
}

#[tokio::test]
async fn every_request_is_counted_where_it_went() {
    let (fleet, asker) = fleet(FleetOptions { appliances: 10_000, ..FleetOptions::default() });
    let last = Asker::new(fleet.appliance(9_999));
    let (_, token) = asker.token(ADMIN).await;
    json(asker.get(&token)).await;
    let before = asker.appliance.counts();
    json(asker.put(&token, &json!({"timeout_seconds": 600}))).await;
    json(last.login(ADMIN)).await;
    json(asker.http.get(format!("{}/api2/other", last.appliance.url()))).await;
    assert_eq!(asker.appliance.counts() - before, Counts { write: 1, ..Counts::default() });
    assert_eq!(last.appliance.counts(), Counts { login: 1, other: 1, ..Counts::default() });
    assert_eq!(fleet.counts(), Counts { login: 2, get: 1, write: 1, other: 1, ..Counts::default() });
    assert_eq!(fleet.counts_by_appliance()[9_999], last.appliance.counts());
    assert_eq!((fleet.standing_at(600), fleet.standing_at(86_400)), (1, 9_999));
    let log = asker.appliance.requests().entries();
    let lines: Vec<_> = log.iter().map(|entry| (entry.line.as_str(), entry.status)).collect();
    assert_eq!(
        lines,
        [
            ("POST /api2/tokens", Some(200)),
            ("GET /api2/token/timeout", Some(200)),
            ("PUT /api2/token/timeout", Some(200)),
        ]
    );
    assert_eq!(asker.appliance.requests().written(), [r#"{"timeout_seconds":600}"#]);
    assert_eq!(asker.appliance.requests().connections(), 1, "kept alive");
    assert_eq!(last.appliance.name(), "x2-9999");
}
