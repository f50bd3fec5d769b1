//! Annotations that are too long: ignored, and reported.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tenure::clock::{self, Source};

use crate::api::{Api, Kind};
use crate::crash::Crash;
use crate::knobs::Knobs;
use crate::manifest::{self, NAMESPACE};
use crate::plan;
use crate::remote::{Internet, Line};
use crate::replica;
use crate::scripted::{reason_of, servers, wait, world};
use crate::time;
use crate::world::World;

const NOTE: &str = "Annotations longer than 256 bytes are ignored: ";
const REQUEST: &str = "tenure.dev/reconcile-requested-at";
/// As much as the API server takes.
const LONGEST: usize = 250 * 1024;

fn message(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
    ready["message"].as_str().unwrap().to_owned()
}

/// A fleet of a thousand, whose policy somebody annotates: that costs one write of the policy's status, and nothing else.
#[tokio::test(start_paused = true)]
async fn one_on_a_policy_is_not_repeated_for_its_gateways() {
    let source = Source { wall: time::wall(Duration::ZERO), uptime: Duration::from_hours(1), seed: 1 };
    let _installed = clock::install(source);
    time::set_harness(None);
    let (api, internet) = (Api::new(1, clock::precisely), Internet::new(1));
    api.create(manifest::namespace(NAMESPACE)).unwrap();
    api.create(manifest::secret("shared", plan::USER, "planted-0")).unwrap();
    for number in 0..1_000 {
        let url = format!("https://10.1.{}.{}", number / 250, number % 250 + 1);
        let appliance = plan::appliance(&mut fastrand::Rng::with_seed(number), "planted-0");
        internet.at(Duration::ZERO).systems.insert(url.clone(), appliance);
        api.create(manifest::gateway(&format!("gw-{number}"), &url, "shared", "a")).unwrap();
    }
    api.create(manifest::policy("short", "a", &json!({"timeoutSeconds": 28800, "interval": "24h"}))).unwrap();
    let line = Line { internet: internet.clone(), replica: 1, crash: Crash::never() };
    tokio::spawn(replica::alone(&api, Arc::new(line), &[]).run(std::future::pending()));
    let policy = || api.get(Kind::TokenPolicy, NAMESPACE, "short").unwrap().value.clone();
    tokio::time::sleep(Duration::from_mins(30)).await;
    assert_eq!((reason_of(&policy()), message(&policy()).contains(NOTE)), (json!("InSync"), false));

    let annotate = |value: Option<&str>| {
        api.annotate(Kind::TokenPolicy, (NAMESPACE, "short"), REQUEST, value).unwrap();
    };
    let quiet = || (api.drain_writes(), internet.at(Duration::ZERO).log.len());
    let (_, asked) = quiet();
    annotate(Some(&"x".repeat(LONGEST)));
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(message(&policy()).ends_with(&format!("{NOTE}{REQUEST}.")), "{}", message(&policy()));
    assert!(policy()["status"].to_string().len() < 16 * 1024);
    let (writes, now) = quiet();
    assert_eq!((writes.len(), now), (2, asked), "the annotation and the note: {writes:?}");

    annotate(None);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(!message(&policy()).contains(NOTE), "{}", message(&policy()));
    assert_eq!((quiet().0.len(), quiet().1), (2, asked));

    annotate(Some(&"x".repeat(256)));
    tokio::time::sleep(Duration::from_mins(30)).await;
    assert_eq!(policy()["status"]["lastHandledReconcileAt"], "x".repeat(256));
    assert!(quiet().1 >= asked + 1_000, "each gateway is checked");
    time::set_harness(Some(Duration::ZERO));
}

#[test]
fn each_kind_reports_one_that_is_too_long_until_it_is_gone() {
    reports(&mut world(Knobs::NONE), Kind::X2Gateway, "gw");
    reports(&mut servers(1), Kind::KonaServer, "kona");
    reports(&mut servers(1), Kind::CustomerTokenTtl, "customer-0");
}

fn reports(world: &mut World, kind: Kind, name: &str) {
    let object = |world: &World| world.api.get(kind, NAMESPACE, name).unwrap().value.clone();
    let before = message(&object(world));
    for annotation in [REQUEST, "reconcile.fluxcd.io/requestedAt", "tenure.dev/change-ref"] {
        let long = "x".repeat(257);
        world.api.annotate(kind, (NAMESPACE, name), annotation, Some(&long)).unwrap();
        wait(world);
        assert_eq!(message(&object(world)), format!("{before} {NOTE}{annotation}."), "{kind:?}");
        assert_eq!(object(world)["status"]["lastHandledReconcileAt"], Value::Null);
        world.api.annotate(kind, (NAMESPACE, name), annotation, None).unwrap();
        wait(world);
        assert_eq!(message(&object(world)), before, "{kind:?}");
    }
}
