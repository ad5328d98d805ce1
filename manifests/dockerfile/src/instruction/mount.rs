//! `RUN --mount=type=…,…`.

use super::nearest;
use crate::expand::ExpandError;
use crate::path;
use crate::problem::cut;
use crate::step::{From, Mount, Sharing};

/// A mount with the name that it takes files from, which the plan knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mounted {
    pub(crate) mount: Mount,
    /// `from=`.
    pub(crate) from: Option<String>,
}

/// Why a text is no mount, after the word "which".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidMount(pub(crate) String);

impl std::convert::From<ExpandError> for InvalidMount {
    fn from(error: ExpandError) -> Self {
        Self(error.to_string())
    }
}

/// Replaces variables in a mount's values.
pub(crate) trait Replace {
    fn replace(&mut self, text: &str) -> Result<String, ExpandError>;
    /// Whether values are final, so that they can be checked.
    fn is_final(&self, text: &str) -> bool;
}

/// For the first look: variables stay, and what has some is not checked.
pub(crate) struct NoVariables;

impl Replace for NoVariables {
    fn replace(&mut self, text: &str) -> Result<String, ExpandError> {
        Ok(text.to_owned())
    }

    fn is_final(&self, text: &str) -> bool {
        !text.contains('$')
    }
}

#[derive(Default)]
struct Fields {
    kind: Option<String>,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    id: Option<String>,
    env: Option<String>,
    sharing: Option<Sharing>,
    size: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    read_only: Option<bool>,
    required: Option<bool>,
}

const KEYS: [&str; 18] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "id",
    "env",
    "sharing",
    "size",
    "mode",
    "uid",
    "gid",
    "readonly",
    "ro",
    "rw",
    "required",
];

/// Reads a mount; targets are relative to a folder.
pub(crate) fn mount(
    text: &str,
    workdir: &str,
    variables: &mut dyn Replace,
) -> Result<Mounted, InvalidMount> {
    let mut fields = Fields::default();
    for field in csv(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        if key == "from" && value.is_some_and(|value| value.contains('$')) {
            return Err(InvalidMount(
                "has a variable in `from`, where none is replaced; begin a stage with `FROM $…`"
                    .to_owned(),
            ));
        }
        let value = value.map(|value| variables.replace(value)).transpose()?;
        if value.as_deref().is_none_or(|value| variables.is_final(value)) {
            fields.set(&key, value)?;
        } else {
            fields.set_later(&key, value);
        }
    }
    fields.into_mount(workdir)
}

impl Fields {
    fn set(&mut self, key: &str, value: Option<String>) -> Result<(), InvalidMount> {
        let given = |value: Option<String>| {
            let value = value.filter(|value| !value.is_empty());
            value.ok_or_else(|| InvalidMount(format!("has `{key}` without a value")))
        };
        match key {
            "type" => self.kind = Some(given(value)?.to_ascii_lowercase()),
            "from" => self.from = Some(given(value)?),
            "source" | "src" => self.source = Some(given(value)?),
            "target" | "dst" | "destination" => self.target = Some(given(value)?),
            "id" => self.id = Some(given(value)?),
            "env" => self.env = Some(given(value)?),
            "size" => self.size = Some(size(&given(value)?)?),
            "mode" => self.mode = Some(number(key, &given(value)?, 8, 0o7777)?),
            "uid" => self.uid = Some(number(key, &given(value)?, 10, u32::MAX - 1)?),
            "gid" => self.gid = Some(number(key, &given(value)?, 10, u32::MAX - 1)?),
            "readonly" | "ro" => self.read_only = Some(truth(key, value.as_deref())?),
            "readwrite" | "rw" => self.read_only = Some(!truth(key, value.as_deref())?),
            "required" => self.required = Some(truth(key, value.as_deref())?),
            "sharing" => self.sharing = Some(sharing(&given(value)?)?),
            other => return Err(unknown(other)),
        }
        Ok(())
    }

    /// Keeps what can only be checked once its variables are replaced.
    fn set_later(&mut self, key: &str, value: Option<String>) {
        match key {
            "type" => self.kind = Some("later".to_owned()),
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "id" => self.id = value,
            "env" => self.env = value,
            _ => {}
        }
    }

