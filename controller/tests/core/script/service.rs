//! Commands about one service, and what became of its update.

use std::fmt::Write as _;

use swarm_controller::core::{Command, State};
use swarm_proto::object::{Switch, UpdateStatus};
use swarm_proto::spec::{ChangedField, ServiceChange, ServiceMode};

use crate::spec;

/// `service update shop_web image=2 env=A=1 env-rm=B force`, `service pause shop_web` and the like.
pub(super) fn command(verb: &str, service: &str, more: &[&str]) -> Command {
    let service = service.to_owned();
    match verb {
        "update" => Command::ChangeService { service, change: Box::new(change(more)) },
        "rollback" => Command::RollBackService { service },
        "pause" => Command::PauseService { service },
        "resume" => Command::ResumeService { service },
        "promote" => Command::PromoteService { service },
        "rm" => Command::RemoveService { service },
        other => panic!("unknown verb {other}"),
    }
}

fn change(options: &[&str]) -> ServiceChange {
    let mut values = spec::service("");
    values.networks.clear();
    let mut change = ServiceChange::new(values);
    for option in options {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "image" => {
                change.values.container.image = spec::service(option).container.image;
                change.fields.insert(ChangedField::Image);
            }
            "replicas" => {
                change.values.mode = ServiceMode::Replicated { replicas: value.parse().unwrap() };
                change.fields.insert(ChangedField::Replicas);
            }
            "env" => {
                let (key, value) = value.split_once('=').unwrap();
                let environment = &mut change.values.container.environment;
                environment.insert(key.to_owned(), Some(value.to_owned()));
            }
            "env-rm" => change.remove_environment.push(value.to_owned()),
            "force" => change.force = true,
            other => panic!("unknown change {other}"),
        }
    }
    change
}

fn is_switched(update: &UpdateStatus) -> bool {
    matches!(update.switch, Switch::Done(_))
}

/// The updates that stand elsewhere than before.
pub(super) fn updates(before: &State, after: &State) -> String {
    let mut text = String::new();
    let shown =
        |update: &UpdateStatus| (update.number, update.state, update.failures, is_switched(update));
    for (id, service) in &after.services {
        let old = before.services.get(id).and_then(|service| service.update.as_ref()).map(shown);
        let Some(update) = service.update.as_ref().filter(|new| Some(shown(new)) != old) else {
            continue;
        };
        let _ = write!(text, "  service {} {}", service.name(), update.state);
        if update.state.is_under_way() {
            let _ = write!(text, ", {} of {} failed", update.failures, update.slots);
        }
        if is_switched(update) {
            text.push_str(", switched");
        }
        if !update.message.is_empty() {
            let _ = write!(text, ": {}", update.message);
        }
        text.push('\n');
    }
    text
}
