//! Agents' sessions, on the leader and through a follower.

use std::sync::Arc;
use std::time::Duration;

use swarm_proto::id::Timestamp;
use swarm_proto::object::{NodeDescription, TaskState, TaskStatus};
use swarm_proto::transport::{self, CONTROLLER_NAME, Identity, JoinToken, Tls, join};
use swarm_proto::wire;
use swarm_proto::wire::agent_message::Message as Spoken;
use swarm_proto::wire::controller_message::Message as Said;
use swarm_proto::wire::dispatcher_client::DispatcherClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::host::{Host, PATIENCE, cluster, deploy, eventually, leader, stack};

pub(crate) struct Agent {
    speak: mpsc::Sender<wire::AgentMessage>,
    hear: Streaming<wire::ControllerMessage>,
}

fn description(agent_port: u16) -> NodeDescription {
    NodeDescription {
        hostname: String::from("a1"),
        address: Some([127, 0, 0, 1].into()),
        agent_port,
        os: String::from("linux"),
        arch: String::from("amd64"),
        millicpus: 4000,
        memory: 8 << 30,
        ..NodeDescription::default()
    }
}

impl Agent {
    pub(crate) async fn connect(identity: &Identity, address: &str) -> Self {
        Self::with_port(identity, address, 1).await
    }

    /// An agent whose own services answer at this port.
    pub(crate) async fn with_port(identity: &Identity, address: &str, agent_port: u16) -> Self {
        let tls: Arc<Tls> = Tls::new(&identity.credentials()).unwrap();
        let channel = tls.connect(address, CONTROLLER_NAME).await.unwrap();
        let (speak, stream) = mpsc::channel(16);
        let description = description(agent_port);
        let hello = wire::Hello {
            session: String::from("s1"),
            description: Some(wire::NodeDescription::from(&description)),
            statuses: Vec::new(),
            volumes: Vec::new(),
            takes_network_changes: true,
        };
        let agent_speaks =
            |message| wire::AgentMessage { message: Some(message), relayed_node: 99 };
        speak.send(agent_speaks(Spoken::Hello(hello))).await.unwrap();
        let mut client = DispatcherClient::new(channel);
        let hear = client.session(ReceiverStream::new(stream)).await.unwrap().into_inner();
        Self { speak, hear }
    }

    pub(crate) async fn heartbeat(&self) {
        let heartbeat = Spoken::Heartbeat(wire::Heartbeat {});
        let message = wire::AgentMessage { message: Some(heartbeat), relayed_node: 0 };
        self.speak.send(message).await.unwrap();
    }

    /// Says which roots it trusts.
    pub(crate) async fn describe(&self, roots: &str) {
        let description = NodeDescription { roots: roots.to_owned(), ..description(1) };
        let message = Some(Spoken::Description((&description).into()));
        self.speak.send(wire::AgentMessage { message, relayed_node: 0 }).await.unwrap();
    }

