//! The operator: lets machines in, sends them away, drains nodes, and replaces controllers whose disks broke.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use swarm_controller::core::{Command, CommandDone, Core, State};
use swarm_proto::id::{NodeId, RaftId};
use swarm_proto::object::{Availability, Role};

use crate::client::Who;
use crate::moves;
use crate::violation::demand;
use crate::world::{Happening, World};

/// The most controllers, and the most machines.
const CONTROLLERS: usize = 7;
const MACHINES: usize = 14;

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Availability(NodeId, Availability),
    Join(u64, Role),
    Remove(u64),
    Promote(u64),
    Demote(u64),
    Address(NodeId),
    /// Says whether the cluster moves tasks by itself.
    Moving,
    /// Has tasks moved now.
    Move,
    /// Removes a node of a restored cluster whose machine is gone.
    Forget(NodeId),
}

/// See the module.
#[derive(Default)]
pub(crate) struct Operator {
    steps: VecDeque<Step>,
    drained: Option<NodeId>,
    machines: u64,
}

impl Operator {
    /// Lets machines in, after the first one: so many controllers in all, and so many agents beside them.
    pub(crate) fn build(&mut self, controllers: u64, agents: u64) {
        self.machines = controllers + agents;
        let role = |n: u64| if n <= controllers { Role::Controller } else { Role::Agent };
        self.steps = (2..=self.machines).map(|number| Step::Join(number, role(number))).collect();
    }

    /// A backup was restored, in which this node is drained.
    pub(crate) fn begin_anew(&mut self, drained: Option<NodeId>) {
        self.drained = drained;
        self.steps.clear();
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.steps.is_empty() && self.drained.is_none()
    }
}

impl World {
    /// Takes the next step, or makes up something to do.
    pub(crate) fn see_to_nodes(&mut self) {
        if self.operator.steps.is_empty() {
            self.look_at_nodes();
            self.replace_broken();
        }
        if self.operator.steps.is_empty() {
            if self.faulty {
                self.plan_operation();
            } else if let Some(node) = self.operator.drained {
                self.operator.steps.push_back(Step::Availability(node, Availability::Active));
            }
        }
        let Some(step) = self.operator.steps.front().copied() else { return };
        let command = match step {
            Step::Availability(node, availability) => Command::UpdateNode {
                node: node.to_string(),
                availability: Some(availability),
                set_labels: BTreeMap::new(),
                remove_labels: Vec::new(),
            },
            Step::Join(machine, role) => Command::Join {
                hostname: format!("n{machine}"),
                role,
                controller_address: (role == Role::Controller).then(|| format!("n{machine}:2377")),
            },
            Step::Remove(machine) => {
                let Some(machine) = self.machines.get_mut(&machine) else { return };
                machine.wanted = false;
                Command::RemoveNode { node: machine.agent.node.to_string(), force: true }
            }
            Step::Forget(node) => Command::RemoveNode { node: node.to_string(), force: true },
            Step::Promote(number) => {
                let Some(machine) = self.machines.get(&number) else { return };
                let address = format!("n{number}:2377");
                Command::PromoteNode { node: machine.agent.node, address }
            }
            Step::Demote(machine) => {
                let Some(machine) = self.machines.get_mut(&machine) else { return };
                machine.demoted = true;
                Command::DemoteNode { node: machine.agent.node.to_string() }
            }
            Step::Address(node) => {
                let address = format!("moved{}:2377", self.now);
                Command::SetControllerAddress { node, address }
            }
            Step::Moving => moves::setting(&mut self.random),
            Step::Move => {
                let Some(core) = self.leading_core() else { return };
                moves::begin(core.state())
            }
        };
        self.call(Who::Operator, command);
    }

    /// A command that was refused once may still have been carried out, by a controller that was asked before and was
    /// slow: what counts is the state.
    fn look_at_nodes(&mut self) {
        let cores = self.controllers.values().filter_map(|controller| controller.core.as_ref());
        let states = cores.map(Core::state).filter(|state| state.applied >= self.check.applied);
        let Some(state) = states.max_by_key(|state| state.applied).cloned() else { return };
        let here = |id| self.machines.values().any(|machine| machine.agent.node == id);
        let gone = state.nodes.keys().copied().find(|id| !here(*id));
        self.operator.steps.extend(gone.map(Step::Forget));
        for number in self.machine_numbers() {
            let Some(machine) = self.machines.get_mut(&number).filter(|m| m.wanted) else {
                continue;
            };
            let node = state.nodes.get(&machine.agent.node);
            let raft_id = node.and_then(|node| node.raft_id);
            if node.is_none() {
                machine.wanted = false;
                self.at(0, Happening::LetGo(number));
            } else if raft_id.is_none() && machine.controller.is_some() && !machine.demoted {
                machine.demoted = true;
                self.at(0, Happening::LetGo(number));
            } else if let Some(id) = raft_id.filter(|id| !self.controllers.contains_key(&id.0)) {
                self.add_controller(number, id);
            }
        }
    }

