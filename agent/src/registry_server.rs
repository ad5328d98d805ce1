//! A registry on this host: the OCI distribution specification over HTTP, off by default. It keeps its blobs among those of
//! the host's images, an image for this machine that is pushed becomes one of them, and what hosts of the cluster hold under
//! a repository's name is given out as if it had been pushed here.
//!
//! `route`, `range` and `pagination` are pure; `gate` says who may do what; everything is sent and taken a few bytes at a
//! time.

mod accounts;
mod answer;
mod blob_uploads;
mod blobs;
mod body;
mod connections;
mod elsewhere;
mod gate;
mod lists;
mod manifests;
mod pagination;
mod range;
pub mod readers;
mod refusal;
mod route;
mod settings;
mod tls;
mod uploads;
mod watched;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, RANGE, WWW_AUTHENTICATE};
use hyper::{Request, Response, StatusCode};
use swarm_proto::failure::sentence;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use answer::Answer;
use body::Body;
use elsewhere::Elsewhere;
use gate::{Caller, Gate};
use refusal::{CHALLENGE, Refusal};
use route::{Resource, Route, Verb};
use uploads::Uploads;
use watched::Watched;

use crate::image::{Images, uploads_folder};

pub use settings::{Access, RegistryServerConfig, Settings, TlsFiles};
pub(crate) use settings::{SETTINGS, TLS_SETTINGS};

const API: HeaderName = HeaderName::from_static("docker-distribution-api-version");
/// Manifests that come at the same time.
const DOCUMENTS: usize = 16;
/// Between two looks at what is old.
const TRIM_EVERY: Duration = Duration::from_hours(1);
/// Blobs that no manifest names stay so long, for the push that brought them may still be under way.
const UNNAMED_FOR: Duration = Duration::from_hours(24);

