//! What swarmctl asks of a controller, over TLS and on the unix socket.

use std::sync::Arc;

use swarm_proto::spec::ChangedField;
use swarm_proto::transport::known_peer;
use swarm_proto::wire;
use swarm_proto::wire::control_server::Control;
use tonic::{Request, Response, Status, Streaming};

use super::audit::Audit;
use super::backup::Pieces;
use super::build;
use super::controller::Controller;
use super::exec::{self, Outputs};
use super::local_service;
use super::logs::{self, Lines};
use super::read::state_view;
use super::refusal::Refusal;
use super::watch::{self, Events};
use super::write::Write;
use crate::core::rules::forecast;

/// Serves operators.
pub struct ControlService(pub Arc<Controller>);

impl ControlService {
    async fn write<W: Write>(&self, request: Request<W>) -> Result<Response<W::Answer>, Status> {
        let audit = Audit::of(&request, W::METHOD, request.get_ref().object())?;
        audit.answer(self.0.write(request.into_inner()).await)
    }

    async fn resolve_and_deploy(
        &self,
        mut request: wire::DeployRequest,
    ) -> Result<wire::DeployResponse, Status> {
        let warnings = match &mut request.stack {
            Some(stack) => self.0.resolve_images(stack).await?,
            None => Vec::new(),
        };
        let mut answer = self.0.write(request).await?;
        answer.warnings.splice(0..0, warnings);
        Ok(answer)
    }
}

impl ControlService {
    async fn resolve_and_foresee(
        &self,
        mut request: wire::DeployRequest,
    ) -> Result<wire::DeployPlan, Status> {
        let mut warnings = Vec::new();
        let mut name = String::new();
        if let Some(stack) = &mut request.stack {
            warnings = self.0.resolve_images(stack).await?;
            name.clone_from(&stack.name);
        }
        let view = self.0.read(false).await?;
        let command = request.command()?;
        // It takes time, and must hold up nobody.
        let foreseen = tokio::task::spawn_blocking(move || {
            forecast::forecast(&view.state, &command, &name, super::setup::now())
        });
        let foreseen = foreseen.await.map_err(|error| Status::internal(error.to_string()))?;
        let foreseen = foreseen.map_err(Refusal::from)?;
        warnings.extend(foreseen.warnings);
        let task = |foreseen: forecast::ForeseenTask| {
            let (node, reason) = match foreseen.node {
                Ok(node) => (node, String::new()),
                Err(reason) => (String::new(), reason),
            };
            wire::PlannedTask { task: foreseen.task, node, reason }
        };
        let preemption = |foreseen: forecast::ForeseenPreemption| wire::PlannedPreemption {
            task: foreseen.task,
            node: foreseen.node,
            priority: foreseen.priority,
            for_task: foreseen.for_task,
            for_priority: foreseen.for_priority,
        };
        Ok(wire::DeployPlan {
            changes: foreseen.changes,
            warnings,
            tasks: foreseen.tasks.into_iter().map(task).collect(),
            preempted: foreseen.preempted.into_iter().map(preemption).collect(),
            cut: foreseen.is_cut,
        })
    }

