//! What the tasks of a node have reserved there. Exact: what cannot be given whole is not given.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use swarm_proto::object::{GenericResource, GenericResources, HostShare, NodeDescription, Task};
use swarm_proto::spec::{Amount, ResourceRequest, Resources};

use super::index::holds_addresses;

/// What tasks of a node have, each until it has surely ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reserved {
    /// Of what every host has.
    pub share: HostShare,
    /// Of each kind that the node counts.
    pub counts: BTreeMap<String, u64>,
    /// Names of each kind that the node names.
    pub names: BTreeMap<String, BTreeSet<String>>,
}

/// What a node lacks for a task, in words that fit behind "node is".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// Thousandths of a CPU.
    Cpus(u64),
    /// Bytes of memory.
    Memory(u64),
    /// Processes and threads.
    Pids(u64),
    /// So many of a kind.
    Count(String, u64),
    /// All of a kind: some are taken, or there are none.
    All(String),
    /// One of a kind, by name.
    Named(String, String),
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpus(millicpus) => {
                let (whole, rest) = (millicpus / 1_000, millicpus % 1_000);
                let rest = if rest == 0 { String::new() } else { format!(".{rest:03}") };
                write!(f, "without {whole}{} free CPUs", rest.trim_end_matches('0'))
            }
            Self::Memory(bytes) => write!(f, "without {} MiB of free memory", bytes >> 20),
            Self::Pids(pids) => write!(f, "without room for {pids} more processes"),
            Self::Count(kind, count) => write!(f, "without {count} free `{kind}`"),
            Self::All(kind) => write!(f, "without `{kind}` that is all free"),
            Self::Named(kind, name) => write!(f, "without a free `{kind}` named `{name}`"),
        }
    }
}

/// Whether a task has what it reserved on its node: until it is over, or forgotten when nobody knows whether it is.
pub(crate) fn holds_resources(task: &Task) -> bool {
    task.node.is_some() && holds_addresses(task)
}

impl Reserved {
    /// What a node gives a task of its generic resources when everything that the task reserves is free there; the first
    /// names, where any will do.
    pub(crate) fn give(
        &self,
        node: &NodeDescription,
        wanted: &Resources,
    ) -> Result<GenericResources, Lack> {
        self.has_room(node, wanted)?;
        let mut given = GenericResources::new();
        for request in &wanted.requests {
            if let Some(resource) = self.choose(node, request)? {
                given.insert(request.kind.clone(), resource);
            }
        }
        Ok(given)
    }

    /// Whether a node can give a task just this: no more and no less than it asks for, all of it free.
    pub(crate) fn allows(
        &self,
        node: &NodeDescription,
        wanted: &Resources,
        given: &GenericResources,
    ) -> bool {
        let is_asked = |kind: &String| wanted.requests.iter().any(|one| one.kind == *kind);
        self.has_room(node, wanted).is_ok()
            && given.keys().all(is_asked)
            && wanted.requests.iter().all(|one| self.meets(node, one, given.get(&one.kind)))
    }

    fn has_room(&self, node: &NodeDescription, wanted: &Resources) -> Result<(), Lack> {
        let (has, wanted, taken) = (node.for_tasks(), wanted.reserved(), self.share);
        let fits = |wanted: u64, taken: u64, has: u64| {
            wanted == 0 || taken.checked_add(wanted).is_some_and(|sum| sum <= has)
        };
        if !fits(wanted.millicpus, taken.millicpus, has.millicpus) {
            return Err(Lack::Cpus(wanted.millicpus));
        }
        if !fits(wanted.memory, taken.memory, has.memory) {
            return Err(Lack::Memory(wanted.memory));
        }
        if !fits(wanted.pids, taken.pids, has.pids) {
            return Err(Lack::Pids(wanted.pids));
        }
        Ok(())
    }

