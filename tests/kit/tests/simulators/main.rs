//! The simulators against their vendors' pages, asked by a plain HTTP client.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed, and says where"
)]

mod faults;
mod kona;
mod listeners;
mod x2;

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::{Certificate, ClientBuilder, RequestBuilder, redirect};
use serde_json::Value;

/// A client that trusts this CA only, follows nothing, and keeps its connections.
fn client(ca_pem: Option<&str>) -> reqwest::Client {
    builder(ca_pem).build().unwrap()
}

fn builder(ca_pem: Option<&str>) -> ClientBuilder {
    // Whichever test is first installs it; for the others it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let roots = ca_pem.map(|pem| Certificate::from_pem(pem.as_bytes()).unwrap());
    reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(Duration::from_secs(20))
        .tls_certs_only(roots)
}

/// Status and text of an answer; `None` when there was none, or not all of it.
async fn answer(request: RequestBuilder) -> Option<(u16, String)> {
    let response = request.send().await.ok()?;
    let status = response.status().as_u16();
    Some((status, response.text().await.ok()?))
}

/// Status and JSON of an answer.
async fn json(request: RequestBuilder) -> (u16, Value) {
    let (status, text) = answer(request).await.expect("an answer");
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}")))
}

/// The payload of a JWT.
fn payload(token: &Value) -> Value {
    let middle = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(middle).unwrap()).unwrap()
}

fn difference(claims: &Value, later: &str, earlier: &str) -> i64 {
    claims[later].as_i64().unwrap() - claims[earlier].as_i64().unwrap()
}
