//! Agents and their sessions.

use std::collections::BTreeMap;

use swarm_controller::core::{FromAgent, Input, ToAgent};
use swarm_proto::assignment::TaskAssignment;

use crate::machine::Machine;
use crate::violation::demand;
use crate::world::{Happening, World};

/// Milliseconds between two looks of an agent at its tasks.
const STEP: u64 = 100;
/// Milliseconds without a word after which an agent takes its session for dead.
const SILENCE: u64 = 5_000;

/// A stream between an agent and a controller.
pub(crate) struct Session {
    pub(crate) machine: u64,
    pub(crate) controller: u64,
    /// The process of the controller that holds it.
    pub(crate) run: u64,
    pub(crate) last_down: u64,
    pub(crate) last_up: u64,
}

impl World {
    /// The stream breaks: the agent knows at once, the controller only when it can be told.
    pub(crate) fn end_session(&mut self, id: u64) {
        let Some(session) = self.sessions.remove(&id) else { return };
        let Some(machine) = self.machines.get_mut(&session.machine) else { return };
        if machine.agent.session == Some(id) {
            machine.agent.disconnect();
        }
    }

    /// Both ends of a session that lives; one that the network cuts is over.
    fn living_session(&mut self, id: u64) -> Option<(u64, u64)> {
        let session = self.sessions.get(&id)?;
        let (machine, controller, run) = (session.machine, session.controller, session.run);
        let host = self.controllers.get(&controller)?;
        if !self.network.is_open_both_ways(machine, host.machine) || host.run != run {
            self.end_session(id);
            return None;
        }
        Some((machine, controller))
    }

    pub(crate) fn tell_agent(&mut self, id: u64, message: ToAgent) {
        let now = self.now;
        let Some((machine, _)) = self.living_session(id) else { return };
        let Some(machine) = self.machines.get_mut(&machine) else { return };
        if machine.agent.session == Some(id) {
            machine.agent.receive(message, now);
        }
    }

    pub(crate) fn hear_agent(&mut self, id: u64, message: FromAgent) {
        if let Some((_, controller)) = self.living_session(id) {
            self.input(controller, Input::SessionMessage { session: id, message });
        }
    }

    pub(crate) fn agent_step(&mut self, number: u64, run: u64) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&number) else { return };
        let agent = &mut machine.agent;
        if agent.run != run || !machine.on {
            return;
        }
        match agent.session {
            None => {
                agent.step_alone(now, &mut self.random);
                self.connect(number);
            }
            Some(session) if now > agent.heard + SILENCE => {
                agent.disconnect();
                if let Some((_, controller)) = self.living_session(session) {
                    self.input(controller, Input::SessionClosed { session });
                }
                self.sessions.remove(&session);
            }
            Some(session) => {
                let reports = agent.step(now, self.faulty, &mut self.random);
                let withdrawn = std::mem::take(&mut agent.withdrawn);
                let starts = std::mem::take(&mut agent.started);
                if starts {
                    self.look_at_containers();
                }
                for task in &withdrawn {
                    self.look_at_withdrawn(task, session);
                }
                for report in reports {
                    self.agent_says(session, report);
                }
            }
        }
        self.at(STEP, Happening::AgentStep { machine: number, run });
    }

    fn connect(&mut self, number: u64) {
        let Some(controller) = self.ask_whom() else { return };
        let host = &self.controllers[&controller];
        if !self.network.is_open_both_ways(number, host.machine) || host.paused_until > self.now {
            return;
        }
        self.next_session += 1;
        let id = self.next_session;
        let run = host.run;
        let now = self.now;
        let session = Session { machine: number, controller, run, last_down: now, last_up: now };
        self.sessions.insert(id, session);
        let agent = &mut self.machines.get_mut(&number).unwrap().agent;
        agent.session = Some(id);
        agent.heard = now;
        let (hello, node) = (agent.hello(), agent.node);
        self.input(controller, Input::SessionOpened { session: id, node });
        self.agent_says(id, hello);
    }

    /// Two containers of one slot: the older one was lost with its node, or the newer one may run beside it.
    fn look_at_pair(&self, one: &TaskAssignment, other: &TaskAssignment) {
        let is_older = one.id.generation < other.id.generation;
        let (older, newer) = if is_older { (one, other) } else { (other, one) };
        if self.check.may_overlap(older.id, newer.id) {
            return;
        }
        let (first, second) = (older.id, newer.id);
        demand(older.lease.is_none(), "what stops when cut off never runs twice", || {
            format!("{first} and {second} run")
        });
        let lost = self.check.was_lost(first);
        demand(lost, "a slot has two containers only while a node is cut off", || {
            format!("{first} and {second} run, and {first} was not lost")
        });
    }

    /// What containers hold in truth, whatever the state says.
    fn look_at_containers(&self) {
        let mut slots = BTreeMap::new();
        let mut places = BTreeMap::new();
        // What hosts have from after a backup is not known to who restored it, until they come back.
        let told = |machine: &&Machine| machine.wanted && !machine.agent.is_stale;
        let wanted = self.machines.values().filter(told);
        let now = self.now;
        for task in wanted.clone().flat_map(|machine| machine.agent.containers(now)) {
            let others: &mut Vec<&TaskAssignment> =
                slots.entry((task.id.service, task.id.slot)).or_default();
            for other in others.iter() {
                self.look_at_pair(other, task);
            }
            others.push(task);
            for place in &task.attachments {
                let key = (place.network, place.address);
                let other = places.insert(key, (task.id, place.mac));
                demand(other.is_none(), "an address has one container", || {
                    format!("{other:?} and {} have {key:?}", task.id)
                });
            }
        }
        for machine in wanted {
            for (network, peer) in machine.agent.peers() {
                let Some((task, mac)) = places.get(&(network, peer.address)) else { continue };
                demand(
                    *mac == peer.mac,
                    "an address is free once every node has forgotten it",
                    || {
                        let (agent, address) = (machine.agent.node, peer.address);
                        format!(
                            "{task} has {address} of network {network}, node {agent} leads elsewhere"
                        )
                    },
                );
            }
        }
    }
}
