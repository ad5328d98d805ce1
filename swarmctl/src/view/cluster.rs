mod networking;
mod rebalance;

use serde::Serialize;
use swarm_proto::id::Timestamp;
use swarm_proto::version::ClusterVersion;
use swarm_proto::wire;

use super::{View, age, table, time};
pub use networking::NetworkingView;
pub use rebalance::RebalanceSettingView;

/// The controllers, as `cluster status` shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterView {
    /// The cluster's id.
    pub id: String,
    /// Whether no quorum confirmed it: then it is what one controller sees.
    pub stale: bool,
    /// The Raft id of the controller that answered.
    pub answered_by: u64,
    /// The leader's Raft id; null when none is known.
    pub leader: Option<u64>,
    /// The highest term that any controller told.
    pub term: u64,
    /// The highest index that any controller knows to be committed.
    pub commit: u64,
    /// The cluster version in force: what all controllers can be relied on to know.
    pub cluster_version: u32,
    /// What may be lost.
    pub quorum: QuorumView,
    /// SHA-256 of the certificate authority's root, as in join tokens; null when it is not known.
    pub root: Option<String>,
    /// The replacement of the certificate authority; null when none is under way.
    pub rotation: Option<RotationView>,
    /// Whether controllers keep the keys of their disks wrapped under the cluster's unlock key.
    pub locked: bool,
    /// How networks are made; null when the asked controller does not know it.
    pub networking: Option<NetworkingView>,
    /// How tasks are moved; null when the asked controller does not know it.
    pub rebalance: Option<RebalanceSettingView>,
    /// Every controller.
    pub members: Vec<MemberView>,
}

/// The replacement of the certificate authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RotationView {
    /// When it began.
    pub since: String,
    /// The nodes that rely on the former authority still: host names, or ids.
    pub waiting: Vec<String>,
    #[serde(skip)]
    since_time: Timestamp,
}

/// How far the cluster is from standing still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuorumView {
    /// Controllers with a vote.
    pub voters: usize,
    /// Of them, those that answered.
    pub reachable: usize,
    /// How many must reach each other.
    pub needed: usize,
    /// How many more may be lost; null without a quorum.
    pub margin: Option<usize>,
}

/// One controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// Its Raft id.
    pub raft_id: u64,
    /// Its node's id.
    pub node: u64,
    /// Its host name.
    pub hostname: String,
    /// Where it listens.
    pub address: Option<String>,
    /// `leader`, `voter`, `learner`, `joining` or `leaving`.
    pub member: String,
    /// Whether it answered.
    pub reachable: bool,
    /// Since when its connection is as it is.
    pub since: Option<String>,
    /// Why it could not be reached.
    pub error: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The highest cluster version that it knows.
    pub knows: Option<u32>,
    /// The last index that it applied.
    pub applied: Option<u64>,
    /// Entries that it is behind.
    pub lag: Option<u64>,
    /// Microseconds that its disk's syncs take: half of them at most.
    pub sync_p50_us: Option<u64>,
    /// All but one in a hundred at most.
    pub sync_p99_us: Option<u64>,
    /// Milliseconds without a leader until it begins an election, at least.
    pub election_timeout_ms: Option<u64>,
    /// When its certificate began to be valid.
    pub certificate_from: Option<String>,
    /// When it ends.
    pub certificate_until: Option<String>,
    /// The folder whose disk has no room, while that is so.
    pub full_disk: Option<String>,
    /// Bytes that are free there.
    pub full_disk_free: Option<u64>,
    /// Whether the key of its disk is wrapped; null when it could not be asked.
    pub key_wrapped: Option<bool>,
    /// What its loss means, one sentence.
    pub loss: Option<String>,
    #[serde(skip)]
    since_time: Option<Timestamp>,
    #[serde(skip)]
    certificate_end: Option<Timestamp>,
}

impl ClusterView {
    /// The view of a controller's answer.
    pub fn of(status: wire::ClusterStatus) -> Self {
        let numbers = || status.members.iter().filter_map(|member| member.numbers.as_ref());
        let commit = numbers().map(|numbers| numbers.commit).max().unwrap_or_default();
        let term = numbers().map(|numbers| numbers.term).max().unwrap_or_default();
        let quorum = QuorumView::of(&status.members);
        let leader = Some(status.leader).filter(|leader| *leader != 0);
        let members = status.members.into_iter();
        let members = members.map(|member| MemberView::of(member, leader, commit, &quorum));
        let rotation = status.rotation.map(|rotation| {
            let since_time = Timestamp(rotation.since);
            RotationView { since: time(since_time), waiting: rotation.waiting, since_time }
        });
        Self {
            id: status.cluster_id,
            stale: status.stale,
            answered_by: status.answered_by,
            leader,
            term,
            commit,
            cluster_version: ClusterVersion::from_wire(status.cluster_version).0,
            root: text(&status.root),
            rotation,
            locked: status.locked,
            networking: status.networking.as_ref().map(NetworkingView::of),
            rebalance: status.rebalance.map(RebalanceSettingView::of),
            members: members.collect(),
            quorum,
        }
    }

