//! What a host must have before it joins: each missing thing with its fix. The agent tries the kernel itself when it
//! starts; this looks only, so that nothing is loaded or made.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use swarm_proto::object::Cluster;

/// What the host is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Only an agent.
    Agent,
    /// A controller and an agent.
    Controller,
}

/// One thing that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// What, and for what it is needed.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

/// Kernel parts by their module's name, with what needs them.
const MODULES: [(&str, &str); 6] = [
    ("overlay", "containers' root file systems"),
    ("bridge", "networks on one host"),
    ("veth", "networks on one host"),
    ("vxlan", "networks between hosts"),
    ("nf_tables", "published ports and virtual addresses"),
    ("nf_nat", "published ports and virtual addresses"),
];

/// Control group controllers, with what needs them.
const CONTROLLERS: [(&str, &str); 4] = [
    ("cpu", "CPU limits"),
    ("memory", "memory limits"),
    ("pids", "limits of processes"),
    ("io", "accounting of disks"),
];

/// Where distributions keep the root certificates of the web: Debian, Fedora, Alpine, SUSE.
const ROOT_CERTIFICATES: [&str; 4] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/ssl/cert.pem",
    "etc/ssl/ca-bundle.pem",
];

/// Where to look.
#[derive(Debug, Clone)]
pub struct Host {
    /// `/`, or another root for tests.
    pub root: PathBuf,
    /// `uname -r`
    pub release: String,
}

impl Host {
    /// This host.
    pub fn this() -> io::Result<Self> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
        Ok(Self { root: PathBuf::from("/"), release })
    }

    /// What the kernel and the mounts lack.
    pub fn lacks(&self) -> Vec<Lack> {
        let mut lacks: Vec<Lack> = MODULES
            .iter()
            .filter(|(module, _)| self.lists_modules() && !self.has_module(module))
            .map(|(module, need)| Lack {
                what: format!("this kernel has no `{module}`, which {need} need"),
                fix: format!(
                    "install the modules of kernel {} (Debian: linux-image-amd64), or run one with `{module}`",
                    self.release
                ),
            })
            .collect();
        lacks.extend(self.lacking_controllers());
        lacks.extend(self.lacking_certificates());
        lacks
    }

    fn lacking_certificates(&self) -> Option<Lack> {
        let found = ROOT_CERTIFICATES.iter().any(|place| self.root.join(place).exists());
        (!found).then(|| Lack {
            what: "no root certificates, which fetching images needs".to_owned(),
            fix: "install them (Debian: ca-certificates)".to_owned(),
        })
    }

    /// A kernel that came without its lists may have everything built in: the agent tries it.
    fn lists_modules(&self) -> bool {
        self.root.join("lib/modules").join(&self.release).join("modules.builtin").exists()
    }

    /// Loaded, built in, or there as a module that the kernel loads when it is asked for.
    fn has_module(&self, module: &str) -> bool {
        let listed = |file: PathBuf, is_it: &dyn Fn(&str) -> bool| {
            fs::read_to_string(file).is_ok_and(|text| text.lines().any(is_it))
        };
        let object = format!("/{module}.ko");
        let folder = self.root.join("lib/modules").join(&self.release);
        self.root.join("sys/module").join(module).exists()
            || listed(self.root.join("proc/modules"), &|line| {
                line.split(' ').next() == Some(module)
            })
            || listed(self.root.join("proc/filesystems"), &|line| {
                line.rsplit('\t').next() == Some(module)
            })
            || listed(folder.join("modules.builtin"), &|line| line.ends_with(&object))
            || listed(folder.join("modules.dep"), &|line| {
                line.split(':').next().is_some_and(|path| path.contains(&object))
            })
    }

    fn lacking_controllers(&self) -> Vec<Lack> {
        let list = self.root.join("sys/fs/cgroup/cgroup.controllers");
        let Ok(text) = fs::read_to_string(list) else {
            return vec![Lack {
                what: "no unified control group hierarchy (cgroup v2) is mounted on /sys/fs/cgroup"
                    .to_owned(),
                fix: "boot with `systemd.unified_cgroup_hierarchy=1`".to_owned(),
            }];
        };
        let has = |name: &str| text.split_whitespace().any(|word| word == name);
        let lacking = CONTROLLERS.iter().filter(|(name, _)| !has(name));
        let lack = |(name, need): &(&str, &str)| Lack {
            what: format!("the control group controller `{name}` is off, which {need} need"),
            fix: match *name {
                "memory" => "boot with `cgroup_enable=memory`".to_owned(),
                _ => format!("run a kernel with it; see that no `cgroup_disable={name}` is set"),
            },
        };
        lacking.map(lack).collect()
    }
}

