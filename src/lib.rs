//! Token lifetimes of network equipment as Kubernetes resources.
//!
//! Each object takes the same road: its inputs are gathered, a pure rule decides, the decision is carried out, and the
//! outcome is reported.
//!
//! ```text
//! watch ──► queue ──► gather ──► decide ──► act ──► report ──► requeue
//!                     (I/O)      (pure)     (I/O)   (status, events, metrics)
//!
//! watch    runtime::watch keeps a runtime::store per kind up to date with the API server
//! queue    runtime::workers reconciles what is due, one object at a time
//! gather   runtime::secrets, controller::{references, connection}, engine::governance: Secrets, policies, the remote value
//! decide   engine::{gateway, customer, rollout}: the next step, or a verdict
//! act      vendor::{x2, kona}: one request, past the limits, slots and the lease's fence
//! report   engine::conditions, runtime::{status, events}: what a user sees
//! ```
//!
//! - [`crd`]: the four kinds that users declare.
//! - [`engine`]: the rules and the words: every decision, condition and reason. No I/O, no clock.
//! - [`vendor`]: the remote systems.
//! - [`runtime`]: the Kubernetes machinery: watches, stores, the queue, writes of statuses and finalizers, events.
//! - [`controller`]: gathers, acts and reports, for each kind.
//! - [`leader`]: which of several replicas is active.
//! - [`cli`]: the commands.
//! - [`admin`], [`metrics`], [`telemetry`]: health, metrics, logs and traces of the operator itself.
//! - [`clock`]: the one place that reads the time.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod crd;
pub mod engine;
pub mod leader;
pub mod metrics;
pub mod runtime;
pub mod telemetry;
pub mod vendor;
