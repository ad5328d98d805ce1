//! How this host comes to run a controller as well: the cluster says so, and the host's own `swarmctl host join` looks
//! for what is missing, joins and starts the program.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use swarm_proto::transport::JoinToken;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::config::other_program;

/// The program that knows how.
const PROGRAM: &str = "swarmctl";
/// Where the controller's settings lie.
const CONTROLLER_SETTINGS: &str = "/etc/swarm/controller.toml";
/// How long it may take: the cluster waits for its leader, and systemd for the program.
const PATIENCE: Duration = Duration::from_mins(1);

/// Why no controller was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PromotionError {
    /// The program is not on this host, or does not start.
    #[error("cannot run `{}` on this host", path.display())]
    Program {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It did not end in time.
    #[error("`swarmctl host join` did not end on this host within {} s", PATIENCE.as_secs())]
    Late,
    /// It refused.
    #[error("{0}")]
    Refused(String),
}

/// Makes this host a controller's as well, with the controllers' token, by way of the controller at this address. Other
/// hosts reach it at its agent's address, unless its own settings say otherwise. Gives back what was done, in lines.
pub(crate) async fn become_controller(
    token: &JoinToken,
    controller: &str,
    advertise: Ipv4Addr,
) -> Result<Vec<String>, PromotionError> {
    let path = other_program(PROGRAM);
    let mut command = Command::new(&path);
    command.args(["host", "join", controller, "--as", "controller", "--token", "-"]);
    if !says_where(Path::new(CONTROLLER_SETTINGS)) {
        command.args(["--advertise", &advertise.to_string()]);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let failed = |source| PromotionError::Program { path: path.clone(), source };
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // One that ends before it has read says why.
        let _ = input.write_all(format!("{token}\n").as_bytes()).await;
    }
    let ended = timeout(PATIENCE, child.wait_with_output()).await;
    said(&ended.map_err(|_| PromotionError::Late)?.map_err(failed)?)
}

fn said(output: &Output) -> Result<Vec<String>, PromotionError> {
    let talk = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(talk.lines().map(str::to_owned).collect());
    }
    let refusal = talk.split_once("error: ").map_or(&*talk, |(_, refusal)| refusal);
    Err(PromotionError::Refused(refusal.trim().to_owned()))
}

/// Whether the controller's settings say where other hosts reach it. Settings that cannot be read are for the controller
/// to refuse.
fn says_where(settings: &Path) -> bool {
    let text = std::fs::read_to_string(settings).unwrap_or_default();
    text.parse::<toml::Table>().is_ok_and(|settings| settings.contains_key("advertise"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn ended(code: i32, talk: &str) -> Output {
        let status = ExitStatus::from_raw(code << 8);
        Output { status, stdout: Vec::new(), stderr: talk.as_bytes().to_vec() }
    }

    #[test]
    fn what_the_program_says_is_told() {
        let done =
            said(&ended(0, "this host is node 4\nstart it: swarm-controller run\n")).unwrap();
        assert_eq!(done, ["this host is node 4", "start it: swarm-controller run"]);
        let refused = said(&ended(1, "a line\nerror: no room\n\nhint: make some\n")).unwrap_err();
        assert_eq!(refused.to_string(), "no room\n\nhint: make some");
    }

    #[test]
    fn the_controllers_own_settings_count() {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("controller.toml");
        assert!(!says_where(&settings));
        std::fs::write(&settings, "listen = \"0.0.0.0:2377\"\n").unwrap();
        assert!(!says_where(&settings));
        std::fs::write(&settings, "advertise = \"10.0.0.9:2377\"\n").unwrap();
        assert!(says_where(&settings));
    }
}
