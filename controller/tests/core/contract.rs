//! What a core promises to its surroundings, input by input.

use std::collections::{BTreeMap, BTreeSet};

use prost_for_raft::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType, HardState, Message,
    MessageType, Snapshot,
};
use swarm_controller::core::{
    Command, CommandDone, Core, CoreConfig, DiskEntry, FromAgent, Input, Output, Recovered,
    RefusalKind, ToAgent, bootstrap,
};
use swarm_proto::id::{NetworkId, NodeId, RaftId, Timestamp};
use swarm_proto::object::{
    Availability, Cluster, NodeDescription, Role, Secret, TaskState, TaskStatus,
};

use crate::{SYNC, spec};

pub(crate) const START: u64 = 1_700_000_000_000;

fn cluster() -> Cluster {
    Cluster {
        task_history: 2,
        address_pools: vec![([10, 200, 0, 0].into(), 16)],
        ..Cluster::new("0".repeat(32), String::new(), Secret::default())
    }
}

pub(crate) fn first_disk() -> Recovered {
    disk_of(cluster())
}

fn disk_of(cluster: Cluster) -> Recovered {
    let first = bootstrap(cluster, "n1", "n1:2377", Timestamp(START));
    let snapshot = first.snapshot.map(|s| (s.index, s.term, s.encode()));
    Recovered { hard_state: first.hard_state, snapshot, entries: Vec::new() }
}

/// Hands over an input; the disk is at once done with what it is given.
pub(crate) fn drive(core: &mut Core, input: Input) -> Vec<Output> {
    let mut inputs = vec![input];
    let mut all = Vec::new();
    while let Some(input) = inputs.pop() {
        for output in core.handle(input, Timestamp(START)) {
            if let Output::Persist(batch) = &output {
                inputs.push(Input::Persisted { batch: batch.number, micros: SYNC });
            }
            all.push(output);
        }
    }
    all
}

/// The only controller of a cluster, leading.
pub(crate) fn leader() -> Core {
    leader_of(cluster())
}

fn leader_of(cluster: Cluster) -> Core {
    let mut core = Core::new(CoreConfig::new(RaftId(1), disk_of(cluster))).unwrap();
    for _ in 0..40 {
        drive(&mut core, Input::Tick);
    }
    assert!(core.status().leading);
    core
}

fn deploy() -> Command {
    let spec = spec::stack("shop", &["web:replicas=2"]);
    Command::Deploy { spec, prune: false, warnings: Vec::new() }
}

fn answer(outputs: &[Output]) -> Option<&CommandDone> {
    outputs.iter().find_map(|output| match output {
        Output::Reply { result: Ok(done), .. } => Some(done),
        _ => None,
    })
}

#[test]
fn networks_are_made_as_the_cluster_was_told() {
    let mut core = leader_of(Cluster {
        // The second is one subnet, though smaller than wanted.
        address_pools: vec![([172, 20, 0, 0].into(), 23), ([10, 9, 8, 0].into(), 28)],
        vni_base: 0xff_fffd,
        ..cluster()
    });
    let mut refused = None;
    for name in ["a", "b", "c", "d"] {
        let spec = spec::stack(name, &["web:replicas=1"]);
        let command = Command::Deploy { spec, prune: false, warnings: Vec::new() };
        let input = Input::Command { token: 1, request_id: name.to_owned(), command };
        refused = drive(&mut core, input).into_iter().find_map(|output| match output {
            Output::Reply { result: Err(refusal), .. } => Some(refusal.message),
            _ => None,
        });
    }
    let networks = core.state().networks.values();
    let mut made: Vec<_> = networks
        .map(|network| (network.vni, network.subnet.to_string(), network.prefix_length))
        .collect();
    made.sort();
    let expected = [
        (0xff_fffd, "172.20.1.0".to_owned(), 24),
        (0xff_fffe, "10.9.8.0".to_owned(), 28),
        (0xff_ffff, "172.20.0.0".to_owned(), 24),
    ];
    assert_eq!(made, expected);
    assert_eq!(refused.as_deref(), Some("no VXLAN network identifier is left for network `net`"));
}

#[test]
fn a_retried_request_is_applied_once_and_answered_alike() {
    let mut core = leader();
    let ask = |token| Input::Command { token, request_id: "r".to_owned(), command: deploy() };
    let first = drive(&mut core, ask(1));
    let version = core.state().version;
    let second = drive(&mut core, ask(2));
    let first = answer(&first).unwrap();
    assert!(matches!(first, CommandDone::Deployed { revision: 1, changed: true, .. }));
    assert_eq!(answer(&second), Some(first));
    assert_eq!(core.state().version, version);
}

