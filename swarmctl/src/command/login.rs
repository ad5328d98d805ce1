//! `login` and `logout`: names and passwords for registries, which the cluster keeps.

use std::io::{self, BufRead as _, IsTerminal as _};

use swarm_proto::object::{RegistryLogin, RegistryName, Secret};
use swarm_proto::wire;
use swarm_proto::wire::images_client::ImagesClient;
use zeroize::Zeroize as _;

use super::{Call, now};
use crate::connect::request_id;
use crate::failure::Failure;
use crate::hidden;
use crate::output;
use crate::view::{self, LoginView};

/// Keeps a name and password for a registry in the cluster, once a node has tried them there
///
/// Every deploy, pull and push that needs the registry uses them from then on, in the place of earlier ones. They are kept
/// as secrets are: encrypted on the controllers' disks, given only to nodes that need them, and shown by nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct Login {
    /// The registry: `host` or `host:port`; Docker Hub without it
    #[arg(value_parser = registry, value_name = "REGISTRY")]
    registry: Option<RegistryName>,
    /// The name
    #[arg(short = 'u', long, value_name = "NAME")]
    username: Option<String>,
    /// The password, which others on this machine may see: better give it to standard input
    #[arg(short = 'p', long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input, one line
    #[arg(long)]
    password_stdin: bool,
    /// List the registries that the cluster has a login at, without passwords
    #[arg(long, conflicts_with_all = ["registry", "username", "password", "password_stdin"])]
    list: bool,
}

/// Forgets the cluster's name and password for a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Logout {
    /// The registry: `host` or `host:port`; Docker Hub without it
    #[arg(value_parser = registry, value_name = "REGISTRY")]
    registry: Option<RegistryName>,
}

fn registry(text: &str) -> Result<RegistryName, String> {
    text.parse().map_err(|error| format!("{error}"))
}

pub(crate) async fn log_in(mut login: Login, call: &Call) -> Result<(), Failure> {
    if login.list {
        return list(call).await;
    }
    let registry = login.registry.clone().unwrap_or_else(RegistryName::hub);
    let user = login.user()?;
    let password = login.password().await?;
    let wanted = RegistryLogin::new(registry.clone(), user.clone(), password);
    let request = wire::LogInRequest { request_id: request_id()?, login: Some((&wanted).into()) };
    let ask = async |channel| ImagesClient::new(channel).log_in(request.clone()).await;
    let answer = call.cluster.call_service(ask).await?;
    if answer.open {
        output::warn(&format!("`{registry}` lets everybody in: name and password were not tried"));
    }
    output::talk(&format!("the cluster is logged in at `{registry}` as `{user}`"));
    Ok(())
}

pub(crate) async fn log_out(logout: Logout, call: &Call) -> Result<(), Failure> {
    let registry = logout.registry.unwrap_or_else(RegistryName::hub);
    let request = wire::LogOutRequest { request_id: request_id()?, registry: registry.to_string() };
    let ask = async |channel| ImagesClient::new(channel).log_out(request.clone()).await;
    call.cluster.call_service(ask).await?;
    output::talk(&format!("the cluster has no login at `{registry}` any more"));
    Ok(())
}

async fn list(call: &Call) -> Result<(), Failure> {
    let request = wire::ListLoginsRequest { stale: call.stale };
    let ask = async |channel| ImagesClient::new(channel).list_logins(request).await;
    let answer = call.cluster.call_service(ask).await?;
    let views: Vec<LoginView> = answer.logins.into_iter().map(LoginView::of).collect();
    output::data(&view::list(&views, call.format, now(swarm_proto::id::Timestamp::default()))?);
    Ok(())
}

impl Login {
    /// The name, perhaps as it is typed now.
    fn user(&self) -> Result<String, Failure> {
        if let Some(user) = &self.username {
            return Ok(user.clone());
        }
        if self.password_stdin || !io::stdin().is_terminal() {
            return Err(Failure::usage("a login needs a name").hint("give it with `-u NAME`"));
        }
        output::talk("name:");
        let mut line = String::new();
        io::stdin()
            .lock()
            .read_line(&mut line)
            .map_err(|error| Failure::because("cannot read standard input", &error))?;
        Ok(line.trim().to_owned())
    }

    /// The password, from where it comes.
    async fn password(&mut self) -> Result<Secret, Failure> {
        if let Some(password) = self.password.take() {
            output::warn(
                "a password among arguments may be seen by others: see `--password-stdin`",
            );
            return Ok(Secret::new(password));
        }
        if self.password_stdin && io::stdin().is_terminal() {
            return Err(Failure::usage("there is no password in standard input")
                .hint("leave `--password-stdin` out to be asked for it"));
        }
        hidden::read_line("password:").await
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}
