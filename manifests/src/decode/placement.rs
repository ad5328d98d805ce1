//! `deploy.placement`, and what compose has no key for: which nodes may run a service's tasks, and beside which others.

use swarm_proto::spec::{Affinity, Constraint, ConstraintError, ConstraintKey, Domain, Placement};

use super::Decoder;
use crate::keys::{AFFINITY, PLACEMENT, PREFERENCE, X_SWARM_PLACEMENT};
use crate::tree::{At, Data, Node, shorten};

pub(super) fn placement(d: &Decoder<'_>, node: &Node) -> Option<Placement> {
    let fields = d.fields(node, "`placement`", &PLACEMENT)?;
    let constraints = fields.get("constraints").and_then(|node| d.list(node, "constraints"));
    let preferences = fields.get("preferences").and_then(|node| d.list(node, "preferences"));
    let most = fields.get("max_replicas_per_node");
    let most = most.and_then(|node| d.count(node, "max_replicas_per_node", u32::MAX));
    Some(Placement {
        constraints: constraints
            .unwrap_or_default()
            .iter()
            .filter_map(|node| constraint(d, node))
            .collect(),
        spread: preferences.unwrap_or_default().iter().filter_map(|node| spread(d, node)).collect(),
        max_replicas_per_node: most.filter(|most| *most > 0),
        ..Placement::default()
    })
}

/// `x-swarm: placement`: adds what compose has no key for.
pub(super) fn x_swarm(d: &Decoder<'_>, node: &Node, services: &[&str], placement: &mut Placement) {
    let Some(fields) = d.fields(node, "`placement`", &X_SWARM_PLACEMENT) else { return };
    let list = |name: &str| {
        let items = fields.get(name).and_then(|node| d.list(node, name)).unwrap_or_default();
        items.iter().filter_map(|item| affinity(d, item, name, services)).collect()
    };
    placement.near = list("near");
    placement.apart = list("apart");
}

/// A service's key, which means the same node, or a mapping that says how near.
fn affinity(d: &Decoder<'_>, node: &Node, name: &str, services: &[&str]) -> Option<Affinity> {
    let (at, service, within) = match &node.data {
        Data::Mapping(_) => {
            let fields = d.fields(node, &format!("an item of `{name}`"), &AFFINITY)?;
            let Some(service) = fields.get("service") else {
                let hint = format!("write `- {{service: NAME}}`, or just `- NAME`, below `{name}`");
                d.problems.error_hint(
                    node.at,
                    format!("an item of `{name}` needs `service`"),
                    hint,
                );
                return None;
            };
            let within = match fields.get("within") {
                Some(node) => domain(d, node, "within")?,
                None => Domain::Node,
            };
            (service.at, d.scalar(service, "service")?, within)
        }
        _ => (node.at, d.scalar(node, name)?, Domain::Node),
    };
    if !services.contains(&service) {
        let message = format!("`{name}` names `{}`, which is no service", shorten(service));
        d.problems.error_hint(at, message, d.hint(service, services.iter().copied()));
        return None;
    }
    Some(Affinity { service: service.to_owned(), within })
}

fn domain(d: &Decoder<'_>, node: &Node, name: &str) -> Option<Domain> {
    let text = d.scalar(node, name)?;
    let domain = if text == "node" { Some(Domain::Node) } else { Domain::label(text) };
    if domain.is_none() {
        d.expected(node, name, "`node` or a label such as `node.labels.zone`", "");
    }
    domain
}

fn constraint(d: &Decoder<'_>, node: &Node) -> Option<Constraint> {
    let text = d.scalar(node, "constraints")?;
    match text.parse() {
        Ok(constraint) => Some(constraint),
        Err(error) => {
            tell(d, node.at, &error);
            None
        }
    }
}

fn tell(d: &Decoder<'_>, at: At, error: &ConstraintError) {
    let hint = match error {
        ConstraintError::Syntax(_) => {
            "write `key==value` or `key!=value`, such as `node.labels.zone==a`; or an operator of in (a, b), not in (a, b), exists, not exists, <, <=, >=, >".to_owned()
        }
        ConstraintError::NoValue(_) => "write the value after the operator".to_owned(),
        ConstraintError::Key(key) => key_hint(d, key),
        ConstraintError::Role(role) => d.hint(role, Constraint::ROLES),
        ConstraintError::Number(_) => {
            "`<`, `<=`, `>=` and `>` compare with a number: write `node.labels.cores >= 16`"
                .to_owned()
        }
        ConstraintError::Address(_) => "write it like `10.1.2.3` or `10.1.0.0/16`".to_owned(),
    };
    d.problems.error_hint(at, brief(error).to_string(), hint);
}

/// The error with its texts at most as long as a line bears.
fn brief(error: &ConstraintError) -> ConstraintError {
    use ConstraintError as E;
    let (variant, text): (fn(String) -> E, _) = match error {
        E::Syntax(text) => (E::Syntax, text),
        E::NoValue(text) => (E::NoValue, text),
        E::Key(text) => (E::Key, text),
        E::Role(text) => (E::Role, text),
        E::Number(text) => (E::Number, text),
        E::Address(text) => (E::Address, text),
    };
    variant(shorten(text))
}

fn key_hint(d: &Decoder<'_>, key: &str) -> String {
    let near = key.rsplit_once('.').and_then(|(prefix, name)| {
        let prefix = d.nearest(prefix, ["node.labels", "engine.labels"])?;
        Some(format!("did you mean `{prefix}.{}`?", shorten(name)))
    });
    near.unwrap_or_else(|| d.hint(key, ConstraintKey::NAMES))
}

/// The label whose values tasks are spread over.
fn spread(d: &Decoder<'_>, node: &Node) -> Option<Domain> {
    let fields = d.fields(node, "a preference", &PREFERENCE)?;
    let Some(node) = fields.get("spread") else {
        let message = "a preference needs `spread`";
        d.problems.error_hint(node.at, message, "write `- spread: node.labels.zone`");
        return None;
    };
    let domain = Domain::label(d.scalar(node, "spread")?);
    if domain.is_none() {
        d.expected(node, "spread", "a label of the nodes such as `node.labels.zone`", "");
    }
    domain
}
