//! A controller that says what a test tells it, on a unix socket, and the real program to talk to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use swarm_proto::object::ScalingReport;
use swarm_proto::transport::{accept_unix, server};
use swarm_proto::wire::control_server::{Control, ControlServer};
use swarm_proto::wire::watch_event::Event;
use swarm_proto::wire::{self, WatchEvent};
use swarmctl::state::State;
use tokio::process::Command;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt, iter};
use tonic::{Request, Response, Status, Streaming};

use crate::objects::view;
use crate::program::{Said, swarmctl};

type Answer<T> = Result<Response<T>, Status>;
pub(crate) type Lines<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the fake answers.
pub(crate) struct Script {
    pub(crate) state: Mutex<State>,
    /// Answers to writes, each used once; without one a write is accepted.
    pub(crate) refusals: Mutex<Vec<Status>>,
    pub(crate) deploy: Mutex<wire::DeployResponse>,
    pub(crate) logs: Mutex<Vec<wire::LogLine>>,
    /// What hosts say of themselves.
    pub(crate) hosts: Mutex<Vec<wire::HostInspection>>,
    /// What would be moved; the first of it is, when it is asked for.
    pub(crate) plan: Mutex<wire::PlanRebalanceResponse>,
    /// Services that are scaled by what is measured.
    pub(crate) scaling: Mutex<Vec<ScalingReport>>,
    /// A backup's bytes.
    pub(crate) backup: Mutex<Vec<u8>>,
    /// Whether nobody leads: then only what may be stale is answered.
    pub(crate) leaderless: AtomicBool,
    /// Contents' bytes by their digest.
    pub(crate) contents: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Every write that came in.
    pub(crate) seen: Mutex<Vec<String>>,
    /// `None` ends the watchers' streams, as a controller that stops does.
    events: broadcast::Sender<Option<Event>>,
}

impl Script {
    pub(crate) fn new(state: State) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            refusals: Mutex::default(),
            deploy: Mutex::new(wire::DeployResponse {
                revision: 2,
                changed: true,
                warnings: Vec::new(),
                changes: vec!["service web created".to_owned()],
                ..wire::DeployResponse::default()
            }),
            logs: Mutex::default(),
            hosts: Mutex::default(),
            plan: Mutex::default(),
            scaling: Mutex::default(),
            backup: Mutex::default(),
            leaderless: AtomicBool::new(false),
            contents: Mutex::default(),
            seen: Mutex::default(),
            events: broadcast::channel(100).0,
        })
    }

    /// Changes the state and tells the watchers all of it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap();
        change(&mut state);
        let _ = self.events.send(Some(Event::Snapshot(view(&state))));
    }

    /// Breaks every watcher's stream.
    pub(crate) fn end_streams(&self) {
        let _ = self.events.send(None);
    }

    fn write(&self, what: String) -> Result<(), Status> {
        self.seen.lock().unwrap().push(what);
        match self.refusals.lock().unwrap().pop() {
            Some(status) => Err(status),
            None => Ok(()),
        }
    }
}

/// The script as tonic serves it.
pub(crate) struct Served(pub(crate) Arc<Script>);

impl std::ops::Deref for Served {
    type Target = Script;

    fn deref(&self) -> &Script {
        &self.0
    }
}

fn changed(how: &str) -> wire::ChangedServiceResponse {
    wire::ChangedServiceResponse {
        revision: 2,
        changed: true,
        warnings: Vec::new(),
        changes: vec![format!("service {how}")],
    }
}

#[tonic::async_trait]
impl Control for Served {
    type WatchStream = Lines<WatchEvent>;
    type LogsStream = Lines<wire::LogLine>;
    type ExecStream = Lines<wire::ExecOutput>;
    type BackupStream = Lines<wire::BackupPiece>;
    type BuildStream = Lines<wire::BuildOutput>;

    async fn deploy(&self, request: Request<wire::DeployRequest>) -> Answer<wire::DeployResponse> {
        let request = request.into_inner();
        let stack = request.stack.unwrap();
        self.write(format!("deploy {} {}", stack.name, request.request_id))?;
        Ok(Response::new(self.deploy.lock().unwrap().clone()))
    }

