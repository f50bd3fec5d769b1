//! Attacks by servers: of the honest systems' URLs, or at the operator's own.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tenure_kit::proxy::{Onward, Proxy};
use tenure_kit::raw::{RawServer, TOKEN, customer as raw_customer, half_body, half_head, whole};
use tenure_kit::requests::Kind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::super::fixture::{customer, fleet, gateway, gateway_at, kona_server, policy, with};
use super::super::hostile::Hostile;
use super::super::names::silent_server;
use super::super::world::{World, customer_id};
use super::silent;

pub async fn limits(world: &World, hostile: &Hostile) {
    let lowest = json!({"limits": {"requestsPerSecond": 1, "maxConcurrent": 1}});
    hostile.config_map("kona-ca", &world.kona.ca_pem().unwrap()).await;
    for (name, suspend) in [("asleep", true), ("awake", false)] {
        let patch = with(json!({"spec": {"suspend": suspend}}), json!({"spec": lowest}));
        hostile.apply(with(kona_server(name, &world.kona.url()), patch)).await;
    }
}

pub async fn tar_pit(world: &World, hostile: &Hostile) {
    let silent = silent(1);
    let proxy = silent.appliance(0);
    let through = json!({"spec": {"proxyUrl": format!("http://{}:{}", proxy.address(), proxy.port()), "requestTimeout": "5m"}});
    hostile.credentials(&world.fleet).await;
    hostile.config_map("kona-ca", &world.kona.ca_pem().unwrap()).await;
    let gateways = world.fleet.appliances().flat_map(|appliance| {
        let through = through.clone();
        (0..3).map(move |copy| {
            with(gateway(&format!("{}-{copy}", appliance.name()), &appliance), through.clone())
        })
    });
    hostile.apply_all(gateways).await;
    hostile.apply(with(kona_server("kona", &world.kona.url()), through)).await;
    hostile.apply_all((0..3).map(|n| customer(&format!("customer-{n}"), &customer_id(n), 600, 600))).await;
    hostile.apply(policy("all", json!({"timeoutSeconds": 600}))).await;
    hostile.keep(silent);
}

pub async fn stand_in(world: &World, hostile: &Hostile) {
    let stand_ins = fleet(world.fleet.len());
    hostile.credentials(&stand_ins).await;
    for (honest, stand_in) in world.fleet.appliances().zip(stand_ins.appliances()) {
        let target = format!("{}:{}", stand_in.address(), stand_in.port());
        let proxy = Proxy::start(Onward::To(target)).await.unwrap();
        let through = json!({"spec": {"proxyUrl": proxy.url(), "tls": {"serverName": null}}});
        hostile.apply(with(gateway(honest.name(), &honest), through)).await;
        hostile.keep(proxy);
    }
    hostile.apply(policy("all", json!({"timeoutSeconds": 600}))).await;
    hostile.keep(stand_ins);
}

pub async fn half_answers(hostile: &Hostile) {
    let heads = RawServer::start(TOKEN, half_head(400_000)).await.unwrap();
    let bodies = RawServer::start(TOKEN, half_body(1024 * 1024 - 1)).await.unwrap();
    hostile.secrets().await;
    let plain = json!({"spec": {"allowPlaintext": true, "tls": null, "requestTimeout": "5m"}});
    let gateways = (0..500).map(|index| {
        let url = format!("{}/{index}", heads.url());
        with(gateway_at(&format!("gateway-{index:03}"), &url), plain.clone())
    });
    hostile.apply_all(gateways).await;
    // A server each: so none waits for another.
    hostile.apply_all((0..100).flat_map(|index| customer_of(index, &bodies.url(), &plain))).await;
    hostile.keep((heads, bodies));
}