/// Where the programs of this host listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The controller, TCP.
    pub controller: u16,
    /// The agent, TCP.
    pub agent: u16,
    /// The tunnels between hosts, UDP.
    pub vxlan: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { controller: 2377, agent: 2387, vxlan: Cluster::VXLAN_PORT }
    }
}

/// Ports that are taken, of those that this part listens on.
pub fn taken_ports(part: Part, ports: Ports, own_agent_runs: bool) -> Vec<Lack> {
    let mut lacks = Vec::new();
    let mut note = |port: u16, protocol: &str, who: &str, flag: &str| {
        lacks.push(Lack {
            what: format!("port {port}/{protocol} is taken, on which {who}"),
            fix: format!("see who listens: `ss -lnp 'sport = :{port}'`; stop it, or choose another with {flag}"),
        });
    };
    if part == Part::Controller && is_taken(TcpListener::bind(anywhere(ports.controller))) {
        note(ports.controller, "tcp", "controllers listen", "`--port`");
    }
    if !own_agent_runs && is_taken(TcpListener::bind(anywhere(ports.agent))) {
        note(ports.agent, "tcp", "the agent listens", "`--agent-port`");
    }
    if is_taken(UdpSocket::bind(anywhere(ports.vxlan))) && !is_tunnels(ports.vxlan) {
        let flag = "`cluster init --vxlan-port`, for the whole cluster";
        note(ports.vxlan, "udp", "networks between hosts arrive", flag);
    }
    lacks
}

fn anywhere(port: u16) -> (Ipv4Addr, u16) {
    (Ipv4Addr::UNSPECIFIED, port)
}