    async fn plan_deploy(&self, request: Request<wire::DeployRequest>) -> Answer<wire::DeployPlan> {
        let stack = request.into_inner().stack.unwrap();
        let task = |task: &str, node: &str, reason: &str| wire::PlannedTask {
            task: task.to_owned(),
            node: node.to_owned(),
            reason: reason.to_owned(),
        };
        Ok(Response::new(wire::DeployPlan {
            changes: vec![format!("service {}_web created", stack.name)],
            warnings: Vec::new(),
            tasks: vec![
                task("shop_web.1", "n1", ""),
                task("shop_web.2", "", "waits until `batch_work.3` made place on n2"),
            ],
            preempted: vec![wire::PlannedPreemption {
                task: "batch_work.3".to_owned(),
                node: "n2".to_owned(),
                priority: -1,
                for_task: "shop_web.2".to_owned(),
                for_priority: 10,
            }],
            cut: true,
        }))
    }

    async fn remove_stack(
        &self,
        request: Request<wire::RemoveStackRequest>,
    ) -> Answer<wire::RemoveStackResponse> {
        self.write(format!("remove stack {}", request.into_inner().stack))?;
        Ok(Response::new(wire::RemoveStackResponse {}))
    }

    async fn scale_service(
        &self,
        request: Request<wire::ScaleServiceRequest>,
    ) -> Answer<wire::ScaleServiceResponse> {
        let request = request.into_inner();
        self.write(format!("scale {} {}", request.service, request.replicas))?;
        Ok(Response::new(wire::ScaleServiceResponse { previous: 1 }))
    }

    async fn list_scaling(
        &self,
        _: Request<wire::ListScalingRequest>,
    ) -> Answer<wire::ListScalingResponse> {
        let services = self.scaling.lock().unwrap().iter().map(Into::into).collect();
        Ok(Response::new(wire::ListScalingResponse { services }))
    }

    async fn run_job(&self, request: Request<wire::RunJobRequest>) -> Answer<wire::RunJobResponse> {
        self.write(format!("run job {}", request.into_inner().service))?;
        Ok(Response::new(wire::RunJobResponse { run: 7 }))
    }

    async fn run_one_off(
        &self,
        request: Request<wire::RunOneOffRequest>,
    ) -> Answer<wire::RunJobResponse> {
        let request = request.into_inner();
        self.write(format!("run one-off {} {:?}", request.service, request.command))?;
        Ok(Response::new(wire::RunJobResponse { run: 8 }))
    }

    async fn stop_runs(
        &self,
        request: Request<wire::StopRunsRequest>,
    ) -> Answer<wire::StopRunsResponse> {
        let request = request.into_inner();
        self.write(format!("stop runs {} {:?}", request.service, request.run))?;
        Ok(Response::new(wire::StopRunsResponse {}))
    }

    async fn update_service(
        &self,
        request: Request<wire::UpdateServiceRequest>,
    ) -> Answer<wire::ChangedServiceResponse> {
        let request = request.into_inner();
        let change = request.change.unwrap();
        self.write(format!(
            "update service {} {:?} force {}",
            request.service, change.fields, change.force
        ))?;
        Ok(Response::new(changed("updated")))
    }

    async fn roll_back_service(
        &self,
        request: Request<wire::RollBackServiceRequest>,
    ) -> Answer<wire::ChangedServiceResponse> {
        self.write(format!("roll back service {}", request.into_inner().service))?;
        Ok(Response::new(changed("rolled back")))
    }

    async fn pause_service(
        &self,
        request: Request<wire::PauseServiceRequest>,
    ) -> Answer<wire::PauseServiceResponse> {
        let request = request.into_inner();
        let verb = if request.resume { "resume" } else { "pause" };
        self.write(format!("{verb} service {}", request.service))?;
        Ok(Response::new(wire::PauseServiceResponse {}))
    }

    async fn promote_service(
        &self,
        request: Request<wire::PromoteServiceRequest>,
    ) -> Answer<wire::PromoteServiceResponse> {
        self.write(format!("promote service {}", request.into_inner().service))?;
        Ok(Response::new(wire::PromoteServiceResponse {}))
    }

    async fn remove_service(
        &self,
        request: Request<wire::RemoveServiceRequest>,
    ) -> Answer<wire::RemoveServiceResponse> {
        self.write(format!("remove service {}", request.into_inner().service))?;
        Ok(Response::new(wire::RemoveServiceResponse {}))
    }

