//! What a controller sees to from time to time: its own certificate, its address, the list of controllers on disk.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use swarm_proto::object::{Cluster, Role};
use swarm_proto::transport::{self, Authority, Identity, Keeper, KeyAndRequest, RenewError};

use super::controller::Controller;
use super::disk_thread::chain;
use super::server::address_wish;
use crate::config::Config;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(5);

/// Sees to it until the process stops.
pub async fn run(controller: Arc<Controller>, config: Config, mut identity: Identity) {
    let mut period = tokio::time::interval(PERIOD);
    loop {
        period.tick().await;
        let addresses = controller.hub.view().controller_addresses();
        if !addresses.is_empty()
            && let Err(error) = identity.update_controllers(&config.state_dir, &addresses)
        {
            tracing::warn!(error = chain(&error), "could not write the list of controllers");
        }
        if let Some(advertise) = &config.advertise
            && let Some(wish) = address_wish(&controller, advertise)
            && let Err(status) = controller.write(wish).await
        {
            tracing::warn!(why = status.message(), "could not announce the new address");
        }
    }
}

/// Keeps this host's certificate valid until the process stops. A controller has all that it takes to sign it by itself,
/// unless it has not heard of the cluster's authority yet.
pub async fn keep_certificate(controller: Arc<Controller>, config: Config, identity: Identity) {
    let tls = Arc::clone(&controller.tls);
    let renew = move |identity: Identity| {
        let controller = Arc::clone(&controller);
        async move {
            match controller.hub.view().state.cluster {
                Some(cluster) => renewed_here(&cluster, &controller, identity),
                None => transport::renew(identity).await,
            }
        }
    };
    transport::keep_valid(config.state_dir, tls, identity.credentials(), Keeper::First, renew)
        .await;
}

fn renewed_here(
    cluster: &Cluster,
    controller: &Controller,
    identity: Identity,
) -> Result<Identity, RenewError> {
    let authority = Authority::load(&cluster.id, &cluster.ca_certificate, &cluster.ca_key)?;
    let authority = authority.with_life(controller.signing.life);
    let key = KeyAndRequest::make()?;
    let (node, now) = (identity.node_id, SystemTime::now());
    let certificate_pem = authority.sign_node(&key.request_pem, node, Role::Controller, now)?;
    Ok(Identity { certificate_pem, key_pem: key.key_pem, ..identity })
}
