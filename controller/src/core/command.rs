//! What clients and operators may ask for, and how a core answers.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use swarm_proto::id::{Digest, NodeId, RaftId};
use swarm_proto::object::{
    Availability, ImageHolder, PlannedMove, RebalanceMode, RegistryLogin, RegistryName, Role,
    ScalingReport, Secret,
};
use swarm_proto::spec::{ContentBytes, ContentId, ContentKind, ServiceChange, StackSpec};

/// A wish that changes the state.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Make the stack be as the spec says. Images have digests already.
    Deploy {
        /// The whole stack.
        spec: StackSpec,
        /// Remove services of the stack that the spec no longer has, once those that it has run.
        prune: bool,
        /// Further sentences for the answer, such as a registry that could not be asked.
        warnings: Vec<String>,
    },
    /// Remove a stack with its services and networks; its volumes stay.
    RemoveStack {
        /// Its name.
        stack: String,
    },
    /// Change the number of a replicated service's tasks.
    Scale {
        /// Full name: `<stack>_<key>`.
        service: String,
        /// How many.
        replicas: u32,
    },
    /// Say how the services are that are scaled by what is measured. It changes nothing.
    ListScaling,
    /// Say which nodes hold an image. It changes nothing.
    FindImage(WantedImage),
    /// Begin a run of a job now.
    RunJob {
        /// Full name: `<stack>_<key>`.
        service: String,
    },
    /// Run one task beside those of a service.
    RunOneOff {
        /// Full name: `<stack>_<key>`.
        service: String,
        /// Replaces the container's command.
        command: Option<Vec<String>>,
    },
    /// End a run before it is over.
    StopRuns {
        /// Full name: `<stack>_<key>`.
        service: String,
        /// Which; `None` is every run of the service itself.
        run: Option<u64>,
    },
    /// Change parts of a service's spec. A new image has its digest already.
    ChangeService {
        /// Full name.
        service: String,
        /// What changes.
        change: Box<ServiceChange>,
    },
    /// Bring a service's previous spec back.
    RollBackService {
        /// Full name.
        service: String,
    },
    /// Stop a service's update where it is.
    PauseService {
        /// Full name.
        service: String,
    },
    /// Let an update that holds with its canary go on.
    PromoteService {
        /// Full name.
        service: String,
    },
    /// Let a service's paused update go on.
    ResumeService {
        /// Full name.
        service: String,
    },
    /// Take a service out of its stack; with the last one the stack goes.
    RemoveService {
        /// Full name.
        service: String,
    },
    /// Change what the operator wishes of a node.
    UpdateNode {
        /// Host name or node id.
        node: String,
        /// `None` leaves it.
        availability: Option<Availability>,
        /// Labels to set.
        set_labels: BTreeMap<String, String>,
        /// Labels to remove.
        remove_labels: Vec<String>,
    },
    /// Forget a node.
    RemoveNode {
        /// Host name or node id.
        node: String,
        /// Also when it is not down: its tasks are lost.
        force: bool,
    },
    /// Give up the tasks of a node that is down and will not come back soon.
    DeclareNodeLost {
        /// Host name or node id.
        node: String,
    },
    /// Take a node's controller out of the cluster; its agent stays.
    DemoteNode {
        /// Host name or node id.
        node: String,
    },
    /// Make a node a controller with a raft id of its own, or give its controller, whose disk is lost, another one. The
    /// shell has checked that the node itself wishes it.
    PromoteNode {
        /// Which node.
        node: NodeId,
        /// Its controller's `host:port`.
        address: String,
    },
    /// Make a network that belongs to no stack.
    CreateNetwork {
        /// Its full name.
        name: String,
        /// A fixed subnet, address and prefix length; else one is chosen.
        subnet: Option<(Ipv4Addr, u8)>,
        /// No way out for its containers.
        internal: bool,
        /// The user's labels.
        labels: BTreeMap<String, String>,
    },
    /// Remove a network that belongs to no stack, and that nothing uses.
    RemoveNetwork {
        /// Full name.
        network: String,
    },
    /// Make a volume that belongs to no stack.
    CreateVolume {
        /// Its full name.
        name: String,
        /// The user's labels.
        labels: BTreeMap<String, String>,
    },
    /// Remove a volume with its content.
    RemoveVolume {
        /// Full name.
        volume: String,
        /// Also forget copies on nodes that are down.
        force: bool,
    },
    /// Say which contents are missing of those that a deploy will speak of, and keep the others for it.
    AnnounceContents {
        /// Which.
        contents: Vec<ContentId>,
    },
    /// Add the next part of a content.
    AddContentPart {
        /// Which.
        content: ContentId,
        /// Bytes of the whole.
        size: u64,
        /// Which part, from 0.
        part: u32,
        /// Its bytes.
        data: ContentBytes,
    },
    /// Give a content a name of its own.
    CreateNamedContent {
        /// Which; its bytes were added before.
        content: ContentId,
        /// The name.
        name: String,
        /// The user's labels.
        labels: BTreeMap<String, String>,
    },
    /// Take a name from its content, which nothing may use.
    RemoveNamedContent {
        /// A secret's or a config's.
        kind: ContentKind,
        /// Which.
        name: String,
    },
    /// Keep a name and password for a registry; the shell has tried them.
    LogIn {
        /// Which.
        login: Box<RegistryLogin>,
    },
    /// Forget the name and password for a registry.
    LogOut {
        /// Which.
        registry: RegistryName,
    },
    /// Let a machine in; the shell has checked its token.
    Join {
        /// The machine's name.
        hostname: String,
        /// Decided by the token.
        role: Role,
        /// A controller's own `host:port`.
        controller_address: Option<String>,
    },
    /// New secrets for the join tokens; `None` leaves one as it is.
    RotateTokens {
        /// For controllers.
        controller: Option<Secret>,
        /// For agents.
        agent: Option<Secret>,
    },
    /// Sign with another authority from now on. The shell has made it.
    ReplaceAuthority {
        /// The root that it takes the place of, PEM.
        former: String,
        /// Its root, PEM.
        certificate: String,
        /// Its key, PEM.
        key: Secret,
        /// Its root as an intermediate of the former one, PEM.
        vouched: String,
        /// The digest of both roots.
        roots: String,
    },
    /// Let nobody rely on the former authority any more.
    DropFormerAuthority {
        /// Its root, PEM.
        certificate: String,
    },
    /// A controller trusts these roots now, and shows a certificate of the first.
    ReportRoots {
        /// Its node.
        node: NodeId,
        /// The digest of the roots.
        roots: String,
    },
    /// Lock the cluster, change its unlock key, or take the lock off.
    SetLock {
        /// The key from now on; `None` takes the lock off.
        key: Option<Secret>,
        /// In the place of another key.
        rotate: bool,
    },
    /// Change settings of the cluster as a whole.
    UpdateCluster {
        /// Whether it moves tasks by itself; `None` leaves it.
        rebalance: Option<RebalanceMode>,
        /// The most moves within a minute; `None` leaves it.
        moves_per_minute: Option<u32>,
    },
    /// Move a task of each of these services to where it would be placed now, as far as is allowed.
    Rebalance {
        /// Full names.
        services: Vec<String>,
    },
    /// A controller now answers at another address.
    SetControllerAddress {
        /// Which node.
        node: NodeId,
        /// `host:port`
        address: String,
    },
}

