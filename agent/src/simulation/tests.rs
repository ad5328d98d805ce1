use std::collections::BTreeMap;

use swarm_proto::id::Timestamp;
use swarm_proto::object::NodeDescription;

use super::*;
use crate::testing;

fn node(tasks: &[(&str, TaskState)]) -> SimulatedNode {
    let of_backup =
        |(id, state): &(&str, TaskState)| (id.parse().unwrap(), testing::progress(*state).status);
    SimulatedNode {
        description: NodeDescription::default(),
        tasks: tasks.iter().map(of_backup).collect(),
        volumes: vec![VolumeReport {
            id: VolumeId(4),
            name: "web_data".into(),
            created_at: Timestamp(9),
            filled_from: None,
        }],
        images: BTreeMap::new(),
    }
}

/// The folder that stays, and the one that ends with the host's power.
struct Folders(tempfile::TempDir);

impl Folders {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self, node: &SimulatedNode) -> (Simulation, bool) {
        Simulation::open(&self.0.path().join("disk"), &self.running(), node).unwrap()
    }

    fn running(&self) -> PathBuf {
        self.0.path().join("run")
    }
}

#[tokio::test]
async fn what_the_backup_says_runs_until_the_power_is_cut() {
    let folders = Folders::new();
    let node = node(&[("1.1.1", TaskState::Running), ("1.2.1", TaskState::Preparing)]);
    let (simulation, first) = folders.open(&node);
    assert!(first);
    let (runs, begins) = ("1.1.1".parse().unwrap(), "1.2.1".parse().unwrap());
    assert!(simulation.runs(runs) && !simulation.runs(begins));
    // Nobody has told of any task yet.
    simulation.retain(BTreeSet::new()).await.unwrap();
    assert!(simulation.runs(runs));
    assert_eq!(simulation.volume_reports().await.unwrap(), node.volumes);

    let (again, first) = folders.open(&node);
    assert!(!first && again.runs(runs), "it outlives the agent");
    again.remove_volume(VolumeId(4), String::new()).await.unwrap();

    fs::remove_dir_all(folders.running()).unwrap();
    let (again, first) = folders.open(&node);
    assert!(!first && !again.runs(runs), "a power cut ends it");
    assert_eq!(again.volume_reports().await.unwrap(), [], "a removed volume does not come back");
}

#[tokio::test]
async fn a_simulated_task_runs_until_it_is_stopped() {
    let folders = Folders::new();
    let (simulation, _) = folders.open(&node(&[]));
    let task = Arc::new(testing::task("1.1.1"));
    let image = simulation.fetch(&task).await.unwrap();
    assert_eq!(image.digest, simulation.fetch(&task).await.unwrap().digest);
    let built = simulation.build(&task, &image).await.unwrap();
    let found = simulation.start(&task, 1, &image, built).await.unwrap();
    let Found::Running { mut end, .. } = found else { panic!("{found:?}") };
    assert!(folders.running().join("1.1.1.1").exists());

    simulation.stop(&task, 1).await.unwrap();
    end.ended().await;
    let found = simulation.inspect(task.id, 1).await.unwrap();
    let Found::Exited(exit) = found else { panic!("{found:?}") };
    assert_eq!((exit.code, exit.signal), (0, None));
    simulation.settle(task.id, 1).await.unwrap();
    assert!(matches!(simulation.inspect(task.id, 1).await.unwrap(), Found::Absent));
    assert_eq!(fs::read_dir(folders.running()).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn a_volume_that_was_not_assigned_is_refused() {
    let folders = Folders::new();
    let (simulation, _) = folders.open(&node(&[]));
    let mut task = testing::task("1.1.1");
    task.container.mounts = vec![swarm_proto::spec::Mount {
        target: "/data".into(),
        source: MountSource::Volume { volume: "data".into(), no_copy: false, external: None },
        read_only: false,
    }];
    let image = simulation.fetch(&task).await.unwrap();
    let refused = simulation.build(&Arc::new(task.clone()), &image).await;
    assert!(matches!(refused, Err(TaskError::NoVolume(key)) if key == "data"));
    task.volumes = BTreeMap::from([("data".to_owned(), VolumeId(7))]);
    simulation.assigned().set(BTreeMap::new(), [(VolumeId(7), "web_data".to_owned())].into());
    simulation.build(&Arc::new(task), &image).await.unwrap();
    let made = simulation.volume_reports().await.unwrap();
    assert!(made.iter().any(|volume| volume.id == VolumeId(7)), "{made:?}");
}
