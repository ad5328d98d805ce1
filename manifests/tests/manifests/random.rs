//! No input makes the reader panic, hang or grow without bound.

use std::path::PathBuf;

use proptest::prelude::*;
use swarm_manifests::{Environment, Source, read_sources};

use crate::folder;
use crate::pieces::PIECES;

fn read_bytes(content: Vec<u8>) {
    let source = Source { name: "x.yml".to_owned(), folder: PathBuf::from("/x"), content };
    match read_sources(std::slice::from_ref(&source), &Environment::default()) {
        Ok((stack, _)) => assert!(!stack.spec.services.is_empty()),
        // Rendering must hold as well.
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}

/// Every example, and what the fuzzer begins with besides.
fn examples() -> Vec<Vec<u8>> {
    let mut folders = vec![folder().join("examples"), folder().join("tests/corpus")];
    let mut examples = Vec::new();
    while let Some(path) = folders.pop() {
        for path in std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                examples.push(std::fs::read(path).unwrap());
            }
        }
    }
    assert!(examples.len() > 50, "the examples were found");
    examples.sort();
    examples
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(content in prop::collection::vec(any::<u8>(), 0..200)) {
        read_bytes(content);
    }

    #[test]
    fn random_pieces(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60)) {
        read_bytes(pieces.concat().into_bytes());
    }

    #[test]
    fn mutated_examples(
        which in any::<prop::sample::Index>(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..8, prop::sample::select(&PIECES[..])), 1..6),
    ) {
        let examples = examples();
        let mut content = which.get(&examples).clone();
        for (place, length, piece) in cuts {
            let start = place.index(content.len() + 1);
            let end = (start + length).min(content.len());
            content.splice(start..end, piece.bytes());
        }
        read_bytes(content);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn examples_on_each_other(below in any::<prop::sample::Index>(), above in any::<prop::sample::Index>()) {
        let examples = examples();
        let source = |content: &Vec<u8>| {
            let (name, folder) = ("x.yml".to_owned(), PathBuf::from("/x"));
            Source { name, folder, content: content.clone() }
        };
        let sources = [source(below.get(&examples)), source(above.get(&examples))];
        if let Err(errors) = read_sources(&sources, &Environment::default()) {
            assert!(!errors.to_string().is_empty());
        }
    }
}

/// Those that once broke a rule stay mended.
#[test]
fn kept_inputs_are_read() {
    for example in examples() {
        read_bytes(example);
    }
}

#[test]
fn large_and_deep_inputs_end_quickly() {
    let start = std::time::Instant::now();
    read_bytes(vec![b'['; 1 << 20]);
    read_bytes(b"- ".repeat(1 << 19));
    read_bytes(b"a: ".repeat(300_000));
    read_bytes(b"{a: ".repeat(250_000));
    read_bytes(b"? ".repeat(1 << 19));
    read_bytes(vec![b'x'; (1 << 20) + 1]);
    read_bytes(format!("services: {{a: {{image: {}}}}}", "${A:-".repeat(200_000)).into_bytes());
    read_bytes(format!("a: &a {{x: 1}}\nb: {{<<: [{}]}}", "*a,".repeat(200_000)).into_bytes());
    // An alias of a long text, and anchors inside of anchors around one.
    let long = "x".repeat(500_000);
    read_bytes(format!("a: &a {long}\nb: [{}]", "*a,".repeat(100_000)).into_bytes());
    let around = |n: usize| format!("&a{n} [");
    let anchors: String = (0..60).map(around).collect();
    read_bytes(format!("a: {anchors}{long}{}", "]".repeat(60)).into_bytes());
    let extending = |n: usize| format!("  s{}: {{extends: s{n}, environment: [A{n}=1]}}\n", n + 1);
    let chain: String = (0..10_000).map(extending).collect();
    read_bytes(format!("services:\n  s0: {{image: a}}\n{chain}").into_bytes());
    let wide = |n: usize| format!("  s{n}: {{extends: a}}\n");
    let services: String = (0..20_000).map(wide).collect();
    let list = "x,".repeat(20_000);
    read_bytes(format!("services:\n  a: {{image: a, cap_add: [{list}]}}\n{services}").into_bytes());
    let many = |line: fn(usize) -> String| (0..30_000).map(line).collect::<String>();
    let service = "services:\n  a:\n    image: a\n";
    for lines in [
        many(|n| format!("k{n}: 1\n")),
        many(|n| format!("  s{n}: {{image: a}}\n")),
        format!("{service}    networks:\n{}", many(|n| format!("    - n{n}\n"))),
        format!("{service}    volumes:\n{}", many(|n| format!("    - v{n}:/{n}\n"))),
        format!("{service}    cap_add:\n{}", many(|n| format!("    - c{n}\n"))),
        format!("{service}    ports:\n{}", many(|n| format!("    - {n}\n"))),
        format!("{service}    ports:\n{}", "    - 1-65535:1-65535\n".repeat(1000)),
        format!("{service}networks:\n{}", many(|n| format!("  n{n}:\n"))),
    ] {
        let on_top = lines.replace("  s", "services:\n  s");
        read_bytes(lines.into_bytes());
        read_bytes(on_top.into_bytes());
    }
    assert!(start.elapsed().as_secs() < 60, "took {:?}", start.elapsed());
}
