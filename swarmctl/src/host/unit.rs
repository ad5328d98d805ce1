//! The systemd units of the swarm on this host.

use std::path::Path;

use super::preflight::Part;
use super::program;
use crate::failure::Failure;
use crate::output;

fn names(part: Part) -> &'static [&'static str] {
    match part {
        Part::Agent => &["swarm-agent"],
        Part::Controller => &["swarm-controller", "swarm-agent"],
    }
}

fn runs_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// Starts the units of this part, now and at each boot; says how to start the programs where there is no systemd.
pub(crate) fn start(part: Part) -> Result<(), Failure> {
    for name in names(part) {
        if runs_systemd() {
            systemctl("enable", name)?;
            output::talk(&format!("{name} runs, now and at each boot"));
        } else {
            output::talk(&format!("start it: {name} run"));
        }
    }
    Ok(())
}

/// Stops all units, now and at each boot; says so where there is no systemd.
pub(crate) fn stop() -> Result<(), Failure> {
    for name in names(Part::Controller) {
        if runs_systemd() {
            systemctl("disable", name)?;
        } else {
            output::talk(&format!("stop it, if it runs: {name}"));
        }
    }
    Ok(())
}

fn systemctl(verb: &str, name: &str) -> Result<(), Failure> {
    let unit = format!("{name}.service");
    let done = program::run("systemctl", &[verb, "--now", &unit]);
    done.map(drop).map_err(|failure| {
        failure.hint(format!("see that the unit is installed: /usr/lib/systemd/system/{unit}"))
    })
}
