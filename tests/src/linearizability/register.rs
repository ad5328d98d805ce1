//! A register: one number, or nothing yet.

use std::collections::{BTreeMap, BTreeSet};

use super::{History, Model, Moment};

/// One number, or nothing yet.
#[derive(Debug, Clone, Copy)]
pub struct Register;

/// What a client asks of a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// What does it hold?
    Read,
    /// It shall hold this.
    Write(u64),
    /// It shall hold this, and what did it hold before?
    Swap(u64),
}

/// What a register answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a write.
    Done,
    /// What it holds, or held before.
    Holds(Option<u64>),
}

impl Request {
    fn written(&self) -> Option<u64> {
        match self {
            Self::Read => None,
            Self::Write(value) | Self::Swap(value) => Some(*value),
        }
    }
}

impl Model for Register {
    type State = Option<u64>;
    type Request = Request;
    type Answer = Answer;

    fn initial() -> Self::State {
        None
    }

    fn step(
        state: &Self::State,
        request: &Request,
        answer: Option<&Answer>,
    ) -> Option<Self::State> {
        let fits = match (request, answer) {
            (_, None) | (Request::Write(_), Some(Answer::Done)) => true,
            (Request::Read | Request::Swap(_), Some(Answer::Holds(held))) => held == state,
            _ => false,
        };
        fits.then(|| request.written().or(*state))
    }
}

/// Takes out of a register's history what makes the search long and says nothing, and changes no verdict: a read whose
/// outcome is unknown; a write of unknown outcome whose value only it wrote, when nobody ever saw the value. Where
/// somebody did see it, it had taken effect when the first of them knew.
pub fn narrow(history: &mut History<Register>) {
    let mut writes: BTreeMap<(String, u64), u32> = BTreeMap::new();
    let mut seen: BTreeMap<(String, u64), Moment> = BTreeMap::new();
    for operation in history.iter() {
        if let Some(value) = operation.request.written() {
            *writes.entry((operation.key.clone(), value)).or_default() += 1;
        }
        if let (Some(Answer::Holds(Some(value))), Some(at)) =
            (&operation.answer, operation.returned)
        {
            let first = seen.entry((operation.key.clone(), *value)).or_insert(at);
            *first = at.min(*first);
        }
    }
    let once: BTreeSet<(String, u64)> =
        writes.into_iter().filter(|(_, times)| *times == 1).map(|(write, _)| write).collect();
    history.retain_mut(|operation| {
        if operation.returned.is_some() {
            return true;
        }
        let Some(value) = operation.request.written() else { return false };
        let write = (operation.key.clone(), value);
        if !once.contains(&write) {
            return true;
        }
        operation.returned = seen.get(&write).copied();
        operation.returned.is_some()
    });
}
