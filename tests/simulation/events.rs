//! What happens during a schedule's first hour: what users, others and fate do.

use std::time::Duration;

use serde_json::json;

use crate::api::{Break, Kind};
use crate::judge::{Denied, Weather};
use crate::manifest::{self, NAMESPACE};
use crate::plan::{self, GROUPS};
use crate::remote::{Device, Effect, Fields, Mood};
use crate::replica::{Stop, client_name};
use crate::world::World;

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    EditTarget,
    EditPolicy,
    EditCustomer,
    Suspend,
    Relabel,
    Rotate,
    Touch,
    Delete,
    Recreate,
    Move,
    Reset,
    Foreign,
    Mood,
    Weather,
    Denial,
    Gap,
    Crash,
    CrashSoon,
    Restart,
    Interrupt,
    Pause,
    Request,
    Demote,
    Clash,
    Approve,
    Leave,
    Verify,
    EndNamespace,
    EditElsewhere,
    List,
    SlowStatus,
    MoveServer,
}

/// Everything that may happen under these knobs.
pub fn possible(world: &World) -> Vec<Event> {
    let knobs = world.knobs;
    let all = [
        (knobs.edits, Event::EditTarget),
        (knobs.edits, Event::EditTarget),
        (knobs.edits, Event::EditPolicy),
        (knobs.edits && knobs.servers, Event::EditCustomer),
        (knobs.suspends, Event::Suspend),
        (knobs.relabel, Event::Relabel),
        (knobs.rotations, Event::Rotate),
        (knobs.rotations, Event::Touch),
        (knobs.deletions, Event::Delete),
        (knobs.deletions, Event::Recreate),
        (knobs.urls, Event::Move),
        (knobs.resets, Event::Reset),
        (knobs.foreign, Event::Foreign),
        (knobs.moods, Event::Mood),
        (knobs.api_faults, Event::Weather),
        (knobs.denials, Event::Denial),
        (knobs.gaps, Event::Gap),
        (knobs.crashes, Event::Crash),
        (knobs.crashes, Event::CrashSoon),
        (knobs.crashes, Event::CrashSoon),
        (knobs.crashes, Event::Restart),
        (knobs.interrupts, Event::Interrupt),
        (knobs.interrupts, Event::Interrupt),
        (knobs.replicas, Event::Pause),
        (knobs.requests, Event::Request),
        (knobs.demotions, Event::Demote),
        (knobs.clashes, Event::Clash),
        (knobs.approval, Event::Approve),
        (knobs.scope, Event::Leave),
        (knobs.verify && knobs.servers, Event::Verify),
        (knobs.namespaces, Event::EndNamespace),
        (knobs.namespaces, Event::EditElsewhere),
        (knobs.namespaces, Event::List),
        (knobs.slow_statuses, Event::SlowStatus),
        (knobs.server_urls && knobs.servers, Event::MoveServer),
    ];
    all.into_iter().filter(|(possible, _)| *possible).map(|(_, event)| event).collect()
}

impl World {
    /// Something that is possible happens.
    pub fn happen(&mut self) {
        let possible = possible(self);
        if possible.is_empty() {
            return;
        }
        let event = possible[self.rng.usize(0..possible.len())];
        match event {
            Event::EditTarget => self.edit_target(),
            Event::EditPolicy => self.edit_policy(),
            Event::EditCustomer => self.edit_customer(),
            Event::Suspend => self.suspend(),
            Event::Relabel => self.relabel(),
            Event::Rotate => self.rotate(),
            Event::Touch => self.touch(),
            Event::Delete => self.delete(),
            Event::Recreate => self.recreate(),
            Event::Move => self.move_gateway(),
            Event::Reset => self.reset(),
            Event::Foreign => self.meddle(),
            Event::Mood => self.change_mood(),
            Event::Weather => self.change_weather(),
            Event::Denial => self.change_denial(),
            Event::Gap => self.gap(),
            Event::Crash | Event::CrashSoon | Event::Restart | Event::Interrupt | Event::Pause => {
                self.disturb_replica(event);
            }
            Event::Request => self.request(),
            Event::Demote => self.demote(),
            Event::Clash => self.clash(),
            Event::Approve => self.approve(),
            Event::Leave => self.leave(),
            Event::Verify => self.verify(),
            Event::EndNamespace => self.end_depot(),
            Event::EditElsewhere => self.edit_depot(),
            Event::List => {
                let all = self.rng.bool();
                self.list_namespaces(all);
            }
            Event::SlowStatus => {
                let most = Duration::from_millis(self.rng.u64(100..20_000));
                let slow = self.rng.bool();
                self.set_weather(if slow { Weather::SlowStatus(most) } else { Weather::Fair });
            }
            Event::MoveServer => self.move_server(),
        }
    }

