//! When leaders change, in virtual time: never because of a slow disk, and soon when a leader is lost.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use swarm_controller::core::{
    Command, Core, CoreConfig, FromAgent, Input, Output, Recovered, ToAgent,
};
use swarm_proto::id::{NodeId, RaftId, Timestamp};
use swarm_proto::object::Role;

use crate::contract::{START, first_disk, hello};

const TICK: u64 = 25;
/// Between two members, one way.
const TRIP: u64 = 1;

#[derive(Debug)]
enum Event {
    Tick(u64),
    Arrives { to: u64, bytes: Vec<u8>, snapshot_of: Option<u64> },
    Synced { member: u64, last: u64, micros: u64 },
    Write,
}

/// A disk that makes all that waits durable with one sync.
#[derive(Default)]
struct Disk {
    /// From and up to how many milliseconds a sync takes.
    sync: (u64, u64),
    waiting: Option<u64>,
    busy: bool,
}

/// Controllers, their disks and the network between them.
struct Group {
    cores: BTreeMap<u64, Core>,
    disks: BTreeMap<u64, Disk>,
    now: u64,
    order: u64,
    random: u64,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    /// Who became leader, and when.
    led: Vec<(u64, u64)>,
    /// When a write was acknowledged last.
    written: u64,
    /// Milliseconds between two writes.
    pause: u64,
    /// What members say to each other is lost.
    is_cut: bool,
    /// Answers to heartbeats.
    answers: u64,
    token: u64,
}

impl Group {
    /// So many members whose disks take so long.
    fn of(size: u64, seed: u64, sync: (u64, u64)) -> Self {
        let mut group = Self {
            cores: BTreeMap::new(),
            disks: BTreeMap::new(),
            now: START,
            order: 0,
            random: seed,
            heap: BinaryHeap::new(),
            events: BTreeMap::new(),
            led: Vec::new(),
            written: 0,
            pause: 200,
            is_cut: false,
            answers: 0,
            token: 0,
        };
        group.start(1, first_disk());
        group.run(3_000);
        for number in 2..=size {
            group.start(number, Recovered::default());
            let hostname = format!("n{number}");
            let address = Some(format!("{hostname}:2377"));
            let command =
                Command::Join { hostname, role: Role::Controller, controller_address: address };
            group.command(1, command);
            group.run(2_000);
        }
        let voters = group.cores[&1].status().members.voters.len() as u64;
        assert_eq!(voters, size, "all have joined");
        for disk in group.disks.values_mut() {
            disk.sync = sync;
        }
        group.at(0, Event::Write);
        group
    }

    fn start(&mut self, id: u64, recovered: Recovered) {
        let config = CoreConfig { seed: self.random, ..CoreConfig::new(RaftId(id), recovered) };
        self.cores.insert(id, Core::new(config).unwrap());
        self.disks.insert(id, Disk::default());
        let phase = self.draw(TICK);
        self.at(phase, Event::Tick(id));
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % below.max(1)
    }

    fn at(&mut self, after: u64, event: Event) {
        self.order += 1;
        self.heap.push(Reverse((self.now + after, self.order)));
        self.events.insert(self.order, event);
    }

    fn run(&mut self, milliseconds: u64) {
        self.run_until(milliseconds, |_| false);
    }

    fn run_until(&mut self, milliseconds: u64, done: impl Fn(&Self) -> bool) {
        let end = self.now + milliseconds;
        while let Some(Reverse((time, order))) = self.heap.peek().copied() {
            if time > end || done(self) {
                break;
            }
            self.heap.pop();
            self.now = time;
            if let Some(event) = self.events.remove(&order) {
                self.happen(event);
            }
        }
        if !done(self) {
            self.now = end;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(id) => {
                self.input(id, Input::Tick);
                self.at(TICK, Event::Tick(id));
            }
            Event::Arrives { to, bytes, snapshot_of } => {
                self.input(to, Input::PeerMessage { bytes });
                if let Some(from) = snapshot_of {
                    self.input(from, Input::SnapshotSent { to: RaftId(to), ok: true });
                }
            }
            Event::Synced { member, last, micros } => {
                let Some(disk) = self.disks.get_mut(&member) else { return };
                disk.busy = false;
                self.begin_sync(member);
                self.input(member, Input::Persisted { batch: last, micros });
            }
            Event::Write => {
                let leaders: Vec<u64> =
                    self.cores.keys().copied().filter(|id| self.leads(*id)).collect();
                for leader in leaders {
                    let address = format!("n1:{}", 1000 + self.token % 60_000);
                    let node = NodeId(1);
                    self.command(leader, Command::SetControllerAddress { node, address });
                }
                self.at(self.pause, Event::Write);
            }
        }
    }

    fn begin_sync(&mut self, member: u64) {
        let Some(disk) = self.disks.get_mut(&member) else { return };
        if disk.busy {
            return;
        }
        let Some(last) = disk.waiting.take() else { return };
        disk.busy = true;
        let (least, most) = disk.sync;
        let took = least + self.draw(most - least + 1);
        self.at(took, Event::Synced { member, last, micros: took * 1000 });
    }

    fn command(&mut self, to: u64, command: Command) {
        self.token += 1;
        let (token, request_id) = (self.token, format!("r{}", self.token));
        self.input(to, Input::Command { token, request_id, command });
    }

