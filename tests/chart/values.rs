//! Each value does what it says, and nothing else is taken for a value.

mod dashboards;
mod table;
mod thresholds;

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use super::conformity::{admission, monitoring, pod_monitoring};
use super::documents::documented;
use super::helm::*;
use table::monitoring::{DASHBOARD, RULE, down};
use table::{DEPLOYMENT, cases};

#[test]
fn each_value_does_what_it_says() {
    let cases = cases();
    let tried: BTreeSet<&str> = cases.iter().map(|case| case.path).collect();
    let all = documented().into_iter().map(|value| value.path);
    let forgotten: Vec<String> = all.filter(|path| !tried.contains(path.as_str())).collect();
    assert_eq!(forgotten, [""; 0]);
    let mut rendered = HashMap::new();
    for case in cases {
        let without = case.without();
        let without = rendered.entry(without.to_string()).or_insert_with(|| Helm::Four.render(&without));
        assert!(!case.shows(without), "shows without the value: {}", case.place());
        for helm in Helm::BOTH {
            assert!(case.shows(&helm.render(&case.values())), "{helm:?} {}", case.place());
        }
    }
}

#[test]
fn typos_and_impossible_values_are_refused_with_a_sentence() {
    let cases = [
        (json!({"replicas": 3}), "additional properties 'replicas' not allowed"),
        (json!({"operator": {"concurency": 3}}), "additional properties 'concurency' not allowed"),
        (json!({"image": {"digest": "latest"}}), "at '/image/digest'"),
        (json!({"log": {"level": "verbose"}}), "at '/log/level'"),
        (json!({"rbac": {"scope": "namespaces"}}), "at '/rbac/namespaces'"),
        (json!({"rbac": {"namespaces": ["a"]}}), "at '/rbac/namespaces'"),
        (json!({"rbac": {"scope": "namespaces", "namespaces": ["A b"]}}), "at '/rbac/namespaces/0'"),
        (json!({"operator": {"allowCidr": ["10.0.0.1"]}}), "at '/operator/allowCidr/0'"),
        (json!({"operator": {"allowPorts": ["https"]}}), "at '/operator/allowPorts/0'"),
        (json!({"operator": {"allowPorts": [65536]}}), "at '/operator/allowPorts/0'"),
        (json!({"operator": {"minTimeout": "10m"}}), "at '/operator/minTimeout'"),
        (json!({"operator": {"retryRefusedLoginsAfter": "a day"}}), "at '/operator/retryRefusedLoginsAfter'"),
        (json!({"terminationGracePeriodSeconds": 22}), "at '/terminationGracePeriodSeconds'"),
        (
            json!({"rbac": {"scope": "namespaces", "namespaces": null}}),
            "at '/rbac': missing property 'namespaces'",
        ),
        (
            json!({"operator": {"minTimeout": 86400, "maxTimeout": 7200}}),
            "operator.minTimeout must not be greater than operator.maxTimeout",
        ),
        (
            json!({"podDisruptionBudget": {"maxUnavailable": null}}),
            "podDisruptionBudget.maxUnavailable or podDisruptionBudget.minAvailable must be set",
        ),
        (
            json!({"serviceMonitor": {"enabled": true}, "podMonitor": {"enabled": true}}),
            "serviceMonitor.enabled and podMonitor.enabled must not both be true",
        ),
        (json!({"prometheusRule": {"runbookBaseUrl": "wiki"}}), "at '/prometheusRule/runbookBaseUrl'"),
        (json!({"prometheusRule": {"rules": {"TenureDown": {}}}}), "at '/prometheusRule/rules'"),
        (
            json!({"prometheusRule": {"rules": {"TenureNoLeader": {"threshold": 1}}}}),
            "at '/prometheusRule/rules/TenureNoLeader'",
        ),
        (json!({"leaderElection": {"enabled": false}}), "replicaCount must be 1"),
        (
            json!({"leaderElection": {"leaseDurationSeconds": 14}}),
            "leaderElection.leaseDurationSeconds must be at least 5 more",
        ),
        (
            json!({"leaderElection": {"retryPeriodSeconds": 10}}),
            "leaderElection.renewDeadlineSeconds must be greater",
        ),
        (json!({"leaderElection": {"retryPeriodSeconds": 0}}), "at '/leaderElection/retryPeriodSeconds'"),
        (json!({"serviceAccount": {"create": false}}), "serviceAccount.name must name an account"),
    ];
    for (values, words) in cases {
        for helm in Helm::BOTH {
            let refusal = helm.refusal(&values);
            assert!(refusal.contains(words), "{helm:?} {values}: {refusal}");
        }
    }
}

