//! Networks and volumes that belong to no stack, and what leaves a stack: what a state keeps, whoever leads.

use std::collections::BTreeMap;
use std::time::Duration;

use swarm_controller::core::state::State;
use swarm_controller::core::{Command, RefusalKind};
use swarm_proto::entry::{Action, Entry, Group};
use swarm_proto::object::{NodeDescription, TaskState, TaskStatus};
use swarm_proto::version::ClusterVersion;

use crate::history::History;
use crate::spec;

fn deploy(stack: &str, services: &[&str], prune: bool) -> Command {
    Command::Deploy { spec: spec::stack(stack, services), prune, warnings: Vec::new() }
}

fn create_network() -> Command {
    let (name, labels) = ("front".to_owned(), BTreeMap::new());
    Command::CreateNetwork { name, subnet: None, internal: false, labels }
}

fn create_volume() -> Command {
    Command::CreateVolume { name: "common".to_owned(), labels: BTreeMap::new() }
}

/// A history with one node that takes tasks.
fn with_node() -> History {
    let mut history = History::new();
    history.join(NodeDescription { millicpus: 4_000, ..NodeDescription::default() });
    history
}

/// All tasks that shall run do.
fn run_all(history: &mut History) {
    history.settle();
    let since = history.now;
    let waits = |state: TaskState| state < TaskState::Running;
    let tasks = history.state.tasks.values().filter(|task| waits(task.status.state));
    let tasks: Vec<_> = tasks.map(|task| (task.id, task.status.attempt)).collect();
    for (task, attempt) in tasks {
        let status = TaskStatus {
            started_at: Some(since),
            attempt,
            ..TaskStatus::new(TaskState::Running, since)
        };
        history.write(vec![Action::SetTaskStatus { task, status: Box::new(status) }]);
    }
    history.settle();
}

fn removing(state: &State, key: &str) -> bool {
    state.services.values().find(|service| service.key == key).unwrap().removing
}

#[test]
fn another_leader_still_knows_what_shall_go_last() {
    let mut history = with_node();
    history.ask(&deploy("shop", &["web", "db"], false)).unwrap();
    run_all(&mut history);
    history.ask(&deploy("shop", &["web:image=2"], true)).unwrap();
    history.settle();
    assert!(!removing(&history.state, "db"), "web does not run yet");

    // All that another leader has is the state.
    history.state = State::from_bytes(&history.state.to_bytes()).unwrap();
    assert!(history.state.index.leaving.contains("shop"));
    let old = history.state.tasks.values().find(|task| task.desired == TaskState::Shutdown);
    let old = old.unwrap().id;
    let status =
        TaskStatus { exit_code: Some(0), ..TaskStatus::new(TaskState::Shutdown, history.now) };
    history.write(vec![Action::SetTaskStatus { task: old, status: Box::new(status) }]);
    run_all(&mut history);
    assert!(!removing(&history.state, "db"), "web has only just begun to run");
    history.now = history.now.after(Duration::from_secs(3));
    history.settle();
    assert!(!removing(&history.state, "db"), "the update of web is still watched");
    history.now = history.now.after(Duration::from_secs(3));
    history.settle();
    assert!(removing(&history.state, "db"));
}

#[test]
fn what_is_in_use_cannot_be_removed_by_any_entry() {
    let mut history = with_node();
    history.ask(&create_network()).unwrap();
    history.ask(&create_volume()).unwrap();
    history.ask(&deploy("a", &["web:extnet=front,extvolume=common"], false)).unwrap();
    let network = *history.state.index.network_names.get("front").unwrap();
    let volume = *history.state.index.volume_names.get("common").unwrap();
    assert!(!history.write(vec![Action::SetNetworkRemoving(network)]));
    assert!(!history.write(vec![Action::SetVolumeRemoving(volume)]));

    // Nor can a service come to use what is going.
    let service = history.state.services.values().next().unwrap().object.as_ref().clone();
    history.ask(&Command::RemoveStack { stack: "a".to_owned() }).unwrap();
    history.settle();
    assert!(history.state.services.is_empty());
    assert!(history.write(vec![Action::SetNetworkRemoving(network)]));
    let mut late = service;
    late.id.0 += 1;
    assert!(!history.write(vec![Action::SetService(Box::new(late))]));
    let refused = history.ask(&deploy("b", &["web:extnet=front"], false)).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Conflict, "{refused}");
}

#[test]
fn what_belongs_to_no_stack_waits_for_its_cluster_version() {
    let mut history = with_node();
    let needs = |history: &History, command: &Command| {
        let decision = swarm_controller::core::rules::command::decide;
        let group: Group =
            decision(&history.state, command, history.now).unwrap().into_group(&history.state);
        Entry { groups: vec![group], ..Entry::default() }.needs()
    };
    assert_eq!(needs(&history, &create_network()), ClusterVersion(4));
    assert_eq!(needs(&history, &create_volume()), ClusterVersion(4));
    history.ask(&create_network()).unwrap();
    let plain = deploy("a", &["web"], false);
    assert_eq!(needs(&history, &plain), ClusterVersion::FIRST);
    let external = deploy("a", &["web:extnet=front"], false);
    assert_eq!(needs(&history, &external), ClusterVersion(4));
    history.ask(&deploy("a", &["web", "db"], false)).unwrap();
    assert_eq!(needs(&history, &deploy("a", &["web"], true)), ClusterVersion(4));

    // Where not all controllers know of it, what is pruned goes at once, as it did before.
    history.state.cluster_version = ClusterVersion(3);
    assert_eq!(needs(&history, &deploy("a", &["web"], true)), ClusterVersion::FIRST);
}
