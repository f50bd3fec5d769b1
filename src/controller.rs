//! The controllers: watch, gather, decide, act, report.

#![allow(unreachable_pub, reason = "what a module here offers is for the others here")]

mod access;
mod audit;
pub(crate) mod claims;
pub mod connection;
mod controllers;
pub(crate) mod customer;
pub(crate) mod gateway;
pub(crate) mod logins;
pub mod operator;
mod planning;
pub(crate) mod policy;
pub(crate) mod reconcile;
pub(crate) mod references;
mod regimes;
pub(crate) mod requests;
pub(crate) mod rollout;
pub(crate) mod server;
pub(crate) mod specs;
mod statuses;
pub(crate) mod uses;
