//! What a deleted resource requires for its customer, and what its reports say.

use jiff::Timestamp;
use tenure::crd::{
    Cause, CustomerTokenTtlSpec, CustomerTokenTtlStatus, DeletionPolicy, KonaServer, Mode, Time, TtlChange,
    TtlSeconds,
};
use tenure::engine::access::AccessError;
use tenure::engine::customer::{
    CONFLICT, Deletion, Original, Parting, RIVAL, Task, Ttl, Wish, answered, changed, drifted, failed,
    parting, paused, rejected, unrecordable,
};
use tenure::engine::ownership::Standing;
use tenure::engine::reason::{EventReason, Reason};
use tenure::engine::remote::{Fault, RemoteError, Shown};
use tenure::engine::verdict::Verdict;

const OURS: Ttl = Ttl { access: 3600, refresh: 86_400 };
const NOW: Time = Time(Timestamp::UNIX_EPOCH);

fn spec(deletion: DeletionPolicy, mode: Mode) -> CustomerTokenTtlSpec {
    let spec = serde_json::json!({
        "serverRef": {"name": "kona"}, "customerId": "1d2b7a10-0000-0000-0000-000000000001",
        "accessTokenTtlSeconds": OURS.access, "refreshTokenTtlSeconds": OURS.refresh,
    });
    CustomerTokenTtlSpec { deletion_policy: deletion, mode, ..serde_json::from_value(spec).unwrap() }
}

fn change(cause: Cause) -> TtlChange {
    TtlChange { time: NOW, from: TtlSeconds::default(), to: OURS.into(), cause, change_ref: None }
}

/// A status after one change at a server.
fn status(cause: Cause, original: Option<Original>) -> CustomerTokenTtlStatus {
    let history = vec![change(cause)];
    let effective_url = Some("https://kona".to_owned());
    CustomerTokenTtlStatus { history, original, effective_url, ..CustomerTokenTtlStatus::default() }
}

#[test]
fn a_deleted_resource_restores_what_it_has_changed_and_nothing_else() {
    let restore = spec(DeletionPolicy::Restore, Mode::Enforce);
    let known = status(Cause::Policy, Some(Original::new()));
    let deletion = Deletion {
        spec: &restore,
        status: &known,
        open: None,
        owed: &[],
        is_paused: false,
        url: Some("https://kona"),
        standing: Standing::Owner,
    };
    let task = Task { written: vec![OURS.into()], original: Original::new() };
    assert_eq!(parting(deletion), Parting::Restore(task.clone()));
    // A server that is gone for now may come back.
    assert_eq!(parting(Deletion { url: None, ..deletion }), Parting::Restore(task));
    let (retain, observe) =
        (spec(DeletionPolicy::Retain, Mode::Enforce), spec(DeletionPolicy::Restore, Mode::Observe));
    let (restored, untouched) =
        (status(Cause::Restore, Some(Original::new())), CustomerTokenTtlStatus::default());
    for as_it_is in [
        Deletion { spec: &retain, ..deletion },
        Deletion { spec: &observe, ..deletion },
        Deletion { is_paused: true, ..deletion },
        Deletion { status: &restored, ..deletion },
        Deletion { status: &untouched, ..deletion },
    ] {
        assert_eq!(parting(as_it_is), Parting::AsItIs, "{as_it_is:?}");
    }
    let unknown = status(Cause::Policy, None);
    for (skipped, why) in [
        (Deletion { status: &unknown, ..deletion }, "the original values are unknown"),
        (
            Deletion { url: Some("https://other"), ..deletion },
            "the server's URL has changed since the last write",
        ),
        (Deletion { standing: Standing::Loser, ..deletion }, RIVAL),
    ] {
        assert_eq!(parting(skipped), Parting::Skipped(why), "{skipped:?}");
    }
}

#[test]
fn an_answer_is_about_the_customer_only_if_the_server_gave_it() {
    let reason =
        |status, is_vendors| answered(Some(status), is_vendors, "id", "kona").map(|verdict| verdict.reason);
    assert_eq!(reason(404, true), Some(Reason::CustomerNotFound));
    assert_eq!(reason(404, false), None, "a proxy has no such page");
    assert_eq!((reason(403, true), reason(403, false)), (Some(Reason::Forbidden), Some(Reason::Forbidden)));
    assert_eq!((reason(500, true), answered(None, false, "id", "kona")), (None, None));
}

