//! How a service's image is built.

use swarm_proto::spec::NetworkMode;

use super::{Pairs, container, text};
use crate::build::{Build, BuildSecret, BuildSteps, Recipe};
use crate::value::Value;

pub(super) fn build(build: &Build) -> Value {
    let Build { context, recipe, args, target, secrets, always: _, tags, no_cache, .. } = build;
    let Build { pull, labels, steps, .. } = build;
    let mut pairs = Pairs::default();
    pairs.put("context", &context.display().to_string());
    match recipe {
        Recipe::File(path) => pairs.put("dockerfile", &path.display().to_string()),
        Recipe::Inline(inline) => pairs.put("dockerfile_inline", inline),
    }
    pairs.put("args", args);
    pairs.put("target", target);
    let secrets: Vec<Value> = secrets.iter().map(secret).collect();
    pairs.put("secrets", &(!secrets.is_empty()).then_some(Value::List(secrets)));
    pairs.put("tags", tags);
    pairs.put("no_cache", no_cache);
    pairs.put("pull", pull);
    pairs.put("labels", labels);
    put_steps(&mut pairs, steps);
    pairs.into_value()
}

fn put_steps(pairs: &mut Pairs, steps: &BuildSteps) {
    let BuildSteps { extra_hosts, extra_hosts_v6, shm_size, ulimits, network } = steps;
    pairs.put("extra_hosts", &container::hosts(extra_hosts, extra_hosts_v6));
    pairs.put("shm_size", shm_size);
    pairs.put("ulimits", &container::ulimits(ulimits));
    pairs.put(
        "network",
        &match network {
            NetworkMode::Own => None,
            NetworkMode::Host => Some(text("host")),
            NetworkMode::None => Some(text("none")),
        },
    );
}

fn secret(secret: &BuildSecret) -> Value {
    let BuildSecret { id, key, source: _, bytes: _ } = secret;
    let mut pairs = Pairs::default();
    pairs.put("source", &text(key));
    pairs.put("target", &(id != key).then(|| text(id)));
    pairs.into_value()
}