    pub fn merge(&mut self, kind: Kind, name: &str, patch: serde_json::Value) {
        self.note(format!("{kind:?} {name}: {patch}"));
        // What the schema refuses does not happen.
        let _ = self.api.merge(kind, NAMESPACE, name, patch);
    }

    fn edit_target(&mut self) {
        let Some(name) = self.pick(Kind::TokenPolicy) else { return };
        let target = plan::target(&mut self.rng);
        self.merge(Kind::TokenPolicy, &name, json!({"spec": target}));
    }

    fn edit_policy(&mut self) {
        let Some(name) = self.pick(Kind::TokenPolicy) else { return };
        let (knobs, rng) = (self.knobs, &mut self.rng);
        let spec = match rng.u8(0..6) {
            0 => json!({"priority": rng.i32(0..3)}),
            1 => json!({"mode": if rng.u8(0..3) == 0 { "Observe" } else { "Enforce" }}),
            2 if knobs.rollout => {
                json!({"rollout": if rng.bool() { plan::rollout(&knobs, rng) } else { json!(null) }})
            }
            3 if knobs.windows => {
                json!({"windows": if rng.bool() { plan::windows(knobs.shape, rng) } else { json!(null) }})
            }
            4 if knobs.restore => json!({"deletionPolicy": if rng.bool() { "Restore" } else { "Retain" }}),
            5 if knobs.revoke => {
                json!({"revokeTokens": plan::one_of(rng, &["Never", "OnTightening", "OnChange"])})
            }
            _ => json!({"interval": plan::interval(knobs.shape, rng)}),
        };
        self.merge(Kind::TokenPolicy, &name, json!({"spec": spec}));
    }

    fn edit_customer(&mut self) {
        let Some(name) = self.pick(Kind::CustomerTokenTtl) else { return };
        let spec = plan::customer_spec(&self.knobs, &mut self.rng);
        self.merge(Kind::CustomerTokenTtl, &name, json!({"spec": spec}));
    }

    fn suspend(&mut self) {
        let kind = Kind::OURS[self.rng.usize(0..4)];
        let Some(name) = self.pick(kind) else { return };
        let suspend = self.rng.bool();
        self.merge(kind, &name, json!({"spec": {"suspend": suspend}}));
    }

    fn relabel(&mut self) {
        let Some(name) = self.pick(Kind::X2Gateway) else { return };
        let group = GROUPS[self.rng.usize(0..3)];
        self.merge(Kind::X2Gateway, &name, json!({"metadata": {"labels": {"group": group}}}));
    }

    /// A new password, at the systems and in the Secret: not always in this order, and not always everywhere.
    fn rotate(&mut self) {
        let Some(name) = self.pick(Kind::Secret) else { return };
        let password = plan::password(&mut self.rng);
        self.oracles.planted.push(password.clone());
        if self.rng.u8(0..4) > 0 {
            self.let_in(&name, &password);
        }
        self.note(format!("Secret {name} is rotated to {password}"));
        let data = manifest::credentials(plan::user_of(&name), &password);
        let _ = self.api.merge(Kind::Secret, NAMESPACE, &name, json!({"data": data}));
        self.secrets.insert(name, password);
    }

    /// An edit of a Secret that changes neither user nor password.
    fn touch(&mut self) {
        let Some(name) = self.pick(Kind::Secret) else { return };
        let stamp = self.now.as_secs().to_string();
        self.merge(Kind::Secret, &name, json!({"metadata": {"annotations": {"synced": stamp}}}));
    }

