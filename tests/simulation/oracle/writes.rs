//! Only what is wanted is written, while it is wanted and allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Violation;
use crate::intent::{CustomerIntent, GatewayIntent, Intent};
use crate::remote::{Asked, Effect, Entry, What};

/// Between an edit and the first write that must respect it: what the API server takes to tell of it.
const LAG: Duration = Duration::from_millis(100);
/// The same while several replicas take turns: their clocks differ by so much.
const SKEW: Duration = Duration::from_secs(4);
/// What is seen by a watch again after it was disturbed.
const RELIST: Duration = Duration::from_secs(150);

/// What keeps a replica from hearing of edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbance {
    /// Faults of the API server.
    Weather,
    /// Watches are held.
    Hold,
}

/// What was wanted, from when on, and what stands where.
#[derive(Debug, Default)]
pub struct Writes {
    wanted: Vec<(Duration, Intent)>,
    /// Since when, and until when, a replica may not know of edits.
    blind_since: Duration,
    blind_until: Duration,
    lasting: BTreeSet<Disturbance>,
    pub several: bool,
    pub restores: bool,
    /// Changes under way, by process and policy: appliances, and when each change ends at the latest.
    under_way: BTreeMap<(usize, String), BTreeMap<String, Duration>>,
    /// Values that were found before writes of ours, by URL or customer.
    found: BTreeMap<String, BTreeSet<String>>,
}

impl Writes {
    /// From now on this is wanted.
    pub fn learn(&mut self, from: Duration, intent: Intent) {
        if self.wanted.last().is_none_or(|(_, last)| *last != intent) {
            self.wanted.push((from, intent));
        }
    }

    /// Watches are disturbed for a moment.
    pub fn disturbed(&mut self, now: Duration) {
        self.begin(now);
        self.blind_until = self.blind_until.max(now + RELIST);
    }

    /// Watches are disturbed from now on, or not any more.
    pub fn disturb(&mut self, by: Disturbance, now: Duration, on: bool) {
        self.disturbed(now);
        if on {
            self.lasting.insert(by);
        } else {
            self.lasting.remove(&by);
        }
    }

    fn begin(&mut self, now: Duration) {
        if !self.is_blind(now) {
            self.blind_since = now;
        }
    }

    fn is_blind(&self, at: Duration) -> bool {
        !self.lasting.is_empty() || self.blind_until > at
    }