    /// The next answer to a heartbeat.
    pub(crate) async fn alive(&mut self) -> wire::Alive {
        let next = async {
            loop {
                let said = self.hear.message().await.unwrap().unwrap().message.unwrap();
                if let Said::Alive(alive) = said {
                    return alive;
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("the controller answers")
    }

    /// Says how far a task is.
    pub(crate) async fn report(&self, task: &str, state: TaskState) {
        let status = TaskStatus {
            pid: Some(7),
            started_at: Some(Timestamp(1)),
            ..TaskStatus::new(state, Timestamp(1))
        };
        let status = Some(wire::TaskStatus::from(&status));
        let statuses = vec![wire::TaskStatusReport { task: task.to_owned(), status }];
        let message = Some(Spoken::Statuses(wire::StatusReport { statuses }));
        self.speak.send(wire::AgentMessage { message, relayed_node: 0 }).await.unwrap();
    }

    /// Says that it holds an image, and nothing else.
    pub(crate) async fn holds(&self, digest: &str, name: &str, local: bool) {
        let names = vec![wire::HeldName { name: name.to_owned(), at: 1, local }];
        let images = vec![wire::HeldImage { digest: digest.to_owned(), names }];
        let message = Some(Spoken::Images(wire::ImagesReport { images }));
        self.speak.send(wire::AgentMessage { message, relayed_node: 0 }).await.unwrap();
    }

    /// Waits for the end of the session; answers with the controller's reason.
    pub(crate) async fn farewell(&mut self) -> String {
        loop {
            match self.next().await {
                Said::Goodbye(goodbye) => return goodbye.reason,
                Said::Assignments(_) => {}
                said => panic!("no goodbye: {said:?}"),
            }
        }
    }

    /// Waits for the end of the session, with a goodbye or without.
    pub(crate) async fn ended(&mut self) {
        let ended = async {
            while let Ok(Some(message)) = self.hear.message().await {
                if matches!(message.message, Some(Said::Goodbye(_))) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(15), ended).await.expect("the session ends");
    }

    /// The next message that is no answer to a heartbeat.
    async fn next(&mut self) -> Said {
        let next = async {
            loop {
                match self.hear.message().await.unwrap().unwrap().message.unwrap() {
                    Said::Alive(_) => {}
                    said => return said,
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("the controller speaks")
    }

    pub(crate) async fn welcomed(&mut self) -> wire::Welcome {
        match self.next().await {
            Said::Welcome(welcome) => welcome,
            said => panic!("no welcome first: {said:?}"),
        }
    }

    pub(crate) async fn assigned(&mut self) -> wire::Assignments {
        match self.next().await {
            Said::Assignments(assignments) => assignments,
            said => panic!("no assignments: {said:?}"),
        }
    }
}

pub(crate) async fn agent_identity(host: &Host) -> Identity {
    transport::install_crypto_provider();
    let token: JoinToken = host.expect(&["token", "agent"]).trim().parse().unwrap();
    join(&host.address, &token, "a1", None).await.unwrap()
}

/// Serves one agent at a controller: its task arrives, by name of the certificate's node only.
async fn serves(hosts: &[Host], at: usize, identity: &Identity, name: &str) {
    let mut agent = Agent::connect(identity, &hosts[at].address).await;
    let welcome = agent.welcomed().await;
    assert_eq!(welcome.node_id, identity.node_id.0);
    assert_eq!(welcome.controllers.len(), hosts.len());
    assert_eq!(welcome.controller_nodes.len(), hosts.len());
    let first = agent.assigned().await;
    assert!(first.complete);
    agent.heartbeat().await;
    let mut control = hosts[at].control().await;
    control.deploy(deploy(name, stack(name, 1))).await.unwrap();
    let mut sequence = first.sequence;
    let found = loop {
        let next = agent.assigned().await;
        assert_eq!(next.sequence, sequence + 1);
        sequence = next.sequence;
        let tasks = next.diff.unwrap_or_default().tasks;
        if let Some(task) = tasks.into_iter().find(|task| task.stack == name) {
            break task;
        }
    };
    assert_eq!(found.service, format!("{name}_sleep"));
    let environment = found.container.unwrap().environment;
    assert_eq!(environment["PASSWORD"].value.as_deref(), Some("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_gets_its_tasks_from_any_controller() {
    let hosts = cluster(3).await;
    let identity = agent_identity(&hosts[0]).await;
    let leader = leader(&hosts).await;
    serves(&hosts, leader, &identity, "direct").await;
    serves(&hosts, (leader + 1) % 3, &identity, "relayed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_leader_and_begins_at_the_next() {
    let mut hosts = cluster(3).await;
    let identity = agent_identity(&hosts[0]).await;
    let first = leader(&hosts).await;
    let follower = (first + 1) % 3;
    let mut agent = Agent::connect(&identity, &hosts[follower].address).await;
    agent.welcomed().await;
    hosts[first].kill();
    agent.ended().await;
    let mut agent = Agent::connect(&identity, &hosts[follower].address).await;
    assert_eq!(agent.welcomed().await.node_id, identity.node_id.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_ready_node_is_refused() {
    let hosts = cluster(1).await;
    let mut open = stack("web", 1);
    for service in open.services.values_mut() {
        let image = service.container.as_mut().unwrap().image.as_mut().unwrap();
        image.digest = None;
    }
    let mut control = hosts[0].control().await;
    let refused = control.deploy(deploy("r1", open.clone())).await.unwrap_err();
    assert!(refused.message().contains("no node is ready to ask its registry"), "{refused}");
    assert!(hosts[0].state().await.stacks.is_empty());

    // What runs already stays, with a warning.
    control.deploy(deploy("r2", stack("web", 1))).await.unwrap();
    let answer = control.deploy(deploy("r3", open)).await.unwrap().into_inner();
    assert!(!answer.changed);
    assert!(answer.warnings[0].starts_with("the registry could not be asked"), "{answer:?}");
    eventually("the stack stands", async || {
        let found = hosts[0].state().await.stacks.len();
        if found == 1 { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}