    fn delete(&mut self) {
        let kind = [Kind::X2Gateway, Kind::TokenPolicy, Kind::CustomerTokenTtl][self.rng.usize(0..3)];
        let Some(name) = self.pick(kind) else { return };
        self.note(format!("{kind:?} {name} is deleted"));
        let _ = self.api.delete(kind, NAMESPACE, &name);
    }

    /// A policy that is not there is created.
    fn recreate(&mut self) {
        let names = self.names(Kind::TokenPolicy);
        let Some(name) =
            ["first", "second", "third"].into_iter().find(|name| !names.iter().any(|n| n == name))
        else {
            return;
        };
        let spec = plan::policy_spec(&self.knobs, &mut self.rng);
        let policy = manifest::policy(name, GROUPS[self.rng.usize(0..2)], &spec);
        self.note(format!("TokenPolicy {name} is created"));
        let _ = self.api.create(policy);
    }

    /// A gateway gets the URL of an appliance that no other has.
    fn move_gateway(&mut self) {
        let Some(name) = self.pick(Kind::X2Gateway) else { return };
        let Some(gateway) = self.api.get(Kind::X2Gateway, NAMESPACE, &name) else { return };
        let secret = gateway.value["spec"]["credentialsSecretRef"]["name"].as_str().unwrap_or_default();
        let password = self.secrets.get(secret).cloned().unwrap_or_default();
        let url = self.next_appliance();
        self.add_appliance(&url, &password);
        self.merge(Kind::X2Gateway, &name, json!({"spec": {"url": url}}));
    }

    pub fn system(&mut self) -> Option<String> {
        let urls: Vec<String> = self.internet_now().systems.keys().cloned().collect();
        (!urls.is_empty()).then(|| urls[self.rng.usize(0..urls.len())].clone())
    }

    fn reset(&mut self) {
        let Some(url) = self.system() else { return };
        let tokens_only = self.rng.bool();
        self.note(format!("{url} {}", if tokens_only { "forgets its tokens" } else { "is reset" }));
        let now = self.now;
        self.internet_now().foreign(&url, now, |device| match device {
            Device::X2(appliance) if tokens_only => {
                appliance.forget_tokens();
                Effect::None
            }
            Device::X2(appliance) => {
                let from = appliance.timeout;
                appliance.factory_reset();
                Effect::Timeout { from, to: appliance.timeout }
            }
            Device::Kona(server) => {
                server.forget_tokens();
                Effect::None
            }
        });
    }

    /// Somebody else writes the same values, or others of the same object.
    fn meddle(&mut self) {
        let Some(url) = self.system() else { return };
        let (now, pick, number) = (self.now, self.rng.usize(..), self.rng.u32(600..200_000));
        self.internet_now().foreign(&url, now, |device| match device {
            Device::X2(appliance) => {
                let from = std::mem::replace(&mut appliance.timeout, number);
                Effect::Timeout { from, to: number }
            }
            Device::Kona(server) => {
                let ids: Vec<String> = server.customers.keys().cloned().collect();
                let id = ids[pick % ids.len()].clone();
                let before = server.customers[&id].text();
                server.edit(&id, |customer| change_customer(customer, pick, number));
                Effect::Customer { after: server.customers[&id].text(), id, before }
            }
        });
    }

    fn change_mood(&mut self) {
        let Some(url) = self.system() else { return };
        let rng = &mut self.rng;
        let mood = match rng.u8(0..14) {
            0 | 1 => Mood::Away,
            2 | 3 => Mood::Silent,
            4 => Mood::Slow(Duration::from_millis(rng.u64(100..12_000))),
            5 => Mood::Failing([400, 403, 404, 500, 503][rng.usize(0..5)]),
            6 => Mood::Rubbish,
            7 => Mood::Limiting(rng.bool().then(|| Duration::from_secs(rng.u64(1..300)))),
            8..=10 => Mood::Flaky,
            _ => Mood::Well,
        };
        self.note(format!("{url} is now {mood:?}"));
        if let Some(system) = self.internet_now().systems.get_mut(&url) {
            system.mood = mood;
        }
    }

