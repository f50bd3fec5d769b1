//! What tenure's tests and demo need.

#![allow(clippy::expect_used, reason = "a failure here is a bug of the test equipment, never an input")]

pub mod access;
pub mod book;
pub mod canary;
pub mod clock;
pub mod control_plane;
pub mod faults;
mod jwt;
pub mod kona;
pub mod namespace;
pub mod operator;
pub mod pki;
pub mod program;
pub mod proxy;
pub mod raw;
pub mod relay;
pub mod requests;
pub mod server;
pub mod tools;
pub mod x2;
