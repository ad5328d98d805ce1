//! What a simulated node answers controllers: what it was told it has; no logs, no images, no programs.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use swarm_proto::id::{Digest, NodeId};
use swarm_proto::rehearsal::SimulatedNode;
use swarm_proto::wire;
use swarm_proto::wire::agent_server::{Agent, AgentServer};
use tonic::{Request, Response, Status, Streaming};

use super::pretended;
use crate::exec::Outputs;
use crate::server::stop_tasks;
use crate::view;
use crate::worker::Worker;

/// The service.
pub(super) struct SimulatedService {
    worker: Arc<Worker>,
    images: BTreeMap<String, Digest>,
    node: NodeId,
    hostname: String,
}

impl SimulatedService {
    /// The service of a node with this identity and name.
    pub(super) fn server(
        worker: Arc<Worker>,
        simulated: &SimulatedNode,
        (node, hostname): (NodeId, String),
    ) -> AgentServer<Self> {
        AgentServer::new(Self { worker, images: simulated.images.clone(), node, hostname })
    }
}

#[tonic::async_trait]
impl Agent for SimulatedService {
    type LogsStream = Pin<Box<dyn Stream<Item = Result<wire::LogLine, Status>> + Send>>;

    async fn logs(
        &self,
        _: Request<wire::AgentLogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        Ok(Response::new(Box::pin(futures_util::stream::empty())))
    }

    /// What was deployed stands for what it stood for; any other name for something of its own.
    async fn resolve_image(
        &self,
        request: Request<wire::ResolveImageRequest>,
    ) -> Result<Response<wire::ResolveImageResponse>, Status> {
        let reference = request.into_inner().reference;
        let known = self.images.get(&reference).cloned();
        let digest = known.unwrap_or_else(|| pretended(&reference));
        Ok(Response::new(wire::ResolveImageResponse { digest: digest.to_string() }))
    }

    async fn list_images(
        &self,
        _: Request<wire::ListImagesRequest>,
    ) -> Result<Response<wire::NodeImages>, Status> {
        let node = self.hostname.clone();
        Ok(Response::new(wire::NodeImages { node, error: String::new(), images: Vec::new() }))
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
        Ok(Response::new(inspection))
    }

    async fn become_controller(
        &self,
        _: Request<wire::BecomeControllerRequest>,
    ) -> Result<Response<wire::BecomeControllerResponse>, Status> {
        Err(Status::failed_precondition("a node that is played in a lab starts no programs"))
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
        _: Request<Streaming<wire::ExecInput>>,
    ) -> Result<Response<Outputs>, Status> {
        Err(Status::failed_precondition(format!(
            "node {} is simulated: no program runs in its tasks",
            self.hostname
        )))
    }
}
