//! The controller of `CustomerTokenTtl`.

mod examine;
mod exchange;

use std::sync::Arc;

use kube::{Resource as _, ResourceExt as _};
use tokio::time::Instant;

use super::claims::Claims;
use super::connection::Connections;
use super::reconcile::{Controller, Findings, Given, Managed, Memory, Report, Working};
use super::requests::{self, Alarms, Handled};
use crate::clock;
use crate::crd::{
    Cause, CustomerTokenTtl, CustomerTokenTtlStatus, DeletionPolicy, Kind, KonaServer, Time, TtlSeconds,
};
use crate::engine::backoff::Inconclusive;
use crate::engine::change::last_set;
use crate::engine::customer::{
    self, Deletion, Inputs, Made, Original, Parting, Reading, Ttl, Wish, changed, drifted, parting, paused,
    remembered, update, written,
};
use crate::engine::ownership::Claimed;
use crate::engine::reason::EventReason;
use crate::engine::url::BaseUrl;
use crate::engine::verdict::{Reason, Verdict};
use crate::engine::{schedule, spec};
use crate::metrics::Outcome;
use crate::runtime::object::{Entry, Key};
use crate::runtime::reconcile::Reconcile;
use crate::runtime::store::Store;
use crate::runtime::workers::{Trigger, UNDISTURBED};
use crate::runtime::writer::Written;
use crate::runtime::{finalizers, restore};

/// What is kept in memory of a customer beyond what all kinds keep.
#[derive(Debug, Default)]
pub struct Extra {
    /// Whether what the status has on record of an open change was taken over.
    has_recalled: bool,
    /// The lifetimes that were last enforced: if they change, the contest starts over.
    desired: Option<Ttl>,
    /// What the deleted resource requires, once that is decided.
    parting: Option<Parting>,
    /// When the customer was last read.
    checked: Option<Instant>,
    /// What the spec of this generation asks for.
    spec: Option<(Option<i64>, Result<spec::Customer, Verdict>)>,
}

impl Extra {
    /// What a customer's spec asks for, parsed once per generation.
    fn spec(&mut self, customer: &CustomerTokenTtl) -> &Result<spec::Customer, Verdict> {
        let generation = customer.metadata.generation;
        self.spec.take_if(|(known, _)| *known != generation);
        let parse = || (generation, spec::Customer::parse(&customer.spec, clock::now().0));
        &self.spec.get_or_insert_with(parse).1
    }
}

/// What a reconcile has found on a server, and done.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// What was read.
    read: Option<Reading>,
    /// Lifetimes proven during the reconcile.
    proven: Option<TtlSeconds>,
}

/// Reconciles customers.
pub(crate) struct CustomerController {
    pub(super) customers: Arc<Store<CustomerTokenTtl>>,
    pub(super) servers: Arc<Store<KonaServer>>,
    /// Which resources declare which customer.
    pub(super) claims: Arc<Claims>,
    /// Which resources declare which server.
    pub(super) server_claims: Arc<Claims>,
    pub(super) connections: Arc<Connections>,
    /// Which requests were carried out.
    pub(super) handled: Arc<Handled>,
    /// Servers that failed in a reconcile of one of their customers.
    pub(super) alarms: Arc<Alarms>,
}

impl Managed for CustomerTokenTtl {
    /// The server.
    type Parents = Option<Arc<KonaServer>>;
    type Inputs = Inputs;
    type Value = TtlSeconds;
    type Original = Original;
    type Record = Made;
    type Found = Found;
    type Extra = Extra;

    fn update(status: &mut CustomerTokenTtlStatus, report: &Report<'_, Self>, memory: &mut Memory<Self>) {
        let was_shown = status.pending.is_some();
        if report.shown {
            status.next_window = report.findings.opens.map(Time);
        }
        let Found { read, proven } = report.findings.found.clone();
        let found = customer::Found { summary: report.summary(), read, proven };
        let changes = memory.changes(|made| status.history.contains(&made.change));
        update(status, &found, Wish::of(&report.object.spec), changes, &clock::now());
        if !was_shown && status.pending.is_none() {
            memory.change = None;
        }
    }

    fn pausing(status: &mut CustomerTokenTtlStatus) {
        status.next_window = None;
    }

    fn overlook(before: &mut Inputs, now: &Inputs, reason: Option<Reason>) {
        before.overlook(now, reason);
    }
}

impl Controller for CustomerController {
    type Object = CustomerTokenTtl;

    fn store(&self) -> &Arc<Store<CustomerTokenTtl>> {
        &self.customers
    }

    fn connections(&self) -> &Connections {
        &self.connections
    }

    fn handled(&self) -> &Handled {
        &self.handled
    }

