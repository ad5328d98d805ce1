//! Real containers on this host, as root, with a root file system made of one static busybox.

mod support;

mod behaviour;
mod limits;
mod safety;
mod shim;
