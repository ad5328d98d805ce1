//! The control plane of a swarm.

pub mod core;
