//! One controller: its folder, its process, and what can be asked of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use swarm_proto::transport::connect_unix;
use swarm_proto::wire;
use swarm_proto::wire::control_client::ControlClient;
use swarm_tests::bench::members::{Members, free_ports};
use swarm_tests::bench::{Outcome, output, programs};
use tonic::transport::Channel;

/// Entries between two snapshots.
pub(crate) const ENTRIES: u64 = 2_000;
/// Entries that a controller keeps behind its snapshot, and so how far another one must lag to be sent it.
pub(crate) const TRAILING: u64 = 500;

/// See the module.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) folder: PathBuf,
    pub(crate) address: String,
}

impl Host {
    /// Configures a controller in an empty folder.
    pub(crate) fn new(folder: PathBuf) -> Outcome<Self> {
        let [port] = free_ports::<1>()?;
        let address = format!("127.0.0.1:{port}");
        let text = format!(
            "state_dir = \"{0}/state\"\nrun_dir = \"{0}/run\"\nlisten = \"{address}\"\nadvertise = \"{address}\"\nsnapshot_entries = {ENTRIES}\n",
            folder.display()
        );
        fs::write(folder.join("controller.toml"), text)?;
        Ok(Self { folder, address })
    }

    /// The controller's program with this host's configuration.
    pub(crate) fn command(&self) -> Outcome<Command> {
        let mut command = Command::new(programs()?.join("swarm-controller"));
        command.arg("--config").arg(self.folder.join("controller.toml"));
        Ok(command)
    }

    /// Runs it.
    pub(crate) fn run(&self, members: &mut Members) -> Outcome<()> {
        members.start(self.command()?.arg("run"), &self.folder)
    }

    /// Takes a host in as a controller.
    pub(crate) fn join(&self, other: &Self) -> Outcome<()> {
        let token = output(self.command()?.args(["token", "controller"]))?;
        let mut join = other.command()?;
        output(join.args(["join", "--token", token.trim(), &self.address])).map(|_| ())
    }

    /// A connection to its local socket.
    pub(crate) async fn client(&self) -> Outcome<ControlClient<Channel>> {
        let channel = connect_unix(&self.folder.join("run/controller.sock")).await?;
        Ok(ControlClient::new(channel))
    }

    /// Fails unless it leads.
    pub(crate) async fn leads(&self) -> Outcome<()> {
        let version = self.client().await?.get_version(wire::GetVersionRequest {}).await?;
        let version = version.into_inner();
        if version.leader == version.raft_id { Ok(()) } else { Err("it does not lead".into()) }
    }

    /// Fails unless so many controllers vote.
    pub(crate) async fn has_voters(&self, wanted: usize) -> Outcome<()> {
        let request = wire::GetClusterStatusRequest { stale: true, own: false };
        let status = self.client().await?.get_cluster_status(request).await?.into_inner();
        let voters = status.members.iter().filter(|member| member.member == "voter").count();
        if voters == wanted { Ok(()) } else { Err(format!("{voters} vote").into()) }
    }

    /// The last index that it has applied.
    pub(crate) async fn applied(&self) -> Outcome<u64> {
        let request = wire::GetClusterStatusRequest { stale: true, own: true };
        let mut status = self.client().await?.get_cluster_status(request).await?.into_inner();
        let numbers = status.members.pop().and_then(|own| own.numbers);
        Ok(numbers.ok_or("it tells no numbers")?.applied)
    }

    /// A write of a label.
    pub(crate) fn write(number: u64) -> wire::UpdateNodeRequest {
        wire::UpdateNodeRequest {
            request_id: format!("write-{number}"),
            node: String::from("host101"),
            set_labels: [(String::from("number"), number.to_string())].into(),
            ..wire::UpdateNodeRequest::default()
        }
    }

    /// The last entry in its snapshot's file, and the size of that file in bytes.
    pub(crate) fn snapshot(&self) -> Outcome<(u64, u64)> {
        let folder = self.folder.join("state/controller/snapshots");
        let found = fs::read_dir(folder)?.filter_map(|found| {
            let path = found.ok()?.path();
            Some((index_of(&path)?, fs::metadata(&path).ok()?.len()))
        });
        found.max().ok_or_else(|| "it has no snapshot".into())
    }
}

/// `None` for a file that is being made.
fn index_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_prefix("snapshot-")?;
    name.split_once('-')?.0.parse().ok()
}
