//! Every value, and where it shows.

use serde_json::{Value, json};

use super::super::helm::*;

pub mod monitoring;

type Object = (&'static str, &'static str);

pub const DEPLOYMENT: Object = ("Deployment", "tenure");
const JOB: Object = ("Job", "tenure-release-finalizers");
const NETWORK: Object = ("NetworkPolicy", "tenure");
const BUDGET: Object = ("PodDisruptionBudget", "tenure");
const ACCOUNT: Object = ("ServiceAccount", "tenure");
const SERVICE: Object = ("Service", "tenure");
const ROLE: Object = ("ClusterRole", "tenure-system:tenure");
const SECRETS: Object = ("ClusterRole", "tenure-system:tenure:secrets");
const LEASE: Object = ("Role", "tenure-system:tenure:leader-election");
const CRD: Object = ("CustomResourceDefinition", "x2gateways.tenure.dev");

/// Short for where Pods and containers are in a Deployment.
const SHORT: [(&str, &str); 2] =
    [("CONTAINER", "/spec/template/spec/containers/0"), ("POD", "/spec/template/spec")];

enum Expected {
    /// This value stands there.
    Is(Value),
    /// This entry is in the list that stands there.
    Has(Value),
    /// This entry is not in the list that stands there.
    Lacks(Value),
    /// Nothing stands there, or the object is absent.
    Absent,
}
use Expected::{Absent, Has, Is, Lacks};

/// A value, what has to be set beside it, and where it shows.
pub struct Case {
    pub path: &'static str,
    value: Value,
    beside: Value,
    object: Object,
    pointer: String,
    expected: Expected,
}

impl Case {
    fn new(path: &'static str, value: Value, object: Object, pointer: &str, expected: Expected) -> Self {
        let long = |pointer: String, (short, long): (&str, &str)| pointer.replace(short, long);
        let pointer = SHORT.into_iter().fold(pointer.to_owned(), long);
        Self { path, value, beside: json!({}), object, pointer, expected }
    }

    fn beside(mut self, beside: Value) -> Self {
        self.beside = beside;
        self
    }

    pub fn values(&self) -> Value {
        let mut values = self.beside.clone();
        let place = self.path.split('.').fold(&mut values, |place, key| &mut place[key]);
        *place = self.value.clone();
        values
    }

    /// What stands beside a value, without the value. Scope and namespaces go together.
    pub fn without(&self) -> Value {
        if ["rbac.scope", "rbac.namespaces"].contains(&self.path) { json!({}) } else { self.beside.clone() }
    }

    pub fn shows(&self, objects: &[Value]) -> bool {
        let (kind, name) = self.object;
        let found = find(objects, kind, name).and_then(|object| object.pointer(&self.pointer));
        match (&self.expected, found) {
            (Absent, found) => found.is_none(),
            (Is(value), found) => found == Some(value),
            (Lacks(entry), found) => {
                found.and_then(Value::as_array).is_some_and(|list| !list.contains(entry))
            }
            (Has(entry), found) => found.and_then(Value::as_array).is_some_and(|list| list.contains(entry)),
        }
    }

    pub fn place(&self) -> String {
        format!("{}: {:?} {}", self.path, self.object, self.pointer)
    }
}

/// The value makes that value stand there.
fn makes(path: &'static str, value: Value, object: Object, pointer: &str, expected: Value) -> Case {
    Case::new(path, value, object, pointer, Is(expected))
}

/// The value stands there as it is.
fn goes(path: &'static str, value: Value, object: Object, pointer: &str) -> Case {
    makes(path, value.clone(), object, pointer, value)
}

/// The value takes the object away.
fn removes(path: &'static str, value: Value, object: Object) -> Case {
    Case::new(path, value, object, "", Absent)
}

/// The value becomes an argument of the operator.
fn argument(path: &'static str, value: Value, argument: &str) -> Case {
    Case::new(path, value, DEPLOYMENT, "CONTAINER/args", Has(json!(argument)))
}

/// The value takes an argument of the operator away.
fn drops(path: &'static str, value: Value, argument: &str) -> Case {
    Case::new(path, value, DEPLOYMENT, "CONTAINER/args", Lacks(json!(argument)))
}

pub fn cases() -> Vec<Case> {
    let parts = [
        release,
        rights,
        operator,
        leader,
        pods,
        scheduling,
        monitoring::monitor,
        monitoring::pod_monitor,
        monitoring::alerts,
        network,
        admission,
    ];
    parts.into_iter().flat_map(|part| part()).collect()
}

