//! `lab up` and `lab down`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::error::Error;
use super::host::{self, make_folder, remove_folder};
use super::layout::{Layout, MOST_HOSTS, SWITCH, host_address, host_name};
use super::record::{Record, find_registry};
use super::rehearsal::Backup;
use super::{cgroup, control, enter, ready, relay};
use crate::context::{Context, Contexts};
use crate::output;

/// How long hosts may take to become one cluster.
const FORM_TIME: Duration = Duration::from_mins(1);

/// What `lab up` was asked.
#[derive(Debug, clap::Args)]
pub struct UpOptions {
    /// The lab's name, and the context's
    #[arg(long, default_value = "lab")]
    name: String,
    /// How many hosts [default: 3]
    #[arg(long)]
    hosts: Option<u8>,
    /// How many of them run a controller as well [default: 3, or as many as there are hosts]
    #[arg(long)]
    controllers: Option<u8>,
    /// The storage of the lab's registry [default: images/registry beside the programs' folder]
    #[arg(long, value_name = "FOLDER")]
    registry: Option<PathBuf>,
    /// The folder with the programs that the hosts run [default: this program's]
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Let the hosts' agents reach HOST:PORT outside, or *.DOMAIN:PORT; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    relay: Vec<String>,
    /// Throw away what a lab of this name has on its disks
    #[arg(long)]
    fresh: bool,
    /// Play a cluster as this backup holds it: no containers run, nodes and tasks are simulated, jobs until stopped.
    /// Hosts may play several nodes [default of --hosts: one for each node, 5 at most]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["registry", "relay"])]
    from_backup: Option<PathBuf>,
    /// The file with the backup's key [default: beside it, with `.key` at its name's end]
    #[arg(long, value_name = "FILE", requires = "from_backup")]
    key_file: Option<PathBuf>,
}

/// Brings a lab up, from nothing, from its disks, or from whatever state it is in.
pub(super) fn up(options: &UpOptions) -> Result<(), Error> {
    let begun = Instant::now();
    let layout = Layout::new(&options.name)?;
    // Refused before anything is thrown away.
    let read = |path| Backup::read(path, options.key_file.as_deref());
    let backup = options.from_backup.as_deref().map(read).transpose()?;
    if options.fresh {
        remove(&layout)?;
    }
    let record = plan(&layout, options, backup.as_ref())?;
    make_folder(&layout.state())?;
    make_folder(&layout.run())?;
    let _turn = take_turn(&layout)?;
    record.save(&layout)?;
    output::talk(&describe(&layout, &record));
    if let Some(backup) = &backup {
        tell_of(backup, &record);
    }
    host::boot_switch(&layout, &record)?;
    relay::start(&layout, &record)?;
    for name in record.host_names() {
        host::boot(&layout, &record, &name)?;
    }
    match &backup {
        None => form_cluster(&layout, &record)?,
        // Half of a played cluster is good for nothing.
        Some(backup) => backup.begin(&layout, &record).or_else(|error| {
            remove(&layout)?;
            Err(error)
        })?,
    }
    let sockets = (1..=record.controllers).map(host_name).map(|n| layout.controller_socket(&n));
    let sockets: Vec<PathBuf> = sockets.collect();
    ready::wait(&sockets, &record.node_names(), FORM_TIME)?;
    select_context(&layout, &sockets)?;
    output::talk(&format!(
        "{} hosts are ready after {:.1} s; context `{}` is selected",
        record.hosts,
        begun.elapsed().as_secs_f64(),
        layout.lab
    ));
    Ok(())
}

/// Says what is played, and what to think of.
fn tell_of(backup: &Backup, record: &Record) {
    output::talk(&backup.describe(record));
    if backup.is_locked() {
        output::talk(
            "it is locked: controllers that start again wait for `swarmctl cluster unlock`",
        );
    }
    output::warn("its disks hold that cluster's secrets until `swarmctl lab down`");
}

