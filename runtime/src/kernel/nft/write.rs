//! Attributes, conditions and verdicts as bytes (`linux/netfilter/nf_tables.h`).

use std::net::Ipv4Addr;

use super::rule::{Log, Match, Spread, Verdict};
use crate::kernel::transport::{HEADER, NLM_F_REQUEST, align};

pub(super) const IPV4: u8 = 2;
const NESTED: u16 = 0x8000;

// `enum nft_registers`: where a verdict goes, and the first two of sixteen bytes each.
const VERDICT: u32 = 0;
const FIRST: u32 = 1;
const SECOND: u32 = 2;

// `enum nft_meta_keys`
const META_IIFNAME: u32 = 6;
const META_L4PROTO: u32 = 16;
const META_IIFGROUP: u32 = 21;
const META_OIFGROUP: u32 = 22;

// `enum nft_ct_keys` and the bits of `enum ip_conntrack_info`/`ip_conntrack_status`.
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_ESTABLISHED_OR_RELATED: u32 = 0b110;
const CT_DNAT: u32 = 1 << 5;

const PAYLOAD_NETWORK: u32 = 1;
const PAYLOAD_TRANSPORT: u32 = 2;
const SOURCE_OFFSET: u32 = 12;
const DESTINATION_OFFSET: u32 = 16;
const PORT_OFFSET: u32 = 2;

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

// `NF_DROP`, `NF_ACCEPT`, `NFT_JUMP`, `NFT_RETURN`
const DROP: i32 = 0;
pub(super) const ACCEPT: i32 = 1;
const JUMP: i32 = -3;
const RETURN: i32 = -5;

/// The kernel puts a number in place of `%d`; within the transaction the map is known by its id.
pub(super) const MAP_NAME: &str = "__map%d";

