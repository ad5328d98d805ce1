//! The certificate authority's replacement. The new one signs at once, and the former one's root is trusted until no node
//! relies on it any more: each says which roots it trusts, its agent in its description, its controller by a report.

use swarm_proto::entry::Action;
use swarm_proto::id::{NodeId, Timestamp};
use swarm_proto::object::{Cluster, FormerAuthority, Node, NodeStatus, Role, Secret};

use super::command::Decision;
use super::node::name_of;
use super::{Observed, Plan};
use crate::core::command::Refusal;
use crate::core::state::State;

/// The authority that is to sign.
pub(super) struct Successor<'a> {
    pub(super) certificate: &'a str,
    pub(super) key: &'a Secret,
    /// Its root as an intermediate of the former one.
    pub(super) vouched: &'a str,
    /// The digest of both roots.
    pub(super) roots: &'a str,
}

/// Drops the former authority once no node relies on it.
pub fn plan(state: &State, _observed: &Observed, _now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(cluster) = state.cluster.as_deref() else { return plan };
    if cluster.former_authority.is_some() && waiting(state).is_empty() {
        plan.add(state, &[], vec![without_former(cluster)]);
    }
    plan
}

/// The nodes that rely on the former authority still, by id; none when nothing is being replaced.
pub fn waiting(state: &State) -> Vec<&Node> {
    let former = state.cluster.as_ref().and_then(|cluster| cluster.former_authority.as_ref());
    let Some(former) = former else { return Vec::new() };
    let relies = |node: &&Node| {
        let agent = node.description.roots != former.roots;
        match node.role {
            Role::Agent => agent,
            // A host with a controller need not have an agent.
            Role::Controller => {
                let heard = node.status != NodeStatus::Unknown;
                !former.controllers.contains(&node.id) || (heard && agent)
            }
        }
    };
    state.nodes.values().map(|node| node.object.as_ref()).filter(relies).collect()
}

/// Their host names, or ids where none is known.
pub fn waiting_names(state: &State) -> Vec<String> {
    waiting(state).into_iter().map(name_of).collect()
}

pub(super) fn replace(
    state: &State,
    former: &str,
    successor: &Successor<'_>,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let mut cluster = known(state)?.clone();
    if cluster.former_authority.is_some() {
        return Err(under_way(state));
    }
    if cluster.ca_certificate != former {
        return Err(Refusal::conflict(
            "the certificate authority was replaced by another request meanwhile",
            "see `swarmctl cluster status`",
        ));
    }
    cluster.former_authority = Some(FormerAuthority {
        certificate: std::mem::replace(
            &mut cluster.ca_certificate,
            successor.certificate.to_owned(),
        ),
        vouched: successor.vouched.to_owned(),
        roots: successor.roots.to_owned(),
        controllers: Vec::new(),
        since: now,
    });
    cluster.ca_key = successor.key.clone();
    Ok(Decision::new(vec![Action::SetCluster(Box::new(cluster))], Vec::new()))
}

/// The refusal of a further replacement before the last one is through.
fn under_way(state: &State) -> Refusal {
    let names = waiting_names(state);
    let why = match names.as_slice() {
        [] => String::from("it is about to end"),
        [name] => format!("`{name}` still relies on the former one"),
        names => format!("`{}` still rely on the former one", names.join("`, `")),
    };
    Refusal::conflict(
        format!("the certificate authority is being replaced already: {why}"),
        "start the hosts that are down, or remove their nodes; `swarmctl cluster ca rotate --force` drops the former authority, and they must be joined anew",
    )
}

/// Refused while fewer controllers than a quorum have left it: the others will not be heard any more.
pub(super) fn drop_former(state: &State, certificate: &str) -> Result<Decision, Refusal> {
    let cluster = known(state)?;
    let former = cluster.former_authority.as_ref();
    let Some(former) = former.filter(|former| former.certificate == certificate) else {
        return Ok(Decision::new(Vec::new(), Vec::new()));
    };
    let controllers = || state.nodes.values().filter(|node| node.role == Role::Controller);
    let followed = controllers().filter(|node| former.controllers.contains(&node.id)).count();
    let quorum = controllers().count() / 2 + 1;
    if followed < quorum {
        return Err(Refusal::conflict(
            format!(
                "only {followed} of {} controllers have left the former certificate authority, and {quorum} must",
                controllers().count()
            ),
            "those that run do so within seconds: try again; start the others that are needed for a quorum",
        ));
    }
    Ok(Decision::new(vec![without_former(cluster)], Vec::new()))
}

/// What a controller reports that is none any more, or of other roots, says nothing.
pub(super) fn report(state: &State, node: NodeId, roots: &str) -> Result<Decision, Refusal> {
    let mut cluster = known(state)?.clone();
    let mut decision = Decision::new(Vec::new(), Vec::new());
    if let Some(former) = &mut cluster.former_authority
        && former.roots == roots
        && state.nodes.contains_key(&node)
        && let Err(at) = former.controllers.binary_search(&node)
    {
        former.controllers.insert(at, node);
        decision.actions.push(Action::SetCluster(Box::new(cluster)));
    }
    Ok(decision)
}

fn known(state: &State) -> Result<&Cluster, Refusal> {
    let cluster = state.cluster.as_deref();
    cluster.ok_or_else(|| Refusal::unavailable("the cluster is not known yet"))
}