fn is_taken<T>(bound: io::Result<T>) -> bool {
    bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Whether only the kernel's tunnels have this port, no process: further tunnels share it, such as ours with those of a
/// Docker Swarm.
fn is_tunnels(port: u16) -> bool {
    let tables = ["udp", "udp6"].map(|table| fs::read_to_string(format!("/proc/net/{table}")));
    let sockets: Vec<String> = tables
        .into_iter()
        .flatten()
        .flat_map(|table| {
            table.lines().filter_map(|line| socket_on(line, port)).collect::<Vec<_>>()
        })
        .collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let descriptors = processes.flat_map(|process| fs::read_dir(process.path().join("fd")));
    let held = descriptors.flatten().flatten().any(|descriptor| {
        fs::read_link(descriptor.path())
            .is_ok_and(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
    });
    !sockets.is_empty() && !held
}

/// The socket of a line of the kernel's table, as links in `/proc/*/fd` name it, when it is bound to this port.
fn socket_on(line: &str, port: u16) -> Option<String> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let (_, bound) = words.get(1)?.split_once(':')?;
    (u16::from_str_radix(bound, 16).ok()? == port)
        .then(|| words.get(9))?
        .map(|i| format!("socket:[{i}]"))
}

/// Programs that this part needs and that `find` does not find.
pub fn lacking_programs(part: Part, find: impl Fn(&str) -> bool) -> Vec<Lack> {
    let mut names = vec!["swarm-agent", "swarm-runtime"];
    if part == Part::Controller {
        names.push("swarm-controller");
    }
    let lacking = names.into_iter().filter(|name| !find(name));
    let lack = |name: &str| Lack {
        what: format!("the program `{name}` is neither beside swarmctl nor in PATH"),
        fix: format!("install it beside swarmctl: /usr/bin/{name}"),
    };
    lacking.map(lack).collect()
}

/// Whether a file is a program that may be run.
pub(crate) fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = Host { root: folder.path().to_owned(), release: "6.1".to_owned() };
        (folder, host)
    }

    const WHOLE: [(&str, &str); 6] = [
        ("proc/filesystems", "nodev\tsysfs\nnodev\toverlay\n"),
        ("proc/modules", "veth 1 0 - Live 0x0\nnf_nat 1 0 - Live 0x0\n"),
        ("lib/modules/6.1/modules.builtin", "kernel/net/bridge/bridge.ko\n"),
        (
            "lib/modules/6.1/modules.dep",
            "kernel/drivers/net/vxlan/vxlan.ko.xz: kernel/net/ipv4/udp_tunnel.ko.xz\nkernel/net/netfilter/nf_tables.ko:\n",
        ),
        ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n"),
        ("etc/ssl/certs/ca-certificates.crt", ""),
    ];

    #[test]
    fn a_whole_host_lacks_nothing() {
        let (_folder, host) = host(&WHOLE);
        assert_eq!(host.lacks(), []);
    }

    #[test]
    fn each_missing_thing_is_named_with_its_fix() {
        let (_folder, silent) = host(&[]);
        assert_eq!(silent.lacks().len(), 2, "{:?}", silent.lacks());
        let (_folder, bare) = host(&[("lib/modules/6.1/modules.builtin", "")]);
        let lacks = bare.lacks();
        assert_eq!(lacks.len(), MODULES.len() + 2, "{lacks:?}");
        assert!(lacks[3].what.contains("no `vxlan`, which networks between hosts need"));
        assert!(lacks[6].what.contains("cgroup v2"));
        assert!(lacks[7].what.contains("root certificates"));
        assert!(lacks.iter().all(|lack| !lack.fix.is_empty()));

        let mut files = WHOLE;
        files[4].1 = "cpu io pids\n";
        let (_folder, host) = host(&files);
        let lacks = host.lacks();
        assert_eq!(lacks.len(), 1, "{lacks:?}");
        assert_eq!(lacks[0].fix, "boot with `cgroup_enable=memory`");
        // A module that another one needs is not there for that.
        assert!(!host.has_module("udp_tunnel"));
    }

    #[test]
    fn a_port_is_taken_by_programs_not_by_tunnels() {
        let socket = UdpSocket::bind(anywhere(0)).unwrap();
        let vxlan = socket.local_addr().unwrap().port();
        let listener = TcpListener::bind(anywhere(0)).unwrap();
        let agent = listener.local_addr().unwrap().port();
        let ports = Ports { agent, vxlan, ..Ports::default() };
        let lacks = taken_ports(Part::Agent, ports, false);
        let said: Vec<_> = lacks.iter().map(|lack| lack.what.split(',').next().unwrap()).collect();
        let expected = [format!("port {agent}/tcp is taken"), format!("port {vxlan}/udp is taken")];
        assert_eq!(said, expected);
        assert_eq!(taken_ports(Part::Agent, ports, true).len(), 1, "its own agent may have it");

        let line = "  1: 00000000:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000  0  0 77 2 0 0";
        assert_eq!(socket_on(line, 4789).as_deref(), Some("socket:[77]"));
        assert_eq!(socket_on(line, 4790), None);
    }

    #[test]
    fn programs_are_needed_by_part() {
        let lacks = lacking_programs(Part::Agent, |name| name == "swarm-agent");
        assert_eq!(lacks.len(), 1);
        assert!(lacks[0].what.contains("`swarm-runtime`"));
        assert_eq!(lacking_programs(Part::Controller, |_| false).len(), 3);
    }
}
