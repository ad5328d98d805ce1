//! Real controllers as processes on loopback: they form a cluster, serve, are killed, and keep what they acknowledged.

mod agent;
mod faults;
mod forming;
mod host;
