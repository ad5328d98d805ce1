//! Full disks: a leader without room hands over to a voter with room, and where too few voters have room for a quorum,
//! clients' writes are refused. What is under way then still goes to the disk, into the room that is kept for it.

use super::Member;
use crate::core::{Refusal, Shortage};

const HINT: &str = "make room there; writing goes on by itself";

impl Member {
    /// This member's disk has no room, or has room again.
    pub(in crate::core) fn set_room(&mut self, shortage: Option<Shortage>) {
        self.pace.is_full(shortage.is_some());
        self.shortage = shortage;
    }

    /// While this member's disk has no room.
    pub(in crate::core) fn shortage(&self) -> Option<&Shortage> {
        self.shortage.as_ref()
    }

    /// Why the leader proposes nothing new now, if so.
    pub(in crate::core) fn refuse_for_room(&self) -> Option<Refusal> {
        let voters = &self.raw.store().conf_state().voters;
        let full = voters.iter().filter(|id| self.has_no_room(**id)).count();
        if voters.len() - full > voters.len() / 2 {
            let moving = || Refusal::unavailable("a controller with room on its disk takes over");
            return self.shortage.as_ref().map(|_| moving());
        }
        Some(match &self.shortage {
            Some(shortage) => Refusal::full(shortage.to_string(), HINT),
            None => Refusal::full(
                format!("the disks of {full} of {} controllers are full", voters.len()),
                format!("`swarmctl cluster status` shows which: {HINT}"),
            ),
        })
    }

    /// Hands leadership to a member in touch that has room, if this one has none and a quorum has.
    pub(in crate::core) fn yield_for_room(&mut self) {
        let is_busy = self.raw.raft.lead_transferee.is_some();
        if !self.is_leader() || is_busy || self.shortage.is_none() {
            return;
        }
        let can_write = self.refuse_for_room().is_some_and(|refusal| refusal.is_passing());
        let heir = self.best_of(|member, id| member.pace.has_room(id)).filter(|_| can_write);
        if let Some(heir) = heir {
            self.raw.transfer_leader(heir);
        }
    }

    /// Of the other voters that are as wished, one in touch that has most of the log.
    pub(super) fn best_of(&self, is_wished: impl Fn(&Self, u64) -> bool) -> Option<u64> {
        let progress = |id: &u64| self.raw.raft.prs().get(*id);
        let matched = |id: &u64| progress(id).map_or((false, 0), |p| (p.recent_active, p.matched));
        let voters = self.raw.store().conf_state().voters.iter().copied();
        let wished = voters.filter(|id| *id != self.id() && is_wished(self, *id));
        wished.max_by_key(matched)
    }

    /// Whether a voter said so lately, or this one knows.
    fn has_no_room(&self, id: u64) -> bool {
        if id == self.id() { self.shortage.is_some() } else { self.pace.has_no_room(id) }
    }
}
