//! How long a member goes without its leader before it calls an election: longer where disks or the network are slow.
//!
//! A vote is answered only once it is on the voter's disk, so a candidate with less patience than that would begin
//! anew for ever. Each member measures its own disk; the leader measures the way to each member and back; they tell
//! each other in heartbeats and votes, in fields that raft-rs passes over.

use std::collections::{BTreeMap, VecDeque};

use prost_for_raft::bytes::{Buf, BufMut};
use prost_for_raft::encoding::{DecodeContext, WireType, skip_field, uint64};
use prost_for_raft::{DecodeError, Message as _};
use raft::eraftpb::{Message, MessageType};
use swarm_proto::id::Timestamp;

/// The longest time-out that slow disks and networks lead to, in milliseconds.
const LONGEST_MS: u64 = 10_000;
/// The time-out is so many times what a slow sync and a round trip take.
const MARGIN: u64 = 3;
/// Syncs that count, at most.
const SYNCS: usize = 256;
/// Round trips to one member that count, and how few say nothing yet.
const TRIPS: usize = 16;
const TOO_FEW_TRIPS: usize = 3;
/// How old a measurement may be, in milliseconds; the last few count however old they are.
const FRESH_MS: u64 = 60_000;
const FEW: usize = 8;
/// How long another member's word counts, in milliseconds.
const TOLD_MS: u64 = 30_000;
/// A round trip that took longer tells of a pause, not of the network.
const LONGEST_TRIP_MS: u64 = 5_000;
/// Ticks between two looks at the measurements.
const LOOK_EVERY: u64 = 8;
/// Looks in a row that must find all quicker before the time-out falls.
const CALM: u32 = 50;

/// What a member measured and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Milliseconds without a leader until this member calls an election, at least; at most twice as many.
    pub election_ms: u64,
    /// Microseconds that a sync of this member's disk takes: half are quicker. `None` before the first.
    pub sync_p50: Option<u64>,
    /// The same for 99 of 100.
    pub sync_p99: Option<u64>,
    /// The slowest voter's, as far as the voters told this member lately, in microseconds.
    pub slowest_sync: u64,
    /// Milliseconds from the leader to the farthest voter and back: half are quicker.
    pub round_trip_ms: u64,
}

/// A member's sense of time. See the module.
pub(super) struct Pace {
    tick_ms: u64,
    /// What is configured: the least, in ticks.
    least: usize,
    /// In force, in ticks.
    election: usize,
    now: Timestamp,
    ticks: u64,
    /// Looks since the time-out in force was last called for.
    calm: u32,
    syncs: Samples,
    trips: BTreeMap<u64, Trips>,
    told: BTreeMap<u64, Told>,
    /// Whether this member's disk has no room.
    full: bool,
    /// Who sent the last heartbeat, and when by its own clock.
    heartbeat: Option<(u64, u64)>,
}

/// Round trips to one member.
struct Trips {
    took: Samples,
    /// When the last one ended. One at a time: what was held up on the way arrives together and would count many times.
    ended: Timestamp,
}

struct Told {
    at: Timestamp,
    words: Words,
    /// A leader speaks for all: what it says is not passed on, or it would go round for ever.
    for_all: bool,
}

impl Pace {
    pub(super) fn new(tick_ms: u64, least: usize) -> Self {
        Self {
            tick_ms: tick_ms.max(1),
            least,
            election: least,
            now: Timestamp(0),
            ticks: 0,
            calm: 0,
            syncs: Samples::of(SYNCS),
            trips: BTreeMap::new(),
            told: BTreeMap::new(),
            full: false,
            heartbeat: None,
        }
    }

    /// The time-out in force, in ticks.
    pub(super) fn election_ticks(&self) -> usize {
        self.election
    }

    /// The time-out in force, in milliseconds.
    pub(super) fn election_ms(&self) -> u64 {
        self.election as u64 * self.tick_ms
    }

