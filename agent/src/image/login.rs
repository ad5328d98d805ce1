//! Tries a name and password at a registry, as `docker login` does: with the registry itself, or with the service that
//! gives out its tokens.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use swarm_proto::object::RegistryLogin;

use super::answer::innermost;
use super::challenge::{Challenge, challenge};
use super::conversation::base;
use super::registry::Endpoint;
use super::{ImageError, Images, Registries};

/// How long each of the two requests may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a registry says of a name and password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginCheck {
    /// They are right.
    Taken,
    /// It lets everybody in, so nothing was tried.
    Open,
}

impl Images {
    /// Asks a registry whether it takes a name and password.
    pub async fn check_login(&self, login: &RegistryLogin) -> Result<LoginCheck, ImageError> {
        let registry = login.registry.as_str();
        let endpoint = self.inner.registries.own_endpoint(registry);
        let untried = |detail| ImageError::LoginUntried { registry: endpoint.to_string(), detail };
        let client = client(&self.inner.registries, &endpoint).map_err(untried)?;
        let base = base(&endpoint);
        let first = client.get(&base).send().await.map_err(|e| untried(innermost(&e)))?;
        match first.status() {
            StatusCode::OK => return Ok(LoginCheck::Open),
            StatusCode::UNAUTHORIZED => {}
            other => return Err(untried(format!("it answers {other}, as no registry does"))),
        }
        let challenge = challenge(&first)
            .ok_or_else(|| untried("it does not say how it wants to know who asks".to_owned()))?;
        let (user, password) = (&login.user, Some(login.password.reveal()));
        let request = match &challenge {
            Challenge::Basic => client.get(&base).basic_auth(user, password),
            Challenge::Bearer { realm, service } => {
                if base.starts_with("https://") && !realm.starts_with("https://") {
                    let detail = format!("its tokens come from `{realm}`, without TLS");
                    return Err(untried(detail));
                }
                let mut query = vec![("account", user.as_str()), ("client_id", "swarm")];
                query.extend(service.as_deref().map(|service| ("service", service)));
                client.get(realm).query(&query).basic_auth(user, password)
            }
        };
        let answer = request.send().await.map_err(|error| untried(innermost(&error)))?;
        match answer.status() {
            status if status.is_success() => Ok(LoginCheck::Taken),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(ImageError::LoginRefused { registry: endpoint.to_string() })
            }
            other => Err(untried(match challenge {
                Challenge::Basic => format!("it answers {other}"),
                Challenge::Bearer { realm, .. } => format!("`{realm}` answers {other}"),
            })),
        }
    }
}

fn client(registries: &Registries, endpoint: &Endpoint) -> Result<Client, String> {
    let client = registries.client(endpoint)?.timeout(PATIENCE).build();
    client.map_err(|error| innermost(&error))
}
