//! What this host holds of containers beside what it was told. It changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use swarm_proto::assignment::TaskAssignment;
use swarm_proto::id::TaskId;
use swarm_proto::object::TaskState;
use swarm_runtime::cgroup::Layout;
use swarm_runtime::{Container, ContainerError, ContainerStatus};

use super::container::names;
use super::{HostExecutor, TaskError, blocking, files};
use crate::inspection::Difference;
use crate::journal::Contents;

/// Where this process's mounts are listed.
const MOUNTS: &str = "/proc/self/mountinfo";

impl HostExecutor {
    /// Everything of networks and containers that is not as this host was told.
    pub async fn differences(&self, contents: Contents) -> Vec<Difference> {
        let mut found = self.networks.differences().await;
        let look = Look {
            folder: self.config.containers.clone(),
            cgroup_parent: self.config.cgroup_parent.clone(),
            contents,
        };
        match blocking(move || Ok(look.differences())).await {
            Ok(more) => found.extend(more),
            Err(error) => found.push(Difference::unseen("the containers", &error)),
        }
        found
    }
}

struct Look {
    folder: PathBuf,
    cgroup_parent: String,
    contents: Contents,
}

impl Look {
    fn differences(&self) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut add = |what: &str, looked: Result<Vec<Difference>, TaskError>| match looked {
            Ok(differences) => found.extend(differences),
            Err(error) => found.push(Difference::unseen(what, &error)),
        };
        add("the containers", self.containers());
        add("the folders of containers", self.folders());
        add("the control groups", self.cgroups());
        let text = fs::read_to_string(MOUNTS).map_err(TaskError::disk("read", Path::new(MOUNTS)));
        add("the mounts", text.map(|text| [self.mounts(&text), self.files(&text)].concat()));
        found
    }

    /// The container of each task that has one now.
    fn current(&self) -> impl Iterator<Item = (&str, TaskState, PathBuf)> {
        self.contents.tasks.values().filter_map(|task| {
            let status = &self.contents.progress.get(&task.id)?.status;
            let folder = self.folder.join(task.id.to_string()).join(status.attempt.to_string());
            (status.state <= TaskState::Running).then_some((&*task.name, status.state, folder))
        })
    }

    fn containers(&self) -> Result<Vec<Difference>, TaskError> {
        let mut found = Vec::new();
        for (name, state, folder) in self.current() {
            if state != TaskState::Running {
                continue;
            }
            let problem = match Container::open(&folder) {
                Err(_) => "should run, and has no container",
                Ok(container) => match container.status()? {
                    ContainerStatus::Running { .. } => continue,
                    ContainerStatus::Created { .. } => "should run, and its program was not begun",
                    ContainerStatus::Exited(_) => "should run, and its program has ended",
                },
            };
            found.push(Difference::lacking("container", format!("task {name}"), problem));
        }
        Ok(found)
    }

    fn is_known(&self, task: &str) -> bool {
        task.parse().is_ok_and(|id: TaskId| self.contents.tasks.contains_key(&id))
    }

    fn folders(&self) -> Result<Vec<Difference>, TaskError> {
        let strays = names(&self.folder)?.into_iter().filter(|name| !self.is_known(name));
        let stray = |name: String| {
            let path = self.folder.join(name).display().to_string();
            Difference::stray("folder", path, "belongs to no task of this host")
        };
        Ok(strays.map(stray).collect())
    }

    /// Control groups below the parent of all that are of no container that is alive.
    fn cgroups(&self) -> Result<Vec<Difference>, TaskError> {
        let containers = self.current().filter_map(|(.., folder)| Container::open(&folder).ok());
        let known: BTreeSet<PathBuf> = containers
            .flat_map(|container| container.cgroup().hierarchies().to_vec())
            .map(|hierarchy| hierarchy.path)
            .collect();
        let mut found = Vec::new();
        for root in Layout::detect().map_err(ContainerError::from)?.roots() {
            let parent = root.path.join(&self.cgroup_parent);
            for path in groups(&parent).map_err(TaskError::disk("read", &parent))? {
                if !known.contains(&path) {
                    let path = path.display().to_string();
                    found.push(Difference::stray(
                        "cgroup",
                        path,
                        "belongs to no running container",
                    ));
                }
            }
        }
        Ok(found)
    }

    /// Mounts in folders of tasks that are not this host's.
    fn mounts(&self, mountinfo: &str) -> Vec<Difference> {
        let folder = format!("{}/", self.folder.display());
        let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
        let strays = points.filter(|point| {
            let task = point.strip_prefix(&folder).and_then(|rest| rest.split('/').next());
            task.is_some_and(|task| !self.is_known(task))
        });
        strays
            .map(|point| Difference::stray("mount", point, "belongs to no task of this host"))
            .collect()
    }

    /// Secrets and configs that a running task lacks, and those of tasks that are over.
    fn files(&self, mountinfo: &str) -> Vec<Difference> {
        let mounted: BTreeSet<&str> =
            mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).collect();
        let differs = |task: &Arc<TaskAssignment>| {
            let state = self.contents.progress.get(&task.id)?.status.state;
            let point = self.folder.join(task.id.to_string()).join(files::NAME);
            let point = point.display().to_string();
            let stands = mounted.contains(point.as_str());
            let wanted = !task.container.files.is_empty();
            if state.is_terminal() && stands {
                return Some(Difference::stray(
                    "mount",
                    point,
                    "holds files of a task that is over",
                ));
            }
            let lacks = state == TaskState::Running && wanted && !stands;
            let problem = "should have its secrets and configs, and they are not mounted";
            lacks.then(|| Difference::lacking("mount", format!("task {}", task.name), problem))
        };
        self.contents.tasks.values().filter_map(differs).collect()
    }
}

