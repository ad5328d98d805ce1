//! Mutated Dockerfiles for so many seconds: `fuzz-dockerfile SECONDS [SEED]`. None may panic or hang, each is answered the
//! same twice, and of each a patterns' file is read as well. Prints the seed, the number of inputs and the worst time;
//! fails, and keeps the input in `target/fuzz-dockerfile`, on the first that breaks a rule.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that says how it went")]

#[path = "../../fuzz/corpus.rs"]
mod corpus;
#[path = "../../fuzz/random.rs"]
mod random;
#[path = "../../fuzz/watched.rs"]
mod watched;

use std::collections::HashSet;
use std::error::Error;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use random::Random;
use swarm_dockerfile::{
    Base, Ignore, Image, Platform, Problems, StageEnd, StageRun, Wishes, plan, read,
};
use watched::Watched;

/// What any input may take, and what for each byte more.
const MOST_TIME: Duration = Duration::from_secs(2);
const TIME_OF_A_BYTE: Duration = Duration::from_micros(5);
/// Inputs are not made longer than a little more than what is read.
const LONGEST: usize = (1 << 20) + 64;
/// So long is an input of one piece over and over.
const LONG: usize = 1 << 18;
/// Inputs that went a new way are kept up to this number, and up to this length each.
const MOST_KEPT: usize = 10_000;
const LONGEST_KEPT: usize = 1 << 13;

/// What means something in a Dockerfile.
const PIECES: [&str; 72] = [
    "FROM ",
    "FROM busybox AS ",
    "FROM a",
    " AS b\n",
    "ARG ",
    "ARG A=1\n",
    "ARG A\n",
    "RUN ",
    "RUN [\"",
    "\"]\n",
    "CMD ",
    "COPY ",
    "COPY --from=",
    "ADD ",
    "ENV ",
    "ENV A=$A$A\n",
    "ENV A=",
    "LABEL ",
    "EXPOSE ",
    "EXPOSE 1-65535\n",
    "USER ",
    "WORKDIR ",
    "VOLUME ",
    "ONBUILD ",
    "ONBUILD RUN ",
    "SHELL ",
    "STOPSIGNAL ",
    "HEALTHCHECK ",
    "ENTRYPOINT ",
    "MAINTAINER ",
    "--mount=type=",
    "--mount=type=cache,target=/x",
    ",from=",
    ",id=",
    ",mode=",
    "--chmod=",
    "--chown=",
    "--link ",
    "--parents ",
    "--exclude=",
    "--network=",
    "--platform=",
    "<<E",
    "<<-'E'",
    "\nE\n",
    "\\\n",
    "# escape=`\n",
    "# syntax=",
    "${",
    "}",
    "${A:-",
    "${A:+",
    "${A:?",
    "${A#",
    "${A##*",
    "${A%%",
    "${A//",
    "/",
    "$A",
    "\"",
    "'",
    "\\",
    "[",
    "]",
    "**/",
    "!",
    "?",
    "\t",
    "\r\n",
    "é",
    "\u{feff}",
    "scratch",
];

fn main() -> Result<(), Box<dyn Error>> {
    let (time, seed) = watched::arguments(20.0)?;
    println!("fuzz-dockerfile: seed {seed}");
    let mut run = Run::new(seed)?;
    let result = run.go(time);
    let (count, ways, worst) = (run.count, run.ways.len(), run.worst);
    println!("fuzz-dockerfile: seed {seed}: {count} inputs, {ways} ways, worst {worst:?}");
    result.map_err(Into::into)
}

struct Run {
    random: Random,
    inputs: Vec<Vec<u8>>,
    given: usize,
    ways: HashSet<String>,
    worst: Duration,
    count: usize,
    watched: Watched,
}

