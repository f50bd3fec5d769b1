//! What a replica knows of the watches that it depends on, and what it does without one of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tenure::admin::Health;

use crate::api::{Api, Kind, Verb, Verdict};
use crate::crash::Crash;
use crate::knobs::Knobs;
use crate::manifest::{self, NAMESPACE};
use crate::remote::{Internet, Line};
use crate::replica;
use crate::scripted::{reason_of, timeout, wait, world};

/// An API server that refuses lists and watches of some kinds, and a replica's own view of it.
struct Watched {
    refused: Arc<Mutex<Vec<(Verb, Kind)>>>,
    /// Requests that were refused.
    refusals: Arc<AtomicUsize>,
    api: Api,
    health: Health,
}

impl Watched {
    fn start() -> Self {
        Self::start_in(&[], 500)
    }

    /// A replica that sees these namespaces, or all, and the status of refusals.
    fn start_in(namespaces: &[&str], code: u16) -> Self {
        let api = Api::new(1, tenure::clock::precisely);
        let refused: Arc<Mutex<Vec<(Verb, Kind)>>> = Arc::default();
        let refusals: Arc<AtomicUsize> = Arc::default();
        let (asked, counted) = (Arc::clone(&refused), Arc::clone(&refusals));
        api.set_judge(move |request| {
            let is_refused = asked.lock().unwrap().contains(&(request.verb, request.target.kind));
            if !is_refused {
                return Verdict::PASS;
            }
            counted.fetch_add(1, Ordering::Relaxed);
            Verdict::refuse(code)
        });
        let line = Line { internet: Internet::new(1), replica: 1, crash: Crash::never() };
        let operator = replica::alone(&api, Arc::new(line), namespaces);
        let health = operator.health();
        tokio::spawn(operator.run(std::future::pending()));
        Self { refused, refusals, api, health }
    }

    fn refuse(&self, refused: &[(Verb, Kind)]) {
        *self.refused.lock().unwrap() = refused.to_vec();
    }

    async fn after(&self, seconds: u64) -> Option<String> {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        self.health.not_ready()
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_is_not_stale() {
    let watched = Watched::start();
    assert!(watched.health.not_ready().is_some());
    for _ in 0..60 {
        assert_eq!(watched.after(61).await, None);
    }
    assert!(
        watched
            .health
            .metrics
            .text()
            .contains("tenure_watch_last_answer_timestamp_seconds{kind=\"KonaServer\"")
    );
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_cannot_be_listed_keeps_a_replica_from_being_ready() {
    let watched = Watched::start();
    watched.refuse(&[(Verb::List, Kind::KonaServer)]);
    let why = watched.after(3600).await.expect("not ready");
    assert_eq!(why, "the cache of KonaServer is not synced yet");
    watched.refuse(&[]);
    assert_eq!(watched.after(61).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_not_answered_is_stale_until_it_is() {
    let watched = Watched::start();
    assert_eq!(watched.after(10).await, None);
    watched.refuse(&[(Verb::Watch, Kind::KonaServer)]);
    // The watch that has begun goes on for a minute.
    assert_eq!(watched.after(120).await, None);
    let why = watched.after(120).await.expect("not ready");
    assert_eq!(why, "the watch of KonaServer is stale: the API server does not answer it");
    watched.refuse(&[]);
    assert_eq!(watched.after(61).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_whose_rights_are_withdrawn_is_left_alone_until_they_are_back() {
    let watched = Watched::start_in(&[NAMESPACE], 403);
    watched.api.create(manifest::namespace(NAMESPACE)).unwrap();
    assert_eq!(watched.after(10).await, None);
    let series = "tenure_watch_last_answer_timestamp_seconds{kind=\"KonaServer\"";
    assert!(watched.health.metrics.text().contains(series));
    // The right to watch alone is withdrawn: what happens meanwhile is missed, and is listed afterwards.
    watched.refuse(&[(Verb::Watch, Kind::KonaServer)]);
    assert_eq!(watched.after(600).await, None, "one namespace holds up no other");
    let refusals = watched.refusals.load(Ordering::Relaxed);
    assert!((2..40).contains(&refusals), "a list may be allowed all the while: {refusals} refusals");
    assert!(watched.health.metrics.text().contains(series), "its age shows that something is wrong");
    let gateway = manifest::gateway("gw", "http://127.0.0.1", "none", "a");
    watched.api.create(gateway).unwrap();
    // A deletion waits for what nothing is done with no longer than it was asked to.
    let mut doomed = manifest::gateway("doomed", "http://127.0.0.1", "none", "a");
    doomed["metadata"]["finalizers"] = json!(["tenure.dev/restore"]);
    doomed["metadata"]["annotations"] = json!({"tenure.dev/skip-restore": "true"});
    watched.api.create(doomed).unwrap();
    assert_eq!(watched.after(60).await, None);
    watched.api.delete(Kind::X2Gateway, NAMESPACE, "doomed").unwrap();
    assert_eq!(watched.after(60).await, None);
    assert!(watched.api.get(Kind::X2Gateway, NAMESPACE, "doomed").is_none(), "its deletion ends");
    assert_eq!(watched.after(60).await, None);
    let status =
        |api: &Api| api.get(Kind::X2Gateway, NAMESPACE, "gw").unwrap().value["status"]["conditions"].clone();
    assert_eq!(status(&watched.api), json!(null), "nothing is done there");
    let server = manifest::server("kona", "http://127.0.0.1", "none");
    watched.api.create(server).unwrap();
    watched.refuse(&[]);
    assert_eq!(watched.after(120).await, None);
    assert_eq!(
        reason_of(&watched.api.get(Kind::X2Gateway, NAMESPACE, "gw").unwrap().value),
        "PlaintextRefused"
    );
    assert_eq!(
        reason_of(&watched.api.get(Kind::KonaServer, NAMESPACE, "kona").unwrap().value),
        "PlaintextRefused"
    );
}

#[test]
fn a_take_over_that_cannot_list_one_kind_works_on_the_others() {
    let mut world = world(Knobs { replicas: true, ..Knobs::NONE });
    world.start(1);
    wait(&mut world);
    world.api.set_judge(|request| {
        let is_refused = (request.verb, request.target.kind) == (Verb::List, Kind::KonaServer);
        if is_refused { Verdict::refuse(500) } else { Verdict::PASS }
    });
    world.crash(0, Duration::from_hours(1));
    let edit = json!({"spec": {"timeoutSeconds": 7200}});
    world.api.merge(Kind::TokenPolicy, NAMESPACE, "short", edit).unwrap();
    wait(&mut world);
    assert_eq!(timeout(&world), 7200, "{}", world.history.text());
}
