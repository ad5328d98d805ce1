//! Between domain types and the messages that carry them: `From<&Domain> for wire::X` never fails,
//! `TryFrom<wire::X> for Domain` refuses what the domain type cannot hold and names the field.
//!
//! ```
//! use swarm_proto::{object, wire};
//!
//! let vip = object::Vip { network: swarm_proto::id::NetworkId(7), address: [10, 0, 0, 2].into() };
//! let message = wire::Vip::from(&vip);
//! assert_eq!(object::Vip::try_from(message), Ok(vip));
//! ```

mod assignment;
mod autoscale;
mod canary;
mod change;
mod container;
mod content;
mod entry;
mod enums;
mod fields;
mod health;
mod image;
mod isolation;
mod job;
mod network;
mod node_loss;
mod object;
mod placement;
mod rebalance;
mod registry;
mod resource;
mod spec;
mod task;
mod update;

#[cfg(test)]
mod tests;

pub use fields::{ConvertError, Fields};
pub use fields::{addresses, each, mac_number, milliseconds, prefix};
