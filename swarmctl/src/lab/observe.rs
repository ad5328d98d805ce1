//! `lab ls` and `lab logs`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::thread;
use std::time::Duration;

use comfy_table::Table;
use serde::Serialize;

use super::control::{self, Request};
use super::error::Error;
use super::layout::{Layout, SWITCH, host_address, host_number};
use super::pause;
use super::record::{Cut, Record};
use crate::output::{self, Format};

/// A lab as `-o json` shows it.
#[derive(Debug, Serialize)]
struct LabView {
    name: String,
    hosts: Vec<HostView>,
    registry: Option<String>,
    cuts: Vec<Cut>,
}

/// A host as `-o json` shows it.
#[derive(Debug, Serialize)]
struct HostView {
    name: String,
    address: String,
    /// `on`, `off` or `paused`.
    state: &'static str,
    /// Its first process, numbered as the caller sees it.
    pid: Option<i32>,
    programs: Vec<ProgramView>,
}

#[derive(Debug, Serialize)]
struct ProgramView {
    name: String,
    /// Numbered as on the host.
    pid: Option<i32>,
    restarts: u32,
}

/// Lists the labs of this machine, with their hosts.
pub(super) fn ls(format: Format) -> Result<(), Error> {
    let mut labs = Vec::new();
    for entry in fs::read_dir(Layout::labs()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(layout) = Layout::new(&name) else { continue };
        if let Some(record) = Record::load(&layout)? {
            labs.push(view(&layout, &record)?);
        }
    }
    labs.sort_by(|a, b| a.name.cmp(&b.name));
    match format {
        Format::Json => output::data(&encode(&labs, serde_json::to_string_pretty)?),
        Format::Name => {
            for lab in &labs {
                output::data(&lab.name);
            }
        }
        Format::Yaml => return Err(Error::refused("`lab ls` has no YAML form", "use -o json")),
        Format::Table | Format::Wide => output::data(&table(&labs)),
    }
    Ok(())
}

fn encode<T, E: std::fmt::Display>(
    value: &T,
    write: impl Fn(&T) -> Result<String, E>,
) -> Result<String, Error> {
    write(value).map_err(|error| Error::refused(format!("cannot write the list: {error}"), ""))
}

fn view(layout: &Layout, record: &Record) -> Result<LabView, Error> {
    let mut hosts = Vec::new();
    for name in record.host_names() {
        let number = host_number(&name).unwrap_or_default();
        let first = control::first_process(&layout.control(&name))?;
        let state = match first {
            None => "off",
            Some(first) if pause::is_paused(first) => "paused",
            Some(_) => "on",
        };
        let programs = match state {
            "on" => control::ask(&layout.control(&name), &Request::List)?
                .map(|answer| answer.programs)
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        let programs = programs.into_iter().map(|program| ProgramView {
            name: program.name,
            pid: program.pid,
            restarts: program.restarts,
        });
        hosts.push(HostView {
            address: host_address(number).to_string(),
            state,
            pid: first.map(nix::unistd::Pid::as_raw),
            programs: programs.collect(),
            name,
        });
    }
    let registry = record.registry.as_ref().map(|registry| registry.storage.display().to_string());
    let cuts = record.cuts.iter().cloned().collect();
    Ok(LabView { name: layout.lab.clone(), hosts, registry, cuts })
}

fn table(labs: &[LabView]) -> String {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["LAB", "HOST", "ADDRESS", "STATE", "PROGRAMS"]);
    for lab in labs {
        for host in &lab.hosts {
            let programs: Vec<String> = host
                .programs
                .iter()
                .map(|program| match program.pid {
                    Some(pid) => format!("{} ({pid})", program.name),
                    None => format!("{} (stopped)", program.name),
                })
                .collect();
            table.add_row([&lab.name, &host.name, &host.address, host.state, &programs.join(", ")]);
        }
    }
    let text = table.to_string();
    text.lines().map(|line| line.trim().to_owned() + "\n").collect()
}

/// Prints what a host's programs said, and what they go on to say.
pub(super) fn logs(
    layout: &Layout,
    host: &str,
    program: Option<&str>,
    follow: bool,
) -> Result<(), Error> {
    let record = Record::require(layout)?;
    if host != SWITCH {
        record.check_host(host)?;
    }
    let mut logs = open_logs(layout, host, program)?;
    let several = logs.len() > 1;
    loop {
        for log in &mut logs {
            print_new(log, several)?;
        }
        if !follow {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(200));
    }
}

struct Log {
    name: String,
    file: File,
    rest: Vec<u8>,
}

fn open_logs(layout: &Layout, host: &str, program: Option<&str>) -> Result<Vec<Log>, Error> {
    let folder = layout.host(host, "log");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .map_err(Error::file("read", &folder))?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log").map(str::to_owned))
        .collect();
    names.sort();
    if let Some(program) = program {
        if !names.iter().any(|name| name == program) {
            return Err(Error::refused(
                format!("{host} has no log of `{program}`"),
                format!("its logs: {}", names.join(", ")),
            ));
        }
        names.retain(|name| name == program);
    }
    let open = |name: String| {
        let path = folder.join(format!("{name}.log"));
        let file = File::open(&path).map_err(Error::file("open", &path))?;
        Ok(Log { name, file, rest: Vec::new() })
    };
    names.into_iter().map(open).collect()
}

/// Prints the whole lines that a log has gained.
fn print_new(log: &mut Log, several: bool) -> Result<(), Error> {
    let read = log.file.read_to_end(&mut log.rest);
    read.map_err(Error::system(format!("read the log of {}", log.name)))?;
    let at = log.file.stream_position().unwrap_or_default();
    let size = log.file.metadata().map_or(at, |facts| facts.len());
    if size < at {
        // Cut short by somebody: from the start again.
        let sought = log.file.seek(SeekFrom::Start(0));
        sought.map_err(Error::system(format!("read the log of {}", log.name)))?;
    }
    let Some(end) = log.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
    let lines: Vec<u8> = log.rest.drain(..=end).collect();
    let text = String::from_utf8_lossy(&lines);
    if several {
        let mut marked = String::new();
        for line in text.lines() {
            let _ = writeln!(marked, "{:<10} | {line}", log.name);
        }
        output::data(&marked);
    } else {
        output::data(&text);
    }
    Ok(())
}
