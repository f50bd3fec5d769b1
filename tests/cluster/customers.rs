//! Customers of a Kona server are brought to their token lifetimes, and nothing else about them changes.

mod bad_input;
mod conflicts;
mod drift;
mod logins;
mod restore;
mod servers;
mod status;
mod verification;
mod windows;
mod writes;

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};
use tenure_kit::kona::{Customer, KonaOptions, KonaServer};
use tenure_kit::requests::Counts;
use tokio::sync::mpsc;

use super::fixture::*;

/// The kind that this module is about.
const CTT: &str = "CustomerTokenTtl";
/// A Secret is looked at again after half a minute.
const AFTER_A_POLL: Duration = Duration::from_secs(50);

/// The id of the n-th customer.
fn id(n: usize) -> String {
    format!("1d2b7a10-5c1e-4f2a-9b3d-{n:012}")
}

/// A namespace, and in it the `KonaServer` called `kona` of a simulated server with these options.
async fn world_of(name: &str, options: KonaOptions) -> (Fixture, KonaServer) {
    let kona = KonaServer::start(options).unwrap();
    let f = Fixture::new(name).await;
    f.kona(&kona).await;
    (f, kona)
}

async fn world(name: &str) -> (Fixture, KonaServer) {
    world_of(name, KonaOptions::default()).await
}

/// The same with the first customer, called `acme`, declared with 3600 and 86400 seconds, and in sync.
async fn in_sync(name: &str) -> (Fixture, KonaServer, Customer) {
    let (mut f, kona) = world(name).await;
    let acme = kona.add_customer(&id(1), "Acme");
    f.apply(&customer("acme", acme.id(), 3600, 86400)).await;
    f.start().await;
    f.reason(CTT, "acme", "InSync").await;
    (f, kona, acme)
}

/// A customer as the vendor documents it, with another `additionalInfo`.
fn with_info(kona: &KonaServer, n: usize, info: &str) -> Customer {
    let customer = kona.add_customer(&id(n), &format!("Customer {n}"));
    customer.set_field("additionalInfo", info);
    customer
}

/// Logins, refreshes, reads and writes; there is nothing else.
fn exchanges(counts: Counts) -> (u64, u64, u64, u64) {
    assert_eq!((counts.delete, counts.other), (0, 0));
    (counts.login, counts.refresh, counts.get, counts.write)
}

fn message(object: &DynamicObject) -> &str {
    ready(object)["message"].as_str().unwrap()
}

/// The status without what every written report brings up to date.
fn lasting(object: &DynamicObject) -> Value {
    let mut status = status(object).clone();
    for time in ["lastHandledReconcileAt", "lastCheckedTime"] {
        status.as_object_mut().unwrap().remove(time);
    }
    status
}

/// Everything that happens to an object from now on, its present state first.
async fn watched(f: &Fixture, name: &'static str) -> mpsc::UnboundedReceiver<DynamicObject> {
    let api = f.ns.api(CTT).await.unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut states = pin!(watcher(api, watcher::Config::default()).applied_objects());
        while let Some(Ok(object)) = states.next().await {
            if object.name_any() == name && sender.send(object).is_err() {
                return;
            }
        }
    });
    receiver
}

/// What becomes of a watched object until it is as wanted.
async fn until(
    states: &mut mpsc::UnboundedReceiver<DynamicObject>,
    wanted: impl Fn(&DynamicObject) -> bool,
) -> Vec<DynamicObject> {
    let mut seen = Vec::new();
    while !seen.last().is_some_and(&wanted) {
        let next = tokio::time::timeout(SOON, states.recv()).await;
        seen.push(next.unwrap_or_else(|_| panic!("not as wanted: {:?}", seen.last())).unwrap());
    }
    seen
}

/// A table: what the field holds, what it holds afterwards, and what is kept as the original.
type Shapes = [(&'static str, &'static str, Value); 9];

