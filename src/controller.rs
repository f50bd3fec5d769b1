//! The controllers: watch, gather, decide, act, report.

mod audit;
pub mod claims;
pub mod connection;
pub mod context;
pub mod customer;
pub mod gateway;
pub mod governance;
pub mod logins;
pub mod operator;
pub mod origin;
pub mod owed;
pub mod policy;
pub mod reconcile;
pub mod references;
pub mod request;
pub mod rollout;
pub mod server;
mod statuses;
pub mod windows;
