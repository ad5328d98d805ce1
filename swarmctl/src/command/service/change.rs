//! `service create`, `update`, `rollback`, `pause`, `resume` and `rm`.

use std::time::Duration;

use swarm_proto::spec::{ChangedField, Constraint, ServiceChange};
use swarm_proto::wire;

use super::flags::{Flags, only_service};
use crate::command::{Call, Waiting};
use crate::connect::request_id;
use crate::failure::Failure;
use crate::output;
use crate::wait::{self, Goal, Outcome};

/// Makes a stack of one service, both of one name: the service's full name is `<name>_<name>`.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// The name of the stack, and of the service in it
    #[arg(long)]
    name: String,
    #[command(flatten)]
    flags: Flags,
    /// The image
    image: String,
    /// The containers' command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    #[command(flatten)]
    waiting: Waiting,
}

/// Changes parts of a service: a new revision of its stack, which the stack's file knows nothing of.
#[derive(Debug, clap::Args)]
pub(crate) struct Update {
    /// The service's full name
    service: String,
    /// Another image
    #[arg(long)]
    image: Option<String>,
    /// Another command of the containers
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    args: Option<String>,
    /// New tasks, even if nothing changes
    #[arg(long)]
    force: bool,
    /// Bring the previous spec back instead, as `service rollback` does
    #[arg(long)]
    rollback: bool,
    /// A variable to take away
    #[arg(long, value_name = "KEY")]
    env_rm: Vec<String>,
    /// A label of the service to take away
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// A label of the containers to take away
    #[arg(long, value_name = "KEY")]
    container_label_rm: Vec<String>,
    /// A constraint to take away
    #[arg(long, value_name = "CONSTRAINT")]
    constraint_rm: Vec<String>,
    /// The port in the container that is published no more
    #[arg(long, value_name = "PORT")]
    publish_rm: Vec<u16>,
    /// The place in the container at which nothing is mounted any more
    #[arg(long, value_name = "TARGET")]
    mount_rm: Vec<String>,
    /// A kind of generic resources that is asked for no more
    #[arg(long, value_name = "KIND")]
    generic_resource_rm: Vec<String>,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    waiting: Waiting,
}

impl Create {
    pub(crate) async fn run(self, call: &Call) -> Result<(), Failure> {
        if !swarm_manifests::is_stack_name(&self.name) {
            return Err(Failure::usage(format!("`{}` cannot be a stack's name", self.name)).hint(
                "use lower-case letters, digits, `-` and `_`, at most 63, first a letter or digit",
            ));
        }
        let words = self.command.iter().map(|word| word.replace('$', "$$"));
        let command = (!self.command.is_empty()).then(|| words.collect());
        let (mut stack, _) = self.flags.read(&self.name, &self.image, command)?;
        let services = std::mem::take(&mut stack.services).into_values();
        stack.services = services.map(|service| (self.name.clone(), service)).collect();
        let name = format!("{0}_{0}", self.name);
        let state = crate::state::State::get(&call.cluster, false).await?;
        if state.stacks.contains_key(&self.name) {
            return Err(Failure::refused(format!("stack `{}` exists already", self.name))
                .hint(format!("`swarmctl service update {name}` changes its service")));
        }
        let request = wire::DeployRequest {
            request_id: request_id()?,
            stack: Some((&stack).into()),
            prune: false,
        };
        let answer =
            call.cluster.call(async |mut client| client.deploy(request.clone()).await).await?;
        tell(&name, &answer.changes, &answer.warnings, answer.changed);
        converge(&name, &self.waiting, call).await
    }
}

impl Update {
    pub(crate) async fn run(self, call: &Call) -> Result<(), Failure> {
        let change = self.change()?;
        if self.rollback {
            if change.is_some() {
                return Err(Failure::usage("`--rollback` goes with no other change"));
            }
            return roll_back(&self.service, &self.waiting, call).await;
        }
        let Some(change) = change else {
            return Err(Failure::usage("nothing is to be changed")
                .hint("`--force` makes new tasks without a change"));
        };
        let request = wire::UpdateServiceRequest {
            request_id: request_id()?,
            service: self.service.clone(),
            change: Some((&change).into()),
        };
        let answer = call
            .cluster
            .call(async |mut client| client.update_service(request.clone()).await)
            .await?;
        tell(&self.service, &answer.changes, &answer.warnings, answer.changed);
        converge(&self.service, &self.waiting, call).await
    }

