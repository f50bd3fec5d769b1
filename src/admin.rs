//! `/metrics`, `/healthz` and `/readyz`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::controller::context::Context;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers until the process ends.
pub async fn serve(listener: TcpListener, context: Arc<Context>) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(context);
    axum::serve(listener, router).await
}

async fn readyz(State(context): State<Arc<Context>>) -> impl IntoResponse {
    // A standby is ready, too.
    if context.filled.load(Ordering::Acquire) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "caches are not synced yet\n")
    }
}

async fn metrics(State(context): State<Arc<Context>>) -> impl IntoResponse {
    context.metrics.leads(context.workers.started() && context.fence.is_open());
    ([(header::CONTENT_TYPE, OPEN_METRICS)], context.metrics.text())
}