    fn change_weather(&mut self) {
        let rng = &mut self.rng;
        let weather = match rng.u8(0..8) {
            0 => Weather::Away,
            1 => Weather::Slow(Duration::from_millis(rng.u64(10..20_000))),
            2 => Weather::Refusing([403, 429, 500, 503][rng.usize(0..4)]),
            3 | 4 => Weather::Flaky,
            _ => Weather::Fair,
        };
        self.set_weather(weather);
    }

    fn change_denial(&mut self) {
        let rng = &mut self.rng;
        let code = [400, 403, 422][rng.usize(0..3)];
        let denial = match rng.u8(0..4) {
            0 => Some((Denied::Finalizers, code)),
            1 => Some((Denied::Status(Kind::OURS[rng.usize(0..4)]), code)),
            _ => None,
        };
        self.note(format!("admission now refuses {denial:?}"));
        self.judge.deny(denial);
    }

    fn gap(&mut self) {
        let kind = Kind::OURS[self.rng.usize(0..4)];
        let Some(number) = self.running().first().copied() else { return };
        let client = client_name(number, "watching");
        let what = self.rng.u8(0..5);
        self.note(format!(
            "watches of {kind:?} in {client}: {}",
            ["held", "released", "closed", "failed", "expired"][usize::from(what)]
        ));
        match what {
            0 => self.api.hold(&client, kind, true),
            1 => Kind::OURS.into_iter().for_each(|kind| self.api.hold(&client, kind, false)),
            2 => self.api.break_watches(&client, kind, Break::Closed),
            3 => self.api.break_watches(&client, kind, Break::Failed),
            _ => {
                self.api.compact(kind);
                self.api.break_watches(&client, kind, Break::Failed);
            }
        }
        let (now, sight) = (self.now, &mut self.oracles.writes.declared.sight);
        match what {
            0 => sight.hold(number, kind, now, true),
            1 => Kind::OURS.into_iter().for_each(|kind| sight.hold(number, kind, now, false)),
            _ => sight.broken(number, kind, now),
        }
    }

    /// Numbers of the processes that are there.
    pub fn running(&self) -> Vec<usize> {
        self.places.iter().filter_map(|place| Some(place.process.as_ref()?.index)).collect()
    }

    fn disturb_replica(&mut self, event: Event) {
        let place = self.rng.usize(0..self.places.len());
        let pause = Duration::from_millis(self.rng.u64(0..60_000));
        let points = self.rng.u32(0..60);
        if self.places[place].process.is_none() {
            return;
        }
        let until = self.now + pause;
        match event {
            Event::Crash => self.crash(place, pause),
            Event::CrashSoon => self.set_trap(place, points, Stop::Crashed),
            Event::Interrupt => self.set_trap(place, points, Stop::Trapped),
            Event::Restart => {
                self.note("a process is asked to end");
                self.places[place].process.iter_mut().for_each(crate::replica::Replica::end);
            }
            _ => {
                self.note(format!("a process pauses until {until:?}"));
                self.places[place].paused = Some(until);
            }
        }
    }

    fn set_trap(&mut self, place: usize, points: u32, stop: Stop) {
        self.note(format!("{stop:?} after {points} calls"));
        self.places[place].process.iter().for_each(|process| process.crash.set(points, stop));
    }

    fn request(&mut self) {
        let kind = Kind::OURS[self.rng.usize(0..4)];
        let Some(name) = self.pick(kind) else { return };
        let stamp = self.now.as_millis().to_string();
        self.merge(
            kind,
            &name,
            json!({"metadata": {"annotations": {"tenure.dev/reconcile-requested-at": stamp}}}),
        );
    }
}

fn change_customer(customer: &mut Fields, pick: usize, number: u32) {
    match pick % 4 {
        0 => customer.set("title", &format!("\"Renamed {number}\"")),
        1 => customer.set("extra", &format!("{{\"a\":[{number},1.10]}}")),
        2 => customer.set("additionalInfo", "null"),
        _ => customer
            .set("additionalInfo", &format!("{{\"accessTokenTtlSeconds\":{number},\"note\":\"by hand\"}}")),
    }
}
