use serde::Serialize;
use swarm_proto::convert::ConvertError;
use swarm_proto::id::Timestamp;
use swarm_proto::object::{PlannedMove, RebalanceMode};
use swarm_proto::wire;

use super::{View, span, time};
use crate::state::State;

/// Services that are named at most in a remark.
const NAMED: usize = 5;

/// What would be moved, as `rebalance --plan` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RebalanceView {
    /// The moves, in the order in which they would be made.
    pub moves: Vec<MoveView>,
    /// Whether there are more than these, or not everything could be looked at.
    pub more: bool,
    /// Full names of services of which a task is on its way: they are not moved meanwhile.
    pub under_way: Vec<String>,
    /// Why nothing is moved now, one sentence; null when nothing is in the way.
    pub hindrance: Option<String>,
    /// When a further move is allowed; null: now.
    pub room_at: Option<String>,
    /// `off` or `auto`.
    pub mode: RebalanceMode,
    /// The most moves within any minute.
    pub moves_per_minute: u32,
    #[serde(skip)]
    room_time: Option<Timestamp>,
}

/// A task that should have another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MoveView {
    /// Its service's full name.
    pub service: String,
    /// Its slot.
    pub slot: String,
    /// Its id.
    pub task: String,
    /// Host name of its node.
    pub from: String,
    /// Host name of the node that the next task of the slot would get.
    pub to: String,
    /// Why, a few words.
    pub why: String,
}

impl RebalanceView {
    /// The view of a controller's answer.
    pub fn of(state: &State, plan: wire::PlanRebalanceResponse) -> Result<Self, ConvertError> {
        let room_time = (plan.room_at > plan.clock).then_some(Timestamp(plan.room_at));
        let mode = Option::from(plan.mode());
        let moves = plan.moves.into_iter().map(|one| MoveView::of(state, one));
        Ok(Self {
            moves: moves.collect::<Result<_, _>>()?,
            more: plan.more,
            under_way: plan.under_way,
            hindrance: (!plan.hindrance.is_empty()).then_some(plan.hindrance),
            room_at: room_time.map(time),
            mode: mode.unwrap_or_default(),
            moves_per_minute: plan.moves_per_minute,
            room_time,
        })
    }

    /// What is to be said of the plan, a line each.
    pub fn remarks(&self, now: Timestamp) -> Vec<String> {
        let mut lines = Vec::new();
        if self.moves.is_empty() {
            lines.push(
                "nothing would be moved: what may move is where it would be placed now".to_owned(),
            );
        }
        if self.more {
            lines.push("note: there are more moves than these".to_owned());
        }
        if !self.under_way.is_empty() {
            let (count, named) = (self.under_way.len(), self.under_way.iter().take(NAMED));
            let named: Vec<&str> = named.map(String::as_str).collect();
            let rest = if count > NAMED { ", …" } else { "" };
            let (noun, verb) = if count == 1 { ("service", "is") } else { ("services", "are") };
            lines.push(format!(
                "note: {count} {noun} {verb} not settled and not moved meanwhile: {}{rest}",
                named.join(", ")
            ));
        }
        if let Some(why) = &self.hindrance {
            lines.push(format!("note: nothing is moved now: {why}"));
        }
        if let Some(at) = self.room_time {
            let (most, wait) = (self.moves_per_minute, span(at.since(now)));
            lines.push(format!(
                "note: the next of at most {most} moves per minute may be in {wait}"
            ));
        }
        if !self.moves.is_empty() {
            lines.push(match self.mode {
                RebalanceMode::Auto => "the cluster makes them by itself".to_owned(),
                RebalanceMode::Off => "`swarmctl rebalance` begins them".to_owned(),
            });
        }
        lines
    }
}

impl MoveView {
    /// The view of a move.
    pub fn of(state: &State, one: wire::PlannedMove) -> Result<Self, ConvertError> {
        let PlannedMove { service, task, from, to, why } = one.try_into()?;
        Ok(Self {
            service,
            slot: task.slot.to_string(),
            task: task.to_string(),
            from: state.node_name(from),
            to: state.node_name(to),
            why,
        })
    }
}

impl View for MoveView {
    const COLUMNS: &'static [&'static str] = &["SERVICE", "SLOT", "FROM", "TO", "WHY"];
    const WIDE_COLUMNS: &'static [&'static str] = &["TASK"];

    fn name(&self) -> String {
        format!("{}.{}", self.service, self.slot)
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let Self { service, slot, from, to, why, .. } = self;
        [service, slot, from, to, why].map(Clone::clone).into()
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        vec![self.task.clone()]
    }
}
