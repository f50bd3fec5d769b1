//! The attacks: what a user who may edit one namespace, or a server that they run, can try.

mod deletions;
mod logins;
mod objects;
mod servers;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tenure_kit::server::Reception;
use tenure_kit::x2::X2Fleet;

use super::fixture::fleet;
use super::hostile::Hostile;
use super::world::World;

/// One attack.
pub struct Attack {
    /// Part of a namespace's name.
    pub name: &'static str,
    /// Whether what it declares is there within seconds.
    pub has_few_objects: bool,
    /// What it does, for the table.
    pub what: &'static str,
    /// How many writes to the API server it may cause: about three times what was seen.
    pub most_writes: u64,
    begin: for<'a> fn(&'a World, &'a Hostile) -> BoxFuture<'a, ()>,
}

impl Attack {
    /// The one that needs an operator with a name server of its own.
    pub const NAMES: &str = "silent-names";

    /// All of them.
    pub const ALL: [Self; 22] = [
        Self {
            name: "borrowed",
            has_few_objects: true,
            what: "names the Secret of others in the honest namespace, with a server, proxy or certificates of its own",
            most_writes: 150,
            begin: |world, hostile| logins::borrowed(world, hostile).boxed(),
        },
        Self {
            name: "wrong-password",
            has_few_objects: true,
            what: "declares the 20 honest appliances with a wrong password, and asks for a check of all again and again",
            most_writes: 400,
            begin: |world, hostile| logins::wrong_password(world, hostile).boxed(),
        },
        Self {
            name: "long-logins",
            has_few_objects: true,
            what: "35 gateways whose user and password are 1 MiB long",
            most_writes: 350,
            begin: |_, hostile| logins::long(hostile).boxed(),
        },
        Self {
            name: "large-secrets",
            has_few_objects: false,
            what: "200 gateways, each with a Secret of its own of almost 1 MiB, two keys of which are its login",
            most_writes: 2_000,
            begin: |_, hostile| logins::large_secrets(hostile).boxed(),
        },
        Self {
            name: "long-tokens",
            has_few_objects: false,
            what: "a server whose tokens are 8 kB long, almost the longest that are kept, and valid for 136 years, under 900 URLs",
            most_writes: 4_500,
            begin: |_, hostile| logins::long_tokens(hostile).boxed(),
        },
        Self {
            name: "limits",
            has_few_objects: true,
            what: "declares the honest Kona server with the lowest limits",
            most_writes: 150,
            begin: |world, hostile| servers::limits(world, hostile).boxed(),
        },
        Self {
            name: "tar-pit",
            has_few_objects: true,
            what: "declares the honest systems three times each, behind a proxy that never answers",
            most_writes: 750,
            begin: |world, hostile| servers::tar_pit(world, hostile).boxed(),
        },
        Self {
            name: "stand-in",
            has_few_objects: true,
            what: "declares the honest appliances behind a proxy that leads to stand-ins, and sets these",
            most_writes: 450,
            begin: |world, hostile| servers::stand_in(world, hostile).boxed(),
        },
        Self {
            name: "half-answers",
            has_few_objects: false,
            what: "500 appliances and 100 customers whose answers have heads of 400 kB or bodies of 1 MiB and never end",
            most_writes: 4_000,
            begin: |_, hostile| servers::half_answers(hostile).boxed(),
        },
        Self {
            name: "drip",
            has_few_objects: false,
            what: "300 appliances and 100 servers that answer one byte per second, half of them all but logins",
            most_writes: 2_000,
            begin: |_, hostile| servers::drip(hostile).boxed(),
        },
        Self {
            name: "many-fields",
            has_few_objects: true,
            what: "50 customers with 100,000 fields each",
            most_writes: 900,
            begin: |_, hostile| servers::many_fields(hostile).boxed(),
        },
        Self {
            name: "large-customers",
            has_few_objects: true,
            what: "50 customers that are almost as large as is accepted: 1 MiB, and twice 4,096 fields",
            most_writes: 900,
            begin: |_, hostile| servers::large_customers(hostile).boxed(),
        },
        Self {
            name: "half-requests",
            has_few_objects: true,
            what: "400 connections from 40 addresses to the metrics, each with half a head, opened again when they are closed",
            most_writes: 150,
            begin: |world, hostile| async { servers::half_requests(world, hostile) }.boxed(),
        },
        Self {
            name: "long-annotation",
            has_few_objects: false,
            what: "an annotation of 250 kB at a policy with 1,000 gateways",
            most_writes: 4_000,
            begin: |_, hostile| objects::long_annotation(hostile).boxed(),
        },
        Self {
            name: "long-ca",
            has_few_objects: false,
            what: "300 gateways with a bundle of 200 KiB, and 20 with 900 kB of text around a certificate",
            most_writes: 2_000,
            begin: |_, hostile| objects::long_ca(hostile).boxed(),
        },
        Self {
            name: "many-transports",
            has_few_objects: false,
            what: "5,000 changes of the server names of ten gateways",
            most_writes: 12_000,
            begin: |_, hostile| objects::many_transports(hostile).boxed(),
        },
        Self {
            name: Self::NAMES,
            has_few_objects: false,
            what: "300 gateways with host names whose name server never answers",
            most_writes: 1_400,
            begin: |_, hostile| servers::silent_names(hostile).boxed(),
        },
        Self {
            name: "one-url",
            has_few_objects: false,
            what: "3,000 gateways of one URL, one of which is suspended and resumed all the time",
            most_writes: 15_000,
            begin: |_, hostile| objects::one_url(hostile).boxed(),
        },
        Self {
            name: "many-policies",
            has_few_objects: false,
            what: "200 policies that select 200 gateways, and labels that change all the time",
            most_writes: 1_500,
            begin: |_, hostile| objects::many_policies(hostile).boxed(),
        },
        Self {
            name: "many-windows",
            has_few_objects: false,
            what: "1,001 policies, each with windows of its own",
            most_writes: 3_000,
            begin: |_, hostile| objects::many_windows(hostile).boxed(),
        },
        Self {
            name: "flapping",
            has_few_objects: false,
            what: "300 gateways that change all the time between two errors, each an event and a status",
            most_writes: 80_000,
            begin: |_, hostile| objects::flapping(hostile).boxed(),
        },
        Self {
            name: "deletions",
            has_few_objects: false,
            what: "300 objects that are created and deleted again and again, and 30 gateways that wait to be restored",
            most_writes: 130_000,
            begin: |world, hostile| deletions::deletions(world, hostile).boxed(),
        },
    ];

    pub async fn begin(&self, world: &World, hostile: &Hostile) {
        (self.begin)(world, hostile).await;
    }
}

/// Appliances that take connections and never answer.
fn silent(appliances: usize) -> X2Fleet {
    let fleet = fleet(appliances);
    fleet.appliances().for_each(|appliance| appliance.set_reception(Reception::Silent));
    fleet
}
