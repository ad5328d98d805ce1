//! Switching hosts on and off.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::boot::{Boot, Program};
use super::control;
use super::error::Error;
use super::layout::{
    Layout, REGISTRY_PORT, SWITCH, SWITCH_ADDRESS, host_address, host_name, host_number,
};
use super::record::{Record, Registry};
use super::{cgroup, config, network, pause};

/// How long a first process may take until it answers.
const BOOT_TIME: Duration = Duration::from_secs(10);

/// Switches the switch on, with the registry. One that is on stays.
pub(super) fn boot_switch(layout: &Layout, record: &Record) -> Result<(), Error> {
    if find_on(layout, SWITCH)?.is_some() {
        return Ok(());
    }
    let log = layout.host(SWITCH, "log");
    for folder in [&log, &layout.host(SWITCH, "etc"), &layout.run()] {
        make_folder(folder)?;
    }
    let mut programs = Vec::new();
    let mut folders = vec![
        (log, PathBuf::from("/var/log/swarm")),
        (layout.host(SWITCH, "etc"), PathBuf::from("/etc/swarm")),
    ];
    if let Some(registry) = &record.registry {
        programs.push(registry_program(layout, registry)?);
        folders.push((registry.storage.clone(), PathBuf::from("/var/lib/registry")));
    }
    let boot = Boot {
        host: SWITCH.to_owned(),
        control: layout.control(SWITCH),
        folders,
        files: host_files(SWITCH, record),
        log: "/var/log/swarm".into(),
        programs,
    };
    let first = start_first_process(layout, &boot)?;
    network::make_switch(&network::namespace(first)?)?;
    await_boot(layout, SWITCH)?;
    if record.registry.is_some() {
        start(layout, SWITCH, "registry")?;
    }
    Ok(())
}

/// Switches a host on, without starting its programs. One that is on stays.
pub(super) fn boot(layout: &Layout, record: &Record, host: &str) -> Result<Pid, Error> {
    if let Some(first) = find_on(layout, host)? {
        return Ok(first);
    }
    let number = host_number(host)
        .ok_or_else(|| Error::refused(format!("`{host}` is no host's name"), ""))?;
    // As /run is on a real machine, it is empty at each boot.
    let run = layout.host(host, "run");
    remove_folder(&run)?;
    for part in ["lib", "run", "etc", "log"] {
        make_folder(&layout.host(host, part))?;
    }
    cgroup::remove(&layout.cgroup(host))?;
    cgroup::create(&layout.cgroup(host))?;
    config::write(layout, record, host, number)?;
    let folder = |part, to: &str| (layout.host(host, part), PathBuf::from(to));
    let boot = Boot {
        host: host.to_owned(),
        control: layout.control(host),
        folders: vec![
            folder("lib", "/var/lib/swarm"),
            folder("etc", "/etc/swarm"),
            folder("run", "/run/swarm"),
            folder("log", "/var/log/swarm"),
        ],
        files: host_files(host, record),
        log: "/var/log/swarm".into(),
        programs: host_programs(record, number),
    };
    let first = start_first_process(layout, &boot)?;
    let switch = switch_namespace(layout)?;
    network::lay_cable(&switch, &network::namespace(first)?, host, number, record)?;
    await_boot(layout, host)?;
    Ok(first)
}

/// The first process of a host that is on. One that is being killed at this moment may still take a connection, but
/// answers nothing any more: its end is waited for.
fn find_on(layout: &Layout, host: &str) -> Result<Option<Pid>, Error> {
    let socket = layout.control(host);
    let Some(first) = control::first_process(&socket)? else { return Ok(None) };
    if pause::is_paused(first) {
        pause::resume(first)?;
    }
    match control::ask(&socket, &control::Request::List) {
        Ok(answer) => Ok(answer.map(|_| first)),
        Err(_) => end_process(first, host).map(|()| None),
    }
}

/// Cuts a host's power: everything on it is gone at once, and its cable with it. One that is off stays.
pub(super) fn power_off(layout: &Layout, host: &str) -> Result<(), Error> {
    if let Some(first) = control::first_process(&layout.control(host))? {
        end_process(first, host)?;
        if host != SWITCH
            && let Some(switch) = control::first_process(&layout.control(SWITCH))?
        {
            network::take_cable(&network::namespace(switch)?, host)?;
        }
    }
    remove_file(&layout.control(host))?;
    if host == SWITCH { Ok(()) } else { cgroup::remove(&layout.cgroup(host)) }
}

