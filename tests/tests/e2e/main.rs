//! End-to-end tests: the release programs, on hosts of a lab of their own. They need root, and images made by
//! `tests/images/make`. `just e2e` does all of it.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking")]

mod authority;
mod autoscale;
mod bad_input;
mod blue_green;
mod build;
mod buildah;
mod canary;
mod clients;
mod compare_builds;
mod contents;
mod counter;
mod cut_off;
mod doctor;
mod drain;
mod exec;
mod external;
mod faults;
mod health;
mod images;
mod jobs;
mod keys;
mod lab;
mod leftovers;
mod linearizability;
mod network;
mod packaging;
mod priorities;
mod random_failures;
mod rebalance;
mod registry;
mod registry_server;
mod rehearsal;
mod resources;
mod restore;
mod six_hosts;
mod snapshot;
mod tasks;
mod update;
mod volumes;
mod zero;
