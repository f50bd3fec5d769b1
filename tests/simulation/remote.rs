//! The remote systems in memory: X2 appliances and Kona servers with their faults, and the operator's way to them.

mod accounts;
mod call;
mod fields;
mod internet;
mod kona;
mod mood;
mod wire;
mod x2;

pub use accounts::Role;
pub use call::Effect;
pub use fields::Fields;
pub use internet::{Asked, Device, Entry, Internet, State, System, What};
pub use kona::{Make, Server, customer, token_ttls};
pub use mood::{Course, Mood};
pub use wire::Line;
pub use x2::Appliance;
