//! What users add to the program's arguments and environment has an effect.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use serde_json::json;
use tokio::net::TcpListener;

use super::cluster::*;
use super::documents::documented;
use super::helm::*;

/// What a value's comment says in backticks.
fn quoted(path: &str) -> Vec<String> {
    let value = documented().into_iter().find(|value| value.path == path).unwrap();
    value.description.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The arguments that the chart passes by itself.
fn arguments() -> Vec<String> {
    let rendered = Helm::Four.render(&json!({}));
    process(&find(&rendered, "Deployment", "tenure").unwrap()["spec"]["template"]["spec"]["containers"][0]).0
}

/// The variable of a flag.
fn variable(flag: &str) -> String {
    format!("TENURE_{}", flag.trim_start_matches('-').replace('-', "_").to_uppercase())
}

#[test]
fn the_comment_lists_the_flags_that_the_chart_passes() {
    let passed: BTreeSet<String> =
        arguments().iter().skip(1).map(|argument| argument.split('=').next().unwrap().to_owned()).collect();
    let listed: BTreeSet<String> =
        quoted("extraArgs").into_iter().filter(|word| word != "tenure run").collect();
    assert_eq!(listed, passed);
    for argument in arguments().into_iter().skip(1) {
        let output = Command::new(program()).args(arguments()).arg(&argument).env_clear().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("cannot be used multiple times"), "{argument}: {said}");
        assert!(!output.status.success());
    }
    // The first of the variables is the one that has an effect, the other is not.
    let flags: Vec<String> = passed.iter().map(|flag| variable(flag)).collect();
    let named = quoted("extraEnv");
    assert_eq!(named.len(), 2, "{named:?}");
    assert!(!flags.contains(&named[0]) && flags.contains(&named[1]), "{named:?}");
}

/// An operator whose Pod has the variable of the comment calls itself by it.
#[tokio::test(flavor = "multi_thread")]
async fn the_variable_of_the_comment_has_an_effect() {
    type Bodies = Arc<Mutex<Vec<Bytes>>>;
    let bodies = Bodies::default();
    let keep = async |State(bodies): State<Bodies>, body: Bytes| bodies.lock().unwrap().push(body);
    let router = Router::new().route("/v1/traces", post(keep)).with_state(Arc::clone(&bodies));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let cluster = Cluster::alone().await;
    let (home, tenant) = (cluster.namespace("home").await, cluster.namespace("tenant").await);
    let release = Release { cluster: &cluster, helm: Helm::Four, name: "tenure", namespace: &home };
    let values = runnable(json!({
        "extraEnv": [{"name": quoted("extraEnv")[0], "value": "tokens-of-berlin"}],
        "tracing": {"otlpEndpoint": endpoint},
    }));
    release.apply("install", &chart(), &[], &values).await.unwrap();
    let fleet = fleet();
    equip(&tenant, &fleet, json!({"timeoutSeconds": 28800})).await;
    let mut operator = release.operator().await;
    in_sync(&tenant).await;
    // It sends what is left when it ends.
    operator.terminate(SOON).await.unwrap();
    let named = |body: &Bytes| String::from_utf8_lossy(body).contains("tokens-of-berlin");
    assert!(bodies.lock().unwrap().iter().any(named));
    release.run(&["uninstall", "tenure", "--no-hooks"], &json!(null)).await.unwrap();
}
