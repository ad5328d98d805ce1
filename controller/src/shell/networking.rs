//! How a new cluster's networks are made: chosen once, with `init`, for all hosts.

use std::net::Ipv4Addr;

use swarm_proto::object::Cluster;

/// Subnets smaller or larger than these hold too few addresses, or are slips of the finger.
const SUBNET_LENGTHS: std::ops::RangeInclusive<u8> = 8..=29;
/// More pools than anybody has; the cluster's object stays small.
const MOST_POOLS: usize = 64;
/// Below are ports that only root may use, above those that the kernel chooses for clients.
const VXLAN_PORTS: std::ops::RangeInclusive<u16> = 1024..=49151;
/// Identifiers are not given out twice: at least a million of the 2^24 are left above the base.
const LAST_VNI_BASE: u32 = 0xf0_0000;

/// An address and a prefix length.
type Prefix = (Ipv4Addr, u8);

/// How a new cluster's networks are made. The defaults live beside a Docker Swarm on the same hosts: the tunnels share
/// a port, and their identifiers and the subnets' routes are kept apart.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Networking {
    /// The UDP port of the tunnels between hosts, 1024 to 49151.
    #[arg(long, value_name = "PORT", default_value_t = Cluster::VXLAN_PORT)]
    pub vxlan_port: u16,
    /// The first VXLAN network identifier, 1 to 0xf00000; networks count up from it.
    #[arg(long, value_name = "NUMBER", default_value = "0x100000", value_parser = number)]
    pub vni_base: u32,
    /// Where networks' subnets come from; may be given several times.
    #[arg(long = "address-pool", value_name = "CIDR", default_value = "10.0.0.0/8", value_parser = prefix)]
    pub address_pools: Vec<Prefix>,
    /// The prefix length of a network's subnet, 8 to 29.
    #[arg(long, value_name = "LENGTH", default_value_t = Cluster::SUBNET_PREFIX_LENGTH)]
    pub subnet_prefix_length: u8,
}

impl Default for Networking {
    fn default() -> Self {
        Self {
            vxlan_port: Cluster::VXLAN_PORT,
            vni_base: Cluster::VNI_BASE,
            address_pools: vec![Cluster::ADDRESS_POOL],
            subnet_prefix_length: Cluster::SUBNET_PREFIX_LENGTH,
        }
    }
}

/// Why a cluster's networks cannot be made so.
#[derive(Debug, thiserror::Error)]
pub enum NetworkingError {
    /// No port for tunnels.
    #[error(
        "`--vxlan-port {port}` is not a port for tunnels\n\nhint: choose one from {} to {}",
        VXLAN_PORTS.start(),
        VXLAN_PORTS.end()
    )]
    VxlanPort {
        /// As given.
        port: u16,
    },
    /// Identifiers end at 24 bits.
    #[error(
        "`--vni-base {0:#x}` leaves too few VXLAN network identifiers, or is none\n\nhint: choose one from 1 to {LAST_VNI_BASE:#x}; a Docker Swarm on the same hosts counts up from 0x1000"
    )]
    VniBase(u32),
    /// Subnets of that size are not made.
    #[error(
        "`--subnet-prefix-length {length}` makes subnets of an unusable size\n\nhint: choose one from {} to {}",
        SUBNET_LENGTHS.start(),
        SUBNET_LENGTHS.end()
    )]
    SubnetLength {
        /// As given.
        length: u8,
    },
    /// Not the beginning of a prefix.
    #[error(
        "`--address-pool {}` does not begin at its first address\n\nhint: write {first}/{}",
        text(*pool),
        pool.1
    )]
    NotFirst {
        /// As given.
        pool: Prefix,
        /// Where a prefix of that length begins.
        first: Ipv4Addr,
    },
    /// Addresses that no container can have.
    #[error(
        "`--address-pool {}` holds addresses that hosts do not have\n\nhint: choose private ones, such as 10.0.0.0/8 or 172.16.0.0/12",
        text(*pool)
    )]
    Unusable {
        /// As given.
        pool: Prefix,
    },
    /// Smaller than one subnet.
    #[error(
        "`--address-pool {}` is too small for one subnet of prefix length {wanted}\n\nhint: give a larger pool, or a longer `--subnet-prefix-length`",
        text(*pool)
    )]
    TooSmall {
        /// Which.
        pool: Prefix,
        /// What a subnet needs.
        wanted: u8,
    },
    /// Two pools share addresses.
    #[error(
        "`--address-pool {}` and `--address-pool {}` overlap\n\nhint: give pools without common addresses",
        text(*one),
        text(*other)
    )]
    Overlap {
        /// One.
        one: Prefix,
        /// The other.
        other: Prefix,
    },
    /// Far more than anybody needs.
    #[error("{0} address pools are more than {MOST_POOLS}\n\nhint: join neighbouring ones")]
    TooMany(usize),
}

impl Networking {
    /// Refuses what no cluster can be made of.
    ///
    /// # Errors
    ///
    /// Names the first value that is wrong, with what to choose instead.
    pub fn check(&self) -> Result<(), NetworkingError> {
        if !VXLAN_PORTS.contains(&self.vxlan_port) {
            return Err(NetworkingError::VxlanPort { port: self.vxlan_port });
        }
        if !(1..=LAST_VNI_BASE).contains(&self.vni_base) {
            return Err(NetworkingError::VniBase(self.vni_base));
        }
        let wanted = self.subnet_prefix_length;
        if !SUBNET_LENGTHS.contains(&wanted) {
            return Err(NetworkingError::SubnetLength { length: wanted });
        }
        if self.address_pools.len() > MOST_POOLS {
            return Err(NetworkingError::TooMany(self.address_pools.len()));
        }
        for (index, pool) in self.address_pools.iter().enumerate() {
            check_pool(*pool, wanted)?;
            let before = &self.address_pools[..index];
            if let Some(other) = before.iter().find(|other| overlap(*pool, **other)) {
                return Err(NetworkingError::Overlap { one: *other, other: *pool });
            }
        }
        Ok(())
    }
}

