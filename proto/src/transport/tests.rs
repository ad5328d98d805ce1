//! Real connections on the loopback: who is let in, what a refusal says, what survives a cut, a restart and a renewal.

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
            controllers: vec!["10.0.0.1:2377".to_owned(), request.controller_address],
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
    let request = wire::ResolveImageRequest { reference: String::new() };
    Ok(AgentClient::new(channel).resolve_image(request).await?.into_inner().digest)
}

async fn connect(credentials: &Credentials, to: &str) -> Result<Channel, ConnectError> {
    Tls::new(credentials).unwrap().connect(to, CONTROLLER_NAME).await
}

#[tokio::test]
async fn a_certificate_of_the_cluster_is_let_in_as_what_it_says() {
    let (authority, running) = cluster().await;
    let channel = connect(&controller(&authority, 2), &running.address).await.unwrap();
    assert_eq!(ask(channel).await.unwrap(), "controller 2 of `c1`");

    for role in [ClientRole::Admin, ClientRole::Reader] {
        let person = authority.make_client("ada", role, SystemTime::now()).unwrap();
        let person = Credentials::from_bundle(person.to_bundle().reveal()).unwrap();
        let channel = connect(&person, &running.address).await.unwrap();
        let status = ask(channel).await.expect_err("a person");
        let expected = format!("a certificate of role `{role}` may not make this call");
        assert!(status.message().starts_with(&expected), "{status}");
    }
}

#[test]
fn a_certificate_of_the_first_version_still_makes_an_admin() {
    // Made by `swarm-controller admin-bundle --name ada` of version 0.1.0.
    let pem = include_str!("../../tests/data/client.pem");
    let peer = Peer::of_certificate(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap());
    let peer = peer.unwrap();
    assert_eq!((peer.role, peer.name.as_str(), peer.node_id), (PeerRole::Admin, "ada", None));
}

#[tokio::test]
async fn without_a_certificate_only_joining_is_open() {
    let (authority, running) = cluster().await;
    let tls = Tls::without_certificate(authority.certificate_pem()).unwrap();
    let channel = tls.connect(&running.address, CONTROLLER_NAME).await.unwrap();
    let status = ask(channel).await.expect_err("no certificate");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("\n\nhint: "), "{}", status.message());
}

#[tokio::test]
async fn another_role_is_refused_by_name() {
    let (authority, running) = cluster().await;
    let channel = connect(&agent(&authority, 2), &running.address).await.unwrap();
    let status = ask(channel).await.expect_err("an agent");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(
        status.message(),
        "a certificate of role `agent` may not make this call\n\n\
         hint: it is for role `controller`"
    );
}

#[tokio::test]
async fn clusters_refuse_each_other() {
    let (ours, running) = cluster().await;
    let theirs = controller(&authority("c2"), 2);
    let error = connect(&theirs, &running.address).await.expect_err("another cluster");
    assert!(matches!(error, ConnectError::OtherCluster { .. }), "{error}");

    // The server must refuse as well, also when the client knows the right root.
    let forged = Credentials { ca_pem: ours.certificate_pem().to_owned(), ..theirs };
    assert!(refused(&forged, &running.address).await);

    // A root of another cluster with the same id makes no difference.
    let twin = controller(&authority("c1"), 2);
    let forged = Credentials { ca_pem: ours.certificate_pem().to_owned(), ..twin };
    assert!(refused(&forged, &running.address).await);
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

#[tokio::test]
async fn expired_certificates_are_refused_on_both_sides() {
    let authority = Arc::new(authority("c1"));
    let past = SystemTime::now() - LONG_AGO;
    let (_, until) =
        certificate_validity(&node(&authority, 3, Role::Controller, past).certificate_pem).unwrap();
    assert!(until < SystemTime::now());

    let expired = node(&authority, 1, Role::Controller, past);
    let running = serve(&authority, Tls::new(&expired).unwrap()).await;
    let error = connect(&controller(&authority, 2), &running.address).await.expect_err("expired");
    assert!(matches!(error, ConnectError::NotValidNow { .. }), "{error}");

    let running = serve(&authority, Tls::new(&controller(&authority, 1)).unwrap()).await;
    let status =
        ask(connect(&expired, &running.address).await.unwrap()).await.expect_err("expired");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().starts_with("the certificate of node 1 has expired"), "{status}");
    let person = authority.make_client("ada", ClientRole::Admin, past).unwrap();
    let channel = connect(&person, &running.address).await.unwrap();
    let request = wire::GetStateRequest::default();
    let status = ControlClient::new(channel).get_state(request).await.expect_err("expired");
    assert!(status.message().starts_with("the certificate of `ada` has expired"), "{status}");
}

