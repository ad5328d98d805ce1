//! What is deployed.

use std::fmt::Write as _;

use swarm_proto::transport::random_hex;
use swarm_proto::wire;
use swarm_tests::bench::Outcome;
use swarm_tests::bench::host::Host;
use swarm_tests::bench::stacks::SERVICE;

/// Zones in which the nodes are, the same number in each.
pub(crate) const ZONES: u32 = 5;

/// So many services with so many tasks each, each service bound to a zone.
pub(crate) fn bound(services: u32, tasks: u32) -> Outcome<String> {
    let mut text = String::from("services:\n");
    for number in 0..services {
        let zone = number % ZONES + 1;
        write!(text, "  service{number}:\n{SERVICE}    deploy:\n      replicas: {tasks}\n")?;
        writeln!(text, "      placement: {{constraints: [node.labels.zone == zone{zone}]}}")?;
    }
    Ok(text)
}

/// Sets a service's number of tasks.
pub(crate) async fn scale(host: &Host, service: &str, replicas: u32) -> Outcome<()> {
    let request = wire::ScaleServiceRequest {
        request_id: random_hex::<16>()?,
        service: service.to_owned(),
        replicas,
    };
    host.client().await?.scale_service(request).await?;
    Ok(())
}
