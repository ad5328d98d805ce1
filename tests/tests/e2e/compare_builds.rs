//! The example Dockerfiles, built by buildah and by us: the same files, modes, owners and configurations. What differs for
//! a good reason is named in `compare_builds/named.rs`; any other difference fails, and so does one that is named and gone.

mod archive;
mod named;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::buildah::Buildah;
use crate::clients::pulled;
use crate::lab::{Lab, root};
use archive::Image;
use named::{ANY, LACKS, NAMED, Named, Side};

/// Content of the secret that examples ask for.
const SECRET: &str = "sesame";
/// Fewer compared images are too few to say anything.
const FEWEST: usize = 25;

/// A Dockerfile with its context and the options that it is built with.
struct Example {
    name: String,
    folder: PathBuf,
    options: Vec<String>,
}

/// What is different in one place: ours and buildah's.
type Differences = BTreeMap<String, (String, String)>;

/// What became of an example.
enum Outcome {
    Compared(Differences),
    /// Buildah cannot build it, and says why.
    Refused(String),
}

#[test]
fn buildah_and_we_make_the_same_of_every_example() {
    let lab = Lab::with("compare", &["--hosts", "1", "--controllers", "1"]);
    let work = tempfile::tempdir().unwrap();
    let examples = examples(work.path());
    let base = pulled(&lab, "busybox:latest", work.path());

    let (ours, theirs) = std::thread::scope(|scope| {
        // Buildah waits for the disk most of the time.
        let parts = examples.chunks(examples.len().div_ceil(2));
        let base = base.as_str();
        let theirs: Vec<_> =
            parts.map(|part| scope.spawn(move || build_all_by(base, part))).collect();
        let ours: Vec<Image> = examples.iter().map(|one| build(&lab, one, work.path())).collect();
        let theirs = theirs.into_iter().flat_map(|part| part.join().unwrap());
        (ours, theirs.collect::<Vec<_>>())
    });
    let compare = |(ours, theirs): (Image, Result<Image, String>)| match theirs {
        Ok(theirs) => Outcome::Compared(ours.differences(&theirs)),
        Err(said) => Outcome::Refused(said),
    };
    let outcomes = ours.into_iter().zip(theirs).map(compare);
    let names = examples.iter().map(|example| example.name.as_str());
    let outcomes: Vec<(&str, Outcome)> = names.zip(outcomes).collect();
    eprintln!("{}", table(&outcomes));
    let wrong = wrong(&outcomes);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every example that is to be built, by name.
fn examples(work: &Path) -> Vec<Example> {
    let secret = work.join("secret");
    fs::write(&secret, SECRET).unwrap();
    let folders = fs::read_dir(root().join("manifests/dockerfile/examples")).unwrap();
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let named = folders.into_iter().map(|folder| {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let wishes = fs::read_to_string(folder.join("wishes")).unwrap_or_default();
        Example { name, folder, options: options(&wishes, &secret) }
    });
    named.filter(|example| example.name != "bad").collect()
}

/// The options that a file beside a Dockerfile tells; a value may have spaces.
fn options(wishes: &str, secret: &Path) -> Vec<String> {
    let wishes = format!(" {}", wishes.trim());
    let each = wishes.split(" --").skip(1).flat_map(|wish| {
        let (flag, value) = wish.split_once(' ').unwrap();
        let value = match flag {
            "secret" => format!("id={value},src={}", secret.display()),
            _ => value.to_owned(),
        };
        [format!("--{flag}"), value]
    });
    each.collect()
}

/// Builds an example on the lab's host, and saves it.
fn build(lab: &Lab, example: &Example, work: &Path) -> Image {
    let (tag, file) = (format!("made-{}:1", example.name), work.join("ours.tar"));
    let mut arguments = vec!["build", "-t", &tag];
    arguments.extend(example.options.iter().map(String::as_str));
    arguments.push(example.folder.to_str().unwrap());
    lab.run(&arguments);
    lab.run(&["image", "save", &tag, "-f", file.to_str().unwrap()]);
    let image = Image::read(&file);
    fs::remove_file(&file).unwrap();
    image
}

/// Has a buildah of its own build examples, from the base image of an archive; what it says where it does not.
fn build_all_by(base: &str, examples: &[Example]) -> Vec<Result<Image, String>> {
    let (buildah, work) = (Buildah::new(), tempfile::tempdir().unwrap());
    buildah.pull(base);
    let build = |example: &Example| {
        let file = work.path().join("image.tar");
        let to = format!("docker-archive:{}", file.display());
        buildah.build(&example.folder, &example.options, &to)?;
        let image = Image::read(&file);
        fs::remove_file(&file).unwrap();
        Ok(image)
    };
    examples.iter().map(build).collect()
}

/// What is said of a difference in a place of an example.
fn named(example: &str, place: &str) -> Option<&'static Named> {
    let is_it = |named: &&Named| named.place == place && [example, ANY].contains(&named.example);
    NAMED.iter().find(is_it)
}