    fn replace_broken(&mut self) {
        let broken =
            self.machines.iter().filter(|(_, machine)| machine.wanted).find(|(_, machine)| {
                let controller = machine.controller.and_then(|id| self.controllers.get(&id));
                controller.is_some_and(|controller| controller.unreadable)
            });
        if let Some(machine) = broken.map(|(number, _)| *number) {
            // Either the whole machine is set up anew, or its controller only.
            self.operator.steps = if self.random.chance(50) {
                [Step::Remove(machine), Step::Join(machine, Role::Controller)].into()
            } else {
                [Step::Promote(machine)].into()
            };
        }
    }

    fn plan_operation(&mut self) {
        let nodes: Vec<NodeId> = self.machines.values().map(|machine| machine.agent.node).collect();
        let Some(node) = self.random.one_of(&nodes).copied() else { return };
        let controllers = self.live_controllers();
        let drained = self.operator.drained;
        match self.random.between(0, 14) {
            0..3 => self.operator.steps.push_back(match drained {
                Some(drained) => Step::Availability(drained, Availability::Active),
                None => Step::Availability(node, Availability::Drain),
            }),
            3 if self.machines.len() < MACHINES => self.plan_join(Role::Agent),
            4 if self.machines.len() < MACHINES && controllers.len() < CONTROLLERS => {
                self.plan_join(Role::Controller);
            }
            5 => {
                let agents = self.machines.iter();
                let agents = agents.filter(|(_, m)| m.wanted && m.controller.is_none());
                let agents = agents.filter(|(_, m)| m.agent.node != self.anchor());
                let agents: Vec<u64> = agents.map(|(number, _)| *number).collect();
                let leaves = self.random.one_of(&agents).copied();
                self.operator.steps.extend(leaves.map(Step::Remove));
            }
            6 | 8 if controllers.len() > 1 && self.is_whole() => {
                let leaves = self.random.one_of(&controllers).copied();
                let leaves = leaves.map(|id| self.controllers[&id].machine);
                let demote = self.random.chance(50);
                let step =
                    |machine| if demote { Step::Demote(machine) } else { Step::Remove(machine) };
                self.operator.steps.extend(leaves.map(step));
            }
            9 if controllers.len() < CONTROLLERS => {
                let agents = self.machines.iter();
                let agents = agents.filter(|(_, m)| m.wanted && m.controller.is_none());
                let agents = agents.filter(|(_, m)| m.agent.node != self.anchor());
                let agents: Vec<u64> = agents.map(|(number, _)| *number).collect();
                let rises = self.random.one_of(&agents).copied();
                self.operator.steps.extend(rises.map(Step::Promote));
            }
            7 => {
                let leaves = self.random.one_of(&controllers).copied();
                let machine =
                    leaves.and_then(|id| self.machines.get(&self.controllers[&id].machine));
                let node = machine.map(|machine| machine.agent.node);
                self.operator.steps.extend(node.map(Step::Address));
            }
            10 => self.ask_for_backup(),
            12 => self.operator.steps.push_back(Step::Moving),
            13 => self.operator.steps.push_back(Step::Move),
            11 if self.random.chance(12) => self.lose_all_controllers(),
            _ => {}
        }
    }

    pub(crate) fn new_machine_number(&mut self) -> u64 {
        self.operator.machines += 1;
        self.operator.machines
    }

    fn plan_join(&mut self, role: Role) {
        let machine = self.new_machine_number();
        self.operator.steps.push_back(Step::Join(machine, role));
    }