    /// The longest time-out that can come into force, in ticks.
    pub(super) fn longest_ticks(&self) -> usize {
        usize::try_from(LONGEST_MS / self.tick_ms).unwrap_or(usize::MAX).max(self.least)
    }

    pub(super) fn look_at_clock(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Notes whether this member's disk has no room, of which the others are told.
    pub(super) fn is_full(&mut self, full: bool) {
        self.full = full;
    }

    /// Whether a member said lately that its disk has room.
    pub(super) fn has_room(&self, id: u64) -> bool {
        self.told.get(&id).is_some_and(|told| told.words.full == 0)
    }

    /// Whether a member said lately that its disk has none.
    pub(super) fn has_no_room(&self, id: u64) -> bool {
        self.told.get(&id).is_some_and(|told| told.words.full != 0)
    }

    pub(super) fn synced(&mut self, micros: u64) {
        self.syncs.add(self.now, micros);
    }

    /// A tick; `oldest` is when the oldest write was given to the disk that is not there yet.
    pub(super) fn tick(&mut self, oldest: Option<Timestamp>, is_voter: impl Fn(u64) -> bool) {
        self.ticks += 1;
        if !self.ticks.is_multiple_of(LOOK_EVERY) {
            return;
        }
        let now = self.now;
        self.syncs.forget(now);
        self.trips.retain(|id, _| is_voter(*id));
        self.told.retain(|id, told| is_voter(*id) && told.at.0 + TOLD_MS > now.0);
        let under_way = oldest.map_or(0, |since| now.0.saturating_sub(since.0) * 1000);
        let told = self.told.values().map(|told| told.words.sync).max();
        let sync_ms = self.usual_sync().max(told.unwrap_or(0)).max(under_way) / 1000;
        let wanted = MARGIN * (sync_ms + self.round_trip());
        let wanted = usize::try_from(wanted.div_ceil(self.tick_ms)).unwrap_or(usize::MAX);
        let wanted = wanted.clamp(self.least, self.longest_ticks());
        // Small changes downwards are not worth a word.
        let quicker =
            wanted < self.election && (wanted == self.least || wanted * 4 <= self.election * 3);
        self.calm = if quicker { self.calm + 1 } else { 0 };
        if wanted > self.election || self.calm >= CALM {
            self.election = wanted;
        }
    }

    /// What this member's syncs take. The slowest of few does not count: one stall makes no slow disk.
    fn usual_sync(&self) -> u64 {
        match self.syncs.values.len() {
            0..FEW => self.syncs.percentile(50),
            FEW..100 => self.syncs.percentile(90),
            _ => self.syncs.percentile(99),
        }
        .unwrap_or(0)
    }

    /// The slowest voter's, from the voters' own words.
    fn slowest_sync(&self) -> u64 {
        let own = self.told.values().filter(|told| !told.for_all).map(|told| told.words.sync);
        own.max().unwrap_or(0).max(self.usual_sync())
    }

    /// To the farthest voter and back, as this member found itself.
    fn found_trip(&self) -> u64 {
        let known = self.trips.values().filter(|trips| trips.took.values.len() >= TOO_FEW_TRIPS);
        known.filter_map(|trips| trips.took.percentile(50)).max().unwrap_or(0)
    }

    fn round_trip(&self) -> u64 {
        let told = self.told.values().map(|told| told.words.round_trip);
        told.max().unwrap_or(0).max(self.found_trip())
    }

    pub(super) fn timing(&self) -> Timing {
        Timing {
            election_ms: self.election_ms(),
            sync_p50: self.syncs.percentile(50),
            sync_p99: self.syncs.percentile(99),
            slowest_sync: self.slowest_sync(),
            round_trip_ms: self.round_trip(),
        }
    }

    /// Encodes a message for another member, with what that one should know of this one's time.
    pub(super) fn encode(&self, message: &Message) -> Vec<u8> {
        let mut bytes = message.encode_to_vec();
        if !is_told(message) {
            return bytes;
        }
        let leads = message.get_msg_type() == MessageType::MsgHeartbeat;
        let heard = self.heartbeat.filter(|(leader, _)| *leader == message.to);
        let words = Words {
            sync: if leads { self.slowest_sync() } else { self.usual_sync() },
            round_trip: if leads { self.found_trip() } else { 0 },
            full: u64::from(self.full),
            sent: if leads { self.now.0 } else { 0 },
            heard: heard.map_or(0, |(_, sent)| sent),
        };
        bytes.reserve(words.encoded_len());
        words.encode_raw(&mut bytes);
        bytes
    }

    /// Takes what a message of another member says of time.
    pub(super) fn hear(&mut self, message: &Message, bytes: &[u8]) {
        if !is_told(message) {
            return;
        }
        // What cannot be read was not said.
        let Ok(words) = Words::decode(bytes) else { return };
        if words.sent > 0 {
            self.heartbeat = Some((message.from, words.sent));
        }
        if message.get_msg_type() == MessageType::MsgHeartbeatResponse {
            self.arrived(message.from, Timestamp(words.heard));
        }
        let for_all = message.get_msg_type() == MessageType::MsgHeartbeat;
        self.told.insert(message.from, Told { at: self.now, words, for_all });
    }
}

impl Pace {
    /// A heartbeat sent at `sent` was answered.
    fn arrived(&mut self, from: u64, sent: Timestamp) {
        let new = || Trips { took: Samples::of(TRIPS), ended: Timestamp(1) };
        let trips = self.trips.entry(from).or_insert_with(new);
        let took = self.now.0.saturating_sub(sent.0);
        if sent >= trips.ended && took <= LONGEST_TRIP_MS {
            trips.took.add(self.now, took);
            trips.ended = self.now;
        }
    }
}

fn is_told(message: &Message) -> bool {
    matches!(
        message.get_msg_type(),
        MessageType::MsgHeartbeat
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgRequestVote
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse
    )
}

/// What members tell each other, as further fields of an `eraftpb.Message`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Words {
    /// Microseconds that a sync takes at the sender; a leader speaks for the slowest.
    sync: u64,
    /// Milliseconds to a member and back, as the leader found.
    round_trip: u64,
    /// When a heartbeat was sent, by the leader's clock.
    sent: u64,
    /// The last heartbeat's `sent`, given back.
    heard: u64,
    /// 1 when the sender's disk has no room.
    full: u64,
}