fn release() -> Vec<Case> {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let by_digest = json!(format!("registry.example/tenure@{digest}"));
    let tag = || json!({"image": {"tag": "1"}});
    let keep = "/metadata/annotations/helm.sh~1resource-policy";
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-x"}});
    let image = "CONTAINER/image";
    vec![
        goes("replicaCount", json!(3), DEPLOYMENT, "/spec/replicas"),
        makes("image.repository", json!("r.example.net/t"), DEPLOYMENT, image, json!("r.example.net/t:1"))
            .beside(tag()),
        makes("image.registry", json!("r.example.net"), DEPLOYMENT, image, json!("r.example.net/t:1"))
            .beside(json!({"image": {"repository": "t", "tag": "1"}})),
        makes("image.tag", json!("1.2"), DEPLOYMENT, image, json!("registry.example/tenure:1.2")),
        makes("image.digest", json!(digest), DEPLOYMENT, image, by_digest).beside(tag()),
        goes("image.pullPolicy", json!("Always"), DEPLOYMENT, "CONTAINER/imagePullPolicy"),
        goes("imagePullSecrets", json!([{"name": "pull"}]), DEPLOYMENT, "POD/imagePullSecrets"),
        makes("nameOverride", json!("ttl"), ("Deployment", "tenure-ttl"), "/spec/replicas", json!(2)),
        makes("fullnameOverride", json!("ttl"), ("Deployment", "ttl"), "/spec/replicas", json!(2)),
        goes("namespaceOverride", json!("ttl"), DEPLOYMENT, "/metadata/namespace"),
        removes("crds.enabled", json!(false), CRD),
        Case::new("crds.keep", json!(false), CRD, keep, Absent),
        makes("commonLabels", json!({"team": "net"}), ACCOUNT, "/metadata/labels/team", json!("net")),
        goes("service.port", json!(80), SERVICE, "/spec/ports/0/port"),
        goes("service.annotations", json!({"a": "b"}), SERVICE, "/metadata/annotations"),
        makes("service.labels", json!({"team": "net"}), SERVICE, "/metadata/labels/team", json!("net")),
        goes("service.type", json!("NodePort"), SERVICE, "/spec/type"),
        goes("service.ipFamilyPolicy", json!("PreferDualStack"), SERVICE, "/spec/ipFamilyPolicy"),
        goes("service.ipFamilies", json!(["IPv6"]), SERVICE, "/spec/ipFamilies"),
        makes("extraObjects", json!([map]), ("ConfigMap", "tenure-x"), "/kind", json!("ConfigMap")),
        makes(
            "extraObjects",
            json!([map.to_string()]),
            ("ConfigMap", "tenure-x"),
            "/kind",
            json!("ConfigMap"),
        ),
    ]
}

fn rights() -> Vec<Case> {
    let robot = ("ServiceAccount", "robot");
    vec![
        removes("serviceAccount.create", json!(false), robot)
            .beside(json!({"serviceAccount": {"name": "robot"}})),
        goes("serviceAccount.name", json!("robot"), robot, "/metadata/name"),
        goes("serviceAccount.name", json!("robot"), DEPLOYMENT, "POD/serviceAccountName"),
        goes("serviceAccount.annotations", json!({"a": "b"}), ACCOUNT, "/metadata/annotations"),
        makes(
            "serviceAccount.labels",
            json!({"team": "net"}),
            ACCOUNT,
            "/metadata/labels/team",
            json!("net"),
        ),
        removes("rbac.create", json!(false), ROLE),
        removes("rbac.create", json!(false), JOB),
        removes("rbac.scope", json!("namespaces"), ROLE).beside(json!({"rbac": {"namespaces": ["a"]}})),
        argument("rbac.namespaces", json!(["a", "b"]), "--namespaces=a,b")
            .beside(json!({"rbac": {"scope": "namespaces"}})),
        makes("rbac.secrets", json!("optIn"), SECRETS, "/rules/0/resources", json!(["secrets"])),
        goes("rbac.secretNames", json!(["x2"]), ROLE, "/rules/3/resourceNames"),
        removes("rbac.aggregateRoles", json!(false), ("ClusterRole", "tenure-system:tenure:view")),
        removes("rbac.aggregateRoles", json!(false), ("ClusterRole", "tenure-system:tenure:edit")),
        removes("releaseFinalizers.enabled", json!(false), JOB),
        goes("releaseFinalizers.timeoutSeconds", json!(7), JOB, "/spec/activeDeadlineSeconds"),
    ]
}

