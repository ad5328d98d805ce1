//! A table as nfnetlink messages (`linux/netfilter/nf_tables.h`), all of one transaction in one buffer.

use std::collections::BTreeMap;
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
const DELETE_CHAIN: u16 = message(5);
const NEW_RULE: u16 = message(6);
pub(super) const GET_RULES: u16 = message(7);
const DELETE_RULE: u16 = message(8);
const NEW_SET: u16 = message(9);
pub(super) const GET_SETS: u16 = message(10);
const DELETE_SET: u16 = message(11);
const NEW_ELEMENTS: u16 = message(12);
const DELETE_ELEMENTS: u16 = message(14);
pub(super) const GET_GENERATION: u16 = message(16);

const UNSPECIFIED: u8 = 0;
const SET_MAP: u32 = 0x8;
const SET_ANONYMOUS_CONSTANT_MAP: u32 = 0x1 | 0x2 | SET_MAP;
/// nft's numbers for an IPv4 address, an integer of any size, and one of four bytes (a packet's mark), which only `nft list`
/// looks at. It has no name for a map with a name whose keys are the second.
const TYPE_IPV4: u32 = 7;
const TYPE_INTEGER: u32 = 4;
const TYPE_MARK: u32 = 19;
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

/// What is in a table and named after chains of it that do not use it any more.
#[derive(Debug, Default)]
pub(super) struct Stale {
    pub(super) chains: Vec<String>,
    pub(super) maps: Vec<String>,
}

/// A transaction.
#[derive(Debug)]
pub(super) struct Batch {
    table: Table,
    writer: Writer,
    parts: Vec<Part>,
    /// Where the last message begins.
    last: usize,
    sets: u32,
}

