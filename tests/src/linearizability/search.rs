//! The search for an order: take the first call that fits, and go back when an operation has returned that could not be
//! placed. The memo keeps a set of placed operations with a state from being tried twice.

use std::collections::HashSet;

use super::{Model, Operation};

/// How many operations of the longest order are told.
const TOLD: usize = 8;

type Operations<'h, M> = [&'h Operation<<M as Model>::Request, <M as Model>::Answer>];

/// How a search ended.
pub(super) enum Outcome {
    /// With an order.
    Explained,
    /// There is no order.
    Impossible { explained: usize, before: Vec<String>, stuck: Vec<String> },
    /// With the steps used up.
    TooHard,
}

/// Looks for an order of one key's operations.
pub(super) fn search<M: Model>(operations: &Operations<'_, M>, limit: u64) -> Outcome {
    Search::<M>::new(operations).run(limit)
}

/// A call or a return, in a list from which placed operations are taken out and put back.
#[derive(Clone, Copy)]
struct Event {
    operation: usize,
    is_call: bool,
    before: usize,
    after: usize,
}

/// The list's ends.
const HEAD: usize = 0;

struct Search<'h, M: Model> {
    operations: &'h Operations<'h, M>,
    /// `events[HEAD]` is before the first and after the last.
    events: Vec<Event>,
    /// Of each operation: its call, and its return when it has one.
    calls: Vec<usize>,
    returns: Vec<Option<usize>>,
    placed: Placed,
    state: M::State,
    /// The order so far, each with the state before it.
    order: Vec<(usize, M::State)>,
    tried: HashSet<(Placed, M::State)>,
    /// Operations that must still be placed.
    owed: usize,
    longest: Vec<usize>,
    stuck: Vec<usize>,
}

impl<'h, M: Model> Search<'h, M> {
    fn new(operations: &'h Operations<'h, M>) -> Self {
        // At the same moment calls come first: such operations count as concurrent.
        let mut moments = Vec::new();
        for (number, operation) in operations.iter().enumerate() {
            moments.push((operation.called, false, number));
            moments.extend(operation.returned.map(|at| (at.max(operation.called), true, number)));
        }
        moments.sort_unstable();
        let last = moments.len();
        let head =
            Event { operation: usize::MAX, is_call: false, before: last, after: last.min(1) };
        let mut events = vec![head];
        let mut calls = vec![HEAD; operations.len()];
        let mut returns = vec![None; operations.len()];
        for (_, is_return, operation) in moments {
            let own = events.len();
            let after = if own == last { HEAD } else { own + 1 };
            events.push(Event { operation, is_call: !is_return, before: own - 1, after });
            if is_return {
                returns[operation] = Some(own);
            } else {
                calls[operation] = own;
            }
        }
        Self {
            operations,
            events,
            calls,
            owed: returns.iter().flatten().count(),
            returns,
            placed: Placed::none_of(operations.len()),
            state: M::initial(),
            order: Vec::new(),
            tried: HashSet::new(),
            longest: Vec::new(),
            stuck: Vec::new(),
        }
    }

    fn run(mut self, limit: u64) -> Outcome {
        let mut at = self.events[HEAD].after;
        let mut steps = 0;
        while self.owed > 0 {
            steps += 1;
            if steps > limit {
                return Outcome::TooHard;
            }
            // The list's end is passed only while something that returned is in it, so `at` is an event.
            let event = self.events[at];
            if event.is_call {
                at =
                    if self.place(event.operation) { self.events[HEAD].after } else { event.after };
                continue;
            }
            self.note_longest();
            match self.take_back() {
                Some(call) => at = self.events[call].after,
                None => return self.impossible(),
            }
        }
        Outcome::Explained
    }

    /// Puts an operation next in the order, where it fits and was not tried so before.
    fn place(&mut self, number: usize) -> bool {
        let operation = self.operations[number];
        let next = M::step(&self.state, &operation.request, operation.answer.as_ref());
        let Some(next) = next else { return false };
        let placed = self.placed.with(number);
        if !self.tried.insert((placed.clone(), next.clone())) {
            return false;
        }
        self.placed = placed;
        self.order.push((number, std::mem::replace(&mut self.state, next)));
        self.unlink(self.calls[number]);
        if let Some(event) = self.returns[number] {
            self.unlink(event);
            self.owed -= 1;
        }
        true
    }

    /// Takes the order's last operation out again; says its call.
    fn take_back(&mut self) -> Option<usize> {
        let (number, state) = self.order.pop()?;
        self.state = state;
        self.placed.remove(number);
        if let Some(event) = self.returns[number] {
            self.link(event);
            self.owed += 1;
        }
        self.link(self.calls[number]);
        Some(self.calls[number])
    }

    fn unlink(&mut self, event: usize) {
        let Event { before, after, .. } = self.events[event];
        self.events[before].after = after;
        self.events[after].before = before;
    }

    fn link(&mut self, event: usize) {
        let Event { before, after, .. } = self.events[event];
        self.events[before].after = event;
        self.events[after].before = event;
    }

    fn note_longest(&mut self) {
        if self.order.len() <= self.longest.len() && !self.stuck.is_empty() {
            return;
        }
        self.longest = self.order.iter().map(|(number, _)| *number).collect();
        self.stuck.clear();
        let mut at = self.events[HEAD].after;
        while self.events[at].is_call {
            self.stuck.push(self.events[at].operation);
            at = self.events[at].after;
        }
    }

    fn impossible(self) -> Outcome {
        let tell = |number: &usize| format!("{:?}", self.operations[*number]);
        let explained = self.longest.len();
        let before = self.longest[explained.saturating_sub(TOLD)..].iter().map(tell).collect();
        let stuck = self.stuck.iter().map(tell).collect();
        Outcome::Impossible { explained, before, stuck }
    }
}

/// A set of operations.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Placed(Box<[u64]>);

impl Placed {
    fn none_of(operations: usize) -> Self {
        Self(vec![0; operations.div_ceil(64)].into())
    }

    fn with(&self, operation: usize) -> Self {
        let mut placed = self.clone();
        placed.0[operation / 64] |= 1 << (operation % 64);
        placed
    }

    fn remove(&mut self, operation: usize) {
        self.0[operation / 64] &= !(1 << (operation % 64));
    }
}