/// One byte per second: neither the head nor the content is complete within the longest timeout.
pub async fn drip(hostile: &Hostile) {
    let (answer, second) = (whole(&"x".repeat(1_000)), Duration::from_secs(1));
    let logins = RawServer::dripping(None, answer.clone(), second).await.unwrap();
    let reads = RawServer::dripping(Some(TOKEN), answer, second).await.unwrap();
    hostile.secrets().await;
    let plain = json!({"spec": {"allowPlaintext": true, "tls": null, "requestTimeout": "5m"}});
    // With a Secret each, so that no login waits for another.
    let name = |index| format!("login-{index:03}");
    let alone = |index| with(plain.clone(), json!({"spec": {"credentialsSecretRef": {"name": name(index)}}}));
    for index in 0..200 {
        let login = [("username", "admin"), ("password", "planted-wrong-password")];
        hostile.ns.secret(&name(index), &login).await.unwrap();
    }
    let url = |server: &RawServer, index: usize| format!("{}/{index}", server.url());
    let gateway = |index| with(gateway_at(&name(index), &url(&logins, index)), alone(index));
    hostile.apply_all((0..150).map(gateway)).await;
    hostile.apply_all((150..200).flat_map(|index| customer_of(index, &logins.url(), &alone(index)))).await;
    hostile.apply_all((0..50).flat_map(|index| customer_of(index, &reads.url(), &plain))).await;
    let gateway = |index| with(gateway_at(&format!("read-{index:03}"), &url(&reads, index)), plain.clone());
    hostile.apply_all((0..150).map(gateway)).await;
    // As many as one namespace may have waiting.
    logins.wait_asked(64).await;
    reads.wait_asked(64).await;
    hostile.keep((logins, reads));
}

pub async fn many_fields(hostile: &Hostile) {
    let server = RawServer::start(TOKEN, whole(&raw_customer(&customer_id(0), 100_000))).await.unwrap();
    hostile.secrets().await;
    let plain = json!({"spec": {"allowPlaintext": true, "tls": null}});
    hostile.apply_all((0..50).flat_map(|index| customer_of(index, &server.url(), &plain))).await;
    hostile.keep(server);
}

pub async fn large_customers(hostile: &Hostile) {
    let server = RawServer::start(TOKEN, whole(&large_customer())).await.unwrap();
    hostile.secrets().await;
    let plain = json!({"spec": {"allowPlaintext": true, "tls": null}});
    hostile.apply_all((0..50).flat_map(|index| customer_of(index, &server.url(), &plain))).await;
    hostile.keep(server);
}

/// A customer of almost 1 MiB, with 4,096 fields there and in its `additionalInfo`.
fn large_customer() -> String {
    let fields = |count| {
        let fields = (0..count).map(|field| (format!("{field:x}"), json!("x".repeat(119))));
        fields.collect::<serde_json::Map<_, _>>()
    };
    let mut customer = fields(4_094);
    customer.insert("id".to_owned(), json!({"id": customer_id(0)}));
    customer.insert("additionalInfo".to_owned(), Value::Object(fields(4_096)));
    Value::Object(customer).to_string()
}

/// Gateways with names that the name server is silent about.
pub async fn silent_names(hostile: &Hostile) {
    let server = silent_server().await;
    // Once an appliance has let the user in, as many logins as there are gateways may be under way.
    let fleet = fleet(1);
    let appliance = fleet.appliance(0);
    hostile.credentials(&fleet).await;
    hostile.apply(gateway("known", &appliance)).await;
    appliance.requests().wait_for(Kind::Get, 1).await;
    let gateways = (0..300)
        .map(|index| gateway_at(&format!("gateway-{index:03}"), &format!("https://x2-{index}.example.net")));
    hostile.apply_all(gateways).await;
    // Two questions about each of the sixteen names that are looked up at the same time.
    for _ in 0..32 {
        server.recv(&mut [0; 512]).await.unwrap();
    }
    hostile.keep((server, fleet));
}

/// A server with a path of its own, and a customer of it.
fn customer_of(index: usize, url: &str, spec: &Value) -> [Value; 2] {
    let name = format!("kona-{index:03}");
    let server = with(kona_server(&name, &format!("{url}/{index}")), spec.clone());
    let of_it = json!({"spec": {"serverRef": {"name": name}}});
    [server, with(customer(&name, &customer_id(0), 3600, 86_400), of_it)]
}

pub fn half_requests(world: &World, hostile: &Hostile) {
    let operator: SocketAddr = world.f.operator().address().unwrap().parse().unwrap();
    for number in (0..10).flat_map(|_| 1..=40) {
        // As from forty Pods.
        let from = SocketAddr::from(([127, 0, 9, number], 0));
        hostile.go_on(async move {
            loop {
                if half_request(from, operator).await.is_err() {
                    // It takes no more connections for now.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        });
    }
}

/// Sends half a head, and waits until the connection is closed.
async fn half_request(from: SocketAddr, operator: SocketAddr) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(from)?;
    let mut stream = socket.connect(operator).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nx: ").await?;
    stream.write_all(&vec![b'x'; 64 * 1024]).await?;
    stream.read_to_end(&mut Vec::new()).await.map(drop)
}
