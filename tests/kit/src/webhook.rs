//! An admission webhook that denies what it is asked about, in whatever words it is given.

use std::{io, net::Ipv4Addr, sync::Arc};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    pki::Pki,
    server::{Call, Door, Listener, Premises, Reply, Site, Topic},
};

/// Listens on 127.0.0.1, with TLS. It denies nothing until it is told to.
#[derive(Clone)]
pub struct Webhook {
    site: Arc<Office>,
    listener: Arc<Listener<Office>>,
}

struct Office {
    premises: Premises,
    door: Door,
    /// The `metav1.Status` of a denial.
    denial: Mutex<Option<Value>>,
}

impl Webhook {
    /// Starts a webhook.
    pub fn start() -> io::Result<Self> {
        let door = Door::new(Ipv4Addr::LOCALHOST, "webhook.example.net".to_owned());
        let premises = Premises::new(Some(Pki::new(None)));
        let site = Arc::new(Office { premises, door, denial: Mutex::default() });
        let listener = Arc::new(Listener::start(Ipv4Addr::LOCALHOST, Arc::clone(&site))?);
        Ok(Self { site, listener })
    }

    /// The `clientConfig` of a `ValidatingWebhookConfiguration`.
    #[must_use]
    pub fn client_config(&self) -> Value {
        use base64::Engine as _;
        let premises = &self.site.premises;
        let authority = premises.pki.as_ref().map(Pki::ca_pem).unwrap_or_default();
        json!({
            "url": premises.url(self.site.door.address(), self.listener.port()),
            "caBundle": base64::engine::general_purpose::STANDARD.encode(authority),
        })
    }

    /// Denies everything with this `metav1.Status` from now on, or nothing.
    pub fn deny(&self, status: Option<Value>) {
        *self.site.denial.lock() = status;
    }
}

impl Site for Office {
    fn premises(&self) -> &Premises {
        &self.premises
    }

    fn door(&self, _address: Ipv4Addr) -> Option<&Door> {
        Some(&self.door)
    }

    fn topic(&self, _address: Ipv4Addr, _call: &Call) -> Topic {
        Topic::other()
    }

    fn answer(&self, _address: Ipv4Addr, call: &Call) -> Reply {
        let review = serde_json::from_slice::<Value>(&call.body).unwrap_or_default();
        let Some(uid) = review.pointer("/request/uid") else { return Reply::empty(400) };
        let denial = self.denial.lock().clone();
        let response = json!({"uid": uid, "allowed": denial.is_none(), "status": denial});
        let review =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        Reply::json(200, review.to_string())
    }
}
