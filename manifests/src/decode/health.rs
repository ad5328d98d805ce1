//! `healthcheck` and `x-swarm: health`, and hooks in a container's life.

use std::time::Duration;

use swarm_proto::spec::{HealthCheck, HealthTest, Hook, HttpCheck};

use super::container::{user, words, working_dir};
use super::{Decoder, Fields};
use crate::keys::{HEALTH_HTTP, HEALTH_TCP, HEALTHCHECK, HOOK, X_SWARM_HEALTH};
use crate::tree::{Data, Node};

/// The check of a service; `None` leaves it to the image.
pub(super) fn health(d: &Decoder<'_>, fields: &Fields<'_>) -> Option<HealthCheck> {
    let mut check = fields.get("healthcheck").and_then(|node| healthcheck(d, node));
    let own = fields.get("x-swarm").and_then(|node| Fields::of(node).get("health"));
    if let Some(node) = own
        && let Some(test) = by_agent(d, node)
    {
        let check = check.get_or_insert_default();
        if check.test.is_some() {
            let message = "`healthcheck` says already how health is looked at";
            let hint = "keep its times there, and remove its `test` and `disable`";
            d.problems.error_hint(node.at, message, hint);
        }
        check.test = Some(test);
    }
    check.filter(|check| *check != HealthCheck::default())
}

fn healthcheck(d: &Decoder<'_>, node: &Node) -> Option<HealthCheck> {
    let fields = d.fields(node, "`healthcheck`", &HEALTHCHECK)?;
    let disabled = fields.get("disable").and_then(|node| d.boolean(node, "disable")) == Some(true);
    let test = fields.get("test");
    let test = match (test, disabled) {
        (Some(_), true) => {
            let hint = "keep one of them";
            let message = "`disable` and `test` cannot be used together";
            d.problems.error_hint(fields.key_at("disable"), message, hint);
            None
        }
        (None, true) => Some(HealthTest::None),
        (Some(node), false) => self::test(d, node),
        (None, false) => None,
    };
    let time = |key| fields.get(key).and_then(|node| time(d, node, key));
    let retries = fields.get("retries").and_then(|node| d.count(node, "retries", u32::MAX));
    Some(HealthCheck {
        test,
        interval: time("interval"),
        timeout: time("timeout"),
        // As in Docker, nothing is the image's own.
        retries: retries.filter(|retries| *retries > 0),
        start_period: time("start_period"),
        start_interval: time("start_interval"),
    })
}

/// A text for the shell, or a list that begins with what it is.
fn test(d: &Decoder<'_>, node: &Node) -> Option<HealthTest> {
    if let Data::Scalar { text, .. } = &node.data {
        return Some(HealthTest::Shell(text.clone()));
    }
    let words = d.texts(node, "test")?;
    let (kind, rest) = match words.split_first() {
        Some((kind, rest)) => (kind.as_str(), rest),
        None => return None,
    };
    match (kind, rest) {
        ("NONE", []) => Some(HealthTest::None),
        ("CMD", [program, ..]) if !program.is_empty() => Some(HealthTest::Command(rest.to_vec())),
        ("CMD-SHELL", [line]) => Some(HealthTest::Shell(line.clone())),
        _ => {
            let wanted = "`[NONE]`, `[CMD, program, …]` or `[CMD-SHELL, line]`";
            let hint = "a text alone is a line for the container's shell";
            let message = format!("`test` must be {wanted}");
            d.problems.error_hint(node.at, message, hint);
            None
        }
    }
}

/// A duration of at least a millisecond; nothing is the image's own.
fn time(d: &Decoder<'_>, node: &Node, name: &str) -> Option<Duration> {
    let found = d.duration(node, name)?;
    if !found.is_zero() && found < HealthCheck::SHORTEST {
        d.expected(node, name, "at least `1ms`", "");
        return None;
    }
    Some(found).filter(|found| !found.is_zero())
}

/// A check that the agent makes itself.
fn by_agent(d: &Decoder<'_>, node: &Node) -> Option<HealthTest> {
    let fields = d.fields(node, "`health` of `x-swarm`", &X_SWARM_HEALTH)?;
    match (fields.get("http"), fields.get("tcp")) {
        (Some(node), None) => http(d, node).map(HealthTest::Http),
        (None, Some(node)) => {
            let fields = d.fields(node, "`tcp`", &HEALTH_TCP)?;
            port(d, node, &fields).map(HealthTest::Tcp)
        }
        (None, None) => None,
        (Some(_), Some(tcp)) => {
            let message = "health is looked at over `http` or over `tcp`, not both";
            d.problems.error_hint(tcp.at, message, "remove one of them");
            None
        }
    }
}

fn port(d: &Decoder<'_>, node: &Node, fields: &Fields<'_>) -> Option<u16> {
    let Some(port) = fields.get("port") else {
        d.problems.error_hint(node.at, "there is no `port`", "name the port in the container");
        return None;
    };
    u16::try_from(d.integer(port, "port", 1..=65_535)?).ok()
}

fn http(d: &Decoder<'_>, node: &Node) -> Option<HttpCheck> {
    let fields = d.fields(node, "`http`", &HEALTH_HTTP)?;
    let port = port(d, node, &fields);
    let path = match fields.get("path") {
        None => "/".to_owned(),
        Some(node) => {
            let text = d.text(node, "path")?;
            if !text.starts_with('/') || !text.bytes().all(|c| c.is_ascii_graphic()) {
                d.expected(node, "path", "a path such as `/health`", "start it with `/`");
                return None;
            }
            text.to_owned()
        }
    };
    let (lowest_status, highest_status) = match fields.get("status") {
        None => HttpCheck::STATUSES,
        Some(node) => statuses(d, node)?,
    };
    Some(HttpCheck { port: port?, path, lowest_status, highest_status })
}

/// One status, or the first and the last of several.
fn statuses(d: &Decoder<'_>, node: &Node) -> Option<(u16, u16)> {
    let text = d.scalar(node, "status")?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.parse::<u16>().ok().filter(|n| (100..600).contains(n));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Some((first, last)),
        _ => {
            d.expected(node, "status", "a status such as `204`, or `200-299`", "");
            None
        }
    }
}

/// What is run in a container before the stop signal.
pub(super) fn hooks(d: &Decoder<'_>, node: &Node, name: &str) -> Vec<Hook> {
    let items = d.list(node, name).unwrap_or_default();
    items.iter().filter_map(|item| hook(d, item, name)).collect()
}

fn hook(d: &Decoder<'_>, node: &Node, name: &str) -> Option<Hook> {
    let fields = d.fields(node, &format!("a command of `{name}`"), &HOOK)?;
    let Some(command) = fields.get("command") else {
        let message = format!("a command of `{name}` has no `command`");
        d.problems.error_hint(node.at, message, "say what to run");
        return None;
    };
    let command = words(d, command, "command")?;
    if command.first().is_none_or(String::is_empty) {
        d.problems.error_hint(node.at, "`command` is empty", "say what to run");
        return None;
    }
    let environment = fields.get("environment");
    let environment = environment.and_then(|node| d.assignments(node, "environment"));
    let value = |(key, value): (crate::tree::Key, Option<String>)| {
        let value = value.or_else(|| d.vars.get(&key.text).cloned())?;
        Some((key.text, value))
    };
    Some(Hook {
        command,
        user: fields.get("user").and_then(|node| user(d, node)),
        working_dir: fields.get("working_dir").and_then(|node| working_dir(d, node)),
        environment: environment.unwrap_or_default().into_iter().filter_map(value).collect(),
    })
}