/// Takes a lab down and leaves nothing of it, whatever state it is in.
pub(super) fn down(layout: &Layout) -> Result<(), Error> {
    let known = layout.state().exists() || layout.run().exists();
    if !known {
        return Err(Error::refused(
            format!("there is no lab `{}`", layout.lab),
            "see `swarmctl lab ls`",
        ));
    }
    remove(layout)?;
    let path = Contexts::default_path();
    let forget = || -> Result<(), crate::failure::Failure> {
        let mut contexts = Contexts::load(&path)?;
        if contexts.contexts.contains_key(&layout.lab) {
            contexts.remove(&layout.lab);
            contexts.save(&path)?;
        }
        Ok(())
    };
    forget().map_err(|failure| Error::refused(failure.message, failure.hint.unwrap_or_default()))
}

/// One `lab up` at a time for each lab.
fn take_turn(layout: &Layout) -> Result<File, Error> {
    let folder = layout.state();
    let file = File::open(&folder).map_err(Error::file("open", &folder))?;
    file.lock().map_err(Error::file("lock", &folder))?;
    Ok(file)
}

/// What the lab shall be: as asked, else as it was, else the defaults.
fn plan(layout: &Layout, options: &UpOptions, backup: Option<&Backup>) -> Result<Record, Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::refused(
            "a lab needs root: it makes namespaces",
            "try: sudo swarmctl lab up",
        ));
    }
    let present = Record::load(layout)?;
    let programs = match &options.programs {
        Some(folder) => fs::canonicalize(folder).map_err(Error::file("open", folder))?,
        None => own_folder()?,
    };
    check_programs(&programs)?;
    if let Some(backup) = backup {
        return plan_rehearsal(layout, options, backup, programs);
    }
    let hosts = options.hosts.or(present.as_ref().map(|record| record.hosts)).unwrap_or(3);
    let controllers = options.controllers.or(present.as_ref().map(|record| record.controllers));
    let controllers = controllers.unwrap_or(3.min(hosts));
    let mut record = Record {
        hosts,
        controllers,
        registry: find_registry(options.registry.as_deref(), &programs)?,
        programs,
        relay: options.relay.clone(),
        cuts: present.as_ref().map(|record| record.cuts.clone()).unwrap_or_default(),
        simulated: Vec::new(),
    };
    if let Some(present) = present {
        if !present.simulated.is_empty() {
            return check_same_size(layout, &record, present);
        }
        if options.registry.is_none() && record.registry.is_none() {
            record.registry = present.registry;
        }
        if options.relay.is_empty() {
            record.relay = present.relay;
        }
        check_growth(layout, &record, present.hosts, present.controllers)?;
    }
    check_size(&record)?;
    Ok(record)
}

/// What a lab shall be that plays a backup: always a new one.
fn plan_rehearsal(
    layout: &Layout,
    options: &UpOptions,
    backup: &Backup,
    programs: PathBuf,
) -> Result<Record, Error> {
    if Record::load(layout)?.is_some() {
        return Err(Error::refused(
            format!("there is a lab `{}` already", layout.lab),
            "a backup is played from its beginning: choose another --name, or throw that lab away with --fresh",
        ));
    }
    let (hosts, controllers) = backup.size();
    let simulated = backup.node_names();
    let hosts = options.hosts.unwrap_or(hosts);
    if usize::from(hosts) > simulated.len() {
        return Err(Error::refused(
            format!("{hosts} hosts cannot play {} nodes", simulated.len()),
            "each host plays at least one node of the backup: fewer --hosts",
        ));
    }
    let record = Record {
        hosts,
        controllers: options.controllers.unwrap_or(controllers.min(hosts)),
        programs,
        registry: None,
        relay: Vec::new(),
        cuts: BTreeSet::new(),
        simulated,
    };
    check_size(&record)?;
    Ok(record)
}

