//! Token lifetimes of network equipment as Kubernetes resources.

pub mod clock;
pub mod crd;
pub mod engine;
pub mod metrics;
pub mod vendor;
