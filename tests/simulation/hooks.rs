//! What the harness can do to the in-memory API server, and that it does just that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api as Resources, ResourceExt as _};
use serde_json::json;
use tenure::crd::X2Gateway;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, timeout};

use crate::api::{Api, Break, Course, Kind, Refusal, Verb, Verdict};

const START: &str = "2026-11-01T08:00:00Z";

/// A server with one gateway, by the clock of the calling runtime.
fn server(seed: u64) -> Api {
    let began = Instant::now();
    let start: Timestamp = START.parse().unwrap();
    let api = Api::new(seed, move || start + jiff::SignedDuration::try_from(began.elapsed()).unwrap());
    api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}})).unwrap();
    api.create(gateway("x")).unwrap();
    api.drain_writes();
    api
}

fn gateway(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "tenure.dev/v1alpha1", "kind": "X2Gateway", "metadata": {"name": name, "namespace": "a"},
        "spec": {"url": "https://10.20.0.11", "credentialsSecretRef": {"name": "x2-admin"}},
    })
}

fn gateways(api: &Api, client: &str) -> Resources<X2Gateway> {
    Resources::namespaced(api.client(client), "a")
}

/// Writes a status, as the operator does.
async fn report(gateways: &Resources<X2Gateway>, policy: &str) -> kube::Result<X2Gateway> {
    let status = Patch::Merge(json!({"status": {"policy": policy}}));
    gateways.patch_status("x", &PatchParams::default(), &status).await
}

fn reported(api: &Api) -> Option<String> {
    let stored = api.get(Kind::X2Gateway, "a", "x").unwrap();
    stored.value["status"]["policy"].as_str().map(str::to_owned)
}

/// Judges writes only.
fn judge_writes(api: &Api, verdict: Verdict) {
    api.set_judge(move |request| if request.verb.writes() { verdict.clone() } else { Verdict::PASS });
}

