//! `autoscale`: services whose number of tasks follows what is measured.

use swarm_proto::id::Timestamp;
use swarm_proto::object::ScalingReport;
use swarm_proto::wire;

use super::{Call, now, unknown};
use crate::connect::request_id;
use crate::failure::Failure;
use crate::output;
use crate::view::{self, AutoscaleView};

/// Which services to show.
#[derive(Debug, clap::Args)]
pub(crate) struct Autoscale {
    /// The services' full names; all that are scaled by themselves where none is given
    services: Vec<String>,
}

impl Autoscale {
    pub(crate) async fn run(self, call: &Call) -> Result<(), Failure> {
        let request = wire::ListScalingRequest { request_id: request_id()? };
        let answer = call
            .cluster
            .call(async |mut client| client.list_scaling(request.clone()).await)
            .await?;
        let mut views = Vec::new();
        for report in answer.services {
            let report = ScalingReport::try_from(report).map_err(|error| {
                Failure::because("the controller's answer cannot be understood", &error)
            })?;
            views.push(AutoscaleView::of(&report));
        }
        views.sort_by(|a, b| a.service.cmp(&b.service));
        for name in &self.services {
            if !views.iter().any(|view| view.service == *name) {
                let known = views.iter().map(|view| view.service.as_str());
                return Err(unknown("scaled service", name, known)
                    .hint("only services with `x-swarm: autoscale` are scaled by themselves"));
            }
        }
        views.retain(|view| self.services.is_empty() || self.services.contains(&view.service));
        output::data(&view::list(&views, call.format, now(Timestamp::default()))?);
        Ok(())
    }
}
