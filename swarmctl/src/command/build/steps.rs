//! What every `RUN` of a build has, from the command line.

use std::net::IpAddr;

use swarm_manifests::parse_bytes;
use swarm_proto::wire;

/// See the module.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What every RUN has")]
pub(super) struct StepFlags {
    /// A line of /etc/hosts: `NAME:ADDRESS`
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = host)]
    add_host: Vec<wire::BuildHost>,
    /// The size of /dev/shm, such as `64m`
    #[arg(long, value_name = "BYTES", value_parser = size)]
    shm_size: Option<u64>,
    /// A limit of its processes: `nofile=1024`, or `nofile=1024:2048`
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit)]
    ulimit: Vec<wire::Ulimit>,
    /// The network, where `RUN --network` says nothing
    #[arg(long, value_enum, default_value_t)]
    network: Network,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Network {
    /// Of its own, with a way out
    #[default]
    Default,
    /// Nothing but the loopback
    None,
    /// That of the node
    Host,
}

impl StepFlags {
    pub(super) fn read(&self) -> wire::BuildSteps {
        wire::BuildSteps {
            extra_hosts: self.add_host.clone(),
            shm_size: self.shm_size,
            ulimits: self.ulimit.clone(),
            network: match self.network {
                Network::Default => wire::BuildNetwork::Unspecified,
                Network::None => wire::BuildNetwork::None,
                Network::Host => wire::BuildNetwork::Host,
            }
            .into(),
        }
    }
}

/// The address may hold colons, the name does not.
fn host(text: &str) -> Result<wire::BuildHost, String> {
    let form = || "write `NAME:ADDRESS` with an address of IPv4 or IPv6".to_owned();
    let (name, address) = text.split_once([':', '=']).ok_or_else(form)?;
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address: IpAddr = bare.parse().map_err(|_| form())?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(form());
    }
    Ok(wire::BuildHost { name: name.to_owned(), address: address.to_string() })
}

fn size(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "write a number of bytes, such as `64m`".to_owned())
}

fn ulimit(text: &str) -> Result<wire::Ulimit, String> {
    let form = || "write `NAME=SOFT` or `NAME=SOFT:HARD`; -1 is without a limit".to_owned();
    let (name, limits) = text.split_once('=').ok_or_else(form)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let limit = |text: &str| match text {
        "-1" => Ok(u64::MAX),
        number => number.parse().map_err(|_| form()),
    };
    let (soft, hard) = (limit(soft)?, limit(hard)?);
    if soft > hard {
        return Err("the soft limit is above the hard one".to_owned());
    }
    Ok(wire::Ulimit { name: name.to_ascii_lowercase(), soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_docker_has_them() {
        let read = |text| host(text).map(|host| (host.name, host.address));
        assert_eq!(read("db:10.0.0.1"), Ok(("db".to_owned(), "10.0.0.1".to_owned())));
        assert_eq!(read("db=[fd00::1]"), Ok(("db".to_owned(), "fd00::1".to_owned())));
        for wrong in ["db", "db:", ":10.0.0.1", "db:host-gateway", "a b:10.0.0.1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let read = |text| ulimit(text).map(|limit| (limit.name, limit.soft, limit.hard));
        assert_eq!(read("nofile=10:20"), Ok(("nofile".to_owned(), 10, 20)));
        assert_eq!(read("CORE=-1"), Ok(("core".to_owned(), u64::MAX, u64::MAX)));
        for wrong in ["nofile", "nofile=", "nofile=20:10", "nofile=x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(size("64m"), Ok(64 << 20));
        assert!(size("0").is_err() && size("many").is_err());
    }
}
