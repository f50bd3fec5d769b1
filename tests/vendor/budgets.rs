//! What a hostile server can make the operator keep: a raw TCP server sends whatever it likes, and then nothing more.

use std::sync::Arc;
use std::time::Duration;

use tenure::engine::access::AccessError;
use tenure::engine::remote::{Fault, Malformed};
use tenure::vendor::credentials::Credentials;
use tenure::vendor::http::Purpose;
use tenure::vendor::kona::{Fresh, Kona, Outgoing};
use tenure::vendor::remotes::{Login, Remotes};
use tenure_kit::raw::{RawServer, TOKEN, customer, half_body, half_head, whole};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::world::*;

const CUSTOMER: &str = "1d2b7a10-0000-4000-8000-000000000001";
/// For answers that never end.
const SOON: Duration = Duration::from_secs(5);
/// For others, however busy the machine is.
const LATE: Duration = Duration::from_mins(2);
/// By how much memory may grow, in KiB: about half of what the longest heads and answers would take.
const ROOM: usize = 40 * 1024;
/// Memory is that of all tests here: one measures at a time.
static MEASURING: Mutex<()> = Mutex::const_new(());

/// Resident memory of this process, in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Reads a customer of a server as one of many objects of a namespace.
async fn read_customer(
    server: &RawServer,
    remotes: &Remotes,
    (namespace, object): (&str, usize),
    timeout: Duration,
) -> Result<(), AccessError> {
    let mut endpoint = endpoint(&server.url(), None);
    namespace.clone_into(&mut endpoint.holder.namespace);
    endpoint.timeout = timeout;
    let login = login(namespace, object);
    let kona = Kona::new(Login::new(remotes, &endpoint, &login, None));
    kona.read_customer(CUSTOMER, Purpose::Ask).await.map(drop)
}

/// Each object has a Secret of its own, so that no login waits for another.
fn login(namespace: &str, object: usize) -> Credentials {
    let mut login = credentials("tenant@example.net", "kona-admin-password", "1");
    let account = &mut login.identity.account;
    (account.namespace, account.secret) = (namespace.to_owned(), format!("login-{object}"));
    login
}

/// What comes of so many objects of a namespace that are read at once, and by how much memory grows meanwhile, in KiB.
async fn read(
    server: &Arc<RawServer>,
    remotes: &Arc<Remotes>,
    objects: usize,
    timeout: Duration,
) -> (Vec<Fault>, usize) {
    let _measuring = MEASURING.lock().await;
    let before = resident();
    let mut reads = JoinSet::new();
    for object in 0..objects {
        let (server, remotes) = (Arc::clone(server), Arc::clone(remotes));
        reads.spawn(async move { read_customer(&server, &remotes, ("hostile", object), timeout).await });
    }
    let mut most = before;
    let mut faults = Vec::new();
    while let Some(read) = reads.join_next().await {
        most = most.max(resident());
        faults.push(remote(read.unwrap().unwrap_err()).fault);
    }
    (faults, most - before)
}

async fn hostile(answer: Vec<u8>, objects: usize, timeout: Duration) -> (Vec<Fault>, usize) {
    let server = Arc::new(RawServer::start(TOKEN, answer).await.unwrap());
    // They are kept: so is what they have under way.
    let (remotes, _ending) = remotes(loopback(), objects);
    let read = read(&server, &Arc::new(remotes), objects, timeout).await;
    assert_eq!(server.asked(), objects as u64);
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_of_an_answer_is_bounded() {
    let (faults, grown) = hostile(half_head(400_000), 200, LATE).await;
    assert!(grown < ROOM, "200 heads of 400 kB: {grown} KiB");
    for fault in faults {
        assert_eq!(fault, Fault::Malformed(Malformed::LongHead));
    }
    let (faults, grown) = hostile(half_head(30_000), 200, SOON).await;
    assert!(grown < ROOM, "200 heads of 30 kB without an end: {grown} KiB");
    assert!(faults.iter().all(|fault| *fault == Fault::TimedOut), "{faults:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_answers_that_never_end_take_no_more_room_than_a_namespace_has() {
    let server = Arc::new(RawServer::start(TOKEN, half_body(1024 * 1024 - 1)).await.unwrap());
    let (remotes, _ending) = remotes(loopback(), 200);
    let remotes = Arc::new(remotes);
    let hostile = {
        let (server, remotes) = (Arc::clone(&server), Arc::clone(&remotes));
        tokio::spawn(async move { read(&server, &remotes, 100, SOON).await })
    };
    server.wait_asked(100).await;
    // Meanwhile another namespace has all the room that it needs.
    let good = RawServer::start(TOKEN, whole(&customer(CUSTOMER, 4_000))).await.unwrap();
    for object in 0..10 {
        read_customer(&good, &remotes, ("honest", object), LATE).await.unwrap();
    }
    let (faults, grown) = hostile.await.unwrap();
    assert!(grown < ROOM, "100 answers of 1 MiB without an end: {grown} KiB");
    assert!(faults.iter().all(|fault| *fault == Fault::TimedOut), "{faults:?}");
}

#[tokio::test]
async fn a_customer_is_written_with_the_room_that_it_was_read_with() {
    let text = "x".repeat(1_000_000);
    let long = format!(r#"{{"id":{{"id":"{CUSTOMER}"}},"additionalInfo":null,"x":"{text}"}}"#);
    let server = RawServer::start(TOKEN, whole(&long)).await.unwrap();
    let (remotes, _ending) = remotes(loopback(), 2);
    let kept =
        [0, 1].map(|object| (endpoint(&format!("{}/{object}", server.url()), None), login("a", object)));
    let konas =
        kept.each_ref().map(|(endpoint, login)| Kona::new(Login::new(&remotes, endpoint, login, None)));
    // Two of them take all the room of a namespace.
    let mut read = Vec::new();
    for kona in &konas {
        read.push((kona, kona.read_customer(CUSTOMER, Purpose::Ask).await.unwrap()));
    }
    for (kona, Fresh { customer, seat, .. }) in read {
        let (outgoing, turn) = (Outgoing { id: CUSTOMER, object: &customer }, kona.turn().unwrap());
        kona.write_customer(&outgoing, seat, turn, ALLOWED).await.unwrap();
    }
}

#[tokio::test]
async fn a_customer_with_too_many_keys_is_not_read() {
    let (faults, grown) = hostile(whole(&customer(CUSTOMER, 100_000)), 20, LATE).await;
    assert!(grown < ROOM, "20 customers of 100,000 keys: {grown} KiB");
    for fault in faults {
        assert_eq!(fault, Fault::Malformed(Malformed::Customer("it has more than 4096 keys")));
    }
}
