//! What the policies of a namespace require of its gateways, each found out once for all policies.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt as _;

use crate::crd::X2Gateway;
use crate::engine::gateway::Regime;
use crate::engine::governance::Policies;
use crate::runtime::object::Entry;

/// How many policies are asked about gateways before other tasks go on: as many as take a millisecond or two.
const AT_ONCE: usize = 20_000;

/// What is required of each gateway. A policy sums up all gateways, and for each of them all policies count: if each policy
/// found that out for itself, an edit would cost (policies)² × gateways.
#[derive(Debug, Default)]
pub(crate) struct Regimes {
    policies: Arc<Policies>,
    gateways: Mutex<HashMap<String, Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    gateway: Arc<X2Gateway>,
    regime: Arc<Regime>,
}

impl Regimes {
    /// What is required by these policies: of gateways that no changed policy concerns, what was required before. If many have
    /// changed, that takes as long as to find it out again, and nothing is kept.
    pub fn after(before: &Arc<Self>, policies: &Arc<Policies>) -> Arc<Self> {
        let changed = policies.changed_since(&before.policies);
        let asked: usize = changed.iter().map(Policies::len).sum();
        if asked == 0 {
            return Arc::clone(before);
        }
        let after = Self { policies: Arc::clone(policies), gateways: Mutex::default() };
        let before = before.gateways();
        if after.are_kept() && asked * before.len() <= AT_ONCE {
            let is_same = |known: &Known| !changed.iter().any(|policies| policies.concern(&known.gateway));
            let same = before.iter().filter(|(_, known)| is_same(known));
            after.gateways().extend(same.map(|(name, known)| (name.clone(), known.clone())));
        }
        Arc::new(after)
    }

    /// What is required of a gateway.
    pub fn of(&self, gateway: &Arc<X2Gateway>) -> Arc<Regime> {
        self.known(gateway).unwrap_or_else(|| {
            let regime = Arc::new(self.policies.governance(gateway).regime);
            if self.are_kept() {
                let known = Known { gateway: Arc::clone(gateway), regime: Arc::clone(&regime) };
                self.gateways().insert(gateway.name_any(), known);
            }
            regime
        })
    }

    /// Finds out what is required of gateways, and lets other tasks go on meanwhile. They are read only if that is kept.
    pub(crate) async fn find_out(&self, gateways: impl FnOnce() -> Vec<Entry<X2Gateway>>) {
        if !self.are_kept() {
            return;
        }
        let gateways = gateways();
        let mut asked = 0;
        for gateway in gateways.iter().filter_map(Entry::valid) {
            if self.known(gateway).is_none() {
                self.of(gateway);
                asked += self.policies.len();
            }
            if asked > AT_ONCE {
                asked = 0;
                tokio::task::yield_now().await;
            }
        }
        let mut known = self.gateways();
        if known.len() > gateways.len() {
            // One was deleted while others were asked about.
            let names: HashSet<_> =
                gateways.iter().filter_map(|entry| entry.meta().name.as_deref()).collect();
            known.retain(|name, _| names.contains(name.as_str()));
        }
    }

    /// A gateway is gone.
    pub fn forget(&self, gateway: &str) {
        self.gateways().remove(gateway);
    }

    fn known(&self, gateway: &Arc<X2Gateway>) -> Option<Arc<Regime>> {
        let gateways = self.gateways();
        let known = gateways.get(gateway.metadata.name.as_ref()?)?;
        Arc::ptr_eq(&known.gateway, gateway).then(|| Arc::clone(&known.regime))
    }

    /// With one policy there is little to find out, and keeping it would take memory.
    fn are_kept(&self) -> bool {
        self.policies.len() > 1
    }

