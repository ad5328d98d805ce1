//! Moves thought ahead: on a clone of the state, each is over as soon as it is chosen.

use std::collections::BTreeSet;

use swarm_proto::entry::{Action, Group};
use swarm_proto::id::{ServiceId, TaskId, Timestamp};
use swarm_proto::object::{PlannedMove, Service, TaskState, TaskStatus};
use swarm_proto::spec::ServiceMode;

use super::choice::{Choice, choose, may_move};
use super::{crowded, doubt, overloading};
use crate::core::rules::slot::stop_task;
use crate::core::rules::slot::{Next, next_task};
use crate::core::state::{State, Stored};

/// Moves that are told at most.
const MOVES: usize = 200;
/// How many nodes are looked at for an outlook, counted once for each service.
const LOOKS: usize = 2_000_000;

/// What would be moved, as things are now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outlook {
    /// The moves, in the order in which they would be made.
    pub moves: Vec<PlannedMove>,
    /// There are more than are told, or more than were looked for.
    pub more: bool,
    /// Services of which a task is on its way, which are not moved meanwhile: full names.
    pub under_way: Vec<String>,
    /// Why nothing is moved now.
    pub hindrance: Option<String>,
    /// From when on a further move is allowed; `None`: it is now.
    pub room_at: Option<Timestamp>,
}

/// Thinks all moves ahead. Takes time in a large cluster: not for the thread that keeps it alive.
pub fn foresee(state: &State, now: Timestamp) -> Outlook {
    let mut ahead = Ahead::new(state, now);
    let now = ahead.now;
    let is_under_way = |service: &&Stored<Service>| {
        !service.removing && matches!(service.spec.mode, ServiceMode::Replicated { .. })
    };
    let unsettled = state.index.unsettled.iter().filter_map(|id| state.services.get(id));
    let mut outlook = Outlook {
        under_way: unsettled.filter(is_under_way).map(|service| service.name()).collect(),
        hindrance: doubt(state, now).map(|doubt| doubt.why),
        room_at: state.cluster.as_ref().and_then(|known| known.rebalance.room_at(now)),
        ..Outlook::default()
    };
    let mut left = LOOKS;
    loop {
        let before = outlook.moves.len();
        let services: BTreeSet<ServiceId> = crowded(&ahead.state, ServiceId(0)).collect();
        ahead.look(&services, &mut left, &mut outlook);
        if outlook.moves.len() == before {
            let services: BTreeSet<ServiceId> = overloading(&ahead.state).collect();
            ahead.look(&services, &mut left, &mut outlook);
        }
        if outlook.moves.len() == before || outlook.more {
            return outlook;
        }
    }
}

/// See the module.
struct Ahead {
    state: State,
    now: Timestamp,
}

impl Ahead {
    fn new(state: &State, now: Timestamp) -> Self {
        let mut state = state.clone();
        state.clock = state.clock.max(now);
        Self { now: state.clock, state }
    }

    /// Tells the next move of each of these services.
    fn look(&mut self, services: &BTreeSet<ServiceId>, left: &mut usize, outlook: &mut Outlook) {
        for id in services {
            if *left == 0 || outlook.moves.len() == MOVES {
                outlook.more = true;
                return;
            }
            if self.state.services.get(id).is_some_and(|service| may_move(&self.state, service)) {
                *left = left.saturating_sub(self.state.nodes.len());
                outlook.moves.extend(self.step(*id));
            }
        }
    }

    /// Chooses a service's next move.
    fn step(&mut self, service: ServiceId) -> Option<PlannedMove> {
        let service = self.state.services.get(&service)?.clone();
        let choice = choose(&self.state, &service, self.now)?;
        self.carry_out(&service, &choice).then_some(choice.planned)
    }

    fn carry_out(&mut self, service: &Service, choice: &Choice) -> bool {
        let PlannedMove { task: old, to: node, .. } = choice.planned;
        let next = Next::of_version(service.spec_version);
        let next = next_task(&self.state, service, old.slot, next, self.now);
        let Action::AddTask(added) = &next else { return false };
        let task = added.id;
        let resources = choice.resources.clone();
        let Some(known) = self.state.tasks.get(&old) else { return false };
        let actions = vec![
            stop_task(known),
            self.status(old, TaskState::Shutdown),
            next,
            Action::SetTaskAddresses { task, attachments: Vec::new() },
            Action::AssignTask { task, node, resources },
            self.status(task, TaskState::Running),
        ];
        self.state.apply_group(&Group { actions, ..Group::default() }, &mut Vec::new())
    }

    fn status(&self, task: TaskId, state: TaskState) -> Action {
        Action::SetTaskStatus { task, status: Box::new(TaskStatus::new(state, self.now)) }
    }
}