#[test]
fn nothing_is_answered_before_it_is_on_disk() {
    let mut core = leader();
    let input = Input::Command { token: 1, request_id: "r".to_owned(), command: deploy() };
    let outputs = core.handle(input, Timestamp(START));
    assert!(answer(&outputs).is_none());
    assert!(core.state().stacks.is_empty());
    let batches = outputs.iter().filter_map(|output| match output {
        Output::Persist(batch) => Some(batch.number),
        _ => None,
    });
    let batch = batches.max().expect("something to write");
    let outputs = drive(&mut core, Input::Persisted { batch, micros: SYNC });
    assert!(answer(&outputs).is_some());
}

#[test]
fn state_is_told_before_the_answer() {
    let mut core = leader();
    let input = Input::Command { token: 1, request_id: "r".to_owned(), command: deploy() };
    let outputs = drive(&mut core, input);
    let applied = outputs.iter().position(
        |o| matches!(o, Output::Applied { state, .. } if state.stacks.contains_key("shop")),
    );
    let replied = outputs.iter().position(|output| matches!(output, Output::Reply { .. }));
    assert!(applied.unwrap() < replied.unwrap());
}

#[test]
fn a_follower_refuses_commands_and_sessions() {
    let mut core = Core::new(CoreConfig::new(RaftId(2), Recovered::default())).unwrap();
    let input = Input::Command { token: 7, request_id: "r".to_owned(), command: deploy() };
    let outputs = drive(&mut core, input);
    let [Output::Reply { token: 7, result: Err(refusal) }] = outputs.as_slice() else {
        panic!("{outputs:?}");
    };
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    let outputs = drive(&mut core, Input::SessionOpened { session: 1, node: NodeId(1) });
    assert!(matches!(outputs.as_slice(), [Output::SessionEnd { session: 1, .. }]));
}

/// A request for a vote from member 1, as member 2 gets it.
fn vote_request() -> Vec<u8> {
    let mut message = Message { to: 2, from: 1, term: 5, ..Message::default() };
    message.set_msg_type(MessageType::MsgRequestVote);
    message.index = 1;
    message.log_term = 1;
    message.encode_to_vec()
}

#[test]
fn a_vote_is_given_only_once_it_is_on_disk() {
    let mut core = Core::new(CoreConfig::new(RaftId(2), Recovered::default())).unwrap();
    let outputs = core.handle(Input::PeerMessage { bytes: vote_request() }, Timestamp(START));
    let [Output::Persist(batch)] = outputs.as_slice() else { panic!("{outputs:?}") };
    let state = HardState::decode(batch.hard_state.as_deref().unwrap()).unwrap();
    assert_eq!((state.term, state.vote), (5, 1));
    let input = Input::Persisted { batch: batch.number, micros: SYNC };
    let outputs = core.handle(input, Timestamp(START));
    assert!(outputs.iter().any(|output| matches!(output, Output::Send { to: RaftId(1), .. })));
}

/// A group's only voter is elected at once, with nobody's vote but its own: if it spoke before that is on disk, it could
/// lead twice in a term, and tell its learners different things.
#[test]
fn the_only_voter_speaks_in_a_term_only_once_it_is_on_disk() {
    let mut disk = first_disk();
    let (index, term, bytes) = disk.snapshot.take().unwrap();
    let mut snapshot = Snapshot::decode(bytes.as_slice()).unwrap();
    snapshot.mut_metadata().mut_conf_state().learners.push(2);
    disk.snapshot = Some((index, term, snapshot.encode_to_vec()));
    let mut core = Core::new(CoreConfig::new(RaftId(1), disk)).unwrap();
    let mut sends = |input| {
        let outputs = core.handle(input, Timestamp(START));
        outputs.iter().any(|output| matches!(output, Output::Send { .. }))
    };
    assert!((0..60).all(|_| !sends(Input::Tick)), "it spoke before anything was on disk");
    assert!((1..=9).any(|batch| sends(Input::Persisted { batch, micros: SYNC })));
}

