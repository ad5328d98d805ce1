//! The commands, one file for each noun.

mod autoscale;
mod build;
mod builder;
mod cluster;
mod config;
mod content;
mod context;
mod deploy;
mod doctor;
mod events;
mod exec;
mod files;
mod host;
mod image;
mod job;
mod login;
mod logs;
mod network;
mod node;
mod plan;
mod promote;
mod ps;
mod rebalance;
mod run;
mod service;
mod stack;
mod version;
mod volume;
mod why;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use swarm_proto::id::Timestamp;
use swarm_proto::spec::ContentKind;

use crate::connect::{Cluster, Target};
use crate::context::Contexts;
use crate::failure::Failure;
use crate::local::Local;
use crate::output::Format;

/// What to do with a cluster.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Deploys a stack file and waits until it runs
    Deploy(deploy::Deploy),
    /// Says what a deploy would bring about, and which tasks it would take places from
    Plan(plan::Plan),
    /// Prints what stack files say, with no cluster; or keeps configs that belong to no stack
    Config(config::Config),
    /// Secrets
    #[command(subcommand)]
    Secret(content::ContentCommand),
    /// Lists tasks of everything, a stack, a service or a node
    Ps(ps::Ps),
    /// Says why a task is where it is, waits, or was ended
    Why(why::Why),
    /// Shows what a service's or task's containers wrote
    Logs(logs::Logs),
    /// Runs a program in the container of a running task
    Exec(exec::Exec),
    Build(build::Build),
    /// Stacks
    #[command(subcommand)]
    Stack(stack::StackCommand),
    /// Services
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Lets updates that hold with their canary go on
    Promote(promote::Promote),
    Rebalance(rebalance::Rebalance),
    /// Shows services whose number of tasks follows what is measured
    Autoscale(autoscale::Autoscale),
    /// Services that run until they complete
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Runs one task with a service's spec, beside the service's own
    Run(run::Run),
    /// The controllers, and the cluster as a whole
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// This host, as a member of a cluster
    #[command(subcommand)]
    Host(host::HostCommand),
    /// Nodes
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Named volumes
    #[command(subcommand)]
    Volume(volume::VolumeCommand),
    /// Overlay networks
    #[command(subcommand)]
    Network(network::NetworkCommand),
    /// Images on the nodes
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// What builds leave on the nodes
    #[command(subcommand)]
    Builder(builder::BuilderCommand),
    Login(login::Login),
    Logout(login::Logout),
    /// Tells what happened lately
    Events(events::Events),
    /// Compares what is wished, what the controllers hold and what the hosts hold
    Doctor,
    /// Shows the versions of swarmctl and of the controller
    Version,
    /// Named clusters
    #[command(subcommand)]
    Context(context::ContextCommand),
}

/// What every command gets.
pub(crate) struct Call {
    pub(crate) cluster: Cluster,
    pub(crate) format: Format,
    pub(crate) stale: bool,
}

/// How long a command waits for the cluster to be as wished.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Waiting {
    /// Return at once, do not wait until it is done
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// How long to wait
    #[arg(long, default_value = "10m", value_parser = duration, value_name = "DURATION")]
    pub(crate) timeout: Duration,
}

/// Runs one command to its end.
pub(crate) fn run(
    command: Command,
    target: &Target,
    format: Format,
    stale: bool,
) -> Result<ExitCode, Failure> {
    let contexts = Contexts::default_path();
    if let Command::Context(command) = command {
        return context::run(command, &contexts, target.identity.clone(), format);
    }
    let Some(command) = run_here(command, format)? else { return Ok(ExitCode::SUCCESS) };
    swarm_proto::transport::install_crypto_provider();
    let runtime = runtime()?;
    let cluster = match Cluster::of(target, &contexts) {
        Err(failure) if matches!(command, Command::Version) => {
            return version::client_only(format, failure);
        }
        cluster => cluster?,
    };
    let call = Call { cluster, format, stale };
    runtime.block_on(dispatch(command, &call))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::refused(format!("cannot start: {error}")))
}

