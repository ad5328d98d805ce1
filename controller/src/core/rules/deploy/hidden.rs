//! Warnings about kept volumes that hide newer content of an image.

use swarm_proto::object::Volume;
use swarm_proto::spec::{ImageSpec, MountSource, ServiceSpec, StackSpec};

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
            if let MountSource::Volume { volume, no_copy: false, .. } = &mount.source
                && let Some(held) = state.volume_of(&spec.name, &mount.source)
            {
                let image = &service.container.image;
                let shared =
                    is_shared(spec, volume) || state.users_of_volume(&held.name).count() > 1;
                warnings.extend(warning(held, volume, &mount.target, image, shared));
            }
        }
    }
    warnings
}

/// Whether several services of the stack mount the volume.
fn is_shared(spec: &StackSpec, key: &str) -> bool {
    let mounts = |service: &ServiceSpec| {
        service.container.mounts.iter().any(
            |mount| matches!(&mount.source, MountSource::Volume { volume, .. } if volume == key),
        )
    };
    spec.services.values().filter(|service| mounts(service)).count() > 1
}

/// A reference without its tag and digest.
fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    name[slash..].find(':').map_or(name, |at| &name[..slash + at])
}

fn warning(
    held: &Volume,
    volume: &str,
    target: &str,
    image: &ImageSpec,
    shared: bool,
) -> Option<String> {
    let digest = image.digest.as_ref()?;
    let fills = held.holdings.values().filter_map(|holding| holding.filled_from.as_ref());
    let other = fills.into_iter().find(|filled| filled.digest != *digest)?;
    // A volume that services share is filled from one of their images: that is no news to the others.
    if shared && repository(&other.reference) != repository(&image.reference) {
        return None;
    }
    let image = familiar(&image.reference);
    let filled_from = familiar(&other.reference);
    let earlier = if filled_from == image { "an earlier " } else { "" };
    Some(format!(
        "`{target}` of {image} is hidden by volume {volume}, filled from {earlier}{filled_from}"
    ))
}
