//! Real containers on this host, as root, with a root file system made of one static busybox.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

mod behaviour;
mod exec;
mod fence;
mod limits;
mod safety;
mod shim;
