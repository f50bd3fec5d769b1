//! What admission denies.

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use serde_json::json;
use tenure_kit::webhook::Webhook;

use super::{SOON, Server, gateway, refusal};
use crate::api::{Course, Kind, Refusal, Verdict};

/// Codes and reasons that webhooks deny with, the last one as a server that asks for patience.
const DENIALS: [(u16, &str); 4] =
    [(400, "BadRequest"), (403, "Forbidden"), (422, "Invalid"), (429, "TooManyRequests")];
const RETRY_AFTER: u32 = 7;

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

pub fn are_answered(server: &Server) -> LocalBoxFuture<'_, ()> {
    async {
        let held = server.new_gateway("a", json!({})).await;
        let (all, path) = (server.path(Kind::X2Gateway), server.gateway("a"));
        let status = format!("{path}/status");
        let admission = Admission::of(server).await;
        for (code, reason) in DENIALS {
            admission.deny(code, reason);
            let denied = [
                server.create(&all, &gateway("b", json!({}))).await,
                // It is asked before it is known whether there is one.
                server.create(&all, &gateway("a", json!({}))).await,
                server.merge(&path, json!({"metadata": {"finalizers": ["tenure.dev/restore"]}})).await,
                server.merge(&path, json!({"metadata": {"labels": {}}})).await,
                server
                    .patch(&status, json!([{"op": "add", "path": "/status", "value": {"policy": "mine"}}]))
                    .await,
                server.delete(&path, json!({})).await,
            ];
            for answer in denied {
                assert_eq!(refusal(&answer), (code, reason));
                let retry = &answer.1["details"]["retryAfterSeconds"];
                assert_eq!(retry.as_u64(), (code == 429).then_some(RETRY_AFTER.into()), "{}", answer.1);
            }
            // What cannot be done anyway is answered as ever.
            let stale = json!({"metadata": {"resourceVersion": "1"}, "status": {"policy": "mine"}});
            assert_eq!(refusal(&server.merge(&status, stale).await), (409, "Conflict"));
            let other = json!([{"op": "test", "path": "/metadata/uid", "value": "another"}]);
            assert_eq!(refusal(&server.patch(&path, other).await), (422, "Invalid"));
            assert_eq!(refusal(&server.merge(&path, json!({"spec": {"url": 1}})).await), (422, "Invalid"));
            let mut wrong = gateway("a", json!({}));
            wrong["spec"]["url"] = json!(1);
            assert_eq!(refusal(&server.create(&all, &wrong).await), (422, "Invalid"));
            assert_eq!(refusal(&server.merge(&server.gateway("b"), json!({})).await), (404, "NotFound"));
            let gone = json!({"preconditions": {"uid": "another"}});
            assert_eq!(refusal(&server.delete(&path, gone).await), (409, "Conflict"));
            assert_eq!(
                server.get(&path).await,
                (200, held.clone()),
                "nothing is done, and reads are not asked about"
            );
        }
        admission.end().await;
        assert_eq!(server.merge(&path, json!({"spec": {"suspend": true}})).await.0, 200);
    }
    .boxed_local()
}

/// What is asked about each write of gateways in the case's namespace.
struct Admission<'a> {
    server: &'a Server,
    /// Which the real API server asks.
    webhook: Option<Webhook>,
}

impl<'a> Admission<'a> {
    /// Once it is asked.
    async fn of(server: &'a Server) -> Self {
        if server.memory.is_some() {
            return Self { server, webhook: None };
        }
        let webhook = Webhook::start().unwrap();
        let rule = json!({
            "apiGroups": ["tenure.dev"], "apiVersions": ["*"], "operations": ["*"],
            "resources": ["x2gateways", "x2gateways/status"],
        });
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": server.namespace},
            "webhooks": [{
                "name": "policy.example.net", "clientConfig": webhook.client_config(), "rules": [rule],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": server.namespace}},
                "admissionReviewVersions": ["v1"], "sideEffects": "None",
                // If a case ends early, nothing may keep its namespace from being deleted.
                "failurePolicy": "Ignore", "timeoutSeconds": 30,
            }],
        });
        let (code, answer) = server.create(CONFIGURATIONS, &configuration).await;
        assert_eq!(code, 201, "{answer}");
        let admission = Self { server, webhook: Some(webhook) };
        admission.deny(403, "Forbidden");
        admission.until(403).await;
        admission
    }

    /// Denies everything from now on.
    fn deny(&self, code: u16, reason: &'static str) {
        let retry_after = (code == 429).then_some(RETRY_AFTER);
        if let Some(webhook) = &self.webhook {
            let details = retry_after.map(|seconds| json!({"retryAfterSeconds": seconds}));
            webhook.deny(Some(json!({"code": code, "reason": reason, "message": "no", "details": details})));
        } else if let Some(memory) = &self.server.memory {
            let refusal = Refusal::new(code, reason, "no");
            let refusal = retry_after.map_or(refusal.clone(), |seconds| refusal.retry_after(seconds));
            memory.set_judge(move |request| {
                let course = if request.verb.writes() { Course::Deny(refusal.clone()) } else { Course::Pass };
                Verdict::of(course)
            });
        }
    }

    /// Denies nothing anymore.
    async fn end(self) {
        if let Some(memory) = &self.server.memory {
            memory.set_judge(|_| Verdict::PASS);
            return;
        }
        let path = format!("{}/{}", CONFIGURATIONS, self.server.namespace);
        assert_eq!(self.server.delete(&path, json!({})).await.0, 200);
        self.until(200).await;
    }

    /// Waits for this answer to a write that changes nothing. The API server does not say when it begins or ends to ask.
    async fn until(&self, code: u16) {
        let path = self.server.gateway("a");
        let answered = async { while self.server.merge(&path, json!({})).await.0 != code {} };
        tokio::time::timeout(SOON, answered).await.expect("this answer");
    }
}