    fn leads(&self, id: u64) -> bool {
        self.cores.get(&id).is_some_and(|core| core.status().leading)
    }

    fn input(&mut self, id: u64, input: Input) {
        let Some(core) = self.cores.get_mut(&id) else { return };
        for output in core.handle(input, Timestamp(self.now)) {
            match output {
                Output::Send { .. } if self.is_cut => {}
                Output::SessionSend { message: ToAgent::Alive { .. }, .. } => self.answers += 1,
                Output::Send { to, messages } => {
                    for bytes in messages {
                        self.at(TRIP, Event::Arrives { to: to.0, bytes, snapshot_of: None });
                    }
                }
                Output::SendSnapshot { to, snapshot } => {
                    let (to, bytes) = (to.0, snapshot.encode());
                    self.at(TRIP, Event::Arrives { to, bytes, snapshot_of: Some(id) });
                }
                Output::Persist(batch) => {
                    if let Some(disk) = self.disks.get_mut(&id) {
                        disk.waiting = Some(batch.number);
                    }
                    self.begin_sync(id);
                }
                Output::Reply { result: Ok(_), .. } => self.written = self.now,
                Output::LeaderChanged { leader } if leader == Some(RaftId(id)) => {
                    self.led.push((self.now, id));
                }
                _ => {}
            }
        }
    }

    /// Takes the leader away for good; says how long it took until a write was acknowledged.
    fn lose_leader(&mut self, within: u64) -> u64 {
        let leader = *self.cores.keys().find(|id| self.leads(**id)).unwrap();
        self.cores.remove(&leader);
        let lost = self.now;
        self.run_until(within, |group| group.written > lost);
        assert!(self.written > lost, "no write within {within} ms of virtual time");
        self.written - lost
    }
}

#[test]
fn slow_disks_change_no_leader() {
    for (seed, sync) in [(1, (100, 200)), (2, (500, 700)), (3, (1_000, 2_000)), (4, (2, 2_000))] {
        let mut group = Group::of(3, seed, sync);
        group.run(2 * 60_000);
        assert_eq!(group.led.len(), 1, "with syncs of {sync:?} ms: {:?}", group.led);
        assert!(group.now - group.written < 10_000, "writes go on");
        let timings: Vec<u64> =
            group.cores.values().map(|core| core.status().timing.election_ms).collect();
        assert!(timings.iter().all(|ms| *ms >= 3 * sync.1 * 9 / 10), "{timings:?} for {sync:?}");
    }
}

#[test]
fn one_slow_voter_slows_elections_down_for_all_and_a_quick_one_is_found_again() {
    let mut group = Group::of(3, 5, (2, 4));
    group.disks.get_mut(&3).unwrap().sync = (600, 800);
    group.run(30_000);
    let election = |group: &Group, id| group.cores[&id].status().timing.election_ms;
    for id in 1..=3 {
        // A write may wait for the one before it.
        assert!((2_000..4_800).contains(&election(&group, id)), "{}", election(&group, id));
    }
    group.disks.get_mut(&3).unwrap().sync = (2, 4);
    group.run(120_000);
    for id in 1..=3 {
        assert_eq!(election(&group, id), 250);
    }
    assert_eq!(group.led.len(), 1, "{:?}", group.led);
}

#[test]
fn a_lost_leader_on_a_slow_disk_is_followed_by_one_election() {
    for (seed, sync) in [(1, (100, 200)), (2, (500, 700)), (3, (1_500, 2_000))] {
        let mut group = Group::of(3, seed, sync);
        group.run(30_000);
        let took = group.lose_leader(60_000);
        assert_eq!(group.led.len(), 2, "with syncs of {sync:?} ms: {:?}", group.led);
        group.run(60_000);
        assert_eq!(group.led.len(), 2, "and it stays: {:?} (after {took} ms)", group.led);
    }
}

#[test]
fn a_lost_leader_is_replaced_in_half_a_second() {
    for size in [3, 5] {
        let mut took: Vec<u64> = (0..40)
            .map(|seed| {
                let mut group = Group::of(size, seed, (1, 15));
                let rest = group.draw(1_000);
                group.run(500 + rest);
                group.pause = 10;
                group.lose_leader(5_000)
            })
            .collect();
        took.sort_unstable();
        let (median, worst) = (took[20], took[39]);
        assert!(median <= 400 && worst <= 800, "{size} members: {median} ms, at worst {worst} ms");
    }
}

#[test]
fn a_leader_that_nobody_follows_any_more_answers_no_heartbeat() {
    let mut group = Group::of(3, 7, (1, 2));
    let leader = *group.cores.keys().find(|id| group.leads(**id)).unwrap();
    group.input(leader, Input::SessionOpened { session: 1, node: NodeId(1) });
    group.input(leader, Input::SessionMessage { session: 1, message: hello() });
    let beat = || Input::SessionMessage { session: 1, message: FromAgent::Heartbeat };
    group.input(leader, beat());
    group.run(100);
    assert_eq!(group.answers, 1);
    group.is_cut = true;
    // What is under way still arrives.
    group.run(2 * TRIP);
    group.input(leader, beat());
    group.run(100);
    assert!(group.leads(leader), "it does not know yet");
    group.run(3_000);
    assert!(!group.leads(leader));
    assert_eq!(group.answers, 1);
}
