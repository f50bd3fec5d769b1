//! Connections and certificates.

use std::net::SocketAddr;

use reqwest::Client;
use tenure_kit::{
    pki::Certificate,
    requests::Kind,
    server::Reception,
    x2::{Appliance, FleetOptions, X2Fleet},
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::{answer, builder, client};

fn get(http: &Client, appliance: &Appliance) -> reqwest::RequestBuilder {
    http.get(format!("{}/api2/token/timeout", appliance.url()))
}

#[tokio::test]
async fn every_appliance_has_a_certificate_of_its_own() {
    let options = || FleetOptions { appliances: 3, ..FleetOptions::default() };
    let (fleet, stranger) = (X2Fleet::start(options()).unwrap(), X2Fleet::start(options()).unwrap());
    let http = client(fleet.ca_pem().as_deref());
    for appliance in fleet.appliances() {
        assert_eq!(answer(get(&http, &appliance)).await.unwrap().0, 401);
    }
    assert_eq!(answer(get(&http, &stranger.appliance(0))).await, None, "another fleet has another CA");
    assert_ne!(fleet.appliance(0).port(), stranger.appliance(0).port());
}

#[tokio::test]
async fn the_name_in_the_certificate_can_be_asked_for() {
    let fleet = X2Fleet::start(FleetOptions { appliances: 2, ..FleetOptions::default() }).unwrap();
    let appliance = fleet.appliance(1);
    let address = SocketAddr::new(appliance.address().into(), appliance.port());
    let resolving =
        builder(fleet.ca_pem().as_deref()).resolve(appliance.dns_name(), address).build().unwrap();
    let url = format!("https://x2-0001.example.net:{}/api2/token/timeout", appliance.port());
    assert_eq!(answer(resolving.get(url)).await.unwrap().0, 401);
    let entries = appliance.requests().entries();
    assert_eq!(entries[0].server_name.as_deref(), Some("x2-0001.example.net"));
    assert_eq!(entries[0].host, Some(format!("x2-0001.example.net:{}", appliance.port())));
}

#[tokio::test]
async fn a_bad_certificate_is_seen_at_once_and_can_be_put_right() {
    let fleet = X2Fleet::start(FleetOptions::default()).unwrap();
    let appliance = fleet.appliance(0);
    let http = client(fleet.ca_pem().as_deref());
    assert_eq!(answer(get(&http, &appliance)).await.unwrap().0, 401);
    for bad in [Certificate::UnknownCa, Certificate::WrongName, Certificate::Expired] {
        appliance.set_certificate(bad);
        assert_eq!(answer(get(&http, &appliance)).await, None, "{bad:?}");
    }
    assert_eq!(appliance.counts().total(), 1, "no request got through");
    appliance.set_certificate(Certificate::Good);
    assert_eq!(answer(get(&http, &appliance)).await.unwrap().0, 401);
}

#[tokio::test]
async fn a_closed_port_refuses_and_opens_again() {
    let fleet = X2Fleet::start(FleetOptions { tls: false, ..FleetOptions::default() }).unwrap();
    let appliance = fleet.appliance(0);
    let address = SocketAddr::new(appliance.address().into(), appliance.port());
    let mut open = TcpStream::connect(address).await.unwrap();
    appliance.requests().wait_until(|requests| requests.connections() == 1).await;
    fleet.stop_listening().await;
    assert_eq!(open.read(&mut [0]).await.unwrap(), 0, "connections end with the port");
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    fleet.resume_listening().unwrap();
    assert_eq!(answer(get(&client(None), &appliance)).await.unwrap().0, 401);
    let url = get(&client(None), &appliance);
    drop((fleet, appliance));
    assert_eq!(answer(url).await, None, "dropping the fleet closes the port");
}

#[tokio::test]
async fn one_appliance_resets_another_is_silent_a_third_hangs_up() {
    let options = FleetOptions { appliances: 3, tls: false, ..FleetOptions::default() };
    let fleet = X2Fleet::start(options).unwrap();
    let http = client(None);
    fleet.appliance(0).set_reception(Reception::Reset);
    assert_eq!(answer(get(&http, &fleet.appliance(0))).await, None);
    let silent = fleet.appliance(1);
    silent.set_reception(Reception::Silent);
    let waiting = tokio::spawn(answer(get(&http, &silent)));
    silent.requests().wait_until(|requests| requests.connections() == 1).await;
    silent.set_reception(Reception::Open);
    assert!(waiting.await.is_ok(), "cut when the reception changed");
    assert_eq!(answer(get(&http, &silent)).await.unwrap().0, 401);
    let third = fleet.appliance(2);
    assert_eq!(answer(get(&http, &third)).await.unwrap().0, 401);
    third.hang_up();
    third.requests().wait_until(|requests| requests.open_connections() == 0).await;
    assert_eq!(answer(get(&client(None), &third)).await.unwrap().0, 401, "a new connection");
    assert_eq!((third.requests().connections(), third.counts().get), (2, 2));
    fleet.requests().wait_for(Kind::Get, 3).await;
}

#[tokio::test]
async fn nobody_stands_at_other_addresses() {
    let fleet = X2Fleet::start(FleetOptions { tls: false, ..FleetOptions::default() }).unwrap();
    let url = format!("http://127.0.0.1:{}/", fleet.appliance(0).port());
    assert_eq!(answer(client(None).get(url)).await, None);
    assert_eq!(fleet.requests().connections(), 0);
}
