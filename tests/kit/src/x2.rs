//! Simulated Profitap X2 packet brokers, written from the vendor's page "API for managing tokens".
//!
//! A fleet is one listener for the whole of 127.0.0.0/8: every appliance has an address of its own there, so that
//! ten thousand of them cost ten thousand small records and no sockets.

mod answers;
mod appliance;
mod device;

use std::{io, net::Ipv4Addr, sync::Arc, time::Duration};

use self::{answers::kind_of, device::Device};
pub use self::{
    appliance::Appliance,
    device::{PutEffect, Role, TokenShape, X2User},
};
use crate::{
    faults::{Drawn, Fault, Faults},
    jwt,
    pki::Pki,
    requests::{Counts, Requests},
    server::{Call, Door, Listener, Premises, Reply, Site, Topic},
};

/// The lifetime of a token on an appliance nobody has touched, in seconds.
pub const FACTORY_TIMEOUT: u64 = 86_400;

/// How a fleet starts.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// Number of appliances.
    pub appliances: usize,
    /// Names of the first appliances; the others are called `x2-0007`.
    pub names: Vec<String>,
    /// The DNS domain of the names in their certificates.
    pub domain: String,
    /// HTTPS with a certificate per appliance, or plain HTTP.
    pub tls: bool,
    /// The name of a CA that signs the certificates and that anyone can sign with: its own certificate is always the same.
    /// Without it, the fleet makes a CA.
    pub known_ca: Option<String>,
    /// The users every appliance starts with.
    pub users: Vec<X2User>,
    /// The token timeout every appliance starts with, in seconds.
    pub initial_timeout: u64,
    /// How long every answer takes.
    pub latency: Duration,
    /// Wrong passwords in a row after which a user is locked, even with the right one. The vendor's page is silent.
    pub lockout_after: Option<u32>,
}

impl Default for FleetOptions {
    /// One appliance with TLS, an administrator `admin` / `x2-admin-password` and a viewer `viewer` /
    /// `x2-viewer-password`.
    fn default() -> Self {
        Self {
            appliances: 1,
            names: Vec::new(),
            domain: "example.net".to_owned(),
            tls: true,
            known_ca: None,
            users: vec![
                X2User::new("admin", "x2-admin-password", Role::Admin),
                X2User::new("viewer", "x2-viewer-password", Role::Viewer),
            ],
            initial_timeout: FACTORY_TIMEOUT,
            latency: Duration::ZERO,
            lockout_after: None,
        }
    }
}

/// A fleet of appliances; the last clone to go stops the listener.
#[derive(Clone)]
pub struct X2Fleet {
    site: Arc<Fleet>,
    listener: Arc<Listener<Fleet>>,
}

impl X2Fleet {
    /// Starts a fleet on a port of its own. Must be called within a tokio runtime.
    pub fn start(options: FleetOptions) -> io::Result<Self> {
        let seed = jwt::random_secret();
        let FleetOptions { appliances, tls, latency, .. } = options;
        let pki = tls.then(|| Pki::new(options.known_ca.as_deref()));
        let devices = (0..appliances).map(move |index| Device::new(index, &seed, &options)).collect();
        let (premises, faults) = (Premises::new(pki), Faults::default());
        let site = Arc::new(Fleet { premises, devices, faults, latency });
        let listener = Arc::new(Listener::start(Ipv4Addr::UNSPECIFIED, Arc::clone(&site))?);
        Ok(Self { site, listener })
    }

    /// The appliance with this index.
    ///
    /// # Panics
    /// When the fleet is smaller.
    #[must_use]
    pub fn appliance(&self, index: usize) -> Appliance {
        assert!(index < self.len(), "the fleet has {} appliances", self.len());
        Appliance::new(Arc::clone(&self.site), index, self.listener.port())
    }

    /// All appliances, in order.
    pub fn appliances(&self) -> impl Iterator<Item = Appliance> {
        (0..self.len()).map(|index| self.appliance(index))
    }

    /// Number of appliances.
    #[must_use]
    pub fn len(&self) -> usize {
        self.site.devices.len()
    }