fn operator() -> Vec<Case> {
    let retry = "operator.retryRefusedLoginsAfter";
    vec![
        argument("operator.selector", json!("site in (a, b)"), "--selector=site in (a, b)"),
        argument("operator.concurrency", json!(8), "--concurrency=8"),
        argument("operator.allowCidr", json!(["127.0.0.0/8", "::1/128"]), "--allow-cidr=127.0.0.0/8,::1/128"),
        argument("operator.denyCidr", json!(["10.0.0.0/8"]), "--deny-cidr=10.0.0.0/8"),
        argument("operator.allowPorts", json!([443, "8000-8999"]), "--allow-ports=443,8000-8999"),
        argument("operator.forbidInsecureTls", json!(true), "--forbid-insecure-tls"),
        argument("operator.forbidPlaintext", json!(true), "--forbid-plaintext"),
        argument("operator.forbidCustomCa", json!(true), "--forbid-custom-ca"),
        argument("operator.forbidProxy", json!(true), "--forbid-proxy"),
        drops("operator.requireAllowedOrigins", json!(false), "--require-allowed-origins"),
        argument(retry, json!("24h"), "--retry-refused-logins-after=24h"),
        // Numbers of this size come out of Helm as 1.2096e+06 unless the template takes care.
        argument("operator.minTimeout", json!(1_209_600), "--min-timeout=1209600"),
        argument("operator.maxTimeout", json!(1_209_600), "--max-timeout=1209600"),
        argument("operator.metricsPerObject", json!(true), "--metrics-per-object"),
        argument("log.format", json!("text"), "--log-format=text"),
        argument("log.level", json!("debug"), "--log-level=debug"),
        argument("tracing.otlpEndpoint", json!("http://otel:4318"), "--otlp-endpoint=http://otel:4318"),
        argument("listen.address", json!("[::]"), "--listen=[::]:8080"),
        argument("listen.port", json!(9090), "--listen=0.0.0.0:9090"),
        goes("listen.port", json!(9090), DEPLOYMENT, "CONTAINER/ports/0/containerPort"),
        argument("extraArgs", json!(["--x"]), "--x"),
    ]
}

fn leader() -> Vec<Case> {
    let enabled = "leaderElection.enabled";
    let alone = || json!({"replicaCount": 1});
    vec![
        argument(enabled, json!(false), "--leader-elect=false").beside(alone()),
        removes(enabled, json!(false), LEASE).beside(alone()),
        makes(enabled, json!(false), DEPLOYMENT, "/spec/strategy/type", json!("Recreate")).beside(alone()),
        argument("leaderElection.leaseName", json!("ours"), "--lease-name=ours"),
        makes("leaderElection.leaseName", json!("ours"), LEASE, "/rules/1/resourceNames", json!(["ours"])),
        argument("leaderElection.leaseNamespace", json!("leases"), "--lease-namespace=leases"),
        goes("leaderElection.leaseNamespace", json!("leases"), LEASE, "/metadata/namespace"),
        argument("leaderElection.leaseDurationSeconds", json!(60), "--lease-duration=60s"),
        argument("leaderElection.renewDeadlineSeconds", json!(9), "--lease-renew-deadline=9s"),
        argument("leaderElection.retryPeriodSeconds", json!(5), "--lease-retry-period=5s"),
    ]
}

