//! Rules as nfnetlink messages (`linux/netfilter/nf_tables.h`), all of one transaction in one buffer.

use std::net::Ipv4Addr;

use super::rule::{Chain, ChainKind, Match, Rule, Spread, Table, Verdict};
use crate::kernel::transport::{
    HEADER, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, align,
};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const fn message(number: u16) -> u16 {
    SUBSYSTEM << 8 | number
}

const NEW_TABLE: u16 = message(0);
const DELETE_TABLE: u16 = message(2);
const NEW_CHAIN: u16 = message(3);
pub(super) const GET_CHAINS: u16 = message(4);
const NEW_RULE: u16 = message(6);
pub(super) const GET_RULES: u16 = message(7);
const DELETE_RULE: u16 = message(8);
const NEW_SET: u16 = message(9);
const NEW_ELEMENTS: u16 = message(12);
pub(super) const GET_GENERATION: u16 = message(16);

const UNSPECIFIED: u8 = 0;
pub(super) const IPV4: u8 = 2;
const NESTED: u16 = 0x8000;

// `enum nft_registers`: the first sixteen bytes' register, and four bytes each of the ones after it.
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
const ACCEPT: i32 = 1;
const JUMP: i32 = -3;
const RETURN: i32 = -5;

const SET_ANONYMOUS_CONSTANT_MAP: u32 = 0x1 | 0x2 | 0x8;
/// nft's numbers for an integer and an IPv4 address, which only `nft list` looks at.
const TYPE_INTEGER: u32 = 4;
const TYPE_IPV4: u32 = 7;
/// Attributes have 16-bit lengths: this many elements surely fit one.
const ELEMENTS: usize = 1000;

/// A request that is not part of a transaction.
pub(super) fn request(kind: u16, dump: bool, sequence: u32) -> Vec<u8> {
    let mut writer = Writer::default();
    let flags = if dump { NLM_F_DUMP } else { NLM_F_ACK };
    writer.message(kind, UNSPECIFIED, 0, flags, |_| {});
    writer.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    writer.bytes
}

/// What a message of the transaction asks, to name it in an error.
#[derive(Debug, Clone, Copy)]
enum Part {
    Whole,
    Table,
    Chain(usize),
    Rule(usize, usize),
}

/// A transaction.
pub(super) struct Batch {
    table: Table,
    writer: Writer,
    parts: Vec<Part>,
    sets: u32,
}

impl Batch {
    /// Makes the table's chains, empties them and fills them.
    pub(super) fn fill(table: &Table) -> Self {
        let mut batch = Self::begin(table.clone());
        batch.add_table();
        for (index, chain) in table.chains.iter().enumerate() {
            batch.add_chain(index, chain);
        }
        // All chains first: rules may jump to any of them, and old rules hold the old maps.
        for (index, chain) in table.chains.iter().enumerate() {
            batch.empty_chain(index, chain);
        }
        for (index, chain) in table.chains.iter().enumerate() {
            for (place, rule) in chain.rules.iter().enumerate() {
                batch.add_rule(Part::Rule(index, place), &chain.name, rule);
            }
        }
        batch.end()
    }

    /// Removes a table, which is made first so that there is one to remove.
    pub(super) fn remove(name: &str) -> Self {
        let mut batch = Self::begin(Table { name: name.to_owned(), chains: Vec::new() });
        batch.add_table();
        batch.put(Part::Table, DELETE_TABLE, 0, |writer| writer.text(1, name));
        batch.end()
    }

    fn begin(table: Table) -> Self {
        let mut batch = Self { table, writer: Writer::default(), parts: Vec::new(), sets: 0 };
        batch.parts.push(Part::Whole);
        batch.writer.message(BATCH_BEGIN, UNSPECIFIED, SUBSYSTEM, 0, |_| {});
        batch
    }

    fn end(mut self) -> Self {
        self.parts.push(Part::Whole);
        self.writer.message(BATCH_END, UNSPECIFIED, SUBSYSTEM, 0, |_| {});
        self
    }

