//! Over the network: only with an identity of the same cluster.

use std::sync::Arc;
use std::time::SystemTime;

use expect_test::expect;
use swarm_proto::id::NodeId;
use swarm_proto::object::Role;
use swarm_proto::transport::{
    Authority, ClientRole, Credentials, KeyAndRequest, Tls, accept_tls, install_crypto_provider,
    server,
};
use swarm_proto::wire::control_server::ControlServer;
use tokio::net::TcpListener;

use crate::fake::{Script, Served};
use crate::objects::state;
use crate::program::{Said, swarmctl};

fn authority(cluster: &str) -> Authority {
    Authority::create(cluster, SystemTime::now()).unwrap()
}

fn node(authority: &Authority, role: Role) -> Credentials {
    let made = KeyAndRequest::make().unwrap();
    let certificate = authority.sign_node(&made.request_pem, NodeId(1), role, SystemTime::now());
    Credentials {
        certificate_pem: certificate.unwrap(),
        key_pem: made.key_pem,
        ca_pem: authority.certificate_pem().to_owned(),
    }
}

/// A controller on a port of the loopback that lets operators in.
async fn serve(authority: &Authority) -> String {
    install_crypto_provider();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tls = Tls::new(&node(authority, Role::Controller)).unwrap();
    let script = Script::new(state());
    let service = ControlServer::new(Served(Arc::clone(&script)));
    tokio::spawn(server().add_service(service).serve_with_incoming(accept_tls(listener, tls)));
    address
}

async fn run(address: &str, credentials: Option<&Credentials>) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = vec!["--host", address, "stack", "ls", "-o", "name"];
    if let Some(credentials) = credentials {
        let bundle = credentials.to_bundle();
        std::fs::write(folder.path().join("bundle.pem"), bundle.reveal()).unwrap();
        arguments.extend(["--identity", "bundle.pem"]);
    }
    let output = swarmctl(folder.path(), &arguments).output().await.unwrap();
    let mut said = Said::of(output, folder.path());
    said.talk = said.talk.replace(address, "10.0.0.1:2377");
    said
}

#[tokio::test]
async fn an_operator_of_the_cluster_is_let_in() {
    let authority = authority("one");
    let address = serve(&authority).await;
    let operator = authority.make_client("operator", ClientRole::Admin, SystemTime::now()).unwrap();
    expect![[r#"
        counter
        ---
        ---
        exit code 0
    "#]]
    .assert_eq(&run(&address, Some(&operator)).await.transcript());
}

#[tokio::test]
async fn without_a_certificate_nothing_is_sent() {
    let address = serve(&authority("one")).await;
    expect![[r#"
        ---
        error: controller `10.0.0.1:2377` wants a client certificate, and there is none

        hint: run `swarm-controller admin-bundle` on a controller's host, copy its output here, and give it with `--identity FILE`
        ---
        exit code 1
    "#]].assert_eq(&run(&address, None).await.transcript());
}

#[tokio::test]
async fn an_identity_of_another_cluster_is_no_use() {
    let address = serve(&authority("one")).await;
    let operator =
        authority("two").make_client("operator", ClientRole::Admin, SystemTime::now()).unwrap();
    expect![[r#"
        ---
        error: no controller can be reached: `10.0.0.1:2377` shows a certificate of another cluster

        hint: check the address, that swarm-controller runs there, and that the bundle given with `--identity` is this cluster's
        ---
        exit code 1
    "#]].assert_eq(&run(&address, Some(&operator)).await.transcript());
}

#[tokio::test]
async fn an_agent_is_no_operator() {
    let authority = authority("one");
    let address = serve(&authority).await;
    let agent = node(&authority, Role::Agent);
    expect![[r#"
        ---
        error: a certificate of role `agent` may not make this call

        hint: it is for role `local` or `admin` or `reader`
        ---
        exit code 1
    "#]]
    .assert_eq(&run(&address, Some(&agent)).await.transcript());
}

#[tokio::test]
async fn a_bundle_may_be_broken() {
    let address = serve(&authority("one")).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bundle.pem"), "nothing").unwrap();
    let arguments = ["--host", &address, "--identity", "bundle.pem", "node", "ls"];
    let output = swarmctl(folder.path(), &arguments).output().await.unwrap();
    expect![[r#"
        ---
        error: the identity `bundle.pem` is not valid: the bundle holds no certificate

        hint: make a new one with `swarm-controller admin-bundle` on a controller's host
        ---
        exit code 1
    "#]]
    .assert_eq(&Said::of(output, folder.path()).transcript());
}

#[tokio::test]
async fn nobody_listens() {
    let authority = authority("one");
    let operator = authority.make_client("operator", ClientRole::Admin, SystemTime::now()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    expect![[r#"
        ---
        error: no controller can be reached: cannot reach `10.0.0.1:2377`: nobody listens there

        hint: check the address, that swarm-controller runs there, and that the bundle given with `--identity` is this cluster's
        ---
        exit code 1
    "#]].assert_eq(&run(&address, Some(&operator)).await.transcript());
}