fn pods() -> Vec<Case> {
    let label = || json!({"team": "net"});
    let volumes = || json!([{"name": "v", "emptyDir": {}}]);
    let env = json!([{"name": "HTTPS_PROXY", "value": "http://p"}]);
    let in_pod = "/spec/template/metadata";
    vec![
        makes("podLabels", label(), DEPLOYMENT, &format!("{in_pod}/labels/team"), json!("net")),
        makes("podAnnotations", label(), DEPLOYMENT, &format!("{in_pod}/annotations/team"), json!("net")),
        makes("podLabels", label(), JOB, &format!("{in_pod}/labels/team"), json!("net")),
        goes("deploymentAnnotations", label(), DEPLOYMENT, "/metadata/annotations"),
        probe("livenessProbe", "/healthz"),
        probe("readinessProbe", "/readyz"),
        makes(
            "startupProbe",
            json!({"failureThreshold": 3}),
            DEPLOYMENT,
            "CONTAINER/startupProbe",
            json!({"failureThreshold": 3, "httpGet": {"path": "/healthz", "port": "http"}}),
        ),
        goes("terminationGracePeriodSeconds", json!(60), DEPLOYMENT, "POD/terminationGracePeriodSeconds"),
        makes(
            "podSecurityContext",
            json!({"runAsUser": 7}),
            DEPLOYMENT,
            "POD/securityContext/runAsUser",
            json!(7),
        ),
        makes(
            "securityContext",
            json!({"privileged": true}),
            DEPLOYMENT,
            "CONTAINER/securityContext/privileged",
            json!(true),
        ),
        makes(
            "resources",
            json!({"requests": {"cpu": "1"}}),
            DEPLOYMENT,
            "CONTAINER/resources/requests/cpu",
            json!("1"),
        ),
        goes("extraEnv", env.clone(), DEPLOYMENT, "CONTAINER/env"),
        goes("extraEnv", env, JOB, "CONTAINER/env"),
        goes("extraVolumes", volumes(), DEPLOYMENT, "POD/volumes"),
        goes(
            "extraVolumeMounts",
            json!([{"name": "v", "mountPath": "/v"}]),
            DEPLOYMENT,
            "CONTAINER/volumeMounts",
        )
        .beside(json!({"extraVolumes": volumes()})),
    ]
}

/// Settings of a probe go beside what it asks, and beside the defaults.
fn probe(path: &'static str, page: &str) -> Case {
    let expected =
        json!({"periodSeconds": 7, "timeoutSeconds": 5, "httpGet": {"path": page, "port": "http"}});
    makes(path, json!({"periodSeconds": 7}), DEPLOYMENT, &format!("CONTAINER/{path}"), expected)
}

