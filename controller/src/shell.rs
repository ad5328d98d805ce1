//! Everything with effects: threads, disk, network and the command line around the pure core.

pub mod authority;
pub mod disk;
pub mod disk_thread;
pub mod fatal;
pub mod hub;
pub mod limiter;
pub mod raft_thread;
pub mod refusal;