#[tokio::test(start_paused = true)]
async fn requests_take_the_time_and_end_as_decided() {
    let api = server(1);
    let gateways = gateways(&api, "one");
    let began = Instant::now();
    judge_writes(&api, Verdict::delayed(Duration::from_secs(2), Duration::from_secs(3)));
    report(&gateways, "slow").await.unwrap();
    assert_eq!((began.elapsed(), reported(&api).as_deref()), (Duration::from_secs(5), Some("slow")));
    let write = api.drain_writes().pop().unwrap();
    assert_eq!((&*write.client, write.verb, write.key.1.as_str()), ("one", Verb::Patch, "x"));
    assert_eq!(write.time, START.parse::<Timestamp>().unwrap() + Duration::from_secs(2));
    assert!(write.before.unwrap().version < write.after.unwrap().version);

    for course in [Course::CutOff, Course::LoseAnswer] {
        let applied = matches!(course, Course::LoseAnswer);
        judge_writes(&api, Verdict::of(course));
        let error = report(&gateways, "lost").await.unwrap_err();
        assert!(!matches!(error, kube::Error::Api(_)), "{error}");
        assert_eq!(reported(&api).as_deref(), Some(if applied { "lost" } else { "slow" }));
    }
    judge_writes(&api, Verdict::of(Course::Silence));
    assert!(timeout(Duration::from_hours(1), report(&gateways, "silent")).await.is_err());
    assert_eq!(reported(&api).as_deref(), Some("silent"));
    for code in [400, 403, 409, 410, 422, 429, 500, 503] {
        judge_writes(&api, Verdict::of(Course::Refuse(Refusal::of_code(code).retry_after(7))));
        let Err(kube::Error::Api(status)) = report(&gateways, "refused").await else { panic!("{code}") };
        assert_eq!((status.code, status.details.unwrap().retry_after_seconds), (code, 7));
    }
    assert_eq!(reported(&api).as_deref(), Some("silent"));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_applied_when_it_is_due_even_if_its_client_has_given_up() {
    let api = server(1);
    let gateways = gateways(&api, "one");
    judge_writes(&api, Verdict::delayed(Duration::from_secs(20), Duration::ZERO));
    assert!(timeout(Duration::from_secs(15), report(&gateways, "late")).await.is_err());
    assert_eq!(api.next_due(), Some(START.parse::<Timestamp>().unwrap() + Duration::from_secs(20)));
    api.set_judge(|_| Verdict::PASS);
    report(&gateways, "again").await.unwrap();
    assert_eq!(reported(&api).as_deref(), Some("again"), "it is not due yet");
    tokio::time::sleep(Duration::from_secs(5)).await;
    api.catch_up();
    assert_eq!(
        (reported(&api).as_deref(), api.next_due()),
        (Some("late"), None),
        "an older value after a newer one"
    );
}

#[tokio::test(start_paused = true)]
async fn a_foreign_writer_can_write_in_the_middle_of_a_request() {
    let api = server(1);
    let foreign = api.clone();
    api.set_judge(move |request| {
        if request.verb == Verb::Patch {
            foreign.label(Kind::X2Gateway, ("a", "x"), "site", Some("berlin")).unwrap();
        }
        Verdict::PASS
    });
    let answer = report(&gateways(&api, "one"), "mine").await.unwrap();
    assert_eq!(answer.labels()["site"], "berlin");
}

#[tokio::test(start_paused = true)]
async fn watches_can_be_held_back_broken_and_made_to_list_again() {
    let api = server(1);
    let lists = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lists);
    api.set_judge(move |request| {
        if request.verb == Verb::List {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        Verdict::PASS
    });
    let events = watcher(gateways(&api, "one"), watcher::Config::default().timeout(60));
    let mut events = Box::pin(events.filter_map(async |event| match event {
        Ok(Event::Apply(object) | Event::InitApply(object)) => Some(object.labels().get("site").cloned()),
        Ok(_) | Err(_) => None,
    }));
    let site = |value: &str| Some(value.to_owned());
    let label = |value| drop(api.label(Kind::X2Gateway, ("a", "x"), "site", Some(value)).unwrap());
    assert_eq!(events.next().await, Some(None));

    api.hold("one", Kind::X2Gateway, true);
    label("berlin");
    assert!(timeout(Duration::from_mins(10), events.next()).await.is_err(), "not a word, over ten watches");
    api.hold("one", Kind::X2Gateway, false);
    assert_eq!(events.next().await, Some(site("berlin")));

    for how in [Break::Closed, Break::Failed] {
        api.break_watches("one", Kind::X2Gateway, how);
        label(if how == Break::Closed { "paris" } else { "rome" });
        assert_eq!(
            events.next().await,
            Some(site(if how == Break::Closed { "paris" } else { "rome" })),
            "it resumes"
        );
    }
    assert_eq!(lists.load(Ordering::Relaxed), 1);

    api.break_watches("one", Kind::X2Gateway, Break::Closed);
    label("oslo");
    api.compact(Kind::X2Gateway);
    assert_eq!(events.next().await, Some(site("oslo")), "listed again");
    assert_eq!(lists.load(Ordering::Relaxed), 2);
}

#[test]
fn one_server_serves_several_runtimes_and_outlives_them() {
    let runtime = || Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (first, second) = (runtime(), runtime());
    let api = first.block_on(async { server(1) });
    let first_uid = api.get(Kind::X2Gateway, "a", "x").unwrap().text("uid").unwrap().to_owned();
    let watch = |runtime: &Runtime, api: &Api| {
        let resources = {
            let _entered = runtime.enter();
            gateways(api, "watching")
        };
        Box::pin(watcher(resources, watcher::Config::default()).try_filter_map(async |event| {
            Ok(match event {
                Event::Apply(object) | Event::InitApply(object) => Some(object),
                _ => None,
            })
        }))
    };
    let mut events = watch(&second, &api);
    let seen = second.block_on(events.next()).unwrap().unwrap();
    assert_eq!(seen.uid(), Some(first_uid.clone()));
    first.block_on(async { report(&gateways(&api, "one"), "first").await.unwrap() });
    let seen = second.block_on(events.next()).unwrap().unwrap();
    assert_eq!(seen.status.and_then(|status| status.policy).as_deref(), Some("first"));
    drop(first);
    drop(events);
    let mut events = watch(&second, &api);
    let seen = second.block_on(events.next()).unwrap().unwrap();
    assert_eq!(seen.status.and_then(|status| status.policy).as_deref(), Some("first"));

    let again = second.block_on(async { server(1) });
    assert_eq!(again.get(Kind::X2Gateway, "a", "x").unwrap().text("uid"), Some(first_uid.as_str()));
    let other = second.block_on(async { server(2) });
    assert_ne!(other.get(Kind::X2Gateway, "a", "x").unwrap().text("uid"), Some(first_uid.as_str()));
}

#[tokio::test(start_paused = true)]
async fn rules_can_be_added() {
    let api = server(1);
    api.set_validator(|kind, new, old| {
        let moved = old.is_some_and(|old| old["spec"]["url"] != new["spec"]["url"]);
        (kind == Kind::X2Gateway && moved).then(|| "spec.url: Invalid value: is immutable".to_owned())
    });
    let refusal =
        api.merge(Kind::X2Gateway, "a", "x", json!({"spec": {"url": "https://10.20.0.12"}})).unwrap_err();
    assert_eq!((refusal.code, refusal.reason), (422, "Invalid"));
    api.merge(Kind::X2Gateway, "a", "x", json!({"spec": {"suspend": true}})).unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_status_of_an_object_that_does_not_fit_can_be_written() {
    let api = server(1);
    api.plant(Kind::X2Gateway, ("a", "x"), |object| object["spec"]["requestTimeout"] = json!(7)).unwrap();
    let objects: Resources<DynamicObject> =
        Resources::namespaced_with(api.client("one"), "a", &ApiResource::erase::<X2Gateway>(&()));
    let status = Patch::Merge(json!({"status": {"policy": "mine"}}));
    let object = objects.patch_status("x", &PatchParams::default(), &status).await.unwrap();
    assert_eq!((object.metadata.generation, &object.data["spec"]["requestTimeout"]), (Some(2), &json!(7)));
    let edit = json!({"spec": {"suspend": true}});
    assert_eq!(api.merge(Kind::X2Gateway, "a", "x", edit).unwrap_err().code, 422);
    api.merge(Kind::X2Gateway, "a", "x", json!({"spec": {"requestTimeout": "7s"}})).unwrap();
}
