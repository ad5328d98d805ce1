//! `node`: the machines.

use std::collections::HashMap;
use std::time::Duration;

use swarm_proto::object::{Node, NodeStatus};
use swarm_proto::wire;
use swarm_proto::wire::control_client::ControlClient;

use super::{Call, duration, now, unknown};
use crate::connect::request_id;
use crate::failure::Failure;
use crate::output;
use crate::state::State;
use crate::view::{self, NodeView};
use crate::wait::{self, Goal, Outcome};

/// What to do with nodes.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum NodeCommand {
    /// Lists nodes
    Ls,
    /// Moves a node's tasks away and gives it no new ones
    ///
    /// Each service keeps as many running tasks as its update policy promises: the replicas less the parallelism, or all
    /// of them with start-first. Of each node at most 16 tasks are on their way at a time.
    Drain {
        /// Host names or ids
        #[arg(required = true)]
        nodes: Vec<String>,
        /// Waits until none of their tasks is left
        #[arg(long)]
        wait: bool,
        /// How long to wait
        #[arg(long, default_value = "10m", value_parser = duration, value_name = "DURATION", requires = "wait")]
        timeout: Duration,
    },
    /// Lets a node take tasks again
    Activate {
        /// Host names or ids
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Leaves a node's tasks and gives it no new ones
    Pause {
        /// Host names or ids
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Gives up the tasks of nodes that are down and will not come back soon
    ///
    /// Their tasks are replaced at once, also where more than a third of the nodes went down together, and where
    /// `unreachable_after` or `on_cut_off` would have them wait. A node that is only cut off may run them still: make
    /// sure that it does not.
    Lost {
        /// Host names or ids
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        nodes: Vec<String>,
        /// Every node that is down
        #[arg(long)]
        all: bool,
    },
    /// Shows everything about nodes
    Inspect {
        /// Host names or ids
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Lets nodes' hosts run controllers as well, beside their agents
    Promote {
        /// Host names or ids
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Takes nodes' controllers out of the cluster; their agents stay
    Demote {
        /// Host names or ids
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Removes nodes that are down from the cluster
    Rm {
        /// Host names or ids
        #[arg(required = true)]
        nodes: Vec<String>,
        /// Also a node that is not down, whose tasks are lost, and its controller; never so that no quorum is left
        #[arg(short, long)]
        force: bool,
    },
    /// Sets labels (`zone=a`) and takes them away (`zone-`)
    Label {
        /// Host name or id
        node: String,
        /// `key=value` sets, `key-` removes
        #[arg(required = true, value_parser = label)]
        labels: Vec<(String, Option<String>)>,
    },
}

pub(crate) async fn run(command: NodeCommand, call: &Call) -> Result<(), Failure> {
    match command {
        NodeCommand::Ls => {
            let state = State::get(&call.cluster, call.stale).await?;
            let views: Vec<NodeView> =
                state.nodes.values().map(|node| NodeView::of(&state, node)).collect();
            output::data(&view::list(&views, call.format, now(state.clock))?);
        }
        NodeCommand::Drain { nodes, wait, timeout } => {
            let drain = wire::Availability::Drain;
            set_availability(nodes.clone(), drain, "is being drained", call).await?;
            if wait {
                wait_until_drained(nodes, timeout, call).await?;
            }
        }
        NodeCommand::Activate { nodes } => {
            set_availability(nodes, wire::Availability::Active, "takes tasks", call).await?;
        }
        NodeCommand::Pause { nodes } => {
            set_availability(nodes, wire::Availability::Pause, "takes no new tasks", call).await?;
        }
        NodeCommand::Lost { nodes, all } => declare_lost(nodes, all, call).await?,
        NodeCommand::Inspect { nodes } => {
            let state = State::get(&call.cluster, call.stale).await?;
            for name in nodes {
                let view = NodeView::of(&state, find(&state, &name)?);
                output::data(&view::whole(&view, call.format)?);
            }
        }
        NodeCommand::Promote { nodes } => {
            for name in nodes {
                promote(&name, call).await?;
            }
        }
        NodeCommand::Demote { nodes } => demote(nodes, call).await?,
        NodeCommand::Rm { nodes, force } => {
            for node in nodes {
                let request_id = request_id()?;
                let request = wire::RemoveNodeRequest { request_id, node: node.clone(), force };
                call.cluster
                    .call(async |mut client| client.remove_node(request.clone()).await)
                    .await?;
                output::talk(&format!("node `{node}` is removed"));
            }
        }
        NodeCommand::Label { node, labels } => set_labels(node, labels, call).await?,
    }
    Ok(())
}

async fn set_labels(
    node: String,
    labels: Vec<(String, Option<String>)>,
    call: &Call,
) -> Result<(), Failure> {
    let (set, removed): (Vec<_>, Vec<_>) =
        labels.into_iter().partition(|(_, value)| value.is_some());
    let set_labels: HashMap<String, String> =
        set.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect();
    let request = wire::UpdateNodeRequest {
        request_id: request_id()?,
        node: node.clone(),
        availability: wire::Availability::Unspecified.into(),
        set_labels: set_labels.into_iter().collect(),
        remove_labels: removed.into_iter().map(|(key, _)| key).collect(),
        ..wire::UpdateNodeRequest::default()
    };
    call.cluster.call(async |mut client| client.update_node(request.clone()).await).await?;
    output::talk(&format!("node `{node}` is labelled"));
    Ok(())
}

async fn set_availability(
    nodes: Vec<String>,
    availability: wire::Availability,
    said: &str,
    call: &Call,
) -> Result<(), Failure> {
    for node in nodes {
        let request = wire::UpdateNodeRequest {
            request_id: request_id()?,
            node: node.clone(),
            availability: availability.into(),
            ..wire::UpdateNodeRequest::default()
        };
        call.cluster.call(async |mut client| client.update_node(request.clone()).await).await?;
        output::talk(&format!("node `{node}` {said}"));
    }
    Ok(())
}

async fn wait_until_drained(
    nodes: Vec<String>,
    timeout: Duration,
    call: &Call,
) -> Result<(), Failure> {
    let names: Vec<String> = nodes.iter().map(|name| format!("`{name}`")).collect();
    let goal = Goal::Drained { nodes };
    match wait::until(&call.cluster, &goal, timeout, Duration::ZERO).await? {
        Outcome::Reached => output::talk(&format!("no task is left on {}", names.join(", "))),
        Outcome::Detached => output::talk("detached: the drain goes on"),
    }
    Ok(())
}

async fn declare_lost(mut nodes: Vec<String>, all: bool, call: &Call) -> Result<(), Failure> {
    if all {
        let state = State::get(&call.cluster, false).await?;
        let down = state.nodes.values().filter(|node| node.status == NodeStatus::Down);
        nodes = down.map(|node| state.node_name(node.id)).collect();
        if nodes.is_empty() {
            output::talk("no node is down");
        }
    }
    for node in nodes {
        let request = wire::UpdateNodeRequest {
            request_id: request_id()?,
            node: node.clone(),
            lost: true,
            ..wire::UpdateNodeRequest::default()
        };
        call.cluster.call(async |mut client| client.update_node(request.clone()).await).await?;
        output::talk(&format!("node `{node}` is given up: its tasks are replaced"));
    }
    Ok(())
}

async fn demote(nodes: Vec<String>, call: &Call) -> Result<(), Failure> {
    for node in nodes {
        let request = wire::UpdateNodeRequest {
            request_id: request_id()?,
            node: node.clone(),
            demote: true,
            ..wire::UpdateNodeRequest::default()
        };
        call.cluster.call(async |mut client| client.update_node(request.clone()).await).await?;
        output::talk(&format!("the controller of node `{node}` is taken out"));
    }
    Ok(())
}

/// Has the node's host join as a controller; what was done there is said with its name.
async fn promote(name: &str, call: &Call) -> Result<(), Failure> {
    let request = wire::PromoteNodeRequest { node: name.to_owned() };
    let promote = async |channel| ControlClient::new(channel).promote_node(request.clone()).await;
    for line in call.cluster.call_patiently(promote).await?.done {
        output::talk(&format!("{name}: {line}"));
    }
    Ok(())
}

fn find<'a>(state: &'a State, name: &str) -> Result<&'a Node, Failure> {
    let is_named = |node: &&Node| node.description.hostname == name || node.id.to_string() == name;
    let known = state.nodes.values().map(|node| node.description.hostname.as_str());
    state.nodes.values().find(is_named).ok_or_else(|| unknown("node", name, known))
}

fn label(text: &str) -> Result<(String, Option<String>), String> {
    let (key, value) = match (text.split_once('='), text.strip_suffix('-')) {
        (Some((key, value)), _) => (key, Some(value.to_owned())),
        (None, Some(key)) => (key, None),
        (None, None) => return Err("write `key=value` to set, `key-` to remove".to_owned()),
    };
    let is_good = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if key.is_empty() || !key.chars().all(is_good) {
        return Err("a label's key is letters, digits, `.`, `_`, `-` and `/`".to_owned());
    }
    Ok((key.to_owned(), value))
}