    fn claims(&self) -> &Claims {
        &self.claims
    }

    fn claimed(&self, customer: &CustomerTokenTtl) -> Option<Claimed> {
        claimed(&self.servers, customer)
    }

    fn changed(&self, before: Option<&Entry<CustomerTokenTtl>>, after: Option<&Entry<CustomerTokenTtl>>) {
        if let Some(customer) = after.or(before).and_then(Entry::valid) {
            self.customers.cluster().wake(Kind::Server, server_key(customer), Trigger::Related);
        }
    }

    fn gather(
        &self,
        customer: &CustomerTokenTtl,
        memory: &mut Memory<CustomerTokenTtl>,
    ) -> Given<CustomerTokenTtl> {
        let server = server_of(&self.servers, customer);
        let leaves = finalizers::is_leaving(customer.meta());
        let history = customer.status.iter().flat_map(|status| &status.history);
        let history = history.map(|change| (change.to, change.time.0, change.cause));
        let wish = Wish::of(&customer.spec);
        Given {
            inputs: Inputs::of(customer, server.as_deref()),
            standing: self.claims.standing(customer.meta()),
            is_awaited: self.claims.is_awaited(customer.meta()),
            requests: requests::open(customer)
                .into_iter()
                .chain(server.as_deref().and_then(requests::open))
                .collect(),
            paused: paused(&customer.spec, server.as_deref()).filter(|_| !leaves),
            // An invalid spec is reported, and nothing is read meanwhile.
            interval: memory.extra.spec(customer).as_ref().map_or(schedule::CAP, |spec| spec.interval),
            time_left: leaves.then(|| restore::time_left(customer.meta())),
            holds: finalizers::has_finalizer(customer.meta())
                || customer.spec.deletion_policy == DeletionPolicy::Restore,
            last_set: last_set(history, |ttl| wish.requires(ttl)),
            parents: server,
        }
    }

    async fn finalize(
        &self,
        customer: &Arc<CustomerTokenTtl>,
        given: &Given<CustomerTokenTtl>,
        memory: &mut Memory<CustomerTokenTtl>,
    ) -> Result<Option<Reconcile>, Inconclusive> {
        let wish = Wish::of(&customer.spec);
        if !std::mem::replace(&mut memory.extra.has_recalled, true) {
            memory.change =
                customer.status.as_ref().and_then(|status| remembered(status, wish)).map(Box::new);
        }
        let meta = customer.meta();
        if meta.deletion_timestamp.is_none() {
            hold(&self.customers, customer, memory).await?;
            return Ok(None);
        }
        if !finalizers::has_finalizer(meta) || memory.has_gone {
            // Others keep it. A request on the server does not wait for that.
            let next = clock::instant() + UNDISTURBED;
            return Ok(Some(Reconcile::Done { next, outcome: Outcome::Success }));
        }
        let decided = memory.extra.parting.take().filter(|parting| !matches!(parting, Parting::Restore(_)));
        let mut parting = decided.unwrap_or_else(|| required(customer, given, memory));
        if matches!(parting, Parting::Restore(_))
            && let Some(why) = restore::skip_reason(self.customers.cluster(), meta).await
        {
            parting = Parting::Skipped(why.as_str());
        }
        memory.extra.parting = Some(parting.clone());
        let skipped = match parting {
            Parting::Restore(_) => return Ok(None),
            Parting::AsItIs => None,
            Parting::Skipped(why) => Some(why),
        };
        Ok(Some(release(&self.customers, customer, memory, skipped).await))
    }

    async fn examine(
        &self,
        customer: &mut Working<'_, CustomerTokenTtl>,
        given: &Given<CustomerTokenTtl>,
        memory: &mut Memory<CustomerTokenTtl>,
    ) -> Result<Findings<CustomerTokenTtl>, Inconclusive> {
        examine::examine(self, customer, given, memory).await
    }

    async fn conclude(
        &self,
        customer: &CustomerTokenTtl,
        memory: &mut Memory<CustomerTokenTtl>,
    ) -> Option<Reconcile> {
        // What was restored is recorded before the resource goes.
        let is_restored = memory.owed.last().is_some_and(|made| made.change.cause == Cause::Restore);
        let skipped = match memory.extra.parting {
            Some(Parting::AsItIs) if !is_restored => None,
            Some(Parting::Skipped(why)) => Some(why),
            _ => return None,
        };
        Some(release(&self.customers, customer, memory, skipped).await)
    }

