//! Who is let in as what, and who is refused.

use super::*;

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
    let pem = include_str!("../../../tests/data/client.pem");
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
