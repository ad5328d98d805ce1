//! Runs many seeds, one world each, on all cores.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::fault::Kind;
use crate::mutant::Mutant;
use crate::violation::Violation;
use crate::world::{COMMITS, Outcome, World};

/// From so many seeds on, every kind of fault must have fired in a fifth of them.
const ENOUGH: u64 = 50;
/// Failing seeds after which no more are tried.
const FAILURES: usize = 10;

/// Violations are told with their seed; panics of anything else are shown where they happen.
pub(crate) fn keep_violations_quiet() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Violation>() {
            usual(info);
        }
    }));
}

fn run(seed: u64, mutant: Option<Mutant>) -> Result<Outcome, Violation> {
    let world = || {
        let mut world = World::new(seed, mutant);
        world.run_with_faults();
        world.heal_and_settle();
        world.spread_and_settle();
        world.finish()
    };
    std::panic::catch_unwind(AssertUnwindSafe(world))
        .map_err(|payload| Violation::from_panic(payload.as_ref()))
}

/// Runs seeds on all cores, until the given function wants no more.
fn each(
    seeds: RangeInclusive<u64>,
    mutant: Option<Mutant>,
    done: impl Fn(u64, Result<Outcome, Violation>) -> bool + Sync,
) {
    let next = AtomicU64::new(*seeds.start());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) || !done(seed, run(seed, mutant)) {
                next.store(u64::MAX / 2, Ordering::Relaxed);
                return;
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
}

/// What all runs came to.
#[derive(Default)]
struct Total {
    seeds: u64,
    commits: u64,
    acknowledged: u64,
    elections: u64,
    faults: BTreeMap<Kind, Seen>,
    operations: BTreeMap<&'static str, Seen>,
    violations: Vec<(u64, Violation)>,
}

/// How often something happened, and in how many seeds.
#[derive(Default, Clone, Copy)]
struct Seen {
    times: u64,
    seeds: u64,
}

impl Seen {
    fn add(&mut self, times: u64) {
        self.times += times;
        self.seeds += 1;
    }
}

impl Total {
    fn add(&mut self, seed: u64, result: Result<Outcome, Violation>) {
        self.seeds += 1;
        let result = result.and_then(|outcome| {
            let detail = format!("{} commits", outcome.commits);
            let enough = outcome.commits >= COMMITS;
            enough.then_some(outcome).ok_or(Violation { invariant: "a run does enough", detail })
        });
        match result {
            Ok(outcome) => {
                self.commits += outcome.commits;
                self.acknowledged += outcome.acknowledged;
                self.elections += outcome.elections;
                for (kind, times) in outcome.faults {
                    self.faults.entry(kind).or_default().add(times);
                }
                for (operation, times) in outcome.operations {
                    self.operations.entry(operation).or_default().add(times);
                }
            }
            Err(violation) => {
                println!(
                    "seed {seed}: not true that {}: {}\n  again: SWARM_SIM_SEED={seed} just sim",
                    violation.invariant, violation.detail
                );
                self.violations.push((seed, violation));
            }
        }
    }

    /// Kinds of faults that fired too seldom.
    fn missing(&self) -> Vec<String> {
        let seldom = |kind: &Kind| {
            let seeds = self.faults.get(kind).map_or(0, |seen| seen.seeds);
            (seeds * 5 < self.seeds).then(|| format!("{kind:?} fired in {seeds} seeds only"))
        };
        if self.seeds < ENOUGH {
            return Vec::new();
        }
        Kind::ALL.iter().filter_map(|(kind, _)| seldom(kind)).collect()
    }

    fn tell(&self) {
        let operations = self.operations.iter();
        let operations = operations.map(|(name, seen)| format!("{name} {}", seen.times));
        println!(
            "{} acknowledged commands, {} elections; operations: {}",
            self.acknowledged,
            self.elections,
            operations.collect::<Vec<_>>().join(", ")
        );
        let faults = self.faults.iter().map(|(kind, seen)| format!("{kind:?} {}", seen.times));
        println!(
            "{} seeds, {} commits, faults fired: {}; {} violations",
            self.seeds,
            self.commits,
            faults.collect::<Vec<_>>().join(", "),
            self.violations.len()
        );
    }
}

/// Runs these seeds, and the first of them twice: it must come to the same.
pub(crate) fn seeds(seeds: RangeInclusive<u64>, mutant: Option<Mutant>) -> ExitCode {
    let total = Mutex::new(Total::default());
    let first = *seeds.start();
    let again = run(first, mutant);
    each(seeds, mutant, |seed, result| {
        let mut total = total.lock().unwrap();
        let same = seed != first || result == again;
        let result = if same {
            result
        } else {
            let detail = format!("{result:?} instead of {again:?}");
            Err(Violation { invariant: "a seed decides everything", detail })
        };
        total.add(seed, result);
        total.violations.len() < FAILURES
    });
    let total = total.into_inner().unwrap();
    let missing = total.missing();
    for seldom in &missing {
        println!("{seldom}: it must fire in a fifth of the seeds");
    }
    total.tell();
    ExitCode::from(u8::from(!missing.is_empty() || !total.violations.is_empty()))
}

/// Looks for each planted fault until it is found, and shows a table.
pub(crate) fn mutants() -> ExitCode {
    /// Seeds within which each must be found.
    const MOST: u64 = 500;
    let mut missed = 0;
    println!("{:<28} {:>5}  found by", "planted fault", "seeds");
    for mutant in Mutant::all() {
        let found = Mutex::new(None::<(u64, Violation)>);
        each(1..=MOST, Some(mutant), |seed, result| {
            let mut found = found.lock().unwrap();
            if let Err(violation) = result
                && found.as_ref().is_none_or(|(first, _)| seed < *first)
            {
                *found = Some((seed, violation));
            }
            found.is_none()
        });
        let name = mutant.name();
        if let Some((seed, violation)) = found.into_inner().unwrap() {
            println!("{name:<28} {seed:>5}  {}", violation.invariant);
        } else {
            missed += 1;
            println!("{name:<28} {:>5}  nothing", "-");
        }
    }
    ExitCode::from(u8::from(missed > 0))
}
