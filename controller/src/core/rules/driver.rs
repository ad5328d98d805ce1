//! A pass: all rules in turn on a clone of the state, again and again until none wants anything, nor the last ones.

use swarm_proto::entry::Group;
use swarm_proto::id::Timestamp;

use super::{LAST_RULES, Observed, RULES, Rule};
use crate::core::state::{Event, State};

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
    /// The clone after the pass: what a state becomes by an entry of these groups.
    pub state: State,
    /// What such an entry tells.
    pub events: Vec<Event>,
}

/// Runs a pass.
pub fn pass(state: &State, observed: &Observed, now: Timestamp) -> Pass {
    let mut pass = Pass { state: state.clone(), ..Pass::default() };
    pass.state.begin_entry(now);
    for _ in 0..ROUNDS {
        pass.wake_at = None;
        let mut last = LAST_RULES.iter();
        if !pass.follow(&RULES, observed) && !last.any(|rule| pass.follow(&[*rule], observed)) {
            pass.complete = true;
            break;
        }
        if pass.actions() >= ACTIONS {
            break;
        }
    }
    pass.state.end_entry();
    pass
}

impl Pass {
    /// Does what rules want, one after the other, and says whether that was anything.
    fn follow(&mut self, rules: &[Rule], observed: &Observed) -> bool {
        let mut planned = false;
        let mut actions = self.actions();
        for rule in rules {
            let plan = rule(&self.state, observed, self.state.clock);
            self.wake_at = self.wake_at.into_iter().chain(plan.wake_at).min();
            for group in plan.groups {
                if actions >= ACTIONS {
                    break;
                }
                // What a new release plans waits until all controllers understand it.
                if group.needs() <= self.state.cluster_version
                    && self.state.apply_group(&group, &mut self.events)
                {
                    self.state.note_group(true);
                    planned = true;
                    actions += group.actions.len();
                    self.groups.push(group);
                }
            }
        }
        planned
    }

    fn actions(&self) -> usize {
        self.groups.iter().map(|group| group.actions.len()).sum()
    }
}