    async fn update_node(
        &self,
        request: Request<wire::UpdateNodeRequest>,
    ) -> Answer<wire::UpdateNodeResponse> {
        let request = request.into_inner();
        if request.lost {
            self.write(format!("lost node {}", request.node))?;
            return Ok(Response::new(wire::UpdateNodeResponse {}));
        }
        if request.demote {
            self.write(format!("demote node {}", request.node))?;
            return Ok(Response::new(wire::UpdateNodeResponse {}));
        }
        let mut set: Vec<String> =
            request.set_labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        set.sort();
        let availability = request.availability();
        self.write(format!(
            "update node {} {availability:?} {set:?} {:?}",
            request.node, request.remove_labels
        ))?;
        Ok(Response::new(wire::UpdateNodeResponse {}))
    }

    async fn promote_node(
        &self,
        request: Request<wire::PromoteNodeRequest>,
    ) -> Answer<wire::PromoteNodeResponse> {
        self.write(format!("promote node {}", request.into_inner().node))?;
        // Longer than it takes until another controller would be asked, too.
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        Ok(Response::new(wire::PromoteNodeResponse {
            done: vec!["this host is node 3 of cluster c".to_owned()],
        }))
    }

    async fn remove_node(
        &self,
        request: Request<wire::RemoveNodeRequest>,
    ) -> Answer<wire::RemoveNodeResponse> {
        let request = request.into_inner();
        self.write(format!("remove node {} {}", request.node, request.force))?;
        Ok(Response::new(wire::RemoveNodeResponse {}))
    }

    async fn create_network(
        &self,
        request: Request<wire::CreateNetworkRequest>,
    ) -> Answer<wire::CreateNetworkResponse> {
        let request = request.into_inner();
        let subnet = request.subnet.map(|prefix| (prefix.address, prefix.length));
        let (name, internal, labels) = (&request.name, request.internal, &request.labels);
        self.write(format!("create network {name} {subnet:?} {internal} {labels:?}"))?;
        Ok(Response::new(wire::CreateNetworkResponse {}))
    }

    async fn remove_network(
        &self,
        request: Request<wire::RemoveNetworkRequest>,
    ) -> Answer<wire::RemoveNetworkResponse> {
        self.write(format!("remove network {}", request.into_inner().network))?;
        Ok(Response::new(wire::RemoveNetworkResponse {}))
    }

    async fn create_volume(
        &self,
        request: Request<wire::CreateVolumeRequest>,
    ) -> Answer<wire::CreateVolumeResponse> {
        let request = request.into_inner();
        self.write(format!("create volume {} {:?}", request.name, request.labels))?;
        Ok(Response::new(wire::CreateVolumeResponse {}))
    }

    async fn remove_volume(
        &self,
        request: Request<wire::RemoveVolumeRequest>,
    ) -> Answer<wire::RemoveVolumeResponse> {
        let request = request.into_inner();
        self.write(format!("remove volume {} {}", request.volume, request.force))?;
        Ok(Response::new(wire::RemoveVolumeResponse {}))
    }

    async fn announce_contents(
        &self,
        request: Request<wire::AnnounceContentsRequest>,
    ) -> Answer<wire::AnnounceContentsResponse> {
        let known = self.contents.lock().unwrap();
        let is_missing = |content: &wire::ContentId| !known.contains_key(&content.digest);
        let announced = request.into_inner().contents.into_iter();
        let missing = announced.filter(is_missing).collect();
        Ok(Response::new(wire::AnnounceContentsResponse { missing }))
    }

    async fn add_content(
        &self,
        request: Request<wire::AddContentRequest>,
    ) -> Answer<wire::AddContentResponse> {
        let mut request = request.into_inner();
        let content = request.content.take().unwrap();
        let kind = content.kind();
        self.write(format!("add {kind:?} part {} of {} bytes", request.part, request.size))?;
        let mut known = self.contents.lock().unwrap();
        known.entry(content.digest).or_default().extend(&request.data);
        Ok(Response::new(wire::AddContentResponse {}))
    }

    async fn create_named_content(
        &self,
        request: Request<wire::CreateNamedContentRequest>,
    ) -> Answer<wire::CreateNamedContentResponse> {
        let request = request.into_inner();
        let kind = request.content.unwrap().kind();
        self.write(format!("create {kind:?} {} {:?}", request.name, request.labels))?;
        Ok(Response::new(wire::CreateNamedContentResponse {}))
    }

