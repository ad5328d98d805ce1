//! `x-swarm: autoscale`: that the number of a service's tasks follows what is measured.

use std::time::Duration;

use swarm_proto::spec::{
    Autoscale, AutoscaleError, Decimal, Scrape, ScrapeTarget, ServiceMode, ServiceSpec,
};

use super::deploy::{MOST_REPLICAS, Mode};
use super::{Decoder, Fields};
use crate::keys::{SCRAPE, X_SWARM_AUTOSCALE};
use crate::tree::{At, Node};

/// What is said of scaling, and where.
pub(super) struct Scaled {
    at: At,
    pub(super) autoscale: Autoscale,
}

/// Reads `autoscale` of a service of this mode.
pub(super) fn autoscale(d: &Decoder<'_>, node: &Node, mode: Mode) -> Option<Scaled> {
    if mode != Mode::Replicated {
        let message = "only a replicated service has `autoscale`";
        d.problems.error_hint(node.at, message, AutoscaleError::NotReplicated.hint());
        return None;
    }
    let fields = d.fields(node, "`autoscale`", &X_SWARM_AUTOSCALE)?;
    let most = i64::from(MOST_REPLICAS);
    let count = |key: &str, least: i64| {
        let number = d.integer(fields.get(key)?, key, least..=most)?;
        u32::try_from(number).ok()
    };
    let min = if fields.get("min").is_some() { count("min", 0)? } else { 1 };
    if fields.get("max").is_none() {
        d.problems.error_hint(node.at, "`autoscale` needs `max`", "write the most tasks");
        return None;
    }
    let max = count("max", 1)?;
    if max < min {
        let message = format!("`max` is {max}, but `min` is {min}");
        d.problems.error_hint(node.at, message, AutoscaleError::Bounds.hint());
        return None;
    }
    // Each is read, so that all that is wrong is told.
    let said = |key: &str| fields.get(key).is_some();
    let percent = |key: &str| fields.get(key).and_then(|node| percent(d, node, key));
    let (cpu, memory) = (percent("cpu"), percent("memory"));
    let requests = fields.get("requests").and_then(|node| above_zero(d, node, "requests"));
    let scraped = fields.get("scrape").and_then(|node| scrape(d, node));
    let stabilisation = duration(d, &fields, "stabilisation", Autoscale::STABILISATION);
    let cool_down = duration(d, &fields, "cool_down", Autoscale::COOL_DOWN);
    if !["cpu", "memory", "requests", "scrape"].into_iter().any(said) {
        let hint = AutoscaleError::NoTarget.hint();
        d.problems.error_hint(fields.at, "`autoscale` has no target", hint);
        return None;
    }
    let is_wrong = (said("cpu") && cpu.is_none())
        || (said("memory") && memory.is_none())
        || (said("requests") && requests.is_none())
        || (said("scrape") && scraped.is_none());
    if is_wrong {
        return None;
    }
    let autoscale = Autoscale {
        min,
        max,
        cpu,
        memory,
        scrape: scraped,
        requests,
        stabilisation: stabilisation?,
        cool_down: cool_down?,
    };
    Some(Scaled { at: fields.at, autoscale })
}

fn duration(
    d: &Decoder<'_>,
    fields: &Fields<'_>,
    key: &str,
    default: Duration,
) -> Option<Duration> {
    let Some(node) = fields.get(key) else { return Some(default) };
    let duration = d.duration(node, key)?;
    if duration > Autoscale::LONGEST {
        d.problems.error_hint(node.at, format!("`{key}` is too long"), "a day at most");
        return None;
    }
    Some(duration)
}

/// `70%`, or `70`.
fn percent(d: &Decoder<'_>, node: &Node, key: &str) -> Option<u32> {
    let text = d.scalar(node, key)?.trim();
    let number = text.strip_suffix('%').unwrap_or(text);
    let is_number = !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit());
    let percent = number.parse().ok().filter(|percent| is_number && *percent > 0);
    if percent.is_none() {
        let hint = "write how much of its reservation or limit a task should use, such as `70%`";
        d.expected(node, key, "a percentage", hint);
    }
    percent
}

fn scrape(d: &Decoder<'_>, node: &Node) -> Option<ScrapeTarget> {
    let fields = d.fields(node, "`scrape`", &SCRAPE)?;
    let needed = |key: &str| {
        let found = fields.get(key);
        if found.is_none() {
            let hint = AutoscaleError::Scrape.hint();
            d.problems.error_hint(fields.at, format!("`scrape` needs `{key}`"), hint);
        }
        found
    };
    let (port, metric, target) = (needed("port"), needed("metric"), needed("target"));
    let port = port.and_then(|node| d.integer(node, "port", 1..=i64::from(u16::MAX)));
    let metric = metric.and_then(|node| {
        let text = d.scalar(node, "metric")?;
        if !Scrape::is_metric(text) {
            let hint = "letters, digits, `_` and `:`, with no digit first, and no labels";
            d.expected(node, "metric", "the name of a metric", hint);
            return None;
        }
        Some(text.to_owned())
    });
    let target = target.and_then(|node| above_zero(d, node, "target"));
    let path = match fields.get("path") {
        Some(node) => Some(path(d, node)?),
        None => None,
    };
    Some(ScrapeTarget {
        scrape: Scrape {
            port: u16::try_from(port?).ok()?,
            path: path.unwrap_or_else(|| Scrape::PATH.to_owned()),
            metric: metric?,
        },
        target: target?,
    })
}

fn above_zero(d: &Decoder<'_>, node: &Node, key: &str) -> Option<Decimal> {
    let target = d.scalar(node, key)?.parse().ok().filter(|target| *target > Decimal(0));
    if target.is_none() {
        let hint = "write for example `100` or `0.5`, with three decimals at most";
        d.expected(node, key, "a number above 0", hint);
    }
    target
}

fn path(d: &Decoder<'_>, node: &Node) -> Option<String> {
    let text = d.scalar(node, "path")?;
    if text.starts_with('/') && text.bytes().all(|c| c > b' ' && c < 0x7f) {
        return Some(text.to_owned());
    }
    d.expected(node, "path", "a path from `/` on, without spaces", "");
    None
}

/// Says what of a service does not go with its scaling.
pub(super) fn check(d: &Decoder<'_>, scaled: Option<&Scaled>, service: &ServiceSpec) {
    let Some(Scaled { at, autoscale }) = scaled else { return };
    if let Err(error) = autoscale.check(service) {
        d.problems.error_hint(*at, format!("`autoscale` cannot be kept: {error}"), error.hint());
    }
    if let ServiceMode::Replicated { replicas } = service.mode
        && autoscale.bound(replicas) != replicas
    {
        let (min, max) = (autoscale.min, autoscale.max);
        let message =
            format!("`replicas` is {replicas}, but `autoscale` is between {min} and {max}");
        d.problems.error_hint(*at, message, "begin within the bounds, or remove `replicas`");
    }
}
