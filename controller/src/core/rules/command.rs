//! What a client's command comes to: actions and an answer, or a refusal.

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::{NodeId, RaftId, Timestamp};
use swarm_proto::object::{Availability, Node, NodeDescription, NodeStatus, Role, Secret};

use super::{
    Observed, Plan, authority, autoscale, content, deploy, image, jobs, network, node, rebalance,
    registry, service, volume,
};
use crate::core::command::{Command, CommandDone, Refusal};
use crate::core::state::State;

/// What a command comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Done wholly or not at all; nothing when all is as wished already.
    pub actions: Vec<Action>,
    /// What was read to decide.
    pub read: Vec<(ObjectId, Counter)>,
    /// What to answer then.
    pub done: CommandDone,
}

impl Decision {
    pub(super) fn new(actions: Vec<Action>, read: Vec<(ObjectId, Counter)>) -> Self {
        Self { actions, read, done: CommandDone::Done }
    }

    /// The decision as the one group of an entry.
    pub fn into_group(self, state: &State) -> swarm_proto::entry::Group {
        let mut plan = Plan::default();
        plan.add(state, &self.read, self.actions);
        plan.groups.pop().unwrap_or_default()
    }
}

/// Decides about a command by the state alone.
pub fn decide(state: &State, command: &Command, now: Timestamp) -> Result<Decision, Refusal> {
    decide_by(state, &Observed::default(), command, now)
}

/// Decides about a command.
#[expect(
    clippy::too_many_lines,
    reason = "an arm for each command, none of which decides anything itself"
)]
pub fn decide_by(
    state: &State,
    observed: &Observed,
    command: &Command,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    match command {
        Command::Deploy { spec, prune, warnings } => {
            let spec = deploy::with_force(state, spec);
            deploy::decide(state, &spec, *prune, warnings, now)
        }
        Command::RemoveStack { stack } => remove_stack(state, stack),
        Command::Scale { service, replicas } => service::scale(state, service, *replicas, now),
        Command::ListScaling => Ok(autoscale::list(state, observed, now)),
        Command::FindImage(wanted) => Ok(image::find(state, observed, wanted)),
        Command::ChangeService { service, change } => service::change(state, service, change, now),
        Command::RollBackService { service } => service::roll_back(state, service, now),
        Command::PauseService { service } => service::pause(state, service, now),
        Command::ResumeService { service } => service::resume(state, service, now),
        Command::PromoteService { service } => service::promote(state, service, now),
        Command::RemoveService { service } => service::remove(state, service, now),
        Command::RunJob { service } => jobs::run(state, service),
        Command::RunOneOff { service, command } => {
            jobs::run_one_off(state, service, command.as_deref())
        }
        Command::StopRuns { service, run } => jobs::stop(state, service, *run),
        Command::UpdateNode { node, availability, set_labels, remove_labels } => {
            node::update(state, node, *availability, set_labels, remove_labels)
        }
        Command::RemoveNode { node, force } => node::remove(state, node, *force),
        Command::DeclareNodeLost { node } => node::declare_lost(state, node),
        Command::DemoteNode { node } => node::demote(state, node),
        Command::PromoteNode { node, address } => node::promote(state, *node, address),
        Command::CreateNetwork { name, subnet, internal, labels } => {
            network::create(state, name, *subnet, *internal, labels)
        }
        Command::RemoveNetwork { network } => network::remove(state, network),
        Command::CreateVolume { name, labels } => volume::create(state, name, labels),
        Command::RemoveVolume { volume, force } => volume::remove(state, volume, *force),
        Command::AnnounceContents { contents } => Ok(content::announce(state, contents, now)),
        Command::AddContentPart { content, size, part, data } => {
            content::add_part(state, content, *size, *part, data)
        }
        Command::CreateNamedContent { content, name, labels } => {
            content::create(state, content, name, labels, now)
        }
        Command::RemoveNamedContent { kind, name } => content::remove(state, *kind, name),
        Command::LogIn { login } => registry::log_in(state, login, now),
        Command::LogOut { registry } => registry::log_out(state, registry),
        Command::Join { hostname, role, controller_address } => {
            Ok(join(state, hostname, *role, controller_address.clone(), now))
        }
        Command::RotateTokens { controller, agent } => {
            rotate_tokens(state, controller.as_ref(), agent.as_ref())
        }
        Command::ReplaceAuthority { former, certificate, key, vouched, roots } => {
            let successor = authority::Successor { certificate, key, vouched, roots };
            authority::replace(state, former, &successor, now)
        }
        Command::DropFormerAuthority { certificate } => authority::drop_former(state, certificate),
        Command::ReportRoots { node, roots } => authority::report(state, *node, roots),
        Command::SetLock { key, rotate } => set_lock(state, key.as_ref(), *rotate),
        Command::UpdateCluster { rebalance, moves_per_minute } => {
            rebalance::set(state, *rebalance, *moves_per_minute)
        }
        Command::Rebalance { services } => rebalance::begin(state, services, now),
        Command::SetControllerAddress { node, address } => node::set_address(state, *node, address),
    }
}

