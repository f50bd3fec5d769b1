//! How long a deletion waits for its server: as long as promised, and not if somebody says otherwise.

use kube::api::DeleteParams;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_waited_for_until_somebody_says_otherwise() {
    let (f, kona, acme) = held("silent", BEFORE).await;
    kona.stop_listening().await;
    delete(&f).await;
    let object = f.reason(CTT, "acme", "Unreachable").await;
    assert!(message(&object).contains("tenure.dev/skip-restore"), "{}", message(&object));
    assert_eq!(finalizers(&object), [OURS]);
    f.patch(CTT, "acme", json!({"metadata": {"annotations": {"tenure.dev/skip-restore": "false"}}})).await;
    f.patch(CTT, "acme", json!({"metadata": {"annotations": {"tenure.dev/skip-restore": "true"}}})).await;
    gone(&f).await;
    assert!(f.event("acme", "RestoreSkipped").await.contains("skip-restore"));
    assert_eq!(acme.token_ttls(), (Some(3600), Some(86400)));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_server_does_not_keep_the_annotation_waiting() {
    let (f, _kona, acme) = held("hanging", BEFORE).await;
    f.patch("KonaServer", "kona", json!({"spec": {"requestTimeout": "5m"}})).await;
    f.reason("KonaServer", "kona", "InSync").await;
    acme.fault(Fault::hang().on(Kind::Get));
    let gets = acme.counts().get;
    delete(&f).await;
    acme.requests().wait_arrived(Kind::Get, gets + 1).await;
    f.patch(CTT, "acme", json!({"metadata": {"annotations": {"tenure.dev/skip-restore": "true"}}})).await;
    f.ns.wait_until_gone(CTT, "acme", Duration::from_secs(30)).await.unwrap();
    f.event("acme", "RestoreSkipped").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_hangs_does_not_keep_a_deletion_waiting() {
    let (f, _kona, acme) = held("checking", BEFORE).await;
    f.patch("KonaServer", "kona", json!({"spec": {"requestTimeout": "5m"}})).await;
    f.reason("KonaServer", "kona", "InSync").await;
    acme.fault(Fault::hang().on(Kind::Get));
    let gets = acme.counts().get;
    f.request(CTT, "acme", "now").await;
    acme.requests().wait_arrived(Kind::Get, gets + 1).await;
    f.patch(CTT, "acme", json!({"metadata": {"annotations": {"tenure.dev/skip-restore": "true"}}})).await;
    delete(&f).await;
    f.ns.wait_until_gone(CTT, "acme", Duration::from_secs(30)).await.unwrap();
    f.event("acme", "RestoreSkipped").await;
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_is_restored() {
    let (f, kona, acme) = held("back", BEFORE).await;
    kona.stop_listening().await;
    delete(&f).await;
    f.reason(CTT, "acme", "Unreachable").await;
    kona.resume_listening().unwrap();
    f.request(CTT, "acme", "now").await;
    gone(&f).await;
    assert_eq!(acme.field("additionalInfo").as_deref(), Some(BEFORE));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_although_nothing_can_be_restored() {
    let (f, kona, acme) = held("ending", BEFORE).await;
    // Its Secret and its server are gone first, and nobody answers.
    kona.stop_listening().await;
    f.ns.delete_object("Secret", "kona-admin").await.unwrap();
    delete(&f).await;
    f.wait(CTT, "acme", |object| object.metadata.deletion_timestamp.is_some()).await;
    assert_eq!(finalizers(&f.get(CTT, "acme").await), [OURS]);
    let namespaces = f.ns.api("Namespace").await.unwrap();
    namespaces.delete(f.ns.name(), &DeleteParams::default()).await.unwrap();
    f.ns.wait_until_gone("Namespace", f.ns.name(), SOON).await.unwrap();
    assert_eq!(acme.token_ttls(), (Some(3600), Some(86400)));
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_server_is_asked_again_on_request_only() {
    let (f, _kona, acme) = held("failing", BEFORE).await;
    acme.fault(Fault::status(500, "{}").on(Kind::Get));
    delete(&f).await;
    let object = f.reason(CTT, "acme", "UnexpectedAnswer").await;
    assert!(message(&object).contains("ten minutes"), "{}", message(&object));
    let object = f.look(CTT, "acme", "again").await;
    assert_eq!(ready(&object)["reason"], "UnexpectedAnswer");
    assert_eq!(finalizers(&object), [OURS]);
    acme.clear_faults();
    f.request(CTT, "acme", "now").await;
    gone(&f).await;
    assert_eq!(acme.field("additionalInfo").as_deref(), Some(BEFORE));
    f.finish().await;
}
