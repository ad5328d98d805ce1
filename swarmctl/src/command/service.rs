//! `service`: one service of a stack.

mod change;
mod extensions;
mod flags;
mod piece;

pub(crate) use change::converge;

use std::time::Duration;

use swarm_proto::object::Service;
use swarm_proto::wire;

use super::{Call, Waiting, logs, now, ps, unknown};
use crate::connect::request_id;
use crate::failure::Failure;
use crate::output;
use crate::state::State;
use crate::view::{self, ServiceView, UpdateView};
use crate::wait::{self, Goal, Outcome};

/// What to do with services.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ServiceCommand {
    /// Lists services
    Ls,
    /// Lists the tasks of a service
    Ps {
        /// The service's full name
        service: String,
        /// Also tasks that ended
        #[arg(short, long)]
        all: bool,
    },
    /// Shows what the service's containers wrote
    Logs(logs::Logs),
    /// Sets how many tasks services have
    Scale {
        /// `<stack>_<service>=<replicas>`
        #[arg(required = true, value_parser = scale)]
        services: Vec<(String, u32)>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Makes a stack of one service
    Create(Box<change::Create>),
    /// Changes a service
    Update(Box<change::Update>),
    /// Brings a service's previous spec back
    Rollback {
        /// The service's full name
        service: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Stops a service's update where it is
    Pause {
        /// The service's full name
        service: String,
    },
    /// Lets a service's paused update go on
    Resume {
        /// The service's full name
        service: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Removes services; with its last one a stack goes
    Rm {
        /// The services' full names
        #[arg(required = true)]
        services: Vec<String>,
    },
    /// Shows everything about services
    Inspect {
        /// The services' full names
        #[arg(required = true)]
        services: Vec<String>,
    },
}

pub(crate) async fn run(command: ServiceCommand, call: &Call) -> Result<(), Failure> {
    match command {
        ServiceCommand::Ls => {
            let state = State::get(&call.cluster, call.stale).await?;
            let mut services: Vec<&Service> = state.services.values().collect();
            services.sort_by_key(|service| service.name());
            let views: Vec<ServiceView> =
                services.into_iter().map(|service| ServiceView::of(&state, service)).collect();
            output::data(&view::list(&views, call.format, now(state.clock))?);
        }
        ServiceCommand::Ps { service, all } => {
            let state = State::get(&call.cluster, call.stale).await?;
            let found = find(&state, &service)?;
            if let Some(sentence) = UpdateView::sentence(&state, found) {
                output::talk(&sentence);
            }
            ps::show(&state, Some(&service), all, call.format)?;
        }
        ServiceCommand::Logs(logs) => logs::run(&logs, call).await?,
        ServiceCommand::Scale { services, waiting } => scale_all(services, &waiting, call).await?,
        ServiceCommand::Create(create) => create.run(call).await?,
        ServiceCommand::Update(update) => update.run(call).await?,
        ServiceCommand::Rollback { service, waiting } => {
            change::roll_back(&service, &waiting, call).await?;
        }
        ServiceCommand::Pause { service } => change::pause(&service, call).await?,
        ServiceCommand::Resume { service, waiting } => {
            change::resume(&service, &waiting, call).await?;
        }
        ServiceCommand::Rm { services } => {
            for service in services {
                change::remove(&service, call).await?;
            }
        }
        ServiceCommand::Inspect { services } => {
            let state = State::get(&call.cluster, call.stale).await?;
            for name in services {
                let view = ServiceView::of(&state, find(&state, &name)?);
                output::data(&view::whole(&view, call.format)?);
            }
        }
    }
    Ok(())
}

fn find<'a>(state: &'a State, name: &str) -> Result<&'a Service, Failure> {
    let names: Vec<String> = state.services.values().map(Service::name).collect();
    state.service(name).ok_or_else(|| unknown("service", name, names.iter().map(String::as_str)))
}

async fn scale_all(
    services: Vec<(String, u32)>,
    waiting: &Waiting,
    call: &Call,
) -> Result<(), Failure> {
    for (service, replicas) in &services {
        let request = wire::ScaleServiceRequest {
            request_id: request_id()?,
            service: service.clone(),
            replicas: *replicas,
        };
        let answer = call
            .cluster
            .call(async |mut client| client.scale_service(request.clone()).await)
            .await?;
        let previous = answer.previous;
        if previous == *replicas {
            output::talk(&format!("service `{service}` has {replicas} replicas already"));
        } else {
            output::talk(&format!("service `{service}` scaled from {previous} to {replicas}"));
        }
    }
    if waiting.detach {
        return Ok(());
    }
    let goal = Goal::Services { replicas: services };
    match wait::until(&call.cluster, &goal, waiting.timeout, Duration::ZERO).await? {
        Outcome::Reached => {}
        Outcome::Detached => output::talk("detached: the scaling goes on"),
    }
    Ok(())
}

fn scale(text: &str) -> Result<(String, u32), String> {
    let wrong = || "write `<stack>_<service>=<replicas>`, such as `shop_web=3`".to_owned();
    let (service, replicas) = text.split_once('=').ok_or_else(wrong)?;
    let replicas = replicas.parse().map_err(|_| wrong())?;
    if service.is_empty() { Err(wrong()) } else { Ok((service.to_owned(), replicas)) }
}
