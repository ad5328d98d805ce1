//! What the benches share: programs to run, medians, the table and its file.
#![expect(clippy::print_stdout, reason = "benches print their table")]

pub mod agents;
pub mod host;
pub mod members;
pub mod nodes;
pub mod stacks;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// What a bench does or says why not.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// What one round measured: case to number.
pub type Figures = BTreeMap<&'static str, f64>;

/// One line of a table.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What was measured.
    pub name: &'static str,
    /// `s` or `MiB`, of which less is better, or a rate such as `1/s`, of which more is.
    pub unit: &'static str,
}

impl Case {
    fn is_rate(self) -> bool {
        self.unit.ends_with("/s")
    }

    fn better(self) -> &'static str {
        if self.is_rate() { "higher" } else { "lower" }
    }
}

/// How many rounds to take: `BENCH_ROUNDS`, else `default`.
pub fn rounds(default: usize) -> Outcome<usize> {
    match std::env::var("BENCH_ROUNDS") {
        Ok(text) => Ok(text.parse::<usize>()?.max(1)),
        Err(_) => Ok(default),
    }
}

/// Prints medians side by side and writes them to `target/bench/NAME.json`. `peer` is its name and its rounds.
pub fn report(
    name: &str,
    cases: &[Case],
    ours: &[Figures],
    peer: Option<(&str, &[Figures])>,
) -> Outcome<()> {
    println!("{name}: medians of {} rounds (worst in brackets)", ours.len());
    let heading = peer.map_or("", |(peer, _)| peer);
    println!("{:<42} {:>4} {:>18} {heading:>22}", "", "", "swarmctl");
    let mut rows = Vec::new();
    for case in cases {
        let mine = Spread::of(ours, *case);
        print!("{:<42} {:>4} {:>9.2} ({:>6.2})", case.name, case.unit, mine.median, mine.worst);
        let mut peers = serde_json::Map::new();
        if let Some((peer, rounds)) = peer {
            let theirs = Spread::of(rounds, *case);
            let share = mine.median / theirs.median * 100.0;
            print!(" {:>12.2} ({:>6.2}) {share:>6.1} %", theirs.median, theirs.worst);
            peers.insert(peer.to_owned(), Value::from(theirs.median));
        }
        println!();
        rows.push(json!({
            "case": case.name, "unit": case.unit, "better": case.better(),
            "ours": mine.median, "peers": peers,
        }));
    }
    let folder = folder()?;
    fs::write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(&rows)?)?;
    Ok(())
}

/// One line of a table beside any number of peers.
pub struct Beside {
    /// What was measured.
    pub case: Case,
    /// Ours, one number for each round.
    pub ours: Vec<f64>,
    /// Each other program's name and its rounds.
    pub peers: Vec<(&'static str, Vec<f64>)>,
}

/// Prints medians, each peer on a line of its own with our share of its number, and writes them to
/// `target/bench/NAME.json`.
pub fn report_beside(name: &str, lines: &[Beside]) -> Outcome<()> {
    println!("{name}: medians (worst in brackets)");
    let mut rows = Vec::new();
    for Beside { case, ours, peers } in lines {
        let mine = Spread::among(ours, *case);
        println!("{:<42} {:>5} {:>9.2} ({:>7.2})", case.name, case.unit, mine.median, mine.worst);
        let mut medians = serde_json::Map::new();
        for (peer, figures) in peers {
            let theirs = Spread::among(figures, *case);
            let share = mine.median / theirs.median * 100.0;
            let Spread { median, worst } = theirs;
            println!("    {peer:<38} {:>5} {median:>9.2} ({worst:>7.2})   ours {share:>6.1} %", "");
            medians.insert((*peer).to_owned(), Value::from(median));
        }
        rows.push(json!({
            "case": case.name, "unit": case.unit, "better": case.better(),
            "ours": mine.median, "peers": medians,
        }));
    }
    fs::write(folder()?.join(format!("{name}.json")), serde_json::to_string_pretty(&rows)?)?;
    Ok(())
}

struct Spread {
    median: f64,
    worst: f64,
}

impl Spread {
    fn of(rounds: &[Figures], case: Case) -> Self {
        let figures: Vec<f64> = rounds.iter().map(|figures| figures[case.name]).collect();
        Self::among(&figures, case)
    }

    fn among(figures: &[f64], case: Case) -> Self {
        let mut figures = figures.to_vec();
        figures.sort_by(f64::total_cmp);
        let worst = if case.is_rate() { figures.first() } else { figures.last() };
        let worst = worst.copied().unwrap_or(f64::NAN);
        Self { median: figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN), worst }
    }
}

/// A rate of ours beside what others have published of themselves.
pub struct Published {
    /// What was measured.
    pub case: String,
    /// Its unit, such as `1/s`: more is better.
    pub unit: &'static str,
    /// Ours, a median.
    pub ours: f64,
    /// Under which the other's own tests fail.
    pub floor: f64,
}

/// Prints rates beside published ones and writes them to `target/bench/NAME.json`. `peer` has published them.
pub fn report_published(name: &str, peer: &str, all: &[Published]) -> Outcome<()> {
    println!("{:<58} {:>4} {:>10} {peer:>28}", name, "", "swarmctl");
    let mut rows = Vec::new();
    for Published { case, unit, ours, floor } in all {
        println!("{case:<58} {unit:>4} {ours:>10.0} {floor:>20.0} {:>6.0} x", ours / floor);
        rows.push(json!({
            "case": case, "unit": unit, "better": "higher", "ours": ours, "floor": floor,
            "peers": { peer: floor },
        }));
    }
    fs::write(folder()?.join(format!("{name}.json")), serde_json::to_string_pretty(&rows)?)?;
    Ok(())
}

/// Prints median, 99th percentile and worst of each case and writes them to `target/bench/NAME.json`.
pub fn report_spread(name: &str, unit: &str, cases: &[(&str, Vec<f64>)]) -> Outcome<()> {
    println!("{name}: {:<44} {:>6} {:>8} {:>8} {:>8}", "", "rounds", "median", "p99", "worst");
    let mut rows = Vec::new();
    for (case, figures) in cases {
        let mut sorted = figures.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(place).copied().unwrap_or(f64::NAN)
        };
        let (median, p99, worst) = (at(50), at(99), at(100));
        println!(
            "{case:<54} {:>6} {median:>6.2} {unit} {p99:>6.2} {unit} {worst:>6.2} {unit}",
            sorted.len()
        );
        for (what, ours) in [("median", median), ("p99", p99), ("worst", worst)] {
            rows.push(json!({
                "case": format!("{case}, {what}"), "unit": unit, "better": "lower",
                "ours": ours, "peers": {},
            }));
        }
    }
    fs::write(folder()?.join(format!("{name}.json")), serde_json::to_string_pretty(&rows)?)?;
    Ok(())
}

/// The folder of the programs: where this one lies.
pub fn programs() -> Outcome<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().ok_or("this program lies nowhere")?.to_owned())
}

/// Runs `swarmctl` with contexts of the benches' own; returns its data.
pub fn swarmctl(arguments: &[&str]) -> Outcome<String> {
    let mut command = Command::new(programs()?.join("swarmctl"));
    output(command.args(arguments).env("XDG_CONFIG_HOME", folder()?.join("settings")))
}

/// Runs a command to its end, which must be a good one; returns its data.
pub fn output(command: &mut Command) -> Outcome<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} failed: {said}").into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Where benches keep what they make: `target/bench`.
pub fn folder() -> Outcome<PathBuf> {
    let folder = root().join("target/bench");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The project's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_owned()
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("the project's folder has a plain name")
}
