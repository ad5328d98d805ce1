//! Real controllers under faults: clients at every controller read and write registers, a nemesis kills, freezes and
//! cuts off, and the recorded history must be linearizable.
//!
//! A register is a label of a node: a write is one `UpdateNode`, a read is one `GetState`.

mod client;
mod hosts;
mod nemesis;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::bench::Outcome;
use crate::linearizability::{
    Answer, History, Operation, Register, Request, Verdict, check, narrow,
};

pub use hosts::Hosts;
pub use nemesis::{Fault, Nemesis};

/// Steps of the search for one register's order.
const LIMIT: u64 = 200_000_000;
/// Answers that may be missing, in a hundred.
const UNKNOWN_LIMIT: f64 = 5.0;

/// How much is asked.
#[derive(Debug, Clone)]
pub struct Load {
    /// Clients at each controller.
    pub clients: u64,
    /// Registers on each host's node.
    pub registers: u64,
    /// How long a client rests between two operations, on average.
    pub rest: Duration,
    /// Let reads show what the asked controller has at hand, which a history must show to be wrong.
    pub stale: bool,
    /// What the clients do follows from it.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// Everything that was asked.
    pub history: History<Register>,
    /// Operations without a known outcome.
    pub unknown: usize,
    /// Elections that were won, without the first.
    pub leader_changes: usize,
    /// Faults by kind.
    pub faults: BTreeMap<Fault, u32>,
    /// What the search says.
    pub verdict: Verdict,
}

impl Report {
    /// Operations without a known outcome, in a hundred.
    pub fn unknown_percent(&self) -> f64 {
        share(self.unknown, self.history.len())
    }

    /// Why this run proves nothing or the wrong thing; `None` when all is well. It must have had so many operations and
    /// changes of leader.
    pub fn complaint(&self, operations: usize, leader_changes: usize) -> Option<String> {
        match &self.verdict {
            Verdict::Violation(found) => return Some(format!("not linearizable: {found:#?}")),
            Verdict::Undecided { key } => return Some(format!("`{key}` took too long to judge")),
            Verdict::Linearizable => {}
        }
        if self.history.len() < operations {
            return Some(format!("only {} operations, not {operations}", self.history.len()));
        }
        if self.leader_changes < leader_changes {
            return Some(format!("only {} changes of leader", self.leader_changes));
        }
        let unknown = self.unknown_percent();
        (unknown > UNKNOWN_LIMIT).then(|| format!("{unknown:.1} % of the outcomes are unknown"))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share of some thousands")]
fn share(part: usize, of: usize) -> f64 {
    part as f64 * 100.0 / of.max(1) as f64
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Linearizable => "linearizable",
            Verdict::Violation(_) => "NOT LINEARIZABLE",
            Verdict::Undecided { .. } => "UNDECIDED",
        };
        let (operations, unknown) = (self.history.len(), self.unknown_percent());
        write!(f, "{operations} operations, {unknown:.2} % unknown, ")?;
        write!(f, "{} leader changes, faults:", self.leader_changes)?;
        for (fault, times) in &self.faults {
            write!(f, " {times} {fault},")?;
        }
        write!(f, " {verdict}")
    }
}

/// What all clients share.
struct Shared {
    begun: Instant,
    over: AtomicBool,
    history: Mutex<History<Register>>,
    /// A refusal that no fault explains.
    odd: Mutex<Option<String>>,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn record(&self, operation: Operation<Request, Answer>) {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
    }
}

/// Runs clients while `nemesis` does what it does, then judges what they saw.
pub fn run(
    hosts: &Hosts,
    load: &Load,
    nemesis: impl FnOnce(&mut Nemesis<'_>) -> Outcome<()>,
) -> Outcome<Report> {
    let before = hosts.elections_won()?;
    let shared = Arc::new(Shared {
        begun: Instant::now(),
        over: AtomicBool::new(false),
        history: Mutex::default(),
        odd: Mutex::default(),
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let clients = client::start(&runtime, hosts, load, &shared);
    let mut tormentor = Nemesis::new(hosts);
    let tormented = nemesis(&mut tormentor);
    // The election after the last fault counts, and there must be one.
    let healed = tormentor.heal().and_then(|()| tormentor.leader().map(|_| ()));
    shared.over.store(true, Ordering::Relaxed);
    for client in clients {
        runtime.block_on(client)?;
    }
    tormented.and(healed)?;
    if let Some(odd) = shared.odd.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(odd.into());
    }
    let history =
        std::mem::take(&mut *shared.history.lock().unwrap_or_else(PoisonError::into_inner));
    let unknown = history.iter().filter(|operation| operation.returned.is_none()).count();
    let mut narrowed = history.clone();
    narrow(&mut narrowed);
    Ok(Report {
        verdict: check::<Register>(&narrowed, LIMIT),
        history,
        unknown,
        leader_changes: hosts.elections_won()?.saturating_sub(before),
        faults: tormentor.into_faults(),
    })
}