/// raft-rs lets a leader that is removed lead on, and panics at the next answer.
#[test]
fn a_leader_that_is_removed_leads_no_longer() {
    let kinds = [
        (ConfChangeType::AddNode, 2),
        (ConfChangeType::AddLearnerNode, 1),
        (ConfChangeType::RemoveNode, 1),
    ];
    let changes = kinds.into_iter().zip(2..).map(|((kind, member), index)| {
        let mut single = ConfChangeSingle { node_id: member, ..ConfChangeSingle::default() };
        single.set_change_type(kind);
        let mut change = ConfChangeV2::default();
        change.set_changes(vec![single]);
        let data = change.encode_to_vec();
        let mut entry = Entry { index, term: 1, data, ..Entry::default() };
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        DiskEntry { index, term: 1, data: entry.encode_to_vec() }
    });
    let disk = Recovered { entries: changes.collect(), ..first_disk() };
    let mut core = Core::new(CoreConfig::new(RaftId(1), disk)).unwrap();
    for _ in 0..60 {
        drive(&mut core, Input::Tick);
    }
    let status = core.status();
    assert_eq!((status.leading, status.members.voters), (false, vec![RaftId(2)]));
    let mut answer = Message { to: 1, from: 2, term: status.term, index: 5, ..Message::default() };
    answer.set_msg_type(MessageType::MsgAppendResponse);
    drive(&mut core, Input::PeerMessage { bytes: answer.encode_to_vec() });
}

#[test]
fn a_member_starts_with_what_its_disk_kept() {
    let mut core = leader();
    let mut disk = first_disk();
    let input = Input::Command { token: 1, request_id: "r".to_owned(), command: deploy() };
    for output in drive(&mut core, input) {
        if let Output::Persist(batch) = output {
            disk.entries.extend(batch.entries);
        }
    }
    // The leader's first, empty entry of its term was written before.
    let first = disk.entries[0].index;
    let empty = Entry { index: first - 1, term: disk.entries[0].term, ..Entry::default() };
    let (index, term) = (empty.index, empty.term);
    disk.entries.insert(0, DiskEntry { index, term, data: empty.encode_to_vec() });
    let mut again = Core::new(CoreConfig::new(RaftId(1), disk)).unwrap();
    for _ in 0..40 {
        drive(&mut again, Input::Tick);
    }
    assert!(again.state().stacks.contains_key("shop"));
    assert_eq!(again.state().to_bytes().len(), core.state().to_bytes().len());
}

#[test]
fn a_disk_with_a_hole_is_refused() {
    let entry = |index| {
        let data = Entry { index, term: 1, ..Entry::default() }.encode_to_vec();
        DiskEntry { index, term: 1, data }
    };
    let with = |entries| Recovered { entries, ..first_disk() };
    let start = |disk| Core::new(CoreConfig::new(RaftId(1), disk)).err().map(|e| e.to_string());
    let hole = start(with(vec![entry(2), entry(4)])).unwrap();
    assert!(hole.ends_with("the log: entry 4 follows 2"), "{hole}");
    let missing = start(with(vec![entry(3)])).unwrap();
    assert!(missing.ends_with("entries 1 to 3 are missing"), "{missing}");
    let mut swapped = entry(2);
    swapped.term = 3;
    assert!(start(with(vec![swapped])).is_some());
    let garbage = DiskEntry { index: 2, term: 1, data: vec![0xff; 9] };
    assert!(start(with(vec![garbage])).is_some());
}

pub(crate) fn hello() -> FromAgent {
    FromAgent::Hello {
        nonce: String::new(),
        description: NodeDescription { hostname: "n1".to_owned(), ..NodeDescription::default() },
        statuses: Vec::new(),
        volumes: Vec::new(),
        takes_network_changes: true,
    }
}

fn ended(outputs: &[Output]) -> Vec<u64> {
    let ended = outputs.iter().filter_map(|output| match output {
        Output::SessionEnd { session, .. } => Some(*session),
        _ => None,
    });
    ended.collect()
}

#[test]
fn a_session_begins_with_one_hello_and_the_complete_set() {
    let mut core = leader();
    drive(&mut core, Input::SessionOpened { session: 1, node: NodeId(1) });
    let mut outputs = drive(&mut core, Input::SessionMessage { session: 1, message: hello() });
    outputs.extend(drive(&mut core, Input::Tick));
    let sent: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::SessionSend { session: 1, message } => Some(message),
            _ => None,
        })
        .collect();
    assert!(matches!(sent[0], ToAgent::Welcome { node: NodeId(1), .. }));
    assert!(matches!(sent[1], ToAgent::Assignments { complete: true, sequence: 1, .. }));
    let outputs = drive(&mut core, Input::SessionMessage { session: 1, message: hello() });
    assert_eq!(ended(&outputs), [1]);
}

