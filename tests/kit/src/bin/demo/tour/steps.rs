//! The steps of the tour.

use std::time::Duration;

use anyhow::{Result, anyhow};
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tenure_kit::requests::Counts;

use super::{SOON, Tour, check};
use crate::board::{Kind, is_ready, reason, status};
use crate::world::Tenant;

const FACTORY: u64 = 86_400;
/// What the policies of the examples make of an appliance as it comes from the factory.
const DECLARED: [(&str, u64); 4] =
    [("berlin-core", 28_800), ("berlin-edge", 28_800), ("munich-core", 43_200), ("munich-edge", 43_200)];
/// What they make of it after the change.
const CHANGED: [(&str, u64); 4] =
    [("berlin-core", 3_600), ("berlin-edge", 3_600), ("munich-core", 43_200), ("munich-edge", 43_200)];
/// The lifetimes that the examples declare for the customers.
const CUSTOMERS: [(&str, u64, u64); 3] =
    [("city-lights", 3_600, 86_400), ("harbour-water", 1_800, 43_200), ("orchard-farms", 7_200, 604_800)];
/// A corrected Secret is noticed within half a minute.
const SECRET_TIMEOUT: Duration = Duration::from_mins(1);
/// Appliances that may refuse a password before nobody else is asked.
const REFUSALS: u64 = 3;
const ROUNDS: u64 = 10;