    async fn remove_named_content(
        &self,
        request: Request<wire::RemoveNamedContentRequest>,
    ) -> Answer<wire::RemoveNamedContentResponse> {
        let request = request.into_inner();
        self.write(format!("remove {:?} {}", request.kind(), request.name))?;
        Ok(Response::new(wire::RemoveNamedContentResponse {}))
    }

    async fn get_config(
        &self,
        _request: Request<wire::GetConfigRequest>,
    ) -> Answer<wire::GetConfigResponse> {
        let mut config = wire::GetConfigResponse::default();
        config.data = b"what is in it".to_vec();
        Ok(Response::new(config))
    }

    async fn get_state(&self, request: Request<wire::GetStateRequest>) -> Answer<wire::StateView> {
        let stale = request.into_inner().stale;
        if self.leaderless.load(Ordering::Relaxed) && !stale {
            return Err(Status::unavailable("no leader: 2 of 3 controllers must reach each other"));
        }
        let mut view = view(&self.state.lock().unwrap());
        view.stale = stale;
        Ok(Response::new(view))
    }

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Answer<Self::WatchStream> {
        assert!(request.into_inner().snapshot);
        let event = |event| WatchEvent { event: Some(event), ..WatchEvent::default() };
        let state = self.state.lock().unwrap();
        let later = BroadcastStream::new(self.events.subscribe());
        let first = iter([Ok(event(Event::Snapshot(view(&state))))]);
        let later = later.map(move |change| match change {
            Ok(Some(change)) => Ok(event(change)),
            _ => Err(Status::unavailable("this controller stops")),
        });
        Ok(Response::new(Box::pin(first.chain(later))))
    }

    async fn logs(&self, request: Request<wire::LogsRequest>) -> Answer<Self::LogsStream> {
        let request = request.into_inner();
        self.write(format!("logs {} {} {}", request.target, request.tail, request.since))?;
        let lines: Vec<_> = self.logs.lock().unwrap().iter().cloned().map(Ok).collect();
        Ok(Response::new(Box::pin(iter(lines))))
    }

    async fn list_images(
        &self,
        _request: Request<wire::ListImagesRequest>,
    ) -> Answer<wire::ListImagesResponse> {
        let lost = wire::NodeImages {
            node: "n3".to_owned(),
            error: "it is down".to_owned(),
            images: Vec::new(),
        };
        Ok(Response::new(wire::ListImagesResponse { nodes: vec![lost] }))
    }

    async fn inspect_hosts(
        &self,
        _request: Request<wire::InspectHostsRequest>,
    ) -> Answer<wire::InspectHostsResponse> {
        let hosts = self.hosts.lock().unwrap().clone();
        Ok(Response::new(wire::InspectHostsResponse { hosts }))
    }

    async fn build(
        &self,
        request: Request<Streaming<wire::BuildInput>>,
    ) -> Answer<Self::BuildStream> {
        Ok(Response::new(crate::build::node(Arc::clone(&self.0), request.into_inner())))
    }

    async fn exec(&self, request: Request<Streaming<wire::ExecInput>>) -> Answer<Self::ExecStream> {
        Ok(Response::new(crate::exec::echo(Arc::clone(&self.0), request.into_inner())))
    }

    async fn backup(&self, request: Request<wire::BackupRequest>) -> Answer<Self::BackupStream> {
        self.write(format!("backup {}", request.into_inner().stale))?;
        let pieces: Vec<_> = self.backup.lock().unwrap().chunks(10).map(<[u8]>::to_vec).collect();
        let pieces = pieces.into_iter().map(|data| Ok(wire::BackupPiece { data }));
        Ok(Response::new(Box::pin(iter(pieces))))
    }

    async fn get_cluster_status(
        &self,
        request: Request<wire::GetClusterStatusRequest>,
    ) -> Answer<wire::ClusterStatus> {
        Ok(Response::new(crate::objects::cluster_status(request.into_inner().stale)))
    }

    async fn get_join_tokens(
        &self,
        _request: Request<wire::GetJoinTokensRequest>,
    ) -> Answer<wire::JoinTokens> {
        Ok(Response::new(tokens("old", "old")))
    }

