//! Whether a service's container can be as its spec says, and what it may wait for.

use std::collections::BTreeSet;

use swarm_proto::spec::{
    Amount, ContainerSpec, HealthCheck, HealthTest, Logging, NetworkMode, ResourceRequest,
    ServiceSpec, StackSpec,
};
use swarm_proto::template::Template;

use crate::core::command::Refusal;

/// What the kernel takes for a domain's name.
const LONGEST_DOMAIN: usize = 64;
const LAST_FACILITY: u8 = 23;

/// Checks what only this service's container is about.
pub(super) fn check(key: &str, service: &ServiceSpec) -> Result<(), Refusal> {
    let container = &service.container;
    let shared = match container.sharing.network {
        NetworkMode::Own => None,
        NetworkMode::Host => Some("the host's network"),
        NetworkMode::None => Some("no network"),
    };
    if let Some(network) = shared
        && !(service.networks.is_empty() && service.ports.is_empty())
    {
        return Err(Refusal::invalid(
            format!("service `{key}` has {network}, and networks or ports of its own"),
            "remove `networks` and `ports`, or `network_mode`",
        ));
    }
    if let Some(wrong) = wrong_value(container) {
        return Err(Refusal::invalid(format!("{wrong} of service `{key}` is not possible"), ""));
    }
    Ok(())
}

/// The first value that no host could give a container.
fn wrong_value(container: &ContainerSpec) -> Option<String> {
    let plain = |text: &String| !text.is_empty() && text.bytes().all(|c| c.is_ascii_graphic());
    let dns = &container.dns;
    if let Some(word) = dns.search.iter().chain(&dns.options).find(|word| !plain(word)) {
        return Some(format!("`{word}` in `dns_search` or `dns_opt`"));
    }
    let names = container.extra_hosts.keys().chain(container.extra_hosts_v6.keys());
    if let Some(name) = names.into_iter().find(|name| !plain(name)) {
        return Some(format!("the name `{name}` in `extra_hosts`"));
    }
    let domain = container.domainname.as_ref();
    if let Some(domain) = domain.filter(|name| !plain(name) || name.len() > LONGEST_DOMAIN) {
        return Some(format!("the domain `{domain}`"));
    }
    if let Some(number) = container.oom_score_adj.filter(|n| !(-1000..=1000).contains(n)) {
        return Some(format!("`oom_score_adj` {number}"));
    }
    if let Some(wrong) = requests(&container.resources.requests) {
        return Some(wrong);
    }
    if let Some(wrong) = container.health.as_ref().and_then(health) {
        return Some(wrong);
    }
    if container.pre_stop.iter().any(|hook| hook.command.is_empty()) {
        return Some("a hook without a command".to_owned());
    }
    logging(&container.logging)
}

/// The first request for resources that no node could ever meet, or of which nobody could tell what is meant.
fn requests(requests: &[ResourceRequest]) -> Option<String> {
    for (position, request) in requests.iter().enumerate() {
        let ResourceRequest { kind, amount, .. } = request;
        if requests[..position].iter().any(|other| other.kind == *kind) {
            return Some(format!("two requests for `{kind}`"));
        }
        let is_word = kind.bytes().all(|c| c.is_ascii_graphic() && !b"=,`".contains(&c));
        let is_kind = if request.is_device() { kind == ResourceRequest::GPU } else { is_word };
        if kind.is_empty() || !is_kind {
            return Some(format!("the kind `{kind}` of resources"));
        }
        let is_possible = match amount {
            Amount::Count(count) => *count > 0,
            Amount::All => request.is_device(),
            Amount::Ids(ids) => {
                let different: BTreeSet<&String> = ids.iter().collect();
                request.is_device() && !ids.is_empty() && different.len() == ids.len()
            }
        };
        if !is_possible {
            return Some(format!("the number or names of `{kind}`"));
        }
    }
    None
}

fn health(check: &HealthCheck) -> Option<String> {
    let times =
        [check.interval, check.timeout, check.start_period, check.start_interval].into_iter();
    if let Some(time) = times.flatten().find(|time| *time < HealthCheck::SHORTEST) {
        return Some(format!("a health check's duration of {time:?}"));
    }
    let test = match check.test.as_ref()? {
        HealthTest::Command(words) if words.first().is_none_or(String::is_empty) => "no command",
        HealthTest::Tcp(0) => "port 0",
        HealthTest::Http(http) if http.port == 0 => "port 0",
        HealthTest::Http(http) if !is_path(&http.path) => "a path that is none",
        HealthTest::Http(http) if http.lowest_status > http.highest_status => "no status",
        _ => return None,
    };
    Some(format!("a health check with {test}"))
}

/// Whether a text may stand in a request's first line.
fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|c| c.is_ascii_graphic())
}

fn logging(logging: &Logging) -> Option<String> {
    let tag = logging.tag.as_ref();
    if let Some(tag) = tag.filter(|tag| Template::parse(tag, &Logging::TAG_FIELDS).is_err()) {
        return Some(format!("the tag `{tag}`"));
    }
    if let Some(number) = logging.syslog.facility.filter(|number| *number > LAST_FACILITY) {
        return Some(format!("`syslog-facility` {number}"));
    }
    let none = logging.max_files == Some(0) || logging.max_bytes == Some(0);
    none.then(|| "a log without room".to_owned())
}

/// Refuses services that wait for what the stack does not have, or for each other.
pub(super) fn check_dependencies(spec: &StackSpec) -> Result<(), Refusal> {
    for (key, service) in &spec.services {
        if let Some(missing) =
            service.depends_on.iter().find(|one| !spec.services.contains_key(&one.service))
        {
            return Err(Refusal::invalid(
                format!(
                    "service `{key}` waits for `{}`, which the stack does not have",
                    missing.service
                ),
                "correct `depends_on`",
            ));
        }
    }
    // Services leave once all that they wait for have left; a cycle is what stays.
    let mut left: BTreeSet<&str> = spec.services.keys().map(String::as_str).collect();
    loop {
        let free: Vec<&str> = left
            .iter()
            .filter(|key| {
                let after = &spec.services[**key].depends_on;
                !after.iter().any(|one| left.contains(one.service.as_str()))
            })
            .copied()
            .collect();
        if free.is_empty() {
            break;
        }
        left.retain(|key| !free.contains(key));
    }
    match left.first() {
        None => Ok(()),
        Some(key) => Err(Refusal::invalid(
            format!("service `{key}` waits for itself, or for services that wait for each other"),
            "remove one `depends_on`",
        )),
    }
}
