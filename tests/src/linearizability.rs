//! Whether a recorded history of concurrent operations is linearizable: the search of Wing and Gong with Lowe's memo,
//! as porcupine does it, one key at a time.
//!
//! An operation whose outcome nobody knows (a time-out, a broken connection) has no return: it may have taken effect at
//! any moment since its call, or never.

mod register;
mod search;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;

pub use register::{Answer, Register, Request, narrow};

/// Moments of a history: any unit, the same clock for all clients.
pub type Moment = u64;

/// What the operations work on, as one client alone would see it.
pub trait Model {
    /// What lies between two operations.
    type State: Clone + Eq + Hash;
    /// What a client asks for.
    type Request: Clone + Debug;
    /// What it was told.
    type Answer: Clone + Debug;

    /// The state before the first operation.
    fn initial() -> Self::State;

    /// The state after `request`; `None` when it cannot have been answered so in `state`. An answer that nobody heard
    /// is `None` and fits always.
    fn step(
        state: &Self::State,
        request: &Self::Request,
        answer: Option<&Self::Answer>,
    ) -> Option<Self::State>;
}

/// One operation of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation<R, A> {
    /// Who asked; a client has one operation under way at a time, until one's outcome stays unknown.
    pub client: u64,
    /// What it was about: operations on different keys know nothing of each other.
    pub key: String,
    /// What was asked.
    pub request: R,
    /// What was answered, where somebody heard it.
    pub answer: Option<A>,
    /// When it was asked.
    pub called: Moment,
    /// When it had certainly taken effect; `None` while nobody knows whether it has.
    pub returned: Option<Moment>,
}

/// A history of a model.
pub type History<M> = Vec<Operation<<M as Model>::Request, <M as Model>::Answer>>;

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every answer.
    Linearizable,
    /// There is none.
    Violation(Violation),
    /// The search took more than the allowed steps.
    Undecided {
        /// The key that was too hard.
        key: String,
    },
}

/// Where a history stops making sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// On which key.
    pub key: String,
    /// The longest order that explains anything has so many operations.
    pub explained: usize,
    /// The last operations of that order.
    pub before: Vec<String>,
    /// The operations that were called before anything else returned, none of which can come next.
    pub stuck: Vec<String>,
}

/// Looks for an order of each key's operations, with at most `limit` steps for a key.
pub fn check<M: Model>(history: &History<M>, limit: u64) -> Verdict {
    for (key, operations) in by_key::<M>(history) {
        match search::search::<M>(&operations, limit) {
            search::Outcome::Explained => {}
            search::Outcome::TooHard => return Verdict::Undecided { key: key.to_owned() },
            search::Outcome::Impossible { explained, before, stuck } => {
                let key = key.to_owned();
                return Verdict::Violation(Violation { key, explained, before, stuck });
            }
        }
    }
    Verdict::Linearizable
}

type Named<'h, M> =
    BTreeMap<&'h str, Vec<&'h Operation<<M as Model>::Request, <M as Model>::Answer>>>;

fn by_key<M: Model>(history: &History<M>) -> Named<'_, M> {
    let mut keys = Named::<M>::new();
    for operation in history {
        keys.entry(operation.key.as_str()).or_default().push(operation);
    }
    keys
}

#[cfg(test)]
mod tests;