/// Nothing is published that a default could name. A registry alone is no image, either.
#[test]
fn without_an_image_nothing_is_rendered() {
    let chart = chart();
    for values in [json!({}), json!({"global": {"imageRegistry": "r.example.net"}, "image": {"tag": "1"}})] {
        for helm in Helm::BOTH {
            let arguments = ["template", "tenure", path(&chart), "--values", "-"];
            let refusal = helm.run(&arguments, &values).unwrap_err();
            assert!(refusal.contains("image.repository must name an image"), "{helm:?} {values}: {refusal}");
        }
    }
}

#[test]
fn a_chart_that_depends_on_this_one_may_pass_global_values() {
    let secrets = json!(["pull", {"name": "own"}, {"name": "other"}]);
    let values = json!({
        "global": {"imageRegistry": "r.example.net/", "imagePullSecrets": secrets, "else": 1},
        "imagePullSecrets": [{"name": "own"}],
        "image": {"registry": "other.example.net", "repository": "net/tenure", "tag": "1"},
    });
    for helm in Helm::BOTH {
        let rendered = helm.render(&values);
        for (kind, name) in [("Deployment", "tenure"), ("Job", "tenure-release-finalizers")] {
            let pod = &find(&rendered, kind, name).unwrap()["spec"]["template"]["spec"];
            assert_eq!(pod["containers"][0]["image"], "r.example.net/net/tenure:1", "{helm:?}");
            let names = json!([{"name": "own"}, {"name": "pull"}, {"name": "other"}]);
            assert_eq!(pod["imagePullSecrets"], names, "{helm:?}");
        }
    }
}

/// What the pages show as values of the chart are some.
#[test]
fn the_values_of_the_pages_are_values() {
    let mut blocks = 0;
    for page in tenure_kit::book::pages(root()).unwrap() {
        for block in page.blocks().iter().filter(|block| block.info == ["yaml", "values"]) {
            let values: Value = serde_saphyr::from_str(&block.text).unwrap();
            for helm in Helm::BOTH {
                let rendered = helm.render(&values);
                assert!(!rendered.is_empty(), "{}", page.path.display());
                for dashboard in rendered.iter().filter(|object| object["kind"] == "GrafanaDashboard") {
                    let source = &dashboard["spec"]["configMapRef"];
                    let map = find(&rendered, "ConfigMap", text(&source["name"])).unwrap();
                    assert!(map["data"][text(&source["key"])].is_string(), "{source}");
                }
            }
            blocks += 1;
        }
    }
    assert!(blocks >= 4, "{blocks}");
}

/// The samples for Flux and Argo CD install the chart with values that it takes.
#[test]
fn the_samples_values_are_values() {
    let places = [
        ("examples/argocd/application.yaml", "/spec/source/helm/valuesObject"),
        ("examples/flux/operator/release.yaml", "/spec/values"),
    ];
    for (file, pointer) in places {
        let samples = objects(&std::fs::read_to_string(root().join(file)).unwrap());
        let values: Vec<&Value> = samples.iter().filter_map(|sample| sample.pointer(pointer)).collect();
        assert_eq!(values.len(), 1, "{file}");
        assert!(!Helm::Four.render(values[0]).is_empty(), "{file}");
    }
}