    /// The table's name.
    pub(super) fn table(&self) -> &str {
        &self.table.name
    }

    /// The bytes to send with the messages numbered, and the first number.
    pub(super) fn number(&self, mut next: impl FnMut() -> u32) -> (Vec<u8>, u32) {
        let mut bytes = self.writer.bytes.clone();
        let mut first = None;
        let mut at = 0;
        while at < bytes.len() {
            let sequence = next();
            first.get_or_insert(sequence);
            bytes[at + 8..at + 12].copy_from_slice(&sequence.to_ne_bytes());
            let length = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            at += align(u32::from_ne_bytes(length) as usize);
        }
        (bytes, first.unwrap_or_default())
    }

    /// What the n-th message asks.
    pub(super) fn describe(&self, message: u32) -> String {
        let table = &self.table.name;
        match self.parts.get(message as usize) {
            Some(Part::Chain(chain)) => {
                format!("make chain `{}` of table `{table}`", self.table.chains[*chain].name)
            }
            Some(Part::Rule(chain, place)) => {
                let chain = &self.table.chains[*chain];
                let rule = &chain.rules[*place];
                format!("add the rule `{rule}` to chain `{}` of table `{table}`", chain.name)
            }
            Some(Part::Table) => format!("make or remove table `{table}`"),
            _ => format!("set the packet rules of table `{table}`"),
        }
    }

    fn put(&mut self, part: Part, kind: u16, flags: u16, body: impl FnOnce(&mut Writer)) {
        self.parts.push(part);
        self.writer.message(kind, IPV4, 0, flags, body);
    }

    fn add_table(&mut self) {
        let name = self.table.name.clone();
        // The one acknowledged message: its answer comes once the whole transaction is through.
        self.put(Part::Table, NEW_TABLE, NLM_F_CREATE | NLM_F_ACK, |writer| {
            writer.text(1, &name);
            writer.u32(2, 0);
        });
    }

    fn add_chain(&mut self, index: usize, chain: &Chain) {
        let table = self.table.name.clone();
        self.put(Part::Chain(index), NEW_CHAIN, NLM_F_CREATE, |writer| {
            writer.text(1, &table);
            writer.text(3, &chain.name);
            let Some(hook) = chain.hook else { return };
            writer.nest(4, |writer| {
                writer.u32(1, hook.point.number());
                writer.u32(2, hook.priority.cast_unsigned());
            });
            writer.u32(5, ACCEPT.cast_unsigned());
            writer.text(
                7,
                match hook.kind {
                    ChainKind::Filter => "filter",
                    ChainKind::Nat => "nat",
                },
            );
        });
    }

    fn empty_chain(&mut self, index: usize, chain: &Chain) {
        let table = self.table.name.clone();
        self.put(Part::Chain(index), DELETE_RULE, 0, |writer| {
            writer.text(1, &table);
            writer.text(2, &chain.name);
        });
    }

    fn add_rule(&mut self, part: Part, chain: &str, rule: &Rule) {
        let map = match &rule.verdict {
            Verdict::Dnat { to, .. } if to.len() > 1 => Some(self.add_map(part, to)),
            _ => None,
        };
        let table = self.table.name.clone();
        self.put(part, NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, |writer| {
            writer.text(1, &table);
            writer.text(2, chain);
            writer.nest(4, |writer| {
                for condition in &rule.matches {
                    writer.condition(condition);
                }
                writer.verdict(&rule.verdict, map);
            });
        });
    }

