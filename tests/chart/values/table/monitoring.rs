//! Values that are about monitoring.

use serde_json::{Value, json};

use super::*;

pub const RULE: Object = ("PrometheusRule", "tenure");
pub const DASHBOARD: Object = ("ConfigMap", "tenure-dashboard");
const MONITOR: Object = ("ServiceMonitor", "tenure");
const POD_MONITOR: Object = ("PodMonitor", "tenure");

pub(super) fn monitor() -> Vec<Case> {
    let on = || json!({"serviceMonitor": {"enabled": true}});
    let label = || json!({"release": "prometheus"});
    let rules = || json!([{"action": "labeldrop", "regex": "pod"}]);
    let end = "/spec/endpoints/0";
    let at = |field: &str| format!("{end}/{field}");
    vec![
        makes("serviceMonitor.enabled", json!(true), MONITOR, &at("honorLabels"), json!(true)),
        makes(
            "serviceMonitor.additionalLabels",
            label(),
            MONITOR,
            "/metadata/labels/release",
            json!("prometheus"),
        )
        .beside(on()),
        goes("serviceMonitor.annotations", label(), MONITOR, "/metadata/annotations").beside(on()),
        goes("serviceMonitor.namespace", json!("monitoring"), MONITOR, "/metadata/namespace").beside(on()),
        makes(
            "serviceMonitor.namespace",
            json!("monitoring"),
            MONITOR,
            "/spec/namespaceSelector/matchNames",
            json!([NAMESPACE]),
        )
        .beside(on()),
        goes("serviceMonitor.honorLabels", json!(false), MONITOR, &at("honorLabels")).beside(on()),
        goes("serviceMonitor.jobLabel", json!("team"), MONITOR, "/spec/jobLabel").beside(on()),
        goes("serviceMonitor.targetLabels", json!(["team"]), MONITOR, "/spec/targetLabels").beside(on()),
        goes("serviceMonitor.sampleLimit", json!(50_000), MONITOR, "/spec/sampleLimit").beside(on()),
        goes("serviceMonitor.interval", json!("30s"), MONITOR, &at("interval")).beside(on()),
        goes("serviceMonitor.scrapeTimeout", json!("10s"), MONITOR, &at("scrapeTimeout")).beside(on()),
        goes("serviceMonitor.relabelings", rules(), MONITOR, &at("relabelings")).beside(on()),
        goes("serviceMonitor.metricRelabelings", rules(), MONITOR, &at("metricRelabelings")).beside(on()),
    ]
}

pub(super) fn pod_monitor() -> Vec<Case> {
    let label = || json!({"release": "prometheus"});
    let rules = || json!([{"action": "labeldrop", "regex": "pod"}]);
    let at = |field: &str| format!("/spec/podMetricsEndpoints/0/{field}");
    let on = |path, value: Value, pointer: &str, expected: Value| {
        makes(path, value, POD_MONITOR, pointer, expected).beside(json!({"podMonitor": {"enabled": true}}))
    };
    let shown = |path, value: Value, pointer: &str| on(path, value.clone(), pointer, value);
    let within = "/spec/namespaceSelector/matchNames";
    vec![
        makes("podMonitor.enabled", json!(true), POD_MONITOR, &at("honorLabels"), json!(true)),
        on("podMonitor.additionalLabels", label(), "/metadata/labels/release", json!("prometheus")),
        shown("podMonitor.annotations", label(), "/metadata/annotations"),
        shown("podMonitor.namespace", json!("monitoring"), "/metadata/namespace"),
        on("podMonitor.namespace", json!("monitoring"), within, json!([NAMESPACE])),
        shown("podMonitor.honorLabels", json!(false), &at("honorLabels")),
        shown("podMonitor.jobLabel", json!("team"), "/spec/jobLabel"),
        shown("podMonitor.podTargetLabels", json!(["team"]), "/spec/podTargetLabels"),
        shown("podMonitor.sampleLimit", json!(50_000), "/spec/sampleLimit"),
        shown("podMonitor.interval", json!("30s"), &at("interval")),
        shown("podMonitor.scrapeTimeout", json!("10s"), &at("scrapeTimeout")),
        shown("podMonitor.relabelings", rules(), &at("relabelings")),
        shown("podMonitor.metricRelabelings", rules(), &at("metricRelabelings")),
    ]
}

/// What TenureOperatorDown asks for.
pub fn down(job: &str) -> String {
    format!("absent(tenure_build_info{{namespace=\"{NAMESPACE}\",job=\"{job}\"}})\n")
}

pub(super) fn alerts() -> Vec<Case> {
    let on = |section: &str| json!({section: {"enabled": true}});
    let label = || json!({"release": "prometheus"});
    let labelled =
        |path, object| makes(path, label(), object, "/metadata/labels/release", json!("prometheus"));
    let sidecars = "/metadata/labels/grafana_dashboard";
    let rule = |field: &str| format!("/spec/groups/0/rules/0/{field}");
    let extra =
        || json!([{"alert": "Mine", "expr": "vector(1)", "annotations": {"summary": "{{ $value }}"}}]);
    vec![
        makes("prometheusRule.enabled", json!(true), RULE, "/metadata/namespace", json!(NAMESPACE)),
        labelled("prometheusRule.additionalLabels", RULE).beside(on("prometheusRule")),
        goes("prometheusRule.annotations", label(), RULE, "/metadata/annotations")
            .beside(on("prometheusRule")),
        makes(
            "prometheusRule.runbookBaseUrl",
            json!("https://wiki.example.net/t"),
            RULE,
            &rule("annotations/runbook_url"),
            json!("https://wiki.example.net/t/TenureOperatorDown.md"),
        )
        .beside(on("prometheusRule")),
        goes("prometheusRule.namespace", json!("monitoring"), RULE, "/metadata/namespace")
            .beside(on("prometheusRule")),
        makes("prometheusRule.job", json!("a"), RULE, &rule("expr"), json!(down("a")))
            .beside(on("prometheusRule")),
        makes("prometheusRule.labels", json!({"team": "net"}), RULE, &rule("labels/team"), json!("net"))
            .beside(on("prometheusRule")),
        makes(
            "prometheusRule.rules",
            json!({"TenureOperatorDown": {"for": "1h"}}),
            RULE,
            &rule("for"),
            json!("1h"),
        )
        .beside(on("prometheusRule")),
        makes(
            "prometheusRule.aggregationLabels",
            json!(["cluster"]),
            RULE,
            "/spec/groups/0/rules/1/expr",
            json!("max by (cluster, namespace, job) (tenure_leader) == 0\n"),
        )
        .beside(on("prometheusRule")),
        goes("prometheusRule.extraRules", extra(), RULE, "/spec/groups/1/rules").beside(on("prometheusRule")),
        makes("dashboards.enabled", json!(true), DASHBOARD, sidecars, json!("1")),
        labelled("dashboards.labels", DASHBOARD).beside(on("dashboards")),
        goes("dashboards.annotations", label(), DASHBOARD, "/metadata/annotations").beside(on("dashboards")),
        goes("dashboards.namespace", json!("grafana"), DASHBOARD, "/metadata/namespace")
            .beside(on("dashboards")),
    ]
}