    /// What a request is given; nothing where it asks for nothing.
    fn choose(
        &self,
        node: &NodeDescription,
        request: &ResourceRequest,
    ) -> Result<Option<GenericResource>, Lack> {
        let kind = &request.kind;
        let has = node.generic_resources.get(kind);
        match (&request.amount, has) {
            (Amount::Count(0), _) => Ok(None),
            (Amount::Count(count), Some(GenericResource::Count(has))) => {
                let free = has.saturating_sub(self.count(kind));
                let given = (*count <= free).then_some(GenericResource::Count(*count));
                given.map(Some).ok_or_else(|| Lack::Count(kind.clone(), *count))
            }
            (Amount::Count(count), Some(GenericResource::Named(names))) => {
                let wanted = usize::try_from(*count).unwrap_or(usize::MAX);
                let free = names.iter().filter(|name| !self.has(kind, name));
                let given: BTreeSet<String> = free.take(wanted).cloned().collect();
                let whole = (given.len() == wanted).then_some(GenericResource::Named(given));
                whole.map(Some).ok_or_else(|| Lack::Count(kind.clone(), *count))
            }
            (Amount::Count(count), None) => Err(Lack::Count(kind.clone(), *count)),
            (Amount::All, Some(all)) if !all.is_empty() && self.is_untouched(kind) => {
                Ok(Some(all.clone()))
            }
            (Amount::All, _) => Err(Lack::All(kind.clone())),
            (Amount::Ids(ids), has) => {
                let free = |name: &String| match has {
                    Some(GenericResource::Named(names)) => {
                        names.contains(name) && !self.has(kind, name)
                    }
                    _ => false,
                };
                match ids.iter().find(|name| !free(name)) {
                    Some(name) => Err(Lack::Named(kind.clone(), name.clone())),
                    None if ids.is_empty() => Ok(None),
                    None => Ok(Some(GenericResource::Named(ids.iter().cloned().collect()))),
                }
            }
        }
    }

    /// Whether what is given of a kind is what was asked for, there, and free.
    fn meets(
        &self,
        node: &NodeDescription,
        request: &ResourceRequest,
        given: Option<&GenericResource>,
    ) -> bool {
        let kind = &request.kind;
        let has = node.generic_resources.get(kind);
        let is_free = match (given, has) {
            (None, _) => true,
            (Some(GenericResource::Count(given)), Some(GenericResource::Count(has))) => {
                let sum = self.count(kind).checked_add(*given);
                sum.is_some_and(|sum| sum <= *has)
            }
            (Some(GenericResource::Named(given)), Some(GenericResource::Named(has))) => {
                given.iter().all(|name| has.contains(name) && !self.has(kind, name))
            }
            _ => false,
        };
        let is_asked = match &request.amount {
            Amount::Count(count) => given.map_or(0, GenericResource::len) == *count,
            Amount::All => given.is_some_and(|given| !given.is_empty()) && given == has,
            Amount::Ids(ids) => match given {
                None => ids.is_empty(),
                Some(GenericResource::Named(given)) => *given == ids.iter().cloned().collect(),
                Some(GenericResource::Count(_)) => false,
            },
        };
        is_free && is_asked
    }

    fn count(&self, kind: &str) -> u64 {
        self.counts.get(kind).copied().unwrap_or(0)
    }

    fn has(&self, kind: &str, name: &str) -> bool {
        self.names.get(kind).is_some_and(|names| names.contains(name))
    }

    fn is_untouched(&self, kind: &str) -> bool {
        !self.counts.contains_key(kind) && !self.names.contains_key(kind)
    }

    /// Its generic resources, as they are shown.
    pub fn resources(&self) -> GenericResources {
        let counted = self.counts.iter();
        let counted = counted.map(|(kind, count)| (kind, GenericResource::Count(*count)));
        let named = self.names.iter();
        let named = named.map(|(kind, names)| (kind, GenericResource::Named(names.clone())));
        counted.chain(named).map(|(kind, resource)| (kind.clone(), resource)).collect()
    }

    /// Notes what a task has, or that it has it no more.
    pub(crate) fn note(&mut self, wanted: &Resources, given: &GenericResources, add: bool) {
        self.note_share(wanted.reserved(), given, add);
    }

    /// Notes what several tasks have together.
    pub(super) fn add(&mut self, other: &Self) {
        self.note_share(other.share, &other.resources(), true);
    }

    /// Notes that these have it no more.
    pub(super) fn sub(&mut self, other: &Self) {
        self.note_share(other.share, &other.resources(), false);
    }