/// A lab that plays a backup stays as it was made: its nodes have their hosts.
fn check_same_size(layout: &Layout, asked: &Record, present: Record) -> Result<Record, Error> {
    if (asked.hosts, asked.controllers) == (present.hosts, present.controllers) {
        return Ok(Record { programs: asked.programs.clone(), ..present });
    }
    let Record { hosts, controllers, .. } = present;
    Err(Error::refused(
        format!(
            "the lab `{}` plays a backup with {hosts} hosts and {controllers} controllers",
            layout.lab
        ),
        "play it anew with other numbers: swarmctl lab up --from-backup FILE --fresh",
    ))
}

fn check_size(record: &Record) -> Result<(), Error> {
    let Record { hosts, controllers, .. } = *record;
    if hosts == 0 || hosts > MOST_HOSTS {
        return Err(Error::refused(
            format!("a lab cannot have {hosts} hosts"),
            format!("from 1 to {MOST_HOSTS} are possible"),
        ));
    }
    if controllers == 0 || controllers > hosts {
        return Err(Error::refused(
            format!("{controllers} controllers cannot be spread over {hosts} hosts"),
            "each controller has a host of its own: --controllers 1 up to the number of hosts",
        ));
    }
    Ok(())
}

fn check_growth(layout: &Layout, record: &Record, hosts: u8, controllers: u8) -> Result<(), Error> {
    if record.hosts >= hosts && record.controllers == controllers {
        return Ok(());
    }
    Err(Error::refused(
        format!("the lab `{}` has {hosts} hosts and {controllers} controllers", layout.lab),
        "hosts can be added, not taken away; --fresh makes it anew and throws its disks away",
    ))
}

fn own_folder() -> Result<PathBuf, Error> {
    let program = std::env::current_exe().map_err(Error::system("find the running program"))?;
    Ok(program.parent().unwrap_or(Path::new("/usr/bin")).to_owned())
}

fn check_programs(folder: &Path) -> Result<(), Error> {
    for name in ["swarm-controller", "swarm-agent", "swarm-runtime"] {
        if !folder.join(name).is_file() {
            return Err(Error::refused(
                format!("there is no `{name}` in `{}`", folder.display()),
                "build all programs: cargo build --release",
            ));
        }
    }
    Ok(())
}

fn describe(layout: &Layout, record: &Record) -> String {
    let registry = match &record.registry {
        Some(registry) => format!("a registry over {}", registry.storage.display()),
        None => "no registry".to_owned(),
    };
    format!(
        "lab `{}`: {} hosts, {} with a controller, {registry}",
        layout.lab, record.hosts, record.controllers
    )
}

/// Starts the programs of every host, and lets those join that do not belong to the cluster yet.
fn form_cluster(layout: &Layout, record: &Record) -> Result<(), Error> {
    let first = host_name(1);
    let strangers: Vec<u8> =
        (1..=record.hosts).filter(|number| !belongs(layout, &host_name(*number))).collect();
    if strangers.first() == Some(&1) {
        if strangers.len() < usize::from(record.hosts) {
            return Err(Error::refused(
                format!("{first} has lost its identity, the others have not"),
                "make the lab anew: swarmctl lab up --fresh",
            ));
        }
        let process = host::require_on(layout, &first)?;
        enter::output(process, &first, &[program(record, "swarm-controller"), "init".to_owned()])?;
    }
    let members = (1..=record.hosts).filter(|number| *number == 1 || !strangers.contains(number));
    for number in members {
        start_programs(layout, &host_name(number))?;
    }
    let joining: Vec<u8> = strangers.into_iter().filter(|number| *number != 1).collect();
    if joining.is_empty() {
        return Ok(());
    }
    let controller_token = token(layout, record, "controller")?;
    let agent_token = token(layout, record, "agent")?;
    // One after the other, so that node ids follow the hosts' numbers; it takes milliseconds each.
    for number in joining {
        let token = if number <= record.controllers { &controller_token } else { &agent_token };
        join(layout, record, number, token)?;
    }
    Ok(())
}

fn belongs(layout: &Layout, host: &str) -> bool {
    layout.host(host, "lib").join("identity/identity.json").is_file()
}

