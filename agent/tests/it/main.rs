//! The agent from outside: a scripted controller, a small registry, real containers.

mod controller;
mod docker_registry;
mod host;
mod image;
mod pull;
mod registry;
mod task;
