//! The controllers: watch, gather, decide, act, report.

mod access;
mod audit;
pub mod claims;
pub mod connection;
pub mod context;
pub mod customer;
pub mod gateway;
pub mod logins;
pub mod operator;
pub mod origin;
pub mod owed;
pub mod policy;
pub mod reconcile;
pub mod references;
pub mod rollout;
pub mod server;
pub mod specs;
mod statuses;
pub mod windows;
