//! The handle by which a test looks at one appliance and meddles with it.

use std::{net::Ipv4Addr, sync::Arc};

use super::{
    Fleet,
    device::{Device, PutEffect, TokenShape, X2User},
};
use crate::{
    faults::Fault,
    pki::Certificate,
    requests::{Counts, Requests},
    server::Reception,
};

/// One appliance of a fleet.
#[derive(Clone)]
pub struct Appliance {
    fleet: Arc<Fleet>,
    index: usize,
    port: u16,
}

impl Appliance {
    pub(super) const fn new(fleet: Arc<Fleet>, index: usize, port: u16) -> Self {
        Self { fleet, index, port }
    }

    fn device(&self) -> &Device {
        self.fleet.device(self.index)
    }

    /// Its place in the fleet, from 0.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Its name in the log: `x2-0007`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.device().name
    }

    /// Its base URL: scheme, address and port.
    #[must_use]
    pub fn url(&self) -> String {
        self.fleet.premises.url(self.address(), self.port)
    }

    /// Its address on loopback.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.device().door.address()
    }

    /// The port all appliances of the fleet share.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The DNS name in its certificate, for `tls.serverName`; it resolves nowhere.
    #[must_use]
    pub fn dns_name(&self) -> &str {
        self.device().door.dns_name()
    }

    /// The timeout a GET shows, in seconds.
    #[must_use]
    pub fn timeout(&self) -> u64 {
        self.device().state.lock().timeout()
    }

    /// The lifetime of a new token, in seconds; differs from the timeout only under a [`PutEffect`].
    #[must_use]
    pub fn token_lifetime(&self) -> u64 {
        self.device().state.lock().lifetime()
    }

    /// Sets the timeout as a colleague at the console would; any number will do.
    pub fn set_timeout(&self, seconds: u64) {
        self.device().state.lock().set_timeout(seconds);
    }

    /// Sets the timeout to 86400, as a reset to factory settings does; users and tokens stay.
    pub fn factory_reset(&self) {
        self.device().state.lock().factory_reset();
    }

    /// What an accepted PUT does from now on.
    pub fn set_put_effect(&self, effect: PutEffect) {
        self.device().state.lock().put_effect = effect;
    }

    /// What a login answers from now on.
    pub fn set_token_shape(&self, shape: TokenShape) {
        self.device().state.lock().token_shape = shape;
    }

    /// Moves its clock against ours; tokens are stamped and expire by it.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.device().state.lock().clock_offset = seconds;
    }

    /// Adds a user or replaces the one of that name, lifting a lock.
    pub fn set_user(&self, user: X2User) {
        self.device().state.lock().set_user(user);
    }

    /// Changes a password and lifts a lock; tokens already issued stay.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn set_password(&self, username: &str, password: &str) {
        assert!(self.device().state.lock().set_password(username, password), "no user {username}");
    }

    /// Whether too many wrong passwords have locked this user.
    #[must_use]
    pub fn is_locked(&self, username: &str) -> bool {
        self.device().state.lock().is_locked(username)
    }

    /// Makes every token issued so far unknown, so that the next request is answered 401.
    pub fn forget_tokens(&self) {
        self.device().state.lock().forget_tokens();
    }

    /// Number of tokens in force.
    #[must_use]
    pub fn live_tokens(&self) -> usize {
        self.device().state.lock().live_tokens()
    }

    /// Adds a fault.
    pub fn fault(&self, fault: Fault) {
        self.device().faults.add(fault);
    }

    /// Removes this appliance's faults; what already waits goes on waiting.
    pub fn clear_faults(&self) {
        self.device().faults.clear();
    }

    /// Shows this certificate from now on and cuts the connections made under the old one.
    pub fn set_certificate(&self, certificate: Certificate) {
        self.device().door.set_certificate(certificate);
        self.hang_up();
    }

    /// The certificate that it shows, as PEM; `None` without TLS.
    #[must_use]
    pub fn certificate_pem(&self) -> Option<Arc<str>> {
        let pki = self.fleet.premises.pki.as_ref()?;
        Some(self.device().door.shown(pki).pem)
    }

    /// Receives connections this way from now on, and cuts those there are.
    pub fn set_reception(&self, reception: Reception) {
        self.device().door.set_reception(reception);
        self.hang_up();
    }

    /// Cuts its connections, idle or not.
    pub fn hang_up(&self) {
        self.fleet.premises.hang_up(&self.device().door);
    }

    /// Requests that arrived, by kind.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.device().door.tally.counts()
    }

    /// Its part of the log, requests in flight and connections, and ways to wait for requests.
    #[must_use]
    pub fn requests(&self) -> Requests {
        let device = self.device();
        Requests::of_object(&self.fleet.premises.log, &device.door.tally, &device.name)
    }
}
