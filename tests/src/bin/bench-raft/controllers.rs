//! Our three controllers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use swarm_proto::id::NodeId;
use swarm_proto::transport::{CONTROLLER_NAME, Credentials, Tls};
use swarm_proto::wire;
use swarm_proto::wire::control_client::ControlClient;
use swarm_tests::bench::members::{Members, eventually, folders, free_ports};
use swarm_tests::bench::{Outcome, output, programs};
use tonic::transport::Channel;

use crate::load::{CONNECTIONS, Target, VALUE};
use crate::{Syncs, System};

/// Three controllers that run.
pub(crate) struct Controllers {
    members: Members,
    addresses: Vec<String>,
    tls: Arc<Tls>,
}

/// Makes a cluster and waits until all three vote.
pub(crate) async fn start() -> Outcome<Controllers> {
    let folders = folders("raft-controllers")?;
    let mut addresses = Vec::new();
    for (folder, port) in folders.iter().zip(free_ports::<3>()?) {
        let address = format!("127.0.0.1:{port}");
        let text = format!(
            "state_dir = \"{0}/state\"\nrun_dir = \"{0}/run\"\nlisten = \"{address}\"\nadvertise = \"{address}\"\n",
            folder.display()
        );
        fs::write(folder.join("controller.toml"), text)?;
        addresses.push(address);
    }
    let mut members = Members::default();
    output(command(&folders[0])?.arg("init"))?;
    members.start(command(&folders[0])?.arg("run"), &folders[0])?;
    for folder in &folders[1..] {
        let token = output(command(&folders[0])?.args(["token", "controller"]))?;
        output(command(folder)?.args(["join", "--token", token.trim(), &addresses[0]]))?;
        members.start(command(folder)?.arg("run"), folder)?;
    }
    let bundle = output(command(&folders[0])?.arg("admin-bundle"))?;
    let credentials = Credentials::from_bundle(&bundle)?;
    let controllers = Controllers { members, addresses, tls: Tls::new(&credentials)? };
    eventually(async || {
        let mut client = controllers.client(0).await?;
        let state = client.get_state(wire::GetStateRequest { stale: false }).await?;
        let voters = state.into_inner().voters.len();
        if voters == 3 { Ok(()) } else { Err(format!("{voters} vote").into()) }
    })
    .await?;
    Ok(controllers)
}

fn command(folder: &Path) -> Outcome<Command> {
    let mut command = Command::new(programs()?.join("swarm-controller"));
    command.arg("--config").arg(folder.join("controller.toml"));
    Ok(command)
}

impl Controllers {
    async fn client(&self, member: usize) -> Outcome<ControlClient<Channel>> {
        let channel = self.tls.connect(&self.addresses[member], CONTROLLER_NAME).await?;
        Ok(ControlClient::new(channel))
    }

    async fn leader(&self) -> Outcome<usize> {
        for member in 0..3 {
            let mut client = self.client(member).await?;
            let version = client.get_version(wire::GetVersionRequest {}).await?.into_inner();
            if version.leader == version.raft_id {
                return Ok(member);
            }
        }
        Err("no leader".into())
    }
}

impl System for Controllers {
    fn name(&self) -> &'static str {
        "controllers"
    }

    async fn target(&self) -> Outcome<Target> {
        let leader = self.leader().await?;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(self.client(leader).await?);
        }
        Ok(Target::Controller(connections))
    }

    fn memory(&self) -> Outcome<f64> {
        self.members.memory()
    }

    async fn syncs(&self) -> Outcome<Syncs> {
        let mut client = self.client(self.leader().await?).await?;
        let request = wire::GetClusterStatusRequest { stale: true, own: true };
        let mut status = client.get_cluster_status(request).await?.into_inner();
        let numbers = status.members.pop().and_then(|own| own.numbers).ok_or("no numbers")?;
        let micros = numbers.sync_time.ok_or("no syncs")?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let syncs = Syncs {
            count: numbers.syncs.ok_or("no syncs")? as f64,
            millis: micros as f64 / 1_000.0,
        };
        Ok(syncs)
    }
}

/// A write of one label of 256 bytes.
pub(crate) fn write(id: String) -> wire::UpdateNodeRequest {
    let value = format!("{id:0>VALUE$}");
    wire::UpdateNodeRequest {
        request_id: id,
        node: NodeId(1).to_string(),
        set_labels: BTreeMap::from([(String::from("bench"), value)]),
        ..wire::UpdateNodeRequest::default()
    }
}