#[tokio::test]
async fn an_expired_certificate_of_another_cluster_is_refused_in_the_handshake() {
    let (ours, running) = cluster().await;
    let past = SystemTime::now() - LONG_AGO;
    let twin = node(&authority("c1"), 2, Role::Controller, past);
    let forged = Credentials { ca_pem: ours.certificate_pem().to_owned(), ..twin };
    assert!(refused(&forged, &running.address).await);
}

#[tokio::test]
async fn the_connections_of_a_removed_node_are_cut_and_only_those() {
    let authority = Arc::new(authority("c1"));
    let connections = Arc::new(Connections::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tls = Tls::new(&controller(&authority, 1)).unwrap();
    let incoming = connections.accept(listener, tls);
    let secret = Secret::new(TOKEN_SECRET.to_owned());
    let front = Front { authority: Arc::clone(&authority), secret };
    let router = server().add_service(AgentServer::new(front));
    let serving = tokio::spawn(router.serve_with_incoming(incoming));

    let mut streams = Vec::new();
    for id in [2, 3] {
        let channel = connect(&controller(&authority, id), &address).await.unwrap();
        let request = wire::AgentLogsRequest::default();
        streams.push(AgentClient::new(channel).logs(request).await.unwrap().into_inner());
    }
    assert_eq!(connections.nodes(), [NodeId(2), NodeId(3)]);
    connections.cut(NodeId(2));
    let ended = tokio::time::timeout(Duration::from_secs(2), streams[0].message()).await;
    assert!(!matches!(ended.expect("it ends at once"), Ok(Some(_))));
    let other = tokio::time::timeout(Duration::from_millis(200), streams[1].message()).await;
    assert!(other.is_err(), "the other node's stream ended as well");
    assert_eq!(connections.nodes(), [NodeId(3)]);
    serving.abort();
}

#[tokio::test]
async fn a_node_cannot_pass_for_another() {
    let authority = Arc::new(authority("c1"));
    let running = serve(&authority, Tls::new(&agent(&authority, 5)).unwrap()).await;
    let tls = Tls::new(&controller(&authority, 1)).unwrap();
    for name in [CONTROLLER_NAME, &node_name(NodeId(6))] {
        let error = tls.connect(&running.address, name).await.expect_err("another server");
        assert!(matches!(error, ConnectError::OtherServer { .. }), "{error}");
    }
    for name in [AGENT_NAME, &node_name(NodeId(5))] {
        let channel = tls.connect(&running.address, name).await.unwrap();
        assert_eq!(ask(channel).await.unwrap(), "controller 1 of `c1`");
    }
}

#[tokio::test]
async fn an_operators_bundle_cannot_serve() {
    let authority = Arc::new(authority("c1"));
    let bundle =
        authority.make_client(CONTROLLER_NAME, ClientRole::Admin, SystemTime::now()).unwrap();
    let running = serve(&authority, Tls::new(&bundle).unwrap()).await;
    assert!(connect(&controller(&authority, 2), &running.address).await.is_err());
}

#[tokio::test]
async fn failures_to_connect_say_why() {
    let authority = authority("c1");
    let credentials = controller(&authority, 1);
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = connect(&credentials, &free.to_string()).await.expect_err("nobody listens");
    assert_eq!(error.to_string(), format!("cannot reach `{free}`"));
    assert!(matches!(&error, ConnectError::Unreachable { source, .. }
        if source.kind() == ErrorKind::ConnectionRefused));

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let error = connect(&credentials, &address).await.expect_err("nobody answers");
    assert_eq!(error.to_string(), format!("`{address}` did not answer within 2 s"));
}

#[tokio::test]
async fn silent_connections_hold_up_nobody() {
    let (authority, running) = cluster().await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(&running.address).await.unwrap());
    }
    let channel = connect(&controller(&authority, 2), &running.address).await.unwrap();
    assert_eq!(ask(channel).await.unwrap(), "controller 2 of `c1`");
}

