//! The words on every wire and disk.
//!
//! Hand-written domain types ([`id`], [`spec`], [`object`], [`assignment`]) are what state, rules and steps
//! work with; the generated messages in [`wire`] carry them. Each domain type that travels has
//! `From<&Domain> for wire::Message` and `TryFrom<wire::Message> for Domain` in [`convert`].

pub mod assignment;
#[cfg(feature = "transport")]
pub mod backup;
pub mod build;
pub mod convert;
#[cfg(feature = "transport")]
pub mod docker_config;
pub mod entry;
pub mod exec;
pub mod failure;
pub mod id;
pub mod object;
#[cfg(feature = "transport")]
pub mod rehearsal;
pub mod schedule;
#[cfg(feature = "transport")]
pub mod sealing;
pub mod spec;
#[cfg(test)]
mod strategies;
pub mod template;
#[cfg(feature = "transport")]
pub mod transport;
pub mod version;
pub mod wire;
