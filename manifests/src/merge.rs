//! Several files on top of each other, by the rules of the Compose Specification: scalars replace, mappings merge, lists
//! append. [`RULES`] is the one table of what differs from that.

use std::collections::{BTreeSet, HashMap};

use crate::problem::Problems;
use crate::tree::{At, Data, Key, Node, Tag, Tags};

/// How a value lies on another one of the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// The later one counts, whole.
    Replace,
    /// A list of `KEY=value` is the same as a mapping; the separators are between key and value.
    Pairs(&'static [char]),
    /// A list of names is the same as a mapping of names to settings.
    Names,
    /// One text is the same as a list of one; nothing stands twice in it.
    Texts,
    /// A list in which an item replaces an earlier one of the same identity.
    Unique(Identity),
    /// Options merge only where both name the same driver.
    Driver,
    /// A text is the same as a mapping with this one key.
    Short(&'static str),
}

/// What makes two items of a list the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    /// Their whole text.
    Text,
    /// The path in the container.
    Target,
    /// The path below `/run/secrets`, or the name.
    Secret,
    /// The path in the container, or `/` and the name.
    Config,
    /// Address, target, published port and protocol.
    Port,
    /// The subnet; such items merge.
    Subnet,
}

/// The paths whose values do not merge as their kind does. `*` is any key.
const RULES: [(&str, Rule); 45] = [
    ("services.*.annotations", Rule::Pairs(&['='])),
    ("services.*.build", Rule::Short("context")),
    ("services.*.build.additional_contexts", Rule::Pairs(&['='])),
    ("services.*.build.args", Rule::Pairs(&['='])),
    ("services.*.build.extra_hosts", Rule::Pairs(&['=', ':'])),
    ("services.*.build.labels", Rule::Pairs(&['='])),
    ("services.*.cap_add", Rule::Unique(Identity::Text)),
    ("services.*.cap_drop", Rule::Unique(Identity::Text)),
    ("services.*.command", Rule::Replace),
    ("services.*.configs", Rule::Unique(Identity::Config)),
    ("services.*.depends_on", Rule::Names),
    ("services.*.deploy.labels", Rule::Pairs(&['='])),
    ("services.*.devices", Rule::Unique(Identity::Target)),
    ("services.*.dns", Rule::Texts),
    ("services.*.dns_opt", Rule::Texts),
    ("services.*.dns_search", Rule::Texts),
    ("services.*.entrypoint", Rule::Replace),
    ("services.*.env_file", Rule::Texts),
    ("services.*.environment", Rule::Pairs(&['='])),
    ("services.*.expose", Rule::Unique(Identity::Text)),
    ("services.*.external_links", Rule::Unique(Identity::Text)),
    ("services.*.extra_hosts", Rule::Pairs(&['=', ':'])),
    ("services.*.group_add", Rule::Unique(Identity::Text)),
    ("services.*.healthcheck.test", Rule::Replace),
    ("services.*.label_file", Rule::Texts),
    ("services.*.labels", Rule::Pairs(&['='])),
    ("services.*.links", Rule::Unique(Identity::Text)),
    ("services.*.logging", Rule::Driver),
    ("services.*.models", Rule::Names),
    ("services.*.networks", Rule::Names),
    ("services.*.networks.*.aliases", Rule::Unique(Identity::Text)),
    ("services.*.networks.*.link_local_ips", Rule::Unique(Identity::Text)),
    ("services.*.ports", Rule::Unique(Identity::Port)),
    ("services.*.profiles", Rule::Unique(Identity::Text)),
    ("services.*.secrets", Rule::Unique(Identity::Secret)),
    ("services.*.security_opt", Rule::Unique(Identity::Text)),
    ("services.*.sysctls", Rule::Pairs(&['='])),
    ("services.*.tmpfs", Rule::Texts),
    ("services.*.ulimits.*", Rule::Replace),
    ("services.*.volumes", Rule::Unique(Identity::Target)),
    ("networks.*.ipam.config", Rule::Unique(Identity::Subnet)),
    ("networks.*.labels", Rule::Pairs(&['='])),
    ("volumes.*.labels", Rule::Pairs(&['='])),
    ("secrets.*.labels", Rule::Pairs(&['='])),
    ("configs.*.labels", Rule::Pairs(&['='])),
];

/// Lays trees on each other.
pub(crate) struct Merge<'a> {
    tags: &'a Tags,
    problems: &'a Problems,
    path: Vec<String>,
}

impl<'a> Merge<'a> {
    /// Of whole files.
    pub(crate) fn new(tags: &'a Tags, problems: &'a Problems) -> Self {
        Self { tags, problems, path: Vec::new() }
    }