#[test]
fn an_older_kubernetes_is_refused() {
    for helm in Helm::BOTH {
        let (chart, image) = (chart(), image());
        let render = |version| {
            let arguments =
                ["template", "tenure", path(&chart), "--values", path(&image), "--kube-version", version];
            helm.run(&arguments, &Value::Null).map(drop)
        };
        let refusal = render("1.32.9").unwrap_err();
        assert!(refusal.contains("requires kubeVersion: >=1.33.0"), "{helm:?}: {refusal}");
        for version in ["1.33.0", "1.33.4-gke.1", "1.40.0"] {
            assert_eq!(render(version), Ok(()), "{helm:?} {version}");
        }
    }
}

#[test]
fn lint_finds_nothing() {
    for helm in Helm::BOTH {
        let printed = helm.run(&["lint", "--strict", path(&chart())], &Value::Null).unwrap();
        assert!(printed.contains("1 chart(s) linted, 0 chart(s) failed"), "{printed}");
        assert!(!printed.contains("[WARNING]"), "{printed}");
    }
}

/// Two releases in a cluster, even in one namespace, share no name, and above all no Lease.
#[test]
fn releases_do_not_meet() {
    let render = |release: &str, namespace: &str| {
        let values = json!({"crds": {"enabled": false}});
        objects(&Helm::Four.template_as(release, namespace, &values).unwrap())
    };
    let releases = [render("berlin", "a"), render("madrid", "a"), render("berlin", "b")];
    let place = |object: &Value| {
        let metadata = &object["metadata"];
        format!("{}/{}/{}", text(&object["kind"]), metadata["namespace"], text(&metadata["name"]))
    };
    let all: Vec<String> = releases.iter().flatten().map(place).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
    for (objects, lease) in releases.iter().zip(["berlin-tenure", "madrid-tenure", "berlin-tenure"]) {
        let args =
            &find(objects, "Deployment", lease).unwrap()["spec"]["template"]["spec"]["containers"][0]["args"];
        assert!(args.as_array().unwrap().contains(&json!(format!("--lease-name={lease}"))), "{args}");
    }
}

/// All that a release has in its namespace, or names by it.
#[test]
fn another_namespace_is_as_good_as_that_of_the_release() {
    for mut values in [monitoring(), pod_monitoring(), admission()] {
        let place =
            |release: &str, values: &Value| Helm::Four.template_as("tenure", release, values).unwrap();
        let there = objects(&place(NAMESPACE, &values));
        values["namespaceOverride"] = json!(NAMESPACE);
        assert_eq!(objects(&place("elsewhere", &values)), there, "{values}");
    }
}

#[test]
fn long_names_stay_names() {
    let release = "a-release-whose-name-has-fifty-three-characters-in-it";
    let printed = Helm::Four.template_as(release, NAMESPACE, &Value::Null).unwrap();
    for object in objects(&printed) {
        let name = text(&object["metadata"]["name"]);
        let roles = text(&object["kind"]).contains("Role");
        assert!(roles || name.len() <= 63, "{name}");
        assert!(!name.ends_with('-'), "{name}");
    }
}

/// The groups of alerts that a chart with these values has.
fn rendered_groups(helm: Helm, mut values: Value) -> Value {
    values["enabled"] = json!(true);
    let rendered = helm.render(&json!({"prometheusRule": values}));
    find(&rendered, RULE.0, RULE.1).unwrap()["spec"]["groups"].clone()
}

