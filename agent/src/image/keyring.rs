//! Names and passwords for registries: what came with a request, the cluster's, this host's own file. They are looked
//! for once a registry is about to be asked, and dropped with the conversation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use swarm_proto::docker_config;
use swarm_proto::failure::sentence;
use swarm_proto::object::{RegistryLogin, RegistryName};

use super::Directory;

/// The logins that came with a request, and of which nothing stays when it ends.
#[derive(Debug, Clone, Default)]
pub struct Logins {
    /// The cluster's, by registry.
    cluster: BTreeMap<RegistryName, RegistryLogin>,
    /// The cluster's are all known: no controller need be asked.
    complete: bool,
    /// Those that count where neither the cluster nor this host has one.
    brought: BTreeMap<RegistryName, RegistryLogin>,
}

impl Logins {
    /// All that the cluster has for the registries of a request.
    pub fn of_cluster(logins: impl IntoIterator<Item = RegistryLogin>) -> Self {
        let cluster = logins.into_iter().map(|login| (login.registry.clone(), login)).collect();
        Self { cluster, complete: true, brought: BTreeMap::new() }
    }

    /// And these, which come last.
    #[must_use]
    pub fn or_brought(mut self, logins: impl IntoIterator<Item = RegistryLogin>) -> Self {
        self.brought.extend(logins.into_iter().map(|login| (login.registry.clone(), login)));
        self
    }
}

/// Who may open what, for one conversation with a registry.
pub(super) struct Keyring {
    pub(super) logins: Arc<Logins>,
    pub(super) directory: Option<Arc<dyn Directory>>,
    /// This host's own file.
    pub(super) file: Option<PathBuf>,
}

impl Keyring {
    /// Who is to ask a registry: the cluster's login comes first, then this host's file, then what was brought.
    pub(super) async fn find(&self, registry: &str) -> Option<RegistryLogin> {
        // What is no registry's name has no login.
        let registry: RegistryName = registry.parse().ok()?;
        if let Some(login) = self.logins.cluster.get(&registry) {
            return Some(login.clone());
        }
        if let Some(directory) = self.directory.as_ref().filter(|_| !self.logins.complete)
            && let Some(login) = directory.login(&registry).await
        {
            return Some(login);
        }
        if let Some(file) = &self.file {
            match docker_config::look_up(file, &registry).await {
                Ok(Some(login)) => return Some(login),
                Ok(None) => {}
                Err(error) => {
                    let why = sentence(&error);
                    tracing::warn!(%registry, why, "this host's own login cannot be used");
                }
            }
        }
        self.logins.brought.get(&registry).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use swarm_proto::id::{Digest, NodeId};
    use swarm_proto::object::Secret;

    use super::*;
    use crate::image::Known;

    fn login(registry: &str, user: &str) -> RegistryLogin {
        RegistryLogin::new(registry.parse().unwrap(), user.to_owned(), Secret::new("p".to_owned()))
    }

    /// Gives the same user everywhere.
    struct Cluster(Mutex<Option<&'static str>>);

    #[tonic::async_trait]
    impl Directory for Cluster {
        async fn find(&self, _: &str, _: Option<&Digest>) -> Known {
            Known::default()
        }

        async fn is_member(&self, _: NodeId) -> bool {
            false
        }

        async fn login(&self, registry: &RegistryName) -> Option<RegistryLogin> {
            self.0.lock().unwrap().map(|user| login(registry.as_str(), user))
        }
    }

    async fn user(keyring: &Keyring, registry: &str) -> String {
        let login = keyring.find(registry).await;
        login.map_or_else(|| "nobody".to_owned(), |login| login.user)
    }

    #[tokio::test]
    async fn the_cluster_comes_first_then_this_hosts_file_then_what_was_brought() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        let cluster = Arc::new(Cluster(Mutex::new(Some("cluster"))));
        let mut keyring = Keyring {
            logins: Arc::default(),
            directory: Some(Arc::clone(&cluster) as Arc<dyn Directory>),
            file: Some(file.clone()),
        };
        assert_eq!(user(&keyring, "a.example").await, "cluster");
        assert_eq!(user(&keyring, "no registry").await, "nobody");
        *cluster.0.lock().unwrap() = None;
        assert_eq!(user(&keyring, "a.example").await, "nobody");
        std::fs::write(&file, r#"{"auths":{"a.example":{"username":"file"}}}"#).unwrap();
        assert_eq!(user(&keyring, "a.example").await, "file");
        let given = Logins::of_cluster([login("b.example", "given")])
            .or_brought([login("a.example", "brought"), login("c.example", "brought")]);
        keyring.logins = Arc::new(given);
        *cluster.0.lock().unwrap() = Some("cluster");
        assert_eq!(user(&keyring, "b.example").await, "given");
        assert_eq!(user(&keyring, "a.example").await, "file", "nobody is asked any more");
        assert_eq!(user(&keyring, "c.example").await, "brought");
        std::fs::write(&file, "broken").unwrap();
        assert_eq!(user(&keyring, "a.example").await, "brought");
    }
}