    /// For people: the cluster in a few lines, then its controllers, then what each loss means.
    pub fn words(&self, is_wide: bool, now: Timestamp) -> String {
        let leader = self.members.iter().find(|member| Some(member.raft_id) == self.leader);
        let leader = leader.map_or_else(|| "none is known".to_owned(), View::name);
        let mut text = format!(
            "cluster   {}\nleader    {leader}\nterm      {}\ncommit    {}\nversion   {}\nquorum    {}\n",
            self.id,
            self.term,
            self.commit,
            self.version_words(),
            self.quorum.words()
        );
        text += &self.networking.as_ref().map(NetworkingView::words).unwrap_or_default();
        text += &self.rebalance.as_ref().map(RebalanceSettingView::words).unwrap_or_default();
        text += &self.rotation.as_ref().map(|rotation| rotation.words(now)).unwrap_or_default();
        text += &self.lock_words();
        text += "\n";
        text += &table(&self.members, now, is_wide);
        let losses = self.members.iter().filter_map(|member| member.loss.as_deref());
        for loss in losses {
            text.extend(["\n", loss]);
        }
        for line in self.members.iter().filter_map(MemberView::want_of_room) {
            text.extend(["\n", &line]);
        }
        text + "\n"
    }

    /// That the cluster is locked, and whose disk is not yet. Nothing about one that never was.
    fn lock_words(&self) -> String {
        let unlike =
            |member: &&MemberView| member.key_wrapped.is_some_and(|wrapped| wrapped != self.locked);
        let unlike: Vec<String> = self.members.iter().filter(unlike).map(View::name).collect();
        match (self.locked, unlike.is_empty()) {
            (true, true) => "lock      on\n".to_owned(),
            (true, false) => format!("lock      on, but not yet at {}\n", unlike.join(", ")),
            (false, true) => String::new(),
            (false, false) => format!("lock      off, but still on at {}\n", unlike.join(", ")),
        }
    }

    /// The cluster version, and who keeps it from rising.
    fn version_words(&self) -> String {
        let version = self.cluster_version;
        let next = self.members.iter().filter_map(|member| member.knows).max().unwrap_or(version);
        let late = self.members.iter().filter(|member| member.knows.is_none_or(|own| own < next));
        let late: Vec<String> = late
            .map(|member| match &member.version {
                Some(release) => format!("{} runs {release}", member.name()),
                None => format!("{} cannot be asked", member.name()),
            })
            .collect();
        if next <= version || late.is_empty() {
            return version.to_string();
        }
        format!("{version}, and {next} once every controller knows it: {}", late.join(", "))
    }
}

impl RotationView {
    fn words(&self, now: Timestamp) -> String {
        let waiting = self.waiting.join(", ");
        let rely = match self.waiting.len() {
            0 => return "authority replaced: it is about to end\n".to_owned(),
            1 => "relies",
            _ => "rely",
        };
        let since = age(self.since_time, now);
        format!("authority being replaced for {since}: {waiting} still {rely} on the former one\n")
    }
}

impl QuorumView {
    fn of(members: &[wire::MemberStatus]) -> Self {
        let voters = || members.iter().filter(|member| votes(member));
        let (all, reachable) = (voters().count(), voters().filter(|one| one.reachable).count());
        let needed = all / 2 + 1;
        Self { voters: all, reachable, needed, margin: reachable.checked_sub(needed) }
    }

    fn words(&self) -> String {
        let Self { voters, reachable, needed, .. } = self;
        let what = format!("{reachable} of {voters} reachable, {needed} needed");
        match self.margin {
            Some(0) => format!("{what}: none may be lost"),
            Some(1) => format!("{what}: one more may be lost"),
            Some(margin) => format!("{what}: {margin} more may be lost"),
            None => format!("{what}: the cluster stands still"),
        }
    }