impl Run {
    fn new(seed: u64) -> Result<Self, Box<dyn Error>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let inputs = corpus::read(vec![root.join("examples")], Vec::new())?;
        let kept = root.join("../../target/fuzz-dockerfile");
        Ok(Self {
            random: Random::new(seed),
            given: inputs.len(),
            inputs,
            ways: HashSet::new(),
            worst: Duration::ZERO,
            count: 0,
            watched: Watched::begin(&kept, seed),
        })
    }

    fn go(&mut self, time: Duration) -> Result<(), String> {
        let begun = Instant::now();
        for index in 0..self.given {
            self.one(self.inputs[index].clone())?;
        }
        // What is only slow when it is long is seldom met by luck.
        for piece in PIECES {
            let input = format!("FROM a\nARG A=1\nENV B=\"{}\"", piece.repeat(LONG / piece.len()));
            self.one(input.into_bytes())?;
            self.one(piece.repeat(LONG / piece.len()).into_bytes())?;
        }
        while begun.elapsed() < time {
            let other = self.random.pick(&self.inputs).cloned().unwrap_or_default();
            // Half of all begin with a file that people wrote.
            let most = if self.random.once_in(2) { self.given } else { self.inputs.len() };
            let Some(input) = self.random.pick(&self.inputs[..most]).cloned() else { break };
            let input = mutated(&mut self.random, input, &other);
            self.one(input)?;
        }
        Ok(())
    }

    fn one(&mut self, input: Vec<u8>) -> Result<(), String> {
        self.count += 1;
        self.watched.set(&input, &"a Dockerfile");
        let text = String::from_utf8_lossy(&input);
        let broken = match self.measured(&text) {
            Ok(words) => {
                let is_new = self.ways.insert(words);
                if is_new && input.len() <= LONGEST_KEPT && self.inputs.len() < MOST_KEPT {
                    self.inputs.push(input);
                }
                return Ok(());
            }
            Err(broken) => broken,
        };
        let path = self.watched.keep(&input);
        Err(format!("{broken}\n\nthe input, {} bytes, is in {path}", input.len()))
    }

    fn measured(&mut self, text: &str) -> Result<String, String> {
        let most = MOST_TIME + TIME_OF_A_BYTE * u32::try_from(text.len()).unwrap_or(u32::MAX);
        let (first, mut time) = measure(text)?;
        if self.count.is_multiple_of(8) && measure(text)?.0 != first {
            return Err("it was answered in another way the second time".to_owned());
        }
        // Others may have had the processor: only what is slow each time counts.
        for _ in 0..4 {
            if time > most {
                time = time.min(measure(text)?.1);
            }
        }
        self.worst = self.worst.max(time);
        if time > most { Err(format!("it took {time:?}")) } else { Ok(way(&first)) }
    }
}

fn measure(text: &str) -> Result<(String, Duration), String> {
    let start = Instant::now();
    let answered = catch_unwind(AssertUnwindSafe(|| answer(text)));
    Ok((answered.map_err(|_| "it panicked".to_owned())?, start.elapsed()))
}

/// All that is known of a file, as text.
fn answer(text: &str) -> String {
    let ignored = match Ignore::read(text, ".dockerignore") {
        Ok(ignore) => ["a", "a/b/c", "x.md", ""].map(|path| ignore.ignores(path)),
        Err(_) => [false; 4],
    };
    let built = match build(text) {
        Ok(text) => text,
        Err(problems) => problems.to_string(),
    };
    format!("{ignored:?} {built}")
}

fn build(text: &str) -> Result<String, Problems> {
    let dockerfile = read(text, "Dockerfile")?;
    let wishes = Wishes { platform: Platform::linux("amd64"), ..Wishes::default() };
    let plan = plan(&dockerfile, &wishes)?;
    let mut ends: Vec<StageEnd> = Vec::new();
    let mut digest = String::new();
    for (place, stage) in plan.stages.iter().enumerate() {
        let base = match &stage.base {
            Base::Stage(other) => ends[*other].clone(),
            _ => Image::scratch(&stage.platform).into(),
        };
        let mut run = StageRun::begin(&plan, place, &base)?;
        while let Some(step) = run.next_step()? {
            let action = format!("{:?}", step.action);
            let name: String = action.chars().take_while(|c| c.is_alphanumeric()).collect();
            let _ = write!(digest, "{name} {} ", action.len());
        }
        ends.push(run.finish());
    }
    Ok(digest)
}

/// The words of an answer without what came from the input, so that like answers are one way.
fn way(answer: &str) -> String {
    let mut quoted = false;
    let kept = answer.chars().filter(|c| {
        quoted ^= *c == '`';
        !quoted && !c.is_ascii_digit()
    });
    kept.take(2000).collect()
}

/// An input after one to eight changes. `other` lends parts.
fn mutated(random: &mut Random, mut input: Vec<u8>, other: &[u8]) -> Vec<u8> {
    for _ in 0..=random.below(8) {
        let (start, end) = range(random, input.len());
        match random.below(8) {
            0 => drop(input.drain(start..end)),
            1 => {
                if let Some(byte) = input.get_mut(start) {
                    *byte ^= 1 << random.below(8);
                }
            }
            2..=4 => {
                let piece = random.pick(&PIECES).map_or("", |piece| *piece);
                input.splice(start..start, piece.bytes());
            }
            5 => {
                let (from, to) = range(random, other.len());
                input.splice(start..start, other[from..to].iter().copied());
            }
            6 => {
                let part = input[start..end].to_vec();
                let most = if random.once_in(20) { LONGEST } else { 1 << 12 };
                let times = random.below(most.saturating_sub(input.len()) / part.len().max(1));
                input.splice(start..start, part.repeat(times));
            }
            _ => {
                let mut lines: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
                let (from, to) = (random.below(lines.len() + 1), random.below(lines.len() + 1));
                if from < lines.len() && to < lines.len() {
                    lines.swap(from, to);
                }
                input = lines.concat();
            }
        }
        input.truncate(LONGEST);
    }
    input
}

/// A part, mostly a short one.
fn range(random: &mut Random, length: usize) -> (usize, usize) {
    let start = random.below(length + 1);
    let most = if random.once_in(4) { length } else { 16 };
    (start, length.min(start + random.below(most.max(1) + 1)))
}
