//! The other programs of the swarm on this host: swarmctl runs them, and passes on what they say.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use super::preflight::is_program;
use crate::failure::Failure;
use crate::output;

/// The exit code of a program that was called wrongly.
const USAGE: i32 = 2;

/// Where a program is: beside swarmctl, else in PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|own| own.parent().map(|folder| folder.join(name)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    beside.into_iter().chain(in_path).find(|path| is_program(path))
}

/// Runs a program to its end; answers with what it printed, or with its refusal.
pub(crate) fn run(name: &str, arguments: &[impl AsRef<OsStr>]) -> Result<String, Failure> {
    run_with(name, arguments, "")
}

/// Runs a program that reads a line.
pub(crate) fn run_with(
    name: &str,
    arguments: &[impl AsRef<OsStr>],
    line: &str,
) -> Result<String, Failure> {
    let path = find(name).ok_or_else(|| {
        Failure::refused(format!("the program `{name}` is neither beside swarmctl nor in PATH"))
            .hint(format!("install it beside swarmctl: /usr/bin/{name}"))
    })?;
    let run = || {
        let mut command = Command::new(&path);
        command.args(arguments).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut input) = child.stdin.take() {
            // One that ends before it has read says why.
            let _ = writeln!(input, "{line}");
        }
        child.wait_with_output()
    };
    let output = run()
        .map_err(|error| Failure::refused(format!("cannot run `{}`: {error}", path.display())))?;
    said(name, &output)
}

fn said(name: &str, output: &Output) -> Result<String, Failure> {
    let talk = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        if !talk.trim().is_empty() {
            output::talk(talk.trim_end());
        }
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    // What comes before its refusal are lines of its log.
    let Some((_, refusal)) = talk.split_once("error: ") else {
        let why = talk.trim();
        return Err(Failure::refused(format!("`{name}` failed ({}): {why}", output.status)));
    };
    // What comes after it, where it does not like how it was called, is about its own flags.
    let refusal = refusal.split_once("\n\nFor more information").map_or(refusal, |(said, _)| said);
    let refuse = |message: &str| match output.status.code() {
        Some(USAGE) => Failure::usage(message),
        _ => Failure::refused(message),
    };
    Err(match refusal.trim().split_once("\n\nhint: ") {
        Some((message, hint)) => refuse(message).hint(hint),
        None => refuse(refusal.trim()),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;
    use crate::failure::Code;

    fn ended(code: i32, talk: &str) -> Output {
        let status = ExitStatus::from_raw(code << 8);
        Output { status, stdout: b"data".to_vec(), stderr: talk.as_bytes().to_vec() }
    }

    #[test]
    fn a_programs_refusal_becomes_our_own() {
        assert_eq!(said("x", &ended(0, "")).unwrap(), "data");
        let failure = said("x", &ended(1, "a log line\nerror: no\n\nhint: do it\n")).unwrap_err();
        assert_eq!((failure.message.as_str(), failure.hint.as_deref()), ("no", Some("do it")));
        let failure = said("x", &ended(1, "error: no\n")).unwrap_err();
        assert_eq!((failure.message.as_str(), failure.hint), ("no", None));
        let wrong =
            "error: invalid value '0' for '--port'\n\nFor more information, try '--help'.\n";
        let failure = said("x", &ended(2, wrong)).unwrap_err();
        assert_eq!(
            (failure.message.as_str(), failure.code),
            ("invalid value '0' for '--port'", Code::Usage)
        );
        let failure = said("x", &ended(3, "")).unwrap_err();
        assert_eq!(failure.message, "`x` failed (exit status: 3): ");
    }
}