fn scheduling() -> Vec<Case> {
    let constraint = json!({"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
    let mut own = constraint.clone();
    own["labelSelector"] = json!({});
    let labels = json!({
        "app.kubernetes.io/name": "tenure",
        "app.kubernetes.io/instance": "tenure",
        "app.kubernetes.io/component": "operator",
    });
    let spread = "topologySpreadConstraints";
    let selector = "POD/topologySpreadConstraints/0/labelSelector";
    let (fewest, most) = ("podDisruptionBudget.minAvailable", "podDisruptionBudget.maxUnavailable");
    vec![
        goes("nodeSelector", json!({"disk": "ssd"}), DEPLOYMENT, "POD/nodeSelector"),
        goes("tolerations", json!([{"key": "k", "operator": "Exists"}]), DEPLOYMENT, "POD/tolerations"),
        goes("affinity", json!({"nodeAffinity": {}}), DEPLOYMENT, "POD/affinity"),
        goes("dnsConfig", json!({"options": [{"name": "ndots", "value": "2"}]}), DEPLOYMENT, "POD/dnsConfig"),
        goes("priorityClassName", json!("high"), DEPLOYMENT, "POD/priorityClassName"),
        goes("dnsPolicy", json!("Default"), DEPLOYMENT, "POD/dnsPolicy"),
        goes("hostAliases", json!([{"ip": "10.0.0.1", "hostnames": ["x2"]}]), DEPLOYMENT, "POD/hostAliases"),
        goes("hostNetwork", json!(true), DEPLOYMENT, "POD/hostNetwork"),
        goes("hostUsers", json!(false), DEPLOYMENT, "POD/hostUsers"),
        goes("runtimeClassName", json!("gvisor"), DEPLOYMENT, "POD/runtimeClassName"),
        goes("schedulerName", json!("other"), DEPLOYMENT, "POD/schedulerName"),
        makes(
            "strategy",
            json!({"type": "Recreate"}),
            DEPLOYMENT,
            "/spec/strategy",
            json!({"type": "Recreate"}),
        ),
        goes("revisionHistoryLimit", json!(0), DEPLOYMENT, "/spec/revisionHistoryLimit"),
        makes(spread, json!([constraint]), DEPLOYMENT, "POD/topologySpreadConstraints/0/maxSkew", json!(2)),
        makes(spread, json!([own]), DEPLOYMENT, selector, json!({})),
        makes(spread, json!([constraint]), DEPLOYMENT, selector, json!({"matchLabels": labels}))
            .beside(json!({"topologySpreadConstraints": []})),
        removes("podDisruptionBudget.enabled", json!(false), BUDGET),
        goes(most, json!("50%"), BUDGET, "/spec/maxUnavailable"),
        goes(fewest, json!(0), BUDGET, "/spec/minAvailable"),
        Case::new(fewest, json!(1), BUDGET, "/spec/maxUnavailable", Absent),
    ]
}

fn network() -> Vec<Case> {
    let on = |path, value, pointer, expected| {
        makes(path, value, NETWORK, pointer, expected).beside(json!({"networkPolicy": {"enabled": true}}))
    };
    let peers = json!([{"podSelector": {}}]);
    let block = |cidr: &str| json!([{"ipBlock": {"cidr": cidr}}]);
    let port = |port: u16| json!([{"port": port, "protocol": "TCP"}]);
    let rule = json!({"ports": [{"port": 3128}]});
    let (both, one) = (json!(["Ingress", "Egress"]), json!(["Ingress"]));
    let (api, systems) = (json!(["10.0.0.1/32"]), json!(["10.20.0.0/16"]));
    let types = "/spec/policyTypes";
    // What the operator dials at no time: link-local addresses, those of metadata services, and what is denied.
    let never = ["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"];
    let never_six = ["fe80::/10", "fd00:ec2::254/128", "fd00:ec2::23/128", "fd20:ce::254/128"];
    let (except, except_six) = ("/spec/egress/2/to/0/ipBlock/except", "/spec/egress/2/to/1/ipBlock/except");
    let limited = |pointer, expected| {
        makes("networkPolicy.egress.limited", json!(true), NETWORK, pointer, expected)
            .beside(json!({"networkPolicy": {"egress": {"limited": false}}}))
    };
    let (denied, denied_six) = ("10.9.0.0/16", "fd99::/16");
    let deny = json!([denied, denied_six]);
    vec![
        removes("networkPolicy.enabled", json!(false), NETWORK),
        makes("networkPolicy.enabled", json!(true), NETWORK, types, both)
            .beside(json!({"networkPolicy": {"enabled": false}})),
        on("networkPolicy.ingress.from", peers.clone(), "/spec/ingress/0/from", peers),
        on("networkPolicy.egress.limited", json!(false), types, one),
        on("networkPolicy.egress.dns.enabled", json!(false), "/spec/egress/0/ports/0/port", json!(443)),
        on("networkPolicy.egress.apiServer.cidrs", api, "/spec/egress/1/to", block("10.0.0.1/32")),
        on("networkPolicy.egress.apiServer.ports", json!([6444]), "/spec/egress/1/ports", port(6444)),
        on("networkPolicy.egress.systems.cidrs", systems, "/spec/egress/2/to", block("10.20.0.0/16")),
        on("networkPolicy.egress.systems.ports", json!([8443]), "/spec/egress/2/ports", port(8443)),
        limited(except, json!(never)),
        limited(except_six, json!(never_six)),
        on("operator.denyCidr", deny.clone(), except, json!([&never[..], &[denied]].concat())),
        on("operator.denyCidr", deny, except_six, json!([&never_six[..], &[denied_six]].concat())),
        on("networkPolicy.egress.extra", json!([rule]), "/spec/egress/3", rule),
    ]
}

fn admission() -> Vec<Case> {
    let policy = |path, value, object: &'static str| {
        makes(path, value, ("ValidatingAdmissionPolicy", object), "/spec/failurePolicy", json!("Fail"))
    };
    let bounds = json!([{"maxSeconds": 86400}]);
    vec![
        policy("admissionPolicies.operatorWrites", json!(true), "tenure.tenure-system.operator-writes"),
        policy("admissionPolicies.forbidPlaintext", json!(true), "tenure.tenure-system.forbid-plaintext"),
        policy(
            "admissionPolicies.forbidInsecureTls",
            json!(true),
            "tenure.tenure-system.forbid-insecure-tls",
        ),
        policy("admissionPolicies.requireRollout", json!(true), "tenure.tenure-system.require-rollout"),
        policy("admissionPolicies.restrictPriority", json!(true), "tenure.tenure-system.restrict-priority"),
        policy("admissionPolicies.timeouts", bounds.clone(), "tenure.tenure-system.timeouts-0-tokenpolicies"),
        policy("admissionPolicies.timeouts", bounds, "tenure.tenure-system.timeouts-0-customertokenttls"),
    ]
}
