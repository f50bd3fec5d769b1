//! A simulated TEKTELIC Kona Core Network Server: the vendor's page "Authentication Token TTL", and where that is
//! silent, the manners of the ThingsBoard family it belongs to.

mod accounts;
mod answers;
mod customer;
mod customers;
mod endpoints;
mod fields;

use std::{collections::BTreeMap, io, net::Ipv4Addr, sync::Arc, time::Duration};

use parking_lot::Mutex;

use self::{accounts::Accounts, customer::Desk, customers::Customers, endpoints::Route};
pub use self::{
    accounts::{KonaUser, Scope, TokenTtls},
    answers::Failure,
    customer::Customer,
    customers::InfoForm,
};
use crate::{
    faults::{Drawn, Fault, Faults},
    jwt,
    pki::{Certificate, Pki},
    requests::{Counts, Kind, Requests},
    server::{Call, Door, Listener, Premises, Reception, Reply, Site, Topic},
};

/// Lifetimes where a customer sets none: 2 hours and 24 hours.
pub const DEFAULT_TTLS: TokenTtls = TokenTtls { access: 7200, refresh: 86_400 };

/// What a login's `Content-Type` has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoginContentType {
    /// `text/plain`, as the vendor documents it; anything else is a 500.
    #[default]
    TextPlain,
    /// Anything.
    Any,
}

/// The path of the POST that saves a customer; the other path is a 404 with code 32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WritePath {
    /// `/api/customer/`, as the vendor documents it.
    #[default]
    WithSlash,
    /// `/api/customer`, as on the relative since 2024.
    WithoutSlash,
    /// Either.
    Both,
}

/// How a server starts.
#[derive(Clone, Debug)]
pub struct KonaOptions {
    /// HTTPS or plain HTTP.
    pub tls: bool,
    /// The DNS domain of the name in its certificate, `kona.DOMAIN`.
    pub domain: String,
    /// As of the [appliances](crate::x2::FleetOptions::known_ca).
    pub known_ca: Option<String>,
    /// The users it starts with.
    pub users: Vec<KonaUser>,
    /// Token lifetimes of the tenant's administrators.
    pub admin_ttls: TokenTtls,
    /// What a login's `Content-Type` has to be.
    pub login_content_type: LoginContentType,
    /// The path of the POST that saves a customer.
    pub write_path: WritePath,
    /// How a GET shows an `additionalInfo` stored as an object.
    pub info_form: InfoForm,
    /// How long every answer takes.
    pub latency: Duration,
    /// How much longer a login takes: the relative hashes passwords for 170 ms.
    pub login_latency: Duration,
    /// Wrong passwords in a row that disable a user for good.
    pub lockout_after: Option<u32>,
}

impl Default for KonaOptions {
    /// TLS, and a tenant administrator `tenant@example.net` / `kona-admin-password`.
    fn default() -> Self {
        Self {
            tls: true,
            domain: "example.net".to_owned(),
            known_ca: None,
            users: vec![KonaUser::tenant_admin("tenant@example.net", "kona-admin-password")],
            admin_ttls: DEFAULT_TTLS,
            login_content_type: LoginContentType::default(),
            write_path: WritePath::default(),
            info_form: InfoForm::default(),
            latency: Duration::ZERO,
            login_latency: Duration::ZERO,
            lockout_after: None,
        }
    }
}

/// A server; the last clone to go stops the listener.
#[derive(Clone)]
pub struct KonaServer {
    site: Arc<Hall>,
    listener: Arc<Listener<Hall>>,
}

impl KonaServer {
    /// Starts a server on a free port of 127.0.0.1. Must be called within a tokio runtime.
    pub fn start(options: KonaOptions) -> io::Result<Self> {
        let mut accounts = Accounts::new(&jwt::random_secret(), options.lockout_after);
        for user in options.users {
            accounts.set_user(user);
        }
        let rules = Rules {
            admin_ttls: options.admin_ttls,
            login_content_type: options.login_content_type,
            write_path: options.write_path,
            latency: options.latency,
            login_latency: options.login_latency,
        };
        let site = Arc::new(Hall {
            premises: Premises::new(options.tls.then(|| Pki::new(options.known_ca.as_deref()))),
            door: Door::new(Ipv4Addr::LOCALHOST, format!("kona.{}", options.domain)),
            faults: Faults::default(),
            rules: Mutex::new(rules),
            accounts: Mutex::new(accounts),
            customers: Mutex::new(Customers::new(options.info_form)),
            desks: Mutex::default(),
        });
        let listener = Arc::new(Listener::start(Ipv4Addr::LOCALHOST, Arc::clone(&site))?);
        Ok(Self { site, listener })
    }