impl Words {
    fn fields(&mut self) -> [(u32, &mut u64); 5] {
        [
            (1001, &mut self.sync),
            (1002, &mut self.round_trip),
            (1003, &mut self.sent),
            (1004, &mut self.heard),
            (1005, &mut self.full),
        ]
    }
}

impl prost_for_raft::Message for Words {
    fn encode_raw<B: BufMut>(&self, bytes: &mut B) {
        let mut words = *self;
        for (tag, value) in words.fields().into_iter().filter(|(_, value)| **value > 0) {
            uint64::encode(tag, value, bytes);
        }
    }

    fn merge_field<B: Buf>(
        &mut self,
        tag: u32,
        wire_type: WireType,
        bytes: &mut B,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match self.fields().into_iter().find(|(own, _)| *own == tag) {
            Some((_, value)) => uint64::merge(wire_type, value, bytes, context),
            None => skip_field(wire_type, tag, bytes, context),
        }
    }

    fn encoded_len(&self) -> usize {
        let mut words = *self;
        let said = words.fields().into_iter().filter(|(_, value)| **value > 0);
        said.map(|(tag, value)| uint64::encoded_len(tag, value)).sum()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The last measurements of something.
struct Samples {
    values: VecDeque<(Timestamp, u64)>,
    most: usize,
}

impl Samples {
    fn of(most: usize) -> Self {
        Self { values: VecDeque::with_capacity(most), most }
    }

    fn add(&mut self, now: Timestamp, value: u64) {
        if self.values.len() == self.most {
            self.values.pop_front();
        }
        self.values.push_back((now, value));
    }

    fn forget(&mut self, now: Timestamp) {
        while self.values.len() > FEW
            && self.values.front().is_some_and(|(at, _)| at.0 + FRESH_MS < now.0)
        {
            self.values.pop_front();
        }
    }

    /// The value that `percent` of 100 do not exceed.
    fn percentile(&self, percent: usize) -> Option<u64> {
        let mut values: Vec<u64> = self.values.iter().map(|(_, value)| *value).collect();
        let last = values.len().checked_sub(1)?;
        let at = (values.len() * percent).div_ceil(100).saturating_sub(1).min(last);
        Some(*values.select_nth_unstable(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: MessageType, from: u64, to: u64) -> Message {
        let mut message = Message { from, to, term: 7, ..Message::default() };
        message.set_msg_type(kind);
        message
    }

    fn pace_at(now: u64) -> Pace {
        let mut pace = Pace::new(25, 10);
        pace.look_at_clock(Timestamp(now));
        pace
    }

    fn look(pace: &mut Pace, oldest: Option<u64>) -> u64 {
        (0..LOOK_EVERY).for_each(|_| pace.tick(oldest.map(Timestamp), |_| true));
        pace.timing().election_ms
    }

    fn calm_down(pace: &mut Pace) -> u64 {
        (0..CALM).for_each(|_| {
            look(pace, None);
        });
        pace.timing().election_ms
    }

    #[test]
    fn the_configured_time_out_stands_while_all_is_quick() {
        let mut pace = pace_at(1_000);
        assert_eq!(look(&mut pace, None), 250);
        (0..100).for_each(|_| pace.synced(20_000));
        assert_eq!(look(&mut pace, None), 250);
        assert_eq!(pace.timing().sync_p99, Some(20_000));
    }

    #[test]
    fn it_follows_the_disk_up_and_down_between_its_bounds() {
        let mut pace = pace_at(1_000);
        pace.synced(500_000);
        assert_eq!(look(&mut pace, None), 1_500);
        assert_eq!(look(&mut pace, Some(0)), 3_000, "a sync that has not ended counts as well");
        (0..2).for_each(|_| pace.synced(60_000_000));
        assert_eq!(look(&mut pace, None), LONGEST_MS);
        pace.look_at_clock(Timestamp(1_001 + FRESH_MS));
        (0..FEW).for_each(|_| pace.synced(1_000));
        assert_eq!(look(&mut pace, None), LONGEST_MS, "not at once");
        assert_eq!(calm_down(&mut pace), 250);
    }

    #[test]
    fn a_member_hears_of_the_slowest_voter_and_of_the_way_there() {
        let mut leader = pace_at(10_000);
        let mut follower = pace_at(77_000);
        let mut slow = pace_at(5);
        slow.synced(400_000);
        let answer = message(MessageType::MsgHeartbeatResponse, 3, 1);
        leader.hear(&answer, &slow.encode(&answer));

        let heartbeat = message(MessageType::MsgHeartbeat, 1, 2);
        follower.hear(&heartbeat, &leader.encode(&heartbeat));
        assert_eq!(look(&mut follower, None), 1_200);

        let answer = message(MessageType::MsgHeartbeatResponse, 2, 1);
        let bytes = follower.encode(&answer);
        assert_eq!(Message::decode(bytes.as_slice()).unwrap(), answer, "raft-rs passes it over");
        leader.look_at_clock(Timestamp(10_200));
        leader.hear(&answer, &bytes);
        assert_eq!(leader.timing().round_trip_ms, 0, "one trip tells nothing yet");
        for _ in 0..2 {
            let heartbeat = message(MessageType::MsgHeartbeat, 1, 2);
            follower.hear(&heartbeat, &leader.encode(&heartbeat));
            let now = leader.now.0;
            leader.look_at_clock(Timestamp(now + 200));
            leader.hear(&answer, &follower.encode(&answer));
        }
        assert_eq!(leader.timing().round_trip_ms, 200);
        assert_eq!(look(&mut leader, None), 1_800);
        let heartbeat = message(MessageType::MsgHeartbeat, 1, 2);
        follower.hear(&heartbeat, &leader.encode(&heartbeat));
        assert_eq!(look(&mut follower, None), 1_800);
    }

    #[test]
    fn one_stall_makes_no_slow_disk() {
        let mut pace = pace_at(1_000);
        (0..20).for_each(|_| pace.synced(2_000));
        pace.synced(900_000);
        assert_eq!(look(&mut pace, None), 250);
        (0..3).for_each(|_| pace.synced(900_000));
        assert_eq!(look(&mut pace, None), 2_700);
    }

    #[test]
    fn what_a_leader_said_does_not_go_round() {
        let mut leader = pace_at(1_000);
        let mut heir = pace_at(1_000);
        let mut slow = pace_at(5);
        slow.synced(400_000);
        let answer = message(MessageType::MsgHeartbeatResponse, 3, 1);
        leader.hear(&answer, &slow.encode(&answer));
        let heartbeat = message(MessageType::MsgHeartbeat, 1, 2);
        heir.hear(&heartbeat, &leader.encode(&heartbeat));
        assert_eq!(look(&mut heir, None), 1_200);
        let mut next = pace_at(1_000);
        let heartbeat = message(MessageType::MsgHeartbeat, 2, 4);
        next.hear(&heartbeat, &heir.encode(&heartbeat));
        assert_eq!(look(&mut next, None), 250);
    }

    #[test]
    fn answers_that_were_held_up_count_as_one_round_trip() {
        let mut leader = pace_at(10_000);
        for sent in 0..10 {
            leader.look_at_clock(Timestamp(10_000 + 50 * sent));
            leader.arrived(2, leader.now);
        }
        leader.look_at_clock(Timestamp(14_000));
        (0..60).for_each(|held| leader.arrived(2, Timestamp(11_000 + 50 * held)));
        assert_eq!(leader.timing().round_trip_ms, 0);
        assert_eq!(leader.trips[&2].took.values.len(), 11);
    }

    #[test]
    fn what_members_said_is_forgotten_when_they_fall_silent_or_leave() {
        let mut pace = pace_at(1_000);
        let mut slow = pace_at(5);
        slow.synced(1_000_000);
        let vote = message(MessageType::MsgRequestVoteResponse, 3, 1);
        pace.hear(&vote, &slow.encode(&vote));
        assert_eq!(look(&mut pace, None), 3_000);
        (0..LOOK_EVERY * u64::from(CALM)).for_each(|_| pace.tick(None, |id| id != 3));
        assert_eq!(pace.timing().election_ms, 250, "it votes no more");
        pace.hear(&vote, &slow.encode(&vote));
        assert_eq!(look(&mut pace, None), 3_000);
        pace.look_at_clock(Timestamp(1_001 + TOLD_MS));
        assert_eq!(calm_down(&mut pace), 250, "it was not heard for long");
    }

    #[test]
    fn samples_give_their_percentiles_and_stay_few() {
        let mut samples = Samples::of(SYNCS);
        assert_eq!(samples.percentile(50), None);
        (1..=1_000).for_each(|value| samples.add(Timestamp(0), value));
        assert_eq!(samples.values.len(), SYNCS);
        assert_eq!(samples.percentile(50), Some(872));
        assert_eq!(samples.percentile(99), Some(998));
        samples.forget(Timestamp(FRESH_MS + 1));
        assert_eq!(samples.values.len(), FEW);
    }
}
