//! What tenure's tests and demo need.

#![allow(clippy::expect_used, reason = "a failure here is a bug of the test equipment, never an input")]

#[cfg(feature = "cluster")]
pub mod access;
#[cfg(feature = "cluster")]
pub mod book;
pub mod canary;
pub mod clock;
#[cfg(feature = "cluster")]
pub mod control_plane;
pub mod faults;
mod jwt;
pub mod kona;
#[cfg(feature = "cluster")]
pub mod memory;
#[cfg(feature = "cluster")]
pub mod namespace;
#[cfg(feature = "cluster")]
pub mod operator;
pub mod pki;
#[cfg(feature = "cluster")]
pub mod program;
pub mod proxy;
pub mod raw;
#[cfg(feature = "cluster")]
pub mod relay;
pub mod requests;
pub mod server;
#[cfg(feature = "cluster")]
pub mod tools;
#[cfg(feature = "cluster")]
pub mod webhook;
pub mod x2;
