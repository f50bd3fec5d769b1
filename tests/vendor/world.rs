//! What these tests have in common: the clients' shared parts, an endpoint for a simulator, and someone to log in as.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tenure::crd::Kind;
use tenure::engine::access::{AccessError, Serial};
use tenure::engine::customer::RawObject;
use tenure::engine::login::Holder;
use tenure::engine::remote::RemoteError;
use tenure::engine::system::Via;
use tenure::engine::url::BaseUrl;
use tenure::engine::verdict::Reason;
use tenure::leader::fence::{Fence, Term};
use tenure::metrics::Metrics;
use tenure::vendor::address::DialPolicy;
use tenure::vendor::admission::Admission;
use tenure::vendor::ca::Ca;
use tenure::vendor::credentials::{Account, Credentials, Identity, SecretVersion};
use tenure::vendor::endpoint::{Endpoint, Transport};
use tenure::vendor::http::{Http, MaySend, Purpose};
use tenure::vendor::kona::{Fresh, Kona, Outgoing};
use tenure::vendor::limits::{Bounds, Lane, Limits};
use tenure::vendor::remotes::{Login, Remotes};
use tenure::vendor::sessions::Sessions;
use tenure::vendor::slots::Slots;
use tenure::vendor::spelling::Spellings;
use tenure::vendor::wire::Network;
use tenure::vendor::x2::X2;
use tenure_kit::kona::KonaServer;
use tenure_kit::x2::{Appliance, FleetOptions, X2Fleet};
use tokio::sync::watch;

/// For writes that nothing speaks against.
pub(crate) const ALLOWED: MaySend<'static> = &|| true;

/// What an error must never contain.
const SECRETS: [&str; 5] =
    ["x2-admin-password", "x2-viewer-password", "kona-admin-password", "planted", "eyJ"];

/// The clients' shared parts, and where requests go.
pub(crate) struct World {
    pub(crate) remotes: Remotes,
    pub(crate) endpoint: Endpoint,
    pub(crate) credentials: Credentials,
    pub(crate) ending: watch::Sender<bool>,
}

pub(crate) fn loopback() -> DialPolicy {
    DialPolicy { allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()], deny: Vec::new() }
}

pub(crate) fn remotes(dial: DialPolicy, slots: usize) -> (Remotes, watch::Sender<bool>) {
    // Whichever test is first installs it; for the others it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (ending, receiver) = watch::channel(false);
    // There is no other replica.
    let (_, term) = watch::channel(Term::Endless);
    let remotes = Remotes {
        http: http(dial, slots, Fence::new(receiver, term)),
        sessions: Sessions::default(),
        admission: Admission::default(),
        spellings: Spellings::default(),
    };
    (remotes, ending)
}

/// A network of its own, with no connection yet.
pub(crate) fn http(dial: DialPolicy, slots: usize, fence: Fence) -> Http {
    let metrics = Arc::new(Metrics::new(false));
    Http::new(Arc::new(Network::new(dial)), Slots::new(slots, &metrics), metrics, fence)
}

pub(crate) fn ca_of(pem: &str) -> Arc<Ca> {
    Arc::new(Ca::parse(pem).unwrap())
}

pub(crate) fn endpoint(url: &str, ca: Option<String>) -> Endpoint {
    Endpoint {
        base: BaseUrl::parse(url).unwrap(),
        transport: Transport { ca: ca.map(|pem| ca_of(&pem)), ..Transport::default() },
        ca_source: None,
        timeout: Duration::from_secs(20),
        holder: Holder { kind: Kind::Gateway, namespace: "a".to_owned(), name: "x2".to_owned() },
        limit: Limits::default().of(lane(url), Bounds::ONE_AT_A_TIME),
        is_claimants: false,
        answered: Arc::default(),
    }
}

/// The lane of an appliance that is reached directly.
pub(crate) fn lane(url: &str) -> Lane {
    Lane { kind: Kind::Gateway, url: url.to_owned(), via: Via::Direct, peer: None }
}

pub(crate) fn credentials(username: &str, password: &str, version: &str) -> Credentials {
    let version = SecretVersion { uid: "uid".to_owned(), resource_version: version.to_owned() };
    let keys = ("username".to_owned(), "password".to_owned());
    let account = Account { namespace: "a".to_owned(), secret: "login".to_owned(), keys };
    let fingerprint = BuildHasherDefault::<DefaultHasher>::default().hash_one((username, password));
    Credentials {
        identity: Identity { account, version },
        fingerprint,
        username: SecretString::from(username),
        password: SecretString::from(password),
    }
}

