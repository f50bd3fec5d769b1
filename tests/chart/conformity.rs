//! Whatever the values, what is rendered fits the schemas of its kinds, unknown fields included.
//!
//! The schemas are those that the real API server publishes: of its own kinds, and of ours and the Prometheus operator's CRDs,
//! which it has been given.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};
use tenure_kit::tools;
use tokio::sync::OnceCell;

use super::cluster::{Cluster, KINDS, SOON};
use super::helm::*;

/// What is rendered: every template, every branch.
fn matrix() -> Vec<(&'static str, Value)> {
    let operator = json!({
        "operator": {
            "selector": "a=b", "concurrency": 1, "allowCidr": ["127.0.0.0/8"], "denyCidr": ["10.0.0.0/8"],
            "allowPorts": [443, "8000-8999"],
            "forbidInsecureTls": true, "forbidPlaintext": true, "forbidCustomCa": true,
            "forbidProxy": true, "requireAllowedOrigins": true,
            "retryRefusedLoginsAfter": "24h", "metricsPerObject": true,
        },
        "rbac": {"secretNames": ["a", "b"]},
    });
    let single = json!({
        "replicaCount": 1, "leaderElection": {"enabled": false}, "releaseFinalizers": {"enabled": false},
    });
    let bare = json!({
        "crds": {"enabled": false}, "serviceAccount": {"create": false}, "rbac": {"create": false},
        "podDisruptionBudget": {"enabled": false}, "topologySpreadConstraints": [],
    });
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "b"}});
    let policy = "apiVersion: tenure.dev/v1alpha1\nkind: TokenPolicy\nmetadata: {name: a}\n\
                  spec: {gatewaySelector: {}, timeoutSeconds: 28800}";
    let open = json!({"networkPolicy": {"enabled": true, "egress": {"limited": false}}});
    let denied = json!({"operator": {"denyCidr": ["10.0.0.0/8", "fd00::/8", "169.254.0.0/16"]}});
    vec![
        ("defaults", json!({})),
        ("monitoring", monitoring()),
        ("monitoring of Pods", pod_monitoring()),
        ("network", network()),
        ("network without limits", open),
        ("network of denied blocks", denied),
        ("admission", admission()),
        ("Secrets by consent", json!({"rbac": {"secrets": "optIn"}})),
        ("pods", pods()),
        ("operator", operator),
        ("namespaces", json!({"rbac": {"scope": "namespaces", "namespaces": ["a", "b"]}})),
        ("one replica", single),
        ("bare", bare),
        ("CRDs that go", json!({"crds": {"keep": false}})),
        ("more objects", json!({"extraObjects": [map, policy]})),
    ]
}

pub fn admission() -> Value {
    json!({"admissionPolicies": {
        "operatorWrites": true, "forbidPlaintext": true, "forbidInsecureTls": true, "requireRollout": true,
        "restrictPriority": true,
        "timeouts": [
            {"namespaceSelector": {"matchLabels": {"a": "b"}}, "minSeconds": 3600, "maxSeconds": 2_592_000},
            {"maxSeconds": 86400},
        ],
    }})
}

pub fn monitoring() -> Value {
    json!({
        "serviceMonitor": {
            "enabled": true, "interval": "30s", "scrapeTimeout": "10s", "additionalLabels": {"a": "b"},
            "annotations": {"a": "b"}, "relabelings": [{"action": "labeldrop", "regex": "pod"}],
            "metricRelabelings": [{"action": "drop", "sourceLabels": ["__name__"], "regex": "x"}],
            "namespace": "monitoring", "honorLabels": false, "jobLabel": "a", "targetLabels": ["a"], "sampleLimit": 5,
        },
        "prometheusRule": {
            "enabled": true, "additionalLabels": {"a": "b"}, "runbookBaseUrl": "https://wiki.example.net",
            "namespace": "monitoring", "job": "tenure", "labels": {"a": "b"},
            "rules": {"TenureNoLeader": {"enabled": false}, "TenureProofOld": {"threshold": 3600, "for": "1h"}},
        },
        "dashboards": {"enabled": true, "namespace": "monitoring", "annotations": {"folder": "network"}},
    })
}

/// The same with a PodMonitor, which excludes a ServiceMonitor.
pub fn pod_monitoring() -> Value {
    let mut values = monitoring();
    let mut monitor = values["serviceMonitor"].take();
    let labels = monitor.as_object_mut().unwrap().remove("targetLabels").unwrap();
    monitor["podTargetLabels"] = labels;
    values["podMonitor"] = monitor;
    values["serviceMonitor"] = json!({"enabled": false});
    values
}