pub(super) fn remove_stack(state: &State, name: &str) -> Result<Decision, Refusal> {
    let Some(stack) = state.stacks.get(name) else {
        return Err(Refusal::not_found(
            format!("there is no stack `{name}`"),
            "`swarmctl stack ls` lists the stacks",
        ));
    };
    let read = vec![(ObjectId::Stack(name.to_owned()), Counter::Spec)];
    if stack.removing {
        return Ok(Decision::new(Vec::new(), read));
    }
    if let Some((network, service)) = network::lent(state, name) {
        return Err(Refusal::conflict(
            format!("network `{network}` of stack `{name}` is in use by service `{service}`"),
            "deploy that service's stack without the network, or remove that stack, first",
        ));
    }
    let mut removing = stack.object.as_ref().clone();
    removing.removing = true;
    let mut actions = vec![Action::SetStack(Box::new(removing))];
    let services = state.services_of(name);
    actions.extend(services.iter().map(|service| Action::SetServiceRemoving(service.id)));
    Ok(Decision::new(actions, read))
}

fn rotate_tokens(
    state: &State,
    controller: Option<&Secret>,
    agent: Option<&Secret>,
) -> Result<Decision, Refusal> {
    let Some(cluster) = &state.cluster else {
        return Err(Refusal::unavailable("the cluster is not known yet"));
    };
    let mut cluster = cluster.as_ref().clone();
    if let Some(secret) = controller {
        cluster.controller_token = secret.clone();
    }
    if let Some(secret) = agent {
        cluster.agent_token = secret.clone();
    }
    Ok(Decision::new(vec![Action::SetCluster(Box::new(cluster))], Vec::new()))
}

fn set_lock(state: &State, key: Option<&Secret>, rotate: bool) -> Result<Decision, Refusal> {
    let Some(cluster) = &state.cluster else {
        return Err(Refusal::unavailable("the cluster is not known yet"));
    };
    let locked = cluster.unlock_key.is_some();
    match (locked, key, rotate) {
        (true, Some(_), false) => {
            return Err(Refusal::conflict(
                "the cluster is locked already",
                "`swarmctl cluster lock --rotate` changes its unlock key",
            ));
        }
        (false, None, _) | (false, _, true) => {
            return Err(Refusal::conflict(
                "the cluster is not locked",
                "`swarmctl cluster lock` locks it",
            ));
        }
        _ => {}
    }
    let mut cluster = cluster.as_ref().clone();
    cluster.unlock_key = key.cloned();
    Ok(Decision::new(vec![Action::SetCluster(Box::new(cluster))], Vec::new()))
}

fn join(
    state: &State,
    hostname: &str,
    role: Role,
    controller_address: Option<String>,
    now: Timestamp,
) -> Decision {
    let id = NodeId(state.next.node);
    let raft_id = (role == Role::Controller).then_some(RaftId(state.next.raft));
    let description =
        NodeDescription { hostname: hostname.to_owned(), ..NodeDescription::default() };
    let node = Node {
        id,
        role,
        availability: Availability::Active,
        labels: std::collections::BTreeMap::new(),
        status: NodeStatus::Unknown,
        status_since: now,
        description,
        raft_id,
        controller_address,
        joined_at: now,
        declared_lost: false,
        recent_downs: Vec::new(),
    };
    let mut decision = Decision::new(vec![Action::AddNode(Box::new(node))], Vec::new());
    decision.done = CommandDone::Joined { node: id, raft_id };
    decision
}
