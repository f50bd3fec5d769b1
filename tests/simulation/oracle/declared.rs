//! What the users have declared, from when on, and which of it a process may act on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::sight::Sight;
use crate::api::{Key, Kind, Stored, Write};
use crate::intent::{CustomerIntent, Governing, is_out_of_scope, rank};
use crate::plan::reached_by;
use crate::replica::process_of;
use crate::time;

/// Between an edit and the first write that must respect it: what the API server takes to report it.
const LAG: Duration = Duration::from_millis(100);
/// The same while several replicas take turns: their clocks differ by so much.
pub(super) const SKEW: Duration = Duration::from_secs(4);
/// What the answer to a write takes, if the API server is not disturbed.
const ANSWER: Duration = Duration::from_millis(10);

/// Every version of every object, and what each process can know of them.
#[derive(Debug, Default)]
pub struct Declared {
    objects: BTreeMap<Kind, BTreeMap<Key, Vec<Version>>>,
    /// When a process has got an object as the answer to a write of its own.
    answered: BTreeMap<(usize, Kind, Key), Vec<Duration>>,
    pub sight: Sight,
    pub several: bool,
}

#[derive(Debug)]
struct Version {
    since: Duration,
    /// None: there is no such object.
    object: Option<Arc<Stored>>,
}

/// A gateway as a process may know it, and the policies that may govern it then.
#[derive(Debug)]
pub struct Possible<'a> {
    pub gateway: &'a Value,
    pub policies: Vec<Option<Governing>>,
}

/// What may be asked of a policy: by its key, and its rank if it asks for the gateway.
type Test<'a> = dyn Fn(&Key, Option<(i64, &str)>) -> bool + 'a;

impl Declared {
    pub fn learn(&mut self, write: &Write) {
        let kind = write.target.kind;
        if !Kind::OURS.contains(&kind) {
            return;
        }
        let at = time::passed(write.time);
        if let Some(process) = process_of(&write.client).filter(|_| !self.sight.is_stormy()) {
            self.answered.entry((process, kind, write.key.clone())).or_default().push(at);
        }
        // Statuses declare nothing.
        if write.target.status && write.after.is_some() {
            return;
        }
        let versions = self.objects.entry(kind).or_default().entry(write.key.clone()).or_default();
        let since = versions.last().map_or(at, |last| last.since.max(at));
        versions.push(Version { since, object: write.after.clone() });
    }

    /// Longest time that an undisturbed process may take to know of an edit.
    pub fn lag(&self) -> Duration {
        if self.several { SKEW } else { LAG }
    }

