//! Only what is wanted is written, while it is wanted and allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::Violation;
use super::declared::{Declared, Possible};
use super::owners::{Owners, claim};
use super::rollouts::Rollouts;
use crate::api::{Kind, Write};
use crate::intent::{CustomerIntent, Governing, is_deleting};
use crate::plan::reached_by;
use crate::remote::{Asked, Effect, Entry, What};

/// What was declared, and what was found at the remote systems.
#[derive(Debug, Default)]
pub struct Writes {
    pub declared: Declared,
    pub restores: bool,
    owners: Owners,
    rollouts: Rollouts,
    /// Changes under way, by process and policy: appliances, and when each change ends at the latest.
    under_way: BTreeMap<(usize, String), BTreeMap<String, Duration>>,
    /// Values that were found before writes of ours, by URL or customer.
    found: BTreeMap<String, BTreeSet<String>>,
}

impl Writes {
    pub fn check(&mut self, entries: &[Entry], writes: &[Write]) -> Result<(), Violation> {
        for write in writes {
            self.declared.learn(write);
            self.owners.learn(write);
            self.rollouts.learn(write);
        }
        for entry in entries {
            self.owners.hear(entry);
            match &entry.what {
                What::Sent { asked: Asked::Timeout(to), exchange, replica, .. } => {
                    self.bounded(entry)?;
                    self.rollouts.check(&self.declared, entry)?;
                    self.gateway(entry, *replica, *to).map_err(|why| {
                        Violation::new(
                            "only what is wanted is written",
                            format!("#{exchange} to {}: {to} at {:?}: {why}", entry.url, entry.at),
                        )
                    })?;
                }
                What::Sent { asked: Asked::Customer { id, ttls }, exchange, replica, .. } => {
                    self.customer(entry, *replica, id, *ttls).map_err(|why| {
                        Violation::new(
                            "only what is wanted is written",
                            format!("#{exchange} to {id}: {ttls:?} at {:?}: {why}", entry.at),
                        )
                    })?;
                }
                // What others replace was there to be read, too.
                What::CarriedOut { effect: Effect::Timeout { from, .. }, .. }
                | What::Foreign(Effect::Timeout { from, .. }) => {
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
        let known = self.declared.gateways(*replica, &entry.url, entry.at);
        // A gateway that is being deleted gets its original value back at once.
        let governing = |possible: Possible| {
            let deleting = is_deleting(possible.gateway);
            possible.policies.into_iter().map(move |policy| policy.filter(|_| !deleting))
        };
        let mut policies = known.into_iter().flat_map(governing);
        let bounds =
            |policy: Option<Governing>| policy.and_then(|policy| Some((policy.name, policy.at_once?)));
        // Only if it is certain which bounds hold.
        let Some((policy, most)) = policies.next().and_then(bounds) else { return Ok(()) };
        if policies.any(|other| bounds(other).as_ref() != Some(&(policy.clone(), most))) {
            return Ok(());
        }
        let end = entry.at + (fate.before + fate.after).min(Duration::from_secs(10));
        let under_way = self.under_way.entry((*replica, policy.clone())).or_default();
        under_way.retain(|_, end| *end > entry.at);
        under_way.insert(entry.url.clone(), end);
        if under_way.len() <= most {
            return Ok(());
        }
        let what = format!("{:?} at {:?}; policy {policy} allows {most}", under_way.keys(), entry.at);
        Err(Violation::new("rollouts stay within their bounds", what))
    }

    fn gateway(&self, entry: &Entry, process: usize, to: u32) -> Result<(), String> {
        let mut why = "no gateway has this URL".to_owned();
        let same = |rival: &Value| reached_by(&rival["spec"]) == entry.url;
        for Possible { gateway, policies } in self.declared.gateways(process, &entry.url, entry.at) {
            let (by, claim) = ((process, entry), claim(&gateway["metadata"]));
            if let Some(owner) = self.owners.another(&self.declared, by, &claim, (Kind::X2Gateway, &same)) {
                why = owner;
                continue;
            }
            for policy in policies {
                match self.admits(gateway, policy.as_ref(), &entry.url, (to, entry.at)) {
                    Ok(()) => return Ok(()),
                    Err(because) => why = because,
                }
            }
        }
        Err(why)
    }

    fn admits(
        &self,
        gateway: &Value,
        policy: Option<&Governing>,
        url: &str,
        (to, at): (u32, Duration),
    ) -> Result<(), String> {
        let name = &gateway["metadata"]["name"];
        if gateway["spec"]["suspend"] == true {
            return Err(format!("gateway {name} is suspended"));
        }
        let Some(policy) = policy.filter(|_| !is_deleting(gateway)) else {
            let was_there = self.found.get(url).is_some_and(|found| found.contains(&to.to_string()));
            let restored = self.restores && was_there;
            return if restored { Ok(()) } else { Err(format!("no policy governs gateway {name}")) };
        };
        if policy.suspended {
            return Err(format!("policy {} is suspended", policy.name));
        }
        if !policy.target.admits(to) {
            return Err(format!("policy {} wants {:?}", policy.name, policy.target));
        }
        let from = at.saturating_sub(self.declared.lag());
        // What comes after another policy that restores is written at once.
        let wrote_last = &gateway["status"]["history"][0]["policy"];
        let follows_none = wrote_last.is_null() || *wrote_last == *policy.name;
        if (!self.restores || follows_none) && !policy.windows.open_between(from, at) {
            return Err(format!("the windows of policy {} are closed", policy.name));
        }
        Ok(())
    }

    fn customer(
        &self,
        entry: &Entry,
        process: usize,
        id: &str,
        ttls: (Option<u64>, Option<u64>),
    ) -> Result<(), String> {
        let mut why = "nothing is wanted of this customer".to_owned();
        let customers = self.declared.customers(process, id, entry.at);
        let is_elsewhere = |rival: &Value| {
            let claim = claim(&rival["metadata"]);
            let mut its = customers.iter().filter(|customer| customer.claim == claim);
            its.any(|customer| customer.url.as_ref().is_some_and(|url| *url != entry.url))
        };
        let same = |rival: &Value| rival["spec"]["customerId"] == *id && !is_elsewhere(rival);
        for customer in &customers {
            if customer.url.as_ref().is_some_and(|url| *url != entry.url) {
                why = format!("the server of {} is elsewhere", customer.name);
                continue;
            }
            let by = (process, entry);
            let same = (Kind::CustomerTokenTtl, &same as &dyn Fn(&Value) -> bool);
            if let Some(owner) = self.owners.another(&self.declared, by, &customer.claim, same) {
                why = owner;
                continue;
            }
            match self.admits_customer(customer, ttls, entry.at) {
                Ok(()) => return Ok(()),
                Err(because) => why = because,
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
        let from = at.saturating_sub(self.declared.lag());
        if !customer.windows.open_between(from, at) {
            return Err(format!("the windows of {} are closed", customer.name));
        }
        Ok(())
    }
}