    /// Its base URL: scheme, address and port.
    #[must_use]
    pub fn url(&self) -> String {
        self.site.premises.url(self.site.door.address(), self.port())
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// The DNS name in its certificate, for `tls.serverName`; it resolves nowhere.
    #[must_use]
    pub fn dns_name(&self) -> &str {
        self.site.door.dns_name()
    }

    /// The certificate of the CA that signed its own; `None` without TLS.
    #[must_use]
    pub fn ca_pem(&self) -> Option<String> {
        self.site.premises.pki.as_ref().map(Pki::ca_pem)
    }

    /// A handle on the customer with this id, whether it exists or not.
    #[must_use]
    pub fn customer(&self, id: &str) -> Customer {
        Customer::new(Arc::clone(&self.site), id)
    }

    /// Adds a customer with exactly the fields of the vendor's page, no lifetime set. Give it a `version` by
    /// [`Customer::set_field`] to have stale writes refused.
    #[expect(clippy::must_use_candidate, reason = "the handle is a convenience; adding is the point")]
    pub fn add_customer(&self, id: &str, title: &str) -> Customer {
        let customer = self.customer(id);
        customer.put_raw(&customer::documented(id, title));
        customer
    }

    /// The text a GET of this customer answers; `None` when there is none.
    #[must_use]
    pub fn customer_json(&self, id: &str) -> Option<String> {
        self.site.customers.lock().text(id).map(str::to_owned)
    }

    /// Stores this text as the customer, byte for byte.
    pub fn put_customer_raw(&self, id: &str, text: &str) {
        self.customer(id).put_raw(text);
    }

    /// Ids of customers that were created by a POST without `id`; a test wants none.
    #[must_use]
    pub fn created(&self) -> Vec<String> {
        self.site.customers.lock().created().to_vec()
    }

    /// Adds a user, or replaces the one of that name.
    pub fn set_user(&self, user: KonaUser) {
        self.site.accounts.lock().set_user(user);
    }

    /// Changes a password, which invalidates the user's tokens.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn set_password(&self, username: &str, password: &str) {
        assert!(self.site.accounts.lock().set_password(username, password), "no user {username}");
    }

