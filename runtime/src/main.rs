//! The `swarm-runtime` program: what a sealed copy of it runs as beside each container.

use std::io::Write as _;
use std::process::ExitCode;

use swarm_runtime::seccomp::Architecture;

const USAGE: &str = "\
swarm-runtime runs containers for swarm-agent; it is not meant to be called by hand

usage: swarm-runtime shim        create a container and stay beside it (asked for on standard input)
       swarm-runtime exec        run a further program in a container (likewise)
       swarm-runtime features    what this program can do, as JSON
       swarm-runtime --version
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("shim"), None) => swarm_runtime::shim::run(),
        (Some("exec"), None) => swarm_runtime::exec::run(),
        (Some("features"), None) => print(&features()),
        (Some("--version" | "-V"), None) => {
            print(concat!("swarm-runtime ", env!("CARGO_PKG_VERSION"), "\n"))
        }
        (Some("--help" | "-h"), None) => print(USAGE),
        _ => {
            // With standard error closed there is nobody to tell.
            let _ = std::io::stderr().write_all(USAGE.as_bytes());
            ExitCode::from(2)
        }
    }
}

fn features() -> String {
    let features = serde_json::json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.0",
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "uts"],
            "cgroup": {"v1": true, "v2": true, "systemd": false},
            "seccomp": {"enabled": Architecture::native().is_some()},
        },
    });
    format!("{features:#}\n")
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
