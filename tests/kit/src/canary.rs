//! A server that must never hear anything: where redirects and stray proxies point to.

use std::{io, net::Ipv4Addr, sync::Arc};

use crate::{
    requests::{Counts, Requests},
    server::{Call, Door, Listener, Premises, Reply, Site, Topic},
};

/// Listens on 127.0.0.1 and answers everything with 200 and `{}`, counting it.
#[derive(Clone)]
pub struct Canary {
    site: Arc<Cage>,
    listener: Arc<Listener<Cage>>,
}

struct Cage {
    premises: Premises,
    door: Door,
}

impl Canary {
    /// Starts a canary that speaks plain HTTP.
    pub fn start() -> io::Result<Self> {
        let door = Door::new(Ipv4Addr::LOCALHOST, "canary.example.net".to_owned());
        let site = Arc::new(Cage { premises: Premises::new(None), door });
        let listener = Arc::new(Listener::start(Ipv4Addr::LOCALHOST, Arc::clone(&site))?);
        Ok(Self { site, listener })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        self.site.premises.url(self.site.door.address(), self.listener.port())
    }

    /// What it heard; zero in every count is what a test wants to see.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.requests().counts()
    }

    /// Its log; `connections()` also shows who connected and said nothing.
    #[must_use]
    pub fn requests(&self) -> Requests {
        Requests::of_all(&self.site.premises.log)
    }
}

impl Site for Cage {
    fn premises(&self) -> &Premises {
        &self.premises
    }

    fn door(&self, _address: Ipv4Addr) -> Option<&Door> {
        Some(&self.door)
    }

    fn topic(&self, _address: Ipv4Addr, _call: &Call) -> Topic {
        Topic::other()
    }

    fn answer(&self, _address: Ipv4Addr, _call: &Call) -> Reply {
        Reply::json(200, "{}")
    }
}