    fn into_mount(self, workdir: &str) -> Result<Mounted, InvalidMount> {
        let kind = self.kind.clone().unwrap_or_else(|| "bind".to_owned());
        self.check(&kind)?;
        let from = self.from.clone();
        let mount = match kind.as_str() {
            "bind" => Mount::Bind {
                target: self.target(workdir)?,
                from: From::Context,
                source: path::absolute("/", self.source.as_deref().unwrap_or_default()),
                writable: self.read_only == Some(false),
            },
            "cache" => self.into_cache(workdir)?,
            "tmpfs" => Mount::Tmpfs { target: self.target(workdir)?, size: self.size },
            "secret" => self.into_secret(workdir)?,
            "ssh" => {
                return Err(InvalidMount(
                    "is of the type `ssh`: no agent's keys come with a build".to_owned(),
                ));
            }
            // What it is shows later.
            "later" => Mount::Tmpfs { target: String::new(), size: None },
            other => {
                let known = nearest(other, &["bind", "cache", "tmpfs", "secret"]);
                let hint = known.map(|name| format!("; do you mean `{name}`?")).unwrap_or_default();
                return Err(InvalidMount(format!("is of the type `{}`{hint}", cut(other))));
            }
        };
        Ok(Mounted { mount, from })
    }

    /// What belongs to other types is no silent mistake.
    fn check(&self, kind: &str) -> Result<(), InvalidMount> {
        let has_owner = self.mode.is_some() || self.uid.is_some() || self.gid.is_some();
        let misplaced = [
            (has_owner, "mode, uid or gid", ["cache", "secret"].as_slice()),
            (self.sharing.is_some(), "sharing", &["cache"]),
            (self.size.is_some(), "size", &["tmpfs"]),
            (self.required.is_some(), "required", &["secret"]),
            (self.env.is_some(), "env", &["secret"]),
            (self.id.is_some(), "id", &["cache", "secret"]),
            (self.from.is_some(), "from", &["bind", "cache"]),
            (self.source.is_some(), "source", &["bind", "cache", "secret"]),
            (self.read_only == Some(true), "readonly", &["bind", "cache", "secret"]),
        ];
        let known = ["bind", "cache", "tmpfs", "secret"].contains(&kind);
        let found =
            misplaced.iter().find(|(is_set, _, kinds)| known && *is_set && !kinds.contains(&kind));
        match found {
            Some((_, what, _)) => Err(InvalidMount(format!(
                "is of the type `{kind}` and has {what}, which means nothing there"
            ))),
            None => Ok(()),
        }
    }

    fn target(&self, workdir: &str) -> Result<String, InvalidMount> {
        let Some(target) = &self.target else {
            return Err(InvalidMount("has no target: `target=/…`".to_owned()));
        };
        match path::absolute(workdir, target).as_str() {
            "/" => Err(InvalidMount("has the root as its target".to_owned())),
            target => Ok(target.to_owned()),
        }
    }

    fn into_cache(self, workdir: &str) -> Result<Mount, InvalidMount> {
        let target = self.target(workdir)?;
        Ok(Mount::Cache {
            id: self.id.unwrap_or_else(|| target.clone()),
            target,
            from: None,
            source: path::absolute("/", self.source.as_deref().unwrap_or_default()),
            read_only: self.read_only.unwrap_or(false),
            sharing: self.sharing.unwrap_or_default(),
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
            mode: self.mode.unwrap_or(0o755),
        })
    }

    fn into_secret(self, workdir: &str) -> Result<Mount, InvalidMount> {
        if self.id.is_some() && self.source.is_some() {
            return Err(InvalidMount("has both id and source, which are the same".to_owned()));
        }
        let base = self.target.as_deref().and_then(|target| target.rsplit('/').next());
        let id = self.id.as_deref().or(self.source.as_deref()).or(base);
        let Some(id) = id.filter(|id| !id.is_empty()) else {
            return Err(InvalidMount("names no secret: `id=…`".to_owned()));
        };
        let target = match (&self.target, &self.env) {
            (Some(_), _) => Some(self.target(workdir)?),
            (None, Some(_)) => None,
            (None, None) => Some(path::absolute("/run/secrets", id)),
        };
        Ok(Mount::Secret {
            id: id.to_owned(),
            target,
            env: self.env.clone(),
            required: self.required.unwrap_or(false),
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
            mode: self.mode.unwrap_or(0o400),
        })
    }
}

impl Mounted {
    pub(crate) fn uses_context(&self) -> bool {
        self.from.is_none() && matches!(self.mount, Mount::Bind { .. })
    }

    /// The secret, and whether the build fails without it.
    pub(crate) fn secret(&self) -> Option<(&str, bool)> {
        match &self.mount {
            Mount::Secret { id, required, .. } => Some((id, *required)),
            _ => None,
        }
    }
}

fn unknown(key: &str) -> InvalidMount {
    let hint =
        nearest(key, &KEYS).map(|name| format!("; do you mean `{name}`?")).unwrap_or_default();
    InvalidMount(format!("has `{}`, which is not known{hint}", cut(key)))
}