pub(super) fn program(record: &Record, name: &str) -> String {
    record.programs.join(name).display().to_string()
}

/// Starts all programs of a host that are not running.
pub(super) fn start_programs(layout: &Layout, name: &str) -> Result<(), Error> {
    for state in host::request(layout, name, &control::Request::List)? {
        host::start(layout, name, &state.name)?;
    }
    Ok(())
}

/// Asks the first controller for a token, as soon as it answers.
pub(super) fn token(layout: &Layout, record: &Record, role: &str) -> Result<String, Error> {
    let command = [program(record, "swarm-controller"), "token".to_owned(), role.to_owned()];
    let first = host_name(1);
    let process = host::require_on(layout, &first)?;
    let text = persist(|| enter::output(process, &first, &command))?;
    Ok(text.trim().to_owned())
}

/// Lets a host join, and starts its programs.
fn join(layout: &Layout, record: &Record, number: u8, token: &str) -> Result<(), Error> {
    let kind = if number <= record.controllers { "swarm-controller" } else { "swarm-agent" };
    let name = host_name(number);
    join_as(layout, record, number, (kind, token), || belongs(layout, &name))
}

/// Lets a host join by a program, unless it has, and starts its programs.
pub(super) fn join_as(
    layout: &Layout,
    record: &Record,
    number: u8,
    (kind, token): (&str, &str),
    has_joined: impl Fn() -> bool,
) -> Result<(), Error> {
    let name = host_name(number);
    let command = [
        program(record, kind),
        "join".to_owned(),
        "--token".to_owned(),
        token.to_owned(),
        format!("{}:2377", host_address(1)),
    ];
    let process = host::require_on(layout, &name)?;
    persist(|| {
        if has_joined() {
            return Ok(String::new());
        }
        enter::output(process, &name, &command).map_err(|error| without_token(error, token))
    })?;
    start_programs(layout, &name)
}

/// A token opens the cluster, so it is shown nowhere.
fn without_token(error: Error, token: &str) -> Error {
    match error {
        Error::Program { command, host, output } => Error::Program {
            command: command.replace(token, "TOKEN"),
            host,
            output: output.replace(token, "TOKEN"),
        },
        other => other,
    }
}

/// Tries again while the cluster is still finding itself.
pub(super) fn persist<T>(attempt: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    let end = Instant::now() + FORM_TIME;
    loop {
        match attempt() {
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(50)),
            Ok(value) => return Ok(value),
        }
    }
}

fn select_context(layout: &Layout, sockets: &[PathBuf]) -> Result<(), Error> {
    let path = Contexts::default_path();
    let hosts = sockets.iter().map(|socket| format!("unix://{}", socket.display())).collect();
    let select = || -> Result<(), crate::failure::Failure> {
        let mut contexts = Contexts::load(&path)?;
        contexts.select(&layout.lab, Context { hosts, identity: None });
        contexts.save(&path)
    };
    select().map_err(|failure| Error::refused(failure.message, failure.hint.unwrap_or_default()))
}

/// Ends everything of a lab and removes its files.
fn remove(layout: &Layout) -> Result<(), Error> {
    let mut names: Vec<String> = match Record::load(layout) {
        Ok(Some(record)) => record.host_names().collect(),
        _ => Vec::new(),
    };
    // A lab that was killed half way may have hosts that its record does not tell of.
    for folder in [layout.state(), layout.run()] {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = name.strip_suffix(".sock").unwrap_or(&name).to_owned();
            if super::layout::host_number(&name).is_some() && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    relay::stop(layout)?;
    for name in names {
        host::power_off(layout, &name)?;
    }
    host::power_off(layout, SWITCH)?;
    cgroup::remove(&format!("swarm-lab/{}", layout.lab))?;
    cgroup::remove_if_empty("swarm-lab")?;
    for folder in [layout.state(), layout.run()] {
        remove_folder(&folder)?;
    }
    for folder in [Layout::labs(), Layout::runs()] {
        // Other labs may live there.
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}