/// The networks that an agent is told to remove.
fn removed_networks(outputs: &[Output]) -> Vec<NetworkId> {
    let removed = outputs.iter().filter_map(|output| match output {
        Output::SessionSend { message: ToAgent::Assignments { diff, .. }, .. } => {
            Some(diff.removed_networks.clone())
        }
        _ => None,
    });
    removed.flatten().collect()
}

/// A node may get a place on a network and lose the need of it before its agent hears of either. It must be told all the
/// same: it keeps the place, and the network its addresses, until the agent says that the network is gone.
#[test]
fn an_agent_removes_what_it_was_never_told_of() {
    let mut core = leader();
    drive(&mut core, Input::SessionOpened { session: 1, node: NodeId(1) });
    drive(&mut core, Input::SessionMessage { session: 1, message: hello() });
    drive(&mut core, Input::Tick);
    let mut commands = 0;
    let mut command = |core: &mut Core, command| {
        commands += 1;
        let (token, request_id) = (commands, format!("r{commands}"));
        drive(core, Input::Command { token, request_id, command })
    };
    let (role, hostname) = (Role::Agent, "n2".to_owned());
    command(&mut core, Command::Join { hostname, role, controller_address: None });
    command(
        &mut core,
        Command::UpdateNode {
            node: "n1".to_owned(),
            availability: Some(Availability::Drain),
            set_labels: BTreeMap::new(),
            remove_labels: Vec::new(),
        },
    );
    drive(&mut core, Input::Tick);
    // What is sent to the second agent holds back what follows until the next tick.
    drive(&mut core, Input::SessionOpened { session: 2, node: NodeId(2) });
    drive(&mut core, Input::SessionMessage { session: 2, message: hello() });
    let spec = spec::stack("shop", &["web:replicas=1,net=net,port=8000:80"]);
    command(&mut core, Command::Deploy { spec, prune: false, warnings: Vec::new() });
    let (network, gateways) = {
        let network = core.state().networks.values().next().unwrap();
        (network.id, network.gateways.clone())
    };
    assert!(gateways.iter().any(|gateway| gateway.node == NodeId(1)), "{gateways:?}");
    command(&mut core, Command::RemoveStack { stack: "shop".to_owned() });
    let mut outputs = command(&mut core, Command::RemoveNode { node: "2".to_owned(), force: true });
    outputs.extend(drive(&mut core, Input::Tick));
    assert_eq!(removed_networks(&outputs), [network]);
    let message = FromAgent::Confirmation {
        networks: BTreeMap::new(),
        removed_networks: vec![network],
        removed_tasks: Vec::new(),
    };
    drive(&mut core, Input::SessionMessage { session: 1, message });
    assert!(!core.state().networks.contains_key(&network));
}

/// More nodes than are told in one round, and news for all of them with each.
#[test]
fn no_session_is_kept_waiting_by_those_before_it() {
    const NODES: u64 = 300;
    let mut core = leader_of(Cluster { subnet_prefix_length: 20, ..cluster() });
    let command = |core: &mut Core, token: u64, command| {
        drive(core, Input::Command { token, request_id: format!("r{token}"), command })
    };
    for number in 2..=NODES {
        let (role, hostname) = (Role::Agent, format!("n{number}"));
        command(&mut core, number, Command::Join { hostname, role, controller_address: None });
    }
    for number in 1..=NODES {
        drive(&mut core, Input::SessionOpened { session: number, node: NodeId(number) });
        drive(&mut core, Input::SessionMessage { session: number, message: hello() });
    }
    let spec = spec::stack("shop", &["web:global"]);
    command(&mut core, 1, Command::Deploy { spec, prune: false, warnings: Vec::new() });
    for _ in 0..10 {
        drive(&mut core, Input::Tick);
    }
    let tasks = core.state().tasks.values();
    let tasks: Vec<_> = tasks.filter_map(|task| Some((task.node?, task.id))).collect();
    assert_eq!(tasks.len() as u64, NODES);
    let mut told = BTreeSet::new();
    for (node, task) in tasks.into_iter().take(4) {
        let status = TaskStatus::new(TaskState::Running, Timestamp(START));
        let message = FromAgent::Statuses(vec![(task, status)]);
        let mut outputs = drive(&mut core, Input::SessionMessage { session: node.0, message });
        outputs.extend(drive(&mut core, Input::Tick));
        told.extend(outputs.iter().filter_map(|output| match output {
            Output::SessionSend { session, message: ToAgent::Assignments { .. } } => Some(*session),
            _ => None,
        }));
    }
    assert_eq!(told.len() as u64, NODES, "told: {told:?}");
}

