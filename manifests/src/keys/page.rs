//! The page of the documentation that the table makes: `docs/stack-files.md`.

use std::fmt::Write as _;

use super::{Answer, Entry, entries};

const HEAD: &str = "# Stack files

What `swarmctl deploy` reads, key by key: compose 3.0 to 3.13, the Compose Specification, and `x-swarm`. This page is
made of the table in `manifests/src/keys`; `swarmctl config --report -f FILE` tells the same of one file, and
`swarmctl config --schema` prints a JSON Schema for editors.

- **honoured**: it has the effect that compose gives it.
- **adapted**: it has an effect, in the way that is said.
- **no effect**: it is read, and leaving it out would change nothing.
- **not yet**, **never**: a file with it is refused, unless the value is empty or `false`.

A key below a refused one has its answer. `*` stands for a name of your choice, `[]` for an item of a list. Keys that
start with `x-` are yours, but for `x-swarm`, whose unknown keys are errors.

## How files are read

- Without `-f` the files are those of `COMPOSE_FILE`, else `compose.yaml`, `compose.yml`, `docker-compose.yml` or
  `docker-compose.yaml` with its `override`, in the working directory or the nearest one above it.
- Variables are those of the environment, below them those of `.env` in the project's folder, or of `--env-file`.
  `$VAR`, `${VAR}`, `:-`, `-`, `:?`, `?`, `:+` and `+` are filled in, nested up to 16 levels, `$$` is a dollar sign; keys
  are left as they are. Docker Swarm reads no `.env`.
- Later files lie on earlier ones as the Compose Specification says: scalars replace, mappings merge, lists append; items
  of one port, mount point, name or text replace each other; `!reset` takes away, `!override` replaces.
- `include` brings in other projects, `extends` other services; both only from files of this machine. Services whose
  `profiles` are all off are left out: `--profile`, `COMPOSE_PROFILES`.
- Scalars without quotes are those of YAML 1.2, numbers also those of YAML 1.1 (`0777`, `0b11`, `1_000`); `yes` and `on` are
  texts, and truth values where one is wanted.
- A file has at most 1 MiB, 100,000 values with aliases written out, and 64 levels.

## Where Docker Swarm and the Compose Specification differ

Below `deploy` a key means what it means to Swarm, elsewhere what the specification says. These are the choices:

| Key | What is kept |
| --- | --- |
";

/// The page as Markdown.
pub fn page() -> String {
    let entries = entries();
    let mut page = HEAD.to_owned();
    for Entry { path, key, .. } in entries.iter().filter(|entry| !entry.key.meaning.is_empty()) {
        let _ = writeln!(page, "| `{path}` | {} |", cell(key.meaning));
    }
    for (title, is_part) in PARTS {
        let _ = write!(page, "\n## {title}\n\n| Key | Since | Answer |\n| --- | --- | --- |\n");
        for Entry { path, key, answer } in entries.iter().filter(|entry| is_part(&entry.path)) {
            let _ = writeln!(page, "| `{path}` | {} | {} |", key.since, cell(&words(*answer)));
        }
    }
    page
}

type IsPart = fn(&str) -> bool;

/// The sections, and which paths belong to each.
const PARTS: [(&str, IsPart); 5] = [
    ("The file", |path| !OBJECTS.iter().any(|object| path.starts_with(object))),
    ("Services", |path| path.starts_with("services.") && !path.starts_with("services.*.deploy.")),
    ("`deploy` of a service", |path| path.starts_with("services.*.deploy.")),
    ("Networks and volumes", |path| path.starts_with("networks.") || path.starts_with("volumes.")),
    ("Secrets and configs", |path| path.starts_with("secrets.") || path.starts_with("configs.")),
];

const OBJECTS: [&str; 5] = ["services.", "networks.", "volumes.", "secrets.", "configs."];

fn words(answer: Answer) -> String {
    let more = |word: &str, text: &str| match text {
        "" => word.to_owned(),
        text => format!("{word}: {text}"),
    };
    match answer {
        Answer::Honoured | Answer::Inner => "honoured".to_owned(),
        Answer::Adapted(how) => more("adapted", how),
        Answer::Later(meanwhile) => more("not yet", meanwhile),
        Answer::Never { why, instead: "" } => more("never", why),
        Answer::Never { why, instead } => format!("never: {why}; {instead}"),
        Answer::Hint(why) => more("no effect", why),
    }
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
