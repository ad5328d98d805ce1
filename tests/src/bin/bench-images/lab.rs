//! The lab: its hosts, what they hold, and the ways to make them hold it.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use swarm_tests::bench::{Outcome, output, swarmctl, text};

use crate::made::Made;
use crate::parts::Parts;
use crate::peers::{Cost, forget_peak, peak, wait_for};

/// Where its registry listens.
pub(crate) const REGISTRY: &str = "10.77.0.254:5000";
/// The last one has no controller; the first one begins.
pub(crate) const HOSTS: usize = 6;
const LABS: &str = "/var/lib/swarm-lab";
const NAME: &str = "bench-images";
const STACK: &str = "images";

/// See the module. It goes away with this.
pub(crate) struct Lab {
    folder: PathBuf,
    hosts: Vec<Host>,
    /// Layers that nobody needs any more, by number; it is gone with the lab's disks.
    trash: PathBuf,
    aside: Cell<u32>,
    /// Once it is up. It goes after the lab's processes.
    parts: Option<Parts>,
}

struct Host {
    name: String,
    /// Its namespaces, below its first process.
    spaces: PathBuf,
    /// All of its processes.
    processes: Vec<u32>,
    /// Its agent's process.
    agent: PathBuf,
}

impl Host {
    fn state(&self) -> PathBuf {
        Path::new(LABS).join(NAME).join(&self.name).join("lib/agent")
    }

    /// Whether an image is ready to run here.
    fn holds(&self, image: &Made) -> bool {
        self.record(image).exists()
    }

    fn record(&self, image: &Made) -> PathBuf {
        self.state().join("images").join(format!("{}.json", image.digest))
    }
}

/// Which host is to get an image.
#[derive(Debug, Clone, Copy)]
pub(crate) enum To {
    /// Only this one, counted from 0.
    One(usize),
    /// All of them.
    All,
}

impl Lab {
    /// Brings it up over a registry's storage; `folder` is for files of its own.
    pub(crate) fn up(storage: &Path, folder: &Path) -> Outcome<Self> {
        // Whatever happens from here on, it is taken down again.
        let trash = Path::new(LABS).join(NAME).join("trash");
        let (folder, aside) = (folder.to_owned(), Cell::new(0));
        let mut lab = Self { folder, hosts: Vec::new(), trash, aside, parts: None };
        let count = HOSTS.to_string();
        swarmctl(&[
            "lab",
            "up",
            "--name",
            NAME,
            "--fresh",
            "--hosts",
            &count,
            "--controllers",
            "1",
            "--registry",
            text(storage),
        ])?;
        lab.hosts = hosts()?;
        let processes = lab.hosts.iter().map(|host| (&*host.name, &*host.processes));
        lab.parts = Some(Parts::new(processes)?);
        fs::create_dir(&lab.trash)?;
        Ok(lab)
    }

    /// The first host's network.
    pub(crate) fn network(&self) -> PathBuf {
        self.hosts[0].spaces.join("net")
    }

