//! Mutated images for so many seconds: `fuzz-images SECONDS [SEED]`. Layers are unpacked, and archives of images loaded,
//! into a folder beside files that nothing may touch; manifests, indexes, configurations and names are read, and what strangers
//! send to a host's registry: requests, and accounts that somebody wrote. None may panic or hang, nothing outside of the layer's folder may change, and nothing in it may be a device or carry what only the kernel may set. Prints the seed, the
//! number of inputs and the worst time; fails, and keeps the input in `target/fuzz-images`, on the first that breaks a rule.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that says how it went")]

mod archives;
mod documents;
mod layers;
mod place;
#[path = "../../manifests/fuzz/random.rs"]
mod random;
mod requests;
#[path = "../../manifests/fuzz/watched.rs"]
mod watched;

use std::collections::HashSet;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use place::Place;
use random::Random;
use watched::Watched;

/// What any input may take.
const MOST_TIME: Duration = Duration::from_secs(5);
/// Inputs that went a new way are kept up to this number of each kind, and up to this length each.
const MOST_KEPT: usize = 5_000;
const LONGEST_KEPT: usize = 1 << 16;

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Layer,
    Archive,
    Document,
    Name,
    Request,
    Accounts,
}

const KINDS: [Kind; 6] =
    [Kind::Layer, Kind::Archive, Kind::Document, Kind::Name, Kind::Request, Kind::Accounts];
/// How often each is tried, as numbers of kinds.
const TURNS: [usize; 12] = [0, 0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 5];

fn main() -> Result<(), Box<dyn Error>> {
    let (time, seed) = watched::arguments(20.0)?;
    println!("fuzz-images: seed {seed}");
    let mut run = Run::new(seed)?;
    let result = run.go(time);
    let (whole, ways, worst) = (run.whole, run.ways.len(), run.worst);
    let [layers, archives, documents, names, requests, accounts] = run.counts;
    println!(
        "fuzz-images: seed {seed}: {layers} layers, {archives} archives, {documents} documents, {names} names, \
         {requests} requests, {accounts} files of accounts, {whole} taken, {ways} ways, worst {worst:?}"
    );
    result.map_err(Into::into)
}

struct Run {
    random: Random,
    place: Place,
    /// Of each kind, those that went a new way.
    inputs: [Vec<Vec<u8>>; KINDS.len()],
    ways: HashSet<String>,
    worst: Duration,
    counts: [usize; KINDS.len()],
    /// Layers and archives that were not refused.
    whole: usize,
    watched: Watched,
}

impl Run {
    fn new(seed: u64) -> Result<Self, Box<dyn Error>> {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz-images");
        Ok(Self {
            random: Random::new(seed),
            place: Place::make()?,
            inputs: [
                Vec::new(),
                Vec::new(),
                documents::documents(),
                documents::names(),
                requests::requests(),
                requests::accounts(),
            ],
            ways: HashSet::new(),
            worst: Duration::ZERO,
            counts: [0; KINDS.len()],
            whole: 0,
            watched: Watched::begin(&kept, seed),
        })
    }

    fn go(&mut self, time: Duration) -> Result<(), String> {
        let begun = Instant::now();
        for kind in KINDS {
            for input in self.inputs[kind as usize].clone() {
                self.one(kind, input)?;
            }
        }
        for input in documents::long() {
            self.one(Kind::Document, input.clone())?;
            self.one(Kind::Name, input)?;
        }
        for input in requests::long() {
            self.one(Kind::Request, input.clone())?;
            self.one(Kind::Accounts, input)?;
        }
        while begun.elapsed() < time {
            let kind = KINDS[TURNS[self.random.below(TURNS.len())]];
            let input = self.input(kind);
            self.one(kind, input)?;
        }
        Ok(())
    }

    /// A layer that is made anew, or a change of what went a new way.
    fn input(&mut self, kind: Kind) -> Vec<u8> {
        let known = &self.inputs[kind as usize];
        let is_packed = matches!(kind, Kind::Layer | Kind::Archive);
        if is_packed && (known.is_empty() || self.random.once_in(2)) {
            let outside = self.place.outside().display().to_string();
            let make = if kind == Kind::Layer { layers::made } else { archives::made };
            return make(&mut self.random, &outside);
        }
        let other = self.random.pick(known).cloned().unwrap_or_default();
        let input = self.random.pick(known).cloned().unwrap_or_default();
        match kind {
            Kind::Layer | Kind::Archive => layers::mutated(&mut self.random, input, &other),
            Kind::Document | Kind::Name => {
                documents::mutated(&mut self.random, input, &other, &documents::PIECES)
            }
            Kind::Request | Kind::Accounts => {
                documents::mutated(&mut self.random, input, &other, &requests::PIECES)
            }
        }
    }

    fn one(&mut self, kind: Kind, input: Vec<u8>) -> Result<(), String> {
        self.counts[kind as usize] += 1;
        self.watched.set(&input, &kind);
        let broken = match self.measured(kind, &input) {
            Ok(answer) => {
                self.whole += usize::from(answer == layers::WHOLE || answer == archives::WHOLE);
                let is_new = self.ways.insert(format!("{kind:?} {}", way(&answer)));
                let inputs = &mut self.inputs[kind as usize];
                if is_new && input.len() <= LONGEST_KEPT && inputs.len() < MOST_KEPT {
                    inputs.push(input);
                }
                return Ok(());
            }
            Err(broken) => broken,
        };
        let path = self.watched.keep(&input);
        Err(format!("{kind:?}: {broken}\n\nthe input, {} bytes, is in {path}", input.len()))
    }

    fn measured(&mut self, kind: Kind, input: &[u8]) -> Result<String, String> {
        let mut time = Duration::MAX;
        let mut answer = String::new();
        // Others may have had the processor: only what is slow each time counts.
        for _ in 0..4 {
            let (said, took) = self.measure(kind, input)?;
            (answer, time) = (said, time.min(took));
            if time <= MOST_TIME {
                break;
            }
        }
        self.worst = self.worst.max(time);
        if time > MOST_TIME { Err(format!("it took {time:?}")) } else { Ok(answer) }
    }

    fn measure(&mut self, kind: Kind, input: &[u8]) -> Result<(String, Duration), String> {
        let folder = match kind {
            Kind::Layer | Kind::Archive => {
                Some(self.place.begin().map_err(|error| error.to_string())?)
            }
            _ => None,
        };
        let start = Instant::now();
        let answered = catch_unwind(AssertUnwindSafe(|| match (&folder, kind) {
            (Some(folder), Kind::Layer) => Ok(layers::unpack(input, folder)),
            (Some(folder), _) => archives::load(input, folder),
            (None, Kind::Document) => Ok(documents::read(input)),
            (None, Kind::Request) => requests::read(input),
            (None, Kind::Accounts) => requests::read_accounts(input),
            (None, _) => documents::read_name(input),
        }));
        let time = start.elapsed();
        if folder.is_some() {
            self.place.end()?;
        }
        Ok((answered.map_err(|_| "it panicked".to_owned())??, time))
    }
}

/// The words of an answer without what came from the input, so that like answers are one way.
fn way(answer: &str) -> String {
    let mut quoted = false;
    let kept = answer.chars().filter(|c| {
        quoted ^= *c == '`';
        !quoted && !c.is_ascii_digit()
    });
    kept.take(300).collect()
}
