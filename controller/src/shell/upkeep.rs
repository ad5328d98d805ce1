//! What a controller sees to from time to time: its own certificate, its address, the list of controllers on disk.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use swarm_proto::failure::sentence;
use swarm_proto::object::{Cluster, Role};
use swarm_proto::transport::{self, Authority, Identity, Keeper, RenewError, roots_digest};

use super::controller::Controller;
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
            tracing::warn!(error = sentence(&error), "could not write the list of controllers");
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
/// unless it has not heard of the cluster's present authority yet.
pub async fn keep_certificate(controller: Arc<Controller>, config: Config, identity: Identity) {
    let tls = Arc::clone(&controller.tls);
    let renew = move |identity: Identity| {
        let controller = Arc::clone(&controller);
        async move {
            // One that has just started may not know yet that another authority signs now. When nobody tells, what it
            // knows must do, for all controllers may have slept past their certificates.
            let (view, stale) = controller.read_soon().await;
            let fits =
                |cluster: &Cluster| roots_digest(&cluster.roots()).ok() == roots_of(&identity);
            match &view.state.cluster {
                Some(cluster) if !stale || fits(cluster) => {
                    renewed_here(cluster, &controller, identity)
                }
                _ => transport::renew(identity).await,
            }
        }
    };
    transport::keep_valid(config.state_dir, tls, identity.credentials(), Keeper::First, renew)
        .await;
}

fn roots_of(identity: &Identity) -> Option<String> {
    roots_digest(&identity.ca_pem).ok()
}

fn renewed_here(
    cluster: &Cluster,
    controller: &Controller,
    identity: Identity,
) -> Result<Identity, RenewError> {
    let authority = Authority::of(cluster)?.with_life(controller.signing.life);
    let made = authority.make_node(identity.node_id, Role::Controller, SystemTime::now())?;
    Ok(identity.renewed(made))
}
