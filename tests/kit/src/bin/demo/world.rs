//! The simulated systems that the examples speak of.

use anyhow::{Context as _, Result, anyhow, bail};
use tenure_kit::kona::{Customer, KonaOptions, KonaServer};
use tenure_kit::requests::Counts;
use tenure_kit::x2::{Appliance, FleetOptions, X2Fleet};

use crate::examples::{Example, text};

/// The user of the appliances, as the simulator has it.
const X2_LOGIN: (&str, &str) = ("admin", "x2-admin-password");
/// The tenant administrator of the server, as the simulator has it.
const KONA_LOGIN: (&str, &str) = ("tenant@example.net", "kona-admin-password");

/// What the customers' `additionalInfo` holds before the operator comes, and of it what must still be there afterwards,
/// byte for byte: nothing, an object with numbers that a careless program would round, an object inside a string.
const INFOS: [(&str, &[&str]); 3] = [
    ("null", &[]),
    (
        r#"{"meterFactor":1.10,"site":{"pier":4,"asset":12345678901234567890}}"#,
        &[r#""meterFactor":1.10"#, r#""site":{"pier":4,"asset":12345678901234567890}"#],
    ),
    (r#""{\"region\":{\"name\":\"Süd\"},\"accessTokenTtlSeconds\":900}""#, &[r#""region":{"name":"Süd"}"#]),
];

/// All simulated systems.
pub(crate) struct World {
    pub(crate) fleet: X2Fleet,
    pub(crate) kona: KonaServer,
    /// The appliances, by the names of their gateways.
    pub(crate) gateways: Vec<(String, Appliance)>,
    pub(crate) customers: Vec<Tenant>,
}

/// A customer of the server.
pub(crate) struct Tenant {
    /// The resource's name.
    pub(crate) name: String,
    pub(crate) customer: Customer,
    /// Its `additionalInfo` before.
    pub(crate) info: &'static str,
    /// What of it is none of the operator's business.
    pub(crate) foreign: &'static [&'static str],
}

impl World {
    /// Starts an appliance for every gateway, and a server with every customer.
    ///
    /// # Errors
    /// When a port cannot be opened.
    pub(crate) fn start(examples: &[&Example]) -> Result<Self> {
        let documents = || examples.iter().flat_map(|example| &example.documents);
        let of_kind = |kind| documents().filter(move |document| text(document, "/kind") == kind);
        let names: Vec<&str> = of_kind("X2Gateway").map(|gateway| text(gateway, "/metadata/name")).collect();
        let fleet = X2Fleet::start(FleetOptions { appliances: names.len(), ..FleetOptions::default() })
            .context("starting the simulated appliances")?;
        let kona = KonaServer::start(KonaOptions::default()).context("starting the simulated Kona server")?;
        let customers = of_kind("CustomerTokenTtl").zip(INFOS.into_iter().cycle());
        let customers = customers.map(|(document, (info, foreign))| {
            let name = text(document, "/metadata/name").to_owned();
            let customer = kona.add_customer(text(document, "/spec/customerId"), &name);
            customer.set_field("additionalInfo", info);
            Tenant { name, customer, info, foreign }
        });
        let customers = customers.collect();
        let gateways = names.into_iter().map(str::to_owned).zip(fleet.appliances()).collect();
        Ok(Self { fleet, kona, gateways, customers })
    }

    /// The appliance of a gateway.
    pub(crate) fn gateway(&self, name: &str) -> Result<&Appliance> {
        let found = self.gateways.iter().find(|(other, _)| other == name);
        found.map(|(_, appliance)| appliance).ok_or_else(|| anyhow!("there is no appliance for {name}"))
    }

    /// For a Secret of the examples: where its password may go, the user and the password.
    pub(crate) fn login(&self, secret: &str) -> Result<(String, &'static str, &'static str)> {
        let (origin, (username, password)) = match secret {
            "x2-admin" => {
                let port = self.fleet.appliance(0).port();
                (format!("https://127.0.0.0/8:{port}"), X2_LOGIN)
            }
            "kona-admin" => (self.kona.url(), KONA_LOGIN),
            _ => bail!("no simulated system has the Secret {secret}"),
        };
        Ok((origin, username, password))
    }

    /// The CA for a `ConfigMap` of the examples.
    pub(crate) fn ca(&self, config_map: &str) -> Result<String> {
        let ca = match config_map {
            "x2-ca" => self.fleet.ca_pem(),
            "kona-ca" => self.kona.ca_pem(),
            _ => bail!("no simulated system has the ConfigMap {config_map}"),
        };
        ca.ok_or_else(|| anyhow!("the simulated system has no CA"))
    }

    /// All requests so far: to the appliances and to the server.
    pub(crate) fn counts(&self) -> Counts {
        let (x2, kona) = (self.fleet.counts(), self.kona.counts());
        Counts {
            login: x2.login + kona.login,
            refresh: x2.refresh + kona.refresh,
            get: x2.get + kona.get,
            write: x2.write + kona.write,
            delete: x2.delete + kona.delete,
            other: x2.other + kona.other,
        }
    }
}