/// The alerts that a chart with these values has.
fn rendered_rules(helm: Helm, values: Value) -> Vec<Value> {
    let groups = rendered_groups(helm, values);
    let groups = groups.as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn groups_of_the_file() -> Value {
    let text = std::fs::read_to_string(chart().join("files/alerts.yaml")).unwrap();
    assert!(text.contains("{{ $labels"), "without templates this shows nothing");
    let file: Value = serde_saphyr::from_str(&text).unwrap();
    file["groups"].clone()
}

fn rules_of_the_file() -> Vec<Value> {
    groups_of_the_file()[0]["rules"].as_array().unwrap().clone()
}

/// Prometheus' own templates come through ours.
#[test]
fn alerts_and_dashboard_come_through_untouched() {
    let mut alerts = groups_of_the_file();
    let first = &mut alerts[0]["rules"][0]["expr"];
    assert_eq!(*first, "absent(tenure_build_info)\n");
    *first = json!(down("tenure"));
    let dashboard = std::fs::read_to_string(chart().join("files/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    for helm in Helm::BOTH {
        let pages = json!({"runbookBaseUrl": "https://tenure.dev/docs/runbooks"});
        assert_eq!(rendered_groups(helm, pages), alerts);
        let mut rendered = rendered_dashboard(helm, "https://tenure.dev/docs/runbooks");
        let uid = rendered["uid"].take();
        assert!(text(&uid).starts_with("tenure-") && text(&uid).len() <= 40, "Grafana refuses {uid}");
        rendered["uid"] = json!("tenure");
        assert_eq!(rendered, dashboard);
    }
}

/// The dashboard where the runbooks are at this URL.
fn rendered_dashboard(helm: Helm, runbooks: &str) -> Value {
    let values = json!({"dashboards": {"enabled": true}, "prometheusRule": {"runbookBaseUrl": runbooks}});
    let (kind, name) = DASHBOARD;
    let rendered = helm.render(&values);
    let data = &find(&rendered, kind, name).unwrap()["data"];
    serde_json::from_str(text(&data["tenure-system_tenure.json"])).unwrap()
}

/// The links of all panels of the dashboard.
fn links(dashboard: &Value) -> Vec<&str> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let links = panels.filter_map(|panel| panel.get("links")?.as_array()).flatten();
    links.map(|link| text(&link["url"])).collect()
}

#[test]
fn panels_link_to_runbooks_if_there_are_some() {
    for helm in Helm::BOTH {
        let there = rendered_dashboard(helm, "https://wiki.example.net/t#a/");
        let there = links(&there);
        assert!(there.len() >= 10, "{there:?}");
        for url in there {
            let alert = url.strip_prefix("https://wiki.example.net/t#a/").unwrap();
            assert!(root().join("docs/runbooks").join(alert).is_file(), "{url}");
        }
        assert_eq!(links(&rendered_dashboard(helm, "")), [""; 0]);
    }
}

/// A link leads to where a user has put the pages; nothing is published elsewhere.
#[test]
fn every_alert_links_to_its_page_if_there_is_one() {
    for helm in Helm::BOTH {
        for base in ["https://wiki.example.net/t#a", "http://wiki/runbooks/"] {
            let rules = rendered_rules(helm, json!({"runbookBaseUrl": base}));
            assert!(rules.len() >= 7, "{}", rules.len());
            for rule in rules {
                let link = format!("{}/{}.md", base.trim_end_matches('/'), text(&rule["alert"]));
                assert_eq!(rule["annotations"]["runbook_url"], link, "{helm:?}");
            }
        }
        let rules = rendered_rules(helm, json!({}));
        assert!(rules.iter().all(|rule| rule["annotations"].get("runbook_url").is_none()), "{rules:?}");
    }
}

/// The Prometheus operator derives it from what selects the targets: from a Service, or from a PodMonitor.
#[test]
fn the_alert_asks_for_the_job_that_the_metrics_have() {
    let on = |more: Value| {
        let mut values = json!({"prometheusRule": {"enabled": true}, "podMonitor": {"enabled": true}});
        json_patch::merge(&mut values, &more);
        values
    };
    let cases = [
        (json!({"prometheusRule": {"enabled": true}}), "tenure"),
        (on(json!({})), "tenure-system/tenure"),
        (on(json!({"podMonitor": {"namespace": "monitoring"}})), "monitoring/tenure"),
        (on(json!({"prometheusRule": {"job": "a"}})), "a"),
    ];
    for (values, job) in cases {
        for helm in Helm::BOTH {
            let rendered = helm.render(&values);
            let groups = &find(&rendered, RULE.0, RULE.1).unwrap()["spec"]["groups"];
            assert_eq!(groups[0]["rules"][0]["expr"], json!(down(job)), "{helm:?} {values}");
        }
    }
}

#[test]
fn users_change_single_alerts() {
    let values = json!({
        "labels": {"team": "net", "severity": "page"},
        "rules": {
            "TenureNoLeader": {"enabled": false},
            "TenureLifetimeTooLong": {"threshold": 43_200, "for": "1h", "severity": "critical", "labels": {"team": "audit"}},
        },
    });
    for helm in Helm::BOTH {
        let rules = rendered_rules(helm, values.clone());
        assert_eq!(rules.len(), rules_of_the_file().len() - 1);
        let rule = |name: &str| rules.iter().find(|rule| rule["alert"] == name);
        assert!(rule("TenureNoLeader").is_none());
        let changed = rule("TenureLifetimeTooLong").unwrap();
        assert_eq!(changed["labels"], json!({"team": "audit", "severity": "critical"}));
        assert_eq!(changed["for"], "1h");
        assert!(text(&changed["expr"]).ends_with("> 43200\n"), "{changed}");
        assert_eq!(rule("TenureWatchStale").unwrap()["labels"], json!({"team": "net", "severity": "page"}));
    }
}

/// A key that came twice would be no YAML.
#[test]
fn users_choose_the_container_that_kubectl_shows() {
    const KEY: &str = "kubectl.kubernetes.io/default-container";
    for helm in Helm::BOTH {
        for (annotations, shown) in [(json!({}), "tenure"), (json!({KEY: "sidecar"}), "sidecar")] {
            let rendered = helm.render(&json!({"podAnnotations": annotations}));
            let deployment = find(&rendered, DEPLOYMENT.0, DEPLOYMENT.1).unwrap();
            assert_eq!(deployment["spec"]["template"]["metadata"]["annotations"], json!({KEY: shown}));
        }
    }
}

#[test]
fn labels_of_users_never_replace_the_charts_own() {
    let labels = json!({"app.kubernetes.io/instance": "other", "team": "net"});
    let rendered = Helm::Four.render(&json!({"commonLabels": labels, "podLabels": labels}));
    let deployment = find(&rendered, DEPLOYMENT.0, DEPLOYMENT.1).unwrap();
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    for (key, value) in deployment["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&labels[key], value, "{key}");
    }
    for object in &rendered {
        assert_eq!(object["metadata"]["labels"]["team"], "net", "{}", object["metadata"]["name"]);
    }
    let aggregated = "rbac.authorization.k8s.io/aggregate-to-view";
    let rendered = Helm::Four.render(&json!({"commonLabels": {aggregated: "false"}}));
    let role = find(&rendered, "ClusterRole", "tenure-system:tenure:view").unwrap();
    assert_eq!(role["metadata"]["labels"][aggregated], "true");
}

#[test]
fn in_scope_namespaces_nothing_is_cluster_wide() {
    let values =
        json!({"crds": {"enabled": false}, "rbac": {"scope": "namespaces", "namespaces": ["a", "b"]}});
    for helm in Helm::BOTH {
        let names = names(&helm.render(&values));
        let expected = [
            "Deployment/tenure",
            "Job/tenure-release-finalizers",
            "NetworkPolicy/tenure",
            "PodDisruptionBudget/tenure",
            "Role/tenure-system:tenure",
            "Role/tenure-system:tenure",
            "Role/tenure-system:tenure:leader-election",
            "Role/tenure-system:tenure:release-finalizers",
            "Role/tenure-system:tenure:release-finalizers:objects",
            "Role/tenure-system:tenure:release-finalizers:objects",
            "RoleBinding/tenure-system:tenure",
            "RoleBinding/tenure-system:tenure",
            "RoleBinding/tenure-system:tenure:leader-election",
            "RoleBinding/tenure-system:tenure:release-finalizers",
            "RoleBinding/tenure-system:tenure:release-finalizers:objects",
            "RoleBinding/tenure-system:tenure:release-finalizers:objects",
            "Service/tenure",
            "ServiceAccount/tenure",
            "ServiceAccount/tenure-release-finalizers",
        ];
        assert_eq!(names, expected, "{helm:?}");
    }
}
