//! The numbers that alerts compare with.

use serde_json::{Value, json};

use super::super::helm::*;
use super::{rendered_rules, rules_of_the_file};

/// The alerts that compare with a number, and what each compares with by default. No other alert takes a threshold.
const THRESHOLDS: [(&str, u32); 12] = [
    ("TenureWatchStale", 300),
    ("TenurePanics", 0),
    ("TenureCannotLogIn", 0),
    ("TenureNotReady", 0),
    ("TenureVerificationFailed", 0),
    ("TenureContested", 0),
    ("TenureDriftReturns", 10),
    ("TenureRolloutHalted", 0),
    ("TenureApprovalRequired", 0),
    ("TenureProofOld", 86_400),
    ("TenureLifetimeTooLong", 2_592_000),
    ("TenureUnmanagedGateways", 0),
];

/// Of an expression, only the number that the alert compares with changes.
#[test]
fn users_set_each_threshold_and_no_other() {
    let name = |rule: &Value| text(&rule["alert"]).to_owned();
    let changed = |rule: &str| json!({rule: {"threshold": 7_654_321}});
    let (with, without): (Vec<_>, Vec<_>) = rules_of_the_file()
        .iter()
        .map(name)
        .partition(|rule| THRESHOLDS.iter().any(|(known, _)| known == rule));
    assert_eq!(with, THRESHOLDS.map(|(rule, _)| rule));
    for helm in Helm::BOTH {
        let before = rendered_rules(helm, json!({}));
        for (alert, default) in THRESHOLDS {
            let after = rendered_rules(helm, json!({"rules": changed(alert)}));
            for (before, after) in before.iter().zip(&after) {
                let mut expected = before.clone();
                if name(before) == alert {
                    let compared = text(&before["expr"]).strip_suffix(&format!("> {default}\n"));
                    expected["expr"] = json!(format!("{}> 7654321\n", compared.expect(alert)));
                }
                assert_eq!(*after, expected, "{helm:?} {alert}");
            }
        }
        for alert in &without {
            let refusal = helm.refusal(&json!({"prometheusRule": {"rules": changed(alert)}}));
            assert!(refusal.contains(&format!("at '/prometheusRule/rules/{alert}'")), "{helm:?}: {refusal}");
        }
    }
}