#[test]
fn sessions_of_strangers_and_without_hello_end() {
    let mut core = leader();
    drive(&mut core, Input::SessionOpened { session: 1, node: NodeId(99) });
    let outputs = drive(&mut core, Input::SessionMessage { session: 1, message: hello() });
    assert_eq!(ended(&outputs), [1]);
    drive(&mut core, Input::SessionOpened { session: 2, node: NodeId(1) });
    let message = FromAgent::Heartbeat;
    let outputs = drive(&mut core, Input::SessionMessage { session: 2, message });
    assert_eq!(ended(&outputs), [2]);
    drive(&mut core, Input::SessionOpened { session: 3, node: NodeId(1) });
    let outputs = drive(&mut core, Input::SessionOpened { session: 4, node: NodeId(1) });
    assert_eq!(ended(&outputs), [3]);
}

#[test]
fn reads_wait_for_the_leader() {
    let mut core = leader();
    let outputs = drive(&mut core, Input::ReadBarrier { token: 3 });
    assert!(outputs.iter().any(|output| matches!(output, Output::ReadReady { token: 3 })));
    let mut lonely = Core::new(CoreConfig::new(RaftId(2), Recovered::default())).unwrap();
    let mut outputs = drive(&mut lonely, Input::ReadBarrier { token: 4 });
    for _ in 0..200 {
        outputs.extend(drive(&mut lonely, Input::Tick));
    }
    assert!(outputs.iter().any(|output| matches!(output, Output::ReadFailed { token: 4 })));
}

#[test]
fn ids_are_counted_and_never_reused() {
    let mut core = leader();
    let join = |core: &mut Core, token: u64, role| {
        let command = Command::Join {
            hostname: format!("m{token}"),
            role,
            controller_address: (role == Role::Controller).then(|| "m:2377".to_owned()),
        };
        let input = Input::Command { token, request_id: format!("j{token}"), command };
        answer(&drive(core, input)).cloned().unwrap()
    };
    let second = join(&mut core, 1, Role::Agent);
    assert_eq!(second, CommandDone::Joined { node: NodeId(2), raft_id: None });
    let command = Command::RemoveNode { node: "2".to_owned(), force: true };
    let input = Input::Command { token: 2, request_id: "x".to_owned(), command };
    assert!(answer(&drive(&mut core, input)).is_some());
    let third = join(&mut core, 3, Role::Controller);
    assert_eq!(third, CommandDone::Joined { node: NodeId(3), raft_id: Some(RaftId(2)) });
}

#[test]
fn what_an_agent_says_to_a_new_leader_is_heard() {
    let mut core = Core::new(CoreConfig::new(RaftId(1), first_disk())).unwrap();
    let mut held = Vec::new();
    let mut now = START;
    // Elected, but its first entry is not on disk: it cannot know yet what is committed.
    while !core.status().leading {
        now += 25;
        held.extend(core.handle(Input::Tick, Timestamp(now)));
        if !core.status().leading {
            for output in std::mem::take(&mut held) {
                if let Output::Persist(batch) = output {
                    held.extend(core.handle(
                        Input::Persisted { batch: batch.number, micros: SYNC },
                        Timestamp(now),
                    ));
                }
            }
        }
    }
    core.handle(Input::SessionOpened { session: 1, node: NodeId(1) }, Timestamp(now));
    let message = hello();
    let outputs = core.handle(Input::SessionMessage { session: 1, message }, Timestamp(now));
    assert!(outputs.is_empty(), "{outputs:?}");
    let batches = held.iter().filter_map(|output| match output {
        Output::Persist(batch) => Some(batch.number),
        _ => None,
    });
    let input = Input::Persisted { batch: batches.max().unwrap(), micros: SYNC };
    let outputs = drive(&mut core, input);
    let greeted = |output: &Output| {
        matches!(output, Output::SessionSend { session: 1, message: ToAgent::Welcome { .. } })
    };
    assert!(outputs.iter().any(greeted), "{outputs:?}");
}