#[tokio::test]
async fn a_renewed_certificate_needs_no_restart() {
    let authority = Arc::new(authority("c1"));
    let serving = Tls::new(&agent(&authority, 1)).unwrap();
    let running = serve(&authority, Arc::clone(&serving)).await;
    let asking = Tls::new(&controller(&authority, 2)).unwrap();
    let standing = asking.connect(&running.address, &node_name(NodeId(1))).await.unwrap();

    serving.reload(&agent(&authority, 11)).unwrap();
    asking.reload(&controller(&authority, 12)).unwrap();
    let renewed = asking.connect(&running.address, &node_name(NodeId(11))).await.unwrap();
    assert_eq!(ask(renewed).await.unwrap(), "controller 12 of `c1`");
    assert_eq!(ask(standing).await.unwrap(), "controller 2 of `c1`");

    let mixed = Credentials { key_pem: authority.key_pem(), ..agent(&authority, 1) };
    assert!(matches!(serving.reload(&mixed), Err(TlsError::Unusable(_))));
}

#[tokio::test]
async fn an_expired_certificate_is_renewed_by_proof_of_its_key() {
    let (authority, running) = cluster().await;
    let past = SystemTime::now() - LONG_AGO;
    let expired = node(&authority, 3, Role::Controller, past);
    let nowhere = String::from("127.0.0.1:1");
    let old = Identity {
        certificate_pem: expired.certificate_pem,
        key_pem: expired.key_pem,
        controllers: vec![nowhere.clone(), running.address.clone()],
        ..identity(&authority, 3)
    };
    let new = renew(old.clone()).await.unwrap();
    assert_ne!(new.key_pem, old.key_pem);
    assert_eq!((new.node_id, &new.controllers), (old.node_id, &old.controllers));
    let channel = connect(&new.credentials(), &running.address).await.unwrap();
    assert_eq!(ask(channel).await.unwrap(), "controller 3 of `c1`");

    let away = Identity { controllers: vec![nowhere], ..old.clone() };
    let error = renew(away).await.expect_err("nobody is there");
    assert!(matches!(error, RenewError::Connect(ConnectError::Unreachable { .. })), "{error}");
    let lost = Identity { controllers: Vec::new(), ..old };
    assert!(matches!(renew(lost).await, Err(RenewError::NoController)));
}

#[tokio::test]
async fn a_program_takes_over_what_another_one_of_its_host_renewed() {
    let state = tempfile::tempdir().unwrap();
    let authority = Arc::new(authority("c1").with_life(Duration::from_mins(1)));
    let (old, new) = (identity(&authority, 3), identity(&authority, 3));
    old.save(state.path()).unwrap();
    let tls = Tls::new(&old.credentials()).unwrap();
    let running = serve(&authority, Arc::clone(&tls)).await;
    let never = |_| async { panic!("it is not due yet") };
    let (folder, used) = (state.path().to_owned(), old.credentials());
    let keeping = tokio::spawn(keep_valid(folder, tls, used, Keeper::Second, never));
    new.save(state.path()).unwrap();
    let shown = async || {
        let stream = TcpStream::connect(&running.address).await.unwrap();
        let tls = Tls::without_certificate(authority.certificate_pem()).unwrap();
        let name = CONTROLLER_NAME.try_into().unwrap();
        let stream = tls.connector().connect(name, stream).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let wanted = CertificateDer::from_pem_slice(new.certificate_pem.as_bytes()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while shown().await != *wanted {
        assert!(Instant::now() < deadline, "the old certificate is still shown");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    keeping.abort();
}

/// Passes bytes both ways until it is cut, then keeps both connections open and silent.
async fn cuttable(to: String) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cut = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&cut);
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(to).await.unwrap();
        let (near, far) = (near.into_split(), far.into_split());
        let pass = |mut from: tokio::net::tcp::OwnedReadHalf,
                    mut to: tokio::net::tcp::OwnedWriteHalf,
                    seen: Arc<AtomicBool>| async move {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer).await {
                if !seen.load(Ordering::SeqCst) {
                    to.write_all(&buffer[..count]).await.unwrap();
                }
            }
        };
        tokio::join!(pass(near.0, far.1, Arc::clone(&seen)), pass(far.0, near.1, seen));
    });
    (address, cut)
}

