//! Whether the kernel can do what containers and their networks need, found out by trying in a scratch namespace.

use std::fs;
use std::net::Ipv4Addr;

use swarm_runtime::kernel::netlink::{LinkKind, NetlinkError, NewLink, Socket};
use swarm_runtime::kernel::nft::{
    self, Chain, ChainKind, Hook, HookPoint, Match, NftError, Rule, Spread, Table, Transport,
    Verdict,
};
use swarm_runtime::kernel::{Namespace, namespace};

use super::unseen;

/// A sentence for each feature that is missing.
pub(super) fn missing() -> Vec<String> {
    let mut warnings = Vec::new();
    if !has_overlayfs() {
        warnings.push(
            "this kernel has no overlayfs (`overlay`), so no container can have its root file system"
                .to_owned(),
        );
    }
    match in_scratch(|| (make_links(), make_rules())) {
        Ok((links, rules)) => {
            warnings.extend(links.err().map(|error| {
                unseen("whether this kernel has `vxlan`, `bridge` and `veth` links", &error)
            }));
            warnings.extend(rules.err().map(|error| {
                unseen("whether this kernel has `nf_tables` with address translation", &error)
            }));
        }
        Err(error) => warnings.push(unseen("what this kernel can do", &error)),
    }
    warnings
}

fn in_scratch<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, namespace::NamespaceError> {
    Namespace::scratch()?.enter(work)
}

fn make_links() -> Result<(), NetlinkError> {
    let mut socket = Socket::open()?;
    let peer = NewLink::peer("b");
    let tunnel = LinkKind::Vxlan { id: 1, local: Ipv4Addr::LOCALHOST, port: 4789 };
    for link in [
        NewLink::new("bridge", LinkKind::Bridge),
        NewLink::new("a", LinkKind::Veth { peer: &peer }),
        NewLink::new("tunnel", tunnel),
    ] {
        socket.add_link(&link)?;
    }
    Ok(())
}

/// One rule with everything that our tables use.
fn make_rules() -> Result<(), NftError> {
    let to = vec![Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST];
    let lead = Verdict::Dnat { to, port: Some(1), spread: Spread::Random, map: None };
    let hook = |kind, point, priority| Hook { kind, point, priority };
    let chains = vec![
        Chain::base(
            "output",
            hook(ChainKind::Nat, HookPoint::Output, -100),
            vec![Rule::new([Match::LocalDestination, Match::Port(Transport::Tcp, 1)], lead)],
        ),
        Chain::base(
            "postrouting",
            hook(ChainKind::Nat, HookPoint::Postrouting, 100),
            vec![Rule::new([Match::Translated, Match::ToGroup(1)], Verdict::Masquerade)],
        ),
        Chain::base(
            "forward",
            hook(ChainKind::Filter, HookPoint::Forward, 0),
            vec![Rule::new([Match::Established], Verdict::Reject)],
        ),
    ];
    nft::Socket::open()?.apply(&Table { name: "swarm".to_owned(), chains })
}

/// Registered, or there as a module that the kernel loads when it is asked for.
fn has_overlayfs() -> bool {
    let registered = fs::read_to_string("/proc/filesystems")
        .is_ok_and(|list| list.lines().any(|line| line.ends_with("\toverlay")));
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let index = fs::read_to_string(format!("/lib/modules/{release}/modules.dep"));
    registered || index.is_ok_and(|index| index.contains("/overlay.ko"))
}
