//! A service's health check, and hooks.

use swarm_proto::spec::{
    Dependency, DependencyCondition, HealthCheck, HealthTest, Hook, HttpCheck,
};

use super::{Pairs, list, text};
use crate::value::Value;

/// What compose has a key for.
pub(super) fn healthcheck(check: Option<&HealthCheck>) -> Option<Value> {
    let HealthCheck { test, interval, timeout, retries, start_period, start_interval } = check?;
    let named = |kind: &str, words: &[String]| {
        let words = words.iter().map(|word| text(word));
        Value::List([Value::text(kind)].into_iter().chain(words).collect())
    };
    let (mut disable, mut written) = (false, None);
    match test {
        Some(HealthTest::None) => disable = true,
        Some(HealthTest::Command(words)) => written = Some(named("CMD", words)),
        Some(HealthTest::Shell(line)) => {
            written = Some(named("CMD-SHELL", std::slice::from_ref(line)));
        }
        // Below `x-swarm`.
        Some(HealthTest::Http(_) | HealthTest::Tcp(_)) | None => {}
    }
    let mut pairs = Pairs::default();
    pairs.put("test", &written);
    pairs.put("disable", &disable);
    pairs.put("interval", interval);
    pairs.put("timeout", timeout);
    pairs.put("retries", retries);
    pairs.put("start_period", start_period);
    pairs.put("start_interval", start_interval);
    pairs.into_some()
}

/// What it has none for.
pub(super) fn by_agent(check: Option<&HealthCheck>) -> Option<Value> {
    let mut pairs = Pairs::default();
    match check?.test.as_ref()? {
        HealthTest::Http(check) => pairs.put("http", &http(check)),
        HealthTest::Tcp(port) => {
            pairs.put("tcp", &Value::map([("port", Value::Integer((*port).into()))]));
        }
        HealthTest::None | HealthTest::Command(_) | HealthTest::Shell(_) => {}
    }
    pairs.into_some()
}

fn http(check: &HttpCheck) -> Value {
    let HttpCheck { port, path, lowest_status, highest_status } = check;
    let statuses = (*lowest_status, *highest_status);
    let status = match statuses {
        HttpCheck::STATUSES => None,
        (one, other) if one == other => Some(Value::Integer(one.into())),
        (first, last) => Some(Value::text(format!("{first}-{last}"))),
    };
    let mut pairs = Pairs::default();
    pairs.put("port", port);
    pairs.put("path", path);
    pairs.put("status", &status);
    pairs.into_value()
}

pub(super) fn hooks(hooks: &[Hook]) -> Option<Value> {
    let hook = |Hook { command, user, working_dir, environment }: &Hook| {
        let mut pairs = Pairs::default();
        pairs.put("command", &list(command));
        pairs.put("user", user);
        pairs.put("working_dir", working_dir);
        pairs.put("environment", environment);
        pairs.into_value()
    };
    (!hooks.is_empty()).then(|| Value::List(hooks.iter().map(hook).collect()))
}

/// A list of names where that says everything.
pub(super) fn depends_on(dependencies: &[Dependency]) -> Option<Value> {
    let plain = dependencies.iter().all(|one| *one == Dependency::started(&one.service));
    if plain {
        let names: Vec<String> = dependencies.iter().map(|one| one.service.clone()).collect();
        return (!names.is_empty()).then(|| list(&names));
    }
    let dependency = |Dependency { service, condition, restart }: &Dependency| {
        let word = match condition {
            DependencyCondition::Started => "service_started",
            DependencyCondition::Healthy => "service_healthy",
            DependencyCondition::Completed => "service_completed_successfully",
        };
        let mut pairs = Pairs::default();
        pairs.put("condition", &Value::text(word));
        pairs.put("restart", restart);
        (service.clone(), pairs.into_value())
    };
    Some(Value::map(dependencies.iter().map(dependency)))
}
