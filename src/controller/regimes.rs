//! What the policies of a namespace require of its gateways, each found out once for all policies.

use std::collections::HashMap;
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
    /// What is required by these policies: of gateways that no changed policy concerns, what was required before.
    pub fn after(before: &Arc<Self>, policies: &Arc<Policies>) -> Arc<Self> {
        let changed = policies.changed_since(&before.policies);
        if changed.iter().all(Policies::is_empty) {
            return Arc::clone(before);
        }
        let after = Self { policies: Arc::clone(policies), gateways: Mutex::default() };
        if after.are_kept() {
            let is_same = |known: &Known| !changed.iter().any(|policies| policies.concern(&known.gateway));
            let before = before.gateways();
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
        let mut asked = 0;
        for gateway in gateways().iter().filter_map(Entry::valid) {
            if self.known(gateway).is_none() {
                self.of(gateway);
                asked += self.policies.len();
            }
            if asked > AT_ONCE {
                asked = 0;
                tokio::task::yield_now().await;
            }
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
        let before =
            regimes([policy(1, Some("bonn"), 1), policy(2, Some("kiel"), 1), policy(3, Some("ulm"), 1)]);
        let known = fleet.each_ref().map(|gateway| before.of(gateway));
        let after = |policies: [_; 2]| {
            let after = Regimes::after(&before, &Arc::new(policies.into_iter().collect()));
            fleet.each_ref().map(|gateway| after.of(gateway))
        };
        // One is moved from Bonn to Kiel, where it has less priority; another is gone.
        let found = after([policy(1, Some("kiel"), 2), policy(2, Some("kiel"), 1)]);
        assert_eq!(found.each_ref().map(|regime| regime.policy()), [None, Some("policy-2"), None]);
        // One is edited, and another is gone.
        let found = after([policy(1, Some("bonn"), 2), policy(2, Some("kiel"), 1)]);
        assert_eq!(
            found.each_ref().map(|regime| regime.policy()),
            [Some("policy-1"), Some("policy-2"), None]
        );
        let is_known: Vec<bool> = known.iter().zip(&found).map(|(a, b)| Arc::ptr_eq(a, b)).collect();
        assert_eq!(is_known, [false, true, false]);
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
