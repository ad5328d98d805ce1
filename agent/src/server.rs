//! What controllers ask of this host: logs, images, and programs in containers.

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::StreamExt;
use swarm_proto::failure::sentence;
use swarm_proto::id::{NodeId, TaskId};
use swarm_proto::object::RegistryLogin;
use swarm_proto::transport::JoinToken;
use swarm_proto::wire;
use swarm_proto::wire::agent_server::{Agent, AgentServer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::exec::{Outputs, Programs};
use crate::executor::HostExecutor;
use crate::image::{ImageError, Images, Logins};
use crate::log;
use crate::promotion;
use crate::view;
use crate::worker::Worker;

/// Batches of lines that wait for the network.
const WAITING: usize = 4;
/// How long one call waits for tasks to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// Nanoseconds in a millisecond.
const MILLISECOND: u64 = 1_000_000;

/// The service.
pub struct AgentService {
    images: Arc<Images>,
    executor: Arc<HostExecutor>,
    worker: Arc<Worker>,
    programs: Programs,
    node: NodeId,
    hostname: String,
    address: Ipv4Addr,
}

impl AgentService {
    /// The service of this host.
    pub fn server(
        images: Arc<Images>,
        executor: Arc<HostExecutor>,
        worker: Arc<Worker>,
        (node, hostname, address): (NodeId, String, Ipv4Addr),
    ) -> AgentServer<Self> {
        let programs = Programs::new(Arc::clone(&executor));
        AgentServer::new(Self { images, executor, worker, programs, node, hostname, address })
    }
}

#[tonic::async_trait]
impl Agent for AgentService {
    type LogsStream = Pin<Box<dyn Stream<Item = Result<wire::LogLine, Status>> + Send>>;

    async fn logs(
        &self,
        request: Request<wire::AgentLogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let wish = log::Wish {
            tail: request.tail,
            since: request.since.saturating_mul(MILLISECOND),
            follow: request.follow,
        };
        let mut streams = futures_util::stream::SelectAll::new();
        for task in &request.tasks {
            let id: TaskId =
                task.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
            streams.push(self.lines(id, wish));
        }
        Ok(Response::new(Box::pin(streams)))
    }

    async fn resolve_image(
        &self,
        request: Request<wire::ResolveImageRequest>,
    ) -> Result<Response<wire::ResolveImageResponse>, Status> {
        let wire::ResolveImageRequest { reference, login } = request.into_inner();
        let images = self.images.with_logins(Logins::of_cluster(given(login)?));
        let digest = images.resolve(&reference).await.map_err(|error| refusal(&error))?;
        Ok(Response::new(wire::ResolveImageResponse { digest: digest.to_string() }))
    }

    async fn list_images(
        &self,
        _: Request<wire::ListImagesRequest>,
    ) -> Result<Response<wire::NodeImages>, Status> {
        let images = self.images.list().into_iter().map(|image| wire::Image {
            reference: image.reference,
            digest: image.digest.to_string(),
            size: image.size,
            created_at: image.created_at.0,
        });
        let node = self.hostname.clone();
        Ok(Response::new(wire::NodeImages { node, error: String::new(), images: images.collect() }))
    }

    async fn get_state(
        &self,
        _: Request<wire::GetStateRequest>,
    ) -> Result<Response<wire::StateView>, Status> {
        let contents = self.worker.contents();
        Ok(Response::new(view::state_view(&contents, self.node, &self.hostname)))
    }

    async fn inspect_host(
        &self,
        _: Request<wire::InspectHostRequest>,
    ) -> Result<Response<wire::HostInspection>, Status> {
        let contents = self.worker.contents();
        let volumes = self.worker.volume_reports().await;
        let volumes = volumes.map_err(|error| Status::internal(error.sentence()))?;
        let inspection = view::inspection(&contents, &volumes, self.node, &self.hostname);
        let differences = self.executor.differences(contents).await;
        Ok(Response::new(wire::HostInspection {
            differences: differences.into_iter().map(Into::into).collect(),
            ..inspection
        }))
    }

    async fn become_controller(
        &self,
        request: Request<wire::BecomeControllerRequest>,
    ) -> Result<Response<wire::BecomeControllerResponse>, Status> {
        let wire::BecomeControllerRequest { token, controller } = request.into_inner();
        let token = token.parse::<JoinToken>();
        let token = token.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let done = promotion::become_controller(&token, &controller, self.address).await;
        let done = done.map_err(|error| {
            let why = sentence(&error);
            tracing::warn!(why, "this host does not become a controller's");
            Status::failed_precondition(format!("{}: {why}", self.hostname))
        })?;
        Ok(Response::new(wire::BecomeControllerResponse { done }))
    }

    async fn stop_tasks(
        &self,
        _: Request<wire::StopTasksRequest>,
    ) -> Result<Response<wire::StopTasksResponse>, Status> {
        stop_tasks(&self.worker).await.map(Response::new)
    }

    type ExecStream = Outputs;

    async fn exec(
        &self,
        request: Request<Streaming<wire::ExecInput>>,
    ) -> Result<Response<Outputs>, Status> {
        let name = |task| self.worker.task_name(task);
        let outputs = self.programs.run(request.into_inner(), name, &self.hostname).await?;
        Ok(Response::new(outputs))
    }
}

impl AgentService {
    /// The lines of one task.
    fn lines(
        &self,
        task: TaskId,
        wish: log::Wish,
    ) -> Pin<Box<dyn Stream<Item = Result<wire::LogLine, Status>> + Send>> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let folder = self.executor.task_folder(task);
        tokio::spawn(async move {
            if let Err(error) = log::read(folder, wish, sender).await {
                tracing::warn!(%task, %error, "cannot read its log");
            }
        });
        let name = self.worker.task_name(task).unwrap_or_else(|| task.to_string());
        let node = self.hostname.clone();
        let lines = ReceiverStream::new(receiver).flat_map(move |batch| {
            let (name, node) = (name.clone(), node.clone());
            futures_util::stream::iter(batch).map(move |line| {
                Ok(wire::LogLine {
                    task_id: task.to_string(),
                    task_name: name.clone(),
                    node: node.clone(),
                    time: line.time,
                    stream: line.stream.to_owned(),
                    line: line.content,
                })
            })
        });
        Box::pin(lines)
    }
}

