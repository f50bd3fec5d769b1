//! The remote systems: HTTP, sessions, and the two vendors' calls.

pub mod address;
pub mod admission;
pub mod ca;
mod client;
pub mod credentials;
mod diagnosis;
mod dial;
pub mod endpoint;
pub mod http;
pub mod jwt;
pub mod kona;
pub mod limits;
pub mod login;
mod names;
mod recent;
pub mod remotes;
pub mod sessions;
mod shares;
pub mod slots;
pub mod spelling;
mod tls;
pub mod wire;
pub mod x2;