    /// What the loss of a voter means.
    fn loss(&self, name: &str, reachable: bool) -> String {
        let left = if reachable { self.reachable.saturating_sub(1) } else { self.reachable };
        let voters = self.voters;
        match (self.margin, reachable) {
            (None, true) => format!("losing {name} too leaves {left} of {voters}"),
            (None, false) => {
                let missing = self.needed - self.reachable;
                format!("{name} is lost: {missing} of the lost must come back")
            }
            (Some(_), false) => format!("{name} is lost: {left} of {voters} are a quorum"),
            (Some(0), true) => {
                format!("losing {name} stops the cluster: {left} of {voters} would be left")
            }
            (Some(_), true) => {
                format!("losing {name} leaves {left} of {voters}: still a quorum")
            }
        }
    }
}

/// A member on its way out has its vote until it is a learner.
fn votes(member: &wire::MemberStatus) -> bool {
    member.member == "voter"
}

impl MemberView {
    fn of(
        member: wire::MemberStatus,
        leader: Option<u64>,
        commit: u64,
        quorum: &QuorumView,
    ) -> Self {
        let is_voter = votes(&member);
        let numbers = member.numbers.as_ref();
        let moment = |number: Option<u64>| number.filter(|number| *number != 0).map(Timestamp);
        let full_disk = numbers.and_then(|numbers| numbers.full_disk.as_ref());
        let since_time = moment(Some(member.since));
        let certificate_end = moment(numbers.and_then(|numbers| numbers.certificate_until));
        let mut view = Self {
            raft_id: member.raft_id,
            node: member.node,
            address: text(&member.address),
            reachable: member.reachable,
            since: since_time.map(time),
            error: text(&member.error),
            version: numbers.and_then(|numbers| text(&numbers.version)),
            knows: numbers.map(|numbers| ClusterVersion::from_wire(numbers.knows).0),
            applied: numbers.map(|numbers| numbers.applied),
            lag: numbers.map(|numbers| commit.saturating_sub(numbers.applied)),
            sync_p50_us: numbers.and_then(|numbers| numbers.sync_p50),
            sync_p99_us: numbers.and_then(|numbers| numbers.sync_p99),
            election_timeout_ms: numbers.and_then(|numbers| numbers.election_timeout),
            certificate_from: moment(numbers.and_then(|numbers| numbers.certificate_from))
                .map(time),
            certificate_until: certificate_end.map(time),
            full_disk: full_disk.map(|full| full.path.clone()),
            full_disk_free: full_disk.map(|full| full.free),
            key_wrapped: numbers.map(|numbers| numbers.key_wrapped),
            loss: None,
            hostname: member.hostname,
            member: if leader == Some(member.raft_id) {
                "leader".to_owned()
            } else {
                member.member
            },
            since_time,
            certificate_end,
        };
        view.loss = is_voter.then(|| quorum.loss(&view.name(), view.reachable));
        view
    }

    /// What to do about its full disk.
    fn want_of_room(&self) -> Option<String> {
        let (path, free) = (self.full_disk.as_ref()?, self.full_disk_free? / 1024);
        let name = self.name();
        Some(format!("the disk of {name} is full ({path}, {free} KiB are free): make room there"))
    }

    fn contact(&self, now: Timestamp) -> String {
        let word = if self.reachable { "reachable" } else { "unreachable" };
        match self.since_time {
            Some(since) => format!("{word} {}", age(since, now)),
            None => word.to_owned(),
        }
    }
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Microseconds as milliseconds with one decimal.
fn milliseconds(microseconds: u64) -> String {
    format!("{}.{}", microseconds / 1000, microseconds % 1000 / 100)
}

impl View for MemberView {
    const COLUMNS: &'static [&'static str] =
        &["ID", "HOSTNAME", "MEMBER", "CONTACT", "LAG", "SYNC P50/P99", "ELECTION", "CERTIFICATE"];
    const WIDE_COLUMNS: &'static [&'static str] = &["NODE", "ADDRESS", "VERSION", "ERROR"];

    fn name(&self) -> String {
        if self.hostname.is_empty() { self.raft_id.to_string() } else { self.hostname.clone() }
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let sync = match (self.sync_p50_us, self.sync_p99_us) {
            (Some(half), Some(most)) => format!("{}/{} ms", milliseconds(half), milliseconds(most)),
            _ => String::new(),
        };
        let certificate = self.certificate_end.map(|end| {
            if end <= now { "expired".to_owned() } else { format!("{} left", age(now, end)) }
        });
        vec![
            self.raft_id.to_string(),
            self.hostname.clone(),
            self.member.clone(),
            self.contact(now),
            self.lag.map(|lag| lag.to_string()).unwrap_or_default(),
            sync,
            self.election_timeout_ms.map(|time| format!("{time} ms")).unwrap_or_default(),
            certificate.unwrap_or_default(),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.node.to_string(),
            self.address.clone().unwrap_or_default(),
            self.version.clone().unwrap_or_default(),
            self.error.clone().unwrap_or_default(),
        ]
    }
}
