//! The agent from outside: a scripted controller, a small registry, real containers.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what it found")]

mod build;
mod build_service;
mod build_steps;
mod builder;
mod controller;
mod docker_registry;
mod exec;
mod faulty;
mod gathering;
mod host;
mod image;
mod networks;
mod pull;
mod push;
mod redirect;
mod registry;
mod registry_server;
mod sharing;
mod sweep;
mod task;
mod usage;
