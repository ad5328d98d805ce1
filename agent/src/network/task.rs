//! One task's namespace: its links, addresses, the way out, the sockets for its names, the rules for virtual addresses.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use swarm_proto::id::{NetworkId, TaskId};
use swarm_proto::object::Attachment;
use swarm_runtime::kernel::netlink::{Address, Route, Socket};
use swarm_runtime::kernel::{Namespace, conntrack, namespace, nft};

use super::KernelError;
use super::led::LedVip;
use super::overlay::{self, Ground, write_sysctls};
use super::rules;

/// The sockets at which a task's names are answered.
#[derive(Debug)]
pub(super) struct DnsSockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

impl DnsSockets {
    /// Binds both to ports that the kernel chooses, in the calling thread's namespace.
    fn bind() -> io::Result<Self> {
        let any = (rules::DNS_ADDRESS, 0);
        Self { udp: UdpSocket::bind(any)?, tcp: TcpListener::bind(any)? }.non_blocking()
    }

    /// Takes those that a container's companion kept: UDP, then TCP. `None` when they are not these.
    pub(super) fn from_kept(sockets: Vec<OwnedFd>) -> Option<Self> {
        let [udp, tcp] = <[OwnedFd; 2]>::try_from(sockets).ok()?;
        let sockets = Self { udp: udp.into(), tcp: tcp.into() };
        let ours = |address: io::Result<std::net::SocketAddr>| {
            address.is_ok_and(|address| address.ip() == rules::DNS_ADDRESS)
        };
        let usable = ours(sockets.udp.local_addr()) && ours(sockets.tcp.local_addr());
        usable.then_some(sockets)?.non_blocking().ok()
    }

    fn non_blocking(self) -> io::Result<Self> {
        self.udp.set_nonblocking(true)?;
        self.tcp.set_nonblocking(true)?;
        Ok(self)
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { udp: self.udp.try_clone()?, tcp: self.tcp.try_clone()? })
    }

    pub(super) fn into_descriptors(self) -> Vec<OwnedFd> {
        vec![self.udp.into(), self.tcp.into()]
    }

    /// Of UDP and TCP.
    pub(super) fn ports(&self) -> io::Result<(u16, u16)> {
        Ok((self.udp.local_addr()?.port(), self.tcp.local_addr()?.port()))
    }
}

/// A task's namespace while it is set up.
#[derive(Debug)]
pub(super) struct TaskSpace {
    pub(super) namespace: Namespace,
    socket: Socket,
}

/// A task's namespace that is set up: only its rules change from here on.
#[derive(Debug)]
pub(super) struct TaskRules {
    pub(super) namespace: Namespace,
    socket: nft::Socket,
    flows: conntrack::Socket,
}

/// What happens to a task's rules.
#[derive(Debug)]
pub(super) enum Step {
    /// These chains are filled, whatever was in them.
    Fill(nft::Table),
    /// As it should be, given what they are.
    Change(nft::Change),
}

impl TaskSpace {
    /// Makes the namespace, or takes the one that is there.
    pub(super) fn open(ground: &Ground, task: TaskId) -> Result<Self, KernelError> {
        let path = path(ground, task);
        namespace::create(&path)?;
        let namespace = Namespace::open(&path)?;
        let mut socket = Socket::open_in(&namespace)?;
        let loopback = socket.link("lo")?;
        if !loopback.up {
            // The loopback goes up last: what is up was prepared, and may have been changed for its container since.
            write_sysctls(&namespace, EXPECTED)?;
            socket.set_up(loopback.index, true)?;
        }
        Ok(Self { namespace, socket })
    }

    /// Whether the task's n-th link is there.
    pub(super) fn has_link(&mut self, index: usize) -> Result<bool, KernelError> {
        Ok(self.socket.find_link(&link_name(index))?.is_some())
    }

    /// Gives the n-th link its address and takes it up.
    pub(super) fn set_address(
        &mut self,
        index: usize,
        attachment: &Attachment,
        prefix_length: u8,
    ) -> Result<(), KernelError> {
        let link = self.socket.link(&link_name(index))?;
        let address = attachment.address;
        self.socket.add_address(Address { link: link.index, address, prefix_length })?;
        if !link.up {
            self.socket.set_up(link.index, true)?;
        }
        Ok(())
    }

    /// The way to everything else.
    pub(super) fn set_default_route(&mut self, gateway: Ipv4Addr) -> Result<(), KernelError> {
        Ok(self.socket.replace_route(&Route::default_via(gateway))?)
    }

    /// Opens sockets for names inside the namespace.
    pub(super) fn bind_dns(&self) -> Result<DnsSockets, KernelError> {
        self.namespace.enter(DnsSockets::bind)?.map_err(KernelError::Sockets)
    }

    /// Puts all rules in place, which ends the set-up.
    pub(super) fn set_rules<'a>(
        self,
        dns: Option<&DnsSockets>,
        networks: impl Iterator<Item = (NetworkId, &'a [LedVip])>,
    ) -> Result<TaskRules, KernelError> {
        let ports = dns.map(DnsSockets::ports).transpose().map_err(KernelError::Sockets)?;
        let mut socket = nft::Socket::open_in(&self.namespace)?;
        socket.apply(&rules::task(ports, networks))?;
        let flows = conntrack::Socket::open_in(&self.namespace)?;
        Ok(TaskRules { namespace: self.namespace, socket, flows })
    }
}

impl TaskRules {
    /// Changes a part of the rules.
    pub(super) fn change(&mut self, step: &Step) -> Result<(), KernelError> {
        match step {
            Step::Fill(part) => Ok(self.socket.apply(part)?),
            Step::Change(change) => Ok(self.socket.change(change)?),
        }
    }

    /// Removes the flows of datagrams from a virtual address to a backend that are among these.
    pub(super) fn forget(
        &mut self,
        gone: &BTreeSet<(Ipv4Addr, Ipv4Addr)>,
    ) -> Result<(), KernelError> {
        self.flows.forget_udp(|flow| gone.contains(&(flow.destination, flow.backend)))?;
        Ok(())
    }

    /// How many connections came.
    pub(super) fn arrivals(&mut self) -> Result<Option<u64>, KernelError> {
        Ok(self.socket.counted(rules::TABLE, rules::ARRIVALS)?)
    }
}

/// The file that keeps a task's namespace.
pub(super) fn path(ground: &Ground, task: TaskId) -> PathBuf {
    path_in(&ground.folder, task)
}

/// The same in the folder of all namespaces.
pub(super) fn path_in(folder: &Path, task: TaskId) -> PathBuf {
    folder.join(format!("task-{task}"))
}

/// The name of the n-th link inside the namespace.
pub(super) fn link_name(index: usize) -> String {
    format!("eth{index}")
}

/// Removes a task's links and its namespace, or whatever is left of them.
pub(super) fn remove(path: &Path) -> Result<(), KernelError> {
    if namespace::is_namespace(path)? {
        // The links go now, though a process that is still ending may hold the namespace a while longer.
        overlay::clear(path)?;
    }
    Ok(namespace::delete(path)?)
}

/// What containers expect of their network: low ports and ping without privileges, no IPv6 where there is none. And an
/// address that a new task took over is announced, lest neighbours wait for the old owner.
const EXPECTED: &[(&str, &str)] = &[
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
    ("net/ipv4/conf/default/arp_notify", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
];
