//! One controller: its folder, its process, and what can be asked of it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use swarm_proto::transport::connect_unix;
use swarm_proto::wire;
use swarm_proto::wire::control_client::ControlClient;
use tonic::transport::Channel;

use super::members::{Members, eventually, free_ports};
use super::{Outcome, output, programs};

/// See the module.
#[derive(Clone)]
pub struct Host {
    /// Everything that it keeps.
    pub folder: PathBuf,
    /// Where its controller listens, `host:port`.
    pub address: String,
}

impl Host {
    /// Configures a controller in an empty folder; `further` lines are added to its configuration.
    pub fn new(folder: PathBuf, further: &str) -> Outcome<Self> {
        let [port] = free_ports::<1>()?;
        let address = format!("127.0.0.1:{port}");
        let text = format!(
            "state_dir = \"{0}/state\"\nrun_dir = \"{0}/run\"\nlisten = \"{address}\"\nadvertise = \"{address}\"\n{further}\n",
            folder.display()
        );
        fs::write(folder.join("controller.toml"), text)?;
        Ok(Self { folder, address })
    }

    /// The controller's program with this host's configuration.
    pub fn command(&self) -> Outcome<Command> {
        let mut command = Command::new(programs()?.join("swarm-controller"));
        command.arg("--config").arg(self.folder.join("controller.toml"));
        Ok(command)
    }

    /// Runs it.
    pub fn run(&self, members: &mut Members) -> Outcome<()> {
        members.start(self.command()?.arg("run"), &self.folder)
    }

    /// Takes a host in as a controller.
    pub fn join(&self, other: &Self) -> Outcome<()> {
        let token = output(self.command()?.args(["token", "controller"]))?;
        let mut join = other.command()?;
        output(join.args(["join", "--token", token.trim(), &self.address])).map(|_| ())
    }

    /// A connection to its local socket.
    pub async fn client(&self) -> Outcome<ControlClient<Channel>> {
        let channel = connect_unix(&self.folder.join("run/controller.sock")).await?;
        Ok(ControlClient::new(channel))
    }

    /// Fails unless it leads.
    pub async fn leads(&self) -> Outcome<()> {
        let version = self.client().await?.get_version(wire::GetVersionRequest {}).await?;
        let version = version.into_inner();
        if version.leader == version.raft_id { Ok(()) } else { Err("it does not lead".into()) }
    }

    /// Fails unless so many controllers vote.
    pub async fn has_voters(&self, wanted: usize) -> Outcome<()> {
        let request = wire::GetClusterStatusRequest { stale: true, own: false };
        let status = self.client().await?.get_cluster_status(request).await?.into_inner();
        let voters = status.members.iter().filter(|member| member.member == "voter").count();
        if voters == wanted { Ok(()) } else { Err(format!("{voters} vote").into()) }
    }

    /// The last index that it has applied.
    pub async fn applied(&self) -> Outcome<u64> {
        let request = wire::GetClusterStatusRequest { stale: true, own: true };
        let mut status = self.client().await?.get_cluster_status(request).await?.into_inner();
        let numbers = status.members.pop().and_then(|own| own.numbers);
        Ok(numbers.ok_or("it tells no numbers")?.applied)
    }

    /// A backup of its cluster.
    pub async fn backup(&self) -> Outcome<Vec<u8>> {
        let request = wire::BackupRequest { stale: false };
        let mut pieces = self.client().await?.backup(request).await?.into_inner();
        let mut backup = Vec::new();
        while let Some(piece) = pieces.message().await? {
            backup.extend(piece.data);
        }
        Ok(backup)
    }
}

/// Three hosts whose folders are empty, and a new cluster on the first: one that `fill` made out of a backup of an empty
/// one. Nothing runs yet.
pub async fn restored(
    folders: Vec<PathBuf>,
    further: &str,
    fill: impl FnOnce(&[u8]) -> Outcome<Vec<u8>>,
) -> Outcome<[Host; 3]> {
    let [first, second, third] =
        <[PathBuf; 3]>::try_from(folders).map_err(|_| "it takes three folders")?;
    let maker = first.join("maker");
    fs::create_dir(&maker)?;
    let maker = Host::new(maker, further)?;
    let hosts =
        [Host::new(first, further)?, Host::new(second, further)?, Host::new(third, further)?];
    output(maker.command()?.arg("init"))?;
    let mut members = Members::default();
    maker.run(&mut members)?;
    eventually(async || maker.leads().await).await?;
    let backup = maker.backup().await?;
    drop(members);
    let file = hosts[0].folder.join("backup");
    fs::write(&file, fill(&backup)?)?;
    output(hosts[0].command()?.arg("restore").arg(&file))?;
    fs::remove_file(file)?;
    Ok(hosts)
}
