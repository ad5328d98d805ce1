//! What a controller promises the others by a message: it must be on its disk by then, and must not contradict what it
//! promised before.

use std::collections::BTreeMap;

use prost_for_raft::Message as _;
use raft::eraftpb::{HardState, Message, MessageType};

use crate::disk::Disk;
use crate::violation::demand;

/// The kinds of messages that promise something. Decoding the others would take most of the time.
const PROMISES: [MessageType; 3] = [
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgAppendResponse,
];
/// Those of a member that only asks whether an election is worth it: the term in them is not its own.
const QUESTIONS: [MessageType; 2] =
    [MessageType::MsgRequestPreVote, MessageType::MsgRequestPreVoteResponse];

/// Kind and term of an encoded message: the first and the fourth of its fields, all of them numbers.
fn kind_and_term(bytes: &[u8]) -> (u64, u64) {
    let mut fields = [0; 5];
    let mut rest = bytes;
    while let Some((tag, after)) = rest.split_first().filter(|(tag, _)| **tag <= 4 << 3) {
        let Some(length) = after.iter().position(|byte| byte & 0x80 == 0) else { break };
        let (number, left) = after.split_at(length + 1);
        let value = number.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
        fields[usize::from(tag >> 3)] = value;
        rest = left;
    }
    (fields[1], fields[4])
}

/// Term and vote of an encoded hard state.
pub(crate) fn promised(hard_state: &[u8]) -> (u64, u64) {
    HardState::decode(hard_state).map_or((0, 0), |state| (state.term, state.vote))
}

/// What was promised so far.
#[derive(Default)]
pub(crate) struct Promises {
    /// For whom each controller voted in each term.
    votes: BTreeMap<(u64, u64), u64>,
    /// The highest term in which each controller spoke.
    spoken: BTreeMap<u64, u64>,
    /// Who led in each term.
    leaders: BTreeMap<u64, u64>,
    /// How many led in groups that are lost.
    past: u64,
}

impl Promises {
    pub(crate) fn elections(&self) -> u64 {
        self.past + self.leaders.len() as u64
    }

    /// Another group begins, with terms of its own.
    pub(crate) fn begin_anew(&mut self) {
        self.past = self.elections();
        self.leaders.clear();
    }

    /// A controller leads.
    pub(crate) fn leads(&mut self, term: u64, controller: u64) {
        let first = *self.leaders.entry(term).or_insert(controller);
        demand(first == controller, "a term has one leader", || {
            format!("{first} and {controller} lead in term {term}")
        });
    }

    /// A controller starts from its disk: it must remember every term in which it ever spoke, or it could vote twice.
    pub(crate) fn starts(&self, term: u64, controller: u64) {
        let spoken = self.spoken.get(&controller).copied().unwrap_or(0);
        demand(term >= spoken, "a controller remembers its term", || {
            format!("{controller} spoke in term {spoken} and starts in {term}")
        });
    }

    /// A controller sends a message.
    pub(crate) fn sends(&mut self, controller: u64, bytes: &[u8], disk: &Disk) {
        let (kind, term) = kind_and_term(bytes);
        let is = |one: &MessageType| *one as u64 == kind;
        if !QUESTIONS.iter().any(is) {
            let highest = self.spoken.entry(controller).or_default();
            *highest = term.max(*highest);
        }
        if !PROMISES.iter().any(is) {
            return;
        }
        let Ok(message) = Message::decode(bytes) else { return };
        match message.get_msg_type() {
            MessageType::MsgRequestVote => {
                self.votes(controller, message.term, controller, disk);
            }
            MessageType::MsgRequestVoteResponse if !message.reject => {
                self.votes(controller, message.term, message.to, disk);
            }
            MessageType::MsgAppendResponse if !message.reject => {
                let index = message.index;
                // A later leader may have replaced the entry before it was written. It was elected by whoever could
                // have made the earlier one's majority, so nothing is lost by the word.
                let is_past = message.term < disk.promised().0;
                demand(disk.holds(index) || is_past, "what is confirmed is on disk", || {
                    format!("{controller} confirms entry {index}, which its disk does not hold")
                });
            }
            _ => {}
        }
    }

    fn votes(&mut self, controller: u64, term: u64, candidate: u64, disk: &Disk) {
        let first = *self.votes.entry((controller, term)).or_insert(candidate);
        demand(first == candidate, "a controller votes once in a term", || {
            format!("{controller} votes for {first} and {candidate} in term {term}")
        });
        let (term_there, vote_there) = disk.promised();
        // In a later term on its disk it cannot vote again in this one.
        let is_there = term_there > term || (term_there, vote_there) == (term, candidate);
        demand(is_there, "a vote is on disk", || {
            format!(
                "{controller} votes for {candidate} in term {term}; on its disk is a vote for \
                 {vote_there} in term {term_there}"
            )
        });
    }
}