    /// What a process that does something at a time may know of the gateway with a URL.
    pub fn gateways(&self, process: usize, url: &str, at: Duration) -> Vec<Possible<'_>> {
        let versions =
            self.of_kind(Kind::X2Gateway).flat_map(|key| self.known(process, Kind::X2Gateway, key, at));
        let of_url = versions.flatten().filter(|gateway| reached_by(&gateway["spec"]) == *url);
        of_url.map(|gateway| Possible { gateway, policies: self.policies(process, gateway, at) }).collect()
    }

    /// The policies that may govern a gateway as far as a process knows: each that no other comes before, if others are as
    /// they may be known.
    fn policies(&self, process: usize, gateway: &Value, at: Duration) -> Vec<Option<Governing>> {
        let versions = |key| self.known(process, Kind::TokenPolicy, key, at);
        let keys: Vec<&Key> = self.of_kind(Kind::TokenPolicy).collect();
        let may_all = |test: &Test<'_>| {
            keys.iter().all(|key| {
                versions(*key).any(|version| test(key, version.and_then(|policy| rank(policy, gateway))))
            })
        };
        let mut found = Vec::new();
        for key in &keys {
            for (first, policy) in versions(*key).flatten().filter_map(|one| Some((rank(one, gateway)?, one)))
            {
                if may_all(&|other, rank| other == *key || rank.is_none_or(|rank| first < rank)) {
                    found.push(Some(Governing::of(policy)));
                }
            }
        }
        if may_all(&|_, rank| rank.is_none()) {
            found.push(None);
        }
        found
    }

    /// Whether policies, and the gateways with a URL, have asked for the same from a time on.
    pub fn is_settled(&self, url: &str, from: Duration) -> bool {
        let asked = |version: &Version| {
            let object = version.object.as_ref().map(|object| &object.value)?;
            let meta = &object["metadata"];
            Some((object["spec"].clone(), meta["labels"].clone(), meta["deletionTimestamp"].clone()))
        };
        let concerns = |version: &Version| {
            let object = version.object.as_ref().map(|object| &object.value);
            object
                .is_some_and(|object| object["kind"] == "TokenPolicy" || reached_by(&object["spec"]) == *url)
        };
        let all = [Kind::TokenPolicy, Kind::X2Gateway].into_iter().filter_map(|kind| self.objects.get(&kind));
        all.flat_map(BTreeMap::values).filter(|versions| versions.iter().any(concerns)).all(|versions| {
            let then = versions.partition_point(|version| version.since <= from);
            let mut since = versions.iter().skip(then.saturating_sub(1)).map(asked);
            then > 0 && since.next().is_some_and(|first| since.all(|later| later == first))
        })
    }

    /// What a process that does something at a time may know of the resources of a customer.
    pub fn customers(&self, process: usize, id: &str, at: Duration) -> Vec<CustomerIntent> {
        let kind = Kind::CustomerTokenTtl;
        let versions = self.of_kind(kind).flat_map(|key| self.known(process, kind, key, at));
        let of_id = versions.flatten().filter(|customer| customer["spec"]["customerId"] == *id);
        let with_server = of_id.flat_map(|customer| {
            let (meta, spec) = (&customer["metadata"], &customer["spec"]);
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let server = (text(&meta["namespace"]), text(&spec["serverRef"]["name"]));
            let servers = self.known(process, Kind::KonaServer, &server, at).collect::<Vec<_>>();
            servers.into_iter().map(|server| CustomerIntent::of(customer, server))
        });
        with_server.collect()
    }

    /// Whether a process has certainly seen that an object which is out of scope had our finalizer when it left: it owes the
    /// release.
    pub fn saw_leave(&self, process: usize, kind: Kind, key: &Key) -> bool {
        let (mut held_since, mut left) = (None, None);
        for Version { since, object } in self.versions(process, kind, key) {
            match object.as_ref().map(|object| &object.value) {
                None => (held_since, left) = (None, None),
                Some(object) if is_out_of_scope(object) => {
                    left = left.or_else(|| Some((held_since.take()?, *since)));
                }
                Some(object) => {
                    let is_held = !object["metadata"]["finalizers"].is_null();
                    (held_since, left) = (is_held.then(|| held_since.unwrap_or(*since)), None);
                }
            }
        }
        left.is_some_and(|times| self.sight.has_seen(process, kind, times, self.lag()))
    }

    /// Whether an object is surely there and like this, for all that a process may know at a time.
    pub fn certainly(
        &self,
        (process, kind, key): (usize, Kind, &Key),
        at: Duration,
        is: impl Fn(&Value) -> bool,
    ) -> bool {
        self.known(process, kind, key, at).all(|version| version.is_some_and(&is))
    }

    /// All versions of an object in a namespace that a process sees.
    fn versions(&self, process: usize, kind: Kind, key: &Key) -> &[Version] {
        let versions = self.objects.get(&kind).and_then(|objects| objects.get(key));
        versions.filter(|_| self.sight.sees(process, &key.0)).map_or(&[][..], Vec::as_slice)
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Key> {
        self.objects.get(&kind).into_iter().flat_map(BTreeMap::keys)
    }

    /// The versions of an object that a process may know at a time.
    fn known(
        &self,
        process: usize,
        kind: Kind,
        key: &Key,
        at: Duration,
    ) -> impl Iterator<Item = Option<&Value>> {
        let by_watch = self.sight.known_since(process, kind, at, self.lag());
        let answers = self.answered.get(&(process, kind, key.clone())).map_or(&[][..], Vec::as_slice);
        let answered = answers.iter().rfind(|answered| **answered + ANSWER <= at).copied();
        let from = by_watch.max(answered.unwrap_or_default());
        // The answer to a write does not show that the object has left the scope: only a watch does.
        let is_blind = by_watch < at.saturating_sub(self.lag());
        let versions = self.versions(process, kind, key);
        let before = versions.iter().rposition(|version| version.since <= from);
        let absent = before.is_none().then_some(None);
        // Clocks of several replicas and of the users differ.
        let latest = if self.several { at + SKEW } else { at };
        let known = versions.iter().skip(before.unwrap_or_default());
        let known = known.filter(move |version| version.since <= latest);
        absent.into_iter().chain(known.flat_map(move |version| {
            let object = version.object.as_ref().map(|object| &object.value);
            match object.filter(|object| is_out_of_scope(object)) {
                None => [Some(object), None],
                out => [Some(None), is_blind.then_some(out)],
            }
            .into_iter()
            .flatten()
        }))
    }
}