pub fn network() -> Value {
    json!({"networkPolicy": {
        "enabled": true,
        "ingress": {"from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]},
        "egress": {
            "apiServer": {"cidrs": ["10.0.0.1/32"]},
            "systems": {"cidrs": ["10.20.0.0/16", "2001:db8::/32"], "ports": [443, 8443]},
            "extra": [{"to": [{"ipBlock": {"cidr": "10.30.0.0/16"}}]}],
        },
    }})
}

fn pods() -> Value {
    let terms = json!([{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]);
    let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
    let digest = format!("sha256:{}", "0".repeat(64));
    json!({
        "replicaCount": 3,
        "image": {"repository": "r.example.net/tenure", "digest": digest, "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "pull"}],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
        "nodeSelector": {"a": "b"}, "tolerations": [{"key": "k", "operator": "Exists"}],
        "priorityClassName": "high", "affinity": {"nodeAffinity": required},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"},
        ],
        "podAnnotations": {"a": "b"}, "podLabels": {"a": "b"}, "commonLabels": {"c": "d"},
        "extraEnv": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "extraArgs": ["--x"], "extraVolumes": [{"name": "v", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "v", "mountPath": "/v"}],
        "podDisruptionBudget": {"minAvailable": "50%"},
        "serviceAccount": {"annotations": {"a": "b"}},
        "service": {
            "annotations": {"a": "b"}, "labels": {"a": "b"}, "port": 80, "type": "NodePort",
            "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"],
        },
        "dnsPolicy": "Default", "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["x2"]}], "hostNetwork": true,
        "runtimeClassName": "gvisor", "schedulerName": "other", "strategy": {"type": "Recreate"},
        "revisionHistoryLimit": 3, "deploymentAnnotations": {"a": "b"}, "livenessProbe": {"periodSeconds": 7},
        "readinessProbe": {"failureThreshold": 7}, "startupProbe": {"failureThreshold": 7},
    })
}

/// Adds what a strict reader asks for: no fields beyond those of an object's schema.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            let open = map.contains_key("additionalProperties")
                || map.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
            if map.get("type") == Some(&json!("object")) && map.contains_key("properties") && !open {
                map.insert("additionalProperties".to_owned(), json!(false));
            }
            map.values_mut().for_each(close);
        }
        Value::Array(list) => list.iter_mut().for_each(close),
        _ => {}
    }
}

async fn get(client: &Client, path: &str) -> Value {
    let request = axum::http::Request::get(path).body(Vec::new()).unwrap();
    client.request::<Value>(request).await.unwrap()
}

/// The groups of everything that the chart can render, and the kinds of CRDs, which are published a moment after they are served.
const GROUPS: [(&str, &[&str]); 10] = [
    ("api/v1", &[]),
    ("apis/apps/v1", &[]),
    ("apis/batch/v1", &[]),
    ("apis/policy/v1", &[]),
    ("apis/networking.k8s.io/v1", &[]),
    ("apis/rbac.authorization.k8s.io/v1", &[]),
    ("apis/admissionregistration.k8s.io/v1", &[]),
    ("apis/apiextensions.k8s.io/v1", &[]),
    ("apis/monitoring.coreos.com/v1", &["ServiceMonitor", "PodMonitor", "PrometheusRule"]),
    ("apis/tenure.dev/v1alpha1", &KINDS),
];

