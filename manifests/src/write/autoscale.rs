//! That the number of tasks follows what is measured.

use swarm_proto::spec::{Autoscale, Scrape, ScrapeTarget};

use super::{Pairs, text};
use crate::value::Value;

pub(super) fn autoscale(autoscale: &Autoscale) -> Value {
    let Autoscale { min, max, cpu, memory, scrape, requests, stabilisation, cool_down } = autoscale;
    let percent = |number: &Option<u32>| number.map(|number| Value::text(format!("{number}%")));
    let mut pairs = Pairs::default();
    pairs.put("min", min);
    pairs.put("max", max);
    pairs.put("cpu", &percent(cpu));
    pairs.put("memory", &percent(memory));
    pairs.put("requests", &requests.map(|target| Value::text(target.to_string())));
    pairs.put("scrape", &scrape.as_ref().map(target));
    pairs.put(
        "stabilisation",
        &(*stabilisation != Autoscale::STABILISATION).then_some(*stabilisation),
    );
    pairs.put("cool_down", &(*cool_down != Autoscale::COOL_DOWN).then_some(*cool_down));
    pairs.into_value()
}

fn target(ScrapeTarget { scrape, target }: &ScrapeTarget) -> Value {
    let Scrape { port, path, metric } = scrape;
    let mut pairs = Pairs::default();
    pairs.put("port", port);
    pairs.put("path", &(path != Scrape::PATH).then(|| text(path)));
    pairs.put("metric", &text(metric));
    pairs.put("target", &Value::text(target.to_string()));
    pairs.into_value()
}