    async fn rotate_join_tokens(
        &self,
        request: Request<wire::RotateJoinTokensRequest>,
    ) -> Answer<wire::JoinTokens> {
        let request = request.into_inner();
        self.write(format!("rotate tokens {} {}", request.controller, request.agent))?;
        let of = |rotated| if rotated { "new" } else { "old" };
        Ok(Response::new(tokens(of(request.controller), of(request.agent))))
    }

    async fn set_lock(
        &self,
        request: Request<wire::SetLockRequest>,
    ) -> Answer<wire::SetLockResponse> {
        let request = request.into_inner();
        self.write(format!("lock rotate {} off {}", request.rotate, request.off))?;
        let unlock_key = if request.off { "" } else { "SWKEY-1-ab" };
        Ok(Response::new(wire::SetLockResponse { unlock_key: unlock_key.to_owned() }))
    }

    async fn update_cluster(
        &self,
        request: Request<wire::UpdateClusterRequest>,
    ) -> Answer<wire::UpdateClusterResponse> {
        let request = request.into_inner();
        let (mode, moves) = (request.rebalance().as_str_name(), request.moves_per_minute);
        self.write(format!("update cluster {mode} {moves:?}"))?;
        Ok(Response::new(wire::UpdateClusterResponse {}))
    }

    async fn plan_rebalance(
        &self,
        _request: Request<wire::PlanRebalanceRequest>,
    ) -> Answer<wire::PlanRebalanceResponse> {
        Ok(Response::new(self.plan.lock().unwrap().clone()))
    }

    async fn rebalance(
        &self,
        request: Request<wire::RebalanceRequest>,
    ) -> Answer<wire::RebalanceResponse> {
        let services = request.into_inner().services;
        self.write(format!("rebalance {}", services.join(" ")))?;
        let moves = self.plan.lock().unwrap().moves.clone().into_iter();
        Ok(Response::new(wire::RebalanceResponse { moves: moves.take(1).collect() }))
    }

    async fn rotate_authority(
        &self,
        request: Request<wire::RotateAuthorityRequest>,
    ) -> Answer<wire::RotateAuthorityResponse> {
        let force = request.into_inner().force;
        self.write(format!("rotate authority {force}"))?;
        let waiting = vec!["n2".to_owned(), "n3".to_owned()];
        let rotation = wire::AuthorityRotation { since: 1, waiting };
        Ok(Response::new(wire::RotateAuthorityResponse {
            root: "5e".repeat(32),
            rotation: (!force).then_some(rotation),
        }))
    }

    async fn get_version(
        &self,
        _request: Request<wire::GetVersionRequest>,
    ) -> Answer<wire::GetVersionResponse> {
        Ok(Response::new(wire::GetVersionResponse {
            version: "0.1.0".to_owned(),
            raft_id: 1,
            leader: if self.leaderless.load(Ordering::Relaxed) { 0 } else { 2 },
            leader_address: "10.9.0.2:2377".to_owned(),
            node: "n1".to_owned(),
        }))
    }
}

fn tokens(controller: &str, agent: &str) -> wire::JoinTokens {
    wire::JoinTokens {
        controller_token: format!("SWTKN-1-root-controller-{controller}"),
        agent_token: format!("SWTKN-1-root-agent-{agent}"),
        controllers: vec!["10.9.0.1:2377".to_owned(), "10.9.0.2:2377".to_owned()],
    }
}

/// A served script and a folder of its own.
pub(crate) struct Fake {
    pub(crate) script: Arc<Script>,
    pub(crate) folder: tempfile::TempDir,
}

impl Fake {
    pub(crate) async fn start(state: State) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("stack.yml"), crate::objects::COUNTER).unwrap();
        let script = Script::new(state);
        let incoming = accept_unix(&folder.path().join("socket")).await.unwrap();
        let service = ControlServer::new(Served(Arc::clone(&script)));
        tokio::spawn(server().add_service(service).serve_with_incoming(incoming));
        Self { script, folder }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The program, set to talk to this controller.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = swarmctl(self.folder.path(), arguments);
        command.env("SWARM_HOST", format!("unix://{}", self.socket().display()));
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Said {
        Said::of(self.command(arguments).output().await.unwrap(), self.folder.path())
    }
}