    /// Whether there is no appliance.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.site.devices.is_empty()
    }

    /// The certificate of the CA that signed every appliance's; `None` without TLS.
    #[must_use]
    pub fn ca_pem(&self) -> Option<String> {
        self.site.premises.pki.as_ref().map(Pki::ca_pem)
    }

    /// Requests to all appliances.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.requests().counts()
    }

    /// Requests to each appliance, by index.
    #[must_use]
    pub fn counts_by_appliance(&self) -> Vec<Counts> {
        self.site.devices.iter().map(|device| device.door.tally.counts()).collect()
    }

    /// The log of all appliances, and ways to wait for requests.
    #[must_use]
    pub fn requests(&self) -> Requests {
        Requests::of_all(&self.site.premises.log)
    }

    /// Number of appliances whose timeout is `seconds`.
    #[must_use]
    pub fn standing_at(&self, seconds: u64) -> usize {
        self.site.devices.iter().filter(|device| device.state.lock().timeout() == seconds).count()
    }

    /// Adds a fault that strikes requests to any appliance; `times` and `skip` count over the fleet.
    pub fn fault(&self, fault: Fault) {
        self.site.faults.add(fault);
    }

    /// Removes the faults added by [`fault`](Self::fault); those of single appliances stay.
    pub fn clear_faults(&self) {
        self.site.faults.clear();
    }

    /// Closes the port and cuts every connection: connecting is refused from then on.
    pub async fn stop_listening(&self) {
        self.listener.stop().await;
    }

    /// Opens the same port again.
    pub fn resume_listening(&self) -> io::Result<()> {
        self.listener.resume()
    }
}

/// What the fleet's listener serves.
pub(crate) struct Fleet {
    pub(crate) premises: Premises,
    devices: Vec<Device>,
    faults: Faults,
    latency: Duration,
}

impl Fleet {
    pub(crate) fn device(&self, index: usize) -> &Device {
        self.devices.get(index).expect("handles are made for appliances that exist")
    }

    fn device_at(&self, address: Ipv4Addr) -> Option<&Device> {
        self.devices.get(index_of(address)?)
    }
}

impl Site for Fleet {
    fn premises(&self) -> &Premises {
        &self.premises
    }

    fn door(&self, address: Ipv4Addr) -> Option<&Door> {
        self.device_at(address).map(|device| &device.door)
    }

    fn topic(&self, address: Ipv4Addr, call: &Call) -> Topic {
        let device = self.device_at(address).expect("connections are accepted for appliances only");
        let kind = kind_of(call);
        let mut drawn = Drawn::default();
        device.faults.draw(kind, &mut drawn);
        self.faults.draw(kind, &mut drawn);
        Topic {
            kind,
            object: Some(Arc::clone(&device.name)),
            tally: Some(Arc::clone(&device.door.tally)),
            drawn,
            latency: self.latency,
        }
    }

    fn answer(&self, address: Ipv4Addr, call: &Call) -> Reply {
        let device = self.device_at(address).expect("connections are accepted for appliances only");
        device.answer(call)
    }
}

/// Addresses a last octet can name: .1 to .250, away from the ends that look like networks and broadcasts.
const PER_BLOCK: usize = 250;

/// The address of an appliance, from 127.1.0.1 on.
fn address_of(index: usize) -> Ipv4Addr {
    let octet = |number: usize| u8::try_from(number).expect("a fleet has at most 16 million appliances");
    let block = index / PER_BLOCK;
    Ipv4Addr::new(127, octet(1 + block / 256), octet(block % 256), octet(1 + index % PER_BLOCK))
}

fn index_of(address: Ipv4Addr) -> Option<usize> {
    let [_, high, middle, low] = address.octets().map(usize::from);
    let block = high.checked_sub(1)? * 256 + middle;
    let place = low.checked_sub(1)?;
    (place < PER_BLOCK).then_some(block * PER_BLOCK + place)
}

#[cfg(test)]
mod tests {
    use super::{address_of, index_of};

    #[test]
    fn every_appliance_has_an_address_of_its_own() {
        for index in [0, 1, 249, 250, 63_999, 64_000, 100_000] {
            assert_eq!(index_of(address_of(index)), Some(index));
        }
        assert_eq!(address_of(0).to_string(), "127.1.0.1");
        assert_eq!(address_of(10_000).to_string(), "127.1.40.1");
    }

    #[test]
    fn other_addresses_belong_to_nobody() {
        for address in ["127.0.0.1", "127.1.0.0", "127.1.0.251", "127.1.0.255"] {
            assert_eq!(index_of(address.parse().unwrap()), None, "{address}");
        }
    }
}
