//! The lab's hosts, each with a controller: how they are reached from the machine, and what their logs say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use swarm_proto::transport::{MAX_MESSAGE, connect_unix};
use swarm_proto::wire;
use swarm_proto::wire::control_client::ControlClient;
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::bench::{Outcome, output};

/// How long a controller may take to say who leads.
const SAY_WITHIN: Duration = Duration::from_millis(500);

/// A lab whose hosts all have a controller.
#[derive(Debug, Clone)]
pub struct Hosts {
    programs: PathBuf,
    settings: PathBuf,
    lab: String,
    names: Vec<String>,
}

impl Hosts {
    /// The lab `lab` of `count` hosts; `swarmctl` lies in `programs` and keeps its contexts in `settings`.
    pub fn of(programs: &Path, settings: &Path, lab: &str, count: u8) -> Self {
        Self {
            programs: programs.to_owned(),
            settings: settings.to_owned(),
            lab: lab.to_owned(),
            names: (1..=count).map(|number| format!("n{number}")).collect(),
        }
    }

    /// The hosts' names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Runs `swarmctl lab VERB`, which must succeed.
    pub fn lab(&self, verb: &str, arguments: &[&str]) -> Outcome<String> {
        let mut command = Command::new(self.programs.join("swarmctl"));
        command.args(["lab", verb, "--name", &self.lab]).args(arguments);
        command.env("XDG_CONFIG_HOME", &self.settings).stdin(Stdio::null());
        output(&mut command)
    }

    /// The socket of a host's controller.
    pub fn socket(&self, host: &str) -> PathBuf {
        self.file(host, "run/controller.sock")
    }

    fn file(&self, host: &str, path: &str) -> PathBuf {
        Path::new("/var/lib/swarm-lab").join(&self.lab).join(host).join(path)
    }

    /// The host whose controller says that it leads.
    pub fn leader(&self) -> Option<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async {
            for host in &self.names {
                if matches!(timeout(SAY_WITHIN, self.leads(host)).await, Ok(Some(true))) {
                    return Some(host.clone());
                }
            }
            None
        })
    }

    async fn leads(&self, host: &str) -> Option<bool> {
        let mut control = connect(&self.socket(host)).await?;
        let version = control.get_version(wire::GetVersionRequest {}).await.ok()?.into_inner();
        Some(version.leader == version.raft_id && version.leader != 0)
    }

    /// How often any controller has become leader, as their logs tell.
    pub fn elections_won(&self) -> Outcome<usize> {
        let mut won = 0;
        for (host, raft_id) in self.names.iter().zip(1..) {
            let log = fs::read_to_string(self.file(host, "log/controller.log"))?;
            let says = format!("leader={raft_id}");
            let changes = log.lines().filter(|line| line.contains("leader changed"));
            won += changes.filter(|line| line.split_whitespace().any(|word| word == says)).count();
        }
        Ok(won)
    }
}

/// A client on a controller's socket, when somebody listens there.
pub(super) async fn connect(socket: &Path) -> Option<ControlClient<Channel>> {
    let channel = connect_unix(socket).await.ok()?;
    Some(ControlClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
}