/// Appends to one buffer.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn message(
        &mut self,
        kind: u16,
        family: u8,
        resource: u16,
        flags: u16,
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.resize(start + HEADER, 0);
        // `struct nfgenmsg`: family, version, resource.
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(super) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        body(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    pub(super) fn bytes(&mut self, kind: u16, content: &[u8]) {
        let length = u16::try_from(4 + content.len()).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(content);
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    /// Numbers of nftables travel in the network's byte order.
    pub(super) fn u32(&mut self, kind: u16, number: u32) {
        self.bytes(kind, &number.to_be_bytes());
    }

    pub(super) fn text(&mut self, kind: u16, text: &str) {
        let mut content = text.as_bytes().to_vec();
        content.push(0);
        self.bytes(kind, &content);
    }

    fn expression(&mut self, name: &str, body: impl FnOnce(&mut Self)) {
        self.nest(1, |writer| {
            writer.text(1, name);
            writer.nest(2, body);
        });
    }

    pub(super) fn condition(&mut self, condition: &Match) {
        match condition {
            Match::FromGroup(group) => self.meta(META_IIFGROUP, EQUAL, &group.to_ne_bytes()),
            Match::ToGroup(group) => self.meta(META_OIFGROUP, EQUAL, &group.to_ne_bytes()),
            Match::NotToGroup(group) => self.meta(META_OIFGROUP, NOT_EQUAL, &group.to_ne_bytes()),
            Match::FromLink(name) => self.meta(META_IIFNAME, EQUAL, &link(name)),
            Match::NotFromLink(name) => self.meta(META_IIFNAME, NOT_EQUAL, &link(name)),
            Match::Source(address, length) => self.subnet(SOURCE_OFFSET, *address, *length),
            Match::Destination(address, length) => {
                self.subnet(DESTINATION_OFFSET, *address, *length);
            }
            Match::LocalDestination => self.local_destination(),
            Match::Protocol(transport) => {
                self.meta(META_L4PROTO, EQUAL, &[transport.number()]);
            }
            Match::Port(transport, port) => {
                self.meta(META_L4PROTO, EQUAL, &[transport.number()]);
                self.payload(PAYLOAD_TRANSPORT, PORT_OFFSET, 2);
                self.compare(EQUAL, &port.to_be_bytes());
            }
            Match::Established => self.conntrack(CT_STATE, CT_ESTABLISHED_OR_RELATED),
            Match::Translated => self.conntrack(CT_STATUS, CT_DNAT),
        }
    }

    fn meta(&mut self, key: u32, operation: u32, value: &[u8]) {
        self.expression("meta", |writer| {
            writer.u32(1, FIRST);
            writer.u32(2, key);
        });
        self.compare(operation, value);
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32) {
        self.expression("payload", |writer| {
            writer.u32(1, FIRST);
            writer.u32(2, base);
            writer.u32(3, offset);
            writer.u32(4, length);
        });
    }

    fn compare(&mut self, operation: u32, value: &[u8]) {
        self.expression("cmp", |writer| {
            writer.u32(1, FIRST);
            writer.u32(2, operation);
            writer.nest(3, |writer| writer.bytes(1, value));
        });
    }

    fn mask(&mut self, mask: [u8; 4]) {
        self.expression("bitwise", |writer| {
            writer.u32(1, FIRST);
            writer.u32(2, FIRST);
            writer.u32(3, 4);
            writer.nest(4, |writer| writer.bytes(1, &mask));
            writer.nest(5, |writer| writer.bytes(1, &[0; 4]));
        });
    }

    fn subnet(&mut self, offset: u32, address: Ipv4Addr, length: u8) {
        self.payload(PAYLOAD_NETWORK, offset, 4);
        let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
        if mask != u32::MAX {
            self.mask(mask.to_be_bytes());
        }
        self.compare(EQUAL, &(address.to_bits() & mask).to_be_bytes());
    }

    fn local_destination(&mut self) {
        const ADDRESS_TYPE: u32 = 3;
        const OF_DESTINATION: u32 = 1 << 1;
        self.expression("fib", |writer| {
            writer.u32(1, FIRST);
            writer.u32(2, ADDRESS_TYPE);
            writer.u32(3, OF_DESTINATION);
        });
        self.compare(EQUAL, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
    }

    fn conntrack(&mut self, key: u32, any_of: u32) {
        self.expression("ct", |writer| {
            writer.u32(1, FIRST);
            writer.u32(2, key);
        });
        self.mask(any_of.to_ne_bytes());
        self.compare(NOT_EQUAL, &[0; 4]);
    }

    pub(super) fn log(&mut self, log: &Log) {
        self.expression("log", |writer| {
            writer.bytes(1, &log.group.to_be_bytes());
            writer.text(2, &log.prefix);
        });
    }

    /// `set` is the number of the nameless map of this transaction that the verdict looks up, if it does.
    pub(super) fn verdict(&mut self, verdict: &Verdict, set: Option<u32>) {
        match verdict {
            Verdict::Accept => self.decide(ACCEPT, None),
            Verdict::Drop => self.decide(DROP, None),
            Verdict::Count => self.expression("counter", |_| {}),
            Verdict::Return => self.decide(RETURN, None),
            Verdict::Jump(chain) => self.decide(JUMP, Some(chain)),
            Verdict::Masquerade => self.expression("masq", |_| {}),
            Verdict::Reject => self.expression("reject", |writer| {
                const PORT_UNREACHABLE: u8 = 3;
                writer.u32(1, 0);
                writer.bytes(2, &[PORT_UNREACHABLE]);
            }),
            Verdict::Dnat { to, port, spread, .. } => {
                match (verdict.named_map(), set) {
                    (Some((map, _)), _) => self.choose(map.places, *spread, &map.name, None),
                    (None, Some(set)) => self.choose(to.len(), *spread, MAP_NAME, Some(set)),
                    (None, None) => {
                        self.load(FIRST, &to.first().map(Ipv4Addr::octets).unwrap_or_default());
                    }
                }
                self.dnat(*port);
            }
        }
    }

    fn decide(&mut self, code: i32, chain: Option<&str>) {
        self.expression("immediate", |writer| {
            writer.u32(1, VERDICT);
            writer.nest(2, |writer| {
                writer.nest(2, |writer| {
                    writer.u32(1, code.cast_unsigned());
                    if let Some(chain) = chain {
                        writer.text(2, chain);
                    }
                });
            });
        });
    }

    fn dnat(&mut self, port: Option<u16>) {
        if let Some(port) = port {
            self.load(SECOND, &port.to_be_bytes());
        }
        self.expression("nat", |writer| {
            const DESTINATION: u32 = 1;
            writer.u32(1, DESTINATION);
            writer.u32(2, u32::from(IPV4));
            writer.u32(3, FIRST);
            if port.is_some() {
                writer.u32(5, SECOND);
            }
        });
    }

    fn choose(&mut self, count: usize, spread: Spread, map: &str, set: Option<u32>) {
        self.expression("numgen", |writer| {
            writer.u32(1, FIRST);
            writer.u32(2, u32::try_from(count).unwrap_or(u32::MAX));
            writer.u32(
                3,
                match spread {
                    Spread::Turns => 0,
                    Spread::Random => 1,
                },
            );
            writer.u32(4, 0);
        });
        self.expression("lookup", |writer| {
            writer.text(1, map);
            writer.u32(2, FIRST);
            writer.u32(3, FIRST);
            if let Some(set) = set {
                writer.u32(4, set);
            }
        });
    }

    fn load(&mut self, register: u32, value: &[u8]) {
        self.expression("immediate", |writer| {
            writer.u32(1, register);
            writer.nest(2, |writer| writer.bytes(1, value));
        });
    }
}

/// A link's name as the kernel compares it.
fn link(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}
