//! Real controllers as processes on loopback: they form a cluster, serve, are killed, and keep what they acknowledged.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod access;
mod agent;
mod asking;
mod authority;
mod backup;
mod building;
mod faults;
mod forming;
mod host;
mod leaving;
mod lock;
mod membership;
mod registry;
mod released;
mod renewal;
mod room;
mod secrets;
mod status;
