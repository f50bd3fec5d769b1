//! Token lifetimes of network equipment as Kubernetes resources.
//!
//! Each object takes the same road: what concerns it is gathered, a pure rule decides, the decision is carried out, and
//! what came of it is reported.
//!
//! - [`crd`]: the four kinds that users declare.
//! - [`engine`]: the rules. No I/O, no clock.
//! - [`vendor`]: the remote systems.
//! - [`controller`]: watches, gathers, acts and reports.
//! - [`leader`]: which of several replicas works.
//! - [`cli`]: the commands.
//! - [`admin`], [`metrics`], [`telemetry`]: what the operator shows of itself.
//! - [`clock`]: the one place that asks for the time.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod crd;
pub mod engine;
pub mod leader;
pub mod metrics;
pub mod telemetry;
pub mod vendor;
