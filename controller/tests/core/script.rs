//! Runs `scripts/*.txt`: lines that begin with `> ` are commands, the lines after each are what came of it.
//! `UPDATE=1` writes what came in place of what stands there.

mod agent;
mod autoscale;
mod bench;
mod rebalance;
mod service;
mod words;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use bench::Bench;

fn run(text: &str) -> String {
    let mut bench = Bench::new();
    let mut transcript = String::new();
    for line in text.lines() {
        if line.starts_with('#') || line.is_empty() {
            let _ = writeln!(transcript, "{line}");
        } else if let Some(command) = line.strip_prefix("> ") {
            let _ = writeln!(transcript, "> {command}");
            transcript.push_str(&bench.command(command));
        }
    }
    transcript
}

#[test]
fn scripts_give_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 10, "scripts are missing");
    let mut wrong = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let transcript = run(&text);
        if transcript == text {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &transcript).unwrap();
        }
        let differs = text.lines().zip(transcript.lines()).find(|(old, new)| old != new);
        let (old, new) = differs.unwrap_or(("(end)", "(end)"));
        wrong.push(format!("{}:\n  expected {old}\n  found    {new}", path.display()));
    }
    assert!(wrong.is_empty(), "{}\n(UPDATE=1 accepts)", wrong.join("\n"));
}
