//! Mutated stack files for so many seconds: `fuzz-manifests SECONDS [SEED]`. None may panic, hang, or take more than
//! linear time and memory; what was read is written, read again, and must be the same. Prints the seed, inputs for each
//! second, and the worst time and memory; fails, and keeps the input in `target/fuzz-manifests`, on the first that breaks
//! a rule. Inputs begin with every example and with `tests/corpus`, where those that once broke a rule are kept.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that says how it went")]

mod corpus;
mod mutate;
mod pieces;
mod random;
mod reader;
mod sys;
mod watched;

use std::collections::HashSet;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use mutate::Mutator;
use random::Random;
use reader::{Reader, Use};
use watched::Watched;

#[global_allocator]
static COUNTING: sys::Counting = sys::Counting;

/// What any input may take, however short it is, and what for each byte more. Aliases and copies are bounded by counts, so
/// short inputs may take as much as those allow.
const MOST_MEMORY: usize = 96 << 20;
const MEMORY_OF_A_BYTE: usize = 400;
const MOST_TIME: Duration = Duration::from_secs(1);
const TIME_OF_A_BYTE: Duration = Duration::from_micros(3);
/// Shorter inputs say nothing of what a byte takes.
const SHORTEST_MEASURED: usize = 4096;
/// Inputs that went a new way are kept up to this number, and up to this length each.
const MOST_KEPT: usize = 20_000;
const LONGEST_KEPT: usize = 1 << 14;

fn main() -> Result<(), Box<dyn Error>> {
    let (time, seed) = watched::arguments(60.0)?;
    println!("fuzz-manifests: seed {seed}");
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz-manifests");
    let reader = Reader::new(&kept.join(format!("files-{}", std::process::id())))?;
    let mut run = Run::new(seed, reader, &kept)?;
    let result = run.go(time);
    run.reader.remove();
    println!("fuzz-manifests: seed {seed}: {}", run.summary());
    result.map_err(Into::into)
}

/// The most that an input took, for each byte and at all.
#[derive(Debug, Default)]
struct Worst {
    time: Duration,
    time_of_a_byte: Duration,
    memory: usize,
    memory_of_a_byte: usize,
}

struct Run {
    random: Random,
    mutator: Mutator,
    reader: Reader,
    inputs: Vec<Vec<u8>>,
    given: usize,
    ways: HashSet<(usize, String)>,
    worst: Worst,
    count: usize,
    begun: Instant,
    watched: Watched,
}

impl Run {
    fn new(seed: u64, reader: Reader, kept: &Path) -> Result<Self, Box<dyn Error>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folders = vec![root.join("examples"), root.join("tests/corpus")];
        let inputs = corpus::read(folders, vec![root.join("counter/stack.yml")])?;
        println!("fuzz-manifests: {} files to begin with", inputs.len());
        Ok(Self {
            random: Random::new(seed),
            mutator: Mutator::new(),
            reader,
            given: inputs.len(),
            inputs,
            ways: HashSet::new(),
            worst: Worst::default(),
            count: 0,
            begun: Instant::now(),
            watched: Watched::begin(kept, seed),
        })
    }

    fn go(&mut self, time: Duration) -> Result<(), String> {
        // First what is there, as it is.
        for index in 0..self.given {
            for usage in Use::ALL {
                self.one(self.inputs[index].clone(), usage)?;
            }
        }
        while self.begun.elapsed() < time {
            let other = self.random.pick(&self.inputs).cloned().unwrap_or_default();
            // Half of all begin with a file that people wrote.
            let most = if self.random.once_in(2) { self.given } else { self.inputs.len() };
            let Some(input) = self.random.pick(&self.inputs[..most]) else { break };
            let input = self.mutator.mutate(&mut self.random, input, &other);
            let usage = *self.random.pick(&Use::ALL).unwrap_or(&Use::Alone);
            self.one(input, usage)?;
        }
        Ok(())
    }

    fn one(&mut self, input: Vec<u8>, usage: Use) -> Result<(), String> {
        self.count += 1;
        self.watched.set(&input, &usage);
        let broken = match self.measured(&input, usage) {
            Ok(words) => {
                let place = Use::ALL.iter().position(|known| *known == usage).unwrap_or_default();
                let is_new = self.ways.insert((place, words));
                if is_new && input.len() <= LONGEST_KEPT && self.inputs.len() < MOST_KEPT {
                    self.inputs.push(input);
                }
                return Ok(());
            }
            Err(broken) => broken,
        };
        let path = self.watched.keep(&input);
        Err(format!("{broken}\n\nthe input, {} bytes as {usage:?}, is in {path}", input.len()))
    }

    fn measured(&mut self, input: &[u8], usage: Use) -> Result<String, String> {
        let sources = self.reader.prepare(input, usage).map_err(|error| error.to_string())?;
        let (words, mut time, memory) = self.measure(&sources)?;
        let most = MOST_TIME + TIME_OF_A_BYTE * u32::try_from(input.len()).unwrap_or(u32::MAX);
        // Others may have had the processor: only what is slow each time counts.
        for _ in 0..4 {
            if time > most {
                time = time.min(self.measure(&sources)?.1);
            }
        }
        if self.count.is_multiple_of(8) {
            let otherwise = AssertUnwindSafe(|| self.reader.read_otherwise(&sources));
            catch_unwind(otherwise).unwrap_or_else(|_| Err("it panicked".to_owned()))?;
        }
        self.reader.clear();
        self.note(input.len(), time, memory);
        if time > most {
            return Err(format!("it took {time:?}"));
        }
        if memory > MOST_MEMORY + MEMORY_OF_A_BYTE * input.len() {
            return Err(format!("it took {} KiB", memory >> 10));
        }
        Ok(words)
    }

    fn measure(
        &self,
        sources: &[swarm_manifests::Source],
    ) -> Result<(String, Duration, usize), String> {
        let before = sys::restart();
        let start = Instant::now();
        let read = catch_unwind(AssertUnwindSafe(|| self.reader.read(sources)));
        let (time, memory) = (start.elapsed(), sys::most().saturating_sub(before));
        let words = read.unwrap_or_else(|_| Err("it panicked".to_owned()))?;
        Ok((words, time, memory))
    }

    fn note(&mut self, length: usize, time: Duration, memory: usize) {
        let worst = &mut self.worst;
        worst.time = worst.time.max(time);
        worst.memory = worst.memory.max(memory);
        if length >= SHORTEST_MEASURED {
            let bytes = u32::try_from(length).unwrap_or(u32::MAX);
            worst.time_of_a_byte = worst.time_of_a_byte.max(time / bytes);
            worst.memory_of_a_byte = worst.memory_of_a_byte.max(memory / length);
        }
    }

    fn summary(&self) -> String {
        let (seconds, worst) = (self.begun.elapsed().as_secs().max(1), &self.worst);
        format!(
            "{} inputs in {seconds} s, {} a second, {} ways; worst: {:?} and {} KiB; for each byte of inputs of 4 KiB \
             and more: {:?} and {} bytes",
            self.count,
            u64::try_from(self.count).unwrap_or(u64::MAX) / seconds,
            self.ways.len(),
            worst.time,
            worst.memory >> 10,
            worst.time_of_a_byte,
            worst.memory_of_a_byte,
        )
    }
}
