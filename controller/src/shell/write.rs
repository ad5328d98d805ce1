//! Requests that change the state: carried out here when this controller leads, else passed on to the leader. Each
//! carries its client's id, so sending it again across a change of leaders is safe.

mod content;
mod image;
mod job;
mod rebalance;
mod registry;
mod service;

use std::time::Duration;

use prost::Message;
use swarm_proto::convert::Fields;
use swarm_proto::object::{Role, Secret};
use swarm_proto::spec::StackSpec;
use swarm_proto::wire;
use swarm_proto::wire::raft_client::RaftClient;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use super::controller::{Controller, LEADER_PATIENCE, Leader};
use super::incarnation;
use super::refusal::Refusal;
use crate::core::{Command, CommandDone};

/// How long one try at the leader may take before the leader is asked again.
const TRY: Duration = Duration::from_secs(3);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(40);

/// A request that becomes a command of the core.
pub trait Write: Message + Default + Clone {
    /// The name under which it is forwarded.
    const METHOD: &'static str;
    /// What it is answered with.
    type Answer: Message + Default;

    /// The client's own identity of it.
    fn request_id(&self) -> String;

    /// What it is about, for the log: `stack web`. Holds no secret.
    fn object(&self) -> String;

    /// The command, or why there is none.
    fn command(self) -> Result<Command, Status>;

    /// The answer to what the command brought about; `None` when that cannot be.
    fn answer(done: CommandDone) -> Option<Self::Answer>;
}

/// Finds a request by its name among those that travel between controllers, and carries it out here.
macro_rules! written_here {
    ($writer:ident, $method:ident, $bytes:ident: $($request:ident)+) => {
        match $method {
            $(wire::$request::METHOD => $writer.passed_on::<wire::$request>($bytes).await,)+
            _ => Err(Status::unimplemented(format!("`{}` cannot be passed on", $method))),
        }
    };
}

