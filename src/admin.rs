//! `/metrics`, `/healthz` and `/readyz`.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::leader::fence::Fence;
use crate::metrics::Metrics;
use crate::runtime::watch::View;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What probes and scrapes are answered from.
#[derive(Clone, Debug)]
pub struct Health {
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What is watched, once it is.
    pub(crate) watches: Arc<OnceLock<Vec<View>>>,
    /// Whether work has started.
    pub(crate) started: Arc<AtomicBool>,
    /// Whether this replica may work.
    pub(crate) fence: Fence,
}

impl Health {
    /// Why this replica does not know what there is; none if it does. A standby is ready, too.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        match self.watches.get() {
            Some(watches) => watches.iter().find_map(View::not_ready),
            None => Some("nothing is watched yet".to_owned()),
        }
    }
}

/// Answers until the process ends.
pub(crate) async fn serve(listener: TcpListener, health: Health) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health);
    axum::serve(listener, router).await
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    match health.not_ready() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    health.metrics.leads(health.started.load(Ordering::Acquire) && health.fence.is_open());
    ([(header::CONTENT_TYPE, OPEN_METRICS)], health.metrics.text())
}
