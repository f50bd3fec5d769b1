//! Events: on transitions only, after the status, at most fifty per second.

mod surplus;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::surplus::{Counts, Surplus};
use super::object::Key;
use crate::clock;
use crate::engine::reason::EventReason;
use crate::leader::fence::Fence;
use crate::metrics::Metrics;

/// Events per second.
const RATE: u32 = 50;
/// Events of a namespace that wait to be taken up.
const WAITING: usize = 4096;
/// Longest note that the API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;
/// Longest part of an event's name that is the object's, in bytes: names are ASCII.
const LONGEST_STEM: usize = 200;
/// Longest wait for the API server.
const API_TIMEOUT: Duration = Duration::from_secs(15);

/// Something worth an event.
#[derive(Clone, Debug)]
pub(crate) struct Happening {
    /// The object.
    pub(crate) object: ObjectReference,
    /// One word.
    pub(crate) reason: EventReason,
    /// A sentence.
    pub(crate) note: String,
    /// What sums up if there are too many.
    pub(crate) policy: Option<ObjectReference>,
}

impl Happening {
    fn namespace(&self) -> &str {
        self.object.namespace.as_deref().unwrap_or_default()
    }
}

/// Logs and takes events; never waits.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    queue: mpsc::UnboundedSender<Message>,
    waiting: Arc<Waiting>,
    metrics: Arc<Metrics>,
}

/// How many events of each namespace wait to be taken up.
#[derive(Debug, Default)]
struct Waiting(Mutex<Counts>);

impl Waiting {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
enum Message {
    Happened(Box<Happening>),
    /// To be answered when all that came before is written.
    Flush(oneshot::Sender<()>),
}

impl Events {
    /// The sender, and the task that writes what it is given.
    pub(crate) fn new(
        client: Client,
        instance: String,
        fence: Fence,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, receiver) = mpsc::unbounded_channel();
        let (waiting, surplus) = (Arc::<Waiting>::default(), Surplus::new(Arc::clone(&metrics)));
        let writer = Writer { client, instance, fence };
        let write_events = write_all(writer, receiver, Arc::clone(&waiting), surplus);
        (Self { queue, waiting, metrics }, write_events)
    }

    /// Logs an event, and hands it over.
    pub(crate) fn publish(&self, happening: Happening) {
        let Happening { object: ObjectReference { kind, namespace, name, uid, .. }, reason, note, .. } =
            &happening;
        if reason.is_warning() {
            tracing::warn!(kind, namespace, name, uid, reason = reason.as_str(), "{note}");
        } else {
            tracing::info!(kind, namespace, name, uid, reason = reason.as_str(), "{note}");
        }
        let has_room = self.waiting.counts().add(happening.namespace(), WAITING);
        if !has_room || self.queue.send(Message::Happened(Box::new(happening))).is_err() {
            self.metrics.event_dropped();
        }
    }

    /// Waits until all events that were handed over so far are written, whatever their number.
    pub(crate) async fn flush(&self) {
        let (written, done) = oneshot::channel();
        if self.queue.send(Message::Flush(written)).is_ok() {
            // Fails only if the writer is gone.
            let _ = done.await;
        }
    }
}

/// A reference to an object.
pub(crate) fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    reference_of::<K>(object.meta())
}

/// A reference to an object of which only the metadata is understood.
#[must_use]
pub(crate) fn reference_of<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        ..ObjectReference::default()
    }
}

/// A reference to an object that may be gone by now.
#[must_use]
pub(crate) fn reference_to<K: Resource<DynamicType = ()>>(key: &Key, uid: Option<String>) -> ObjectReference {
    let (namespace, name) = (Some(key.namespace.clone()), Some(key.name.clone()));
    reference_of::<K>(&ObjectMeta { namespace, name, uid, ..ObjectMeta::default() })
}