/// Stops what a host runs, or is played to run.
pub(crate) async fn stop_tasks(worker: &Worker) -> Result<wire::StopTasksResponse, Status> {
    let left = worker.stop_all(STOP_PATIENCE).await;
    let left = left.map_err(|error| Status::internal(sentence(&error)))?;
    Ok(wire::StopTasksResponse { left: u32::try_from(left).unwrap_or(u32::MAX) })
}

/// A login that came with a request.
pub(crate) fn given(login: Option<wire::RegistryLogin>) -> Result<Option<RegistryLogin>, Status> {
    let login = login.map(RegistryLogin::try_from).transpose();
    login.map_err(|error| Status::invalid_argument(error.to_string()))
}

/// "Not there" and "cannot say" are different answers.
pub(crate) fn refusal(error: &ImageError) -> Status {
    let text = match error.hint() {
        Some(hint) => format!("{}\n\nhint: {hint}", sentence(error)),
        None => sentence(error),
    };
    match error.inner() {
        ImageError::Name(_) => Status::invalid_argument(text),
        ImageError::NotFound { .. } | ImageError::Denied { .. } | ImageError::NotHere { .. } => {
            Status::not_found(text)
        }
        ImageError::Unavailable { .. }
        | ImageError::LoginUntried { .. }
        | ImageError::Stopped(_) => Status::unavailable(text),
        _ => Status::failed_precondition(text),
    }
}