    fn announce(&self, report: &Report<'_, CustomerTokenTtl>, memory: &Memory<CustomerTokenTtl>) {
        let (customer, findings) = (report.object, report.findings);
        for Made { change, .. } in memory.owed.iter() {
            let (reason, note) = changed(change);
            self.customers.cluster().publish(customer, reason, note, None);
        }
        let seen = findings.found.read.as_ref().map(|read| read.ttl);
        let wish = Wish::of(&customer.spec);
        if let Some(note) = drifted(customer.status.as_ref(), wish, seen, &findings.verdict) {
            self.customers.cluster().publish(customer, EventReason::DriftFound, note, None);
        }
    }

    fn carried_out(&self, customer: &CustomerTokenTtl) {
        self.customers.cluster().wake(Kind::Server, server_key(customer), Trigger::Related);
    }
}

/// Holds a customer that is to be restored once something was written, and no other. An error means that the API server did not
/// accept that.
async fn hold(
    customers: &Arc<Store<CustomerTokenTtl>>,
    customer: &CustomerTokenTtl,
    memory: &Memory<CustomerTokenTtl>,
) -> Result<(), Inconclusive> {
    let meta = customer.meta();
    let set = written(customer.status.as_ref(), memory.change.as_deref(), &memory.owed);
    let done = match customer.spec.deletion_policy {
        DeletionPolicy::Retain => finalizers::release(customers, meta).await,
        DeletionPolicy::Restore if !set.is_empty() => finalizers::hold(customers, meta).await,
        DeletionPolicy::Restore => Written::Unchanged,
    };
    if done == Written::Failed { Err(Inconclusive::NotAccepted) } else { Ok(()) }
}

/// What a deleted resource requires.
fn required(
    customer: &CustomerTokenTtl,
    given: &Given<CustomerTokenTtl>,
    memory: &Memory<CustomerTokenTtl>,
) -> Parting {
    let server = given.parents.as_deref();
    let url = server.and_then(|server| BaseUrl::parse(&server.spec.connection.url).ok());
    parting(Deletion {
        spec: &customer.spec,
        status: &customer.status.clone().unwrap_or_default(),
        open: memory.change.as_deref(),
        owed: &memory.owed,
        is_paused: paused(&customer.spec, server).is_some(),
        url: url.map(|url| url.to_string()).as_deref(),
        standing: given.standing,
    })
}

/// Removes the finalizer, and publishes why the customer is left as it is, if it was to be restored.
async fn release(
    customers: &Store<CustomerTokenTtl>,
    customer: &CustomerTokenTtl,
    memory: &mut Memory<CustomerTokenTtl>,
    skipped: Option<&str>,
) -> Reconcile {
    match restore::release(customers, customer.meta(), skipped).await {
        Written::Failed | Written::Forbidden => {
            Reconcile::Done { next: restore::next_check(customer.meta()), outcome: Outcome::Failure }
        }
        Written::Gone | Written::Done | Written::Unchanged => {
            memory.has_gone = true;
            Reconcile::Done { next: clock::instant() + UNDISTURBED, outcome: Outcome::Success }
        }
    }
}

/// What a customer's resource claims.
pub(super) fn claimed(servers: &Store<KonaServer>, customer: &CustomerTokenTtl) -> Option<Claimed> {
    Claimed::by_customer(customer, server_of(servers, customer).as_deref())
}

fn server_key(customer: &CustomerTokenTtl) -> Key {
    Key::new(customer.namespace().unwrap_or_default(), customer.spec.server_ref.name.clone())
}

fn server_of(servers: &Store<KonaServer>, customer: &CustomerTokenTtl) -> Option<Arc<KonaServer>> {
    servers.valid(&server_key(customer))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn customer(generation: i64, schedule: &str) -> CustomerTokenTtl {
        let spec = json!({
            "serverRef": {"name": "kona"}, "customerId": "1d2b7a10-5c1e-4f2a-9b3d-000000000001",
            "accessTokenTtlSeconds": 3600, "refreshTokenTtlSeconds": 86400,
            "windows": [{"schedule": schedule, "duration": "4h"}],
        });
        let mut customer = CustomerTokenTtl::new("acme", serde_json::from_value(spec).unwrap());
        customer.metadata.generation = Some(generation);
        customer
    }

    #[test]
    fn windows_are_parsed_once_per_generation() {
        let mut extra = Extra::default();
        let first = extra.spec(&customer(1, "0 22 * * SAT")).clone().unwrap();
        // Only a new generation has another spec: what differs here would show that it was parsed again.
        assert_eq!(extra.spec(&customer(1, "0 2 * * SUN")).as_ref(), Ok(&first));
        assert_ne!(extra.spec(&customer(2, "0 2 * * SUN")).as_ref(), Ok(&first));
        assert!(extra.spec(&customer(2, "0 2 * * SUN")).is_ok());
    }
}