#[test]
fn a_failed_exchange_is_the_customers_the_servers_or_the_logins() {
    let refused = |code, shown| RemoteError {
        method: "POST",
        path: "/api/customer",
        fault: Fault::Refused { code, shown },
    };
    let failed = |error: AccessError| failed(&error, "id", "kona");
    assert_eq!(failed(refused(404, Shown::Vendor).into()).reason, Reason::CustomerNotFound);
    let silent = RemoteError { fault: Fault::TimedOut, ..refused(0, Shown::Vendor) };
    let verdict = failed(silent.into());
    assert_eq!(verdict.reason, Reason::TimedOut);
    assert!(verdict.message.starts_with("KonaServer kona: "), "{}", verdict.message);
    let verdict = failed(AccessError::Refused);
    assert_eq!(verdict.reason, Reason::ServerNotReady, "the server reports it");
    assert!(verdict.message.contains("AuthenticationFailed"), "{}", verdict.message);

    let rejected = |code, shown| rejected(&refused(code, shown)).map(|verdict| verdict.reason);
    assert_eq!(rejected(400, Shown::Field("additionalInfo")), Some(Reason::AdditionalInfoUnusable));
    assert_eq!(rejected(400, Shown::Field("title")), Some(Reason::UnexpectedAnswer));
    assert_eq!(rejected(400, Shown::Vendor), Some(Reason::UnexpectedAnswer));
    assert_eq!(rejected(409, Shown::Vendor), None);
}

#[test]
fn what_cannot_be_recorded_is_not_overwritten() {
    let original = |length: usize| Original::from([("accessTokenTtlSeconds".to_owned(), "x".repeat(length))]);
    assert_eq!(unrecordable(&original(256)), None);
    assert_eq!(unrecordable(&original(257)).unwrap().reason, Reason::AdditionalInfoUnusable);
}

#[test]
fn one_of_several_resources_for_a_customer_works_on_it() {
    let reason = |standing: Standing| standing.conflict(&CONFLICT).map(|verdict| verdict.reason);
    assert_eq!((reason(Standing::Owner), reason(Standing::TryNow)), (None, None));
    assert_eq!(reason(Standing::Loser), Some(Reason::Conflict));
    assert_eq!(reason(Standing::Undecided), Some(Reason::Progressing));
}

#[test]
fn a_suspended_server_pauses_its_customers() {
    let server = |suspend: bool| -> KonaServer {
        let spec = serde_json::json!({"url": "https://kona", "credentialsSecretRef": {"name": "login"}, "suspend": suspend});
        serde_json::from_value(serde_json::json!({"apiVersion": "tenure.dev/v1alpha1", "kind": "KonaServer", "metadata": {"name": "kona"}, "spec": spec})).unwrap()
    };
    let resource = spec(DeletionPolicy::Retain, Mode::Enforce);
    let suspended = CustomerTokenTtlSpec { suspend: true, ..resource.clone() };
    assert_eq!((paused(&resource, None), paused(&suspended, None).is_some()), (None, true));
    assert_eq!(paused(&resource, Some(&server(false))), None);
    assert!(paused(&resource, Some(&server(true))).unwrap().contains("KonaServer kona"));
}

#[test]
fn each_change_has_its_event_and_drift_that_is_left_has_one() {
    let event = |cause| changed(&change(cause)).0;
    assert_eq!(event(Cause::Policy), EventReason::TtlChanged);
    assert_eq!(event(Cause::Drift), EventReason::DriftCorrected);
    assert!(changed(&change(Cause::Restore)).1.starts_with("Original token lifetimes restored"));

    let wish = Wish { ttl: OURS, mode: Mode::Enforce, by_login: false };
    let as_desired = CustomerTokenTtlStatus {
        access_token_ttl_seconds: Some(OURS.access),
        refresh_token_ttl_seconds: Some(OURS.refresh),
        ..CustomerTokenTtlStatus::default()
    };
    let note = |before: &CustomerTokenTtlStatus, seen: TtlSeconds, reason| {
        drifted(Some(before), wish, Some(seen), &Verdict::new(reason, "It waits."))
    };
    let other = TtlSeconds::default();
    assert!(note(&as_desired, other, Reason::AwaitingWindow).unwrap().ends_with("(refresh). It waits."));
    assert!(note(&as_desired, other, Reason::Observed).is_some());
    assert_eq!(note(&as_desired, other, Reason::InSync), None, "it is corrected");
    assert_eq!(note(&as_desired, OURS.into(), Reason::Observed), None);
    assert_eq!(
        note(&CustomerTokenTtlStatus::default(), other, Reason::Observed),
        None,
        "it never was as desired"
    );
}
