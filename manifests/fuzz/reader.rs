//! All that the reader offers, on one input; what came of it, and what must hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use swarm_manifests::{
    Environment, ManifestErrors, Source, merged, read_sources, report, resolved, yaml,
};

/// What an input is used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// The one stack file.
    Alone,
    /// On top of another file.
    Above,
    /// Below another file.
    Below,
    /// Included and extended by another file.
    Named,
    /// A file of variables, `.env` and of a service.
    Variables,
}

impl Use {
    pub(crate) const ALL: [Self; 5] =
        [Self::Alone, Self::Above, Self::Below, Self::Named, Self::Variables];
}

/// What the other files of a project say.
const OTHER: &str = "services: {web: {image: nginx, environment: [A=1], ports: [\"80:80\"], \
     deploy: {labels: {a: b}}}, db: {image: postgres}}\nnetworks: {front: }\nvolumes: {data: }\n";
const NAMING: &str = "include: [input.yml, {path: [other.yml, input.yml]}]\n\
     services: {own: {extends: {service: web, file: input.yml}}}\n";
const WITH_VARIABLES: &str = "services: {web: {image: \"nginx:${TAG:-1}\", environment: [A, \"B=${B}\"], \
     env_file: [.env, {path: .env, format: raw}, {path: none, required: false}]}}\n";

/// A folder in which inputs lie as files.
pub(crate) struct Reader {
    folder: PathBuf,
    environment: Environment,
}

impl Reader {
    pub(crate) fn new(folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("other.yml"), OTHER)?;
        let long = "x".repeat(100_000);
        let vars = [("A", "a"), ("HOME", "/root"), ("LONG", long.as_str()), ("TAG", "2")];
        let vars = vars.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let vars = BTreeMap::from(vars);
        let environment =
            Environment { vars, working_dir: folder.to_owned(), ..Environment::default() };
        Ok(Self { folder: folder.to_owned(), environment })
    }

    /// Puts an input where its use needs it; the sources to read.
    pub(crate) fn prepare(&self, input: &[u8], usage: Use) -> std::io::Result<Vec<Source>> {
        let other = self.source("other.yml", OTHER.as_bytes());
        let own = self.source("input.yml", input);
        Ok(match usage {
            Use::Alone => vec![own],
            Use::Above => vec![other, own],
            Use::Below => vec![own, other],
            Use::Named => {
                std::fs::write(self.folder.join("input.yml"), input)?;
                vec![self.source("compose.yml", NAMING.as_bytes())]
            }
            Use::Variables => {
                std::fs::write(self.folder.join(".env"), input)?;
                vec![self.source("compose.yml", WITH_VARIABLES.as_bytes())]
            }
        })
    }

    /// Takes away what lies in the folder beside the input's use.
    pub(crate) fn clear(&self) {
        // Mostly they are not there.
        let _ = std::fs::remove_file(self.folder.join(".env"));
        let _ = std::fs::remove_file(self.folder.join("input.yml"));
    }

    /// Removes the folder.
    pub(crate) fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    fn source(&self, name: &str, content: &[u8]) -> Source {
        Source { name: name.to_owned(), folder: self.folder.clone(), content: content.to_vec() }
    }

    /// Reads, and says in a few words what came of it: inputs with the same words went the same way. An error says what
    /// does not hold.
    pub(crate) fn read(&self, sources: &[Source]) -> Result<String, String> {
        let words = match read_sources(sources, &self.environment) {
            Err(errors) => told(&errors)?,
            Ok((stack, warnings)) => {
                let text = yaml::to_string(&resolved(&stack))?;
                // Where no file of variables lies.
                let (name, folder) = ("resolved.yml".to_owned(), self.folder.join("none"));
                let again = Source { name, folder, content: text.clone().into_bytes() };
                match read_sources(std::slice::from_ref(&again), &Environment::default()) {
                    Ok((same, _)) if same == stack => {}
                    Ok(_) => return Err(format!("the resolved file is another stack:\n{text}")),
                    // What is written in the long form may be longer than what is read.
                    Err(_) if text.len() > 1 << 19 => {}
                    Err(errors) => {
                        return Err(format!("the resolved file is refused: {errors}\n{text}"));
                    }
                }
                let warnings = warnings.iter().map(|warning| shape(&warning.message));
                format!("read {}", warnings.collect::<Vec<_>>().join(";"))
            }
        };
        Ok(words)
    }

    /// The other ways in.
    pub(crate) fn read_otherwise(&self, sources: &[Source]) -> Result<(), String> {
        if let Ok(value) = merged(sources, &self.environment) {
            yaml::to_string(&value)?;
        }
        if let Ok((report, _)) = report(sources, &self.environment) {
            let refused = read_sources(sources, &self.environment).is_err();
            if report.is_refused() != refused {
                return Err(format!("the report says otherwise: {report:?}"));
            }
        }
        Ok(())
    }
}

fn told(errors: &ManifestErrors) -> Result<String, String> {
    if errors.0.is_empty() || errors.0.iter().any(|error| error.message.is_empty()) {
        return Err("refused without a word".to_owned());
    }
    // Rendering must hold as well.
    let length = errors.to_string().len();
    if length > 200_000 {
        return Err(format!("the errors are {length} bytes long"));
    }
    let mut shapes: Vec<String> = errors.0.iter().map(|error| shape(&error.message)).collect();
    shapes.sort();
    shapes.dedup();
    Ok(shapes.join(";"))
}

/// A message without what it quotes and counts.
fn shape(message: &str) -> String {
    let unquoted = message.split('`').step_by(2);
    unquoted.flat_map(str::chars).filter(|c| !c.is_ascii_digit()).collect()
}