#[tokio::test]
async fn a_cut_network_is_noticed_in_four_seconds() {
    let (authority, running) = cluster().await;
    let (address, cut) = cuttable(running.address.clone()).await;
    let channel = connect(&controller(&authority, 2), &address.to_string()).await.unwrap();
    let request = wire::AgentLogsRequest::default();
    let mut lines = AgentClient::new(channel).logs(request).await.unwrap().into_inner();

    let quiet = tokio::time::timeout(Duration::from_secs(5), lines.message()).await;
    assert!(quiet.is_err(), "a quiet stream stays open");
    cut.store(true, Ordering::SeqCst);
    let since = Instant::now();
    lines.message().await.expect_err("the network is cut");
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_channel_dials_again() {
    let (authority, running) = cluster().await;
    let address = running.address.clone();
    let tls = Tls::new(&controller(&authority, 2)).unwrap();
    let eager = tls.connect(&address, CONTROLLER_NAME).await.unwrap();
    let lazy = tls.channel(&address, CONTROLLER_NAME);
    for channel in [&eager, &lazy] {
        assert_eq!(ask(channel.clone()).await.unwrap(), "controller 2 of `c1`");
    }

    drop(running);
    let restarted = Tls::new(&controller(&authority, 1)).unwrap();
    let listener = rebind(&address).await;
    let _running = serve_on(listener, &authority, restarted);
    for channel in [eager, lazy] {
        let deadline = Instant::now() + Duration::from_secs(5);
        // The call that meets the closing connection may fail; one soon after it must not.
        while ask(channel.clone()).await.is_err() {
            assert!(Instant::now() < deadline, "the channel stays broken");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn rebind(address: &str) -> TcpListener {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn token(authority: &Authority, secret: &str) -> JoinToken {
    let digest = certificate_digest(authority.certificate_pem()).unwrap();
    JoinToken::new(&digest, &Secret::new(secret.to_owned())).unwrap()
}

#[tokio::test]
async fn joining_gives_an_identity() {
    let (authority, running) = cluster().await;
    let token = token(&authority, TOKEN_SECRET);
    let identity = join(&running.address, &token, "host", Some("10.0.0.2:2377")).await.unwrap();
    assert_eq!(identity.cluster_id, "c1");
    assert_eq!((identity.node_id, identity.raft_id), (NodeId(7), Some(RaftId(9))));
    assert_eq!(identity.role, Role::Controller);
    assert_eq!(identity.controllers, ["10.0.0.1:2377", "10.0.0.2:2377"]);
    let channel = connect(&identity.credentials(), &running.address).await.unwrap();
    assert_eq!(ask(channel).await.unwrap(), "controller 7 of `c1`");
}

#[tokio::test]
async fn a_wrong_token_is_refused_before_anything_secret_is_sent() {
    let (ours, running) = cluster().await;
    let theirs = token(&authority("c2"), TOKEN_SECRET);
    let error = join(&running.address, &theirs, "host", None).await.expect_err("another root");
    let (expected, found) = (theirs.digest(), token(&ours, TOKEN_SECRET));
    assert_eq!(
        error.to_string(),
        format!(
            "the token is of another cluster: it names root certificate {expected}, `{}` has {}",
            running.address,
            found.digest()
        )
    );

    let wrong = token(&ours, "ffffffffffffffff");
    let error = join(&running.address, &wrong, "host", None).await.expect_err("another secret");
    assert_eq!(error.to_string(), "no such token\n\nhint: print a new one");
}

#[test]
fn tokens_have_one_form_and_hide_their_secret() {
    let token = token(&authority("c1"), TOKEN_SECRET);
    let text = token.to_string();
    assert!(text.starts_with("SWTKN-1-") && text.ends_with(TOKEN_SECRET));
    assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
    assert!(!format!("{token:?}").contains(TOKEN_SECRET));

    let reason = |text: &str| text.parse::<JoinToken>().expect_err("no token").reason;
    assert_eq!(reason("token"), "it must start with `SWTKN-1-`");
    assert_eq!(reason("SWTKN-2-a-b"), "its version is not 1, the only one known here");
    assert_eq!(reason("SWTKN-1-ab"), "it must have four parts joined by `-`");
    assert_eq!(reason("SWTKN-1-ab-cd"), "its third part must be 64 hexadecimal digits");
    let short = &text[..text.len() - 20];
    assert_eq!(reason(short), "its last part must be 16 to 128 hexadecimal digits");
}

#[test]
fn a_request_that_does_not_hold_its_key_is_refused() {
    let authority = authority("c1");
    let made = KeyAndRequest::make().unwrap();
    // One digit of the public key.
    let at = made.request_pem.find('\n').unwrap() + 66 + 10;
    let digit = if made.request_pem.as_bytes()[at] == b'A' { "B" } else { "A" };
    let mut request = made.request_pem;
    request.replace_range(at..=at, digit);
    let now = SystemTime::now();
    for request in [request.as_str(), "", authority.certificate_pem()] {
        let signed = authority.sign_node(request, NodeId(1), Role::Agent, now);
        assert!(matches!(signed, Err(AuthorityError::Request(_))), "{signed:?}");
    }
}

/// The cluster object of an authority.
fn stored(id: &str, authority: &Authority) -> Cluster {
    let certificate = authority.certificate_pem().to_owned();
    Cluster::new(id.to_owned(), certificate, authority.key_pem())
}

#[tokio::test]
async fn while_an_authority_is_replaced_old_and_new_certificates_take_each_other() {
    let former = authority("c1");
    let Successor { authority: new, vouched_pem } = former.succeed(SystemTime::now()).unwrap();
    let mut cluster = stored("c1", &new);
    cluster.former_authority = Some(FormerAuthority {
        certificate: former.certificate_pem().to_owned(),
        vouched: vouched_pem,
        roots: String::new(),
        controllers: Vec::new(),
        since: Timestamp(1),
    });
    let during = Arc::new(Authority::of(&cluster).unwrap());
    assert_eq!(roots_digest(&cluster.roots()).unwrap(), roots_digest(new.roots_pem()).unwrap());
    let make = |authority: &Authority, id, role| {
        authority.make_node(NodeId(id), role, SystemTime::now()).unwrap()
    };
    // One that has heard nothing, and one that has followed, on either side.
    let (late, moved) = (controller(&former, 1), make(&during, 2, Role::Controller));
    for server in [&late, &moved] {
        let running = serve(&during, Tls::new(server).unwrap()).await;
        for client in [&late, &moved] {
            let channel = connect(client, &running.address).await.unwrap();
            assert!(ask(channel).await.unwrap().starts_with("controller "));
        }
    }
    let person = during.make_client("ada", ClientRole::Admin, SystemTime::now()).unwrap();
    let read = Credentials::from_bundle(person.to_bundle().reveal()).unwrap();
    assert_eq!(read.ca_pem.matches("BEGIN CERTIFICATE").count(), 2);

    cluster.former_authority = None;
    let after = Arc::new(Authority::of(&cluster).unwrap());
    let done = make(&after, 3, Role::Controller);
    let running = serve(&after, Tls::new(&done).unwrap()).await;
    assert!(connect(&late, &running.address).await.is_err(), "the former root is worth nothing");
    let trusting = Credentials { ca_pem: done.ca_pem.clone(), ..late };
    assert!(refused(&trusting, &running.address).await);
    assert!(ask(connect(&moved, &running.address).await.unwrap()).await.is_ok());
}

#[tokio::test]
async fn a_host_that_hears_of_other_roots_gets_a_new_certificate_at_once() {
    let former = authority("c1");
    let state = tempfile::tempdir().unwrap();
    let Successor { authority: new, .. } = former.succeed(SystemTime::now()).unwrap();
    let new = Arc::new(new);
    let server = new.make_node(NodeId(1), Role::Controller, SystemTime::now()).unwrap();
    let running = serve(&new, Tls::new(&server).unwrap()).await;
    let mut host = identity(&former, 3);
    host.controllers = vec![running.address.clone()];
    host.save(state.path()).unwrap();
    let tls = Tls::new(&host.credentials()).unwrap();
    let (folder, used) = (state.path().to_owned(), host.credentials());
    let keeping = keep_valid(folder, Arc::clone(&tls), used, Keeper::First, renew);
    let keeping = tokio::spawn(keeping);
    let before = tls.roots();
    tls.want_roots(&before);
    tls.want_roots("");
    tls.want_roots(&roots_digest(new.roots_pem()).unwrap());
    tls.roots_changed(&before).await;
    assert_eq!(tls.roots(), roots_digest(new.roots_pem()).unwrap());
    let saved = Identity::load(state.path()).unwrap().unwrap();
    assert_eq!(saved.ca_pem, new.roots_pem());
    assert_ne!(saved.certificate_pem, host.certificate_pem);
    keeping.abort();
}

#[test]
fn an_authority_is_the_same_after_a_restart() {
    let made = authority("c1");
    let loaded = Authority::of(&stored("c1", &made)).unwrap();
    assert_eq!(loaded.certificate_pem(), made.certificate_pem());
    assert!(Tls::new(&controller(&loaded, 1)).is_ok());
    let (from, until) = certificate_validity(made.certificate_pem()).unwrap();
    assert!(from < SystemTime::now());
    assert!(until > SystemTime::now() + Duration::from_hours(24 * 365 * 19));
    assert!(!format!("{made:?}").contains("PRIVATE"));
}

#[test]
fn a_bundle_lacking_a_part_is_refused_by_name() {
    let client = authority("c1").make_client("ada", ClientRole::Admin, SystemTime::now()).unwrap();
    let without_key = format!("{}{}", client.certificate_pem, client.ca_pem);
    for (bundle, part) in [
        ("", "certificate"),
        (client.certificate_pem.as_str(), "root certificate"),
        (without_key.as_str(), "private key"),
    ] {
        let error = Credentials::from_bundle(bundle).expect_err("a part is missing");
        assert_eq!(error.to_string(), format!("the bundle holds no {part}"));
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

#[test]
fn an_identity_comes_back_from_disk() {
    let state = tempfile::tempdir().unwrap();
    assert_eq!(Identity::load(state.path()).unwrap(), None);
    let mut saved = identity(&authority("c1"), 3);
    saved.save(state.path()).unwrap();
    assert_eq!(Identity::load(state.path()).unwrap().as_ref(), Some(&saved));
    assert!(!format!("{saved:?}").contains("PRIVATE"));

    let same = saved.controllers.clone();
    assert!(!saved.update_controllers(state.path(), &same).unwrap());
    let more = ["10.0.0.1:2377".to_owned(), "10.0.0.2:2377".to_owned()];
    assert!(saved.update_controllers(state.path(), &more).unwrap());
    assert_eq!(Identity::load(state.path()).unwrap(), Some(saved));

    let folder = Identity::folder(state.path());
    let mode = folder.join("node.key").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["ca.crt", "identity.json", "node.crt", "node.key"]);
}

#[test]
fn a_renewal_that_was_cut_off_leaves_a_whole_identity() {
    let state = tempfile::tempdir().unwrap();
    let authority = authority("c1");
    let (old, new) = (identity(&authority, 3), identity(&authority, 3));
    old.save(state.path()).unwrap();
    let folder = Identity::folder(state.path());
    std::fs::write(folder.join("node.key.next"), new.key_pem.reveal()).unwrap();
    assert_eq!(Identity::load(state.path()).unwrap(), Some(old));
    std::fs::write(folder.join("node.crt"), &new.certificate_pem).unwrap();
    assert_eq!(Identity::load(state.path()).unwrap(), Some(new));

    std::fs::remove_file(folder.join("node.key.next")).unwrap();
    let error = Identity::load(state.path()).expect_err("the key is another one's");
    assert!(matches!(error, IdentityError::Mismatch { .. }), "{error}");
}

#[tokio::test]
async fn the_local_socket_makes_operators() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("controller.sock");
    let error = connect_unix(&path).await.expect_err("no socket");
    assert_eq!(error.to_string(), format!("cannot reach the socket `{}`", path.display()));

    // What a killed controller leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let incoming = accept_unix(&path).await.unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let front = Front {
        authority: Arc::new(authority("c1")),
        secret: Secret::new(TOKEN_SECRET.to_owned()),
    };
    let router = server().add_service(AgentServer::new(front));
    let serving = tokio::spawn(router.serve_with_incoming(incoming));
    let channel = connect_unix(&path).await.unwrap();
    let status = ask(channel).await.expect_err("a local operator");
    assert!(status.message().starts_with("a certificate of role `local` may not"), "{status}");

    let error = accept_unix(&path).await.expect_err("it is in use");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    serving.abort();

    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert_eq!(accept_unix(&file).await.expect_err("a file").kind(), ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}
