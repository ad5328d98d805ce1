//! The configuration of a host's programs, as an operator would write it.

use std::fmt::Write as _;
use std::fs;

use super::error::Error;
use super::layout::{Layout, REGISTRY_PORT, RELAY_PORT, SWITCH_ADDRESS, host_address};
use super::record::Record;

/// Writes `controller.toml` and `agent.toml` of a host.
pub(super) fn write(layout: &Layout, record: &Record, host: &str, number: u8) -> Result<(), Error> {
    let folder = layout.host(host, "etc");
    let files = [
        ("controller.toml", controller(number)),
        ("agent.toml", agent(record, number, &layout.cgroup(host))),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).map_err(Error::file("write", &path))?;
    }
    Ok(())
}

fn controller(number: u8) -> String {
    format!("advertise = \"{}:2377\"\n", host_address(number))
}

fn agent(record: &Record, number: u8, cgroup: &str) -> String {
    let mut text =
        format!("advertise_address = \"{}\"\ncgroup_parent = \"{cgroup}\"\n", host_address(number));
    // Writing to a string cannot fail.
    if !record.relay.is_empty() {
        let _ = write!(text, "\n[registry]\nproxy = \"http://{SWITCH_ADDRESS}:{RELAY_PORT}\"\n");
    } else if record.registry.is_some() {
        // There is no way out, so nobody else to ask.
        text += "\n[registry]\nmirrors_only = [\"docker.io\"]\n";
    }
    if record.registry.is_some() {
        let _ = write!(
            text,
            "\n[registry.mirrors]\n\"docker.io\" = [\"http://{SWITCH_ADDRESS}:{REGISTRY_PORT}\"]\n"
        );
    }
    text
}
