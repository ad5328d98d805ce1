//! What should be done, as pure functions of the state. A rule is told nothing about what changed: it reads the
//! indexes, and on a state that it is content with it plans nothing.

pub mod allocate;
pub mod authority;
pub mod autoscale;
pub mod command;
pub mod content;
mod dependency;
pub mod deploy;
pub mod drain;
pub mod driver;
pub mod forecast;
pub mod globalize;
pub mod image;
pub mod jobs;
pub mod liveness;
mod moves;
mod name;
pub mod network;
pub mod node;
pub mod observed;
pub mod prune;
pub mod quorum;
pub mod reap;
pub mod rebalance;
mod registry;
pub mod replicate;
pub mod restart;
pub mod schedule;
mod service;
mod slot;
pub mod teardown;
pub mod update;
pub mod volume;

use swarm_proto::entry::{Action, Counter, Expect, Group, ObjectId};
use swarm_proto::id::Timestamp;

use super::state::State;
pub(crate) use node::name_of;
pub use observed::Observed;

/// What a rule wants done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Groups of actions, in order.
    pub groups: Vec<Group>,
    /// When to look again though nothing changes.
    pub wake_at: Option<Timestamp>,
}

/// A rule.
pub type Rule = fn(&State, &Observed, Timestamp) -> Plan;

/// The rules of a pass, in order.
pub const RULES: [Rule; 15] = [
    liveness::plan,
    drain::plan,
    teardown::plan,
    jobs::plan,
    globalize::plan,
    autoscale::plan,
    replicate::plan,
    update::plan,
    restart::plan,
    allocate::plan,
    schedule::plan,
    prune::plan,
    reap::plan,
    content::plan,
    authority::plan,
];

/// What is done only once all rules before it are content: who takes another's place must need it, and what moves must not
/// go where others are about to go.
pub const LAST_RULES: [Rule; 2] = [schedule::preempt::plan, rebalance::plan];

impl Plan {
    /// Adds actions that belong together, on the condition that these objects' counters still show what was read.
    fn add(&mut self, state: &State, read: &[(ObjectId, Counter)], actions: Vec<Action>) {
        let expect = |(object, counter): &(ObjectId, Counter)| Expect {
            object: object.clone(),
            counter: *counter,
            version: state.version_of(object, *counter),
        };
        let expect = read.iter().map(expect).collect();
        self.groups.push(Group { expect, actions, request: None });
    }

    /// Looks again at this time, or earlier.
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}