    /// Of one service on another.
    pub(crate) fn of_service(tags: &'a Tags, problems: &'a Problems, name: &str) -> Self {
        Self { tags, problems, path: vec!["services".to_owned(), name.to_owned()] }
    }

    /// A later tree on an earlier one. Values that cannot lie on each other are told to the problems.
    pub(crate) fn lay(&mut self, below: Node, above: Node) -> Node {
        if self.tags.of(&above) == Some(Tag::Override) {
            return above;
        }
        let rule = self.rule();
        if rule == Some(Rule::Replace) && !above.is_null() {
            return above;
        }
        let (below, above) = match rule {
            Some(rule) if !above.is_null() => (long_form(below, rule), long_form(above, rule)),
            _ => (below, above),
        };
        let at = above.at;
        match (below.data, above.data) {
            // Nothing lies on a list or mapping; it takes a text away.
            (data @ (Data::Mapping(_) | Data::Sequence(_)), Data::Null) => {
                Node { at: below.at, data }
            }
            (Data::Mapping(below), Data::Mapping(above))
                if rule == Some(Rule::Driver) && differ(&below, &above, "driver") =>
            {
                Node { at, data: Data::Mapping(above) }
            }
            (Data::Mapping(below), Data::Mapping(above)) => {
                Node { at, data: Data::Mapping(self.lay_pairs(below, above)) }
            }
            (Data::Sequence(below), Data::Sequence(above)) => {
                Node { at, data: Data::Sequence(self.lay_items(below, above, rule)) }
            }
            (data @ (Data::Mapping(_) | Data::Sequence(_)), above) => {
                self.refuse(&Node { at: below.at, data }, &Node { at, data: above })
            }
            (_, data) => Node { at, data },
        }
    }

    fn refuse(&self, below: &Node, above: &Node) -> Node {
        let name = self.path.last().map_or("the file", String::as_str);
        let message = format!(
            "`{}` is {} here, but {} in {}",
            crate::tree::shorten(name),
            above.found(),
            below.found(),
            self.problems.place(below.at)
        );
        let hint = "write both in one form, or replace the earlier one with `!override`";
        self.problems.error_hint(above.at, message, hint);
        self.problems.settle(above.at);
        above.clone()
    }

    fn lay_pairs(&mut self, below: Vec<(Key, Node)>, above: Vec<(Key, Node)>) -> Vec<(Key, Node)> {
        let mut places: HashMap<String, usize> = HashMap::with_capacity(below.len());
        places.extend(below.iter().enumerate().map(|(place, (key, _))| (key.text.clone(), place)));
        let mut pairs: Vec<Option<(Key, Node)>> = below.into_iter().map(Some).collect();
        for (key, value) in above {
            let place = places.get(&key.text).copied();
            let old = place.and_then(|place| pairs[place].take());
            if self.tags.of(&value) == Some(Tag::Reset) {
                continue;
            }
            let is_users = key.text.starts_with("x-") && !key.text.starts_with("x-swarm");
            let pair = match old {
                Some((_, old)) if !is_users => {
                    self.path.push(key.text.clone());
                    let value = self.lay(old, value);
                    self.path.pop();
                    (key, value)
                }
                _ => (key, value),
            };
            if let Some(place) = place {
                pairs[place] = Some(pair);
            } else {
                places.insert(pair.0.text.clone(), pairs.len());
                pairs.push(Some(pair));
            }
        }
        pairs.into_iter().flatten().collect()
    }

    fn lay_items(&mut self, below: Vec<Node>, above: Vec<Node>, rule: Option<Rule>) -> Vec<Node> {
        let identity = match rule {
            Some(Rule::Unique(identity)) => Some(identity),
            Some(Rule::Texts) => Some(Identity::Text),
            _ => None,
        };
        let of = |item: &Node| identity.and_then(|identity| identity.of(item));
        let mut places: HashMap<String, usize> =
            below.iter().enumerate().filter_map(|(place, item)| Some((of(item)?, place))).collect();
        // Only what lies below is replaced: what stands twice in one file is for the decode to refuse.
        let known: BTreeSet<usize> = places.values().copied().collect();
        let mut items = below;
        for item in above {
            let place = of(&item).and_then(|identity| places.remove(&identity));
            match place.filter(|place| known.contains(place)) {
                Some(place) if identity == Some(Identity::Subnet) => {
                    let old = std::mem::replace(&mut items[place], null(item.at));
                    items[place] = self.lay(old, item);
                }
                Some(place) => items[place] = item,
                None => items.push(item),
            }
        }
        items
    }

