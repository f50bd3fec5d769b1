//! The controller of `KonaServer`: it keeps a session, and sums up the customers.

use std::sync::Arc;
use std::time::Duration;

use kube::Resource as _;

use super::access::{self, Access, Visitor};
use super::claims::Claims;
use super::connection::{Connections, is_limited_by_another};
use super::logins;
use super::reconcile::{Controller, Findings, Given, Managed, Memory, Report, Stop, Working, current_reason};
use super::requests::{self, Alarms, Handled};
use super::uses::User;
use crate::clock;
use crate::crd::{CustomerTokenTtl, Kind, KonaServer, KonaServerStatus, Time};
use crate::engine::annotation;
use crate::engine::backoff::Inconclusive;
use crate::engine::connection::{ValidConnection, paused};
use crate::engine::login::News;
use crate::engine::ownership::{Claimed, Standing, Trial};
use crate::engine::references::Unread;
use crate::engine::schedule::CAP;
use crate::engine::server::{self, Found, SUSPENDED, counts, in_sync, part};
use crate::engine::tally::{Part, Tally, covered};
use crate::engine::verdict::{Notes, Reason};
use crate::metrics::Whole;
use crate::runtime::counts::count;
use crate::runtime::object::{Entry, Key};
use crate::runtime::secrets::Age;
use crate::runtime::store::Store;
use crate::runtime::workers::Trigger;
use crate::vendor::credentials::Credentials;
use crate::vendor::endpoint::Endpoint;
use crate::vendor::kona::Kona;
use crate::vendor::remotes::Login;
use crate::vendor::sessions::SessionKey;

/// Time between two checks of a server.
const INTERVAL: Duration = CAP;

/// Reconciles servers.
pub(crate) struct ServerController {
    pub(super) servers: Arc<Store<KonaServer>>,
    pub(super) customers: Arc<Store<CustomerTokenTtl>>,
    /// Which resources declare which server.
    pub(super) claims: Arc<Claims>,
    /// Which resources declare which customer.
    pub(super) customer_claims: Arc<Claims>,
    pub(super) connections: Arc<Connections>,
    /// Which requests were carried out.
    pub(super) handled: Arc<Handled>,
    /// Servers that failed in a reconcile of one of their customers.
    pub(super) alarms: Arc<Alarms>,
}

impl Managed for KonaServer {
    type Parents = ();
    /// Its generation, and the annotations that are too long: the report names them.
    type Inputs = (Option<i64>, Vec<&'static str>);
    type Value = ();
    type Original = ();
    type Record = ();
    /// When the login was seen to work.
    type Found = Option<Time>;
    type Extra = ();

    const SPACING: Option<Duration> = Some(Duration::from_secs(1));

    fn update(status: &mut KonaServerStatus, report: &Report<'_, Self>, _: &mut Memory<Self>) {
        let findings = report.findings;
        let (effective_url, news) = (findings.effective_url.clone(), findings.news.clone());
        server::update(status, Found { effective_url, checked: findings.found.clone(), news });
    }
}

impl Controller for ServerController {
    type Object = KonaServer;
    const URGENT: bool = true;
    const WHOLE: Option<Whole> = Some(Whole::Server);
    const SHARES: bool = true;

    fn store(&self) -> &Arc<Store<KonaServer>> {
        &self.servers
    }

    fn connections(&self) -> &Connections {
        &self.connections
    }

    fn handled(&self) -> &Handled {
        &self.handled
    }

    fn claims(&self) -> &Claims {
        &self.claims
    }

    fn claimed(&self, server: &KonaServer) -> Option<Claimed> {
        Claimed::by_server(server)
    }

    fn changed(&self, before: Option<&Entry<KonaServer>>, after: Option<&Entry<KonaServer>>) {
        let Some(meta) = after.or(before).map(Entry::meta) else { return };
        for customer in customers_of(&self.customers, &Key::of(meta)) {
            self.customer_claims.set(customer.meta(), super::customer::claimed(&self.servers, &customer));
            self.servers.cluster().wake(Kind::Customer, Key::of(customer.meta()), Trigger::Related);
        }
    }

    fn gone(&self, key: &Key) {
        self.alarms.take(key);
    }

    fn gather(&self, server: &KonaServer, _: &mut Memory<KonaServer>) -> Given<KonaServer> {
        Given {
            parents: (),
            inputs: (server.meta().generation, annotation::ignored(server.meta())),
            standing: Standing::Owner,
            is_awaited: false,
            requests: requests::open(server).into_iter().collect(),
            paused: paused(&server.spec.connection, SUSPENDED),
            interval: INTERVAL,
            time_left: None,
            holds: false,
            last_set: Vec::new(),
        }
    }