fn check_pool(pool: Prefix, wanted: u8) -> Result<(), NetworkingError> {
    let (address, length) = pool;
    let first = first(pool);
    if first != address {
        return Err(NetworkingError::NotFirst { pool, first });
    }
    let outside = address.is_loopback() || address.is_link_local();
    if outside || length < 8 || address.octets()[0] == 0 || address.octets()[0] >= 224 {
        return Err(NetworkingError::Unusable { pool });
    }
    if length > wanted {
        return Err(NetworkingError::TooSmall { pool, wanted });
    }
    Ok(())
}

fn first((address, length): Prefix) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
    Ipv4Addr::from_bits(address.to_bits() & mask)
}

fn overlap(one: Prefix, other: Prefix) -> bool {
    let length = one.1.min(other.1);
    first((one.0, length)) == first((other.0, length))
}

fn text((address, length): Prefix) -> String {
    format!("{address}/{length}")
}

/// `10.0.0.0/8`
fn prefix(text: &str) -> Result<Prefix, String> {
    let (address, length) = text.split_once('/').ok_or("the prefix length is missing: `/16`")?;
    let address = address.parse().map_err(|_| format!("`{address}` is not an IPv4 address"))?;
    let length = length.parse().ok().filter(|length| *length <= 32);
    Ok((address, length.ok_or("the prefix length is a number from 0 to 32")?))
}

/// Decimal, or hexadecimal after `0x`.
fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use expect_test::expect;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        networking: Networking,
    }

    fn parse(words: &str) -> Networking {
        Line::try_parse_from(format!("x {words}").split_whitespace()).unwrap().networking
    }

    #[test]
    fn without_flags_it_is_the_default() {
        assert_eq!(parse(""), Networking::default());
        Networking::default().check().unwrap();
    }

    #[test]
    fn everything_can_be_chosen() {
        let chosen = parse(
            "--vxlan-port 8472 --vni-base 2097152 --address-pool 172.20.0.0/16 \
             --address-pool 10.64.0.0/10 --subnet-prefix-length 26",
        );
        let pools = vec![([172, 20, 0, 0].into(), 16), ([10, 64, 0, 0].into(), 10)];
        assert_eq!((chosen.vxlan_port, chosen.vni_base), (8472, 0x20_0000));
        assert_eq!((&chosen.address_pools, chosen.subnet_prefix_length), (&pools, 26));
        chosen.check().unwrap();
    }

    #[test]
    fn what_has_no_form_is_refused() {
        for words in [
            "--vxlan-port 70000",
            "--vni-base 0xzz",
            "--address-pool 10.0.0.0",
            "--address-pool ten/8",
            "--address-pool 10.0.0.0/33",
            "--address-pool fd00::/8",
        ] {
            Line::try_parse_from(format!("x {words}").split_whitespace()).unwrap_err();
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_way_out() {
        let refusals: Vec<String> = [
            "--vxlan-port 0",
            "--vxlan-port 53",
            "--vni-base 0",
            "--vni-base 0xf00001",
            "--subnet-prefix-length 30",
            "--subnet-prefix-length 7",
            "--address-pool 10.1.0.0/8",
            "--address-pool 127.0.0.0/8",
            "--address-pool 224.0.0.0/8",
            "--address-pool 0.0.0.0/0",
            "--address-pool 10.0.0.0/25",
            "--address-pool 10.0.0.0/8 --address-pool 10.64.0.0/10",
        ]
        .into_iter()
        .map(|words| parse(words).check().unwrap_err().to_string().replace("\n\nhint", "\n  hint"))
        .collect();
        expect![[r"
            `--vxlan-port 0` is not a port for tunnels
              hint: choose one from 1024 to 49151
            `--vxlan-port 53` is not a port for tunnels
              hint: choose one from 1024 to 49151
            `--vni-base 0x0` leaves too few VXLAN network identifiers, or is none
              hint: choose one from 1 to 0xf00000; a Docker Swarm on the same hosts counts up from 0x1000
            `--vni-base 0xf00001` leaves too few VXLAN network identifiers, or is none
              hint: choose one from 1 to 0xf00000; a Docker Swarm on the same hosts counts up from 0x1000
            `--subnet-prefix-length 30` makes subnets of an unusable size
              hint: choose one from 8 to 29
            `--subnet-prefix-length 7` makes subnets of an unusable size
              hint: choose one from 8 to 29
            `--address-pool 10.1.0.0/8` does not begin at its first address
              hint: write 10.0.0.0/8
            `--address-pool 127.0.0.0/8` holds addresses that hosts do not have
              hint: choose private ones, such as 10.0.0.0/8 or 172.16.0.0/12
            `--address-pool 224.0.0.0/8` holds addresses that hosts do not have
              hint: choose private ones, such as 10.0.0.0/8 or 172.16.0.0/12
            `--address-pool 0.0.0.0/0` holds addresses that hosts do not have
              hint: choose private ones, such as 10.0.0.0/8 or 172.16.0.0/12
            `--address-pool 10.0.0.0/25` is too small for one subnet of prefix length 24
              hint: give a larger pool, or a longer `--subnet-prefix-length`
            `--address-pool 10.0.0.0/8` and `--address-pool 10.64.0.0/10` overlap
              hint: give pools without common addresses"]].assert_eq(&refusals.join("\n"));
    }
}