    async fn resolve_and_change(
        &self,
        mut request: wire::UpdateServiceRequest,
    ) -> Result<wire::ChangedServiceResponse, Status> {
        let image = ChangedField::Image.to_string();
        let mut warnings = Vec::new();
        if let Some(change) = request.change.as_mut().filter(|c| c.fields.contains(&image)) {
            // Of a stack of that name, what it runs already counts where no registry answers.
            let name = request.service.split_once('_').map_or("", |(stack, _)| stack).to_owned();
            let services = change.values.take().map(|values| (String::new(), values));
            let services = services.into_iter().collect();
            let mut stack = wire::StackSpec { name, services, ..wire::StackSpec::default() };
            warnings = self.0.resolve_images(&mut stack).await?;
            change.values = stack.services.remove("");
        }
        let mut answer = self.0.write(request).await?;
        answer.warnings.splice(0..0, warnings);
        Ok(answer)
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    async fn deploy(
        &self,
        request: Request<wire::DeployRequest>,
    ) -> Result<Response<wire::DeployResponse>, Status> {
        let audit = Audit::of(&request, wire::DeployRequest::METHOD, request.get_ref().object())?;
        audit.answer(self.resolve_and_deploy(request.into_inner()).await)
    }

    async fn plan_deploy(
        &self,
        request: Request<wire::DeployRequest>,
    ) -> Result<Response<wire::DeployPlan>, Status> {
        Ok(Response::new(self.resolve_and_foresee(request.into_inner()).await?))
    }

    async fn remove_stack(
        &self,
        request: Request<wire::RemoveStackRequest>,
    ) -> Result<Response<wire::RemoveStackResponse>, Status> {
        self.write(request).await
    }

    async fn scale_service(
        &self,
        request: Request<wire::ScaleServiceRequest>,
    ) -> Result<Response<wire::ScaleServiceResponse>, Status> {
        self.write(request).await
    }

    /// The leader alone measures: asked as a write is, but nothing changes.
    async fn list_scaling(
        &self,
        request: Request<wire::ListScalingRequest>,
    ) -> Result<Response<wire::ListScalingResponse>, Status> {
        self.0.write(request.into_inner()).await.map(Response::new)
    }

    async fn run_job(
        &self,
        request: Request<wire::RunJobRequest>,
    ) -> Result<Response<wire::RunJobResponse>, Status> {
        self.write(request).await
    }

    async fn run_one_off(
        &self,
        request: Request<wire::RunOneOffRequest>,
    ) -> Result<Response<wire::RunJobResponse>, Status> {
        self.write(request).await
    }

    async fn stop_runs(
        &self,
        request: Request<wire::StopRunsRequest>,
    ) -> Result<Response<wire::StopRunsResponse>, Status> {
        self.write(request).await
    }

    async fn update_service(
        &self,
        request: Request<wire::UpdateServiceRequest>,
    ) -> Result<Response<wire::ChangedServiceResponse>, Status> {
        let object = request.get_ref().object();
        let audit = Audit::of(&request, wire::UpdateServiceRequest::METHOD, object)?;
        audit.answer(self.resolve_and_change(request.into_inner()).await)
    }

    async fn roll_back_service(
        &self,
        request: Request<wire::RollBackServiceRequest>,
    ) -> Result<Response<wire::ChangedServiceResponse>, Status> {
        self.write(request).await
    }

    async fn pause_service(
        &self,
        request: Request<wire::PauseServiceRequest>,
    ) -> Result<Response<wire::PauseServiceResponse>, Status> {
        self.write(request).await
    }

    async fn promote_service(
        &self,
        request: Request<wire::PromoteServiceRequest>,
    ) -> Result<Response<wire::PromoteServiceResponse>, Status> {
        self.write(request).await
    }

    async fn remove_service(
        &self,
        request: Request<wire::RemoveServiceRequest>,
    ) -> Result<Response<wire::RemoveServiceResponse>, Status> {
        self.write(request).await
    }

    async fn update_node(
        &self,
        request: Request<wire::UpdateNodeRequest>,
    ) -> Result<Response<wire::UpdateNodeResponse>, Status> {
        self.write(request).await
    }

    async fn promote_node(
        &self,
        request: Request<wire::PromoteNodeRequest>,
    ) -> Result<Response<wire::PromoteNodeResponse>, Status> {
        let audit = Audit::of(&request, "PromoteNode", &request.get_ref().node)?;
        audit.answer(self.0.promote_node(request.into_inner()).await)
    }

    async fn remove_node(
        &self,
        request: Request<wire::RemoveNodeRequest>,
    ) -> Result<Response<wire::RemoveNodeResponse>, Status> {
        self.write(request).await
    }

    async fn create_network(
        &self,
        request: Request<wire::CreateNetworkRequest>,
    ) -> Result<Response<wire::CreateNetworkResponse>, Status> {
        self.write(request).await
    }

    async fn remove_network(
        &self,
        request: Request<wire::RemoveNetworkRequest>,
    ) -> Result<Response<wire::RemoveNetworkResponse>, Status> {
        self.write(request).await
    }

    async fn create_volume(
        &self,
        request: Request<wire::CreateVolumeRequest>,
    ) -> Result<Response<wire::CreateVolumeResponse>, Status> {
        self.write(request).await
    }

    async fn remove_volume(
        &self,
        request: Request<wire::RemoveVolumeRequest>,
    ) -> Result<Response<wire::RemoveVolumeResponse>, Status> {
        self.write(request).await
    }

    async fn announce_contents(
        &self,
        request: Request<wire::AnnounceContentsRequest>,
    ) -> Result<Response<wire::AnnounceContentsResponse>, Status> {
        self.write(request).await
    }

    async fn add_content(
        &self,
        request: Request<wire::AddContentRequest>,
    ) -> Result<Response<wire::AddContentResponse>, Status> {
        self.write(request).await
    }

    async fn create_named_content(
        &self,
        request: Request<wire::CreateNamedContentRequest>,
    ) -> Result<Response<wire::CreateNamedContentResponse>, Status> {
        self.write(request).await
    }

    async fn remove_named_content(
        &self,
        request: Request<wire::RemoveNamedContentRequest>,
    ) -> Result<Response<wire::RemoveNamedContentResponse>, Status> {
        self.write(request).await
    }

    async fn get_config(
        &self,
        request: Request<wire::GetConfigRequest>,
    ) -> Result<Response<wire::GetConfigResponse>, Status> {
        let name = request.get_ref().name.clone();
        let audit = Audit::of(&request, "GetConfig", format!("config {name}"))?;
        audit.answer(self.0.config_bytes(&name).await)
    }

    async fn get_state(
        &self,
        request: Request<wire::GetStateRequest>,
    ) -> Result<Response<wire::StateView>, Status> {
        let stale = request.into_inner().stale;
        let view = self.0.read(stale).await?;
        let mut shown = state_view(&view, stale, "");
        self.0.sign(&view, &mut shown);
        Ok(Response::new(shown))
    }

    type WatchStream = Events;

    async fn watch(
        &self,
        request: Request<wire::WatchRequest>,
    ) -> Result<Response<Events>, Status> {
        let events = watch::watch(Arc::clone(&self.0), request.into_inner()).await?;
        Ok(Response::new(events))
    }

    type LogsStream = Lines;

    async fn logs(&self, request: Request<wire::LogsRequest>) -> Result<Response<Lines>, Status> {
        let lines = logs::logs(Arc::clone(&self.0), request.into_inner()).await?;
        Ok(Response::new(lines))
    }

    async fn list_images(
        &self,
        _: Request<wire::ListImagesRequest>,
    ) -> Result<Response<wire::ListImagesResponse>, Status> {
        // Which hosts there are may be as old as it likes: each is asked itself.
        self.0.read_soon().await;
        Ok(Response::new(self.0.list_images().await))
    }

    async fn inspect_hosts(
        &self,
        _: Request<wire::InspectHostsRequest>,
    ) -> Result<Response<wire::InspectHostsResponse>, Status> {
        self.0.read_soon().await;
        Ok(Response::new(self.0.inspect_hosts().await))
    }

    async fn get_join_tokens(
        &self,
        request: Request<wire::GetJoinTokensRequest>,
    ) -> Result<Response<wire::JoinTokens>, Status> {
        let audit = Audit::of(&request, "GetJoinTokens", "join tokens")?;
        audit.answer(local_service::tokens(&self.0))
    }

    async fn rotate_join_tokens(
        &self,
        request: Request<wire::RotateJoinTokensRequest>,
    ) -> Result<Response<wire::JoinTokens>, Status> {
        let wire::RotateJoinTokensRequest { controller, agent, .. } = request.get_ref();
        let named = [(controller, "controller"), (agent, "agent")];
        let named: Vec<&str> = named.iter().filter(|(is, _)| **is).map(|(_, of)| *of).collect();
        let audit = Audit::of(&request, "RotateJoinTokens", named.join(" and "))?;
        audit.answer(local_service::rotate_tokens(&self.0, request.into_inner()).await)
    }

    async fn rotate_authority(
        &self,
        request: Request<wire::RotateAuthorityRequest>,
    ) -> Result<Response<wire::RotateAuthorityResponse>, Status> {
        let object = if request.get_ref().force { "the former one dropped" } else { "a new one" };
        let audit = Audit::of(&request, "RotateAuthority", object)?;
        audit.answer(self.0.rotate_authority(request.into_inner()).await)
    }

    async fn set_lock(
        &self,
        request: Request<wire::SetLockRequest>,
    ) -> Result<Response<wire::SetLockResponse>, Status> {
        let object = match request.get_ref() {
            wire::SetLockRequest { off: true, .. } => "lock off",
            wire::SetLockRequest { rotate: true, .. } => "another unlock key",
            _ => "lock",
        };
        let audit = Audit::of(&request, "SetLock", object)?;
        audit.answer(self.0.set_lock(request.into_inner()).await)
    }

    async fn update_cluster(
        &self,
        request: Request<wire::UpdateClusterRequest>,
    ) -> Result<Response<wire::UpdateClusterResponse>, Status> {
        self.write(request).await
    }

    async fn plan_rebalance(
        &self,
        _: Request<wire::PlanRebalanceRequest>,
    ) -> Result<Response<wire::PlanRebalanceResponse>, Status> {
        self.0.plan_rebalance().await.map(Response::new)
    }

    async fn rebalance(
        &self,
        request: Request<wire::RebalanceRequest>,
    ) -> Result<Response<wire::RebalanceResponse>, Status> {
        self.write(request).await
    }

    /// Controllers ask it too, to learn each other's raft ids.
    async fn get_version(
        &self,
        _: Request<wire::GetVersionRequest>,
    ) -> Result<Response<wire::GetVersionResponse>, Status> {
        let view = self.0.hub.view();
        let node = view.state.nodes.get(&self.0.node);
        Ok(Response::new(wire::GetVersionResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            raft_id: self.0.raft_id.0,
            leader: view.leader.map_or(0, |leader| leader.0),
            leader_address: view.leader_address().unwrap_or_default(),
            node: node.map(|node| node.description.hostname.clone()).unwrap_or_default(),
        }))
    }