    fn is_called(&self, server: &KonaServer, _: &Given<KonaServer>, memory: &mut Memory<KonaServer>) -> bool {
        // One that is known to be failing keeps to its own pace.
        let settled = current_reason(server).is_some_and(Reason::is_ready)
            && !memory.is_changed()
            && !memory.backoff.is_failing();
        if self.alarms.take(&Key::of(server.meta())) && settled {
            memory.backoff.not_later_than(clock::instant());
        }
        self.connections.remotes.admission.calls(&logins::holder(Kind::Server, server.meta()))
    }

    async fn examine(
        &self,
        server: &mut Working<'_, KonaServer>,
        given: &Given<KonaServer>,
        memory: &mut Memory<KonaServer>,
    ) -> Result<Findings<KonaServer>, Inconclusive> {
        let Self { connections, servers, claims, .. } = self;
        let connection = match connections.validate(&server.spec.connection) {
            Ok(connection) => connection,
            Err(verdict) => {
                claims.record(server.meta(), Trial::ruled_out(verdict.reason));
                return Ok(verdict.into());
            }
        };
        let (url, insecure) = (connection.base.to_string(), connection.insecure.clone());
        let mut check = Check { connections, servers, claims, server, connection, url };
        let mut findings = access::visit(self, &mut check, given, memory).await?;
        if let Some(trial) = findings.trial {
            claims.record(check.server.meta(), trial);
        }
        findings.effective_url = Some(check.url);
        findings.notes = Notes { insecure, ..Notes::default() };
        Ok(findings)
    }

    fn sum_up(&self, server: &KonaServer, status: &mut KonaServerStatus) {
        let tally = Tally::of(&parts(&self.customers, server));
        count(&self.servers.cluster().metrics, Whole::Server, &Key::of(server.meta()), Some(&tally));
        status.customers = Some(counts(&tally));
    }

    fn is_handled(&self, server: &KonaServer, request: &str) -> bool {
        let request = (Key::of(server.meta()), request.to_owned());
        self.handled.by_all(Kind::Customer, covered(&parts(&self.customers, server)), &request)
    }
}

/// A check of a server's login.
struct Check<'a> {
    connections: &'a Connections,
    servers: &'a Store<KonaServer>,
    claims: &'a Claims,
    server: &'a KonaServer,
    connection: ValidConnection,
    url: String,
}

impl Visitor<KonaServer> for Check<'_> {
    async fn reach(&self, age: Age) -> Result<(Endpoint, Credentials), Unread> {
        let known = (self.servers, self.claims);
        self.connections.reach_server(known, self.server, &self.connection, User::of(self.server), age).await
    }

    fn object(&self) -> &KonaServer {
        self.server
    }

    /// Makes sure that there is a session. If nothing was heard from the server lately it is renewed, which shows whether the
    /// server answers.
    async fn visit(
        &mut self,
        Access { endpoint, credentials, refused, .. }: Access<'_>,
        _: &mut Memory<KonaServer>,
    ) -> Result<Findings<KonaServer>, Stop<KonaServer>> {
        let remotes = &self.connections.remotes;
        let kona = Kona::new(Login::new(remotes, endpoint, credentials, refused));
        let key = SessionKey::new(endpoint, &credentials.identity);
        let living = remotes.sessions.is_living(&key).await;
        let heard = endpoint.limit.last_heard().is_some_and(|at| at.elapsed() < INTERVAL);
        match (living && refused.is_none(), heard) {
            (true, true) => {}
            (true, false) => kona.renew().await?,
            (false, _) => kona.log_in().await?,
        }
        self.claims.let_in(self.server.meta(), endpoint);
        let (found, news) = (Some(clock::now()), Some(News::LetIn));
        let verdict = in_sync(is_limited_by_another(self.servers, self.claims, self.server));
        Ok(Findings { news, found, ..Findings::from(verdict) })
    }

    fn url(&self) -> &str {
        &self.url
    }
}

/// All customers that refer to a server.
fn customers_of(customers: &Store<CustomerTokenTtl>, server: &Key) -> Vec<Arc<CustomerTokenTtl>> {
    let entries = customers.namespace(&server.namespace);
    let customers = entries.iter().filter_map(Entry::valid);
    customers.filter(|customer| customer.spec.server_ref.name == server.name).cloned().collect()
}

fn parts(customers: &Store<CustomerTokenTtl>, server: &KonaServer) -> Vec<Part> {
    customers_of(customers, &Key::of(server.meta())).iter().map(|customer| part(server, customer)).collect()
}
