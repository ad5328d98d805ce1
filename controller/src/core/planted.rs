//! Faults planted on purpose, so that the simulation can show that it finds them. Without the feature
//! `planted-faults`, which no program is built with, there are none, and asking for one costs nothing.

#[cfg(feature = "planted-faults")]
mod tamper;

use swarm_proto::entry::Entry;

use super::state::{Applied, State, apply};

/// A fault of the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answers that promise something leave before it is on disk.
    SendBeforePersisted,
    /// Term and vote never reach the disk.
    ForgetHardState,
    /// A member forgets whom it voted for.
    VoteTwice,
    /// Reads are answered from what this member has, with no question to anybody.
    ServeStaleRead,
    /// Reads are answered before what was committed is applied.
    ReadBeforeApplied,
    /// A command is answered when it is proposed.
    AnswerBeforeCommit,
    /// A leader decides before it has applied what earlier leaders left.
    LeadTooEarly,
    /// A new member gets the raft id of the one before.
    ReuseRaftId,
    /// Some entries are applied twice.
    ApplyTwice,
    /// Some members do not take in a change of the members.
    LoseConfChange,
    /// That a change of the members is committed reaches the disk only with the next entry.
    ForgetAgreedMembers,
    /// Some assignments never reach their agents.
    DropAssignment,
    /// Addresses leave quarantine before the nodes have forgotten them.
    ReuseAddressEarly,
    /// What a node that is down holds counts as gone at once.
    ForgetQuarantineOfLostNode,
    /// A task that its own host stops is replaced before that host has done so.
    ReplaceBeforeFence,
    /// A snapshot leaves out the quarantine.
    SnapshotWithoutQuarantine,
    /// A dead task is said to run again.
    ReviveDeadTask,
    /// A task goes to another node.
    MoveTask,
    /// Requests are forgotten, so that a retried one is applied again.
    ForgetRequests,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::SendBeforePersisted,
        Self::ForgetHardState,
        Self::VoteTwice,
        Self::ServeStaleRead,
        Self::ReadBeforeApplied,
        Self::AnswerBeforeCommit,
        Self::LeadTooEarly,
        Self::ReuseRaftId,
        Self::ApplyTwice,
        Self::LoseConfChange,
        Self::ForgetAgreedMembers,
        Self::DropAssignment,
        Self::ReuseAddressEarly,
        Self::ForgetQuarantineOfLostNode,
        Self::ReplaceBeforeFence,
        Self::SnapshotWithoutQuarantine,
        Self::ReviveDeadTask,
        Self::MoveTask,
        Self::ForgetRequests,
    ];
}

/// The fault that a core has, if any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planted {
    #[cfg(feature = "planted-faults")]
    fault: Option<Fault>,
}

// Without the feature there is no place for a fault.
#[cfg(not(feature = "planted-faults"))]
const _: () = assert!(size_of::<Planted>() == 0);

#[cfg(not(feature = "planted-faults"))]
#[expect(clippy::unused_self, reason = "without the feature there is nothing to look at")]
impl Planted {
    /// Whether this fault was planted.
    pub(super) const fn has(self, _fault: Fault) -> bool {
        false
    }

    /// Whether no fault was planted.
    pub(super) const fn is_none(self) -> bool {
        true
    }

    /// Applies an entry.
    pub(super) fn apply(self, state: &mut State, entry: &Entry) -> Applied {
        apply(state, entry)
    }

    /// A state that was read from a snapshot.
    pub(super) fn snapshot(self, state: State) -> State {
        state
    }
}

#[cfg(feature = "planted-faults")]
impl Planted {
    /// Plants a fault.
    pub fn new(fault: Fault) -> Self {
        Self { fault: Some(fault) }
    }

    /// Whether this fault was planted.
    pub(super) fn has(self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Whether no fault was planted.
    pub(super) fn is_none(self) -> bool {
        self.fault.is_none()
    }

    /// Applies an entry, and what the fault makes of it.
    pub(super) fn apply(self, state: &mut State, entry: &Entry) -> Applied {
        let raft_id = state.next.raft;
        let mut applied = apply(state, entry);
        match self.fault {
            Some(Fault::ReuseRaftId) => tamper::reuse_raft_id(state, raft_id),
            Some(Fault::ReviveDeadTask) => tamper::revive_dead_task(state, &mut applied),
            Some(Fault::MoveTask) => tamper::move_task(state, &mut applied),
            Some(Fault::ForgetRequests) => state.requests.clear(),
            _ => {}
        }
        applied
    }

    /// A state that was read from a snapshot, and what the fault makes of it.
    pub(super) fn snapshot(self, mut state: State) -> State {
        if self.has(Fault::SnapshotWithoutQuarantine) {
            state.quarantine.clear();
        }
        state
    }
}
