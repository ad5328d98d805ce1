//! Asks the controller of the session where images lie, and who is a member.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use swarm_proto::id::{Digest, NodeId};
use swarm_proto::object::{RegistryLogin, RegistryName};
use swarm_proto::transport::{CONTROLLER_NAME, Tls, random_hex};
use swarm_proto::wire;
use swarm_proto::wire::image_index_client::ImageIndexClient;
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;

use crate::controllers::Controllers;
use crate::image::{Directory, Known};

/// How long a controller may take; it may have to ask the leader.
const PATIENCE: Duration = Duration::from_secs(8);
/// For so long a member counts as one.
const MEMBER_FOR: Duration = Duration::from_secs(10);

/// See the module.
pub struct Locator {
    tls: Arc<Tls>,
    controllers: Arc<Controllers>,
    channel: Mutex<Option<(String, Channel)>>,
    members: Mutex<BTreeMap<NodeId, Instant>>,
}

impl Locator {
    /// Asks with this certificate.
    pub fn new(tls: Arc<Tls>, controllers: Arc<Controllers>) -> Self {
        Self { tls, controllers, channel: Mutex::default(), members: Mutex::default() }
    }

    /// The controller of the session; `None` before the first one.
    fn client(&self) -> Option<ImageIndexClient<Channel>> {
        let address = self.controllers.in_session()?;
        let mut kept = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match &*kept {
            Some((known, channel)) if *known == address => channel.clone(),
            _ => {
                let channel = self.tls.channel(&address, CONTROLLER_NAME);
                *kept = Some((address, channel.clone()));
                channel
            }
        };
        Some(ImageIndexClient::new(channel))
    }

    async fn ask(&self, name: &str, digest: Option<&Digest>) -> Option<wire::FindImageResponse> {
        let mut client = self.client()?;
        let request = wire::FindImageRequest {
            request_id: random_hex::<16>().ok()?,
            reference: name.to_owned(),
            digest: digest.map(ToString::to_string).unwrap_or_default(),
            asker: 0,
        };
        match timeout(PATIENCE, client.find_image(request)).await {
            Ok(Ok(answer)) => Some(answer.into_inner()),
            Ok(Err(status)) => {
                tracing::info!(name, why = status.message(), "cannot ask where an image lies");
                None
            }
            Err(_) => {
                tracing::info!(name, "no controller says in time where an image lies");
                None
            }
        }
    }
}

#[tonic::async_trait]
impl Directory for Locator {
    async fn find(&self, name: &str, digest: Option<&Digest>) -> Known {
        let Some(answer) = self.ask(name, digest).await else { return Known::default() };
        Known {
            digest: answer.digest.parse().ok(),
            local: answer.local,
            holders: answer.holders.into_iter().map(Into::into).collect(),
        }
    }

    async fn login(&self, registry: &RegistryName) -> Option<RegistryLogin> {
        let mut client = self.client()?;
        let request = wire::GetLoginRequest { registry: registry.to_string() };
        match timeout(PATIENCE, client.get_login(request)).await {
            Ok(Ok(answer)) => answer.into_inner().login?.try_into().ok(),
            // One that is too old has no logins.
            Ok(Err(status)) => {
                tracing::info!(%registry, why = status.message(), "cannot ask for a login");
                None
            }
            Err(_) => {
                tracing::info!(%registry, "no controller gives a login in time");
                None
            }
        }
    }

    async fn is_member(&self, node: NodeId) -> bool {
        let now = Instant::now();
        {
            let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
            members.retain(|_, seen| *seen + MEMBER_FOR > now);
            if members.contains_key(&node) {
                return true;
            }
        }
        let Some(mut client) = self.client() else { return false };
        let asked = client.check_member(wire::CheckMemberRequest { node: node.0 });
        let member = match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => answer.into_inner().member,
            _ => false,
        };
        if member {
            let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
            members.insert(node, now);
        }
        member
    }
}
