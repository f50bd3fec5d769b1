//! What each reason means: the columns of its table, written out.

use std::collections::BTreeSet;

use tenure::engine::reason::{ConditionType, EventReason, Kstatus, Progress, Reason, Retry};

fn those(that: impl Fn(Reason) -> bool) -> BTreeSet<&'static str> {
    Reason::ALL.iter().filter(|reason| that(**reason)).map(|reason| reason.as_str()).collect()
}

fn words(list: &str) -> BTreeSet<&str> {
    list.split_whitespace().collect()
}

#[test]
fn a_ready_object_reports_only_repeated_failures_that_may_pass() {
    let passing = "Unreachable TimedOut RateLimited UnexpectedAnswer TlsFailed CustomerNotFound AdminRoleRequired Forbidden \
        ServerNotReady SecretNotFound SecretKeyMissing ConfigMapNotFound";
    assert_eq!(those(Reason::may_pass), words(passing));
}

#[test]
fn a_restart_spreads_what_the_remote_side_caused() {
    let remote = "ServerNotReady Unreachable TimedOut RateLimited UnexpectedAnswer TlsFailed AuthenticationFailed \
        AdminRoleRequired Forbidden CustomerNotFound AdditionalInfoUnusable VerificationFailed Contested";
    assert_eq!(those(Reason::is_remote), words(remote));
}

#[test]
fn references_are_polled() {
    let references = "SecretNotFound SecretKeyMissing ConfigMapNotFound SecretTypeRefused OriginNotAllowed CaUnusable \
        ServerNotFound";
    assert_eq!(those(Reason::awaits_reference), words(references));
}

#[test]
fn what_is_checked_at_the_interval_although_it_is_not_ready() {
    let slow = "Drifted AwaitingWindow AwaitingRollout AwaitingApproval VerificationFailed Contested";
    assert_eq!(those(|reason| reason.retry() == Retry::Interval && !reason.is_ready()), words(slow));
    assert!(Reason::ALL.iter().all(|reason| !reason.is_ready() || reason.retry() == Retry::Interval));
    for reason in Reason::ALL.iter().filter(|reason| reason.retry() != Retry::Interval) {
        let backs_off = reason.retry() == Retry::Backoff;
        assert_eq!(backs_off, reason.kstatus() == Kstatus::InProgress, "{reason:?}");
    }
}

#[test]
fn waiting_is_neither_a_failure_nor_a_warning() {
    assert_eq!(those(Reason::awaits_permission), words("AwaitingWindow AwaitingRollout AwaitingApproval"));
    let open = those(|reason| !reason.is_ready() && !reason.is_failed_change());
    assert_eq!(open, words("Drifted Progressing AwaitingWindow AwaitingRollout AwaitingApproval"));
    // What a policy sums up is the Warning of its gateways, or an event of its own.
    let silent = words(
        "Drifted Progressing AwaitingWindow AwaitingRollout AwaitingApproval NoGatewaysMatch GatewaysNotReady RolloutHalted",
    );
    assert_eq!(those(|reason| !reason.is_ready() && !reason.is_warning()), silent);
    assert!(Reason::ALL.iter().all(|reason| !(reason.is_ready() && reason.is_warning())));
    assert!(Reason::ALL.iter().all(|reason| reason.is_ready() == (reason.progress() == Progress::Settled)));
}

#[test]
fn types_and_events_are_the_contracts_words() {
    let types: Vec<_> = ConditionType::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(types, ["Ready", "Reconciling", "Stalled", "Suspended", "Insecure", "Risky"]);
    assert_eq!(EventReason::RestoreSkipped.as_str(), "RestoreSkipped");
    assert_eq!(EventReason::NotReady(Reason::Contested).as_str(), "Contested");
}
