//! The certificate authority on this controller: it signs with the one of the state, follows it when another takes its
//! place, and begins and ends that.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use swarm_proto::failure::sentence;
use swarm_proto::object::Cluster;
use swarm_proto::transport::{Authority, roots_digest};
use swarm_proto::wire;
use tokio::time::{sleep, timeout};
use tonic::Status;

use super::controller::Controller;
use super::hub::View;
use super::refusal::Refusal;
use crate::core::rules::authority::waiting_names;

/// How long an answer waits until this controller itself shows a certificate of the new authority.
const FOLLOW_WITHIN: Duration = Duration::from_secs(5);
/// After a report that did not get through.
const RETRY: Duration = Duration::from_secs(1);

impl Controller {
    /// The cluster's certificate authority.
    pub fn authority(&self, cluster: &Cluster) -> Result<Authority, Status> {
        let authority = Authority::of(cluster);
        let authority = authority.map_err(|error| Status::internal(sentence(&error)))?;
        Ok(authority.with_life(self.signing.life))
    }

    /// The digest of the roots that members trust; empty while this controller has not been let in.
    pub fn roots(&self) -> String {
        let Ok(cluster) = self.cluster() else { return String::new() };
        let mut kept = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((of, digest)) if Arc::ptr_eq(of, &cluster) => digest.clone(),
            _ => {
                // Roots that cannot be read say nothing.
                let digest = roots_digest(&cluster.roots()).unwrap_or_default();
                *kept = Some((cluster, digest.clone()));
                digest
            }
        }
    }

    /// Makes a new authority and lets it sign; with `force` ends that for nodes that have not followed.
    pub async fn rotate_authority(
        &self,
        request: wire::RotateAuthorityRequest,
    ) -> Result<wire::RotateAuthorityResponse, Status> {
        self.read(false).await?;
        let cluster = self.cluster()?;
        if request.force {
            let wish = drop_wish(request.request_id, &cluster)?;
            self.write(wish).await?;
        } else {
            let wish = self.replace_wish(request.request_id, &cluster)?;
            self.write(wish).await?;
        }
        // This controller may not have applied yet what the leader has.
        let view = self.read(false).await?;
        self.followed().await;
        let cluster = self.cluster()?;
        Ok(wire::RotateAuthorityResponse { root: root(&cluster), rotation: rotation(&view) })
    }

    fn replace_wish(
        &self,
        request_id: String,
        cluster: &Cluster,
    ) -> Result<wire::AuthorityWish, Status> {
        let failed = |error| Status::internal(sentence(&error));
        let successor = self.authority(cluster)?.succeed(SystemTime::now()).map_err(failed)?;
        let authority = successor.authority;
        Ok(wire::AuthorityWish {
            request_id,
            former: cluster.ca_certificate.clone(),
            certificate: authority.certificate_pem().to_owned(),
            key: authority.key_pem().reveal().to_owned(),
            vouched: successor.vouched_pem,
            roots: roots_digest(authority.roots_pem()).map_err(failed)?,
        })
    }

    /// Waits until this controller shows a certificate of the present authority, so that who is told of its root can
    /// join here.
    async fn followed(&self) {
        let follow = async {
            loop {
                let used = self.tls.roots();
                if used == self.roots() {
                    return;
                }
                self.tls.roots_changed(&used).await;
            }
        };
        if timeout(FOLLOW_WITHIN, follow).await.is_err() {
            tracing::warn!("this controller has no certificate of the new authority yet");
        }
    }
}

fn drop_wish(request_id: String, cluster: &Cluster) -> Result<wire::DropAuthorityWish, Status> {
    let former = cluster.former_authority.as_ref().ok_or_else(|| {
        let why = "the certificate authority is not being replaced: there is no former one to drop";
        Refusal::conflict(why).hint("without `--force` it is replaced by a new one")
    })?;
    Ok(wire::DropAuthorityWish { request_id, certificate: former.certificate.clone() })
}

/// The digest of the authority's root, as in join tokens; empty when it cannot be read.
pub(super) fn root(cluster: &Cluster) -> String {
    roots_digest(&cluster.ca_certificate).unwrap_or_default()
}

/// How far the authority's replacement is; `None` when there is none.
pub(super) fn rotation(view: &View) -> Option<wire::AuthorityRotation> {
    let former = view.state.cluster.as_ref()?.former_authority.as_ref()?;
    let waiting = waiting_names(&view.state);
    Some(wire::AuthorityRotation { since: former.since.0, waiting })
}

/// Follows the state's authority until the process stops: this controller's certificate is renewed when it is another,
/// and the leader is told.
pub async fn follow(controller: Arc<Controller>) {
    let mut views = controller.hub.follow();
    loop {
        let used = controller.tls.roots();
        let mut view = views.borrow_and_update().clone();
        if controller.roots() != used {
            // What a controller knows that has just started may be older than its certificate.
            let Ok(present) = controller.read(false).await else { continue };
            view = present;
            controller.tls.want_roots(&controller.roots());
        }
        if let Some(wish) = report(&controller, &view, &used)
            && let Err(status) = controller.write(wish).await
        {
            tracing::warn!(why = status.message(), "could not tell which roots are trusted here");
            sleep(RETRY).await;
            continue;
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            () = controller.tls.roots_changed(&used) => {}
        }
    }
}

/// What this controller has to tell of the roots that it uses.
fn report(controller: &Controller, view: &View, used: &str) -> Option<wire::RootsWish> {
    let former = view.state.cluster.as_ref()?.former_authority.as_ref()?;
    let node = controller.node;
    (former.roots == used && !former.controllers.contains(&node)).then(|| wire::RootsWish {
        request_id: format!("roots-{node}-{}-{}", &used[..16.min(used.len())], view.state.clock.0),
        node: node.0,
        roots: used.to_owned(),
    })
}
