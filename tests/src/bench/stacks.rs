//! Stacks whose tasks simulated nodes only pretend to run.

use std::path::PathBuf;

use swarm_manifests::{Environment, Source};
use swarm_proto::transport::random_hex;
use swarm_proto::wire;

use super::Outcome;
use super::host::Host;

macro_rules! image {
    () => {
        "    image: busybox@sha256:2c0d1a5b4e8a86f5a1f9b9b5ba2d7f50a5cc1a4c6d3c3b7a7b2a4c1d5e6f7a8b\n    command: sleep 100000\n"
    };
}

/// What each service says beside its placement: an image that nobody has to resolve, and no network.
pub const SERVICE: &str = concat!(image!(), "    network_mode: none\n");

/// The same on the network `net`.
pub const CONNECTED: &str = concat!(image!(), "    networks: [net]\n");

/// Deploys a stack file given as text.
pub async fn deploy(host: &Host, name: &str, text: &str) -> Outcome<()> {
    let environment = Environment { stack_name: Some(name.to_owned()), ..Environment::default() };
    let (file, content) = (format!("{name}.yml"), text.as_bytes().to_vec());
    let source = Source { name: file, folder: PathBuf::from("/"), content };
    let spec = swarm_manifests::read_sources(&[source], &environment)?.0.spec;
    let request = wire::DeployRequest {
        request_id: random_hex::<16>()?,
        stack: Some((&spec).into()),
        prune: false,
    };
    host.client().await?.deploy(request).await?;
    Ok(())
}
