//! `promote`: lets updates that hold with their canary go on.

use swarm_proto::wire;

use super::service::converge;
use super::{Call, Waiting};
use crate::connect::request_id;
use crate::failure::Failure;
use crate::output;

/// Which services' canaries are good.
#[derive(Debug, clap::Args)]
pub(crate) struct Promote {
    /// The services' full names
    #[arg(required = true)]
    services: Vec<String>,
    #[command(flatten)]
    waiting: Waiting,
}

impl Promote {
    pub(crate) async fn run(self, call: &Call) -> Result<(), Failure> {
        for service in &self.services {
            let request =
                wire::PromoteServiceRequest { request_id: request_id()?, service: service.clone() };
            call.cluster
                .call(async |mut client| client.promote_service(request.clone()).await)
                .await?;
            output::talk(&format!("the update of service `{service}` goes on"));
        }
        for service in &self.services {
            converge(service, &self.waiting, call).await?;
        }
        Ok(())
    }
}