/// Runs a command on what this host's agent alone knows.
pub(crate) fn run_locally(
    command: Command,
    socket: &Path,
    format: Format,
) -> Result<ExitCode, Failure> {
    if !matches!(command, Command::Ps(_) | Command::Logs(_) | Command::Exec(_)) {
        return Err(Failure::usage("`--local` goes with `ps`, `logs` and `exec` only")
            .hint("one host knows only its own tasks: ask a controller, perhaps with `--stale`"));
    }
    runtime()?.block_on(async {
        let mut agent = Local::at(socket).await?;
        match command {
            Command::Ps(ps) => ps::run_locally(&ps, &mut agent, format).await?,
            Command::Logs(logs) => logs::run_locally(&logs, &mut agent, format).await?,
            Command::Exec(exec) => return exec::run_locally(&exec, &mut agent).await,
            _ => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs what needs no cluster; gives back what does.
fn run_here(command: Command, format: Format) -> Result<Option<Command>, Failure> {
    Ok(match command {
        Command::Config(config) if config.objects.is_none() => {
            config::run(&config.resolve, format)?;
            None
        }
        Command::Build(build) if build.check => {
            build::check(&build, format)?;
            None
        }
        Command::Stack(command) => stack::run_here(command, format)?.map(Command::Stack),
        Command::Cluster(command) => cluster::run_here(command)?.map(Command::Cluster),
        Command::Host(command) => host::run_here(command)?.map(Command::Host),
        other => Some(other),
    })
}

async fn dispatch(command: Command, call: &Call) -> Result<ExitCode, Failure> {
    match command {
        Command::Deploy(deploy) => deploy::run(deploy, call).await?,
        Command::Plan(plan) => plan::run(plan, call).await?,
        Command::Ps(ps) => ps::run(&ps, call).await?,
        Command::Why(why) => why::run(&why, call).await?,
        Command::Logs(logs) => logs::run(&logs, call).await?,
        Command::Exec(exec) => return exec::run(&exec, call).await,
        Command::Build(build) => build::run(&build, call).await?,
        Command::Stack(command) => stack::run(command, call).await?,
        Command::Service(command) => service::run(command, call).await?,
        Command::Promote(promote) => promote.run(call).await?,
        Command::Rebalance(rebalance) => rebalance.run(call).await?,
        Command::Autoscale(autoscale) => autoscale.run(call).await?,
        Command::Job(command) => job::run(command, call).await?,
        Command::Run(run) => return run::run(run, call).await,
        Command::Cluster(command) => cluster::run(command, call).await?,
        Command::Host(command) => host::run(command, call).await?,
        Command::Node(command) => node::run(command, call).await?,
        Command::Volume(command) => volume::run(command, call).await?,
        Command::Network(command) => network::run(command, call).await?,
        Command::Image(command) => image::run(command, call).await?,
        Command::Builder(command) => builder::run(command, call).await?,
        Command::Login(login) => login::log_in(login, call).await?,
        Command::Logout(logout) => login::log_out(logout, call).await?,
        Command::Events(events) => events::run(&events, call).await?,
        Command::Doctor => return doctor::run(call).await,
        Command::Version => version::run(call).await?,
        Command::Secret(command) => content::run(ContentKind::Secret, command, call).await?,
        Command::Config(config) => {
            if let Some(command) = config.objects {
                content::run(ContentKind::Config, command, call).await?;
            }
        }
        Command::Context(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Now, for ages: this machine's clock, or the cluster's when that is ahead.
pub(crate) fn now(clock: Timestamp) -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    clock.max(Timestamp::default().after(since_epoch))
}

/// A label as an option gives it.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err("write a label as `key=value`".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// A duration as in stack files.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    swarm_manifests::parse_duration(text)
        .ok_or_else(|| "write a duration such as `90s` or `10m`".to_owned())
}

/// That there is no such object, with the nearest that there is.
pub(crate) fn unknown<'a>(
    kind: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Failure {
    let failure = Failure::refused(format!("{kind} `{name}` does not exist"));
    match swarm_manifests::nearest(name, known) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => failure.hint(format!("see `swarmctl {kind} ls`")),
    }
}