    /// A map from 0, 1, … to the addresses, which lives and dies with the rule that uses it.
    fn add_map(&mut self, part: Part, to: &[Ipv4Addr]) -> u32 {
        self.sets += 1;
        let (set, table) = (self.sets, self.table.name.clone());
        self.put(part, NEW_SET, NLM_F_CREATE, |writer| {
            writer.text(1, &table);
            writer.text(2, MAP_NAME);
            writer.u32(3, SET_ANONYMOUS_CONSTANT_MAP);
            writer.u32(4, TYPE_INTEGER);
            writer.u32(5, 4);
            writer.u32(6, TYPE_IPV4);
            writer.u32(7, 4);
            writer.nest(9, |writer| writer.u32(1, u32::try_from(to.len()).unwrap_or(u32::MAX)));
            writer.u32(10, set);
            // For `nft list`: keys are in the host's byte order, values in the network's.
            writer.bytes(13, &[0, 4, 1, 0, 0, 0, 1, 4, 2, 0, 0, 0]);
        });
        let numbered: Vec<_> = (0_u32..).zip(to).collect();
        for part_of in numbered.chunks(ELEMENTS) {
            self.put(part, NEW_ELEMENTS, NLM_F_CREATE, |writer| {
                writer.text(1, &table);
                writer.text(2, MAP_NAME);
                writer.u32(4, set);
                writer.nest(3, |writer| {
                    for (number, address) in part_of {
                        writer.nest(1, |writer| {
                            writer.nest(1, |writer| writer.bytes(1, &number.to_ne_bytes()));
                            writer.nest(2, |writer| writer.bytes(1, &address.octets()));
                        });
                    }
                });
            });
        }
        set
    }
}

/// The kernel puts a number in place of `%d`; within the transaction the map is known by its id.
const MAP_NAME: &str = "__map%d";

#[derive(Debug, Default)]
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn message(
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

    fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        body(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn bytes(&mut self, kind: u16, content: &[u8]) {
        let length = u16::try_from(4 + content.len()).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(content);
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    /// Numbers of nftables travel in the network's byte order.
    fn u32(&mut self, kind: u16, number: u32) {
        self.bytes(kind, &number.to_be_bytes());
    }

    fn text(&mut self, kind: u16, text: &str) {
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

    fn condition(&mut self, condition: &Match) {
        match condition {
            Match::FromGroup(group) => self.meta(META_IIFGROUP, EQUAL, &group.to_ne_bytes()),
            Match::ToGroup(group) => self.meta(META_OIFGROUP, EQUAL, &group.to_ne_bytes()),
            Match::NotToGroup(group) => self.meta(META_OIFGROUP, NOT_EQUAL, &group.to_ne_bytes()),
            Match::FromLink(name) => {
                let mut bytes = [0; 16];
                let length = name.len().min(15);
                bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
                self.meta(META_IIFNAME, EQUAL, &bytes);
            }
            Match::Source(address, length) => self.subnet(SOURCE_OFFSET, *address, *length),
            Match::Destination(address, length) => {
                self.subnet(DESTINATION_OFFSET, *address, *length);
            }
            Match::LocalDestination => self.local_destination(),
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

    fn verdict(&mut self, verdict: &Verdict, map: Option<u32>) {
        match verdict {
            Verdict::Accept => self.decide(ACCEPT, None),
            Verdict::Drop => self.decide(DROP, None),
            Verdict::Return => self.decide(RETURN, None),
            Verdict::Jump(chain) => self.decide(JUMP, Some(chain)),
            Verdict::Masquerade => self.expression("masq", |_| {}),
            Verdict::Reject => self.expression("reject", |writer| {
                const PORT_UNREACHABLE: u8 = 3;
                writer.u32(1, 0);
                writer.bytes(2, &[PORT_UNREACHABLE]);
            }),
            Verdict::Dnat { to, port, spread } => self.dnat(to, *port, *spread, map),
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

    fn dnat(&mut self, to: &[Ipv4Addr], port: Option<u16>, spread: Spread, map: Option<u32>) {
        match map {
            Some(set) => self.choose(to.len(), spread, set),
            None => self.load(FIRST, &to.first().map(Ipv4Addr::octets).unwrap_or_default()),
        }
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

    fn choose(&mut self, count: usize, spread: Spread, set: u32) {
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
            writer.text(1, MAP_NAME);
            writer.u32(2, FIRST);
            writer.u32(3, FIRST);
            writer.u32(4, set);
        });
    }

    fn load(&mut self, register: u32, value: &[u8]) {
        self.expression("immediate", |writer| {
            writer.u32(1, register);
            writer.nest(2, |writer| writer.bytes(1, value));
        });
    }
}
