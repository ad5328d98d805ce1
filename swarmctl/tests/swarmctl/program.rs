//! The program as a user runs it, and what it said.

use std::path::Path;
use std::process::{Output, Stdio};

use tokio::process::Command;

/// The program in a folder, with nothing of the user's own.
pub(crate) fn swarmctl(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarmctl"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) data: String,
    pub(crate) talk: String,
}

impl Said {
    pub(crate) fn of(output: Output, folder: &Path) -> Self {
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).unwrap().replace(folder.to_str().unwrap(), "/here")
        };
        Self { code: output.status.code(), data: text(output.stdout), talk: text(output.stderr) }
    }

    /// All of it, for a golden.
    pub(crate) fn transcript(&self) -> String {
        let code = self.code.map_or("killed".to_owned(), |code| code.to_string());
        format!("{}---\n{}---\nexit code {code}\n", self.data, self.talk)
    }
}