    pub fn check(&mut self, entries: &[Entry]) -> Result<(), Violation> {
        for entry in entries {
            match &entry.what {
                What::Sent { asked: Asked::Timeout(to), exchange, .. } => {
                    self.bounded(entry)?;
                    self.gateway(entry, *to).map_err(|why| {
                        Violation::new(
                            "only what is wanted is written",
                            format!("#{exchange} to {}: {to} at {:?}: {why}", entry.url, entry.at),
                        )
                    })?;
                }
                What::Sent { asked: Asked::Customer { id, ttls }, exchange, .. } => {
                    self.customer(entry, id, *ttls).map_err(|why| {
                        Violation::new(
                            "only what is wanted is written",
                            format!("#{exchange} to {id}: {ttls:?} at {:?}: {why}", entry.at),
                        )
                    })?;
                }
                What::CarriedOut { effect: Effect::Timeout { from, .. }, .. } => {
                    self.found.entry(entry.url.clone()).or_default().insert(from.to_string());
                }
                What::CarriedOut { effect: Effect::Customer { id, .. }, .. } => {
                    self.found.entry(id.clone()).or_default();
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// No more gateways of a policy are changed at once than its rollout allows.
    fn bounded(&mut self, entry: &Entry) -> Result<(), Violation> {
        let What::Sent { replica, fate, .. } = &entry.what else { return Ok(()) };
        let known = self.known_at(entry.at);
        let policies: Vec<_> = self
            .wanted_between(known, entry.at)
            .flat_map(|intent| intent.gateways.iter().filter(|gateway| gateway.url == entry.url))
            .map(|gateway| gateway.policy.as_ref().map(|policy| (policy.name.clone(), policy.at_once)))
            .collect();
        // Only where it is certain which bounds hold.
        let [Some((policy, Some(most))), rest @ ..] = policies.as_slice() else { return Ok(()) };
        if rest.iter().any(|other| other.as_ref() != policies.first().and_then(Option::as_ref)) {
            return Ok(());
        }
        let end = entry.at + (fate.before + fate.after).min(Duration::from_secs(10));
        let (policy, most) = (policy.clone(), *most);
        let under_way = self.under_way.entry((*replica, policy.clone())).or_default();
        under_way.retain(|_, end| *end > entry.at);
        under_way.insert(entry.url.clone(), end);
        if under_way.len() <= most {
            return Ok(());
        }
        let what = format!("{:?} at {:?}; policy {policy} allows {most}", under_way.keys(), entry.at);
        Err(Violation::new("rollouts stay within their bounds", what))
    }

    /// Since when an edit may not be known at a time.
    fn known_at(&self, at: Duration) -> Duration {
        let lag = if self.several { SKEW } else { LAG };
        let usual = at.saturating_sub(lag);
        if self.is_blind(at) { usual.min(self.blind_since.saturating_sub(lag)) } else { usual }
    }

    /// What was wanted at some moment between two.
    fn wanted_between(&self, from: Duration, to: Duration) -> impl Iterator<Item = &Intent> {
        let last_before = self.wanted.iter().rposition(|(since, _)| *since <= from).unwrap_or_default();
        self.wanted.iter().skip(last_before).filter(move |(since, _)| *since <= to).map(|(_, intent)| intent)
    }

    fn gateway(&self, entry: &Entry, to: u32) -> Result<(), String> {
        let known = self.known_at(entry.at);
        let mut why = "no gateway has this URL".to_owned();
        for intent in self.wanted_between(known, entry.at) {
            for gateway in intent.gateways.iter().filter(|gateway| gateway.url == entry.url) {
                match self.admits(gateway, to, entry.at) {
                    Ok(()) => return Ok(()),
                    Err(because) => why = because,
                }
            }
        }
        Err(why)
    }

    fn admits(&self, gateway: &GatewayIntent, to: u32, at: Duration) -> Result<(), String> {
        if gateway.suspended {
            return Err(format!("gateway {} is suspended", gateway.name));
        }
        let was_there = || self.found.get(&gateway.url).is_some_and(|found| found.contains(&to.to_string()));
        let Some(policy) = gateway.policy.as_ref().filter(|_| !gateway.deleting) else {
            let restored = self.restores && was_there();
            return if restored {
                Ok(())
            } else {
                Err(format!("no policy governs gateway {}", gateway.name))
            };
        };
        if policy.suspended {
            return Err(format!("policy {} is suspended", policy.name));
        }
        if !policy.target.admits(to) {
            return Err(format!("policy {} wants {:?}", policy.name, policy.target));
        }
        let from = at.saturating_sub(if self.several { SKEW } else { LAG });
        // What comes after a policy that restores is written at once.
        if !self.restores && !policy.windows.open_between(from, at) {
            return Err(format!("the windows of policy {} are closed", policy.name));
        }
        Ok(())
    }

    fn customer(&self, entry: &Entry, id: &str, ttls: (Option<u64>, Option<u64>)) -> Result<(), String> {
        let known = self.known_at(entry.at);
        let mut why = "nothing is wanted of this customer".to_owned();
        for intent in self.wanted_between(known, entry.at) {
            for customer in intent.customers.iter().filter(|customer| customer.id == id) {
                match self.admits_customer(customer, ttls, entry.at) {
                    Ok(()) => return Ok(()),
                    Err(because) => why = because,
                }
            }
        }
        Err(why)
    }

    fn admits_customer(
        &self,
        customer: &CustomerIntent,
        ttls: (Option<u64>, Option<u64>),
        at: Duration,
    ) -> Result<(), String> {
        if customer.suspended {
            return Err(format!("{} is suspended", customer.name));
        }
        if customer.deleting {
            return if self.restores { Ok(()) } else { Err(format!("{} is being deleted", customer.name)) };
        }
        if customer.ttls != ttls {
            return Err(format!("{} wants {:?}", customer.name, customer.ttls));
        }
        let from = at.saturating_sub(if self.several { SKEW } else { LAG });
        if !customer.windows.open_between(from, at) {
            return Err(format!("the windows of {} are closed", customer.name));
        }
        Ok(())
    }
}
