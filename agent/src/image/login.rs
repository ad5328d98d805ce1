//! Tries a name and password at a registry, as `docker login` does: with the registry itself, or with the service that
//! gives out its tokens.

use std::time::Duration;

use oci_client::client::{CertificateEncoding, ClientConfig};
use reqwest::header::WWW_AUTHENTICATE;
use reqwest::{Client, Proxy, Response, StatusCode};
use swarm_proto::object::RegistryLogin;

use super::registry::{Endpoint, innermost};
use super::{ImageError, Images};

/// How long each of the two requests may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Docker Hub's registry, which images' names call otherwise.
const HUB: (&str, &str) = ("docker.io", "index.docker.io");

/// What a registry says of a name and password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginCheck {
    /// They are right.
    Taken,
    /// It lets everybody in, so nothing was tried.
    Open,
}

/// How a registry wants to be shown who asks.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Images {
    /// Asks a registry whether it takes a name and password.
    pub async fn check_login(&self, login: &RegistryLogin) -> Result<LoginCheck, ImageError> {
        let registry = login.registry.as_str();
        let endpoint = self.inner.registries.own_endpoint(registry);
        let untried = |detail| ImageError::LoginUntried { registry: endpoint.to_string(), detail };
        let config = self.inner.registries.client(&endpoint).map_err(untried)?;
        let client = client(config).map_err(untried)?;
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

fn base(endpoint: &Endpoint) -> String {
    let (name, host) = HUB;
    let host = if endpoint.host == name { host } else { &endpoint.host };
    format!("{}://{host}/v2/", if endpoint.plain { "http" } else { "https" })
}

/// A client as [`super::registry`] has it, for requests that the library has none for.
fn client(config: ClientConfig) -> Result<Client, String> {
    let mut builder = Client::builder()
        .user_agent(config.user_agent)
        .timeout(PATIENCE)
        .danger_accept_invalid_certs(config.accept_invalid_certificates);
    for certificate in config.extra_root_certificates {
        let made = match certificate.encoding {
            CertificateEncoding::Pem => reqwest::Certificate::from_pem_bundle(&certificate.data),
            CertificateEncoding::Der => {
                reqwest::Certificate::from_der(&certificate.data).map(|one| vec![one])
            }
        };
        builder = builder.tls_certs_merge(made.map_err(|error| innermost(&error))?);
    }
    if let Some(proxy) = &config.https_proxy {
        builder = builder.proxy(Proxy::https(proxy).map_err(|error| innermost(&error))?);
    }
    builder.build().map_err(|error| innermost(&error))
}

/// The first way that an answer names and that is known.
fn challenge(answer: &Response) -> Option<Challenge> {
    let mut headers = answer.headers().get_all(WWW_AUTHENTICATE).iter();
    headers.find_map(|header| parse(header.to_str().ok()?))
}

/// `Basic realm="x"`, or `Bearer realm="https://…",service="x"`.
fn parse(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let value = |name: &str| {
        let mut rest = rest;
        while let Some((key, after)) = rest.split_once('=') {
            let key = key.trim_matches([' ', ',']);
            let (value, left) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            if key.eq_ignore_ascii_case(name) {
                return Some(value.to_owned());
            }
            rest = left;
        }
        None
    };
    Some(Challenge::Bearer { realm: value("realm")?, service: value("service") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_show_oneself_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            let (realm, service) = (realm.to_owned(), service.map(str::to_owned));
            Some(Challenge::Bearer { realm, service })
        };
        let table = [
            ("Basic realm=\"a b\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://a/token\",service=\"r\"",
                bearer("https://a/token", Some("r")),
            ),
            ("Bearer service=\"r, s\", realm=\"https://a\"", bearer("https://a", Some("r, s"))),
            ("Bearer realm=https://a,error=x", bearer("https://a", None)),
            ("Bearer service=\"r\"", None),
            ("Bearer realm=\"a", None),
            ("Negotiate", None),
        ];
        for (header, expected) in table {
            assert_eq!(parse(header), expected, "{header}");
        }
        let hub = Endpoint { host: "docker.io".to_owned(), plain: false };
        assert_eq!(base(&hub), "https://index.docker.io/v2/");
    }
}
