//! The piece of a stack file that flags stand for: where their values go, and how they are written there.

use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// Puts a value into a tree of mappings.
pub(super) fn put(map: &mut Map<String, Value>, place: &str, value: Value) {
    if let Some((map, last)) = place_in(map, place) {
        map.insert(last.to_owned(), value);
    }
}

/// Puts a value where there is none.
pub(super) fn put_missing(map: &mut Map<String, Value>, place: &str, value: Value) {
    if let Some((map, last)) = place_in(map, place) {
        map.entry(last).or_insert(value);
    }
}

/// The mapping of a place, and the key there.
fn place_in<'m, 'p>(
    map: &'m mut Map<String, Value>,
    place: &'p str,
) -> Option<(&'m mut Map<String, Value>, &'p str)> {
    let (way, last) = place.rsplit_once('/').unwrap_or(("", place));
    let mut map = map;
    for key in way.split('/').filter(|key| !key.is_empty()) {
        let inner = map.entry(key).or_insert_with(|| json!({}));
        let Value::Object(inner) = inner else { return None };
        map = inner;
    }
    Some((map, last))
}

/// A text as it is: a stack file would replace `$`.
pub(super) fn text(text: &str) -> Value {
    Value::String(text.replace('$', "$$"))
}

/// A number as such, so that a stack file takes it where it wants one.
pub(super) fn scalar(value: &str) -> Value {
    match value.parse::<u64>() {
        Ok(number) if number.to_string() == value => number.into(),
        _ => text(value),
    }
}

/// `published=8080,target=80` as a mapping; the short form stays a text.
pub(super) fn long_port(port: &str) -> Value {
    if !port.contains('=') {
        return text(port);
    }
    let pairs = port.split(',').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(key, value)| (key.to_owned(), scalar(value))).collect::<Map<_, _>>().into()
}

/// `gpu=2` as a stack file writes it.
pub(super) fn generic_resource(words: &str) -> Result<Value, Failure> {
    let Some((kind, value)) = words.split_once('=') else {
        return Err(Failure::usage(format!("generic resource `{words}` has no number"))
            .hint("write `gpu=2`: a service asks for a number, and each task is given names"));
    };
    Ok(json!({ "discrete_resource_spec": { "kind": text(kind), "value": scalar(value) } }))
}

/// `type=volume,source=data,target=/data,readonly` as a mapping.
pub(super) fn mount(words: &str) -> Result<Value, Failure> {
    let mut mount = Map::new();
    put(&mut mount, "/type", text("volume"));
    for word in words.split(',') {
        let (key, value) = word.split_once('=').unwrap_or((word, "true"));
        let place = match key {
            "type" => "/type",
            "source" | "src" => "/source",
            "target" | "dst" | "destination" => "/target",
            "readonly" | "ro" => "/read_only",
            "volume-nocopy" => "/volume/nocopy",
            "tmpfs-size" => "/tmpfs/size",
            "tmpfs-mode" => "/tmpfs/mode",
            _ => {
                return Err(Failure::usage(format!("mount `{words}`: `{key}` is not known")).hint(
                    "write `type=volume,source=data,target=/data`, and `readonly` where it should be",
                ));
            }
        };
        let value = match (key, value) {
            (_, "true") => Value::Bool(true),
            (_, "false") => Value::Bool(false),
            ("tmpfs-size" | "tmpfs-mode", value) => scalar(value),
            (_, value) => text(value),
        };
        put(&mut mount, place, value);
    }
    let source = mount.get("source").and_then(Value::as_str).unwrap_or_default();
    if mount["type"] == "bind" && !source.starts_with('/') {
        return Err(Failure::usage(format!("mount `{words}`: `{source}` is no absolute path"))
            .hint("a bind is a path of the host that runs the task"));
    }
    Ok(mount.into())
}
