//! A client: one operation after the other, each at its own controller first, and at the next when that gives none.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use swarm_proto::wire;
use swarm_proto::wire::control_client::ControlClient;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::hosts::connect;
use super::{Hosts, Load, Shared};
use crate::linearizability::{Answer, Operation, Request};
use crate::random::Random;

/// How long one controller is waited for.
const TRY: Duration = Duration::from_secs(2);
/// How long an operation is tried: then its outcome is unknown.
const GIVE_UP: Duration = Duration::from_secs(12);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(30);

struct Client {
    number: u64,
    hosts: Hosts,
    load: Load,
    shared: Arc<Shared>,
    random: Random,
    /// Which host is asked, and the connection to it.
    at: usize,
    connection: Option<ControlClient<Channel>>,
}

/// Where a register is.
struct Place {
    node: String,
    label: String,
}

/// Starts the clients of every controller.
pub(super) fn start(
    runtime: &tokio::runtime::Runtime,
    hosts: &Hosts,
    load: &Load,
    shared: &Arc<Shared>,
) -> Vec<JoinHandle<()>> {
    let homes = (0..hosts.names().len()).cycle();
    let count = load.clients * hosts.names().len() as u64;
    let clients = (0..count).zip(homes).map(|(number, at)| Client {
        number,
        hosts: hosts.clone(),
        load: load.clone(),
        shared: Arc::clone(shared),
        random: Random::new(load.seed ^ (number << 32)),
        at,
        connection: None,
    });
    clients.map(|client| runtime.spawn(client.run())).collect()
}

impl Client {
    async fn run(mut self) {
        let mut count = 0;
        let home = self.at;
        while !self.shared.over.load(Ordering::Relaxed) {
            count += 1;
            let node = self.random.one_of(self.hosts.names()).cloned().unwrap_or_default();
            // Registers of this run's own: those of an earlier one hold something already.
            let label =
                format!("run-{}-{}", self.load.seed, self.random.between(0, self.load.registers));
            let request = match self.random.between(0, 2) {
                0 => Request::Read,
                _ => Request::Write(self.number * 1_000_000_000 + count),
            };
            self.operate(count, &Place { node, label }, request).await;
            let longest = u64::try_from(self.load.rest.as_micros()).unwrap_or(u64::MAX) * 2;
            sleep(Duration::from_micros(self.random.between(0, longest.max(1)))).await;
            if self.at != home {
                // Back home at once: every controller shall be asked, above all one that is in trouble.
                (self.at, self.connection) = (home, None);
            }
        }
    }

    async fn operate(&mut self, count: u64, place: &Place, request: Request) {
        let called = self.shared.now();
        let deadline = Instant::now() + GIVE_UP;
        let request_id = format!("jepsen-{}-{}-{count}", self.load.seed, self.number);
        let ask = self.until_answered(&request_id, place, &request);
        let answer = timeout_at(deadline, ask).await.ok().flatten();
        let returned = answer.is_some().then(|| self.shared.now());
        let key = format!("{}/{}", place.node, place.label);
        let client = self.number;
        self.shared.record(Operation { client, key, request, answer, called, returned });
    }

    /// Asks one controller after the other; `None` when one refuses for a reason that no fault explains.
    async fn until_answered(
        &mut self,
        request_id: &str,
        place: &Place,
        request: &Request,
    ) -> Option<Answer> {
        loop {
            match timeout(TRY, self.ask(request_id, place, request)).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(status)) if !passes(&status) => {
                    let odd =
                        format!("{request:?} of client {} was refused: {status}", self.number);
                    self.shared.odd.lock().ok()?.get_or_insert(odd);
                    return None;
                }
                Ok(Err(_)) | Err(_) => {
                    self.connection = None;
                    self.at = (self.at + 1) % self.hosts.names().len();
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn ask(
        &mut self,
        request_id: &str,
        place: &Place,
        request: &Request,
    ) -> Result<Answer, Status> {
        if self.connection.is_none() {
            let socket = self.hosts.socket(&self.hosts.names()[self.at]);
            self.connection = connect(&socket).await;
        }
        let control =
            self.connection.as_mut().ok_or_else(|| Status::unavailable("nobody there"))?;
        match request {
            Request::Read => {
                let ask = wire::GetStateRequest { stale: self.load.stale };
                let view = control.get_state(ask).await?.into_inner();
                let named = |node: &&wire::Node| {
                    node.description.as_ref().is_some_and(|host| host.hostname == place.node)
                };
                let node = view.nodes.iter().find(named);
                let value = node.and_then(|node| node.labels.get(&place.label));
                let damaged = |_| Status::data_loss("a register holds what nobody wrote");
                let value = value.map(|text| text.parse().map_err(damaged)).transpose()?;
                Ok(Answer::Holds(value))
            }
            Request::Write(value) | Request::Swap(value) => {
                let wish = wire::UpdateNodeRequest {
                    request_id: request_id.to_owned(),
                    node: place.node.clone(),
                    set_labels: [(place.label.clone(), value.to_string())].into(),
                    ..wire::UpdateNodeRequest::default()
                };
                control.update_node(wish).await?;
                Ok(Answer::Done)
            }
        }
    }
}

/// Whether a fault explains a refusal: nobody leads, or the connection broke.
fn passes(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Cancelled | Code::Aborted | Code::Unknown | Code::Internal
    )
}