    fn gateways(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::crd::TokenPolicy;
    use crate::engine::governance::Policy;
    use crate::engine::lifetime::Bounds;

    /// A policy for the gateways of a site, or for all.
    fn policy(number: i64, site: Option<&str>, generation: i64) -> (String, Option<Policy>) {
        let name = format!("policy-{number}");
        let selector = site.map_or_else(|| json!({}), |site| json!({"matchLabels": {"site": site}}));
        let policy: TokenPolicy = serde_json::from_value(json!({
            "apiVersion": "tenure.dev/v1alpha1", "kind": "TokenPolicy",
            "metadata": {"name": name, "uid": name, "generation": generation},
            "spec": {"gatewaySelector": selector, "timeoutSeconds": 28800, "priority": number},
        }))
        .unwrap();
        let parsed = Policies::default().parse(&Arc::new(policy), Bounds::default(), Timestamp::UNIX_EPOCH);
        (name, Some(parsed))
    }

    fn regimes(policies: impl IntoIterator<Item = (String, Option<Policy>)>) -> Arc<Regimes> {
        Regimes::after(&Arc::default(), &Arc::new(policies.into_iter().collect()))
    }

    fn for_all(count: i64) -> Arc<Regimes> {
        regimes((0..count).map(|number| policy(number, None, 1)))
    }

    fn gateway(name: &str) -> Arc<X2Gateway> {
        gateway_at("bonn", name)
    }

    fn gateway_at(site: &str, name: &str) -> Arc<X2Gateway> {
        let gateway = json!({
            "apiVersion": "tenure.dev/v1alpha1", "kind": "X2Gateway",
            "metadata": {"name": name, "uid": name, "labels": {"site": site}},
            "spec": {"url": "https://x2.example.net", "credentialsSecretRef": {"name": "x2-admin"}},
        });
        Arc::new(serde_json::from_value(gateway).unwrap())
    }

    #[test]
    fn what_is_required_of_a_gateway_is_found_out_once_until_it_changes() {
        let regimes = for_all(2);
        let first = gateway("x2");
        let found = regimes.of(&first);
        assert_eq!(found.policy(), Some("policy-1"), "of higher priority");
        assert!(Arc::ptr_eq(&found, &regimes.of(&first)));
        let changed = gateway("x2");
        assert!(!Arc::ptr_eq(&found, &regimes.of(&changed)));
        assert!(Arc::ptr_eq(&regimes.of(&changed), &regimes.of(&changed)));
        assert_eq!(regimes.gateways().len(), 1, "the version before is not kept");
        regimes.forget("x2");
        assert!(regimes.gateways().is_empty());
    }

    #[test]
    fn an_edited_policy_concerns_the_gateways_that_it_selects_or_selected() {
        let fleet = ["bonn", "kiel", "ulm"].map(|site| gateway_at(site, site));
        let one = |site| policy(1, Some(site), 1);
        let before = regimes([one("bonn"), policy(2, Some("kiel"), 1), policy(3, Some("ulm"), 1)]);
        let known = fleet.each_ref().map(|gateway| before.of(gateway));
        let after = |policies: Vec<_>| {
            let after = Regimes::after(&before, &Arc::new(policies.into_iter().collect()));
            let found = fleet.each_ref().map(|gateway| after.of(gateway));
            let is_known = known.each_ref().map(|known| found.iter().any(|found| Arc::ptr_eq(known, found)));
            (found.map(|regime| regime.policy().map(str::to_owned)), is_known)
        };
        let names = |names: [&str; 3]| names.map(|name| (!name.is_empty()).then(|| name.to_owned()));
        // One is edited, another moves from Ulm to Kiel, where it has the highest priority.
        let moved = vec![policy(1, Some("bonn"), 2), policy(2, Some("kiel"), 1), policy(3, Some("kiel"), 2)];
        assert_eq!(after(moved), (names(["policy-1", "policy-3", ""]), [false; 3]));
        // One is gone, and a new one is for Ulm.
        let new = vec![one("bonn"), policy(3, Some("ulm"), 1), policy(4, Some("ulm"), 1)];
        assert_eq!(after(new), (names(["policy-1", "", "policy-4"]), [true, false, false]));
        // One is not understood anymore: it keeps the gateways that it governed, and no other.
        let unknown = vec![one("bonn"), policy(2, Some("kiel"), 1), ("policy-3".to_owned(), None)];
        assert_eq!(after(unknown), (names(["policy-1", "policy-2", ""]), [true, true, false]));
    }

    #[tokio::test]
    async fn what_is_kept_of_a_gateway_that_goes_meanwhile_goes_with_the_next_plan() {
        let regimes = for_all(2);
        let both = ["x2-1", "x2-2"].map(|name| Entry::Valid(gateway(name)));
        regimes.find_out(|| both.to_vec()).await;
        regimes.find_out(|| both[..1].to_vec()).await;
        assert_eq!(regimes.gateways().len(), 1);
    }

    #[tokio::test]
    async fn other_tasks_go_on_while_much_is_found_out() {
        let regimes = for_all(200);
        let gateways: Vec<_> =
            (0..=100).map(|number| Entry::Valid(gateway(&format!("x2-{number}")))).collect();
        let mut all = Box::pin(regimes.find_out(|| gateways.clone()));
        assert!(poll!(&mut all).is_pending(), "20,200 questions at once");
        all.await;
        assert_eq!(regimes.gateways().len(), 101);
        assert!(poll!(Box::pin(regimes.find_out(|| gateways.clone()))).is_ready(), "everything is known");
    }
}
