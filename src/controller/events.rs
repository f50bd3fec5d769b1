//! Events: on transitions only, after the status, fifty a second at the most.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;

use super::store::Key;
use crate::clock;
use crate::crd::TokenPolicy;
use crate::engine::reason::EventReason;
use crate::leader::fence::Fence;

/// Events a second.
const RATE: u32 = 50;
/// Longest note that the API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;
/// Longest part of an event's name that is the object's, in bytes: names are ASCII.
const LONGEST_STEM: usize = 200;
/// Longest wait for the API server.
const API_TIMEOUT: Duration = Duration::from_secs(15);

/// Something worth an event.
#[derive(Clone, Debug)]
pub struct Happening {
    /// The object.
    pub object: ObjectReference,
    /// One word.
    pub reason: EventReason,
    /// A sentence.
    pub note: String,
    /// Whether somebody has to do something.
    pub warning: bool,
    /// The policy that sums up where there are too many.
    pub policy: Option<ObjectReference>,
}

/// Takes events; never waits.
#[derive(Clone, Debug)]
pub struct Events(mpsc::UnboundedSender<Happening>);

impl Events {
    /// The sender, and the task that writes what it is given.
    pub fn new(client: Client, instance: String, fence: Fence) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), write_all(Writer { client, instance, fence }, receiver))
    }

    /// Hands an event over.
    pub fn publish(&self, happening: Happening) {
        // The receiver lives as long as the process; at its end events are of no use.
        let _ = self.0.send(happening);
    }
}

/// A reference to an object.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    reference_of::<K>(object.meta())
}

/// A reference to an object of which only the metadata is understood.
#[must_use]
pub fn reference_of<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        ..ObjectReference::default()
    }
}

/// A reference to a policy that may be gone by now.
#[must_use]
pub fn policy_reference(key: &Key, uid: Option<String>) -> ObjectReference {
    ObjectReference {
        api_version: Some(TokenPolicy::api_version(&()).into_owned()),
        kind: Some(TokenPolicy::kind(&()).into_owned()),
        namespace: Some(key.namespace.clone()),
        name: Some(key.name.clone()),
        uid,
        ..ObjectReference::default()
    }
}

async fn write_all(writer: Writer, mut queue: mpsc::UnboundedReceiver<Happening>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut left = RATE;
    let mut surplus: BTreeMap<(String, String, EventReason), (Happening, usize)> = BTreeMap::new();
    loop {
        tokio::select! {
            biased;
            _ = second.tick() => {
                left = RATE;
                while left > 0 && let Some((_, (one, count))) = surplus.pop_first() {
                    left -= 1;
                    writer.write(summed_up(one, count)).await;
                }
            }
            next = queue.recv() => match next {
                None => return,
                Some(happening) if left > 0 => {
                    left -= 1;
                    writer.write(happening).await;
                }
                Some(happening) => {
                    let about = happening.policy.clone().unwrap_or_else(|| happening.object.clone());
                    let key = (about.namespace.unwrap_or_default(), about.name.unwrap_or_default(), happening.reason);
                    surplus.entry(key).or_insert((happening, 0)).1 += 1;
                }
            }
        }
    }
}

fn summed_up(one: Happening, count: usize) -> Happening {
    match one.policy.clone() {
        Some(policy) if count > 1 => {
            Happening { object: policy, note: format!("{count} gateways: {}", one.note), ..one }
        }
        _ => one,
    }
}

/// Writes events, as long as the fence is open.
struct Writer {
    client: Client,
    instance: String,
    fence: Fence,
}

impl Writer {
    async fn write(&self, happening: Happening) {
        self.fence.opened().await;
        let namespace = happening.object.namespace.clone().unwrap_or_default();
        let event = event(&self.instance, happening);
        let (api, params) =
            (Api::<Event>::namespaced(self.client.clone(), &namespace), PostParams::default());
        let creating = tokio::time::timeout(API_TIMEOUT, api.create(&params, &event));
        // Nothing depends on events; the status has been written.
        match self.fence.within(creating).await {
            Ok(Ok(Ok(_))) => {}
            Ok(Ok(Err(kube::Error::Api(status)))) => {
                tracing::debug!(
                    namespace,
                    code = status.code,
                    "the API server refused an event: {}",
                    status.message
                );
            }
            _ => tracing::debug!(namespace, "the API server did not accept an event"),
        }
    }
}

fn event(instance: &str, happening: Happening) -> Event {
    let Happening { object, reason, mut note, warning, .. } = happening;
    while note.len() > LONGEST_NOTE {
        note.pop();
    }
    // A name that the server completes: short enough, and without a dot at its end.
    let mut name = object.name.clone().unwrap_or_default();
    name.truncate(LONGEST_STEM);
    let name = name.trim_end_matches('.');
    Event {
        metadata: ObjectMeta {
            namespace: object.namespace.clone(),
            generate_name: Some(format!("{name}-")),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(clock::now().0)),
        reporting_controller: Some("tenure.dev/tenure".to_owned()),
        reporting_instance: Some(instance.to_owned()),
        action: Some("Reconcile".to_owned()),
        reason: Some(reason.as_str().to_owned()),
        note: Some(note),
        type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
        regarding: Some(object),
        ..Event::default()
    }
}
