//! Chains of others that would drop our traffic. Our own rules cannot help: a packet must pass every chain.

use swarm_proto::spec::Protocol;
use swarm_runtime::kernel::Namespace;
use swarm_runtime::kernel::nft::{HookPoint, ListedChain};

use crate::network::TABLE;

/// A sentence for each chain that drops what it does not know.
pub(super) fn obstacles(chains: &[ListedChain], needed: &[(Protocol, u16)]) -> Vec<String> {
    let drops = |chain: &&ListedChain| {
        chain.table != TABLE && (chain.drops_by_default || chain.ends_in_drop)
    };
    let describe = |chain: &ListedChain| {
        let ListedChain { family, table, name, .. } = chain;
        let maker = maker(chain, chains).map(|maker| format!(" ({maker})")).unwrap_or_default();
        let how = if chain.drops_by_default { "drops by default" } else { "ends with a drop" };
        let start = format!("chain `{name}` of table `{family} {table}`{maker} {how}: it must");
        match chain.point {
            HookPoint::Forward => Some(format!(
                "{start} let pass what links named `sw*` send and receive, or containers reach nothing outside of \
                 their networks and published ports do not answer"
            )),
            HookPoint::Input if !needed.is_empty() => {
                let ports: Vec<_> =
                    needed.iter().map(|(protocol, port)| format!("{port}/{protocol}")).collect();
                Some(format!("{start} let in ports {} from the other hosts", ports.join(", ")))
            }
            _ => None,
        }
    };
    chains.iter().filter(drops).filter_map(describe).collect()
}

/// Who is known to make such chains: by where the chain leads, else by where others of its table do.
fn maker(chain: &ListedChain, all: &[ListedChain]) -> Option<&'static str> {
    let by_targets = |chain: &ListedChain| {
        let known = [("ufw-", "ufw"), ("DOCKER", "Docker")];
        known.into_iter().find(|(prefix, _)| chain.jumps_to(prefix)).map(|(_, name)| name)
    };
    match chain.table.as_str() {
        "firewalld" => Some("firewalld"),
        "filter" => by_targets(chain)
            .or_else(|| all.iter().filter(|other| other.table == chain.table).find_map(by_targets))
            .or(Some("iptables")),
        _ => None,
    }
}

/// Rules of the older iptables are not to be seen through nftables, but packets meet them all the same.
pub(super) fn legacy(host: &Namespace) -> Option<String> {
    let read = || std::fs::read_to_string("/proc/thread-self/net/ip_tables_names");
    let tables = host.enter(read).ok()?.ok()?;
    let warning = "this host also has rules of the legacy iptables, which cannot be seen from here: if its chain \
                   `FORWARD` drops by default, containers reach nothing outside of their networks";
    tables.lines().any(|table| table == "filter").then(|| warning.to_owned())
}
