//! CustomerTokenTtl: the lifetimes, and what cannot be changed.

use serde_json::json;

use super::super::fixture::*;
use super::{accepts, field, judge, long, refuses, values};

const ID: &str = "1d2b7a10-0f2c-11ee-be56-0242ac120002";
const UUID: &str =
    "must be the customer's id, a lower-case UUID such as 1d2b7a10-0f2c-11ee-be56-0242ac120002";
const NAME: &str = "must be the name of an object in this namespace";

#[tokio::test(flavor = "multi_thread")]
async fn the_lifetimes_are_bounded_and_in_order() {
    let f = Fixture::new("ttl").await;
    let base = customer("bounds", ID, 3600, 31_536_000);
    let mut cases = Vec::new();
    for name in ["accessTokenTtlSeconds", "refreshTokenTtlSeconds"] {
        let low = "should be greater than or equal to 60";
        cases.extend(field(name, &values(&[3600, 31_536_000]), low, &values(&[59, 0, -1])));
        cases.extend(field(name, &[], "should be less than or equal to 31536000", &values(&[31_536_001])));
        cases.extend(field(name, &[], "Required value", &[json!(null)]));
    }
    let both = |access: i64, refresh: i64| json!({"accessTokenTtlSeconds": access, "refreshTokenTtlSeconds": refresh});
    let order = "accessTokenTtlSeconds must not be greater than refreshTokenTtlSeconds";
    cases.extend([accepts(both(60, 60)), accepts(both(61, 61)), refuses("", order, both(62, 61))]);
    judge(&f, &base, cases).await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_named_by_its_uuid() {
    let f = Fixture::new("uuid").await;
    let bad = [
        "",
        "1D2B7A10-0F2C-11EE-BE56-0242AC120002",
        "1d2b7a100f2c11eebe560242ac120002",
        "1d2b7a10-0f2c-11ee-be56-0242ac12000",
        "1d2b7a10-0f2c-11ee-be56-0242ac12000g",
        "1d2b7a10-0f2c-11ee-be560-242ac120002",
    ];
    let good = [ID, "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"];
    let mut cases = field("customerId", &values(&good), UUID, &values(&bad));
    cases.push(refuses("customerId", "may not be more than 36", json!({"customerId": format!("{ID}0")})));
    cases.push(refuses("customerId", "Required value", json!({"customerId": null})));
    judge(&f, &customer("bounds", ID, 3600, 86_400), cases).await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_is_bounded_too() {
    let f = Fixture::new("customer").await;
    let mut cases =
        field("serverRef.name", &values(&["kona-eu", "a.b"]), NAME, &values(&["Kona", "a_b", "a..b", "-a"]));
    cases.extend(field(
        "serverRef.name",
        &[json!(long(253))],
        "may not be more than 253",
        &[json!(long(254))],
    ));
    cases.extend(field("serverRef.name", &[], "should be at least 1 chars long", &[json!("")]));
    cases.extend(field("serverRef", &[], "Required value", &[json!(null)]));
    let modes = "supported values: \"Enforce\", \"Observe\"";
    cases.extend(field("mode", &values(&["Enforce", "Observe"]), modes, &values(&["Audit"])));
    let interval =
        "must be a duration between 30s and 24h in hours, minutes and seconds, such as 10m or 1h30m";
    cases.extend(field("interval", &values(&["30s", "24h"]), interval, &values(&["29s", "24h1s", "", "1d"])));
    cases.extend(field(
        "verifyCredentialsSecretRef.name",
        &values(&["user"]),
        NAME,
        &values(&["User", "a b"]),
    ));
    let key = |key: &str| json!({"verifyCredentialsSecretRef": {"name": "user", "passwordKey": key}});
    cases.push(accepts(key("pass_word.1")));
    cases.push(refuses(
        "verifyCredentialsSecretRef.passwordKey",
        "must be a key of the object's data",
        key("a b"),
    ));
    cases.push(accepts(json!({"suspend": true})));
    cases.push(refuses("", "field not declared in schema", json!({"accessTokenTtl": 1})));
    judge(&f, &customer("bounds", ID, 3600, 86_400), cases).await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_and_customer_cannot_be_changed() {
    let f = Fixture::new("immutable").await;
    let manifest = customer("fixed", ID, 3600, 86_400);
    f.apply(&manifest).await;
    let again = "is immutable: delete this resource and create another one";
    let other = "ffffffff-0f2c-11ee-be56-0242ac120002";
    let cases = [
        accepts(json!({"accessTokenTtlSeconds": 60})),
        refuses("serverRef", again, json!({"serverRef": {"name": "other"}})),
        refuses("customerId", again, json!({"customerId": other})),
    ];
    judge(&f, &manifest, cases).await;
    let refusal = f.refusal(&with(manifest.clone(), json!({"spec": {"customerId": other}}))).await;
    assert!(refusal.contains("customerId is immutable"), "{refusal}");
    let refusal = f.refusal(&with(manifest, json!({"spec": {"serverRef": {"name": "other"}}}))).await;
    assert!(refusal.contains("serverRef is immutable"), "{refusal}");
    f.finish().await;
}
