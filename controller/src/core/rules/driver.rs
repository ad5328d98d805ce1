//! A pass: all rules in turn on a clone of the state, again and again until none wants anything.

use swarm_proto::entry::Group;
use swarm_proto::id::Timestamp;

use super::{Observed, RULES};
use crate::core::state::State;

/// Rounds in one pass; what is left then comes with the next pass.
const ROUNDS: usize = 12;
/// Actions in one pass: they travel as one entry of the log.
const ACTIONS: usize = 2_000;

/// What a pass came to.
#[derive(Debug, Default)]
pub struct Pass {
    /// All groups, in the order in which they were applied to the clone.
    pub groups: Vec<Group>,
    /// When to look again though nothing changes.
    pub wake_at: Option<Timestamp>,
    /// Whether the rules were content in the end.
    pub complete: bool,
    /// The clone after the pass.
    pub state: State,
}

/// Runs a pass.
pub fn pass(state: &State, observed: &Observed, now: Timestamp) -> Pass {
    let mut clone = state.clone();
    clone.version += 1;
    clone.clock = clone.clock.max(now);
    let now = clone.clock;
    let mut pass = Pass::default();
    let mut actions = 0;
    for _ in 0..ROUNDS {
        let mut planned = false;
        pass.wake_at = None;
        for rule in RULES {
            let plan = rule(&clone, observed, now);
            pass.wake_at = pass.wake_at.into_iter().chain(plan.wake_at).min();
            for group in plan.groups {
                if actions >= ACTIONS {
                    break;
                }
                // What a new release plans waits until all controllers understand it.
                if group.needs() <= clone.cluster_version
                    && clone.apply_group(&group, &mut Vec::new())
                {
                    planned = true;
                    actions += group.actions.len();
                    pass.groups.push(group);
                }
            }
        }
        if !planned {
            pass.complete = true;
            break;
        }
        if actions >= ACTIONS {
            break;
        }
    }
    pass.state = clone;
    pass
}
