//! What of an annotation counts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use tenure::crd::{
    APPROVE, CHANGE_REF, FLUX_REQUESTED_AT, OVERRIDE_WINDOW_UNTIL, RECONCILE_REQUESTED_AT, SKIP_RESTORE,
};
use tenure::engine::annotation::{ignored, trim, value};
use tenure::engine::conditions::{Notes, Verdict, conditions};
use tenure::engine::reason::Reason;
use tenure::engine::request;
use tenure::engine::window::override_annotation;

const ALL: [&str; 6] =
    [APPROVE, CHANGE_REF, OVERRIDE_WINDOW_UNTIL, RECONCILE_REQUESTED_AT, SKIP_RESTORE, FLUX_REQUESTED_AT];

fn annotated(annotations: &[(&str, String)]) -> ObjectMeta {
    let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    ObjectMeta { annotations: Some(annotations.collect()), ..ObjectMeta::default() }
}

#[test]
fn a_value_counts_up_to_256_bytes() {
    for name in ALL {
        for (text, counts) in [
            (String::new(), true),
            ("x".repeat(256), true),
            ("x".repeat(257), false),
            ("ü".repeat(128), true),
            ("ü".repeat(129), false),
            ("x".repeat(250 * 1024), false),
        ] {
            let mut meta = annotated(&[(name, text.clone())]);
            for _ in 0..2 {
                assert_eq!(value(&meta, name), counts.then_some(text.as_str()), "{name}: {}", text.len());
                assert_eq!(ignored(&meta).is_empty(), counts, "{name}: {}", text.len());
                // The same after what does not count was dropped.
                trim(meta.annotations.as_mut().unwrap());
            }
            assert!(meta.annotations.unwrap()[name].len() <= 257);
        }
    }
}

#[test]
fn what_reads_an_annotation_ignores_one_that_is_too_long() {
    let long = "2026-11-22T22:00:00Z".repeat(20);
    assert_eq!(override_annotation(&annotated(&[(OVERRIDE_WINDOW_UNTIL, long.clone())])), None);
    let asked = annotated(&[(RECONCILE_REQUESTED_AT, long.clone()), (FLUX_REQUESTED_AT, "now".to_owned())]);
    assert_eq!(request::of(&asked), Some("now"));
    assert_eq!(request::of(&annotated(&[(FLUX_REQUESTED_AT, long)])), None);
}

#[test]
fn a_message_names_those_that_are_ignored_once() {
    let verdict = Verdict::new(Reason::InSync, "The token lifetime is 3600s.");
    let report = |verdict: &Verdict, meta: &ObjectMeta| -> Vec<Condition> {
        let time = Time(jiff::Timestamp::UNIX_EPOCH);
        conditions(&[], &verdict.noting_ignored(meta), &Notes::default(), 1, &time)
    };
    let long = "x".repeat(257);
    let meta = annotated(&[(APPROVE, long.clone()), (CHANGE_REF, "CHG-1".to_owned()), (SKIP_RESTORE, long)]);
    let reported = report(&verdict, &meta);
    let note = "Annotations longer than 256 bytes are ignored: tenure.dev/approve, tenure.dev/skip-restore.";
    assert_eq!(reported[0].message, format!("The token lifetime is 3600s. {note}"));
    // What is taken from a condition and reported again has it once, and none when the annotation is gone.
    assert_eq!(Verdict::reported(&reported), Some(verdict.clone()));
    let plain = report(&verdict, &ObjectMeta::default());
    assert_eq!(plain[0].message, verdict.message);
    assert_eq!(Verdict::reported(&plain), Some(verdict));
}