impl Controller {
    /// Carries out a write on whichever controller leads.
    pub async fn write<W: Write>(&self, request: W) -> Result<W::Answer, Status> {
        let deadline = Instant::now() + LEADER_PATIENCE;
        loop {
            let tried = match self.leader(deadline).await? {
                Leader::Here => self.write_here(request.clone()).await,
                Leader::There { raft_id, address } => {
                    // Boxed: it is rare, and larger than all the rest of what each write allocates.
                    let passed_on = Box::pin(self.pass_on(&address, &request));
                    tokio::select! {
                        answer = passed_on => answer,
                        () = self.leader_lost(raft_id) => Err(lost("the leader changed")),
                    }
                }
            };
            match tried {
                Err(status) if status.code() == Code::Unavailable && Instant::now() < deadline => {
                    sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// Carries out a request that another controller passed on: only here.
    pub async fn forwarded(&self, method: &str, bytes: &[u8]) -> Result<Vec<u8>, Status> {
        written_here!(self, method, bytes:
            DeployRequest
            RemoveStackRequest
            ScaleServiceRequest
            ListScalingRequest
            FindImageRequest
            RunJobRequest
            RunOneOffRequest
            StopRunsRequest
            UpdateServiceRequest
            RollBackServiceRequest
            PauseServiceRequest
            PromoteServiceRequest
            RemoveServiceRequest
            UpdateNodeRequest
            RemoveNodeRequest
            CreateNetworkRequest
            RemoveNetworkRequest
            CreateVolumeRequest
            RemoveVolumeRequest
            AnnounceContentsRequest
            AddContentRequest
            CreateNamedContentRequest
            RemoveNamedContentRequest
            LogInRequest
            LogOutRequest
            UpdateClusterRequest
            RebalanceRequest
            PromoteWish
            JoinWish
            TokensWish
            AuthorityWish
            DropAuthorityWish
            LockWish
            RootsWish
            AddressWish
        )
    }

    async fn passed_on<W: Write>(&self, bytes: &[u8]) -> Result<Vec<u8>, Status> {
        let request = W::decode(bytes)
            .map_err(|error| Refusal::invalid(format!("damaged request: {error}")))?;
        Ok(self.write_here(request).await?.encode_to_vec())
    }

    async fn write_here<W: Write>(&self, request: W) -> Result<W::Answer, Status> {
        let request_id = request.request_id();
        if request_id.is_empty() || request_id.len() > 128 {
            return Err(Refusal::invalid("a request needs an id of 1 to 128 characters").into());
        }
        let command = request.command()?;
        let done = match timeout(TRY, self.core.command(request_id, command)).await {
            Ok(done) => done.map_err(Refusal::from)?,
            Err(_) => return Err(lost("the other controllers do not confirm")),
        };
        let other = "this request's id was used before, for another kind of request";
        W::answer(done).ok_or_else(|| Refusal::invalid(other).into())
    }

    async fn pass_on<W: Write>(&self, address: &str, request: &W) -> Result<W::Answer, Status> {
        let answer = self.forward(address, W::METHOD, request.encode_to_vec()).await?;
        W::Answer::decode(answer.as_slice())
            .map_err(|error| Status::internal(format!("damaged answer: {error}")))
    }

    async fn forward(
        &self,
        address: &str,
        method: &str,
        request: Vec<u8>,
    ) -> Result<Vec<u8>, Status> {
        let mut leader = RaftClient::new(self.leader_channel(address));
        let request = wire::ForwardRequest { method: method.to_owned(), request };
        let request = incarnation::stamp(&self.hub, request);
        match timeout(TRY, leader.forward(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner().response),
            // How a broken connection shows itself.
            Ok(Err(status)) if matches!(status.code(), Code::Unknown | Code::Cancelled) => {
                Err(lost("the connection to the leader broke"))
            }
            Ok(Err(status)) => Err(status),
            Err(_) => Err(lost("the leader does not answer")),
        }
    }
}

fn lost(what: &str) -> Status {
    Refusal::unavailable(what).hint("try again").into()
}

/// Refuses a field of a request.
fn invalid(error: &swarm_proto::convert::ConvertError) -> Status {
    Refusal::invalid(error.to_string()).into()
}

impl Write for wire::DeployRequest {
    const METHOD: &'static str = "Deploy";
    type Answer = wire::DeployResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        let name = self.stack.as_ref().map_or("", |stack| stack.name.as_str());
        format!("stack {name}")
    }

    fn command(self) -> Result<Command, Status> {
        let stack = self.stack.ok_or_else(|| Refusal::invalid("the request holds no stack"))?;
        let spec = StackSpec::try_from(stack).map_err(|error| invalid(&error))?;
        Ok(Command::Deploy { spec, prune: self.prune, warnings: Vec::new() })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        match done {
            CommandDone::Deployed { revision, changed, warnings, changes, kept, leaving } => {
                Some(Self::Answer { revision, changed, warnings, changes, kept, leaving })
            }
            _ => None,
        }
    }
}

impl Write for wire::CreateNetworkRequest {
    const METHOD: &'static str = "CreateNetwork";
    type Answer = wire::CreateNetworkResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        format!("network {}", self.name)
    }

    fn command(self) -> Result<Command, Status> {
        let at = Fields("CreateNetworkRequest");
        let subnet = self.subnet.map(|subnet| at.prefix("subnet", subnet)).transpose();
        Ok(Command::CreateNetwork {
            name: self.name,
            subnet: subnet.map_err(|error| invalid(&error))?,
            internal: self.internal,
            labels: self.labels,
        })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        (done == CommandDone::Done).then(Self::Answer::default)
    }
}

impl Write for wire::UpdateNodeRequest {
    const METHOD: &'static str = "UpdateNode";
    type Answer = wire::UpdateNodeResponse;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        format!("node {}", self.node)
    }

    fn command(self) -> Result<Command, Status> {
        if self.demote {
            return Ok(Command::DemoteNode { node: self.node });
        }
        if self.lost {
            return Ok(Command::DeclareNodeLost { node: self.node });
        }
        let availability = wire::Availability::try_from(self.availability)
            .map_err(|_| Refusal::invalid("this availability is not known"))?;
        Ok(Command::UpdateNode {
            node: self.node,
            availability: availability.into(),
            set_labels: self.set_labels,
            remove_labels: self.remove_labels,
        })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        (done == CommandDone::Done).then(Self::Answer::default)
    }
}

impl Write for wire::JoinWish {
    const METHOD: &'static str = "Join";
    type Answer = wire::JoinedNode;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        let role = if self.controller { Role::Controller } else { Role::Agent };
        format!("host {} as {role:?}", self.hostname)
    }