/// The schemas of a group, as soon as those of all these kinds are among them.
async fn components(client: &Client, group: &str, kinds: &[&str]) -> Value {
    loop {
        let index = get(client, "/openapi/v3").await;
        if let Some(path) = index["paths"][group]["serverRelativeURL"].as_str() {
            let mut components = get(client, path).await["components"].take();
            let published: Vec<&Value> =
                components["schemas"].as_object().unwrap().values().filter_map(kind_of).collect();
            if kinds.iter().all(|kind| published.iter().any(|one| one["kind"] == *kind)) {
                close(&mut components);
                return components;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The kind that a schema is of, if it is of one alone.
fn kind_of(schema: &Value) -> Option<&Value> {
    match schema["x-kubernetes-group-version-kind"].as_array()?.as_slice() {
        [kind] => Some(kind),
        _ => None,
    }
}

/// Writes the schema of every kind, one file a kind, under the names by which kubeconform looks for them.
async fn write_schemas(client: &Client, folder: &Path) {
    for (group, kinds) in GROUPS {
        let components = tokio::time::timeout(SOON, components(client, group, kinds)).await.expect(group);
        for (name, schema) in components["schemas"].as_object().unwrap() {
            let Some(kind) = kind_of(schema).filter(|kind| group.ends_with(text(&kind["version"]))) else {
                continue;
            };
            let of = text(&kind["group"]).split('.').next().unwrap();
            let of = if of.is_empty() { String::new() } else { format!("-{of}") };
            let file = format!("{}{of}-{}.json", text(&kind["kind"]).to_lowercase(), text(&kind["version"]));
            let schema = json!({"$ref": format!("#/components/schemas/{name}"), "components": components});
            fs::write(folder.join(file), schema.to_string()).unwrap();
        }
    }
}

/// What kubeconform says of a text.
pub fn check(schemas: &Path, manifests: &str) -> Value {
    let location = format!("{}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json", path(schemas));
    let mut kubeconform = Command::new(tools::kubeconform().unwrap());
    kubeconform.args(["-strict", "-summary", "-output", "json", "-schema-location", &location, "-"]);
    let mut kubeconform = kubeconform.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    kubeconform.stdin.take().unwrap().write_all(manifests.as_bytes()).unwrap();
    serde_json::from_slice(&kubeconform.wait_with_output().unwrap().stdout).unwrap()
}

/// The folder of the schemas, asked for once.
pub async fn schemas() -> &'static Path {
    static SCHEMAS: OnceCell<PathBuf> = OnceCell::const_new();
    let ask = async || {
        let cluster = Cluster::alone().await;
        cluster.install_crds().await;
        let folder = temporary("schemas");
        write_schemas(&cluster.client, &folder).await;
        folder
    };
    SCHEMAS.get_or_init(ask).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rendering_fits_the_schemas() {
    let schemas = schemas().await;
    let mut kinds = BTreeMap::new();
    for (name, values) in matrix() {
        for helm in Helm::BOTH {
            let rendered = helm.template(&values).unwrap();
            let answer = check(schemas, &rendered);
            let objects = objects(&rendered);
            let expected = json!({"valid": objects.len(), "invalid": 0, "errors": 0, "skipped": 0});
            assert_eq!(answer["summary"], expected, "{helm:?}, {name}: {answer:#}");
            for object in objects {
                *kinds.entry(text(&object["kind"]).to_owned()).or_insert(0) += 1;
            }
        }
    }
    // Every kind that the chart can make has been among them.
    let seen: Vec<&str> = kinds.keys().map(String::as_str).collect();
    let all = "ClusterRole ClusterRoleBinding ConfigMap CustomResourceDefinition Deployment Job NetworkPolicy \
               PodDisruptionBudget PodMonitor PrometheusRule Role RoleBinding Service ServiceAccount ServiceMonitor TokenPolicy ValidatingAdmissionPolicy \
               ValidatingAdmissionPolicyBinding";
    assert_eq!(seen, all.split_whitespace().collect::<Vec<_>>());
}

/// That the check above finds what it is meant to find.
#[tokio::test(flavor = "multi_thread")]
async fn the_schemas_refuse_what_is_wrong() {
    let schemas = schemas().await;
    let rendered = Helm::Four.template(&json!({"serviceMonitor": {"enabled": true}})).unwrap();
    let mistakes = [
        ("replicas: 2", "replicas: two", "at '/spec/replicas'"),
        ("enableServiceLinks: false", "enableServicelinks: false", "enableServicelinks"),
        ("honorLabels: true", "honourLabels: true", "honourLabels"),
        ("unhealthyPodEvictionPolicy:", "evictionPolicy:", "evictionPolicy"),
    ];
    for (right, wrong, word) in mistakes {
        assert!(rendered.contains(right), "{right}");
        let answer = check(schemas, &rendered.replacen(right, wrong, 1));
        assert_eq!(answer["summary"]["invalid"], 1, "{wrong}: {answer:#}");
        assert!(answer["resources"][0]["msg"].as_str().unwrap().contains(word), "{answer:#}");
    }
    let unknown = check(schemas, "apiVersion: example.net/v1\nkind: Whim\nmetadata: {name: a}\n");
    assert_eq!(unknown["summary"]["errors"], 1, "{unknown:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_every_rendering() {
    let cluster = Cluster::alone().await;
    cluster.install_crds().await;
    let namespace = cluster.namespace("dry").await;
    for (name, values) in matrix() {
        // What is bound to namespaces of its own goes where there is one.
        let rendered = Helm::Four.template(&values).unwrap().replace(NAMESPACE, namespace.name());
        for mut object in objects(&rendered) {
            if object["metadata"].get("namespace").is_some() {
                object["metadata"]["namespace"] = json!(namespace.name());
            }
            let tried = namespace.dry_run_yaml(&object.to_string()).await;
            tried.unwrap_or_else(|error| panic!("{name}: {error:#}: {object:#}"));
        }
    }
}
