//! Everything with effects: threads, disk, network and the command line around the pure core.

pub mod address;
pub mod cli;
pub mod control_service;
pub mod controller;
pub mod disk;
pub mod disk_thread;
pub mod dispatcher;
pub mod fatal;
pub mod hub;
pub mod images;
pub mod join_service;
pub mod limiter;
pub mod local_service;
pub mod logs;
pub mod peers;
pub mod raft_service;
pub mod raft_thread;
pub mod read;
pub mod refusal;
pub mod server;
pub mod setup;
pub mod status;
pub mod upkeep;
pub mod watch;
pub mod write;
