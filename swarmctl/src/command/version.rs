//! `version`: who speaks with whom.

use std::process::ExitCode;

use swarm_proto::wire;

use super::Call;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::view::{self, ServerView, VersionView};

pub(crate) async fn run(call: &Call) -> Result<(), Failure> {
    let request = wire::GetVersionRequest {};
    match call.cluster.call(async |mut client| client.get_version(request).await).await {
        Ok(answer) => print(Some(server(answer)), call.format),
        Err(failure) => {
            print(None, call.format)?;
            Err(failure)
        }
    }
}

/// Without a cluster there is still this program's version to tell.
pub(crate) fn client_only(format: Format, failure: Failure) -> Result<ExitCode, Failure> {
    print(None, format)?;
    Err(failure)
}

fn server(answer: wire::GetVersionResponse) -> ServerView {
    let has_leader = answer.leader > 0;
    ServerView {
        version: answer.version,
        node: answer.node,
        raft_id: answer.raft_id,
        leader: has_leader.then_some(answer.leader),
        leader_address: Some(answer.leader_address).filter(|address| !address.is_empty()),
    }
}

fn print(server: Option<ServerView>, format: Format) -> Result<(), Failure> {
    let view = VersionView { client: env!("CARGO_PKG_VERSION").to_owned(), server };
    let text = match format {
        Format::Json => view::json(&view)?,
        Format::Yaml => view::yaml(&view)?,
        Format::Name => view.client.clone() + "\n",
        Format::Table | Format::Wide => words(&view),
    };
    output::data(&text);
    Ok(())
}

fn words(view: &VersionView) -> String {
    let client = format!("swarmctl     {}\n", view.client);
    let Some(server) = &view.server else { return client };
    let leader = match (server.leader, &server.leader_address) {
        (Some(leader), _) if leader == server.raft_id => ", the leader".to_owned(),
        (Some(_), Some(address)) => format!(", the leader is {address}"),
        (Some(leader), None) => format!(", the leader has raft id {leader}"),
        (None, _) => ", no leader is known".to_owned(),
    };
    format!("{client}controller   {} on {}{leader}\n", server.version, server.node)
}
