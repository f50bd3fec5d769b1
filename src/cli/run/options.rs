//! The options of `tenure run`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use crate::cli::scope;
use crate::engine::lifetime::{X2_LONGEST, X2_SHORTEST};
use crate::engine::ports::Ports;
use crate::engine::schedule;
use crate::leader::timings::Timings;
use crate::telemetry::{Format, Level};
use crate::vendor::address;

/// Options of `tenure run`. Each can also be set by an environment variable: `--log-level` by `TENURE_LOG_LEVEL`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches of the command line")]
pub(in crate::cli) struct Options {
    /// Address for /metrics, /healthz and /readyz.
    #[arg(long, env = "TENURE_LISTEN", default_value = "0.0.0.0:8080")]
    pub(super) listen: SocketAddr,
    #[command(flatten)]
    pub(super) scope: scope::Selection,
    /// Maximum number of concurrent requests to remote systems.
    #[arg(long, env = "TENURE_CONCURRENCY", default_value_t = 64)]
    pub(super) concurrency: u16,
    /// Format of log lines [default: text on a terminal, json otherwise]
    #[arg(long, env = "TENURE_LOG_FORMAT")]
    pub(super) log_format: Option<Format>,
    /// Log level.
    #[arg(long, env = "TENURE_LOG_LEVEL", default_value = "info")]
    pub(super) log_level: Level,
    /// Address ranges to allow even if they are loopback, link-local, multicast or cloud metadata addresses, such as
    /// 127.0.0.0/8; separated by commas.
    #[arg(long, env = "TENURE_ALLOW_CIDR", value_delimiter = ',', value_parser = address::block)]
    pub(super) allow_cidr: Vec<IpNet>,
    /// Address ranges to deny, even if --allow-cidr contains them; separated by commas.
    #[arg(long, env = "TENURE_DENY_CIDR", value_delimiter = ',', value_parser = address::block)]
    pub(super) deny_cidr: Vec<IpNet>,
    /// Ports of URLs and proxies to allow, such as 443,8000-8999; separated by commas [default: 80, 443, 8080, 8443, and what
    /// the Secret's annotation tenure.dev/allowed-origins lists]
    #[arg(long, env = "TENURE_ALLOW_PORTS", value_delimiter = ',')]
    pub(super) allow_ports: Vec<Ports>,
    /// Refuse tls.insecureSkipVerify.
    #[arg(long, env = "TENURE_FORBID_INSECURE_TLS")]
    pub(super) forbid_insecure_tls: bool,
    /// Refuse http://, even if allowPlaintext is set.
    #[arg(long, env = "TENURE_FORBID_PLAINTEXT")]
    pub(super) forbid_plaintext: bool,
    /// Refuse CAs that resources name in tls.caSecretRef and tls.caConfigMapRef.
    #[arg(long, env = "TENURE_FORBID_CUSTOM_CA")]
    pub(super) forbid_custom_ca: bool,
    /// Refuse proxyUrl.
    #[arg(long, env = "TENURE_FORBID_PROXY")]
    pub(super) forbid_proxy: bool,
    /// Refuse Secrets without the annotation tenure.dev/allowed-origins.
    #[arg(long, env = "TENURE_REQUIRE_ALLOWED_ORIGINS")]
    pub(super) require_allowed_origins: bool,
    /// Try a refused password again after this time, such as 24h [default: never]
    #[arg(long, env = "TENURE_RETRY_REFUSED_LOGINS_AFTER", value_parser = duration)]
    pub(super) retry_refused_logins_after: Option<Duration>,
    /// Shortest token lifetime that policies may require, in seconds.
    #[arg(long, env = "TENURE_MIN_TIMEOUT", default_value_t = X2_SHORTEST)]
    pub(super) min_timeout: u32,
    /// Longest token lifetime that policies may require, in seconds.
    #[arg(long, env = "TENURE_MAX_TIMEOUT", default_value_t = X2_LONGEST)]
    pub(super) max_timeout: u32,
    /// Work only while holding a lease, so that one of several replicas is active and the others are on standby [default:
    /// true in a Pod, false with a kubeconfig]
    #[arg(long, env = "TENURE_LEADER_ELECT", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) leader_elect: Option<bool>,
    /// Name of the Lease. Use a different name for each release that manages different resources.
    #[arg(long, env = "TENURE_LEASE_NAME", default_value = "tenure")]
    pub(super) lease_name: String,
    /// Namespace of the Lease [default: that of the Pod or of the kubeconfig's context]
    #[arg(long, env = "TENURE_LEASE_NAMESPACE")]
    pub(super) lease_namespace: Option<String>,
    /// Time after which another replica takes a Lease that is not renewed; at most 1h, and at least 5s longer than
    /// --lease-renew-deadline.
    #[arg(long, env = "TENURE_LEASE_DURATION", default_value = "15s", value_parser = duration)]
    lease_duration: Duration,
    /// The leader stops all requests and writes if it has not renewed the Lease for this time; longer than
    /// --lease-retry-period.
    #[arg(long, env = "TENURE_LEASE_RENEW_DEADLINE", default_value = "10s", value_parser = duration)]
    lease_renew_deadline: Duration,
    /// Time between two renewals of the Lease, and between two attempts to get it; at least 1s.
    #[arg(long, env = "TENURE_LEASE_RETRY_PERIOD", default_value = "2s", value_parser = duration)]
    lease_retry_period: Duration,
    /// Send traces to the OpenTelemetry collector at this base URL, by OTLP over HTTP; defaults to the variable
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` [default: no traces]
    #[arg(long, env = "TENURE_OTLP_ENDPOINT", value_name = "URL", hide_env_values = true)]
    otlp_endpoint: Option<String>,
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide = true)]
    otel_exporter_otlp_endpoint: Option<String>,
    /// Export the metric `tenure_last_success_timestamp_seconds`, one series per object.
    #[arg(long, env = "TENURE_METRICS_PER_OBJECT")]
    pub(super) metrics_per_object: bool,
}

impl Options {
    /// How long the Lease lasts, and how often it is renewed.
    pub(super) fn lease_timings(&self) -> Result<Timings, &'static str> {
        Timings::new(self.lease_duration, self.lease_renew_deadline, self.lease_retry_period)
    }

    /// Where traces are sent.
    pub(super) fn otlp_endpoint(&self) -> Option<&str> {
        let named = [&self.otlp_endpoint, &self.otel_exporter_otlp_endpoint].into_iter().flatten();
        named.map(String::as_str).find(|endpoint| !endpoint.is_empty())
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    schedule::parse(text).ok_or("must be a duration such as 24h")
}
