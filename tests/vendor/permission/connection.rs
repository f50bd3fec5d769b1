//! A write's permission is asked for again once there is a connection, however long that took.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, mpsc};

use tenure::engine::access::AccessError;
use tenure::leader::fence::{Fence, Term};
use tenure_kit::raw::{TOKEN, whole};
use tenure_kit::relay::Relay;
use tokio::sync::watch;

use super::super::world::*;

/// What can end the permission of a write.
struct Permission {
    open: AtomicBool,
    ending: watch::Sender<bool>,
    term: watch::Sender<Term>,
}

#[tokio::test]
async fn a_write_that_is_no_longer_permitted_when_there_is_a_connection_is_not_sent() {
    let withdrawals: [fn(&Permission); 3] = [
        |permission| permission.open.store(false, Relaxed),
        |permission| {
            permission.ending.send_replace(true);
        },
        |permission| {
            permission.term.send_replace(Term::OVER);
        },
    ];
    for withdraw in withdrawals {
        let (fleet, mut world) = secured();
        let appliance = fleet.appliance(0);
        let relay = Relay::start(format!("{}:{}", appliance.address(), appliance.port())).await.unwrap();
        world.endpoint = endpoint(&format!("https://{}", relay.address()), fleet.ca_pem());
        world.endpoint.transport.server_name = Some(appliance.dns_name().to_owned());
        world.x2().log_in().await.unwrap();
        // The token is kept, and no connection.
        let (ending, term) = (watch::Sender::new(false), watch::Sender::new(Term::Endless));
        world.remotes.http = http(loopback(), 64, Fence::new(ending.subscribe(), term.subscribe()));
        let permission = Permission { open: AtomicBool::new(true), ending, term };
        relay.cut();
        let may_send = || permission.open.load(Relaxed);
        let mut x2 = world.x2();
        let handshake = async {
            fleet.requests().wait_until(|requests| requests.connections() == 2).await;
            withdraw(&permission);
            relay.mend();
        };
        let (written, ()) = tokio::join!(x2.set_timeout(600, &may_send), handshake);
        assert_eq!(written, Err(AccessError::NotSent));
        assert_eq!(fleet.counts().write, 0);
    }
}

/// Serves a login, and closes the connection when it is told to.
fn serve_login(listener: &TcpListener, told: &mpsc::Receiver<()>) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        let mut part = [0; 1024];
        let length = stream.read(&mut part).unwrap();
        request.extend_from_slice(&part[..length]);
    }
    stream.write_all(&whole(&format!(r#"{{"token":"{TOKEN}","role":"admin"}}"#))).unwrap();
    told.recv().unwrap();
}

#[tokio::test]
async fn a_write_whose_connection_turns_out_to_be_closed_is_asked_for_again() {
    let (listener, (tell, told)) = (TcpListener::bind("127.0.0.1:0").unwrap(), mpsc::channel());
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        serve_login(&listener, &told);
        listener
    });
    let (_fleet, mut world) = plain();
    world.endpoint = endpoint(&url, None);
    let mut x2 = world.x2();
    x2.log_in().await.unwrap();
    tell.send(()).unwrap();
    let listener = serving.join().unwrap();
    // The runtime learns that the connection is closed, and runs this task before the connection's own.
    tokio::task::yield_now().await;
    listener.set_nonblocking(true).unwrap();
    let second: Mutex<Option<TcpStream>> = Mutex::default();
    // Permitted until there is another connection.
    let may_send = || {
        let accepted = listener.accept().ok().map(|(stream, _)| stream);
        let permitted = accepted.is_none();
        *second.lock().unwrap() = accepted;
        permitted
    };
    assert_eq!(x2.set_timeout(600, &may_send).await, Err(AccessError::NotSent));
    let mut second = second.into_inner().unwrap().expect("the write was tried on another connection");
    second.set_nonblocking(true).unwrap();
    let read = second.read(&mut [0; 1024]).map_err(|error| error.kind());
    assert_eq!(read, Err(ErrorKind::WouldBlock), "nothing was sent, and the connection is kept");
}