/// What the comparison must not have: differences without a name, and names without a difference.
fn wrong(outcomes: &[(&str, Outcome)]) -> Vec<String> {
    let (mut wrong, mut compared) = (Vec::new(), 0);
    let (mut refused, mut met) = (BTreeSet::new(), BTreeSet::new());
    for (example, outcome) in outcomes {
        match outcome {
            Outcome::Refused(said) => {
                refused.insert(*example);
                if !LACKS.iter().any(|lack| lack.example == *example && said.contains(lack.said)) {
                    wrong.push(format!("{example}: buildah does not build it: {said}"));
                }
            }
            Outcome::Compared(differences) => {
                compared += 1;
                for (place, (ours, theirs)) in differences {
                    met.extend([(*example, place.as_str()), (ANY, place.as_str())]);
                    if named(example, place).is_none() {
                        let text =
                            format!("{example}: {place}\n  ours:    {ours}\n  buildah: {theirs}");
                        wrong.push(text);
                    }
                }
            }
        }
    }
    let gone = LACKS.iter().filter(|lack| !refused.contains(lack.example));
    wrong.extend(gone.map(|lack| format!("{}: buildah builds it now", lack.example)));
    let gone = NAMED.iter().filter(|named| !met.contains(&(named.example, named.place)));
    wrong.extend(gone.map(|one| format!("{}: `{}` does not differ now", one.example, one.place)));
    if compared < FEWEST {
        wrong.push(format!("only {compared} images were compared"));
    }
    wrong
}

fn table(outcomes: &[(&str, Outcome)]) -> String {
    let (mut text, mut same, mut differ) = (String::from("\n"), 0, 0);
    for (example, outcome) in outcomes {
        match outcome {
            Outcome::Compared(differences) => {
                let own: Vec<&String> =
                    differences.keys().filter(|place| !is_everywhere(example, place)).collect();
                let rest = if differences.len() > own.len() { ", but for the usual" } else { "" };
                if own.is_empty() {
                    same += 1;
                    let _ = writeln!(text, "{example:<20} same{rest}");
                    continue;
                }
                differ += 1;
                let _ = writeln!(text, "{example:<20} different in {} places{rest}", own.len());
                for place in own {
                    let _ = writeln!(text, "{:<20}   {place}: {}", "", reason(example, place));
                }
            }
            Outcome::Refused(_) => {
                let lack = LACKS.iter().find(|lack| lack.example == *example);
                let reason = lack.map_or("NOT NAMED", |lack| lack.reason);
                let _ = writeln!(text, "{example:<20} not built by buildah: {reason}");
            }
        }
    }
    for named in NAMED.iter().filter(|named| named.example == ANY) {
        let _ = writeln!(text, "{:<20} {}: {}", "the usual", named.place, reason(ANY, named.place));
    }
    let refused = outcomes.len() - same - differ;
    let _ = writeln!(text, "{same} same, {differ} different, {refused} not built by buildah");
    text
}

/// Whether a difference is one that is met in many examples.
fn is_everywhere(example: &str, place: &str) -> bool {
    named(example, place).is_some_and(|named| named.example == ANY)
}

fn reason(example: &str, place: &str) -> String {
    let Some(named) = named(example, place) else { return "NOT NAMED".to_owned() };
    let right = match named.right {
        Side::Ours => "we are right",
        Side::Either => "either is right",
    };
    format!("{right}: {}", named.reason)
}
