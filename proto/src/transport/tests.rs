//! Real connections on the loopback: who is let in, what a refusal says, what survives a cut, a restart and a renewal.

mod authority;
mod connections;
mod handshake;
mod identity;
mod joining;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::*;
use crate::id::{RaftId, Timestamp};
use crate::object::{Cluster, FormerAuthority, Role, Secret};
use crate::wire;
use crate::wire::agent_client::AgentClient;
use crate::wire::agent_server::{self, AgentServer};
use crate::wire::control_client::ControlClient;
use crate::wire::join_server::{self, JoinServer};

const LONG_AGO: Duration = Duration::from_hours(24 * 100);

fn authority(cluster: &str) -> Authority {
    Authority::create(cluster, SystemTime::now()).unwrap()
}

fn node(authority: &Authority, node: u64, role: Role, now: SystemTime) -> Credentials {
    let made = KeyAndRequest::make().unwrap();
    Credentials {
        certificate_pem: authority.sign_node(&made.request_pem, NodeId(node), role, now).unwrap(),
        key_pem: made.key_pem,
        ca_pem: authority.certificate_pem().to_owned(),
    }
}

fn controller(authority: &Authority, id: u64) -> Credentials {
    node(authority, id, Role::Controller, SystemTime::now())
}

fn agent(authority: &Authority, id: u64) -> Credentials {
    node(authority, id, Role::Agent, SystemTime::now())
}

/// Answers controllers who asked; and serves joins.
#[derive(Clone)]
struct Front {
    authority: Arc<Authority>,
    secret: Secret,
}

const TOKEN_SECRET: &str = "0123456789abcdef0123456789abcdef";

#[tonic::async_trait]
impl agent_server::Agent for Front {
    type LogsStream = tokio_stream::Pending<Result<wire::LogLine, Status>>;

    async fn logs(
        &self,
        _: Request<wire::AgentLogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        Ok(Response::new(tokio_stream::pending()))
    }

    async fn get_state(
        &self,
        _: Request<wire::GetStateRequest>,
    ) -> Result<Response<wire::StateView>, Status> {
        Ok(Response::new(wire::StateView::default()))
    }

    type ExecStream = tokio_stream::Pending<Result<wire::ExecOutput, Status>>;

    async fn exec(
        &self,
        _: Request<tonic::Streaming<wire::ExecInput>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        Ok(Response::new(tokio_stream::pending()))
    }

    async fn resolve_image(
        &self,
        request: Request<wire::ResolveImageRequest>,
    ) -> Result<Response<wire::ResolveImageResponse>, Status> {
        let peer = known_peer(&request)?;
        let digest = format!("{} {} of `{}`", peer.role, peer.name, peer.cluster_id);
        Ok(Response::new(wire::ResolveImageResponse { digest }))
    }

    async fn list_images(
        &self,
        _: Request<wire::ListImagesRequest>,
    ) -> Result<Response<wire::NodeImages>, Status> {
        Ok(Response::new(wire::NodeImages::default()))
    }

    async fn inspect_host(
        &self,
        _: Request<wire::InspectHostRequest>,
    ) -> Result<Response<wire::HostInspection>, Status> {
        Ok(Response::new(wire::HostInspection::default()))
    }

    async fn become_controller(
        &self,
        _: Request<wire::BecomeControllerRequest>,
    ) -> Result<Response<wire::BecomeControllerResponse>, Status> {
        Ok(Response::new(wire::BecomeControllerResponse::default()))
    }

    async fn stop_tasks(
        &self,
        _: Request<wire::StopTasksRequest>,
    ) -> Result<Response<wire::StopTasksResponse>, Status> {
        Ok(Response::new(wire::StopTasksResponse::default()))
    }
}

#[tonic::async_trait]
impl join_server::Join for Front {
    async fn get_root_certificate(
        &self,
        _: Request<wire::GetRootCertificateRequest>,
    ) -> Result<Response<wire::GetRootCertificateResponse>, Status> {
        let certificate = self.authority.certificate_pem().to_owned();
        Ok(Response::new(wire::GetRootCertificateResponse { certificate }))
    }

