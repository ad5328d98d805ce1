//! A registry that speaks TLS and leads on to a host that does not.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use swarm_agent::image::{Endpoint, ImageError, Images, Registries};
use swarm_proto::spec::ImageSpec;
use swarm_proto::transport::install_crypto_provider;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use crate::image::{image, tar};
use crate::registry::Registry;

/// Speaks TLS, says itself what manifests are, and leads on to the registry behind it for blobs.
struct Front {
    address: SocketAddr,
    certificate: String,
}

impl Front {
    async fn of(registry: &Registry) -> Self {
        install_crypto_provider();
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let behind = registry.address;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that went away is none of our business.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = answer(stream, behind).await;
                    }
                });
            }
        });
        Self { address, certificate: made.cert.pem() }
    }

    /// Docker Hub's images come from it alone.
    fn registries(&self, folder: &Path) -> Registries {
        let file = folder.join("ca.pem");
        std::fs::write(&file, &self.certificate).unwrap();
        let host = self.address.to_string();
        Registries {
            mirrors: [(
                "docker.io".to_owned(),
                vec![Endpoint { host: host.clone(), plain: false }],
            )]
            .into(),
            mirrors_only: ["docker.io".to_owned()].into(),
            ca_files: [(host, file)].into(),
            ..Registries::default()
        }
    }
}

async fn answer(mut stream: TlsStream<TcpStream>, behind: SocketAddr) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8(head.clone()).unwrap();
    let path = text.split(' ').nth(1).unwrap();
    if path.contains("/blobs/") {
        let place = format!("http://{behind}{path}&signature=secret");
        let found = format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: {place}\r\n\
             content-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(found.as_bytes()).await?;
    } else {
        let mut registry = TcpStream::connect(behind).await?;
        registry.write_all(&head).await?;
        tokio::io::copy(&mut registry, &mut stream).await?;
    }
    stream.shutdown().await
}

#[tokio::test]
async fn a_registry_with_tls_leads_to_no_host_without() {
    let registry = Registry::start().await;
    let layers = [tar(&[("new", 0o644, Some(b"new"))])];
    let pinned = registry.put("library/web", "1", &image(&layers, &json!({ "Cmd": ["x"] })));
    let front = Front::of(&registry).await;
    let folder = tempfile::tempdir().unwrap();
    let mut registries = front.registries(folder.path());
    let wanted = ImageSpec { digest: pinned.parse().ok(), ..ImageSpec::new("web:1") };

    let images = Images::open(&folder.path().join("one"), registries.clone()).unwrap();
    let error = images.ensure(&wanted).await.unwrap_err();
    assert!(matches!(error.inner(), ImageError::Unavailable { .. }), "{error:?}");
    let expected = format!(
        "https://{} answers wrongly: it leads on to `http://{}`, without TLS",
        front.address, registry.address
    );
    assert!(error.to_string().ends_with(&expected), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("name it under `insecure`"), "{hint}");
    assert!(registry.requests("/blobs/").is_empty(), "nobody was asked");
    assert!(images.list().is_empty());

    // Where the configuration says so, that host may be asked.
    registries.insecure.insert(registry.address.to_string());
    let images = Images::open(&folder.path().join("two"), registries).unwrap();
    images.ensure(&wanted).await.unwrap();
    assert_eq!(registry.requests("/blobs/").len(), 2, "a configuration and a layer");
}