#[tokio::test(flavor = "multi_thread")]
async fn everything_else_goes_back_byte_for_byte() {
    let (mut f, kona) = world("bytes").await;
    let acme = kona.add_customer(&id(1), "Stadtwerke Köln – 東京 \u{1f4a1}");
    let info = r#"{"b":1.10,"accessTokenTtlSeconds":7200,"a":[ 1 , {"x" : 1E+2} ],"n":12345678901234567890123,"t":"é \u00e9 1 < 2"}"#;
    let odd = r#"{"version":7,"z":1e400,"y":-0.0,"x":1.10,"w":12345678901234567890123,"nested":{"k" : [ 1e400 ,null]},"#;
    let documented = acme.json().unwrap();
    let before = documented.replacen('{', odd, 1).replacen(
        r#""additionalInfo":null"#,
        &format!(r#""additionalInfo":{info}"#),
        1,
    );
    acme.put_raw(&before);
    f.apply(&customer("acme", acme.id(), 3600, 86400)).await;
    f.start().await;

    let object = f.reason(CTT, "acme", "InSync").await;
    let after = before
        .replacen(r#""version":7"#, r#""version":8"#, 1)
        .replacen(r#""accessTokenTtlSeconds":7200"#, r#""accessTokenTtlSeconds":3600"#, 1)
        .replacen(r#"1 < 2"}"#, r#"1 < 2","refreshTokenTtlSeconds":86400}"#, 1);
    assert_eq!(acme.json().unwrap(), after);
    assert_eq!(status(&object)["original"], json!({"accessTokenTtlSeconds": "7200"}));
    assert_eq!(exchanges(kona.counts()), (1, 0, 2, 1));
    assert!(kona.created().is_empty());
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_of_additional_info_becomes_an_object() {
    let (mut f, kona) = world("shapes").await;
    let both = r#"{"accessTokenTtlSeconds":3600,"refreshTokenTtlSeconds":86400}"#;
    let shapes: Shapes = [
        ("null", both, json!({})),
        (r#""""#, both, json!({})),
        (r#""  ""#, both, json!({})),
        ("{}", both, json!({})),
        (r#""{}""#, both, json!({})),
        (
            r#"{"colour":"red","n":1.10}"#,
            r#"{"colour":"red","n":1.10,"accessTokenTtlSeconds":3600,"refreshTokenTtlSeconds":86400}"#,
            json!({}),
        ),
        (
            r#""{\"colour\":\"red\",\"n\":1.10}""#,
            r#"{"colour":"red","n":1.10,"accessTokenTtlSeconds":3600,"refreshTokenTtlSeconds":86400}"#,
            json!({}),
        ),
        (
            r#""{\"refreshTokenTtlSeconds\": 7200}""#,
            r#"{"refreshTokenTtlSeconds":86400,"accessTokenTtlSeconds":3600}"#,
            json!({"refreshTokenTtlSeconds": "7200"}),
        ),
        (
            r#"{"accessTokenTtlSeconds":"a lot","refreshTokenTtlSeconds":1.10}"#,
            both,
            json!({"accessTokenTtlSeconds": "\"a lot\"", "refreshTokenTtlSeconds": "1.10"}),
        ),
    ];
    for (n, (info, _, _)) in shapes.iter().enumerate() {
        with_info(&kona, n, info);
        f.apply(&customer(&format!("c{n}"), &id(n), 3600, 86400)).await;
    }
    let absent = kona.add_customer(&id(99), "Absent");
    absent.remove_field("additionalInfo");
    f.apply(&customer("absent", absent.id(), 3600, 86400)).await;
    f.start().await;

    for (n, (info, after, original)) in shapes.iter().enumerate() {
        let object = f.reason(CTT, &format!("c{n}"), "InSync").await;
        let customer = kona.customer(&id(n));
        assert_eq!(customer.field("additionalInfo").as_deref(), Some(*after), "{info}");
        assert_eq!(status(&object)["original"], *original, "{info}");
        let (logins, refreshes, reads, writes) = exchanges(customer.counts());
        assert_eq!((logins, refreshes, writes), (0, 0, 1), "{info}");
        // At first contact one write finds out the path; the others read again after it.
        assert!((2..=3).contains(&reads), "{info}: {reads}");
    }
    f.reason(CTT, "absent", "InSync").await;
    assert_eq!(absent.field("additionalInfo").as_deref(), Some(both));
    assert_eq!(kona.counts().login, 1);
    assert!(kona.created().is_empty());
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_hold_lifetimes_is_left_alone() {
    let (mut f, kona) = world("unusable").await;
    let long = format!(r#"{{"long":"{}"}}"#, "x".repeat(100_001));
    // What the field holds, how many writes that costs, and a word of the message.
    let cases: BTreeMap<&str, (&str, u64, &str)> = BTreeMap::from([
        ("text", (r#""call Bob first""#, 0, "free text")),
        ("broken", (r#""{not json""#, 0, "free text")),
        ("number", ("42", 0, "not a JSON object")),
        ("array", ("[1,2]", 0, "not a JSON object")),
        ("truth", ("true", 0, "not a JSON object")),
        ("twice", (r#""{\"a\":1,\"a\":2}""#, 0, "duplicate key")),
        ("markup", (r#"{"note":"<b>bold</b>"}"#, 1, "markup")),
        ("long", (&long, 1, "too long")),
    ]);
    let mut before = BTreeMap::new();
    for (n, (name, (info, ..))) in cases.iter().enumerate() {
        before.insert(*name, (with_info(&kona, n, info), kona.customer_json(&id(n))));
        f.apply(&customer(name, &id(n), 3600, 86400)).await;
    }
    f.start().await;

    for (name, (_, writes, word)) in &cases {
        let object = f.reason(CTT, name, "AdditionalInfoUnusable").await;
        assert_eq!(condition(&object, "Stalled")["status"], "True", "{name}");
        assert!(message(&object).contains(word), "{name}: {}", message(&object));
        assert!(status(&object)["customerTitle"].as_str().unwrap().starts_with("Customer"), "{name}");
        let (customer, json) = &before[name];
        assert_eq!(customer.json(), *json, "{name}");
        let (logins, refreshes, reads, written) = exchanges(customer.counts());
        assert_eq!((logins, refreshes, written), (0, 0, *writes), "{name}");
        // At first contact one write finds out the path; another one reads again after it.
        assert!((1..=1 + *writes).contains(&reads), "{name}: {reads}");
        f.event(name, "AdditionalInfoUnusable").await;
    }
    // Once it is cleared up, the next look sets the lifetimes.
    before["text"].0.set_field("additionalInfo", r#"{"note":"call Bob first"}"#);
    let object = f.look(CTT, "text", "cleared").await;
    assert_eq!(ready(&object)["reason"], "InSync");
    assert_eq!(before["text"].0.token_ttls(), (Some(3600), Some(86400)));
    f.finish().await;
}
