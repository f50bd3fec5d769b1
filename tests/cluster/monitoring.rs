//! What the chart brings for Prometheus and Grafana, held against the metrics of a running operator: by Prometheus' own
//! tools, which Go builds from `tests/monitoring`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tenure::engine::reason::Reason;
use tenure_kit::faults::Fault;
use tenure_kit::kona::{KonaOptions, KonaServer};
use tenure_kit::requests::Kind;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::fixture::*;

fn alerts() -> PathBuf {
    root().join("charts/tenure/files/alerts.yaml")
}

/// The folder of `promtool` and of the program that runs queries; built once.
async fn tools() -> &'static Path {
    static TOOLS: OnceCell<PathBuf> = OnceCell::const_new();
    let build = async || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("monitoring");
        std::fs::create_dir_all(&folder).unwrap();
        let mut go = Command::new("go");
        // Without the clients of every cloud, which promtool would use to find targets.
        go.args(["build", "-tags", "remove_all_sd", "-buildvcs=false", "-ldflags", "-s -w", "-o"])
            .arg(&folder);
        go.args([".", "github.com/prometheus/prometheus/cmd/promtool"]);
        go.env("CGO_ENABLED", "0").current_dir(root().join("tests/monitoring"));
        let built =
            go.output().await.expect("install Go 1.26 or newer (https://go.dev/dl): promtool is built by it");
        assert!(built.status.success(), "{}", said(&built));
        folder
    };
    TOOLS.get_or_init(build).await
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn run(tool: &str, arguments: &[&Path]) -> Output {
    Command::new(tools().await.join(tool)).args(arguments).output().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_fire_when_they_should_and_only_then() {
    let [check, test, rules] = ["check", "test", "rules"].map(Path::new);
    let (alerts, tests) = (alerts(), root().join("tests/monitoring/alerts_test.yaml"));
    for arguments in [[check, rules, alerts.as_path()], [test, rules, tests.as_path()]] {
        let output = run("promtool", &arguments).await;
        assert!(output.status.success(), "{}", said(&output));
    }
    // Every alert is seen firing there, and not firing.
    let tests: Value = serde_saphyr::from_str(&std::fs::read_to_string(tests).unwrap()).unwrap();
    let cases =
        tests["tests"].as_array().unwrap().iter().filter_map(|test| test["alert_rule_test"].as_array());
    let mut seen: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    for case in cases.flatten() {
        let fires = !case["exp_alerts"].as_array().unwrap().is_empty();
        seen.entry(case["alertname"].as_str().unwrap().to_owned()).or_default().insert(fires);
    }
    assert!(seen.values().all(|seen| seen.len() == 2), "{seen:?}");
    assert_eq!(seen.into_keys().collect::<BTreeSet<_>>(), rules_by_name().into_keys().collect());
}

/// The rules of a release as the chart renders them are about that release and no other; with a bound and labels of the user.
#[tokio::test]
async fn the_rules_of_a_release_are_about_that_release() {
    let values = "image.repository=registry.example/tenure,prometheusRule.enabled=true,\
                  prometheusRule.aggregationLabels={cluster},prometheusRule.rules.TenureLifetimeTooLong.threshold=3600";
    let mut helm = Command::new(tenure_kit::tools::helm4().unwrap());
    helm.args([
        "template",
        "tenure",
        "--namespace",
        "berlin",
        "--show-only",
        "templates/prometheusrule.yaml",
    ]);
    let rendered = helm.args(["--set", values]).arg(root().join("charts/tenure")).output().await.unwrap();
    assert!(rendered.status.success(), "{}", said(&rendered));
    let rule: Value = serde_saphyr::from_str(&String::from_utf8(rendered.stdout).unwrap()).unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rules-of-a-release");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("rules.yaml"), rule["spec"].to_string()).unwrap();
    let series = |series: &str, values: &str| json!({"series": series, "values": values});
    let expect = |alert: &str, time: &str, alerts: Value| json!({"alertname": alert, "eval_time": time, "exp_alerts": alerts});
    let down = json!([{
        "exp_labels": {"severity": "warning", "namespace": "berlin", "job": "tenure"},
        "exp_annotations": {
            "summary": "The tenure operator is down, or is not scraped.",
            "description": "Prometheus receives no metrics of the operator berlin/tenure. If it is down, token lifetimes stay \
                            as they are, and drift is neither detected nor corrected.",
        },
    }]);
    let long = json!([{
        "exp_labels": {"severity": "warning", "namespace": "site", "cluster": "west"},
        "exp_annotations": {
            "summary": "A token lifetime in namespace site is 2h 0m 0s.",
            "description": "That is longer than the threshold of this alert. The alert includes gateways that no policy governs.",
        },
    }]);
    let tests = json!({"rule_files": ["rules.yaml"], "tests": [{
        "interval": "1m",
        "input_series": [
            series(r#"tenure_build_info{namespace="berlin",job="tenure",cluster="west"}"#, "1x10 _x30 1x20"),
            series(r#"tenure_build_info{namespace="madrid",job="tenure",cluster="west"}"#, "1x60"),
            series(r#"tenure_longest_timeout_seconds{namespace="site",job="tenure",cluster="west"}"#, "7200x60"),
            series(r#"tenure_longest_timeout_seconds{namespace="site",job="tenure",cluster="east"}"#, "3600x60"),
        ],
        "alert_rule_test": [
            expect("TenureOperatorDown", "10m", json!([])),
            expect("TenureOperatorDown", "35m", down),
            expect("TenureOperatorDown", "50m", json!([])),
            expect("TenureLifetimeTooLong", "20m", long),
        ],
    }]});
    let file = folder.join("tests.yaml");
    std::fs::write(&file, tests.to_string()).unwrap();
    let output = run(
        "promtool",
        &["test", "rules"].map(Path::new).into_iter().chain([file.as_path()]).collect::<Vec<_>>(),
    )
    .await;
    assert!(output.status.success(), "{}", said(&output));
}

/// The alerts by their names.
fn rules_by_name() -> BTreeMap<String, Value> {
    let file: Value = serde_saphyr::from_str(&std::fs::read_to_string(alerts()).unwrap()).unwrap();
    let rules =
        file["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    rules.map(|rule| (rule["alert"].as_str().unwrap().to_owned(), rule.clone())).collect()
}

#[test]
fn every_alert_has_its_page_and_every_page_its_alert() {
    const PAGES: &str = "docs/runbooks";
    let rules = rules_by_name();
    for (name, rule) in &rules {
        assert!(["info", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        let annotations = &rule["annotations"];
        assert!(annotations["summary"].is_string() && annotations["description"].is_string(), "{name}");
        let url = annotations["runbook_url"].as_str().unwrap();
        assert!(url.ends_with(&format!("/{PAGES}/{name}.md")), "{url}");
        let page = std::fs::read_to_string(root().join(PAGES).join(format!("{name}.md"))).expect(name);
        assert!(page.starts_with(&format!("# {name}\n")), "{name}");
        for head in ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"] {
            assert_eq!(page.matches(&format!("\n{head}\n")).count(), 1, "{name}: {head}");
        }
    }
    let pages = std::fs::read_dir(root().join(PAGES)).unwrap();
    let pages = pages.map(|page| page.unwrap().file_name().into_string().unwrap());
    assert_eq!(pages.collect::<BTreeSet<_>>(), rules.keys().map(|name| format!("{name}.md")).collect());
}

/// Keeps what the operator shows once it counts objects with these reasons. It counts what its own watches bring, and they
/// may be slower than the test's.
async fn scrape(f: &Fixture, folder: &Path, shown: &[(&str, &str)]) {
    let namespace = f.ns.name();
    let counted = shown.iter().map(|(kind, reason)| {
        format!(r#"tenure_resources{{kind="{kind}",namespace="{namespace}",reason="{reason}"}} "#)
    });
    let counted: Vec<String> = counted.collect();
    let scraped = async {
        loop {
            let text = f.operator().metrics().await.unwrap();
            if counted.iter().all(|series| text.contains(series)) {
                break text;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let text = tokio::time::timeout(SOON, scraped).await.unwrap_or_else(|_| panic!("{counted:?}"));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    std::fs::write(folder.join(format!("{}.txt", now.as_millis())), text).unwrap();
}

/// What promtool finds in the metrics, in the format that it reads.
async fn lint(f: &Fixture) -> String {
    let (_, text) = f.operator().get_as("/metrics", "text/plain").await.unwrap();
    let mut promtool = Command::new(tools().await.join("promtool"));
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
    said(&promtool.wait_with_output().await.unwrap())
}

/// A site at which everything happens that is to be seen: gateways in order, drift that is put back and drift that is only
/// observed, a wrong password, a rollout that halts, and customers.
async fn eventful(f: &mut Fixture, folder: &Path) {
    let fleet = fleet(6);
    let kona = KonaServer::start(KonaOptions::default()).unwrap();
    let id = "1d2b7a10-5c1e-4f2a-9b3d-000000000001";
    kona.add_customer(id, "Acme");
    f.credentials(&fleet).await;
    f.kona(&kona).await;
    f.start().await;
    scrape(f, folder, &[]).await;
    let label = |site: &str| json!({"metadata": {"labels": {"site": site}}});
    let selects = |site: &str, spec: Value| {
        with(policy(site, spec), json!({"spec": {"gatewaySelector": {"matchLabels": {"site": site}}}}))
    };
    for (index, site) in ["berlin", "berlin", "london", "london", "paris", "rome"].into_iter().enumerate() {
        f.apply(&with(gateway(&format!("x2-{index}"), &fleet.appliance(index)), label(site))).await;
    }
    f.apply(&selects("berlin", json!({"timeoutSeconds": 28800, "interval": "24h"}))).await;
    f.apply(&selects("paris", json!({"timeoutSeconds": 28800, "mode": "Observe"}))).await;
    f.apply(&customer("acme", id, 3600, 86400)).await;
    f.reason("TokenPolicy", "berlin", "InSync").await;
    f.reason("TokenPolicy", "paris", "Observed").await;
    f.reason("X2Gateway", "x2-5", "Unmanaged").await;
    f.reason("CustomerTokenTtl", "acme", "InSync").await;
    let shown = [("TokenPolicy", "InSync"), ("TokenPolicy", "Observed"), ("X2Gateway", "Unmanaged")];
    scrape(f, folder, &shown).await;
    fleet.appliance(0).factory_reset();
    f.look("X2Gateway", "x2-0", "drift").await;
    fleet.appliance(2).fault(Fault::status(400, "{}").on(Kind::Write));
    let rollout =
        json!({"timeoutSeconds": 7200, "interval": "24h", "rollout": {"maxConcurrent": 1, "maxFailures": 0}});
    f.apply(&selects("london", rollout)).await;
    f.reason("TokenPolicy", "london", "RolloutHalted").await;
    scrape(f, folder, &[("TokenPolicy", "RolloutHalted")]).await;
    f.ns.secret("wrong", &[("username", "admin"), ("password", "planted-wrong-password")]).await.unwrap();
    f.patch("X2Gateway", "x2-1", json!({"spec": {"credentialsSecretRef": {"name": "wrong"}}})).await;
    f.reason("X2Gateway", "x2-1", "AuthenticationFailed").await;
    f.reason("TokenPolicy", "berlin", "AuthenticationFailed").await;
    scrape(f, folder, &[("TokenPolicy", "RolloutHalted"), ("TokenPolicy", "AuthenticationFailed")]).await;
}

/// The words of the label `reason` in a query.
fn reasons(query: &str) -> impl Iterator<Item = &str> {
    let values = query.split("reason=").skip(1).filter_map(|rest| rest.split('"').nth(1));
    values.flat_map(|words| words.split('|'))
}

/// Whether a selector finds nothing only because no object shows these reasons: all else in it exists. It is written
/// `[kind="X2Gateway" reason=~"Unreachable|TimedOut" __name__="tenure_resources"]`.
fn is_of_reasons(selector: &str) -> bool {
    let parts: Vec<&str> = selector.trim_matches(['[', ']']).split('"').collect();
    let exists = |label: &str, value: &str| match label.trim_matches([' ', '=', '!', '~']) {
        "__name__" => value == "tenure_resources",
        "kind" => {
            value.split('|').all(|word| tenure::crd::Kind::ALL.iter().any(|kind| kind.as_str() == word))
        }
        "reason" => value.split('|').all(|word| word == UNKNOWN || Reason::parse(word).is_some()),
        // What stands in place of variables of the dashboard.
        "cluster" | "namespace" => value == ".*",
        _ => false,
    };
    selector.contains("tenure_resources")
        && reasons(selector).next().is_some()
        && parts.chunks_exact(2).all(|pair| exists(pair[0], pair[1]))
}

/// Reasons that need nobody, or that show another object's: a policy's those of its gateways, a customer's that of its server.
const NEED_NOBODY: [Reason; 8] = [
    Reason::InSync,
    Reason::Unmanaged,
    Reason::Overridden,
    Reason::Observed,
    Reason::AwaitingWindow,
    Reason::AwaitingRollout,
    Reason::GatewaysNotReady,
    Reason::ServerNotReady,
];

/// What the metrics count a resource as that has no reason yet: the first reconcile is a matter of seconds.
const UNKNOWN: &str = "Unknown";

/// Within half an hour: `for` is in minutes.
#[test]
fn every_reason_soon_raises_an_alert_or_needs_nobody() {
    let mut alerting = BTreeSet::new();
    for (name, rule) in rules_by_name() {
        // What follows `unless` is no cause.
        let causes = rule["expr"].as_str().unwrap().split("unless").next().unwrap();
        let causes: BTreeSet<String> = reasons(causes).map(str::to_owned).collect();
        let minutes = rule["for"].as_str().map(|time| time.strip_suffix('m')?.parse::<u32>().ok());
        assert!(
            causes.is_empty() || minutes.is_none_or(|time| time.is_some_and(|time| time <= 30)),
            "{name}"
        );
        alerting.extend(causes);
    }
    let expected = Reason::ALL.iter().filter(|reason| !NEED_NOBODY.contains(reason));
    let expected = expected.map(|reason| reason.as_str()).chain([UNKNOWN]).map(str::to_owned);
    assert_eq!(alerting, expected.collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_dashboard_and_of_the_alerts_runs_on_real_metrics() {
    let mut f = Fixture::new("monitoring").await;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(f.ns.name());
    std::fs::create_dir_all(&folder).unwrap();
    eventful(&mut f, &folder).await;
    let lint = lint(&f).await;
    assert!(lint.is_empty(), "{lint}");
    let (dashboard, rules) = (root().join("charts/tenure/files/dashboard.json"), alerts());
    let files = [&dashboard, &rules, &folder].map(PathBuf::as_path);
    let output = run("monitoring", &[&[Path::new("check")][..], &files[..]].concat()).await;
    assert!(output.status.success(), "{}", said(&output));
    let findings: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // What does not happen here is seen firing in alerts_test.yaml.
    let silent = [
        "TenureOperatorDown",
        "TenureNoLeader",
        "TenureWatchStale",
        "TenureNothingReconciled",
        "TenurePanics",
        "TenureVerificationFailed",
        "TenureContested",
        "TenureDriftReturns",
        "TenureRolloutStuck",
        "TenureApprovalRequired",
        "Awaiting approval",
        "TenureProofOld",
        "TenureLifetimeTooLong",
    ];
    for finding in &findings {
        let expected = !silent.contains(&finding["of"].as_str().unwrap());
        assert_eq!(finding["samples"].as_u64().unwrap() > 0, expected, "{finding}");
        let missing = finding["missing"].as_array().unwrap();
        assert!(missing.iter().all(|selector| is_of_reasons(selector.as_str().unwrap())), "{finding}");
    }
    let kinds = |kind: &str| findings.iter().filter(|finding| finding["kind"] == kind).count();
    let panels: Value = serde_json::from_str(&std::fs::read_to_string(&dashboard).unwrap()).unwrap();
    let targets =
        panels["panels"].as_array().unwrap().iter().map(|panel| panel["targets"].as_array().unwrap().len());
    assert_eq!(kinds("panel"), targets.sum::<usize>());
    assert_eq!((kinds("variable"), kinds("annotation"), kinds("alert")), (5, 2, rules_by_name().len()));
    std::fs::remove_dir_all(&folder).unwrap();
    f.finish().await;
}
