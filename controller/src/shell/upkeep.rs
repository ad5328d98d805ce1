//! What a controller sees to from time to time: its own certificate, its address, the list of controllers on disk.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use swarm_proto::object::Role;
use swarm_proto::transport::{Authority, Identity, KeyAndRequest, certificate_validity};

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
        match renewed(&controller, &identity) {
            Ok(Some(newer)) => take(&controller, &config, &mut identity, newer),
            Ok(None) => {}
            Err(error) => tracing::warn!(error, "could not renew this host's certificate"),
        }
    }
}

fn take(controller: &Controller, config: &Config, identity: &mut Identity, newer: Identity) {
    let saved = newer.save(&config.state_dir).map_err(|error| chain(&error));
    let reloaded = saved
        .and_then(|()| controller.tls.reload(&newer.credentials()).map_err(|error| chain(&error)));
    match reloaded {
        Ok(()) => {
            tracing::info!("renewed this host's certificate");
            *identity = newer;
        }
        Err(error) => tracing::warn!(error, "could not use the renewed certificate"),
    }
}

/// The identity with a new certificate, once two thirds of the present one's life are over.
fn renewed(controller: &Controller, identity: &Identity) -> Result<Option<Identity>, String> {
    let now = SystemTime::now();
    let (from, until) =
        certificate_validity(&identity.certificate_pem).map_err(|error| chain(&error))?;
    let life = until.duration_since(from).unwrap_or_default();
    if now < from + life * 2 / 3 {
        return Ok(None);
    }
    let Some(cluster) = controller.hub.view().state.cluster else { return Ok(None) };
    let make = || {
        let authority = Authority::load(&cluster.id, &cluster.ca_certificate, &cluster.ca_key)?;
        let key = KeyAndRequest::make()?;
        let certificate =
            authority.sign_node(&key.request_pem, identity.node_id, Role::Controller, now)?;
        Ok::<_, swarm_proto::transport::AuthorityError>((key.key_pem, certificate))
    };
    let (key_pem, certificate_pem) = make().map_err(|error| chain(&error))?;
    Ok(Some(Identity { key_pem, certificate_pem, ..identity.clone() }))
}
