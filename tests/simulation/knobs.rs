//! What may happen in a schedule. Few things at once are easier to understand; so each seed draws some of them.

use crate::seed::{Seed, Shape};

/// What a schedule has and does.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct Knobs {
    pub shape: Shape,
    /// Most gateways and customers.
    pub gateways: usize,
    pub customers: usize,
    pub servers: bool,
    pub restore: bool,
    pub revoke: bool,
    pub rollout: bool,
    pub windows: bool,
    /// Labels change, and with them the policy in force.
    pub relabel: bool,
    pub edits: bool,
    pub suspends: bool,
    pub rotations: bool,
    pub deletions: bool,
    pub urls: bool,
    /// Factory resets and lost tokens.
    pub resets: bool,
    /// Other writers of the same values.
    pub foreign: bool,
    /// Faults of remote systems.
    pub moods: bool,
    /// Faults and latency of the API server.
    pub api_faults: bool,
    /// Admission refuses what the operator writes.
    pub denials: bool,
    /// Watches that hear nothing, break, or have to list again.
    pub gaps: bool,
    pub crashes: bool,
    /// Something happens in the middle of a call.
    pub interrupts: bool,
    /// A second replica, and pauses.
    pub replicas: bool,
    pub requests: bool,
    /// A user loses its role for a while.
    pub demotions: bool,
    /// A second resource with the URL of another.
    pub clashes: bool,
    /// A policy's rollout waits for a person after its canaries.
    pub approval: bool,
    /// The operator sees only objects with a label, which some lose.
    pub scope: bool,
    /// Users of customers prove their lifetimes.
    pub verify: bool,
    /// A second namespace, which ends and comes back, and which processes see or not.
    pub namespaces: bool,
    /// The API server is slow with statuses alone.
    pub slow_statuses: bool,
    /// Servers get another URL.
    pub server_urls: bool,
    /// A process may also crash when the answer of the API server is due.
    pub unheard: bool,
}

impl Knobs {
    /// Everything that is switched on.
    pub const ALL: Self = Self {
        shape: Shape::Short,
        gateways: 6,
        customers: 4,
        servers: true,
        restore: true,
        revoke: true,
        rollout: true,
        windows: true,
        relabel: true,
        edits: true,
        suspends: true,
        rotations: true,
        deletions: true,
        urls: true,
        resets: true,
        foreign: true,
        moods: true,
        api_faults: true,
        denials: true,
        gaps: true,
        crashes: true,
        interrupts: true,
        replicas: true,
        requests: true,
        demotions: true,
        clashes: true,
        approval: true,
        scope: true,
        verify: true,
        namespaces: true,
        slow_statuses: true,
        server_urls: true,
        unheard: true,
    };

    /// Nothing happens by itself.
    pub const NONE: Self = Self {
        shape: Shape::Long,
        gateways: 1,
        customers: 1,
        servers: false,
        restore: false,
        revoke: false,
        rollout: false,
        windows: false,
        relabel: false,
        edits: false,
        suspends: false,
        rotations: false,
        deletions: false,
        urls: false,
        resets: false,
        foreign: false,
        moods: false,
        api_faults: false,
        denials: false,
        gaps: false,
        crashes: false,
        interrupts: false,
        replicas: false,
        requests: false,
        demotions: false,
        clashes: false,
        approval: false,
        scope: false,
        verify: false,
        namespaces: false,
        slow_statuses: false,
        server_urls: false,
        unheard: false,
    };

    /// Draws some.
    pub fn draw(seed: Seed, rng: &mut fastrand::Rng) -> Self {
        let shape = seed.shape;
        let (most, is_long) = (Self::ALL, shape == Shape::Long);
        // In some schedules nearly everything happens, in others one or two things.
        let eagerness = rng.u8(10..70);
        // What came later leaves to all others what they always drew.
        let mut later = fastrand::Rng::with_seed(rng.clone().u64(..));
        let mut late = |possible: bool| later.u8(0..100) < eagerness / 2 && possible;
        let mut on = |possible: bool| rng.u8(0..100) < eagerness && possible;
        Self {
            shape,
            gateways: shape.sizes().0,
            customers: shape.sizes().1,
            servers: on(most.servers),
            restore: on(most.restore),
            revoke: on(most.revoke),
            rollout: on(most.rollout),
            windows: on(most.windows),
            relabel: on(most.relabel),
            edits: on(most.edits),
            suspends: on(most.suspends),
            rotations: on(most.rotations),
            deletions: on(most.deletions),
            urls: on(most.urls),
            resets: on(most.resets),
            foreign: on(most.foreign),
            moods: on(most.moods),
            api_faults: on(most.api_faults),
            denials: on(most.denials),
            gaps: on(most.gaps),
            crashes: on(most.crashes),
            interrupts: on(most.interrupts),
            // A second replica costs as much time as three schedules without.
            replicas: on(most.replicas) && on(true) && (is_long || on(true)),
            requests: on(most.requests),
            // Long ones were there before these: they draw what they always drew.
            demotions: !is_long && on(most.demotions),
            clashes: !is_long && on(most.clashes),
            approval: !is_long && on(true) && most.approval && most.rollout,
            scope: !is_long && on(most.scope),
            verify: !is_long && late(most.verify),
            namespaces: !is_long && late(most.namespaces),
            slow_statuses: seed.is_latest() && late(most.slow_statuses),
            server_urls: seed.is_latest() && late(most.server_urls),
            unheard: seed.is_latest() && late(most.unheard),
        }
    }
}
