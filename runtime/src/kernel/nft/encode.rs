//! A table as nfnetlink messages (`linux/netfilter/nf_tables.h`), all of one transaction in one buffer.

use std::net::Ipv4Addr;

use super::rule::{Chain, ChainKind, Rule, Table, Verdict};
use super::write::{ACCEPT, IPV4, MAP_NAME, Writer};
use crate::kernel::transport::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, align};

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
                if let Some(log) = &rule.log {
                    writer.log(log);
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
