//! Runs the tasks of one host: gets what a controller assigns, makes it true, reports what became of it.

pub mod board;
pub mod build;
pub mod cli;
mod clock;
pub mod config;
mod content;
pub mod controllers;
pub mod description;
mod durable;
pub mod exec;
pub mod executor;
pub mod health;
pub mod image;
pub mod image_service;
pub mod incarnation;
pub mod inspection;
pub mod journal;
pub mod lease;
pub mod locator;
pub mod log;
pub mod names;
pub mod network;
pub mod preflight;
pub mod resources;
pub mod run;
pub mod server;
pub mod session;
pub mod simulation;
pub mod step;
mod sys;
#[cfg(test)]
mod testing;
mod tree;
pub mod usage;
pub mod view;
pub mod volume;
pub mod worker;
