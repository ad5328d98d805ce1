//! Runs a command inside of a host.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Pid;

use super::error::Error;

/// Starts a command in the namespaces of a host's first process.
///
/// Entering happens on a thread of its own that ends with it: the caller stays where it is.
pub(super) fn spawn(first: Pid, mut command: Command) -> Result<Child, Error> {
    let start = move || -> io::Result<Child> {
        let kinds = [
            ("net", CloneFlags::CLONE_NEWNET),
            ("uts", CloneFlags::CLONE_NEWUTS),
            ("ipc", CloneFlags::CLONE_NEWIPC),
            ("pid", CloneFlags::CLONE_NEWPID),
            ("mnt", CloneFlags::CLONE_NEWNS),
        ];
        let mut spaces = Vec::new();
        for (name, flag) in kinds {
            let path = PathBuf::from(format!("/proc/{first}/ns/{name}"));
            spaces.push((File::open(path)?, flag));
        }
        // A mount namespace can be entered only with a root and working folder of one's own.
        unshare(CloneFlags::CLONE_FS)?;
        for (file, flag) in spaces {
            setns(file, flag)?;
        }
        command.spawn()
    };
    std::thread::spawn(start)
        .join()
        .unwrap_or_else(|cause| std::panic::resume_unwind(cause))
        .map_err(Error::system("start the command on the host"))
}

/// Runs a command inside of a host to its end, and returns what it wrote to standard output.
pub(super) fn output(first: Pid, host: &str, command: &[String]) -> Result<String, Error> {
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| Error::refused("there is no command to run", "give one after `--`"))?;
    let mut process = Command::new(program);
    process
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let child = spawn(first, process)?;
    let output = child.wait_with_output().map_err(Error::system("wait for the command"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::Program {
        command: command.join(" "),
        host: host.to_owned(),
        output: format!("{} ({})", said.trim_end(), output.status),
    })
}
