//! Another certificate authority while real agents run containers.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use swarm_proto::transport::{CONTROLLER_NAME, Identity, Tls, install_crypto_provider};
use swarm_proto::wire;
use swarm_proto::wire::join_client::JoinClient;
use swarm_runtime::kernel::Namespace;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Channel;

use crate::lab::{Lab, SLEEPER, eventually};
use crate::snapshot::Process;

const HOSTS: [&str; 4] = ["n1", "n2", "n3", "n4"];

fn status(lab: &Lab) -> Option<Value> {
    let said = lab.try_run(&["cluster", "status", "-o", "json"]);
    serde_json::from_str(&said.stdout).ok()
}

/// The nodes that rely on the former authority; `None` while there is none.
fn waiting(lab: &Lab) -> Option<BTreeSet<String>> {
    let status = status(lab)?;
    let names = status["rotation"]["waiting"].as_array()?.iter();
    Some(names.filter_map(|name| name.as_str().map(str::to_owned)).collect())
}

/// The identity on a host's disk.
fn identity(lab: &Lab, host: &str) -> Identity {
    let path = format!("/var/lib/swarm-lab/{}/{host}/lib", lab.name());
    Identity::load(Path::new(&path)).unwrap().unwrap()
}

/// Somebody with a host's identity, in its place on the network.
struct Impostor {
    runtime: Runtime,
    host: Namespace,
}

impl Impostor {
    fn on(lab: &Lab, host: &str) -> Self {
        install_crypto_provider();
        let pid = lab.first_process(host).unwrap();
        let host = Namespace::open(Path::new(&format!("/proc/{pid}/ns/net"))).unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime, host }
    }

    /// Connects to the controller on `n1`; `None` when that takes no such identity.
    fn connect(&self, identity: &Identity) -> Option<Channel> {
        let tls = Tls::new(&identity.credentials()).unwrap();
        let connect = async { tls.connect("10.77.0.1:2377", CONTROLLER_NAME).await.ok() };
        self.host.enter(|| self.runtime.block_on(connect)).unwrap()
    }

    /// Whether the controller at the other end answers; it does with a refusal, for the request is none.
    fn is_heard(&self, channel: &Channel) -> bool {
        let mut client = JoinClient::new(channel.clone());
        let ask = client.renew_certificate(wire::RenewCertificateRequest::default());
        let asked = async { timeout(Duration::from_secs(10), ask).await };
        // A connection that is made anew is made from the host.
        let answer = self.host.enter(|| self.runtime.block_on(asked)).unwrap();
        answer.is_ok_and(|answer| answer.is_err_and(|why| why.code() == Code::InvalidArgument))
    }

    fn is_taken(&self, identity: &Identity) -> bool {
        self.connect(identity).is_some_and(|channel| self.is_heard(&channel))
    }
}

fn sleepers(lab: &Lab) -> Vec<BTreeSet<Process>> {
    HOSTS.iter().map(|host| lab.sleepers(host)).collect()
}

#[test]
fn all_nodes_follow_another_authority_and_no_task_notices() {
    let lab = Lab::with("ca", &["--hosts", "4", "--controllers", "3"]);
    lab.deploy("s", SLEEPER);
    let (tasks, processes) = (lab.running("s_"), sleepers(&lab));
    assert_eq!(tasks.len(), HOSTS.len());
    let old_root = status(&lab).unwrap()["root"].clone();
    let mut stolen = identity(&lab, "n4");
    let impostor = Impostor::on(&lab, "n4");
    let standing = impostor.connect(&stolen).unwrap();
    assert!(impostor.is_heard(&standing));

    // An agent's host and a controller are off while the others follow.
    lab.lab("kill", &["n4", "--only", "agent"]);
    lab.lab("kill", &["n3", "--only", "controller"]);
    lab.run(&["cluster", "ca", "rotate"]);
    eventually(60, "only who is off has not followed", || {
        (waiting(&lab)? == ["n3", "n4"].map(str::to_owned).into()).then_some(())
    });
    assert!(impostor.is_heard(&standing) && impostor.is_taken(&stolen), "it still counts");
    lab.lab("start", &["n3"]);
    lab.lab("start", &["n4"]);
    eventually(60, "the former authority is dropped", || {
        status(&lab)?["rotation"].is_null().then_some(())
    });

    // What stems from it is worth nothing, where it is shown anew and where it was shown before.
    eventually(30, "the standing connection is cut", || {
        (!impostor.is_heard(&standing)).then_some(())
    });
    let present = eventually(30, "the new root stands alone", || {
        let present = identity(&lab, "n4");
        (present.ca_pem.matches("BEGIN CERTIFICATE").count() == 1).then_some(present)
    });
    stolen.ca_pem.clone_from(&present.ca_pem);
    assert!(!impostor.is_taken(&stolen));
    assert!(impostor.is_taken(&present));

    eventually(30, "every host is in session", || {
        (lab.ready_hosts()? == HOSTS.map(str::to_owned).into()).then_some(())
    });
    assert_ne!(status(&lab).unwrap()["root"], old_root);
    assert_eq!(lab.running("s_"), tasks, "every task keeps its id, pid and start time");
    assert_eq!(sleepers(&lab), processes, "containers were not touched");
    lab.deploy("t", SLEEPER);
    assert_eq!(lab.running("t_").len(), HOSTS.len());
}
