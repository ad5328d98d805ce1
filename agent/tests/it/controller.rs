//! A controller that follows a script: it takes sessions and sends what a test wants.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use swarm_proto::assignment::AssignmentDiff;
use swarm_proto::id::{NodeId, TaskId};
use swarm_proto::object::{Role, TaskState, TaskStatus};
use swarm_proto::transport::{self, Authority, Identity, KeyAndRequest, Tls};
use swarm_proto::wire;
use swarm_proto::wire::agent_message::Message as Heard;
use swarm_proto::wire::controller_message::Message as Say;
use swarm_proto::wire::dispatcher_server::{Dispatcher, DispatcherServer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(20);

type Outgoing = mpsc::Sender<Result<wire::ControllerMessage, Status>>;

/// What the agent said, all sessions together.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) hellos: Vec<wire::Hello>,
    pub(crate) statuses: BTreeMap<TaskId, Vec<TaskStatus>>,
    pub(crate) volumes: Vec<wire::VolumeReport>,
    pub(crate) networks: BTreeMap<u64, u64>,
    pub(crate) removed_tasks: Vec<String>,
    pub(crate) removed_networks: Vec<u64>,
    pub(crate) usages: Vec<wire::TaskUsage>,
    session: Option<Outgoing>,
    sequence: u64,
}

pub(crate) struct Controller {
    pub(crate) seen: Arc<Mutex<Seen>>,
    /// What every session begins with.
    complete: Arc<Mutex<AssignmentDiff>>,
    address: SocketAddr,
    pub(crate) tls: Arc<Tls>,
    pub(crate) agent: Identity,
    serving: Option<JoinHandle<()>>,
    gone: CancellationToken,
}

#[derive(Clone)]
struct Script {
    seen: Arc<Mutex<Seen>>,
    complete: Arc<Mutex<AssignmentDiff>>,
    address: SocketAddr,
    gone: CancellationToken,
}

fn identity(authority: &Authority, node: u64, role: Role, controllers: Vec<String>) -> Identity {
    let key = KeyAndRequest::make().unwrap();
    let now = SystemTime::now();
    let certificate = authority.sign_node(&key.request_pem, NodeId(node), role, now).unwrap();
    Identity {
        cluster_id: "a".repeat(32),
        node_id: NodeId(node),
        raft_id: None,
        role,
        controllers,
        certificate_pem: certificate,
        key_pem: key.key_pem,
        ca_pem: authority.certificate_pem().to_owned(),
    }
}

