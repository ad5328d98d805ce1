//! The control plane of a swarm.

pub mod config;
pub mod core;
pub mod shell;