impl World {
    fn new(endpoint: Endpoint, credentials: Credentials) -> Self {
        let (remotes, ending) = remotes(loopback(), 64);
        Self { remotes, endpoint, credentials, ending }
    }

    pub(crate) fn of(fleet: &X2Fleet) -> Self {
        Self::at(&fleet.appliance(0), fleet.ca_pem())
    }

    pub(crate) fn at(appliance: &Appliance, ca: Option<String>) -> Self {
        Self::new(endpoint(&appliance.url(), ca), credentials("admin", "x2-admin-password", "1"))
    }

    pub(crate) fn of_kona(kona: &KonaServer) -> Self {
        let login = credentials("tenant@example.net", "kona-admin-password", "1");
        Self::new(endpoint(&kona.url(), kona.ca_pem()), login)
    }

    pub(crate) fn x2(&self) -> X2<'_> {
        self.x2_after(None)
    }

    /// Another appliance, asked as the same user.
    pub(crate) fn x2_at<'a>(&'a self, endpoint: &'a Endpoint) -> X2<'a> {
        X2::new(Login::new(&self.remotes, endpoint, &self.credentials, None))
    }

    pub(crate) fn x2_after(&self, refused: Option<Serial>) -> X2<'_> {
        X2::new(Login::new(&self.remotes, &self.endpoint, &self.credentials, refused))
    }

    pub(crate) fn kona(&self) -> Kona<'_> {
        self.kona_after(None)
    }

    pub(crate) fn kona_after(&self, refused: Option<Serial>) -> Kona<'_> {
        Kona::new(Login::new(&self.remotes, &self.endpoint, &self.credentials, refused))
    }

    /// Reads a customer, and gives up the seat.
    pub(crate) async fn customer(&self, id: &str) -> Result<RawObject, AccessError> {
        self.kona().read_customer(id, Purpose::Ask).await.map(|fresh| fresh.customer)
    }

    /// Reads a customer and writes it back as it is.
    pub(crate) async fn rewrite(&self, id: &str, may_send: MaySend<'_>) -> Result<(), AccessError> {
        let kona = self.kona();
        drop(kona.wait_turn(Purpose::Ask).await?);
        let Fresh { customer, seat, .. } = kona.read_customer(id, Purpose::Ask).await?;
        let turn = kona.turn().expect("nothing else writes");
        kona.write_customer(&Outgoing { id, object: &customer }, seat, turn, may_send).await
    }

    /// The error of a read of the appliance's setting.
    pub(crate) async fn failure(&self) -> RemoteError {
        remote(self.x2().read_timeout().await.expect_err("it fails"))
    }
}

/// One appliance over plain HTTP, and the way to it.
pub(crate) fn plain() -> (X2Fleet, World) {
    let fleet = X2Fleet::start(FleetOptions { tls: false, ..FleetOptions::default() }).unwrap();
    let world = World::of(&fleet);
    (fleet, world)
}

/// One appliance with TLS, and the way to it.
pub(crate) fn secured() -> (X2Fleet, World) {
    let fleet = X2Fleet::start(FleetOptions::default()).unwrap();
    let world = World::of(&fleet);
    (fleet, world)
}

/// The error of an exchange; nothing that is printed of it may hold a secret.
pub(crate) fn remote(error: AccessError) -> RemoteError {
    harmless(&error);
    match error {
        AccessError::Remote(error) => error,
        other => panic!("no failed exchange: {other:?}"),
    }
}

pub(crate) fn harmless(error: &AccessError) {
    let verdict = error.verdict("The appliance", "login");
    for text in [format!("{error:?}"), error.to_string(), verdict.message] {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(!text.is_empty());
    }
}

/// Code, reason and text of an error, to be compared at once.
pub(crate) fn judged(error: &RemoteError) -> (String, Reason, String) {
    (error.code(), error.reason(), error.to_string())
}

pub(crate) fn stale(error: AccessError) -> Serial {
    harmless(&error);
    match error {
        AccessError::Stale(serial) => serial,
        other => panic!("not stale: {other:?}"),
    }
}