async fn write_all(
    writer: Writer,
    mut queue: mpsc::UnboundedReceiver<Message>,
    waiting: Arc<Waiting>,
    mut surplus: Surplus,
) {
    let mut left = RATE;
    // When all of the rate is left again; none while it is, so that nothing wakes an idle operator.
    let mut refill: Option<Instant> = None;
    loop {
        let refilled = async {
            match refill {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = refilled => {
                (left, refill) = (RATE, None);
                while left > 0 && let Some(happening) = surplus.next() {
                    left -= 1;
                    refill.get_or_insert_with(in_a_second);
                    writer.write(happening).await;
                }
            }
            next = queue.recv() => match next {
                None => return,
                Some(Message::Flush(written)) => {
                    while let Some(happening) = surplus.next() {
                        writer.write(happening).await;
                    }
                    // Fails only if nothing waits anymore.
                    let _ = written.send(());
                }
                Some(Message::Happened(happening)) if left > 0 => {
                    waiting.counts().remove(happening.namespace());
                    left -= 1;
                    refill.get_or_insert_with(in_a_second);
                    writer.write(*happening).await;
                }
                Some(Message::Happened(happening)) => {
                    waiting.counts().remove(happening.namespace());
                    surplus.add(*happening);
                }
            }
        }
    }
}

fn in_a_second() -> Instant {
    clock::instant() + Duration::from_secs(1)
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
        let ObjectReference { kind, namespace, name, uid, .. } = happening.object.clone();
        let event = event(&self.instance, happening);
        let api = Api::<Event>::namespaced(self.client.clone(), namespace.as_deref().unwrap_or_default());
        let params = PostParams::default();
        let creating = tokio::time::timeout(API_TIMEOUT, api.create(&params, &event));
        // Nothing depends on events; the status has been written.
        match self.fence.within(creating).await {
            Ok(Ok(Ok(_))) => {}
            Ok(Ok(Err(kube::Error::Api(status)))) => {
                tracing::debug!(
                    kind,
                    namespace,
                    name,
                    uid,
                    code = status.code,
                    "the API server refused an event: {}",
                    status.message
                );
            }
            _ => tracing::debug!(kind, namespace, name, uid, "the API server did not accept an event"),
        }
    }
}

fn event(instance: &str, happening: Happening) -> Event {
    let Happening { object, reason, mut note, .. } = happening;
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
        type_: Some(if reason.is_warning() { "Warning" } else { "Normal" }.to_owned()),
        regarding: Some(object),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use kube::client::Body;
    use tokio::sync::watch;

    use super::*;
    use crate::leader::fence::Term;

    pub(super) fn happening(kind: &str, namespace: &str, name: &str) -> Happening {
        let object = ObjectReference {
            kind: Some(kind.to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        let note = String::new();
        Happening { object, reason: EventReason::RestoreSkipped, note, policy: None }
    }

    #[tokio::test]
    async fn events_of_one_namespace_do_not_take_the_room_of_others() {
        let refused = |_: hyper::Request<Body>| {
            std::future::ready(Err::<hyper::Response<Body>, _>(io::Error::other("")))
        };
        let client = Client::new(tower::service_fn(refused), "a");
        let ((_end, ending), (_, term)) = (watch::channel(false), watch::channel(Term::Endless));
        let metrics = Arc::new(Metrics::new(false));
        let (events, write_events) =
            Events::new(client, String::new(), Fence::new(ending, term), Arc::clone(&metrics));
        let publish = |namespace, name: usize| {
            events.publish(happening("X2Gateway", namespace, &name.to_string()));
        };
        (0..WAITING + 7).for_each(|name| publish("berlin", name));
        let dropped =
            |count: usize| metrics.text().contains(&format!("tenure_events_dropped_total {count}\n"));
        assert!(dropped(7));
        publish("hamburg", 0);
        assert!(dropped(7), "{}", metrics.text());
        // What was taken up takes no room anymore.
        let writing = tokio::spawn(write_events);
        events.flush().await;
        assert_eq!(events.waiting.counts().total, 0);
        writing.abort();
    }
}