    pub(crate) fn operated(&mut self, done: &CommandDone) {
        match (self.operator.steps.pop_front(), done) {
            (Some(Step::Join(machine, role)), CommandDone::Joined { node, raft_id }) => {
                demand(
                    raft_id.is_some() == (role == Role::Controller),
                    "a role is as asked",
                    || node,
                );
                self.add_machine(machine, *node, *raft_id);
                self.did(if role == Role::Controller { "join controller" } else { "join agent" });
            }
            (Some(Step::Remove(machine)), _) => {
                let next = self.operator.steps.front();
                let controller =
                    self.machines.get(&machine).is_some_and(|m| m.controller.is_some());
                if matches!(next, Some(Step::Join(number, _)) if *number == machine) {
                    self.scrap_machine(machine);
                    self.did("replace controller");
                } else {
                    let pause = self.random.between(0, 3_000);
                    self.at(pause, Happening::LetGo(machine));
                    self.did(if controller { "leave controller" } else { "leave agent" });
                    if controller {
                        self.cut_power_soon();
                    }
                }
            }
            (Some(Step::Promote(machine)), CommandDone::Joined { raft_id: Some(id), .. }) => {
                let anew = self.machines.get(&machine).is_some_and(|m| m.controller.is_some());
                self.add_controller(machine, *id);
                self.did(if anew { "replace controller" } else { "promote" });
            }
            (Some(Step::Demote(machine)), _) => {
                self.at(100, Happening::LetGo(machine));
                self.did("demote");
                self.cut_power_soon();
            }
            (Some(Step::Availability(node, availability)), _) => {
                let drains = availability == Availability::Drain;
                self.operator.drained = drains.then_some(node);
                self.did("drain");
            }
            (Some(Step::Address(_)), _) => self.did("change address"),
            (Some(Step::Moving), _) => self.did("set moves"),
            (Some(Step::Move), CommandDone::Moved(moves)) if !moves.is_empty() => {
                self.did("ask for moves");
            }
            (Some(Step::Forget(_)), _) => self.did("forget node"),
            _ => {}
        }
        if !self.operator.steps.is_empty() {
            self.see_to_nodes();
        }
    }

    /// Often a controller loses what it has not synced while the members change: what they agreed on must not be lost.
    fn cut_power_soon(&mut self) {
        if self.random.chance(50) {
            let pause = self.random.between(0, 150);
            self.at(pause, Happening::Trap);
        }
    }

    pub(crate) fn operation_refused(&mut self) {
        for step in std::mem::take(&mut self.operator.steps) {
            match step {
                Step::Remove(machine) => {
                    if let Some(machine) = self.machines.get_mut(&machine) {
                        machine.wanted = true;
                    }
                }
                Step::Demote(machine) => {
                    if let Some(machine) = self.machines.get_mut(&machine) {
                        machine.demoted = false;
                    }
                }
                // The node has left meanwhile.
                Step::Availability(..) => self.operator.drained = None,
                Step::Join(..)
                | Step::Promote(_)
                | Step::Address(_)
                | Step::Forget(_)
                | Step::Moving
                | Step::Move => {}
            }
        }
    }

    /// Whether no controller's disk is broken or being replaced.
    fn is_whole(&self) -> bool {
        let members = self.machines.values().filter_map(|machine| machine.controller);
        members.into_iter().all(|id| !self.controllers[&id].flipped)
    }

    /// Whether one controller may be lost for good now.
    pub(crate) fn can_do_without_one(&self) -> bool {
        let busy = !self.operator.steps.is_empty() || self.calls.contains_key(&Who::Operator);
        let live: BTreeSet<RaftId> = self.live_controllers().into_iter().map(RaftId).collect();
        // Everybody must know who the members are: one that lags could wait for the vote of the lost one for ever.
        let knows_members = |id: &RaftId| {
            self.controllers[&id.0].core.as_ref().is_some_and(|core| {
                let members = core.status().members;
                members.learners.is_empty()
                    && members.voters.iter().copied().collect::<BTreeSet<_>>() == live
                    && wanted_members(core.state()) == live
            })
        };
        !busy && live.len() >= 3 && live.iter().all(knows_members) && self.is_whole()
    }

    /// Whether the group's members are those that the operator wants.
    pub(crate) fn members_are_as_wished(&self) -> bool {
        let live: BTreeSet<RaftId> = self.live_controllers().into_iter().map(RaftId).collect();
        self.leading_core().is_some_and(|core| {
            let members = core.status().members;
            members.learners.is_empty()
                && members.voters.into_iter().collect::<BTreeSet<_>>() == live
        })
    }

    pub(crate) fn leading_core(&self) -> Option<&Core> {
        let cores = self.controllers.values().filter_map(|controller| controller.core.as_ref());
        let leaders = cores.map(|core| (core, core.status())).filter(|(_, status)| status.leading);
        leaders.max_by_key(|(_, status)| status.term).map(|(core, _)| core)
    }
}

fn wanted_members(state: &State) -> BTreeSet<RaftId> {
    state.nodes.values().filter_map(|node| node.raft_id).collect()
}