    /// Controllers ask it of each other too.
    async fn get_cluster_status(
        &self,
        request: Request<wire::GetClusterStatusRequest>,
    ) -> Result<Response<wire::ClusterStatus>, Status> {
        self.0.cluster_status(request.into_inner()).await.map(Response::new)
    }

    type ExecStream = Outputs;

    async fn exec(
        &self,
        request: Request<Streaming<wire::ExecInput>>,
    ) -> Result<Response<Outputs>, Status> {
        let who = known_peer(&request)?.clone();
        Ok(Response::new(exec::exec(Arc::clone(&self.0), request.into_inner(), who)))
    }

    type BuildStream = build::Outputs;

    async fn build(
        &self,
        request: Request<Streaming<wire::BuildInput>>,
    ) -> Result<Response<build::Outputs>, Status> {
        let who = known_peer(&request)?.clone();
        Ok(Response::new(build::build(Arc::clone(&self.0), request.into_inner(), who)))
    }

    type BackupStream = Pieces;

    async fn backup(
        &self,
        request: Request<wire::BackupRequest>,
    ) -> Result<Response<Pieces>, Status> {
        let audit = Audit::of(&request, "Backup", "the cluster with its secrets")?;
        audit.answer(Arc::clone(&self.0).backup(request.into_inner().stale).await)
    }
}
