//! The JSON Schema (draft 2020-12) of a stack file, made of the table.

use super::{Answer, Key, Level, STACK, Shape};
use crate::value::Value;

/// A schema of whole stack files, for editors. It takes what the decoder takes: variables wherever a value may hold
/// one, and refused keys only where they ask for nothing.
pub fn schema() -> Value {
    let mut pairs = vec![
        ("$schema".to_owned(), Value::text("https://json-schema.org/draft/2020-12/schema")),
        ("title".to_owned(), Value::text("Stack file")),
        (
            "description".to_owned(),
            Value::text("Services, networks and volumes for `swarmctl deploy`"),
        ),
    ];
    pairs.extend(mapping(&STACK));
    Value::Map(pairs)
}

fn mapping(level: &Level) -> Vec<(String, Value)> {
    let own = Value::map([("^x-(?!swarm)", Value::Flag(true))]);
    vec![
        ("type".to_owned(), types(&["object"])),
        (
            "properties".to_owned(),
            Value::map(level.keys.iter().map(|known| (known.name, key(known)))),
        ),
        ("patternProperties".to_owned(), own),
        ("additionalProperties".to_owned(), Value::Flag(false)),
    ]
}

fn key(key: &Key) -> Value {
    let sentence = |text: &str| match text {
        "" => String::new(),
        text => format!(": {text}"),
    };
    let (description, is_refused) = match key.answer {
        Answer::Honoured | Answer::Inner => (key.meaning.to_owned(), false),
        Answer::Adapted(how) => (how.to_owned(), false),
        Answer::Hint(why) => (format!("No effect: {why}"), false),
        Answer::Later(meanwhile) => (format!("Not supported yet{}", sentence(meanwhile)), true),
        Answer::Never { why, instead } => {
            (format!("Cannot be honoured: {why}{}", sentence(instead)), true)
        }
    };
    let mut pairs = Vec::new();
    if !description.is_empty() {
        pairs.push(("description".to_owned(), Value::Text(description)));
    }
    if is_refused {
        let off =
            [Value::Null, Value::Flag(false), Value::List(Vec::new()), Value::Map(Vec::new())];
        pairs.push(("enum".to_owned(), Value::List(off.into())));
    } else {
        pairs.extend(shape(key.shape));
    }
    Value::Map(pairs)
}

fn shape(shape: Shape) -> Vec<(String, Value)> {
    let scalars = |names: &[&str]| vec![("type".to_owned(), types(names))];
    match shape {
        Shape::Any => Vec::new(),
        Shape::Text => scalars(&["string", "number", "boolean"]),
        Shape::Flag => scalars(&["boolean", "string"]),
        Shape::Integer | Shape::Bytes => scalars(&["integer", "string"]),
        Shape::Number => scalars(&["number", "string"]),
        Shape::Duration => {
            let mut pairs = scalars(&["string", "integer"]);
            let pattern = r"^(0|([0-9]*\.?[0-9]*(ns|us|ms|s|m|h|d))+)$|\$";
            pairs.push(("pattern".to_owned(), Value::text(pattern)));
            pairs
        }
        Shape::Words(words) => {
            let words = words.iter().map(|word| Value::text(*word)).chain([Value::Null]);
            let variable =
                Value::map([("type", Value::text("string")), ("pattern", Value::text(r"\$"))]);
            any_of([Value::map([("enum", Value::List(words.collect()))]), variable])
        }
        Shape::Pairs => {
            let value = Value::Map(self::shape(Shape::Text));
            let object =
                Value::map([("type", Value::text("object")), ("additionalProperties", value)]);
            any_of([object, Value::Map(self::shape(super::TEXTS))])
        }
        Shape::Mapping(level) => mapping(level),
        Shape::Named(inner) => {
            let mut pairs = scalars(&["object"]);
            pairs.push(("additionalProperties".to_owned(), Value::Map(self::shape(*inner))));
            pairs
        }
        Shape::List(inner) => {
            let mut pairs = scalars(&["array"]);
            pairs.push(("items".to_owned(), Value::Map(self::shape(*inner))));
            pairs
        }
        Shape::Either(forms) => any_of(forms.iter().map(|form| Value::Map(self::shape(*form)))),
    }
}

fn any_of(forms: impl IntoIterator<Item = Value>) -> Vec<(String, Value)> {
    vec![("anyOf".to_owned(), Value::List(forms.into_iter().collect()))]
}

/// These types, and nothing: a key without a value is left out.
fn types(names: &[&str]) -> Value {
    Value::texts(names.iter().copied().chain(["null"]))
}
