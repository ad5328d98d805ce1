//! The command line against a controller that says what a test tells it. `UPDATE_EXPECT=1` rewrites the goldens.
#![expect(clippy::unwrap_used, reason = "tests may panic")]
#![expect(clippy::needless_raw_string_hashes, reason = "as expect-test writes them")]

mod autoscale;
mod backup;
mod build;
mod ca;
mod cluster;
mod commands;
mod config;
mod contents;
mod convergence;
mod deploy;
mod doctor;
mod exec;
mod external;
mod fake;
mod job_views;
mod lock;
mod members;
mod objects;
mod priorities;
mod program;
mod rebalance;
mod remote;
mod swarm_flags;
mod terminal;
mod token;
mod views;
