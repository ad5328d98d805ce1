//! The images that a stack's file says how to build.

use std::collections::BTreeMap;

use swarm_manifests::{Build, BuildSteps, Recipe, Stack};
use swarm_proto::id::Digest;
use swarm_proto::spec::NetworkMode;
use swarm_proto::wire;

use super::order::{Instructions, Order, Ready};
use crate::command::Call;
use crate::failure::Failure;
use crate::output;

/// When images of a stack are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::command) enum When {
    /// Where no node has one of its name.
    Missing,
    /// Always; what an earlier build made is used again.
    Always,
    /// Not at all: it is an error where no node has one.
    Never,
}

/// Builds what the services of a stack are to run, and says in their specs what it is. All Dockerfiles are read and
/// checked before the first one is sent.
pub(in crate::command) async fn build(
    stack: &mut Stack,
    when: When,
    call: &Call,
) -> Result<(), Failure> {
    if stack.builds.is_empty() {
        return Ok(());
    }
    let known = if when == When::Always { BTreeMap::new() } else { known(call).await? };
    let mut orders: Vec<(String, Ready)> = Vec::new();
    for (key, build) in &stack.builds {
        let Some(service) = stack.spec.services.get_mut(key) else { continue };
        let image = &mut service.container.image;
        let is_wanted = when == When::Missing && build.always;
        match known.get(&image.reference).filter(|_| !is_wanted) {
            Some(digest) => image.digest = Some(digest.clone()),
            None if when == When::Never => return Err(not_built(key, &image.reference)),
            None => orders.push((key.clone(), order(key, &image.reference, build).prepare()?)),
        }
    }
    for (key, ready) in orders {
        output::talk(&format!("building the image of service `{key}`"));
        let done = ready.carry_out(call).await?;
        let digest: Digest = done.digest.parse().map_err(|error| {
            Failure::because(format!("the image of service `{key}` has no digest"), &error)
        })?;
        if let Some(service) = stack.spec.services.get_mut(&key) {
            service.container.image.digest = Some(digest);
        }
    }
    Ok(())
}

fn not_built(key: &str, reference: &str) -> Failure {
    Failure::refused(format!("the image `{reference}` of service `{key}` is not built yet"))
        .hint("`swarmctl deploy` builds it, and so does `swarmctl build`")
}

/// What the names of images stand for on nodes; where they differ, the newest.
async fn known(call: &Call) -> Result<BTreeMap<String, Digest>, Failure> {
    let request = wire::ListImagesRequest {};
    let answer = call.cluster.call(async |mut client| client.list_images(request).await).await?;
    let mut newest: BTreeMap<String, (u64, Digest)> = BTreeMap::new();
    for image in answer.nodes.into_iter().flat_map(|node| node.images) {
        let Ok(digest) = image.digest.parse() else { continue };
        let is_newer = newest.get(&image.reference).is_none_or(|(at, _)| *at < image.created_at);
        if is_newer {
            newest.insert(image.reference, (image.created_at, digest));
        }
    }
    Ok(newest.into_iter().map(|(name, (_, digest))| (name, digest)).collect())
}

fn order(key: &str, reference: &str, build: &Build) -> Order {
    let instructions = match &build.recipe {
        Recipe::File(path) => Instructions::File(path.clone()),
        Recipe::Inline(text) => {
            let name = format!("`dockerfile_inline` of service `{key}`");
            Instructions::Text { text: text.clone(), name }
        }
    };
    let secrets = build.secrets.iter().map(|secret| wire::BuildSecret {
        id: secret.id.clone(),
        data: secret.bytes.reveal().to_vec(),
    });
    Order {
        context: build.context.clone(),
        instructions,
        names: [reference.to_owned()].into_iter().chain(build.tags.iter().cloned()).collect(),
        target: build.target.clone(),
        build_args: build.args.clone(),
        secrets: secrets.collect(),
        no_cache: build.no_cache,
        pull: build.pull,
        node: None,
        labels: build.labels.clone(),
        steps: steps(&build.steps),
    }
}

fn steps(steps: &BuildSteps) -> wire::BuildSteps {
    let v4 = steps.extra_hosts.iter().map(|(name, address)| (name, address.to_string()));
    let v6 = steps.extra_hosts_v6.iter().map(|(name, address)| (name, address.to_string()));
    let host = |(name, address): (&String, String)| wire::BuildHost { name: name.clone(), address };
    wire::BuildSteps {
        extra_hosts: v4.chain(v6).map(host).collect(),
        shm_size: steps.shm_size,
        ulimits: steps.ulimits.iter().map(Into::into).collect(),
        network: match steps.network {
            NetworkMode::Own => wire::BuildNetwork::Unspecified,
            NetworkMode::Host => wire::BuildNetwork::Host,
            NetworkMode::None => wire::BuildNetwork::None,
        }
        .into(),
    }
}