/// Why there is no registry on this host.
#[derive(Debug, thiserror::Error)]
pub enum RegistryServerError {
    /// Accounts or certificate cannot be used.
    #[error("{0}")]
    Files(String),
    /// The address cannot be listened on.
    #[error("the registry cannot listen on {address}\n\nhint: see `registry_server.listen`")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// What was being uploaded cannot be read.
    #[error("cannot read the registry's uploads in `{}`", path.display())]
    Uploads {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A registry that has its address, certificate and accounts, and does not answer yet.
pub struct Ready {
    listener: TcpListener,
    tls: Option<Watched<TlsAcceptor>>,
    gate: Gate,
}

impl Ready {
    /// Sees that all that the settings name can be used.
    pub async fn open(settings: &Settings) -> Result<Self, RegistryServerError> {
        let tls = settings.tls.as_ref().map(tls::acceptors).transpose();
        let tls = tls.map_err(RegistryServerError::Files)?;
        let gate = Gate::open(settings).map_err(RegistryServerError::Files)?;
        let address = settings.listen;
        let listener = TcpListener::bind(address).await;
        let listener =
            listener.map_err(|source| RegistryServerError::Listen { address, source })?;
        Ok(Self { listener, tls, gate })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers, with the images in the agent's folder, until the program ends.
    pub fn start(self, images: Images, agent: &Path) -> Result<(), RegistryServerError> {
        if let Err(error) = images.free_noted() {
            tracing::warn!(error = %sentence(&error), "cannot free what an earlier run began to");
        }
        let folder = uploads_folder(agent);
        let uploads = Uploads::open(&folder, images.clone());
        let uploads =
            uploads.map_err(|source| RegistryServerError::Uploads { path: folder, source })?;
        let Self { listener, tls, gate } = self;
        let elsewhere = Elsewhere::new(images.clone());
        let documents = Semaphore::new(DOCUMENTS);
        let server = Arc::new(RegistryServer { images, gate, uploads, elsewhere, documents });
        tokio::spawn(trim(Arc::clone(&server)));
        tokio::spawn(connections::accept(listener, tls, server));
        Ok(())
    }
}

/// See the module.
struct RegistryServer {
    images: Images,
    gate: Gate,
    uploads: Uploads,
    elsewhere: Elsewhere,
    /// Manifests that come at the same time: each is in memory.
    documents: Semaphore,
}

async fn trim(server: Arc<RegistryServer>) {
    let mut times = tokio::time::interval(TRIM_EVERY);
    loop {
        times.tick().await;
        server.uploads.trim();
        if let Err(error) = server.images.trim_hosted(UNNAMED_FOR).await {
            tracing::warn!(error = %sentence(&error), "cannot take old blobs of the registry away");
        }
    }
}

impl RegistryServer {
    /// Answers one request.
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let mut response = match self.carry_out(request).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        };
        response.headers_mut().insert(API, HeaderValue::from_static("registry/2.0"));
        response
    }

    async fn carry_out(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let uri = request.uri();
        // Who is nobody learns nothing, not even of paths.
        let route = Route::parse(request.method(), uri.path(), uri.query().unwrap_or_default());
        let needs = route.as_ref().map_or(Access::Pull, Route::needs);
        let said = request.headers().get(AUTHORIZATION);
        let said = said.map(|said| said.to_str().unwrap_or_default());
        let caller = self.gate.admit(said, needs).await?;
        let route = route?;
        let is_change = route.is_change();
        let object = uri.path().to_owned();
        let done = self.route(route, &caller, request).await;
        if is_change {
            let who = caller.name.as_deref().unwrap_or("anonymous");
            let outcome = match &done {
                Ok(response) => response.status().as_u16(),
                Err(refusal) => refusal.status().as_u16(),
            };
            tracing::info!(who, object, outcome, "audit of the registry");
        }
        done
    }

    async fn route(
        &self,
        route: Route,
        caller: &Caller,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let Route { resource, verb, query } = route;
        let (parts, body) = request.into_parts();
        let headers = &parts.headers;
        let (is_head, all) = (verb == Verb::Head, caller.name.is_some());
        match (resource, verb) {
            (Resource::Base, _) => Ok(self.base(caller, is_head)),
            (Resource::Catalog, _) => self.list_repositories(&query, is_head),
            (Resource::Tags(name), _) => self.list_tags(&name, &query, (is_head, all)),
            (Resource::Referrers(name, subject), _) => {
                self.list_referrers(&name, &subject, &query, is_head).await
            }
            (Resource::Manifest(name, named), Verb::Put) => {
                self.put_manifest(name, named, headers, body).await
            }
            (Resource::Manifest(name, named), Verb::Delete) => {
                self.delete_manifest(name, named).await
            }
            (Resource::Manifest(name, named), _) => {
                self.get_manifest(&name, &named, (is_head, all)).await
            }
            (Resource::Blob(name, digest), Verb::Delete) => self.delete_blob(name, digest).await,
            (Resource::Blob(name, digest), _) => {
                let range = headers.get(RANGE).and_then(|range| range.to_str().ok());
                self.get_blob(&name, &digest, blobs::Request { range, is_head, all }).await
            }
            (Resource::Uploads(name), _) => self.begin_upload(name, &query, headers, body).await,
            (Resource::Upload(name, id), Verb::Patch) => {
                self.continue_upload(&name, &id, headers, body).await
            }
            (Resource::Upload(name, id), Verb::Put) => {
                self.end_upload(&name, &id, &query, (headers, body)).await
            }
            (Resource::Upload(name, id), Verb::Delete) => self.cancel_upload(&name, &id).await,
            (Resource::Upload(name, id), _) => self.upload_status(&name, &id),
        }
    }

    /// There is a registry. Who may come to more with a name is told how.
    fn base(&self, caller: &Caller, is_head: bool) -> Response<Body> {
        let answer = Answer::new(StatusCode::OK).json(&serde_json::json!({}), is_head);
        let mut response = answer.response();
        if caller.name.is_none() && self.gate.knows_names() {
            response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
        }
        response
    }
}
