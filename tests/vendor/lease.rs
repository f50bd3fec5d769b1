//! A replica that loses its lease asks nothing any more, and what it had decided to write is not written later.

use tenure::engine::access::AccessError;
use tenure::leader::fence::{Fence, Term};
use tenure_kit::faults::{Fault as Failure, Gate};
use tenure_kit::requests::Kind;
use tenure_kit::x2::{FleetOptions, X2Fleet};
use tokio::sync::watch;

use super::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_before_the_lease_was_lost_is_not_sent_when_there_is_one_again() {
    let fleet = X2Fleet::start(FleetOptions::default()).unwrap();
    let mut world = World::of(&fleet);
    let (term, terms) = watch::channel(Term::Endless);
    world.remotes.http = http(loopback(), 64, Fence::new(world.ending.subscribe(), terms));
    world.x2().read_timeout().await.unwrap();
    let before = fleet.appliance(0).counts();

    let gate = Gate::new();
    fleet.appliance(0).fault(Failure::gate(&gate).on(Kind::Get));
    let (mut reading, mut writing) = (world.x2(), world.x2());
    // One request at a time: the write waits for the read, which waits for its answer.
    let both = async { tokio::join!(reading.read_timeout(), writing.set_timeout(28800, ALLOWED)) };
    let lost = async {
        fleet.appliance(0).requests().wait_arrived(Kind::Get, before.get + 1).await;
        term.send_replace(Term::OVER);
    };
    let ((read, written), ()) = tokio::join!(both, lost);
    assert_eq!((read, written), (Err(AccessError::NotAwaited), Err(AccessError::NotSent)));

    // Nothing is begun without a lease, and nothing of before is sent with the next.
    assert_eq!(world.x2().read_timeout().await, Err(AccessError::NotSent));
    term.send_replace(Term::Endless);
    gate.open();
    assert_eq!(world.x2().read_timeout().await.unwrap(), 86400);
    let spent = fleet.appliance(0).counts() - before;
    assert_eq!((spent.write, spent.login), (0, 0));
}
