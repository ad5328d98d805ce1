//! A host that only builds: a store, a registry with a small system, and nothing left of any build afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;
use swarm_agent::build::{BuildError, BuildRequest, Builder, BuiltImage, Progress};
use swarm_agent::executor::{BuildSubnet, OneShots};
use swarm_agent::image::{Endpoint, Image, Images, Registries};
use swarm_agent::network::{NetworkConfig, Networks};
use swarm_proto::failure::sentence;
use swarm_proto::spec::{ImageSpec, PullPolicy};
use swarm_proto::transport::install_crypto_provider;
use swarm_runtime::ShimProgram;
use swarm_runtime::kernel::Namespace;
use swarm_runtime::kernel::netlink::Socket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::host::{eventually, runtime_program};
use crate::image::{busybox, image, tar};
use crate::registry::Registry;

/// What a build gave and told.
pub(crate) struct Told {
    pub(crate) result: Result<BuiltImage, BuildError>,
    /// Lines that programs wrote.
    pub(crate) output: Vec<String>,
    /// Each instruction, with a star where an earlier build had done it.
    pub(crate) steps: Vec<String>,
}

impl Told {
    pub(crate) fn image(&self) -> &BuiltImage {
        match &self.result {
            Ok(image) => image,
            Err(error) => panic!("{}\n{}", sentence(error), self.output.join("\n")),
        }
    }

    pub(crate) fn error(&self) -> String {
        sentence(self.result.as_ref().unwrap_err())
    }

    /// Those steps that were not done by an earlier build.
    pub(crate) fn worked(&self) -> Vec<&str> {
        let worked = self.steps.iter().filter(|step| !step.starts_with('*'));
        worked.map(|step| step.split(' ').next().unwrap()).collect()
    }
}

pub(crate) struct Lab {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) images: Arc<Images>,
    pub(crate) builder: Arc<Builder>,
    pub(crate) registry: Registry,
    cgroup_parent: String,
}

