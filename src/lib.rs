//! Token lifetimes of network equipment as Kubernetes resources.

pub mod crd;
pub mod engine;
