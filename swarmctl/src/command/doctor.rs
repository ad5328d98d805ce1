//! `doctor`: whether what is wished, what the controllers hold and what the hosts hold are the same.

use std::process::ExitCode;
use std::time::Duration;

use swarm_proto::wire;

use super::Call;
use crate::connect::Client;
use crate::doctor::{Answers, differences};
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::state::State;
use crate::view::{self, DoctorView};

/// Between two looks: what is only on its way has come by then.
const PAUSE: Duration = Duration::from_secs(2);

/// Exit code 1 when something differs. What differs is looked at twice, so that nothing is named that was only under
/// way.
pub(crate) async fn run(call: &Call) -> Result<ExitCode, Failure> {
    let mut answers = look(call, call.stale).await?;
    let first = differences(&answers);
    let mut found = Vec::new();
    if !first.is_empty() {
        tokio::time::sleep(PAUSE).await;
        answers = look(call, call.stale || answers.state.stale).await?;
        found = differences(&answers);
        found.retain(|now| {
            first.iter().any(|then| {
                (&then.node, &then.kind, &then.object) == (&now.node, &now.kind, &now.object)
            })
        });
    }
    let view = DoctorView {
        stale: answers.status.stale || answers.state.stale,
        controllers: answers.status.members.iter().filter(|member| member.reachable).count(),
        hosts: answers.hosts.iter().filter(|host| host.error.is_empty()).count(),
        differences: found,
    };
    if view.stale {
        output::talk("note: no quorum confirmed this; it is what one controller sees");
    }
    output::data(&match call.format {
        Format::Json => view::json(&view)?,
        Format::Yaml => view::yaml(&view)?,
        Format::Name => view.differences.iter().map(|one| one.object.clone() + "\n").collect(),
        Format::Table | Format::Wide => view.words(),
    });
    Ok(if view.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn look(call: &Call, stale: bool) -> Result<Answers, Failure> {
    let state = State::get(&call.cluster, stale).await?;
    let request = wire::GetClusterStatusRequest { stale: state.stale, own: false };
    let status = async |mut client: Client| client.get_cluster_status(request).await;
    let status = call.cluster.call(status).await?;
    let hosts = async |mut client: Client| client.inspect_hosts(wire::InspectHostsRequest {}).await;
    let hosts = call.cluster.call(hosts).await?.hosts;
    Ok(Answers { status, state, hosts })
}
