//! Linearizable reads: each waits until the leader has confirmed that it leads, and until this member has applied
//! what was committed then. So do answers to agents' heartbeats, on which an agent relies as the word of a leader.

use std::collections::BTreeMap;

use super::command::CommandDone;
use super::member::Member;
use super::output::Output;
use super::planted::Fault;

/// Ticks after which a read that got no answer is asked again; raft-rs drops them silently in some states.
const ASK_AGAIN: u64 = 8;
/// Ticks after which a read fails.
const GIVE_UP: u64 = 160;

/// Reads that may wait at once.
const MOST_READERS: usize = 10_000;

/// Who waits.
pub(super) enum Reader {
    /// A client's read.
    Barrier(u64),
    /// A command whose answer needs no entry.
    Answer(u64, CommandDone),
    /// Heartbeats of agents, by their sessions.
    Heartbeats(Vec<u64>),
}

struct Round {
    readers: Vec<Reader>,
    begun: u64,
    asked: u64,
}

/// See the module.
#[derive(Default)]
pub(super) struct Reads {
    ticks: u64,
    contexts: u64,
    /// Readers that came since the last question.
    new: Vec<Reader>,
    /// By context.
    asked: BTreeMap<u64, Round>,
    /// By the index that must be applied.
    confirmed: BTreeMap<u64, Vec<Reader>>,
    /// Sessions whose heartbeats may be answered.
    heartbeats: Vec<u64>,
}

impl Reads {
    /// Somebody wants to read. When too many do, they are told so at once.
    pub(super) fn add(&mut self, reader: Reader, replies: &mut Vec<Output>) {
        let waiting = self.asked.values().map(|round| round.readers.len());
        if self.new.len() + waiting.sum::<usize>() < MOST_READERS {
            self.new.push(reader);
        } else {
            replies.extend(failed(&reader));
        }
    }

    /// The sessions whose heartbeats came while this member still led.
    pub(super) fn take_heartbeats(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.heartbeats)
    }

    pub(super) fn tick(&mut self, member: &mut Member, replies: &mut Vec<Output>) {
        self.ticks += 1;
        let overdue = |round: &Round| self.ticks - round.asked >= ASK_AGAIN;
        let due: Vec<u64> =
            self.asked.iter().filter(|(_, round)| overdue(round)).map(|(id, _)| *id).collect();
        for context in due {
            let Some(mut round) = self.asked.remove(&context) else { continue };
            if self.ticks - round.begun >= GIVE_UP {
                replies.extend(round.readers.iter().filter_map(failed));
                continue;
            }
            round.asked = self.ticks;
            self.ask(round, member);
        }
    }

    /// Asks once for all that came.
    pub(super) fn ask_new(&mut self, member: &mut Member) {
        if !self.new.is_empty() {
            let readers = std::mem::take(&mut self.new);
            let round = Round { readers, begun: self.ticks, asked: self.ticks };
            self.ask(round, member);
        }
    }

    fn ask(&mut self, round: Round, member: &mut Member) {
        self.contexts += 1;
        let mut context = member.id().to_be_bytes().to_vec();
        context.extend(self.contexts.to_be_bytes());
        if member.planted().has(Fault::ServeStaleRead) {
            return self.confirmed.entry(0).or_default().extend(round.readers);
        }
        self.asked.insert(self.contexts, round);
        member.read_index(context);
    }

    pub(super) fn on_confirmed(&mut self, context: &[u8], index: u64) {
        let Some(number) = context.get(8..16).and_then(|bytes| bytes.try_into().ok()) else {
            return;
        };
        if let Some(round) = self.asked.remove(&u64::from_be_bytes(number)) {
            self.confirmed.entry(index).or_default().extend(round.readers);
        }
    }

    /// What a leader that leads no longer would say to commands and agents may be wrong.
    pub(super) fn fail_answers(&mut self, replies: &mut Vec<Output>) {
        let asked = self.asked.values_mut().map(|round| &mut round.readers);
        for readers in asked.chain(self.confirmed.values_mut()).chain([&mut self.new]) {
            let (answers, barriers) = std::mem::take(readers)
                .into_iter()
                .partition(|reader| !matches!(reader, Reader::Barrier(_)));
            let answers: Vec<Reader> = answers;
            *readers = barriers;
            replies.extend(answers.iter().filter_map(failed));
        }
        self.heartbeats.clear();
    }

    /// Lets those read for whom enough is applied.
    pub(super) fn on_applied(&mut self, applied: u64, replies: &mut Vec<Output>) {
        while let Some(first) = self.confirmed.first_entry().filter(|first| *first.key() <= applied)
        {
            for reader in first.remove() {
                match reader {
                    Reader::Barrier(token) => replies.push(Output::ReadReady { token }),
                    Reader::Answer(token, done) => {
                        replies.push(Output::Reply { token, result: Ok(done) });
                    }
                    Reader::Heartbeats(sessions) => self.heartbeats.extend(sessions),
                }
            }
        }
    }
}

fn failed(reader: &Reader) -> Option<Output> {
    match reader {
        Reader::Barrier(token) => Some(Output::ReadFailed { token: *token }),
        Reader::Answer(token, _) => Some(Output::Reply {
            token: *token,
            result: Err(super::Refusal::unavailable("no leader could be confirmed: try again")),
        }),
        // An agent whose heartbeats get no answer looks for another controller.
        Reader::Heartbeats(_) => None,
    }
}
