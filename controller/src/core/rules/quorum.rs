//! Whether controllers that would be left after a change still are a quorum that can be reached.

use std::collections::BTreeSet;

use swarm_proto::id::RaftId;
use swarm_proto::object::Node;

use super::node::name_of;
use crate::core::command::{Command, Refusal};
use crate::core::output::Members;
use crate::core::state::{State, Stored};

/// What the leader sees of the Raft group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sight {
    /// Its members.
    pub members: Members,
    /// Those that were heard lately, the leader itself among them.
    pub heard: BTreeSet<RaftId>,
}

/// Refuses a command that takes out a controller where too few of the others can be reached. Force does not help: the
/// cluster would stand still.
pub fn check(state: &State, sight: &Sight, command: &Command) -> Result<(), Refusal> {
    let (node, force) = match command {
        Command::RemoveNode { node, force } => (state.find_node(node), *force),
        Command::DemoteNode { node } => (state.find_node(node), true),
        Command::PromoteNode { node, .. } => (state.nodes.get(node), true),
        _ => return Ok(()),
    };
    let Some((node, raft_id)) = node.and_then(|node| Some((node, node.raft_id?))) else {
        return Ok(());
    };
    check_left(state, sight, node, raft_id)?;
    let is_member =
        |id: &RaftId| sight.members.voters.contains(id) || sight.members.learners.contains(id);
    if !force && sight.heard.contains(&raft_id) && is_member(&raft_id) {
        return Err(Refusal::conflict(
            format!("node `{}` runs a controller that is in touch", name_of(node)),
            "take it out first with `swarmctl node demote`, or remove it by force",
        ));
    }
    Ok(())
}

fn check_left(state: &State, sight: &Sight, node: &Node, raft_id: RaftId) -> Result<(), Refusal> {
    let stays = |id: &RaftId| *id != raft_id && sight.members.voters.contains(id);
    let left: Vec<(RaftId, &Stored<Node>)> =
        state.nodes.values().filter_map(|node| Some((node.raft_id.filter(stays)?, node))).collect();
    let (reached, lost): (Vec<_>, Vec<_>) =
        left.iter().partition(|(id, _)| sight.heard.contains(id));
    let needed = left.len() / 2 + 1;
    if reached.len() >= needed {
        return Ok(());
    }
    let name = name_of(node);
    let names = |of: &[&(RaftId, &Stored<Node>)]| {
        let names: Vec<String> =
            of.iter().map(|(_, node)| format!("`{}`", name_of(node))).collect();
        names.join(", ")
    };
    let message = if left.is_empty() {
        format!("no other controller than `{name}` has a vote yet")
    } else {
        format!(
            "without `{name}` {} of {} controllers with a vote can be reached, and {needed} are needed: {} cannot be reached",
            reached.len(),
            left.len(),
            names(&lost),
        )
    };
    let hint = if left.is_empty() {
        String::from("wait until another one has caught up: see `swarmctl cluster status`")
    } else {
        format!("start {} again, or remove what is lost first", names(&lost))
    };
    Err(Refusal::conflict(message, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Controllers n1…: of those with a vote, and those heard.
    fn cluster(voters: u64, heard: &[u64]) -> (State, Sight) {
        let mut state = State::default();
        for id in 1..=voters {
            let join = Command::Join {
                hostname: format!("n{id}"),
                role: swarm_proto::object::Role::Controller,
                controller_address: Some(format!("n{id}:2377")),
            };
            let now = swarm_proto::id::Timestamp(1);
            let decided = super::super::command::decide(&state, &join, now).unwrap();
            let group = decided.into_group(&state);
            assert!(state.apply_group(&group, &mut Vec::new()));
        }
        let members = Members { voters: (1..=voters).map(RaftId).collect(), learners: Vec::new() };
        (state, Sight { members, heard: heard.iter().copied().map(RaftId).collect() })
    }

    fn demote(node: &str) -> Command {
        Command::DemoteNode { node: node.to_owned() }
    }

    #[test]
    fn what_leaves_a_quorum_is_let_through() {
        for (voters, heard, node) in [
            (2, &[1, 2][..], "n2"),
            (3, &[1, 2], "n3"),
            (3, &[1, 2, 3], "n1"),
            (5, &[1, 2, 3], "n5"),
        ] {
            let (state, sight) = cluster(voters, heard);
            assert_eq!(check(&state, &sight, &demote(node)), Ok(()), "{voters} {heard:?} {node}");
        }
        let (state, sight) = cluster(3, &[1, 2, 3]);
        assert_eq!(check(&state, &sight, &demote("nobody")), Ok(()));
    }

    #[test]
    fn what_leaves_none_is_refused_and_names_who_is_lost() {
        let (state, sight) = cluster(3, &[1, 2]);
        let refusal = check(&state, &sight, &demote("n2")).unwrap_err();
        assert_eq!(
            refusal.message,
            "without `n2` 1 of 2 controllers with a vote can be reached, and 2 are needed: `n3` cannot be reached"
        );
        assert_eq!(refusal.hint.as_deref(), Some("start `n3` again, or remove what is lost first"));
        let (state, sight) = cluster(5, &[1, 2, 3]);
        assert!(check(&state, &sight, &demote("n3")).is_err());
        let (state, mut sight) = cluster(2, &[1, 2]);
        sight.members.voters.pop();
        sight.members.learners.push(RaftId(2));
        let refusal = check(&state, &sight, &demote("n1")).unwrap_err();
        assert_eq!(refusal.message, "no other controller than `n1` has a vote yet");
    }

    #[test]
    fn one_in_touch_is_removed_by_force_only() {
        let (state, sight) = cluster(3, &[1, 2]);
        let remove = |node: &str, force| Command::RemoveNode { node: node.to_owned(), force };
        let (whole, all) = cluster(3, &[1, 2, 3]);
        let refusal = check(&whole, &all, &remove("n3", false)).unwrap_err();
        assert_eq!(refusal.message, "node `n3` runs a controller that is in touch");
        assert_eq!(check(&whole, &all, &remove("n3", true)), Ok(()));
        assert_eq!(check(&state, &sight, &remove("n3", false)), Ok(()));
        assert!(check(&state, &sight, &remove("n2", true)).is_err());
    }
}