/// The groups in a group; none when there is no such group.
fn groups(parent: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarm_proto::spec::{ContentKind, FileMount};

    fn look(folder: &Path) -> Look {
        Look {
            folder: folder.to_owned(),
            cgroup_parent: "none".to_owned(),
            contents: Contents::default(),
        }
    }

    #[test]
    fn what_belongs_to_no_task_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert_eq!(look(path).folders().unwrap(), []);
        fs::create_dir(path.join("1.1.1")).unwrap();
        let found = look(path).folders().unwrap();
        assert_eq!(
            (found[0].kind, found[0].object.as_str()),
            ("folder", &*path.join("1.1.1").display().to_string())
        );
        let line =
            format!("31 23 0:28 / {}/1.1.1/1/rootfs rw - overlay overlay rw\n", path.display());
        let other = "32 23 0:29 / /proc rw - proc proc rw\n";
        let found = look(path).mounts(&(line + other));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].problem, "belongs to no task of this host");
        let mut look = look(path);
        let mut task = crate::testing::task("1.1.1");
        task.container.files.push(FileMount {
            kind: ContentKind::Secret,
            source: "s".into(),
            digest: None,
            target: "/s".into(),
            uid: 0,
            gid: 0,
            mode: FileMount::MODE,
        });
        let id = task.id;
        look.contents.tasks.insert(id, Arc::new(task));
        look.contents.progress.insert(id, crate::testing::progress(TaskState::Running));
        let mounted = format!("33 23 0:30 / {}/1.1.1/files rw - tmpfs swarm rw\n", path.display());
        assert_eq!(look.files(&mounted), []);
        assert_eq!(look.files("")[0].object, "task web_front.1");
        look.contents.progress.insert(id, crate::testing::progress(TaskState::Failed));
        assert_eq!(look.files(&mounted)[0].problem, "holds files of a task that is over");
        assert_eq!(look.files(""), []);
        assert_eq!(groups(&path.join("absent")).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(groups(path).unwrap(), [path.join("1.1.1")]);
    }
}
