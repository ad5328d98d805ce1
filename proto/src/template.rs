//! Templates in a container's spec, as Docker Swarm has them: `{{.Task.Slot}}`, `{{index .Service.Labels "key"}}` and
//! texts in quotes. A stack file's are checked when it is read and filled in when a task is assigned to its node.

use std::collections::BTreeMap;

use crate::spec::{ContainerSpec, MountSource};

/// What a template of a container may speak of.
pub const TASK_FIELDS: [&str; 9] = [
    ".Service.ID",
    ".Service.Name",
    ".Node.ID",
    ".Node.Hostname",
    ".Node.Platform.Architecture",
    ".Node.Platform.OS",
    ".Task.ID",
    ".Task.Name",
    ".Task.Slot",
];
const LABELS: &str = ".Service.Labels";

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// No `}}` follows.
    #[error("`{{{{` is not closed by `}}}}`")]
    Open,
    /// What is between the braces means nothing here.
    #[error("`{{{{{0}}}}}` is unknown")]
    Unknown(String),
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(&'static str),
    Label(String),
}

/// A text with places to fill in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

/// The values of a template's fields.
#[derive(Debug, Clone, Default)]
pub struct Values {
    /// By field, such as `.Task.Slot`.
    pub fields: BTreeMap<&'static str, String>,
    /// The service's labels.
    pub labels: BTreeMap<String, String>,
}

impl Template {
    /// Reads a text. A template may speak of `fields`, and of the service's labels where `.Service.Name` is among them.
    ///
    /// # Errors
    /// When a `{{…}}` is not closed, or is none of those.
    pub fn parse(text: &str, fields: &[&'static str]) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inner, after) = split_action(after).ok_or(TemplateError::Open)?;
            pieces.push(Piece::Text(before.to_owned()));
            let piece = action(inner.trim(), fields);
            pieces.push(piece.ok_or_else(|| TemplateError::Unknown(inner.to_owned()))?);
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// The text with everything filled in. A label that the service does not have is empty, as in Docker Swarm.
    pub fn fill(&self, values: &Values) -> String {
        let fill = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Field(field) => values.fields.get(field).cloned().unwrap_or_default(),
            Piece::Label(label) => values.labels.get(label).cloned().unwrap_or_default(),
        };
        self.0.iter().map(fill).collect()
    }
}

/// Splits what follows `{{` at its `}}`, which may also stand in quotes.
fn split_action(text: &str) -> Option<(&str, &str)> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted && text[at..].starts_with("}}") => {
                return Some((&text[..at], &text[at + 2..]));
            }
            _ => {}
        }
    }
    None
}

fn action(text: &str, fields: &[&'static str]) -> Option<Piece> {
    if let Some(field) = fields.iter().find(|field| **field == text) {
        return Some(Piece::Field(field));
    }
    if text.starts_with('"') {
        return unquote(text).map(Piece::Text);
    }
    let rest = text.strip_prefix("index")?.trim_start().strip_prefix(LABELS)?.trim_start();
    let known = fields.contains(&".Service.Name");
    unquote(rest).filter(|_| known).map(Piece::Label)
}

/// A text in quotes, in which `\"` and `\\` stand for themselves.
fn unquote(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut unquoted = String::new();
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return None,
            '\\' => unquoted.push(letters.next().filter(|next| matches!(next, '"' | '\\'))?),
            other => unquoted.push(other),
        }
    }
    Some(unquoted)
}

/// Fills a container's templates in: in its host name, environment, and what is mounted where. What is no template,
/// which only a spec of an earlier release has, stays as it is.
pub fn fill(container: &mut ContainerSpec, values: &Values) {
    let fill = |text: &mut String| {
        if text.contains("{{")
            && let Ok(template) = Template::parse(text, &TASK_FIELDS)
        {
            *text = template.fill(values);
        }
    };
    container.hostname.iter_mut().for_each(fill);
    container.environment.values_mut().flatten().for_each(fill);
    for mount in &mut container.mounts {
        fill(&mut mount.target);
        if let MountSource::Bind { path } = &mut mount.source {
            fill(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ImageSpec, Mount};

    fn values() -> Values {
        let fields = [(".Task.Slot", "3"), (".Node.Hostname", "n1"), (".Service.Name", "web_api")];
        Values {
            fields: fields.map(|(field, value)| (field, value.to_owned())).into(),
            labels: [("zone \"a\"".to_owned(), "north".to_owned())].into(),
        }
    }

    fn filled(text: &str) -> Result<String, String> {
        let template = Template::parse(text, &TASK_FIELDS);
        template.map(|template| template.fill(&values())).map_err(|error| error.to_string())
    }

    #[test]
    fn fields_labels_and_quoted_texts_are_filled_in() {
        for (text, wanted) in [
            ("plain }} text", "plain }} text"),
            ("api-{{.Task.Slot}}.{{ .Node.Hostname }}", "api-3.n1"),
            (r#"{{index .Service.Labels "zone \"a\""}}"#, "north"),
            (r#"{{index .Service.Labels "none"}}"#, ""),
            (r#"{{"{{"}}.ID{{"}}"}}"#, "{{.ID}}"),
        ] {
            assert_eq!(filled(text), Ok(wanted.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for (text, wanted) in [
            ("{{.Task.Slots}}", "`{{.Task.Slots}}` is unknown"),
            ("{{.ID}}", "`{{.ID}}` is unknown"),
            ("{{}}", "`{{}}` is unknown"),
            ("a{{.Task.Slot}", "`{{` is not closed by `}}`"),
            (r#"{{"a" "b"}}"#, r#"`{{"a" "b"}}` is unknown"#),
        ] {
            assert_eq!(filled(text), Err(wanted.to_owned()), "{text}");
        }
        let label = r#"{{index .Service.Labels "a"}}"#;
        assert!(Template::parse(label, &[".Name"]).is_err(), "a tag knows no labels");
    }

    #[test]
    fn a_container_is_filled_in_where_docker_fills() {
        let text = "{{.Task.Slot}}";
        let mut container = ContainerSpec::new(ImageSpec::new("a"));
        container.hostname = Some(format!("h{text}"));
        container.environment =
            [("A".to_owned(), Some(text.to_owned())), ("B".to_owned(), None)].into();
        let source = MountSource::Bind { path: format!("/srv/{text}") };
        container.mounts = vec![Mount { target: format!("/{text}"), source, read_only: false }];
        container.command = Some(vec![text.to_owned()]);
        fill(&mut container, &values());
        assert_eq!(container.hostname.as_deref(), Some("h3"));
        assert_eq!(container.environment["A"].as_deref(), Some("3"));
        assert_eq!(container.mounts[0].target, "/3");
        assert_eq!(container.mounts[0].source, MountSource::Bind { path: "/srv/3".into() });
        assert_eq!(container.command, Some(vec![text.to_owned()]));
    }
}