/// Runs a test on a thread with a network and mounts of its own: nothing of the machine's is touched.
pub(crate) fn in_a_lab(test: impl AsyncFnOnce(&Lab) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let mut socket = Socket::open_in(&Namespace::current().unwrap()).unwrap();
        let loopback = socket.link("lo").unwrap().index;
        socket.set_up(loopback, true).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async {
            let lab = Lab::new().await;
            test(&lab).await;
            // New layers are brought to the disk without anybody waiting.
            eventually("all of it to go", || lab.rests().is_empty()).await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Lab {
    pub(crate) async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        install_crypto_provider();
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::start().await;
        let config = json!({ "Env": ["PATH=/bin"], "Cmd": ["sh"] });
        registry.put("library/busybox", "1", &image(&[busybox()], &config));
        let mirror = Endpoint { host: registry.address.to_string(), plain: true };
        let registries = Registries {
            mirrors: [("docker.io".to_owned(), vec![mirror])].into(),
            mirrors_only: ["docker.io".to_owned()].into(),
            ..Registries::default()
        };
        let images = Arc::new(Images::open(folder.path(), registries).unwrap());
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let cgroup_parent = format!("swarm-build-test-{}-{number}", std::process::id());
        let program = Arc::new(ShimProgram::seal(&runtime_program()).unwrap());
        let config = NetworkConfig {
            run_dir: folder.path().join("run"),
            underlay: Ipv4Addr::LOCALHOST,
            host: Namespace::current().unwrap(),
            resolv_conf: "/etc/resolv.conf".into(),
        };
        let networks = Arc::new(Networks::new(config).await.unwrap());
        let subnet = BuildSubnet::default();
        let one_shots = OneShots::new(program, cgroup_parent.clone(), networks, subnet);
        let builder = Builder::open(folder.path(), Arc::clone(&images), one_shots).unwrap();
        Self { folder, images, builder, registry, cgroup_parent }
    }

    /// Builds with these files as context: what ends with a slash is a folder, what begins with `->` a link.
    pub(crate) async fn build(&self, request: BuildRequest, files: &[(&str, &str)]) -> Told {
        self.build_until(request, archive(files), CancellationToken::new()).await
    }

    pub(crate) async fn build_until(
        &self,
        request: BuildRequest,
        files: Vec<u8>,
        cancelled: CancellationToken,
    ) -> Told {
        let context = self.builder.context().unwrap();
        let context = tokio::task::spawn_blocking(move || {
            context.unpack(std::io::Cursor::new(files)).map(|()| context)
        });
        let context = context.await.unwrap().unwrap();
        let (sender, mut progress) = mpsc::channel(16);
        let builder = Arc::clone(&self.builder);
        let stop = cancelled.clone();
        let building =
            tokio::spawn(async move { builder.build(request, context, sender, cancelled).await });
        let (mut output, mut steps) = (Vec::new(), BTreeMap::new());
        while let Some(told) = progress.recv().await {
            match told {
                Progress::Warning(_) => {}
                Progress::Begun { step, text, .. } => drop(steps.insert(step, text)),
                Progress::Output { line, .. } => {
                    let line = String::from_utf8(line).unwrap();
                    if line == "cancel me" {
                        stop.cancel();
                    }
                    output.push(line);
                }
                Progress::Ended { step, cached } => {
                    if cached {
                        steps.get_mut(&step).unwrap().insert(0, '*');
                    }
                }
            }
        }
        let steps = steps.into_values().collect();
        Told { result: building.await.unwrap(), output, steps }
    }

    /// The image as a task would get it, without any registry.
    pub(crate) async fn image(&self, name: &str, built: &BuiltImage) -> Arc<Image> {
        let spec = ImageSpec {
            digest: Some(built.digest.clone()),
            pull_policy: PullPolicy::Never,
            ..ImageSpec::new(name)
        };
        self.images.ensure(&spec).await.unwrap()
    }

    /// The image's configuration document.
    pub(crate) async fn config(&self, built: &BuiltImage) -> serde_json::Value {
        let parts = self.images.parts(&built.digest).await.unwrap();
        serde_json::from_slice(&parts.config).unwrap()
    }

    /// What is left of builds on the host.
    pub(crate) fn rests(&self) -> Vec<String> {
        let mut rests = list(&self.folder.path().join("build/work"));
        let own =
            |folder: &Path| list(folder).into_iter().filter(|name| *name == self.cgroup_parent);
        rests.extend(own(Path::new("/sys/fs/cgroup")));
        for controller in list(Path::new("/sys/fs/cgroup")) {
            rests.extend(own(&Path::new("/sys/fs/cgroup").join(controller)));
        }
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let folder = self.folder.path().to_str().unwrap();
        rests.extend(mounts.lines().filter(|line| line.contains(folder)).map(str::to_owned));
        let unfinished = |folder: &str| list(&self.folder.path().join(folder));
        for folder in ["blobs/sha256", "layers", "build/cache", "build/mounts"] {
            rests.extend(unfinished(folder).into_iter().filter(|name| name.starts_with(".tmp-")));
        }
        rests
    }
}

fn list(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// An archive of such files, as a client sends it.
pub(crate) fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        if let Some(target) = content.strip_prefix("->") {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            archive.append_link(&mut header, name, target).unwrap();
            continue;
        }
        let folder = name.ends_with('/');
        let one = tar(&[(
            name,
            if folder { 0o755 } else { 0o644 },
            (!folder).then_some(content.as_bytes()),
        )]);
        for entry in tar::Archive::new(one.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let (mut header, path) = (entry.header().clone(), entry.path().unwrap().into_owned());
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            archive.append_data(&mut header, path, bytes.as_slice()).unwrap();
        }
    }
    archive.into_inner().unwrap()
}

/// A file of an image: in its topmost layer that has it.
pub(crate) fn in_layers(image: &Image, path: &str) -> Option<PathBuf> {
    let places = image.layers.iter().rev().map(|layer| layer.join(path));
    places.into_iter().find(|place| place.symlink_metadata().is_ok())
}

pub(crate) fn content(image: &Image, path: &str) -> String {
    let place = in_layers(image, path).unwrap_or_else(|| panic!("`{path}` is in no layer"));
    fs::read_to_string(place).unwrap()
}

/// Owner, group and permissions.
pub(crate) fn owner(image: &Image, path: &str) -> (u32, u32, u32) {
    let place = in_layers(image, path).unwrap_or_else(|| panic!("`{path}` is in no layer"));
    let meta = place.symlink_metadata().unwrap();
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

/// A build of a Dockerfile under the name `made:1`.
pub(crate) fn request(dockerfile: &str) -> BuildRequest {
    BuildRequest {
        dockerfile: dockerfile.to_owned(),
        file: "Dockerfile".to_owned(),
        names: vec!["made:1".parse().unwrap()],
        ..BuildRequest::default()
    }
}
