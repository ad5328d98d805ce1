//! Runs the tasks of one host: gets what a controller assigns, makes it true, reports what became of it.

mod clock;
pub mod config;
mod durable;
pub mod executor;
pub mod image;
pub mod journal;
pub mod names;
pub mod network;
pub mod preflight;
pub mod step;
#[cfg(test)]
mod testing;
mod tree;
pub mod volume;
