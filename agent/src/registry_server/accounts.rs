//! Names and passwords as `htpasswd -B` writes them: `name:$2y$…`, a line each. Other kinds of hashes are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A password takes twice as long to try with each step; with this one, some seconds.
const HIGHEST_COST: u32 = 16;
/// What is compared with where there is no such name, so that nobody can tell by the time: of a password that nobody has.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuW2tP.GDtYUf9zZ7IOgS6.5hyaqcOOT2";

/// All accounts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Accounts(BTreeMap<String, String>);

impl Accounts {
    /// Reads a file, in which all of these names must be.
    pub(super) fn read(path: &Path, named: &BTreeSet<String>) -> Result<Self, String> {
        let file = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the registry's accounts `{file}`: {error}"))?;
        let wrong = |(line, reason)| format!("`{file}` line {line}: {reason}");
        let accounts = Self::parse(&text).map_err(wrong)?;
        match named.iter().find(|name| !accounts.0.contains_key(*name)) {
            Some(name) => {
                Err(format!("`registry_server.pull_only` names `{name}`, which is not in `{file}`"))
            }
            None => Ok(accounts),
        }
    }

    /// An error comes with its line.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut accounts = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let account = account(line).map_err(|reason| (number, reason))?;
            if accounts.insert(account.0.clone(), account.1).is_some() {
                return Err((number, format!("`{}` is there twice", account.0)));
            }
        }
        if accounts.is_empty() {
            return Err((1, "there is no account\n\nhint: `htpasswd -B` writes one".to_owned()));
        }
        Ok(Self(accounts))
    }

    /// All names.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    /// The hash to compare with, and whether there is such a name.
    pub(super) fn hash_of(&self, name: &str) -> (&str, bool) {
        self.0.get(name).map_or((NOBODY, false), |hash| (hash, true))
    }
}

fn account(line: &str) -> Result<(String, String), String> {
    let (name, hash) = line.split_once(':').ok_or("it is not `name:hash`")?;
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    let is_bcrypt = ["$2a$", "$2b$", "$2y$"].iter().any(|begin| hash.starts_with(begin));
    let parts = hash.parse::<bcrypt::HashParts>().ok().filter(|_| is_bcrypt);
    let parts = parts.ok_or_else(|| {
        format!("the password of `{name}` is not hashed with bcrypt\n\nhint: `htpasswd -B` does so")
    })?;
    if parts.get_cost() > HIGHEST_COST {
        let cost = parts.get_cost();
        return Err(format!("the cost {cost} of `{name}` is higher than {HIGHEST_COST}"));
    }
    Ok((name.to_owned(), hash.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2b$05$wnubAZIo7FjDx.1ROQWgOOvuTUaWgo9IvqXYdXZn32oOcayx7n3G6";

    #[test]
    fn accounts_are_read() {
        let text = format!("# people\n\nada:{HASH}\n  bob:{}  \n", HASH.replace("2b", "2y"));
        let accounts = Accounts::parse(&text).unwrap();
        assert_eq!(accounts.hash_of("ada"), (HASH, true));
        assert!(accounts.hash_of("bob").1);
        let (hash, is_there) = accounts.hash_of("eve");
        assert!(!is_there && bcrypt::verify("x", hash).is_ok_and(|fits| !fits));
        assert_eq!(bcrypt::verify("purple-otter-4417-lamp", HASH).ok(), Some(true));
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_line() {
        let costly = HASH.replace("$05$", "$31$");
        let table = [
            (String::new(), 1, "there is no account"),
            ("# only words\n".to_owned(), 1, "there is no account"),
            ("ada".to_owned(), 1, "it is not `name:hash`"),
            (format!("ada:{HASH}\n:{HASH}"), 2, "the name is empty"),
            (format!("ada:{HASH}\nada:{HASH}"), 2, "`ada` is there twice"),
            ("ada:$apr1$x$y".to_owned(), 1, "the password of `ada` is not hashed with bcrypt"),
            ("ada:secret".to_owned(), 1, "is not hashed with bcrypt"),
            (format!("ada:{}", &HASH[..50]), 1, "is not hashed with bcrypt"),
            (format!("ada:{costly}"), 1, "the cost 31 of `ada` is higher than 16"),
        ];
        for (text, line, expected) in table {
            let (at, reason) = Accounts::parse(&text).unwrap_err();
            assert!(at == line && reason.contains(expected), "{text}: {at} {reason}");
            assert!(!reason.contains("secret"), "no password is told: {reason}");
        }
    }
}
