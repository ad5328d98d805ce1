//! Simulated hosts: each a network namespace on a common segment, each with [`Networks`] of its own, in one process.

mod hold;
mod lab;
mod local;
mod overlay;