impl Controller {
    pub(crate) async fn start(own: Ipv4Addr) -> Self {
        let authority = Authority::create(&"a".repeat(32), SystemTime::now()).unwrap();
        let controller = identity(&authority, 1, Role::Controller, Vec::new());
        let listener = TcpListener::bind((own, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let agent = identity(&authority, 2, Role::Agent, vec![address.to_string()]);
        let tls = Tls::new(&controller.credentials()).unwrap();
        let (seen, complete) = (Arc::default(), Arc::default());
        let mut controller = Self {
            seen,
            complete,
            address,
            tls,
            agent,
            serving: None,
            gone: CancellationToken::new(),
        };
        controller.serve(listener);
        controller
    }

    fn serve(&mut self, listener: TcpListener) {
        let script = Script {
            seen: Arc::clone(&self.seen),
            complete: Arc::clone(&self.complete),
            address: self.address,
            gone: self.gone.clone(),
        };
        let incoming = transport::accept_tls(listener, Arc::clone(&self.tls));
        let server = transport::server().add_service(DispatcherServer::new(script));
        self.serving = Some(tokio::spawn(async move {
            server.serve_with_incoming(incoming).await.unwrap();
        }));
    }

    /// Out of reach from now on: open connections end, new ones are refused.
    pub(crate) async fn vanish(&mut self) {
        self.gone.cancel();
        self.gone = CancellationToken::new();
        let serving = self.serving.take().unwrap();
        serving.abort();
        let _ = serving.await;
        self.seen.lock().unwrap().session = None;
    }

    /// In reach again.
    pub(crate) async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    /// Changes the set of assignments and tells the agent, if it is there.
    pub(crate) async fn assign(&self, diff: AssignmentDiff) {
        let message = {
            let mut complete = self.complete.lock().unwrap();
            let gone = &diff.removed_tasks;
            complete.tasks.retain(|task| {
                !gone.contains(&task.id) && !diff.tasks.iter().any(|new| new.id == task.id)
            });
            complete.tasks.extend(diff.tasks.iter().cloned());
            complete.networks.retain(|network| {
                !diff.removed_networks.contains(&network.id)
                    && !diff.networks.iter().any(|new| new.id == network.id)
            });
            complete.networks.extend(diff.networks.iter().cloned());
            for network in &mut complete.networks {
                diff.network_changes.iter().for_each(|change| change.apply(network));
            }
            complete.volumes.retain(|volume| {
                !diff.removed_volumes.contains(&volume.id)
                    && !diff.volumes.iter().any(|new| new.id == volume.id)
            });
            complete.volumes.extend(diff.volumes.iter().cloned());
            let mut seen = self.seen.lock().unwrap();
            seen.sequence += 1;
            let assignments = wire::Assignments {
                complete: false,
                sequence: seen.sequence,
                diff: Some((&diff).into()),
            };
            seen.session.clone().map(|session| (session, Say::Assignments(assignments)))
        };
        if let Some((session, message)) = message {
            let message = wire::ControllerMessage { message: Some(message) };
            let _ = session.send(Ok(message)).await;
        }
    }

    /// Sends a message with a wrong number, as if one had been lost.
    pub(crate) async fn lose_a_message(&self) {
        let session = {
            let mut seen = self.seen.lock().unwrap();
            seen.sequence += 2;
            let assignments = wire::Assignments {
                complete: false,
                sequence: seen.sequence,
                diff: Some((&AssignmentDiff::default()).into()),
            };
            (seen.session.clone().unwrap(), Say::Assignments(assignments))
        };
        let message = wire::ControllerMessage { message: Some(session.1) };
        session.0.send(Ok(message)).await.unwrap();
    }

    /// Waits until what was seen pleases.
    pub(crate) async fn until<T>(&self, what: &str, mut look: impl FnMut(&Seen) -> Option<T>) -> T {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(&self.seen.lock().unwrap()) {
                return found;
            }
            let seen = self.seen.lock().unwrap().statuses.clone();
            assert!(tokio::time::Instant::now() < end, "waited for {what}; seen: {seen:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until a task comes to a state, and gives its status.
    pub(crate) async fn comes_to(&self, task: TaskId, state: TaskState) -> TaskStatus {
        let what = format!("{task} to be {state}");
        self.until(&what, |seen| {
            seen.statuses.get(&task)?.last().filter(|status| status.state == state).cloned()
        })
        .await
    }

    /// Waits until nothing of a task is left.
    pub(crate) async fn is_gone(&self, task: TaskId) {
        let text = task.to_string();
        self.until(&format!("{task} to be gone"), |seen| {
            seen.removed_tasks.contains(&text).then_some(())
        })
        .await;
    }
}

#[tonic::async_trait]
impl Dispatcher for Script {
    type SessionStream = ReceiverStream<Result<wire::ControllerMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = transport::known_peer(&request)?;
        assert_eq!(peer.node_id, Some(NodeId(2)));
        let (sender, receiver) = mpsc::channel(64);
        let script = self.clone();
        let gone = self.gone.clone();
        tokio::spawn(async move {
            gone.run_until_cancelled(script.listen(request.into_inner(), sender)).await
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Script {
    async fn listen(self, mut stream: Streaming<wire::AgentMessage>, sender: Outgoing) {
        while let Ok(Some(message)) = stream.message().await {
            assert_eq!(message.relayed_node, 0);
            match message.message.unwrap() {
                Heard::Hello(hello) => self.greet(hello, &sender).await,
                Heard::Heartbeat(_) => {
                    let alive = wire::Alive {
                        controllers: vec![self.address.to_string()],
                        controller_nodes: Vec::new(),
                        roots: String::new(),
                    };
                    let message = wire::ControllerMessage { message: Some(Say::Alive(alive)) };
                    if sender.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
                Heard::Statuses(report) => self.take(report.statuses),
                Heard::Description(_) | Heard::Demand(_) | Heard::Images(_) => {}
                Heard::Usage(report) => self.seen.lock().unwrap().usages.extend(report.tasks),
                Heard::Volumes(report) => self.seen.lock().unwrap().volumes = report.volumes,
                Heard::Confirmation(confirmation) => {
                    let mut seen = self.seen.lock().unwrap();
                    seen.networks.extend(confirmation.networks);
                    seen.removed_tasks.extend(confirmation.removed_tasks);
                    for network in confirmation.removed_networks {
                        seen.networks.remove(&network);
                        seen.removed_networks.push(network);
                    }
                }
            }
        }
    }

    async fn greet(&self, hello: wire::Hello, sender: &Outgoing) {
        self.take(hello.statuses.clone());
        let diff: wire::AssignmentDiff = (&*self.complete.lock().unwrap()).into();
        let welcome = wire::Welcome {
            node_id: 2,
            heartbeat_milliseconds: 200,
            controllers: vec![self.address.to_string()],
            controller_nodes: Vec::new(),
            vxlan_port: 4789,
            roots: String::new(),
            incarnation: None,
        };
        let assignments = wire::Assignments { complete: true, sequence: 1, diff: Some(diff) };
        {
            let mut seen = self.seen.lock().unwrap();
            seen.volumes.clone_from(&hello.volumes);
            seen.hellos.push(hello);
            (seen.session, seen.sequence) = (Some(sender.clone()), 1);
        }
        for message in [Say::Welcome(welcome), Say::Assignments(assignments)] {
            let message = wire::ControllerMessage { message: Some(message) };
            let _ = sender.send(Ok(message)).await;
        }
    }

    fn take(&self, statuses: Vec<wire::TaskStatusReport>) {
        let mut seen = self.seen.lock().unwrap();
        for report in statuses {
            let (task, status): (TaskId, TaskStatus) = report.try_into().unwrap();
            let known = seen.statuses.entry(task).or_default();
            if let Some(last) = known.last() {
                let before = (last.attempt, last.state);
                assert!(before <= (status.attempt, status.state), "{task} fell back: {status:?}");
            }
            known.push(status);
        }
    }
}