    fn rule(&self) -> Option<Rule> {
        let matches = |pattern: &str| {
            let mut path = self.path.iter();
            pattern.split('.').all(|part| path.next().is_some_and(|key| part == "*" || part == key))
                && path.next().is_none()
        };
        let found = RULES.iter().find(|(pattern, _)| matches(pattern));
        found.map(|(_, rule)| *rule)
    }
}

fn null(at: At) -> Node {
    Node { at, data: Data::Null }
}

/// Whether both mappings name a text under the key, and not the same.
fn differ(below: &[(Key, Node)], above: &[(Key, Node)], key: &str) -> bool {
    let text = |pairs: &[(Key, Node)]| {
        let pair = pairs.iter().find(|(found, _)| found.text == key);
        pair.and_then(|(_, node)| node.text().map(str::to_owned))
    };
    matches!((text(below), text(above)), (Some(below), Some(above)) if below != above)
}

impl Identity {
    fn of(self, item: &Node) -> Option<String> {
        let part = |key: &str| item.get(key).and_then(Node::text).map(str::to_owned);
        match (self, item.text()) {
            (Self::Text, Some(text)) => Some(text.to_owned()),
            (Self::Text, None) => part("path"),
            (Self::Target, Some(text)) => {
                let mut parts = text.split(':');
                let first = parts.next();
                parts.next().or(first).map(str::to_owned)
            }
            (Self::Target, None) => part("target").or_else(|| part("source")),
            (Self::Secret, text) => {
                let target = text.map(str::to_owned).or_else(|| part("target").or(part("source")));
                target.map(|target| target.trim_start_matches("/run/secrets/").to_owned())
            }
            (Self::Config, Some(text)) => Some(format!("/{text}")),
            (Self::Config, None) => {
                part("target").or_else(|| Some(format!("/{}", part("source")?)))
            }
            (Self::Port, Some(text)) => Some(port(text)),
            (Self::Port, None) => {
                let or = |key: &str, default: &str| part(key).unwrap_or_else(|| default.to_owned());
                let address = or("host_ip", "0.0.0.0");
                let (published, target) = (or("published", ""), part("target")?);
                Some(format!("{address}:{published}:{target}/{}", or("protocol", "tcp")))
            }
            (Self::Subnet, _) => part("subnet"),
        }
    }
}

/// The identity of a port in its short form.
fn port(text: &str) -> String {
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (host, target) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (address, published) = host.rsplit_once(':').unwrap_or(("0.0.0.0", host));
    format!("{address}:{published}:{target}/{}", protocol.to_ascii_lowercase())
}

/// The form that merges, of a value that a rule lets be written in a shorter one.
fn long_form(node: Node, rule: Rule) -> Node {
    let at = node.at;
    match (rule, node.data) {
        (Rule::Pairs(separators), Data::Sequence(items)) => {
            as_mapping(at, items, |text| match text.split_once(separators) {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (text.to_owned(), None),
            })
        }
        (Rule::Names, Data::Sequence(items)) => {
            as_mapping(at, items, |text| (text.to_owned(), None))
        }
        (Rule::Texts, data @ Data::Scalar { .. }) => {
            Node { at, data: Data::Sequence(vec![Node { at, data }]) }
        }
        (Rule::Short(key), data @ Data::Scalar { .. }) => {
            let key = Key { text: key.to_owned(), at };
            Node { at, data: Data::Mapping(vec![(key, Node { at, data })]) }
        }
        (_, data) => Node { at, data },
    }
}

/// A list of texts as a mapping, a later one of the same key in place of an earlier; another list stays as it is.
fn as_mapping(at: At, items: Vec<Node>, split: impl Fn(&str) -> (String, Option<String>)) -> Node {
    if items.iter().any(|item| item.text().is_none()) {
        return Node { at, data: Data::Sequence(items) };
    }
    let mut pairs: Vec<(Key, Node)> = Vec::with_capacity(items.len());
    let mut places: HashMap<String, usize> = HashMap::new();
    for item in &items {
        let (key, value) = split(item.text().unwrap_or_default());
        let data = value.map_or(Data::Null, |text| Data::Scalar { text, plain: false });
        let place = *places.entry(key.clone()).or_insert(pairs.len());
        let pair = (Key { text: key, at: item.at }, Node { at: item.at, data });
        if place < pairs.len() {
            pairs[place] = pair;
        } else {
            pairs.push(pair);
        }
    }
    Node { at, data: Data::Mapping(pairs) }
}
