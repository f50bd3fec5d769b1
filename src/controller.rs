//! The controllers: watch, gather, decide, act, report.

mod audit;
pub mod claims;
pub mod connection;
pub mod context;
pub mod customer;
pub mod departures;
pub mod endings;
pub mod events;
pub mod gateway;
pub mod governance;
pub mod logins;
pub mod operator;
pub mod origin;
pub mod pace;
pub mod policy;
pub mod reconcile;
pub mod references;
pub mod report;
pub mod request;
pub mod restore;
pub mod rollout;
pub mod server;
pub mod store;
pub mod undecodable;
pub mod watch;
pub mod windows;
pub mod workers;