/// Kills a process that is not a child of ours, and waits until it is gone.
pub(super) fn end_process(process: Pid, host: &str) -> Result<(), Error> {
    let folder = PathBuf::from(format!("/proc/{process}"));
    match kill(process, Signal::SIGKILL) {
        Ok(()) | Err(nix::Error::ESRCH) => {}
        Err(error) => return Err(Error::system(format!("kill {host}"))(error)),
    }
    let end = Instant::now() + Duration::from_secs(10);
    while is_running(&folder) {
        if Instant::now() > end {
            return Err(Error::Late {
                what: format!("{host} did not end"),
                seconds: 10,
                detail: String::new(),
            });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// A zombie that nobody has taken notice of is no more running.
fn is_running(folder: &Path) -> bool {
    let Ok(stat) = fs::read_to_string(folder.join("stat")) else { return false };
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

/// Starts a host's program, and keeps it running.
pub(super) fn start(layout: &Layout, host: &str, program: &str) -> Result<(), Error> {
    request(layout, host, &control::Request::Start { program: program.to_owned() }).map(|_| ())
}

/// Asks a host that must be on.
pub(super) fn request(
    layout: &Layout,
    host: &str,
    request: &control::Request,
) -> Result<Vec<control::State>, Error> {
    let answer = control::ask(&layout.control(host), request)?.ok_or_else(|| off(layout, host))?;
    match answer.error {
        None => Ok(answer.programs),
        Some(error) => Err(Error::refused(format!("{host} refused: {error}"), "")),
    }
}

/// The first process of a host that must be on.
pub(super) fn require_on(layout: &Layout, host: &str) -> Result<Pid, Error> {
    control::first_process(&layout.control(host))?.ok_or_else(|| off(layout, host))
}

fn off(layout: &Layout, host: &str) -> Error {
    let name = &layout.lab;
    Error::refused(
        format!("{host} is off"),
        format!("switch it on: swarmctl lab start {host} --name {name}"),
    )
}

/// The switch's network namespace.
pub(super) fn switch_namespace(layout: &Layout) -> Result<swarm_runtime::kernel::Namespace, Error> {
    let switch = control::first_process(&layout.control(SWITCH))?.ok_or_else(|| {
        Error::refused(
            format!("the lab `{}` is off", layout.lab),
            format!("switch it on: swarmctl lab up --name {}", layout.lab),
        )
    })?;
    network::namespace(switch)
}

/// Starts a first process in namespaces of its own, on a thread that ends with it.
fn start_first_process(layout: &Layout, boot: &Boot) -> Result<Pid, Error> {
    let path = layout.boot(&boot.host);
    let text = serde_json::to_vec_pretty(boot)
        .map_err(|error| Error::system("encode what the host is to do")(error))?;
    fs::write(&path, text).map_err(Error::file("write", &path))?;
    let log = layout.host(&boot.host, "log").join("boot.log");
    let output = OpenOptions::new().create(true).append(true).open(&log);
    let output = output.map_err(Error::file("open", &log))?;
    let errors = output.try_clone().map_err(Error::file("open", &log))?;
    let program = std::env::current_exe().map_err(Error::system("find the running program"))?;
    let mut command = Command::new(program);
    command
        .args(["lab", "host"])
        .arg(&path)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    let spawned = std::thread::spawn(move || -> std::io::Result<u32> {
        unshare(
            CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWUTS
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWPID,
        )?;
        Ok(command.spawn()?.id())
    });
    let id = spawned
        .join()
        .unwrap_or_else(|cause| std::panic::resume_unwind(cause))
        .map_err(Error::system(format!("start {}", boot.host)))?;
    i32::try_from(id).map(Pid::from_raw).map_err(|error| Error::System {
        what: format!("start {}", boot.host),
        source: std::io::Error::other(error),
    })
}

fn await_boot(layout: &Layout, host: &str) -> Result<(), Error> {
    if control::wait(&layout.control(host), BOOT_TIME)? {
        return Ok(());
    }
    let log = layout.host(host, "log").join("boot.log");
    let said = fs::read_to_string(&log).unwrap_or_default();
    let last = said.lines().next_back().unwrap_or("it said nothing");
    Err(Error::Late {
        what: format!("{host} did not boot"),
        seconds: BOOT_TIME.as_secs(),
        detail: format!(": {last}"),
    })
}

fn registry_program(layout: &Layout, registry: &Registry) -> Result<Program, Error> {
    let path = layout.host(SWITCH, "etc").join("registry.yml");
    let text = format!(
        "version: 0.1\n\
         log: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: /var/lib/registry}}, delete: {{enabled: true}}}}\n\
         http: {{addr: \"0.0.0.0:{REGISTRY_PORT}\"}}\n"
    );
    fs::write(&path, text).map_err(Error::file("write", &path))?;
    let command = vec![
        registry.program.display().to_string(),
        "serve".to_owned(),
        "/etc/swarm/registry.yml".to_owned(),
    ];
    let environment = vec![("OTEL_TRACES_EXPORTER".to_owned(), "none".to_owned())];
    Ok(Program { name: "registry".to_owned(), command, environment })
}

fn host_programs(record: &Record, number: u8) -> Vec<Program> {
    let path = |name: &str| record.programs.join(name).display().to_string();
    let run = |name: &str, program: &str, verb: &str| Program {
        name: name.to_owned(),
        command: vec![path(program), verb.to_owned()],
        environment: vec![("PATH".to_owned(), search_path(record))],
    };
    let verb = if record.simulated.is_empty() { "run" } else { "simulate" };
    let mut programs = vec![run("agent", "swarm-agent", verb)];
    if number <= record.controllers {
        programs.push(run("controller", "swarm-controller", "run"));
    }
    programs
}

/// Where programs on a host are looked for: ours first.
pub(super) fn search_path(record: &Record) -> String {
    let own = record.programs.display();
    format!("{own}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

fn host_files(host: &str, record: &Record) -> Vec<(String, String)> {
    let mut hosts = String::from("127.0.0.1 localhost\n");
    for number in 1..=record.hosts {
        // Writing to a string cannot fail.
        let _ = writeln!(hosts, "{} {}", host_address(number), host_name(number));
    }
    let _ = writeln!(hosts, "{SWITCH_ADDRESS} {SWITCH}");
    vec![
        ("hosts".to_owned(), hosts),
        ("hostname".to_owned(), format!("{host}\n")),
        ("resolv.conf".to_owned(), "# This host has no uplink, so nobody to ask.\n".to_owned()),
    ]
}

/// Makes a folder; one that is there is fine.
pub(super) fn make_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::file("make", path))
}

/// Removes a folder with all in it. Nothing there is fine.
pub(super) fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}