    /// Deploys a task of the image, and waits until the hosts can run it.
    pub(crate) fn deploy(&self, image: &Made, to: To) -> Outcome<f64> {
        let file = self.write_stack(image, to)?;
        sync()?;
        let begun = Instant::now();
        swarmctl(&["deploy", "-f", text(&file), "--name", STACK, "--detach"])?;
        let wanted = match to {
            To::One(at) => &self.hosts[at..=at],
            To::All => &self.hosts[..],
        };
        let what = format!("{} is on {} hosts", image.name, wanted.len());
        wait_for(&what, || Ok(wanted.iter().all(|host| host.holds(image))))?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// The same on the first host, with what its agent took.
    pub(crate) fn deploy_on_first(&self, image: &Made) -> Outcome<Cost> {
        let agent = &self.hosts[0].agent;
        forget_peak(agent)?;
        let seconds = self.deploy(image, To::One(0))?;
        Ok(Cost { seconds, memory: peak(agent)? })
    }

    fn write_stack(&self, image: &Made, to: To) -> Outcome<PathBuf> {
        let deploy = match to {
            To::One(at) => {
                let name = &self.hosts[at].name;
                format!("placement: {{constraints: [node.hostname == {name}]}}")
            }
            To::All => "mode: global".to_owned(),
        };
        let stack = format!(
            "services:\n  one:\n    image: {}\n    command: [/usr/bin/busybox, sleep, '100000']\n    \
             network_mode: none\n    stop_grace_period: 0s\n    deploy: {{{deploy}}}\n",
            image.name
        );
        let file = self.folder.join("stack.yml");
        fs::write(&file, stack)?;
        Ok(file)
    }

    /// Takes all stacks away; the images stay.
    pub(crate) fn stop() -> Outcome<()> {
        for stack in swarmctl(&["stack", "ls", "-o", "name"])?.lines() {
            swarmctl(&["stack", "rm", stack])?;
        }
        wait_for("the stack is gone", || {
            let tasks: Value = serde_json::from_str(&swarmctl(&["ps", "-o", "json"])?)?;
            Ok(tasks.as_array().is_some_and(Vec::is_empty))
        })
    }

    /// Takes an image from all hosts that have it.
    pub(crate) fn forget(&self, image: &Made) -> Outcome<()> {
        for host in &self.hosts {
            self.put_layers_aside(host)?;
        }
        wait_for("the image is gone", || {
            // A task that just ended still needs it.
            let _ = swarmctl(&["image", "rm", &image.name]);
            Ok(!self.hosts.iter().any(|host| host.holds(image)))
        })
    }

    /// Lets the first host lose an image's record, and all unpacked layers; the blobs stay.
    pub(crate) fn lose_layers(&self, image: &Made) -> Outcome<()> {
        let host = &self.hosts[0];
        fs::remove_file(host.record(image))?;
        self.put_layers_aside(host)
    }

    /// For minutes after many files were deleted, ext4 is slow to make new ones, whoever makes them: it passes over each
    /// number that was freed lately. So nothing is deleted before the end.
    fn put_layers_aside(&self, host: &Host) -> Outcome<()> {
        for entry in fs::read_dir(host.state().join("layers"))? {
            let path = entry?.path();
            if path.is_dir() {
                let aside = self.aside.get();
                self.aside.set(aside + 1);
                fs::rename(path, self.trash.join(aside.to_string()))?;
            } else if path.extension().is_some_and(|ending| ending == "synced") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Takes an image to the first host, and runs it there, so that the leader is known to know of it.
    pub(crate) fn load(&self, image: &Made) -> Outcome<()> {
        let archive = self.folder.join("archive.tar");
        output(Command::new("tar").args(["-C", text(&image.layout), "-cf", text(&archive), "."]))?;
        let (node, name) = (self.hosts[0].name.as_str(), image.name.as_str());
        swarmctl(&["image", "load", text(&archive), "--node", node, "--tag", name])?;
        fs::remove_file(archive)?;
        let file = self.write_stack(image, To::One(0))?;
        wait_for("the loaded image runs", || {
            let deploy = ["deploy", "-f", text(&file), "--name", "loaded", "--settle", "0s"];
            Ok(swarmctl(&deploy).is_ok())
        })
    }

    /// Gives each host its part of the processors, even where others are idle; or all that it finds idle.
    pub(crate) fn limit(&self, is_limited: bool) -> Outcome<()> {
        self.parts.as_ref().map_or(Ok(()), |parts| parts.limit(is_limited))
    }

    /// The first host's name.
    pub(crate) fn first(&self) -> &str {
        &self.hosts[0].name
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = swarmctl(&["lab", "down", "--name", NAME]) {
            eprintln!("the lab stays: {error}");
        }
    }
}

/// Brings everything to the disk, so that no round pays for the one before.
pub(crate) fn sync() -> Outcome<()> {
    output(&mut Command::new("sync")).map(drop)
}

fn hosts() -> Outcome<Vec<Host>> {
    let labs: Value = serde_json::from_str(&swarmctl(&["lab", "ls", "-o", "json"])?)?;
    let labs = labs.as_array().ok_or("`lab ls` printed no list")?;
    let lab = labs.iter().find(|lab| lab["name"] == NAME).ok_or("the lab is gone")?;
    let hosts = lab["hosts"].as_array().ok_or("the lab has no hosts")?;
    hosts.iter().map(host).collect()
}

fn host(told: &Value) -> Outcome<Host> {
    let name = told["name"].as_str().ok_or("a host without a name")?.to_owned();
    let first = told["pid"].as_i64().ok_or("a host that is off")?;
    let spaces = PathBuf::from(format!("/proc/{first}/ns"));
    let space = fs::read_link(spaces.join("pid"))?;
    let (mut processes, mut agent) = (Vec::new(), None);
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        if !fs::read_link(process.join("ns/pid")).is_ok_and(|found| found == space) {
            continue;
        }
        processes.extend(process.file_name().and_then(|id| id.to_str()?.parse::<u32>().ok()));
        let command = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
        if command.split('\0').next().is_some_and(|name| name.ends_with("/swarm-agent")) {
            agent = Some(process);
        }
    }
    let agent = agent.ok_or_else(|| format!("{name} runs no agent"))?;
    Ok(Host { name, spaces, processes, agent })
}
