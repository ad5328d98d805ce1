//! Answers to commands as bytes, remembered in the state for retried requests.

use prost::Message as _;
use swarm_proto::convert::each;
use swarm_proto::id::{NodeId, RaftId};
use swarm_proto::wire;
use swarm_proto::wire::command_answer::Answer;

use crate::core::command::CommandDone;

/// The bytes of an answer.
pub(crate) fn encode(done: &CommandDone) -> Vec<u8> {
    let answer = match done.clone() {
        CommandDone::Deployed { revision, changed, warnings, changes, kept, leaving } => {
            Answer::Deployed(wire::DeployedAnswer {
                revision,
                changed,
                warnings,
                changes,
                kept,
                leaving,
            })
        }
        CommandDone::Scaled { previous } => Answer::ScaledFrom(previous),
        CommandDone::Joined { node, raft_id } => {
            Answer::Joined(wire::JoinedAnswer { node: node.0, raft_id: raft_id.map(|id| id.0) })
        }
        CommandDone::Missing(contents) => {
            Answer::Missing(wire::MissingAnswer { contents: each(&contents) })
        }
        CommandDone::RunStarted { run } => Answer::Run(run),
        CommandDone::Moved(moves) => Answer::Moves(wire::MovesAnswer { moves: each(&moves) }),
        // A report comes of no entry: it is made anew for each request.
        CommandDone::Scaling(_) | CommandDone::Found(_) | CommandDone::Done => {
            Answer::Done(wire::Nothing {})
        }
    };
    wire::CommandAnswer { answer: Some(answer) }.encode_to_vec()
}

/// The answer that the bytes stand for; `None` when a later version wrote something unknown.
pub(crate) fn decode(bytes: &[u8]) -> Option<CommandDone> {
    Some(match wire::CommandAnswer::decode(bytes).ok()?.answer? {
        Answer::Deployed(wire::DeployedAnswer {
            revision,
            changed,
            warnings,
            changes,
            kept,
            leaving,
        }) => CommandDone::Deployed { revision, changed, warnings, changes, kept, leaving },
        Answer::ScaledFrom(previous) => CommandDone::Scaled { previous },
        Answer::Joined(joined) => {
            CommandDone::Joined { node: NodeId(joined.node), raft_id: joined.raft_id.map(RaftId) }
        }
        Answer::Missing(missing) => {
            let contents = missing.contents.into_iter().map(TryInto::try_into);
            CommandDone::Missing(contents.collect::<Result<_, _>>().ok()?)
        }
        Answer::Run(run) => CommandDone::RunStarted { run },
        Answer::Moves(answer) => {
            let moves = answer.moves.into_iter().map(TryInto::try_into);
            CommandDone::Moved(moves.collect::<Result<_, _>>().ok()?)
        }
        Answer::Done(_) => CommandDone::Done,
    })
}