impl Tour<'_> {
    pub(super) async fn converge(&mut self) -> Result<()> {
        self.stage.apply_examples(None, self.screen).await?;
        self.screen.blank();
        self.board.head();
        self.ready_all("all of examples/ to be ready", SOON).await?;
        let complete = |server: &DynamicObject| summary(server, "customers") == "3/3";
        self.board
            .until("kona-eu to count 3/3 customers", SOON, |board| {
                board.has(Kind::Server, "kona-eu", complete)
            })
            .await?;
        self.screen.blank();
        self.appliances(&DECLARED)?;
        for (name, seconds) in DECLARED {
            let original = number(self.board.get(Kind::Gateway, name)?, "originalTimeoutSeconds");
            check(&format!("what {name} had before"), &Some(FACTORY), &original)?;
            let proven = number(self.board.get(Kind::Gateway, name)?, "provenTimeoutSeconds");
            check(&format!("how long {name}'s fresh token lives"), &Some(seconds), &proven)?;
        }
        self.screen.ok("4 appliances: from 86400s to what their policies require, proven by new tokens");
        for (name, access, refresh) in CUSTOMERS {
            let tenant = self.tenant(name)?;
            let ttls = tenant.customer.token_ttls();
            check(&format!("the lifetimes of {name}"), &(Some(access), Some(refresh)), &ttls)?;
            let info = tenant.customer.field("additionalInfo").unwrap_or_default();
            let missing: Vec<&&str> = tenant.foreign.iter().filter(|part| !info.contains(**part)).collect();
            check(&format!("what {name} has lost of its additionalInfo {info}"), &Vec::new(), &missing)?;
        }
        self.screen.ok("3 customers: as declared; every other byte of additionalInfo is unchanged");
        let tenant = self.tenant("harbour-water")?;
        let info = tenant.customer.field("additionalInfo").unwrap_or_default();
        let (before, added) = info.split_at(info.find("\"accessToken").unwrap_or_default());
        self.screen.row("before", tenant.info);
        self.screen.row("after", before);
        self.screen.row("", &format!(" {added}"));
        Ok(())
    }

    pub(super) async fn drift(&mut self) -> Result<()> {
        let name = "munich-edge";
        let appliance = self.stage.world.gateway(name)?.clone();
        let (before, counts) = (appliance.timeout(), appliance.counts());
        appliance.factory_reset();
        self.screen.item(
            "reset",
            &format!("{name}: {before}s -> {}s, on the appliance itself", appliance.timeout()),
        );
        check("what the appliance has after its reset", &FACTORY, &appliance.timeout())?;
        self.screen.item("check", "The next check, within 10m, finds it. To request one now:");
        self.command("annotate x2 munich-edge tenure.dev/reconcile-requested-at=\"$(date)\" --overwrite");
        self.look(&[(Kind::Gateway, name)]).await?;
        self.board
            .until("the event DriftCorrected", SOON, |board| board.event(name, "DriftCorrected").is_some())
            .await?;
        let note = self.board.event(name, "DriftCorrected").map(|event| event.note.clone());
        self.screen.item("event", &format!("DriftCorrected: {}", note.unwrap_or_default()));
        self.screen.blank();

        let gateway = self.board.get(Kind::Gateway, name)?;
        check("whether the gateway is ready", &true, &is_ready(gateway))?;
        let last = status(gateway).pointer("/history/0").cloned().unwrap_or_default();
        let seen = ["cause", "from", "to"].map(|key| last.get(key).cloned().unwrap_or_default());
        check("the last entry of its history", &[json!("Drift"), json!(FACTORY), json!(43_200)], &seen)?;
        self.appliances(&DECLARED)?;
        let cost = Counts { get: 1, write: 1, login: 1, ..Counts::default() };
        check("what it cost", &cost, &(appliance.counts() - counts))?;
        self.screen.ok("corrected by one GET, one PUT and one login that proves it; recorded in its history");
        Ok(())
    }

    pub(super) async fn change(&mut self) -> Result<()> {
        let counts: Vec<Counts> = self.stage.world.fleet.counts_by_appliance();
        let patch = json!({"spec": {"timeoutSeconds": 3600}});
        self.command(&format!("patch tp berlin-sessions --type merge -p '{patch}'"));
        self.screen.blank();
        self.board.head();
        let generation = self.stage.patch("TokenPolicy", "berlin-sessions", patch).await?;
        let follows =
            |object: &DynamicObject| is_ready(object) && object.metadata.generation == Some(generation);
        let expected = format!("berlin-sessions to be ready at generation {generation}");
        self.board
            .until(&expected, SOON, |board| board.has(Kind::Policy, "berlin-sessions", follows))
            .await?;
        self.screen.blank();
        self.appliances(&CHANGED)?;
        let summary = summary(self.board.get(Kind::Policy, "berlin-sessions")?, "gateways");
        check("how many gateways follow", &"2/2", &summary)?;
        self.screen.ok(&format!("2 appliances at 3600s; the policy is ready at its generation {generation}"));
        let counts: Vec<Counts> = self
            .stage
            .world
            .fleet
            .counts_by_appliance()
            .into_iter()
            .zip(counts)
            .map(|(now, before)| now - before)
            .collect();
        let munich = counts.iter().skip(2).map(Counts::total).sum::<u64>();
        check("requests to the appliances of the other policy", &0, &munich)?;
        self.screen.ok("the 2 appliances of munich-sessions got no request");
        Ok(())
    }

    pub(super) async fn password(&mut self) -> Result<()> {
        let before = self.stage.world.fleet.counts();
        self.command(r#"patch secret x2-admin -p '{"stringData":{"password":"wrong"}}'"#);
        self.set_password("wrong").await?;
        self.command("annotate x2 --all tenure.dev/reconcile-requested-at=\"$(date)\" --overwrite");
        self.screen.blank();
        self.board.head();
        self.look(&DECLARED.map(|(name, _)| (Kind::Gateway, name))).await?;
        for (name, _) in DECLARED {
            let reason = reason(self.board.get(Kind::Gateway, name)?);
            check(&format!("why {name} is not ready"), &"AuthenticationFailed", &reason)?;
        }
        let cost = self.stage.world.fleet.counts() - before;
        // Three refusals in a row end it; a request that comes after them allows one more try.
        let expected = Counts { login: cost.login.clamp(REFUSALS, REFUSALS + 1), ..Counts::default() };
        check("requests with the wrong password", &expected, &cost)?;
        self.screen.blank();
        let requested = if cost.login > REFUSALS { ", and one more that the request allowed" } else { "" };
        self.screen.ok(&format!(
            "4 gateways AuthenticationFailed after {REFUSALS} logins{requested}; no more are tried, so no account is \
             locked"
        ));
        self.screen.blank();

        let before = self.stage.world.fleet.counts();
        self.command(r#"patch secret x2-admin -p '{"stringData":{"password":"…"}}'"#);
        let (_, _, password) = self.stage.world.login("x2-admin")?;
        let since = self.board.elapsed();
        self.set_password(password).await?;
        self.screen.item("wait", "The operator reads the Secret every 30s while its password is refused.");
        self.screen.blank();
        self.ready_all("all gateways to be ready again", SECRET_TIMEOUT).await?;
        let took = self.board.elapsed().saturating_sub(since).as_secs_f64();
        let cost = self.stage.world.fleet.counts() - before;
        check("logins with the right password", &4, &cost.login)?;
        check("writes", &0, &cost.write)?;
        self.appliances(&CHANGED)?;
        self.screen.blank();
        self.screen
            .ok(&format!("all ready again after {took:.0} s, by one login each; no lifetime was changed"));
        Ok(())
    }

    pub(super) async fn quiet(&mut self) -> Result<()> {
        let before = self.stage.world.counts();
        let mut objects: Vec<(Kind, &str)> = DECLARED.map(|(name, _)| (Kind::Gateway, name)).to_vec();
        objects.extend(CUSTOMERS.map(|(name, _, _)| (Kind::Customer, name)));
        for _ in 0..ROUNDS {
            self.look(&objects).await?;
        }
        let checks = ROUNDS * u64::try_from(objects.len())?;
        let cost = self.stage.world.counts() - before;
        check(&format!("what {checks} checks cost"), &Counts { get: checks, ..Counts::default() }, &cost)?;
        let Counts { login, get, write, .. } = cost;
        self.screen.ok(&format!(
            "{checks} checks of 4 gateways and 3 customers: {get} GETs, {login} logins, {write} writes"
        ));
        Ok(())
    }

    async fn ready_all(&mut self, expected: &str, limit: Duration) -> Result<()> {
        let names: Vec<(Kind, &str)> = self.stage.names().collect();
        self.board
            .until(expected, limit, |board| names.iter().all(|(kind, name)| board.has(*kind, name, is_ready)))
            .await
    }

    /// What the appliances themselves say.
    fn appliances(&self, expected: &[(&str, u64)]) -> Result<()> {
        for (name, seconds) in expected {
            let appliance = self.stage.world.gateway(name)?;
            check(&format!("what the appliance of {name} has"), seconds, &appliance.timeout())?;
            check(&format!("how long tokens of {name} live"), seconds, &appliance.token_lifetime())?;
        }
        Ok(())
    }

    fn tenant(&self, name: &str) -> Result<&Tenant> {
        let found = self.stage.world.customers.iter().find(|tenant| tenant.name == name);
        found.ok_or_else(|| anyhow!("there is no customer {name}"))
    }

    async fn set_password(&self, password: &str) -> Result<()> {
        let patch = json!({"stringData": {"password": password}});
        self.stage.patch("Secret", "x2-admin", patch).await.map(drop)
    }

    /// What a user would type to the same effect.
    pub(super) fn command(&self, arguments: &str) {
        self.screen.command(&format!("{} {arguments}", self.stage.kubectl.command));
    }
}

/// How many are as wanted, of how many.
fn summary<'a>(object: &'a DynamicObject, counts: &str) -> &'a str {
    status(object).pointer(&format!("/{counts}/summary")).and_then(Value::as_str).unwrap_or_default()
}

/// A number of the status.
fn number(object: &DynamicObject, name: &str) -> Option<u64> {
    status(object).get(name).and_then(Value::as_u64)
}