    /// Enables a user again, or disables it, which invalidates its tokens.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn set_enabled(&self, username: &str, enabled: bool) {
        assert!(self.site.accounts.lock().set_enabled(username, enabled), "no user {username}");
    }

    /// Whether a user is enabled; too many wrong passwords disable it.
    #[must_use]
    pub fn is_enabled(&self, username: &str) -> bool {
        self.site.accounts.lock().is_enabled(username)
    }

    /// Invalidates every access token: the next call is a 401, and a refresh still works.
    pub fn expire_access_tokens(&self) {
        self.site.accounts.lock().expire_access_tokens();
    }

    /// Invalidates every token, refresh tokens too.
    pub fn expire_all_tokens(&self) {
        self.site.accounts.lock().expire_all_tokens();
    }

    /// Moves its clock against ours; tokens are stamped and expire by it.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.site.accounts.lock().clock_offset = seconds;
    }

    /// Lifetimes of new tokens of the tenant's administrators.
    pub fn set_admin_ttls(&self, ttls: TokenTtls) {
        self.site.rules.lock().admin_ttls = ttls;
    }

    /// The path of the POST that saves a customer, from now on.
    pub fn set_write_path(&self, path: WritePath) {
        self.site.rules.lock().write_path = path;
    }

    /// What a login's `Content-Type` has to be from now on.
    pub fn set_login_content_type(&self, content_type: LoginContentType) {
        self.site.rules.lock().login_content_type = content_type;
    }

    /// How a GET shows an `additionalInfo` stored as an object from now on.
    pub fn set_info_form(&self, form: InfoForm) {
        self.site.customers.lock().info_form = form;
    }

    /// How long every answer takes from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.site.rules.lock().latency = latency;
    }

    /// Adds a fault that strikes requests of any customer, and logins and refreshes.
    pub fn fault(&self, fault: Fault) {
        self.site.faults.add(fault);
    }

    /// Removes the faults added by [`fault`](Self::fault); those of single customers stay.
    pub fn clear_faults(&self) {
        self.site.faults.clear();
    }

    /// Shows this certificate from now on and cuts the connections made under the old one.
    pub fn set_certificate(&self, certificate: Certificate) {
        self.site.door.set_certificate(certificate);
        self.hang_up();
    }

    /// Receives connections this way from now on, and cuts those there are.
    pub fn set_reception(&self, reception: Reception) {
        self.site.door.set_reception(reception);
        self.hang_up();
    }

    /// Cuts its connections, idle or not.
    pub fn hang_up(&self) {
        self.site.premises.hang_up(&self.site.door);
    }

    /// Closes the port and cuts every connection: connecting is refused from then on.
    pub async fn stop_listening(&self) {
        self.listener.stop().await;
    }

    /// Opens the same port again.
    pub fn resume_listening(&self) -> io::Result<()> {
        self.listener.resume()
    }

    /// All requests that arrived, by kind.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.requests().counts()
    }

    /// Requests about each customer; logins count for the customer whose user logs in.
    #[must_use]
    pub fn counts_by_customer(&self) -> BTreeMap<String, Counts> {
        let desks = self.site.desks.lock();
        desks.iter().map(|(id, desk)| (id.clone(), desk.tally.counts())).collect()
    }

    /// The log of all requests, and ways to wait for them.
    #[must_use]
    pub fn requests(&self) -> Requests {
        Requests::of_all(&self.site.premises.log)
    }
}

/// What can be changed while the server runs.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    admin_ttls: TokenTtls,
    login_content_type: LoginContentType,
    write_path: WritePath,
    latency: Duration,
    login_latency: Duration,
}

/// What the listener serves.
pub(crate) struct Hall {
    premises: Premises,
    door: Door,
    faults: Faults,
    rules: Mutex<Rules>,
    accounts: Mutex<Accounts>,
    customers: Mutex<Customers>,
    /// Made when a customer is first asked for, by a test or a request.
    desks: Mutex<BTreeMap<String, Arc<Desk>>>,
}

impl Hall {
    fn desk(&self, id: &str) -> Arc<Desk> {
        let mut desks = self.desks.lock();
        if let Some(desk) = desks.get(id) {
            return Arc::clone(desk);
        }
        Arc::clone(desks.entry(id.to_owned()).or_insert_with(|| Arc::new(Desk::new(id))))
    }

    fn ttls_for(&self, scope: Option<&Scope>) -> TokenTtls {
        let Some(Scope::CustomerUser(id)) = scope else {
            return self.rules.lock().admin_ttls;
        };
        let (access, refresh) = self.customers.lock().token_ttls(id);
        TokenTtls {
            access: access.unwrap_or(DEFAULT_TTLS.access),
            refresh: refresh.unwrap_or(DEFAULT_TTLS.refresh),
        }
    }
}

impl Site for Hall {
    fn premises(&self) -> &Premises {
        &self.premises
    }

    fn door(&self, _address: Ipv4Addr) -> Option<&Door> {
        Some(&self.door)
    }

    fn topic(&self, _address: Ipv4Addr, call: &Call) -> Topic {
        let route = Route::of(call);
        let kind = route.kind();
        let desk = self.customer_of(call, &route).map(|id| self.desk(&id));
        let mut drawn = Drawn::default();
        if let Some(desk) = &desk {
            desk.faults.draw(kind, &mut drawn);
        }
        self.faults.draw(kind, &mut drawn);
        let rules = *self.rules.lock();
        let extra = if kind == Kind::Login { rules.login_latency } else { Duration::ZERO };
        Topic {
            kind,
            object: desk.as_ref().map(|desk| Arc::clone(&desk.id)),
            tally: desk.map(|desk| Arc::clone(&desk.tally)),
            drawn,
            latency: rules.latency + extra,
        }
    }

    fn answer(&self, _address: Ipv4Addr, call: &Call) -> Reply {
        self.carry_out(call)
    }
}