fn without_former(cluster: &Cluster) -> Action {
    Action::SetCluster(Box::new(Cluster { former_authority: None, ..cluster.clone() }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::command::Command;
    use crate::core::rules::command::decide;

    const NOW: Timestamp = Timestamp(7);

    fn carry_out(state: &mut State, command: &Command) {
        let group = decide(state, command, NOW).unwrap().into_group(state);
        assert!(group.actions.is_empty() || state.apply_group(&group, &mut Vec::new()));
    }

    /// Node 1 with a controller and no agent, node 2 with an agent.
    fn cluster() -> State {
        let cluster = Cluster::new("c1".to_owned(), "old".to_owned(), Secret::new("s".to_owned()));
        let mut state = State { cluster: Some(Arc::new(cluster)), ..State::default() };
        for (hostname, role) in [("n1", Role::Controller), ("n2", Role::Agent)] {
            let address = (role == Role::Controller).then(|| String::from("n1:2377"));
            let hostname = String::from(hostname);
            carry_out(&mut state, &Command::Join { hostname, role, controller_address: address });
        }
        state
    }

    fn replace(former: &str, certificate: &str) -> Command {
        Command::ReplaceAuthority {
            former: former.to_owned(),
            certificate: certificate.to_owned(),
            key: Secret::new(String::from("key")),
            vouched: String::from("vouched"),
            roots: String::from("both"),
        }
    }

    fn report(node: u64, roots: &str) -> Command {
        Command::ReportRoots { node: NodeId(node), roots: roots.to_owned() }
    }

    fn describe(state: &mut State, node: u64, roots: &str) {
        let mut description = state.nodes[&NodeId(node)].description.clone();
        description.roots = roots.to_owned();
        let (node, description) = (NodeId(node), Box::new(description));
        let actions = vec![Action::SetNodeDescription { node, description }];
        let group = swarm_proto::entry::Group { actions, ..Default::default() };
        assert!(state.apply_group(&group, &mut Vec::new()));
    }

    fn planned(state: &State) -> usize {
        plan(state, &Observed::default(), NOW).groups.len()
    }

    #[test]
    fn the_former_authority_is_dropped_when_every_node_has_left_it() {
        let mut state = cluster();
        carry_out(&mut state, &report(1, "both"));
        assert_eq!(planned(&state), 0, "nothing is being replaced");
        carry_out(&mut state, &replace("old", "new"));
        assert_eq!(waiting_names(&state), ["n1", "n2"]);
        assert_eq!(state.cluster.as_ref().unwrap().roots(), "new\nold\n");

        carry_out(&mut state, &report(1, "others"));
        carry_out(&mut state, &report(9, "both"));
        assert_eq!(waiting_names(&state), ["n1", "n2"], "neither says anything");
        carry_out(&mut state, &report(1, "both"));
        describe(&mut state, 2, "others");
        assert_eq!((waiting_names(&state), planned(&state)), (vec![String::from("n2")], 0));
        describe(&mut state, 2, "both");
        let groups = plan(&state, &Observed::default(), NOW).groups;
        assert!(state.apply_group(&groups[0], &mut Vec::new()));
        let cluster = state.cluster.clone().unwrap();
        assert_eq!((cluster.ca_certificate.as_str(), planned(&state)), ("new", 0));
        assert_eq!(cluster.former_authority, None);
    }

    #[test]
    fn an_agent_beside_a_controller_counts_once_it_was_heard() {
        let mut state = cluster();
        carry_out(&mut state, &replace("old", "new"));
        carry_out(&mut state, &report(1, "both"));
        assert_eq!(waiting_names(&state), ["n2"]);
        let actions = vec![Action::SetNodeStatus { node: NodeId(1), status: NodeStatus::Ready }];
        let group = swarm_proto::entry::Group { actions, ..Default::default() };
        assert!(state.apply_group(&group, &mut Vec::new()));
        assert_eq!(waiting_names(&state), ["n1", "n2"]);
        describe(&mut state, 1, "both");
        assert_eq!(waiting_names(&state), ["n2"]);
    }

    #[test]
    fn one_replacement_goes_on_at_a_time_and_force_ends_it() {
        let mut state = cluster();
        carry_out(&mut state, &replace("old", "new"));
        let refusal = decide(&state, &replace("new", "newer"), NOW).unwrap_err();
        assert_eq!(
            refusal.message,
            "the certificate authority is being replaced already: `n1`, `n2` still rely on the former one"
        );
        let drop = |certificate: &str| Command::DropFormerAuthority {
            certificate: certificate.to_owned(),
        };
        carry_out(&mut state, &drop("another"));
        assert_eq!(waiting(&state).len(), 2, "it speaks of a former authority that is gone");
        let early = decide(&state, &drop("old"), NOW).unwrap_err();
        assert_eq!(
            early.message,
            "only 0 of 1 controllers have left the former certificate authority, and 1 must"
        );
        carry_out(&mut state, &report(1, "both"));
        carry_out(&mut state, &drop("old"));
        assert_eq!(waiting(&state).len(), 0);
        let late = decide(&state, &replace("old", "newer"), NOW).unwrap_err();
        assert!(late.message.ends_with("was replaced by another request meanwhile"));
    }
}