    fn note_share(&mut self, share: HostShare, given: &GenericResources, add: bool) {
        let step = |value: &mut u64, by: u64| {
            *value = if add { value.saturating_add(by) } else { value.saturating_sub(by) };
        };
        step(&mut self.share.millicpus, share.millicpus);
        step(&mut self.share.memory, share.memory);
        step(&mut self.share.pids, share.pids);
        for (kind, resource) in given {
            match resource {
                GenericResource::Count(count) => {
                    let counted = self.counts.entry(kind.clone()).or_default();
                    step(counted, *count);
                    if *counted == 0 {
                        self.counts.remove(kind);
                    }
                }
                GenericResource::Named(names) => {
                    let named = self.names.entry(kind.clone()).or_default();
                    if add {
                        named.extend(names.iter().cloned());
                    } else {
                        named.retain(|name| !names.contains(name));
                    }
                    if named.is_empty() {
                        self.names.remove(kind);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeDescription {
        let names = ["a", "b", "c"].map(str::to_owned).into();
        NodeDescription {
            millicpus: 4_000,
            memory: 1 << 30,
            pids: 1_000,
            reserve: HostShare { millicpus: 500, memory: 1 << 28, pids: 100 },
            generic_resources: [
                ("gpu".to_owned(), GenericResource::Named(names)),
                ("slot".to_owned(), GenericResource::Count(4)),
            ]
            .into(),
            ..NodeDescription::default()
        }
    }

    fn request(kind: &str, amount: Amount) -> Resources {
        let request = ResourceRequest { kind: kind.to_owned(), amount, capabilities: Vec::new() };
        Resources { requests: vec![request], ..Resources::default() }
    }

    fn ids(names: &[&str]) -> Amount {
        Amount::Ids(names.iter().map(|name| (*name).to_owned()).collect())
    }

    /// Gives, notes, and says what was given.
    fn take(reserved: &mut Reserved, wanted: &Resources) -> Result<String, String> {
        let given = reserved.give(&node(), wanted).map_err(|lack| lack.to_string())?;
        assert!(reserved.allows(&node(), wanted, &given), "what is chosen is allowed");
        reserved.note(wanted, &given, true);
        let shown = given.iter().map(|(kind, resource)| format!("{kind}={resource}"));
        Ok(shown.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_hosts_own_reserve_is_not_given_away() {
        let mut reserved = Reserved::default();
        let cpus = |millicpus| Resources { reserve_millicpus: millicpus, ..Resources::default() };
        let pids = |pids| Resources { reserve_pids: pids, ..Resources::default() };
        let memory = |bytes| Resources { reserve_memory: bytes, ..Resources::default() };
        assert_eq!(take(&mut reserved, &cpus(3_500)), Ok(String::new()));
        assert_eq!(take(&mut reserved, &cpus(1)), Err("without 0.001 free CPUs".to_owned()));
        let more = take(&mut reserved, &memory((3 << 28) + 1));
        assert_eq!(more, Err("without 768 MiB of free memory".to_owned()));
        assert_eq!(take(&mut reserved, &memory(3 << 28)), Ok(String::new()));
        let more = take(&mut reserved, &pids(901));
        assert_eq!(more, Err("without room for 901 more processes".to_owned()));
        assert_eq!(take(&mut reserved, &pids(900)), Ok(String::new()));
        assert_eq!(take(&mut reserved, &Resources::default()), Ok(String::new()), "asks nothing");
        let all = cpus(u64::MAX);
        assert!(reserved.give(&node(), &all).is_err(), "no sum overflows");
    }

    #[test]
    fn named_resources_are_given_once() {
        let mut reserved = Reserved::default();
        let one = request("gpu", Amount::Count(1));
        assert_eq!(take(&mut reserved, &request("gpu", ids(&["b"]))), Ok("gpu=b".to_owned()));
        assert_eq!(take(&mut reserved, &one), Ok("gpu=a".to_owned()));
        let taken = take(&mut reserved, &request("gpu", ids(&["c", "b"])));
        assert_eq!(taken, Err("without a free `gpu` named `b`".to_owned()));
        let two = take(&mut reserved, &request("gpu", Amount::Count(2)));
        assert_eq!(two, Err("without 2 free `gpu`".to_owned()));
        let all = take(&mut reserved, &request("gpu", Amount::All));
        assert_eq!(all, Err("without `gpu` that is all free".to_owned()));
        let given = [("gpu".to_owned(), GenericResource::Named(["a".to_owned()].into()))].into();
        assert!(!reserved.allows(&node(), &one, &given), "another task has it");
        reserved.note(&one, &given, false);
        assert!(reserved.allows(&node(), &one, &given));
        assert!(!reserved.allows(&node(), &Resources::default(), &given), "nobody asked for it");
        assert!(!reserved.allows(&node(), &one, &GenericResources::new()), "it asked for one");
    }

    #[test]
    fn counted_resources_are_counted() {
        let mut reserved = Reserved::default();
        let slots = |count| request("slot", Amount::Count(count));
        assert_eq!(take(&mut reserved, &slots(3)), Ok("slot=3".to_owned()));
        assert_eq!(take(&mut reserved, &slots(2)), Err("without 2 free `slot`".to_owned()));
        assert_eq!(take(&mut reserved, &slots(1)), Ok("slot=1".to_owned()));
        let missing = take(&mut reserved, &request("fpga", Amount::Count(1)));
        assert_eq!(missing, Err("without 1 free `fpga`".to_owned()));
        let mut reserved = Reserved::default();
        assert_eq!(take(&mut reserved, &request("slot", Amount::All)), Ok("slot=4".to_owned()));
        let given = [("slot".to_owned(), GenericResource::Count(4))].into();
        reserved.note(&Resources::default(), &given, false);
        assert_eq!(reserved, Reserved::default(), "nothing is left");
    }
}
