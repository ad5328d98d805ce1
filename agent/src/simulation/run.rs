//! Runs the nodes that one host of a lab plays: its own, and those in `simulated/` of its state folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::try_join_all;
use swarm_proto::rehearsal::SimulatedNode;
use swarm_proto::transport::Tls;
use tokio::sync::watch;

use super::Simulation;
use super::service::SimulatedService;
use crate::board::Board;
use crate::config::Config;
use crate::controllers::Controllers;
use crate::description::{Describer, Fixed};
use crate::executor::Executor;
use crate::incarnation::Latest;
use crate::journal::Journal;
use crate::resources::Reserve;
use crate::run::{
    RunError, advertised, answer_controllers, keep_certificate, lease, until_told,
    wait_for_identity,
};
use crate::session::Sessions;
use crate::usage;
use crate::worker::{Reach, Worker};

/// The further nodes of a host, each in a state folder of its own.
const FURTHER: &str = "simulated";

/// Plays all nodes of this host until told to stop. Each listens on a port of its own, from the agent's on.
pub async fn run(config: Config) -> Result<(), RunError> {
    until_told(async {
        let folders = state_folders(&config.state_dir)?;
        let ports = config.port..=u16::MAX;
        try_join_all(
            folders.into_iter().zip(ports).map(|(folder, port)| play(&config, folder, port)),
        )
        .await
        .map(drop)
    })
    .await
}

/// The state folder of each node that this host plays.
fn state_folders(own: &Path) -> Result<Vec<PathBuf>, RunError> {
    let folder = own.join(FURTHER);
    let failed = |source| RunError::Folder { path: folder.clone(), source };
    let mut folders = vec![own.to_owned()];
    match fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries.map_err(failed)? {
                folders.push(entry.map_err(failed)?.path());
            }
        }
    }
    folders.sort();
    Ok(folders)
}

async fn play(config: &Config, state_dir: PathBuf, port: u16) -> Result<(), RunError> {
    let identity = wait_for_identity(&state_dir).await?;
    let node = SimulatedNode::load(&state_dir)?;
    let address = advertised(config, &identity)?;
    let hostname = node.description.hostname.clone();
    tracing::info!(node = %identity.node_id, %hostname, %address, port, "simulating");
    let tls = Tls::new(&identity.credentials())?;
    tokio::spawn(keep_certificate(state_dir.clone(), Arc::clone(&tls), &identity));
    let agent = state_dir.join("agent");
    fs::create_dir_all(&agent)
        .map_err(|source| RunError::Folder { path: agent.clone(), source })?;
    let running = config.run_dir.join(FURTHER).join(identity.node_id.to_string());
    let (simulation, first) = Simulation::open(&agent.join("simulation"), &running, &node)?;
    let journal = Journal::open(&agent.join("journal"))?;
    let board = Arc::new(Board::default());
    // Told in the first hello: what an agent does not speak of counts as lost.
    for (task, status) in &node.tasks {
        let told = journal.contents().tasks.contains_key(task);
        if !told && (first || simulation.runs(*task)) {
            board.set_status(*task, status.clone());
        }
    }
    let executor: Arc<dyn Executor> = Arc::new(simulation);
    let (cut_off, in_reach) = watch::channel(false);
    let lease = Arc::new(lease(&config.run_dir)?);
    let reach = Reach { cut_off: in_reach, lease: Arc::clone(&lease) };
    let worker = Worker::start(journal, Arc::clone(&executor), Arc::clone(&board), reach).await;
    let worker = Arc::new(worker);
    let controllers = Arc::new(Controllers::default());
    let service =
        SimulatedService::server(Arc::clone(&worker), &node, (identity.node_id, hostname));
    answer_controllers(port, (service, None), &controllers, &tls).await?;
    let (labels, resources, reserve) = (BTreeMap::new(), BTreeMap::new(), Reserve::default());
    let fixed = Fixed { address, port, labels, resources, reserve, tls: Arc::clone(&tls) };
    let describer = Describer::simulated(fixed, node.description);
    let latest = Latest::open(&agent, &identity.cluster_id)?;
    let usages = usage::start(Arc::clone(&worker), Arc::clone(&executor));
    let sessions = Sessions {
        identity,
        state_dir,
        tls,
        controllers,
        worker,
        board,
        executor,
        describer,
        latest,
        cut_off,
        lease,
        usages,
        images: watch::channel(Vec::new()).1,
    };
    sessions.run().await;
    Ok(())
}