/// What a command brought about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandDone {
    /// Of [`Command::Deploy`].
    Deployed {
        /// The stack's revision now.
        revision: u64,
        /// False when the stack already was exactly so.
        changed: bool,
        /// Sentences for the user.
        warnings: Vec<String>,
        /// What changed, a line each.
        changes: Vec<String>,
        /// Keys of services that the spec no longer has and that stay.
        kept: Vec<String>,
        /// Keys of services that the spec no longer has and that go once those that it has run.
        leaving: Vec<String>,
    },
    /// Of [`Command::Scale`].
    Scaled {
        /// The number before.
        previous: u32,
    },
    /// Of [`Command::Join`] and [`Command::PromoteNode`].
    Joined {
        /// The node.
        node: NodeId,
        /// Its member of the Raft group, for a controller.
        raft_id: Option<RaftId>,
    },
    /// Of [`Command::AnnounceContents`].
    Missing(Vec<ContentId>),
    /// Of [`Command::ListScaling`].
    Scaling(Vec<ScalingReport>),
    /// Of [`Command::FindImage`].
    Found(FoundImage),
    /// Of [`Command::RunJob`] and [`Command::RunOneOff`].
    RunStarted {
        /// The run's number.
        run: u64,
    },
    /// Of [`Command::Rebalance`]: what was begun.
    Moved(Vec<PlannedMove>),
    /// Of every other command.
    Done,
}

/// An image that somebody looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedImage {
    /// Its whole name.
    pub reference: String,
    /// Its content; `None`: whatever the name stands for on nodes.
    pub digest: Option<Digest>,
    /// The node that asks.
    pub asker: Option<NodeId>,
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FoundImage {
    /// Its content; `None`: no node holds it.
    pub digest: Option<Digest>,
    /// The name was given on a node, not by a registry.
    pub local: bool,
    /// Nodes that hold it and are ready; not all, when there are many.
    pub holders: Vec<ImageHolder>,
}

/// What kind of refusal it is; each stands for a gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalKind {
    /// The request itself is wrong, whatever the state (`InvalidArgument`).
    Invalid,
    /// The state does not allow it now (`FailedPrecondition`).
    Conflict,
    /// It speaks of something that does not exist (`NotFound`).
    NotFound,
    /// This controller cannot decide now: ask again, with the same request id (`Unavailable`).
    Unavailable,
    /// There is no room for it (`ResourceExhausted`).
    Full,
}

/// Why a command was not carried out. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind it is.
    pub kind: RefusalKind,
    /// What and why, one sentence.
    pub message: String,
    /// What to do, when there is something to say.
    pub hint: Option<String>,
}

impl Refusal {
    /// The request itself is wrong.
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(RefusalKind::Invalid, message, hint)
    }

    /// The state does not allow it now.
    pub fn conflict(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(RefusalKind::Conflict, message, hint)
    }

    /// It speaks of something that does not exist.
    pub fn not_found(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(RefusalKind::NotFound, message, hint)
    }

    /// This controller cannot decide now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Unavailable, message, "")
    }

    /// There is no room for it.
    pub fn full(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(RefusalKind::Full, message, hint)
    }

    /// Whether the same request may well be carried out soon.
    pub fn is_passing(&self) -> bool {
        self.kind == RefusalKind::Unavailable
    }

    fn new(kind: RefusalKind, message: impl Into<String>, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        Self { kind, message: message.into(), hint: (!hint.is_empty()).then_some(hint) }
    }
}
