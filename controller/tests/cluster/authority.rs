//! Another certificate authority while everything runs.

use std::fs;
use std::sync::Arc;

use swarm_proto::transport::{
    self, Authority, CONTROLLER_NAME, Identity, JoinToken, Keeper, Tls, certificate_digest, join,
    keep_valid, renew, roots_digest,
};
use swarm_proto::wire;
use swarm_proto::wire::control_client::ControlClient;

use crate::agent::{Agent, agent_identity};
use crate::host::{Host, cluster, deploy, eventually, leader, scale, stack};

fn identity(host: &Host) -> Identity {
    Identity::load(&host.dir.path().join("state")).unwrap().unwrap()
}

fn rotate(id: &str, force: bool) -> wire::RotateAuthorityRequest {
    wire::RotateAuthorityRequest { request_id: id.to_owned(), force }
}

/// The nodes that the status names; `None` once the rotation is through.
async fn waiting(host: &Host) -> Option<Vec<String>> {
    let mut control = host.control().await;
    let request = wire::GetClusterStatusRequest { stale: true, own: true };
    let status = control.get_cluster_status(request).await.unwrap().into_inner();
    status.rotation.map(|rotation| rotation.waiting)
}

async fn only_a1(host: &Host) {
    eventually("only the agent has not followed", async || match waiting(host).await {
        Some(names) if names == ["a1"] => Ok(()),
        names => Err(format!("{names:?}")),
    })
    .await;
}

async fn only_one(host: &Host) {
    eventually("it waits for who is away", async || match waiting(host).await {
        Some(names) if names.len() == 1 => Ok(()),
        names => Err(format!("{names:?}")),
    })
    .await;
}

async fn one_root(host: &Host) {
    eventually("it trusts the new root alone", async || {
        let roots = identity(host).ca_pem.matches("BEGIN CERTIFICATE").count();
        if roots == 1 { Ok(()) } else { Err(format!("{roots} roots")) }
    })
    .await;
}

async fn through(host: &Host) {
    eventually("the former authority is dropped", async || match waiting(host).await {
        None => Ok(()),
        Some(names) => Err(format!("{names:?}")),
    })
    .await;
}

/// An agent as far as certificates go: keeps its own, and tells which roots it trusts.
struct Kept {
    state: tempfile::TempDir,
    tls: Arc<Tls>,
    session: Agent,
}

impl Kept {
    async fn start(host: &Host) -> Self {
        let identity = agent_identity(host).await;
        let state = tempfile::tempdir().unwrap();
        identity.save(state.path()).unwrap();
        let tls = Tls::new(&identity.credentials()).unwrap();
        let (folder, used) = (state.path().to_owned(), identity.credentials());
        tokio::spawn(keep_valid(folder, Arc::clone(&tls), used, Keeper::First, renew));
        let mut session = Agent::connect(&identity, &host.address).await;
        session.welcomed().await;
        Self { state, tls, session }
    }

    fn identity(&self) -> Identity {
        Identity::load(self.state.path()).unwrap().unwrap()
    }

