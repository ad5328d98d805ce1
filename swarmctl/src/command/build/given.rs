//! What options of a build give it: arguments and secrets.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use swarm_proto::build::{SECRET, SECRETS};
use swarm_proto::wire;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// `--build-arg`. Without a value where this command has no such variable: then the default counts.
#[derive(Debug, Clone)]
pub(super) struct Argument {
    name: String,
    value: Option<String>,
}

/// `--secret`.
#[derive(Debug, Clone)]
pub(super) struct SecretOption {
    id: String,
    source: SecretSource,
}

#[derive(Debug, Clone)]
enum SecretSource {
    File(PathBuf),
    Variable(String),
}

/// Reads `NAME=value` or `NAME`.
pub(super) fn argument(text: &str) -> Result<Argument, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, std::env::var(text).ok()),
    };
    if name.is_empty() {
        return Err("write a build argument as `NAME=value`".to_owned());
    }
    Ok(Argument { name: name.to_owned(), value })
}

/// Reads `NAME=VALUE`; without a value it is empty.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=').unwrap_or((text, "")) {
        ("", _) => Err("write a label as `NAME=value`".to_owned()),
        (name, value) => Ok((name.to_owned(), value.to_owned())),
    }
}

/// The last value of each.
pub(super) fn values(arguments: &[Argument]) -> BTreeMap<String, String> {
    let given = arguments.iter();
    given.filter_map(|argument| Some((argument.name.clone(), argument.value.clone()?))).collect()
}

/// Reads `id=ID,src=FILE` or `id=ID,env=VARIABLE`.
pub(super) fn secret(text: &str) -> Result<SecretOption, String> {
    const FORM: &str = "write a secret as `id=ID,src=FILE` or `id=ID,env=VARIABLE`";
    let (mut id, mut file, mut variable) = (None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some((_, "")) | None => return Err(FORM.to_owned()),
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => file = Some(PathBuf::from(value)),
            Some(("env", value)) => variable = Some(value.to_owned()),
            Some(("type", "file" | "env")) => {}
            Some((key, _)) => return Err(format!("`{key}` is not known; {FORM}")),
        }
    }
    let id = id.ok_or_else(|| FORM.to_owned())?;
    let source = match (file, variable) {
        (Some(file), None) => SecretSource::File(file),
        (None, Some(variable)) => SecretSource::Variable(variable),
        _ => return Err(FORM.to_owned()),
    };
    Ok(SecretOption { id, source })
}

/// The bytes of secrets. Messages name ids, files and variables, never what is in them.
pub(super) fn read_secrets(options: &[SecretOption]) -> Result<Vec<wire::BuildSecret>, Failure> {
    if options.len() > SECRETS {
        return Err(Failure::usage(format!("a build takes no more than {SECRETS} secrets")));
    }
    let mut secrets: Vec<wire::BuildSecret> = Vec::new();
    for SecretOption { id, source } in options {
        if secrets.iter().any(|secret| secret.id == *id) {
            return Err(Failure::usage(format!("the secret `{id}` is given twice")));
        }
        let data = match source {
            SecretSource::File(path) => read_file(id, path)?,
            SecretSource::Variable(name) => {
                let value = std::env::var(name).map_err(|_| {
                    let why = format!(
                        "the secret `{id}` is to come from `{name}`, which is not set here"
                    );
                    Failure::refused(why)
                })?;
                value.into_bytes()
            }
        };
        if data.len() > SECRET {
            return Err(Failure::refused(format!("the secret `{id}` is larger than 1 MiB")));
        }
        secrets.push(wire::BuildSecret { id: id.clone(), data });
    }
    Ok(secrets)
}

fn read_file(id: &str, path: &PathBuf) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| {
        let why = format!("cannot read the secret `{id}` from `{}`", path.display());
        Failure::because(why, &error)
    };
    let mut data = Zeroizing::new(Vec::with_capacity(SECRET + 1));
    let file = File::open(path).map_err(failed)?;
    file.take(SECRET as u64 + 1).read_to_end(&mut data).map_err(failed)?;
    Ok(data.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_a_file_or_a_variable() {
        let file = secret("id=key,src=/x/y").unwrap();
        assert!(matches!(&file.source, SecretSource::File(path) if path.ends_with("x/y")));
        let variable = secret("type=env,id=key,env=KEY").unwrap();
        assert!(matches!(&variable.source, SecretSource::Variable(name) if name == "KEY"));
        for text in
            ["", "key", "id=key", "src=/x", "id=key,src=/x,env=KEY", "id=,src=/x", "id=a,file=/x"]
        {
            assert!(secret(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_in_a_secret_shows_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "sesame").unwrap();
        let option = secret(&format!("id=key,src={}", path.display())).unwrap();
        let secrets = read_secrets(std::slice::from_ref(&option)).unwrap();
        assert_eq!(secrets[0].data, b"sesame");
        assert!(!format!("{secrets:?}").contains("sesame"));
        let twice = read_secrets(&[option.clone(), option]).unwrap_err();
        assert!(twice.message.contains("given twice"));
    }
}
