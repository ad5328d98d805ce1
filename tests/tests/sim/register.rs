//! Clients that write and read a few registers (labels of one node), and what they heard. In the end there must be an
//! order that explains every answer.

use std::collections::BTreeMap;

use swarm_controller::core::{Command, Input, State};
use swarm_tests::linearizability::{self, Answer as Heard, History, Operation, Register, Request};
use swarm_tests::linearizability::{Verdict, narrow};

use crate::client::{Answer, Who};
use crate::violation::violated;
use crate::world::{Happening, World};

const REGISTERS: u64 = 3;
/// Clients from here on ask once.
const ONCE: usize = 1_000;
/// Steps of the search for an order.
const LIMIT: u64 = 3_000_000;

/// See the module.
#[derive(Default)]
pub(crate) struct Registers {
    history: History<Register>,
    /// What each client waits for: an operation, until when, and the token of a read.
    waits: BTreeMap<usize, Wait>,
    moments: u64,
    values: u64,
}

struct Wait {
    operation: usize,
    until: u64,
    token: Option<u64>,
}

/// The registers' names.
fn keys() -> impl Iterator<Item = String> {
    (0..REGISTERS).map(|register| format!("register{register}"))
}

impl Registers {
    fn moment(&mut self) -> u64 {
        self.moments += 1;
        self.moments
    }

    fn begin(&mut self, client: usize, key: String, request: Request) -> usize {
        let called = self.moment();
        let client = client as u64;
        let operation = Operation { client, key, request, answer: None, called, returned: None };
        self.history.push(operation);
        self.history.len() - 1
    }

    fn end(&mut self, client: usize, answer: Heard) {
        let Some(wait) = self.waits.remove(&client) else { return };
        let moment = self.moment();
        self.history[wait.operation].answer = Some(answer);
        self.history[wait.operation].returned = Some(moment);
    }

    /// Begins to read all of them at once.
    pub(crate) fn begin_to_read_all(&mut self) -> Vec<usize> {
        let read = |key| self.begin(self.history.len() + ONCE, key, Request::Read);
        keys().map(read).collect()
    }

    /// What all of them were found to hold.
    pub(crate) fn end_to_read_all(&mut self, operations: Vec<usize>, held: Vec<Option<u64>>) {
        let moment = self.moment();
        for (operation, value) in operations.into_iter().zip(held) {
            self.history[operation].answer = Some(Heard::Holds(value));
            self.history[operation].returned = Some(moment);
        }
    }

    /// A backup was restored, in which they hold this. What was heard before is looked at, and another history begins.
    pub(crate) fn begin_anew(&mut self, held: Vec<Option<u64>>) {
        let next = Self { values: self.values, ..Self::default() };
        std::mem::replace(self, next).look();
        for (key, value) in keys().zip(held) {
            let Some(value) = value else { continue };
            let operation = self.begin(ONCE, key, Request::Write(value));
            let moment = self.moment();
            self.history[operation].answer = Some(Heard::Done);
            self.history[operation].returned = Some(moment);
        }
    }

    /// Looks for the order; what the registers hold in the end is read once more.
    pub(crate) fn check(mut self, held: Vec<Option<u64>>) {
        let operations = self.begin_to_read_all();
        self.end_to_read_all(operations, held);
        self.look();
    }

    fn look(mut self) {
        narrow(&mut self.history);
        match linearizability::check::<Register>(&self.history, LIMIT) {
            Verdict::Linearizable => {}
            Verdict::Violation(violation) => {
                violated("clients' histories are linearizable", format!("{violation:#?}"))
            }
            Verdict::Undecided { key } => violated("an order is found in time", key),
        }
    }
}

impl World {
    /// What all registers hold in a state.
    pub(crate) fn registers_in(&self, state: &State) -> Vec<Option<u64>> {
        keys().map(|key| self.register(state, &key)).collect()
    }

    /// What a register holds in a state.
    fn register(&self, state: &State, key: &str) -> Option<u64> {
        let anchor = state.nodes.get(&self.anchor())?;
        anchor.labels.get(key)?.parse().ok()
    }

    pub(crate) fn write_or_read(&mut self, client: usize) {
        let who = Who::Writer(client);
        let now = self.now;
        if let Some(wait) = self.registers.waits.get(&client) {
            if wait.until <= now {
                // Nobody knows whether it was done, or will be.
                self.registers.waits.remove(&client);
                self.calls.remove(&who);
            }
            return;
        }
        if !self.faulty {
            return;
        }
        let key = format!("register{}", self.random.between(0, REGISTERS));
        let until = now + self.random.between(3_000, 9_000);
        if self.random.chance(60) {
            self.registers.values += 1;
            let value = self.registers.values;
            let operation = self.registers.begin(client, key.clone(), Request::Write(value));
            self.registers.waits.insert(client, Wait { operation, until, token: None });
            let command = Command::UpdateNode {
                node: self.anchor().to_string(),
                availability: None,
                set_labels: BTreeMap::from([(key, value.to_string())]),
                remove_labels: Vec::new(),
            };
            self.call(who, command);
        } else if let Some(controller) = self.some_controller() {
            let operation = self.registers.begin(client, key, Request::Read);
            let token = self.token();
            self.registers.waits.insert(client, Wait { operation, until, token: Some(token) });
            let run = self.controllers[&controller].run;
            let delay = self.random.between(1, 20);
            let input = Input::ReadBarrier { token };
            self.at(delay, Happening::Ask { controller, run, input });
        }
    }

    pub(crate) fn written(&mut self, client: usize) {
        self.tell(|| {
            let wait = self.registers.waits.get(&client);
            let operation = wait.map(|wait| &self.registers.history[wait.operation]);
            let request = operation.map(|operation| (&operation.key, &operation.request));
            format!("client {client} was told that {request:?} is done")
        });
        self.registers.end(client, Heard::Done);
    }

    /// A controller's shell may read for this token now.
    pub(crate) fn read_register(&self, controller: u64, token: u64) -> Option<u64> {
        let wait = self.registers.waits.values().find(|wait| wait.token == Some(token))?;
        let key = self.registers.history[wait.operation].key.clone();
        let value = self.register(&self.controllers[&controller].published, &key);
        self.tell(|| format!("{controller} serves {key} as {value:?}"));
        value
    }

    pub(crate) fn hear_read(&mut self, token: u64, answer: &Answer) {
        let waits = &self.registers.waits;
        let client = waits.iter().find(|(_, wait)| wait.token == Some(token));
        let Some(client) = client.map(|(client, _)| *client) else { return };
        match answer {
            Answer::Read(value) => self.registers.end(client, Heard::Holds(*value)),
            _ => drop(self.registers.waits.remove(&client)),
        }
    }
}