    /// What the flags ask for; `None` for nothing.
    fn change(&self) -> Result<Option<ServiceChange>, Failure> {
        // Another image's name would be asked for; this one only has to be a name.
        let image = self.image.as_deref().unwrap_or("unchanged");
        let command = self.args.as_deref().map(|args| args.replace('$', "$$").into());
        let (mut values, fields) = self.flags.read_change(image, command)?;
        values.networks.clear();
        let mut change = ServiceChange::new(values);
        change.fields.extend(fields);
        change.fields.extend(self.image.as_ref().map(|_| ChangedField::Image));
        change.fields.extend(self.args.as_ref().map(|_| ChangedField::Args));
        change.remove_environment.clone_from(&self.env_rm);
        change.remove_labels.clone_from(&self.label_rm);
        change.remove_container_labels.clone_from(&self.container_label_rm);
        change.remove_constraints = constraints(&self.constraint_rm)?;
        change.remove_ports.clone_from(&self.publish_rm);
        change.remove_mounts.clone_from(&self.mount_rm);
        let kinds = self.generic_resource_rm.iter().map(|kind| kind.to_ascii_lowercase());
        change.remove_resources = kinds.collect();
        change.force = self.force;
        let nothing = ServiceChange::new(change.values.clone());
        let adds = {
            let (values, container) = (&change.values, &change.values.container);
            !values.labels.is_empty()
                || !values.ports.is_empty()
                || !values.placement.constraints.is_empty()
                || !container.environment.is_empty()
                || !container.labels.is_empty()
                || !container.mounts.is_empty()
                || !container.resources.requests.is_empty()
        };
        Ok((adds || change != nothing).then_some(change))
    }
}

/// Constraints to take away, read as those to add are.
fn constraints(words: &[String]) -> Result<Vec<Constraint>, Failure> {
    let flags = Flags::of_constraints(words);
    let (stack, _) = flags.read("unchanged", "unchanged", None)?;
    Ok(only_service(stack)?.placement.constraints)
}

/// Brings a service's previous spec back.
pub(super) async fn roll_back(
    service: &str,
    waiting: &Waiting,
    call: &Call,
) -> Result<(), Failure> {
    let request =
        wire::RollBackServiceRequest { request_id: request_id()?, service: service.to_owned() };
    let answer = call
        .cluster
        .call(async |mut client| client.roll_back_service(request.clone()).await)
        .await?;
    tell(service, &answer.changes, &answer.warnings, answer.changed);
    converge(service, waiting, call).await
}

/// Stops a service's update where it is.
pub(super) async fn pause(service: &str, call: &Call) -> Result<(), Failure> {
    let request = wire::PauseServiceRequest {
        request_id: request_id()?,
        service: service.to_owned(),
        resume: false,
    };
    call.cluster.call(async |mut client| client.pause_service(request.clone()).await).await?;
    output::talk(&format!("the update of service `{service}` is paused"));
    Ok(())
}

/// Lets a service's paused update go on.
pub(super) async fn resume(service: &str, waiting: &Waiting, call: &Call) -> Result<(), Failure> {
    let request = wire::PauseServiceRequest {
        request_id: request_id()?,
        service: service.to_owned(),
        resume: true,
    };
    call.cluster.call(async |mut client| client.pause_service(request.clone()).await).await?;
    output::talk(&format!("the update of service `{service}` goes on"));
    converge(service, waiting, call).await
}

/// Takes a service out of its stack.
pub(super) async fn remove(service: &str, call: &Call) -> Result<(), Failure> {
    let request =
        wire::RemoveServiceRequest { request_id: request_id()?, service: service.to_owned() };
    call.cluster.call(async |mut client| client.remove_service(request.clone()).await).await?;
    output::talk(&format!("service `{service}` is being removed"));
    Ok(())
}

fn tell(service: &str, changes: &[String], warnings: &[String], changed: bool) {
    for change in changes {
        output::talk(change);
    }
    for warning in warnings {
        output::warn(warning);
    }
    if !changed {
        output::talk(&format!("service `{service}` is unchanged"));
    }
}

/// Waits until a service's update has ended, which includes the time for which its last task is watched.
pub(crate) async fn converge(service: &str, waiting: &Waiting, call: &Call) -> Result<(), Failure> {
    if waiting.detach {
        return Ok(());
    }
    let goal = Goal::Update { service: service.to_owned() };
    match wait::until(&call.cluster, &goal, waiting.timeout, Duration::ZERO).await? {
        Outcome::Reached => {}
        Outcome::Detached => output::talk(&format!(
            "detached: the update goes on; see `swarmctl service ps {service}`"
        )),
    }
    Ok(())
}
