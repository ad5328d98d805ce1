//! Who listens on the host: its sockets, and the processes that hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use swarm_proto::object::Listener;
use swarm_proto::spec::Protocol;
use swarm_runtime::kernel::Namespace;

use crate::sockets::{self, Waiting};

/// Who owns a socket that no process holds: a tunnel, ours among them.
pub(super) const KERNEL: &str = "the kernel";

/// Programs by the number of a socket of theirs, kept between looks: finding them means to look at every process.
#[derive(Debug, Default)]
pub(super) struct Owners(BTreeMap<u64, String>);

/// Who listens in a namespace, sorted.
pub(super) fn read(host: &Namespace, owners: &mut Owners) -> io::Result<Vec<Listener>> {
    let waiting = host.enter(sockets::read).map_err(io::Error::other)??;
    let inodes: BTreeSet<u64> = waiting.iter().map(|socket| socket.inode).collect();
    owners.learn(&inodes);
    let listener = |socket: Waiting| Listener {
        protocol: socket.protocol,
        address: socket.address,
        port: socket.port,
        owner: owners.name(socket.protocol, socket.inode),
    };
    let mut listeners: Vec<_> = waiting.into_iter().map(listener).collect();
    listeners.sort();
    listeners.dedup();
    Ok(listeners)
}

impl Owners {
    fn learn(&mut self, inodes: &BTreeSet<u64>) {
        self.0.retain(|inode, _| inodes.contains(inode));
        let mut unknown: BTreeSet<u64> =
            inodes.iter().copied().filter(|i| *i != 0 && !self.0.contains_key(i)).collect();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        for process in processes {
            if unknown.is_empty() {
                return;
            }
            // Processes end while we look, and some may not be looked at.
            let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
            for descriptor in descriptors.flatten() {
                let Ok(target) = fs::read_link(descriptor.path()) else { continue };
                let inode = target.to_str().and_then(socket_inode);
                if let Some(inode) = inode.filter(|inode| unknown.remove(inode)) {
                    let name = fs::read_to_string(process.path().join("comm"));
                    self.0.insert(inode, name.unwrap_or_default().trim_end().to_owned());
                }
            }
        }
        // Nobody's, or of another pid namespace: do not look for it again and again.
        self.0.extend(unknown.into_iter().map(|inode| (inode, String::new())));
    }

    fn name(&self, protocol: Protocol, inode: u64) -> String {
        match self.0.get(&inode) {
            Some(name) if !name.is_empty() => name.clone(),
            // The socket of a tunnel, which further tunnels share: ours, and those of a Docker Swarm beside us.
            _ if protocol == Protocol::Udp => KERNEL.to_owned(),
            _ => "an unknown program".to_owned(),
        }
    }
}

/// `socket:[12345]`
fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}