type Maps<'a> = BTreeMap<&'a str, (Part, &'a [Ipv4Addr])>;

impl Batch {
    /// Makes the table's chains, empties them and fills them.
    pub(super) fn fill(table: &Table, stale: &Stale) -> Self {
        let mut batch = Self::begin(table.clone());
        batch.add_table();
        for (index, chain) in table.chains.iter().enumerate() {
            batch.add_chain(index, chain);
        }
        // All chains first: rules may jump to any of them, and old rules hold the old maps.
        for (index, chain) in table.chains.iter().enumerate() {
            batch.empty_chain(Part::Chain(index), &chain.name);
        }
        for chain in &stale.chains {
            batch.empty_chain(Part::Whole, chain);
        }
        for (name, (part, to)) in maps(table) {
            batch.add_named_map(part, name);
            batch.empty_map(part, name);
            batch.add_elements(part, (name, None), &numbered(to));
        }
        for (index, chain) in table.chains.iter().enumerate() {
            batch.fill_chain(index, chain);
        }
        batch.remove_stale(stale);
        batch.end()
    }

    /// Makes one table of another: chains whose rules are others are filled anew, and of maps with names single elements
    /// are exchanged. `None` where nothing is to be done.
    pub(super) fn change(old: &Table, new: &Table) -> Option<Self> {
        let before: BTreeMap<&str, &Chain> =
            old.chains.iter().map(|chain| (chain.name.as_str(), chain)).collect();
        let is_other = |chain: &Chain| {
            before.get(chain.name.as_str()).is_none_or(|before| !before.looks_alike(chain))
        };
        let others: Vec<(usize, &Chain)> =
            new.chains.iter().enumerate().filter(|(_, chain)| is_other(chain)).collect();
        let chains = old.chains.iter().map(|chain| chain.name.clone());
        let stale = stale(new, chains, maps(old).into_keys().map(str::to_owned));
        let mut batch = Self::begin(new.clone());
        let nothing = batch.parts.len();
        for (index, chain) in &others {
            if !before.contains_key(chain.name.as_str()) {
                batch.add_chain(*index, chain);
            }
        }
        for (index, chain) in &others {
            if before.contains_key(chain.name.as_str()) {
                batch.empty_chain(Part::Chain(*index), &chain.name);
            }
        }
        for chain in &stale.chains {
            batch.empty_chain(Part::Whole, chain);
        }
        batch.exchange(&maps(old), &maps(new));
        for (index, chain) in others {
            batch.fill_chain(index, chain);
        }
        batch.remove_stale(&stale);
        (batch.parts.len() > nothing).then(|| batch.end())
    }

    /// Removes a table, which is made first so that there is one to remove.
    pub(super) fn remove(name: &str) -> Self {
        let mut batch = Self::begin(Table { name: name.to_owned(), chains: Vec::new() });
        batch.add_table();
        batch.put(Part::Table, DELETE_TABLE, 0, |writer| writer.text(1, name));
        batch.end()
    }

    fn begin(table: Table) -> Self {
        let (writer, parts) = Default::default();
        let mut batch = Self { table, writer, parts, last: 0, sets: 0 };
        batch.parts.push(Part::Whole);
        batch.writer.message(BATCH_BEGIN, UNSPECIFIED, SUBSYSTEM, 0, |_| {});
        batch
    }

    fn end(mut self) -> Self {
        // The one acknowledged message: its answer comes once the whole transaction is through, and after all refusals.
        let flags = self.last + 6;
        self.writer.bytes[flags] |= NLM_F_ACK.to_ne_bytes()[0];
        self.writer.bytes[flags + 1] |= NLM_F_ACK.to_ne_bytes()[1];
        self.parts.push(Part::Whole);
        self.writer.message(BATCH_END, UNSPECIFIED, SUBSYSTEM, 0, |_| {});
        self
    }

    /// The table's name.
    pub(super) fn table(&self) -> &str {
        &self.table.name
    }

    /// The bytes to send with the messages numbered, and the numbers of the first and of the one that is acknowledged.
    pub(super) fn number(&self, mut next: impl FnMut() -> u32) -> (Vec<u8>, u32, u32) {
        let mut bytes = self.writer.bytes.clone();
        let (mut first, mut acknowledged) = (None, 0);
        let mut at = 0;
        while at < bytes.len() {
            let sequence = next();
            first.get_or_insert(sequence);
            if at == self.last {
                acknowledged = sequence;
            }
            bytes[at + 8..at + 12].copy_from_slice(&sequence.to_ne_bytes());
            let length = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            at += align(u32::from_ne_bytes(length) as usize);
        }
        (bytes, first.unwrap_or_default(), acknowledged)
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
        self.last = self.writer.bytes.len();
        self.writer.message(kind, IPV4, 0, flags, body);
    }

    fn add_table(&mut self) {
        let name = self.table.name.clone();
        self.put(Part::Table, NEW_TABLE, NLM_F_CREATE, |writer| {
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

    fn empty_chain(&mut self, part: Part, chain: &str) {
        let table = self.table.name.clone();
        self.put(part, DELETE_RULE, 0, |writer| {
            writer.text(1, &table);
            writer.text(2, chain);
        });
    }

    fn fill_chain(&mut self, index: usize, chain: &Chain) {
        for (place, rule) in chain.rules.iter().enumerate() {
            self.add_rule(Part::Rule(index, place), &chain.name, rule);
        }
    }

    /// Once no rule uses them.
    fn remove_stale(&mut self, stale: &Stale) {
        let table = self.table.name.clone();
        for chain in &stale.chains {
            self.put(Part::Whole, DELETE_CHAIN, 0, |writer| {
                writer.text(1, &table);
                writer.text(3, chain);
            });
        }
        for map in &stale.maps {
            self.put(Part::Whole, DELETE_SET, 0, |writer| {
                writer.text(1, &table);
                writer.text(2, map);
            });
        }
    }

    fn add_rule(&mut self, part: Part, chain: &str, rule: &Rule) {
        let set = match &rule.verdict {
            Verdict::Dnat { to, .. } if to.len() > 1 && rule.verdict.named_map().is_none() => {
                Some(self.add_map(part, to))
            }
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
                writer.verdict(&rule.verdict, set);
            });
        });
    }

    /// A map from 0, 1, … to the addresses, which lives and dies with the rule that uses it.
    fn add_map(&mut self, part: Part, to: &[Ipv4Addr]) -> u32 {
        let size = u32::try_from(to.len()).unwrap_or(u32::MAX);
        let set = self.add_set(part, MAP_NAME, SET_ANONYMOUS_CONSTANT_MAP, Some(size));
        self.add_elements(part, (MAP_NAME, Some(set)), &numbered(to));
        set
    }

    /// An empty one that stays, or the one that is there as it is.
    fn add_named_map(&mut self, part: Part, name: &str) {
        self.add_set(part, name, SET_MAP, None);
    }

    fn add_set(&mut self, part: Part, name: &str, flags: u32, size: Option<u32>) -> u32 {
        self.sets += 1;
        let (set, table) = (self.sets, self.table.name.clone());
        self.put(part, NEW_SET, NLM_F_CREATE, |writer| {
            writer.text(1, &table);
            writer.text(2, name);
            writer.u32(3, flags);
            writer.u32(4, if size.is_some() { TYPE_INTEGER } else { TYPE_MARK });
            writer.u32(5, 4);
            writer.u32(6, TYPE_IPV4);
            writer.u32(7, 4);
            if let Some(size) = size {
                writer.nest(9, |writer| writer.u32(1, size));
            }
            writer.u32(10, set);
            // For `nft list`: keys are in the host's byte order, values in the network's.
            writer.bytes(13, &[0, 4, 1, 0, 0, 0, 1, 4, 2, 0, 0, 0]);
        });
        set
    }

    fn empty_map(&mut self, part: Part, name: &str) {
        let table = self.table.name.clone();
        self.put(part, DELETE_ELEMENTS, 0, |writer| {
            writer.text(1, &table);
            writer.text(2, name);
        });
    }

    /// New maps are made, and of others single elements are exchanged.
    fn exchange(&mut self, old: &Maps<'_>, new: &Maps<'_>) {
        for (name, (part, to)) in new {
            let Some((_, before)) = old.get(name) else {
                self.add_named_map(*part, name);
                self.add_elements(*part, (name, None), &numbered(to));
                continue;
            };
            let (before, after) = (numbered(before), numbered(to));
            self.remove_elements(*part, name, &missing(&before, &after));
            self.add_elements(*part, (name, None), &missing(&after, &before));
        }
    }

    fn add_elements(&mut self, part: Part, map: (&str, Option<u32>), elements: &[Element]) {
        self.elements(NEW_ELEMENTS, NLM_F_CREATE, part, map, elements, |writer, (_, address)| {
            writer.nest(2, |writer| writer.bytes(1, &address.octets()));
        });
    }

    fn remove_elements(&mut self, part: Part, map: &str, elements: &[Element]) {
        self.elements(DELETE_ELEMENTS, 0, part, (map, None), elements, |_, _| {});
    }

    fn elements(
        &mut self,
        kind: u16,
        flags: u16,
        part: Part,
        (map, set): (&str, Option<u32>),
        elements: &[Element],
        value: impl Fn(&mut Writer, &Element),
    ) {
        let table = self.table.name.clone();
        for part_of in elements.chunks(ELEMENTS) {
            self.put(part, kind, flags, |writer| {
                writer.text(1, &table);
                writer.text(2, map);
                if let Some(set) = set {
                    writer.u32(4, set);
                }
                writer.nest(3, |writer| {
                    for element in part_of {
                        writer.nest(1, |writer| {
                            writer.nest(1, |writer| writer.bytes(1, &element.0.to_ne_bytes()));
                            value(writer, element);
                        });
                    }
                });
            });
        }
    }
}

/// A number and the address to which it leads.
type Element = (u32, Ipv4Addr);

fn numbered(to: &[Ipv4Addr]) -> Vec<Element> {
    (0..).zip(to.iter().copied()).collect()
}

/// Elements that are not so in `other`.
fn missing(elements: &[Element], other: &[Element]) -> Vec<Element> {
    let others = other.iter().map(Some).chain(std::iter::repeat(None));
    let differ = elements.iter().zip(others).filter(|(one, other)| Some(*one) != *other);
    differ.map(|(one, _)| *one).collect()
}

/// All maps with names of a table.
fn maps(table: &Table) -> Maps<'_> {
    let chains = table.chains.iter().enumerate();
    let rules = chains.flat_map(|(index, chain)| {
        chain.rules.iter().enumerate().map(move |(place, rule)| (Part::Rule(index, place), rule))
    });
    let named = rules.filter_map(|(part, rule)| {
        rule.verdict.named_map().map(|(map, to)| (map.name.as_str(), (part, to)))
    });
    named.collect()
}

/// Of these chains and maps, those that a table does not have.
pub(super) fn stale(
    table: &Table,
    chains: impl IntoIterator<Item = String>,
    maps: impl IntoIterator<Item = String>,
) -> Stale {
    let has_chain = |name: &String| table.chains.iter().any(|chain| chain.name == *name);
    let kept = self::maps(table);
    Stale {
        chains: chains.into_iter().filter(|name| !has_chain(name)).collect(),
        maps: maps.into_iter().filter(|name| !kept.contains_key(name.as_str())).collect(),
    }
}
