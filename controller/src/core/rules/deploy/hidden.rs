//! Warnings about kept volumes that hide newer content of an image.

use swarm_proto::spec::{ImageSpec, MountSource, StackSpec};

use crate::core::state::State;

/// An image's name as people write it.
pub(super) fn familiar(reference: &str) -> &str {
    let short = reference.strip_prefix("docker.io/").unwrap_or(reference);
    short.strip_prefix("library/").unwrap_or(short)
}

pub(super) fn warnings(state: &State, spec: &StackSpec) -> Vec<String> {
    let mut warnings = Vec::new();
    for service in spec.services.values() {
        for mount in &service.container.mounts {
            if let MountSource::Volume { volume, no_copy: false } = &mount.source {
                let image = &service.container.image;
                warnings.extend(warning(state, &spec.name, volume, &mount.target, image));
            }
        }
    }
    warnings
}

fn warning(
    state: &State,
    stack: &str,
    volume: &str,
    target: &str,
    image: &ImageSpec,
) -> Option<String> {
    let held = state.find_volume(stack, volume)?;
    let digest = image.digest.as_ref()?;
    let fills = held.holdings.values().filter_map(|holding| holding.filled_from.as_ref());
    let other = fills.into_iter().find(|filled| filled.digest != *digest)?;
    let image = familiar(&image.reference);
    let filled_from = familiar(&other.reference);
    let earlier = if filled_from == image { "an earlier " } else { "" };
    Some(format!(
        "`{target}` of {image} is hidden by volume {volume}, filled from {earlier}{filled_from}"
    ))
}