fn truth(key: &str, value: Option<&str>) -> Result<bool, InvalidMount> {
    match value {
        None | Some("true" | "True" | "TRUE" | "t" | "T" | "1") => Ok(true),
        Some("false" | "False" | "FALSE" | "f" | "F" | "0") => Ok(false),
        Some(other) => Err(InvalidMount(format!(
            "has `{key}={}`, which is neither true nor false",
            cut(other)
        ))),
    }
}

fn number(key: &str, text: &str, radix: u32, most: u32) -> Result<u32, InvalidMount> {
    let number = u32::from_str_radix(text, radix).ok().filter(|number| *number <= most);
    number
        .ok_or_else(|| InvalidMount(format!("has `{key}={}`, which is no such number", cut(text))))
}

fn sharing(text: &str) -> Result<Sharing, InvalidMount> {
    match text.to_ascii_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => Err(InvalidMount(format!(
            "has `sharing={}`; it is `shared`, `private` or `locked`",
            cut(text)
        ))),
    }
}

/// Bytes: `100m`, `1.5g`, in powers of 1024.
fn size(text: &str) -> Result<u64, InvalidMount> {
    let wrong = || {
        InvalidMount(format!("has `size={}`, which is no number of bytes, such as 64m", cut(text)))
    };
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let number: u64 = lower[..end].parse().map_err(|_| wrong())?;
    let shift = match lower[end..].trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

/// Fields between commas; one that begins with a quote goes to the next quote, and a doubled one stands for itself.
fn csv(text: &str) -> Result<Vec<String>, InvalidMount> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut characters = text.chars().peekable();
    loop {
        if field.is_empty() && characters.next_if_eq(&'"').is_some() {
            loop {
                match characters.next() {
                    None => return Err(InvalidMount("has a quote that is not closed".to_owned())),
                    Some('"') if characters.next_if_eq(&'"').is_none() => break,
                    Some(c) => field.push(c),
                }
            }
        }
        match characters.next() {
            None => break,
            Some(',') => fields.push(std::mem::take(&mut field)),
            Some(c) => field.push(c),
        }
    }
    fields.push(field);
    if fields.iter().any(String::is_empty) {
        return Err(InvalidMount("has an empty field between commas".to_owned()));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Mount, String> {
        mount(text, "/w", &mut NoVariables).map(|read| read.mount).map_err(|error| error.0)
    }

    #[test]
    fn mounts_have_their_defaults() {
        assert_eq!(
            read("target=x,from=base"),
            Ok(Mount::Bind {
                target: "/w/x".into(),
                from: From::Context,
                source: "/".into(),
                writable: false
            })
        );
        assert_eq!(
            read("type=cache,target=/root/.cache,sharing=locked"),
            Ok(Mount::Cache {
                target: "/root/.cache".into(),
                id: "/root/.cache".into(),
                from: None,
                source: "/".into(),
                read_only: false,
                sharing: Sharing::Locked,
                uid: 0,
                gid: 0,
                mode: 0o755,
            })
        );
        assert_eq!(
            read("type=tmpfs,dst=/t,size=64m"),
            Ok(Mount::Tmpfs { target: "/t".into(), size: Some(64 << 20) })
        );
        let secret = |target: Option<&str>, env: Option<&str>| Mount::Secret {
            id: "key".into(),
            target: target.map(str::to_owned),
            env: env.map(str::to_owned),
            required: false,
            uid: 0,
            gid: 0,
            mode: 0o400,
        };
        assert_eq!(read("type=secret,id=key"), Ok(secret(Some("/run/secrets/key"), None)));
        assert_eq!(read("type=secret,target=/a/key"), Ok(secret(Some("/a/key"), None)));
        assert_eq!(read("type=secret,id=key,env=K"), Ok(secret(None, Some("K"))));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("type=cash,target=/x", "do you mean `cache`?"),
            ("type=ssh", "ssh"),
            ("type=bind", "no target"),
            ("target=/,from=x", "the root"),
            ("type=tmpfs,target=/x,sharing=shared", "means nothing"),
            ("type=cache,target=/x,mode=9", "no such number"),
            ("type=cache,target=/x,ro=maybe", "neither true nor false"),
            ("type=secret", "names no secret"),
            ("type=secret,id=a,src=b", "both"),
            ("targt=/x", "do you mean `target`?"),
            ("target=/x,from=$Y", "variable in `from`"),
            ("target=/x,,", "empty field"),
            ("\"target=/x", "not closed"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
