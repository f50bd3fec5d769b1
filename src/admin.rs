//! `/metrics`, `/healthz` and `/readyz`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::leader::fence::Fence;
use crate::metrics::Metrics;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What probes and scrapes are answered from.
#[derive(Clone, Debug)]
pub struct Health {
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Whether the stores hold all there is.
    pub filled: Arc<AtomicBool>,
    /// Whether work has started.
    pub started: Arc<AtomicBool>,
    /// Whether this replica may work.
    pub fence: Fence,
}

/// Answers until the process ends.
pub async fn serve(listener: TcpListener, health: Health) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health);
    axum::serve(listener, router).await
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    // A standby is ready, too.
    if health.filled.load(Ordering::Acquire) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "caches are not synced yet\n")
    }
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    health.metrics.leads(health.started.load(Ordering::Acquire) && health.fence.is_open());
    ([(header::CONTENT_TYPE, OPEN_METRICS)], health.metrics.text())
}
