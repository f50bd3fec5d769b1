//! What one object, or one namespace, does to the others: nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tenure::clock::{self, Source};
use tenure::engine::remote::{Broken, Fault};
use tenure::vendor::endpoint::Endpoint;
use tenure::vendor::wire::{Answer, MaySend, Request, Wire};

use crate::api::{Api, Kind, Verb, Verdict};
use crate::crash::Crash;
use crate::manifest::{self, NAMESPACE};
use crate::plan::{self, appliance_url};
use crate::remote::{Internet, Line};
use crate::replica;
use crate::scripted::reason_of;
use crate::time;

/// A network on which the way to one system panics, and all others are away.
#[derive(Debug)]
struct Panicking(String);

impl Wire for Panicking {
    fn transfer<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        _: Request<'a>,
        _: MaySend<'a>,
    ) -> BoxFuture<'a, Result<Option<Answer>, Fault>> {
        let panics = endpoint.base.to_string() == self.0;
        async move {
            assert!(!panics, "the way to this system panics");
            Err(Fault::Unreachable(Broken::NotMade))
        }
        .boxed()
    }
}

fn in_namespace(mut object: Value, namespace: &str) -> Value {
    object["metadata"]["namespace"] = json!(namespace);
    object
}

/// An API server with two namespaces and a Secret in each.
fn two_namespaces() -> Api {
    let api = Api::new(1, clock::precisely);
    for namespace in [NAMESPACE, "other"] {
        api.create(manifest::namespace(namespace)).unwrap();
        api.create(in_namespace(manifest::secret("shared", plan::USER, "planted-0"), namespace)).unwrap();
    }
    api
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_counted_and_ends_one_reconcile_of_one_object() {
    let api = two_namespaces();
    for number in 0..2 {
        let name = format!("gw-{number}");
        api.create(manifest::gateway(&name, &appliance_url(number), "shared", "a")).unwrap();
    }
    let operator = replica::alone(&api, Arc::new(Panicking(appliance_url(0))), &[]);
    let health = operator.health();
    tokio::spawn(operator.run(std::future::pending()));
    tokio::time::sleep(Duration::from_secs(90)).await;
    let text = health.metrics.text();
    assert!(text.contains("tenure_panics_total 2\n"), "once, and again after a minute: {text}");
    assert!(text.contains("tenure_reconciles_total{kind=\"X2Gateway\",result=\"panic\"} 2\n"), "{text}");
    let other = api.get(Kind::X2Gateway, NAMESPACE, "gw-1").unwrap();
    assert_eq!(reason_of(&other.value), "Unreachable");
    assert_eq!(health.not_ready(), None);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_with_missing_rights_holds_up_no_rival_elsewhere() {
    let source = Source { wall: time::wall(Duration::ZERO), uptime: Duration::from_hours(1), seed: 1 };
    let _installed = clock::install(source);
    time::set_harness(None);
    let api = two_namespaces();
    let gateway = manifest::gateway("gw", &appliance_url(0), "shared", "a");
    api.create(in_namespace(gateway.clone(), "other")).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    api.create(gateway).unwrap();
    let denied: Arc<Mutex<u32>> = Arc::default();
    let count = Arc::clone(&denied);
    api.set_judge(move |request| {
        let (verb, target) = (request.verb, &request.target);
        let is_denied =
            (verb, target.kind, target.namespace.as_deref()) == (Verb::List, Kind::KonaServer, Some("other"));
        *count.lock().unwrap() += u32::from(is_denied);
        if is_denied { Verdict::refuse(403) } else { Verdict::PASS }
    });
    let internet = Internet::new(1);
    let appliance = plan::appliance(&mut fastrand::Rng::with_seed(1), "planted-0");
    internet.at(Duration::ZERO).systems.insert(appliance_url(0), appliance);
    let line = Line { internet, replica: 1, crash: Crash::never() };
    let operator = replica::alone(&api, Arc::new(line), &[NAMESPACE, "other"]);
    tokio::spawn(operator.run(std::future::pending()));
    tokio::time::sleep(Duration::from_mins(2)).await;
    let gateway = api.get(Kind::X2Gateway, NAMESPACE, "gw").unwrap();
    assert_eq!(reason_of(&gateway.value), "Unmanaged");
    assert!(*denied.lock().unwrap() > 0);
    time::set_harness(Some(Duration::ZERO));
}