    /// Hears of other roots in the session, follows, and says so.
    async fn follow(&mut self) {
        let before = self.tls.roots();
        while self.tls.roots() == before {
            self.session.heartbeat().await;
            self.tls.want_roots(&self.session.alive().await.roots);
            tokio::task::yield_now().await;
        }
        self.session.describe(&self.tls.roots()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_is_replaced_without_a_session_or_a_write_noticing() {
    let mut hosts = cluster(3).await;
    let old: Vec<Identity> = hosts.iter().map(identity).collect();
    let old_token = hosts[0].expect(&["token", "agent"]);
    let mut agent = Kept::start(&hosts[0]).await;
    let mut control = hosts[1].control().await;
    control.deploy(deploy("r1", stack("web", 1))).await.unwrap();
    let answer = control.rotate_authority(rotate("r2", false)).await.unwrap().into_inner();
    assert_ne!(answer.root, certificate_digest(&old[0].ca_pem).unwrap());
    let named = answer.rotation.unwrap().waiting;
    assert!(named.contains(&String::from("a1")), "{named:?}");
    let again = control.rotate_authority(rotate("r2", false)).await.unwrap().into_inner();
    assert_eq!(again.root, answer.root, "a request that comes again makes no other authority");

    only_a1(&hosts[1]).await;
    let refused = control.rotate_authority(rotate("r3", false)).await.unwrap_err();
    let why = "the certificate authority is being replaced already: `a1` still relies on the former one\n\nhint: ";
    assert!(refused.message().starts_with(why), "{refused}");
    // A machine joins meanwhile, with a new token only.
    let new_token = hosts[0].expect(&["token", "agent"]);
    let try_join = async |token: &str| {
        let token: JoinToken = token.trim().parse().unwrap();
        join(&hosts[0].address, &token, "a2", None).await.map_err(|error| error.to_string())
    };
    let refused = try_join(&old_token).await.unwrap_err();
    assert!(refused.starts_with("the token is of another cluster"), "{refused}");
    let joined = try_join(&new_token).await.unwrap();
    assert_eq!(joined.ca_pem, identity(&hosts[0]).ca_pem);
    let mut joined_session = Agent::connect(&joined, &hosts[1].address).await;
    joined_session.welcomed().await;
    joined_session.describe(&roots_digest(&joined.ca_pem).unwrap()).await;
    // The leader knows of the machine; another might not have heard of it yet.
    let first = leader(&hosts).await;
    only_a1(&hosts[first]).await;

    // The leader goes, and the next one carries on where it was.
    hosts[first].kill();
    let second = leader(&hosts).await;
    only_a1(&hosts[second]).await;
    hosts[first].start();
    agent.session = Agent::connect(&agent.identity(), &hosts[second].address).await;
    agent.session.welcomed().await;
    agent.follow().await;
    for host in &hosts {
        through(host).await;
    }
    let mut control = hosts[second].control().await;
    control.scale_service(scale("r4", "web", 2)).await.unwrap();
    for host in &hosts {
        one_root(host).await;
        assert_eq!(certificate_digest(&identity(host).ca_pem).unwrap(), answer.root);
    }
    // What was of the former authority is worth nothing.
    let stolen = Tls::new(&old[2].credentials()).unwrap();
    eventually("nobody shows what stems from it", async || {
        match stolen.connect(&hosts[0].address, CONTROLLER_NAME).await {
            Ok(_) => Err(String::from("it was taken")),
            Err(_) => Ok(()),
        }
    })
    .await;
    // Its session began with a certificate of the former authority, too.
    agent.session.ended().await;
    agent.session = Agent::connect(&agent.identity(), &hosts[first].address).await;
    agent.session.welcomed().await;
    agent.follow().await;
    assert_eq!(agent.identity().ca_pem, identity(&hosts[0]).ca_pem);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_was_away_follows_and_one_demoted_has_no_key_that_counts() {
    let mut hosts = cluster(4).await;
    hosts[3].kill();
    let backup = fs::read(hosts[3].dir.path().join("state/identity/node.key")).unwrap();
    let mut control = hosts[0].control().await;
    let old_key = old_authority(&hosts[0]).await;
    control.rotate_authority(rotate("r1", false)).await.unwrap();
    only_one(&hosts[0]).await;
    hosts[3].start();
    through(&hosts[0]).await;
    assert_ne!(fs::read(hosts[3].dir.path().join("state/identity/node.key")).unwrap(), backup);

    // The key that a demoted host may have kept makes certificates that nobody takes.
    let forged =
        old_key.make_client("eve", transport::ClientRole::Admin, std::time::SystemTime::now());
    let mut forged = forged.unwrap();
    let present = identity(&hosts[0]);
    forged.ca_pem = present.ca_pem.clone();
    let tls = Tls::new(&forged).unwrap();
    eventually("it is refused", async || {
        let connected = tls.connect(&hosts[0].address, CONTROLLER_NAME).await;
        let Ok(channel) = connected else { return Ok(()) };
        let stale = wire::GetStateRequest { stale: true };
        match ControlClient::new(channel).get_state(stale).await {
            Ok(_) => Err(String::from("it was taken")),
            Err(_) => Ok(()),
        }
    })
    .await;

    hosts[3].kill();
    control.rotate_authority(rotate("r2", false)).await.unwrap();
    only_one(&hosts[0]).await;
    let none = async |id: &str| {
        let mut control = hosts[1].control().await;
        control.rotate_authority(rotate(id, true)).await
    };
    let forced = none("r3").await.unwrap().into_inner();
    assert_eq!(forced.rotation, None);
    let refused = none("r4").await.unwrap_err();
    assert!(refused.message().starts_with("the certificate authority is not being replaced"));
    assert_eq!(waiting(&hosts[0]).await, None);
}

/// The authority as a backup holds it.
async fn old_authority(host: &Host) -> Authority {
    use tokio_stream::StreamExt as _;
    let mut control = host.control().await;
    let mut pieces =
        control.backup(wire::BackupRequest { stale: false }).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend(piece.unwrap().data);
    }
    let backup = swarm_proto::backup::decode(&bytes, None).unwrap();
    let state = swarm_controller::core::State::from_bytes(&backup.state).unwrap();
    Authority::of(&state.cluster.unwrap()).unwrap()
}
