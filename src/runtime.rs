//! The Kubernetes machinery: what any operator needs, whatever its kinds are and whatever it does with them.
//!
//! [`watch`] fills a [`store`] per kind, [`workers`] reconciles one object after the other, [`status`] and [`finalizers`] write
//! what came of it. It knows no kind and no remote system: a kind says by [`object::Reported`] what its status looks like, and by
//! [`reconcile::Reconciled`] how it is reconciled.

pub mod cluster;
pub mod counts;
pub mod deletions;
pub mod events;
pub mod finalizers;
pub mod namespaces;
pub mod object;
pub(crate) mod out_of_scope;
pub mod outages;
pub mod reconcile;
pub mod restore;
pub mod secrets;
pub(crate) mod single_flight;
pub mod status;
pub mod store;
pub mod undecodable;
pub mod watch;
pub(crate) mod workers;
pub mod writer;