    fn command(self) -> Result<Command, Status> {
        let role = if self.controller { Role::Controller } else { Role::Agent };
        let address = Some(self.controller_address).filter(|_| self.controller);
        Ok(Command::Join { hostname: self.hostname, role, controller_address: address })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        match done {
            CommandDone::Joined { node, raft_id } => Some(Self::Answer {
                node_id: node.0,
                raft_id: raft_id.map_or(0, |raft_id| raft_id.0),
            }),
            _ => None,
        }
    }
}

impl Write for wire::PromoteWish {
    const METHOD: &'static str = "PromoteNode";
    type Answer = wire::JoinedNode;

    fn request_id(&self) -> String {
        self.request_id.clone()
    }

    fn object(&self) -> String {
        format!("node {} to controller at {}", self.node, self.address)
    }

    fn command(self) -> Result<Command, Status> {
        Ok(Command::PromoteNode { node: swarm_proto::id::NodeId(self.node), address: self.address })
    }

    fn answer(done: CommandDone) -> Option<Self::Answer> {
        wire::JoinWish::answer(done)
    }
}

/// An empty text stands for none.
fn secret(text: &str) -> Option<Secret> {
    (!text.is_empty()).then(|| Secret::new(text.to_owned()))
}

macro_rules! plain_write {
    ($request:ident, $method:literal, $answer:ident, $self:ident: $object:expr => $command:expr) => {
        plain_write!($request, $method, $answer, $self: $object => $command,
            done => (done == CommandDone::Done).then(Self::Answer::default));
    };
    ($request:ident, $method:literal, $answer:ident, $self:ident: $object:expr => $command:expr,
        $done:ident => $said:expr) => {
        impl Write for wire::$request {
            const METHOD: &'static str = $method;
            type Answer = wire::$answer;

            fn request_id(&self) -> String {
                self.request_id.clone()
            }

            fn object(&$self) -> String {
                $object
            }

            fn command($self) -> Result<Command, Status> {
                Ok($command)
            }

            fn answer($done: CommandDone) -> Option<Self::Answer> {
                $said
            }
        }
    };
}
use plain_write;

plain_write!(RemoveStackRequest, "RemoveStack", RemoveStackResponse,
    self: format!("stack {}", self.stack) => Command::RemoveStack { stack: self.stack });
plain_write!(RemoveNodeRequest, "RemoveNode", RemoveNodeResponse,
    self: format!("node {}", self.node) => Command::RemoveNode { node: self.node, force: self.force });
plain_write!(RemoveNetworkRequest, "RemoveNetwork", RemoveNetworkResponse,
    self: format!("network {}", self.network) => Command::RemoveNetwork { network: self.network });
plain_write!(CreateVolumeRequest, "CreateVolume", CreateVolumeResponse,
    self: format!("volume {}", self.name) => Command::CreateVolume { name: self.name, labels: self.labels });
plain_write!(RemoveVolumeRequest, "RemoveVolume", RemoveVolumeResponse,
    self: format!("volume {}", self.volume) => Command::RemoveVolume { volume: self.volume, force: self.force });
plain_write!(TokensWish, "RotateJoinTokens", TokensSet,
self: String::from("join tokens") => Command::RotateTokens {
    controller: secret(&self.controller),
    agent: secret(&self.agent),
});
plain_write!(AddressWish, "SetControllerAddress", AddressSet,
self: format!("node {} at {}", self.node, self.address) => Command::SetControllerAddress {
    node: swarm_proto::id::NodeId(self.node),
    address: self.address,
});
plain_write!(AuthorityWish, "ReplaceAuthority", AuthoritySet,
self: String::from("certificate authority") => Command::ReplaceAuthority {
    former: self.former.clone(),
    certificate: self.certificate.clone(),
    key: Secret::new(self.key.clone()),
    vouched: self.vouched.clone(),
    roots: self.roots.clone(),
});
plain_write!(DropAuthorityWish, "DropFormerAuthority", AuthoritySet,
    self: String::from("former certificate authority") => Command::DropFormerAuthority { certificate: self.certificate });
plain_write!(RootsWish, "ReportRoots", RootsSet,
self: format!("node {}", self.node) => Command::ReportRoots {
    node: swarm_proto::id::NodeId(self.node),
    roots: self.roots,
});
plain_write!(LockWish, "SetLock", LockSet,
    self: String::from("lock") => Command::SetLock { key: secret(&self.key), rotate: self.rotate });
