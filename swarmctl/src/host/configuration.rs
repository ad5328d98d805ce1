//! The configuration files of this host's programs, edited as a person would: only the settings that were asked for, and
//! everything else, comments too, as it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Where the files lie.
pub(crate) const FOLDER: &str = "/etc/swarm";

/// One file with new settings in it. Dropped before [`keep`](Self::keep), the file is as it was before.
#[derive(Debug)]
pub(crate) struct Edited {
    path: PathBuf,
    before: Option<String>,
    kept: bool,
}

/// A file's settings, none when it does not exist.
pub(crate) fn read(path: &Path) -> Result<toml::Table, Failure> {
    match text_of(path)? {
        Some(text) => parse(path, &text),
        None => Ok(toml::Table::new()),
    }
}

/// Writes settings of the top level into a file, which is made where it does not exist.
pub(crate) fn edit(path: &Path, settings: &[(&str, toml::Value)]) -> Result<Edited, Failure> {
    let before = text_of(path)?;
    let mut text = before.clone().unwrap_or_default();
    let mut expected = parse(path, &text)?;
    for (key, value) in settings {
        text = with_setting(&text, key, &value.to_string());
        expected.insert((*key).to_owned(), value.clone());
    }
    if parse(path, &text)? != expected {
        let keys: Vec<_> = settings.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        let what = format!("cannot tell where in {} the settings are", path.display());
        return Err(Failure::refused(what).hint(format!("write there: {}", keys.join(", "))));
    }
    write(path, &text)?;
    Ok(Edited { path: path.to_owned(), before, kept: false })
}

impl Edited {
    /// The new settings are there to stay.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Edited {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // What went wrong is told already; a setting too many does no harm.
        let _ = match &self.before {
            Some(text) => write(&self.path, text),
            None => fs::remove_file(&self.path)
                .map_err(|error| Failure::because("cannot remove it", &error)),
        };
    }
}

fn text_of(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::because(format!("cannot read {}", path.display()), &error)),
    }
}

fn parse(path: &Path, text: &str) -> Result<toml::Table, Failure> {
    text.parse().map_err(|error: toml::de::Error| {
        Failure::refused(format!("{} is wrong: {}", path.display(), error.to_string().trim_end()))
    })
}

/// The whole file or the old one, never a part.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_extension("toml.new");
    let folder = path.parent().unwrap_or(Path::new("/"));
    let written = fs::create_dir_all(folder)
        .and_then(|()| fs::write(&new, text))
        .and_then(|()| fs::File::open(&new)?.sync_all())
        .and_then(|()| fs::rename(&new, path));
    written.map_err(|error| Failure::because(format!("cannot write {}", path.display()), &error))
}

/// In the place of the old value, else of the default that stands there as a comment, else above the first table.
fn with_setting(text: &str, key: &str, value: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let top = lines.iter().position(|line| line.trim_start().starts_with('['));
    let top = top.unwrap_or(lines.len());
    let sets = |line: &str| {
        let rest = line.trim_start().strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let commented = |line: &str| line.trim_start().strip_prefix('#').is_some_and(sets);
    let above = &lines[..top];
    let place = above.iter().position(|line| sets(line));
    let place = place.or_else(|| above.iter().position(|line| commented(line)));
    let setting = format!("{key} = {value}");
    match place {
        Some(place) => lines[place] = setting,
        None => lines.insert(top, setting),
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(text: &str) -> String {
        with_setting(text, "port", "9")
    }

    #[test]
    fn a_setting_takes_the_place_of_the_old_one() {
        assert_eq!(setting(""), "port = 9\n");
        assert_eq!(setting("a = 1\nport = 1 # mine\n"), "a = 1\nport = 9\n");
        assert_eq!(setting("# The port.\n# port = 2387\nb = 1"), "# The port.\nport = 9\nb = 1\n");
        assert_eq!(setting("# port = 1\nport = 2\n"), "# port = 1\nport = 9\n");
        assert_eq!(setting("ports = 1\n[t]\nport = 3\n"), "ports = 1\nport = 9\n[t]\nport = 3\n");
    }

    #[test]
    fn what_is_not_kept_is_undone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("swarm/agent.toml");
        let settings = [("port", toml::Value::from(9))];
        drop(edit(&path, &settings).unwrap());
        assert!(!path.exists());
        edit(&path, &settings).unwrap().keep();
        assert_eq!(fs::read_to_string(&path).unwrap(), "port = 9\n");
        drop(edit(&path, &[("port", toml::Value::from(10))]).unwrap());
        assert_eq!(read(&path).unwrap()["port"], toml::Value::from(9));
    }

    #[test]
    fn a_file_that_is_not_understood_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        let settings = [("port", toml::Value::from(9))];
        for text in ["port = \n", "a = [\n1]\nb = \"\"\"\nport = 1\"\"\"\n"] {
            fs::write(&path, text).unwrap();
            let failure = edit(&path, &settings).unwrap_err();
            assert!(failure.message.contains("agent.toml"), "{failure:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