    async fn join_cluster(
        &self,
        request: Request<wire::JoinClusterRequest>,
    ) -> Result<Response<wire::JoinClusterResponse>, Status> {
        let request = request.into_inner();
        if !same_secret(&self.secret, &request.token) {
            return Err(Status::permission_denied("no such token\n\nhint: print a new one"));
        }
        let now = SystemTime::now();
        let certificate = self
            .authority
            .sign_node(&request.certificate_signing_request, NodeId(7), Role::Controller, now)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(wire::JoinClusterResponse {
            node_id: 7,
            raft_id: 9,
            certificate,
            root_certificate: self.authority.certificate_pem().to_owned(),
            controllers: vec!["10.0.0.1:2377".to_owned(), request.controller_address.clone()],
            role: "controller".to_owned(),
            roots: String::new(),
        }))
    }

    async fn renew_certificate(
        &self,
        request: Request<wire::RenewCertificateRequest>,
    ) -> Result<Response<wire::RenewCertificateResponse>, Status> {
        let id = known_peer(&request)?.node_id.unwrap();
        let request = request.into_inner().certificate_signing_request;
        let signed = self.authority.sign_node(&request, id, Role::Controller, SystemTime::now());
        Ok(Response::new(wire::RenewCertificateResponse {
            certificate: signed.unwrap(),
            roots: self.authority.roots_pem().to_owned(),
        }))
    }

    async fn leave_cluster(
        &self,
        _: Request<wire::LeaveClusterRequest>,
    ) -> Result<Response<wire::LeaveClusterResponse>, Status> {
        Err(Status::unimplemented("nobody leaves here"))
    }
}

struct Running {
    address: String,
    serving: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(authority: &Arc<Authority>, tls: Arc<Tls>) -> Running {
    serve_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), authority, tls)
}

fn serve_on(listener: TcpListener, authority: &Arc<Authority>, tls: Arc<Tls>) -> Running {
    let address = listener.local_addr().unwrap().to_string();
    let front =
        Front { authority: Arc::clone(authority), secret: Secret::new(TOKEN_SECRET.to_owned()) };
    let serving = tokio::spawn(async move {
        let router = server()
            .add_service(JoinServer::new(front.clone()))
            .add_service(AgentServer::new(front));
        router.serve_with_incoming(accept_tls(listener, tls)).await.unwrap();
    });
    Running { address, serving }
}

/// A server that is controller 1 of cluster `c1`.
async fn cluster() -> (Arc<Authority>, Running) {
    let authority = Arc::new(authority("c1"));
    let tls = Tls::new(&controller(&authority, 1)).unwrap();
    let running = serve(&authority, tls).await;
    (authority, running)
}

async fn ask(channel: Channel) -> Result<String, Status> {
    let request = wire::ResolveImageRequest { reference: String::new(), login: None };
    Ok(AgentClient::new(channel).resolve_image(request).await?.into_inner().digest)
}

async fn connect(credentials: &Credentials, to: &str) -> Result<Channel, ConnectError> {
    Tls::new(credentials).unwrap().connect(to, CONTROLLER_NAME).await
}

/// TLS 1.3 lets a client finish before the server has judged its certificate, so a refusal shows at the latest in the
/// first call.
async fn refused(credentials: &Credentials, address: &str) -> bool {
    match connect(credentials, address).await {
        Ok(channel) => ask(channel).await.is_err_and(|status| {
            status.code() == Code::Unavailable || status.code() == Code::Unknown
        }),
        Err(_) => true,
    }
}

fn identity(authority: &Authority, id: u64) -> Identity {
    let credentials = controller(authority, id);
    Identity {
        cluster_id: "c1".to_owned(),
        node_id: NodeId(id),
        raft_id: Some(RaftId(4)),
        role: Role::Controller,
        controllers: vec!["10.0.0.1:2377".to_owned()],
        certificate_pem: credentials.certificate_pem,
        key_pem: credentials.key_pem,
        ca_pem: credentials.ca_pem,
    }
}
