//! Changes to inputs: of bytes, of lines, and of what means something to YAML and to compose.

use swarm_manifests::keys;

use crate::pieces::PIECES;
use crate::random::Random;

/// Inputs are not made longer than a little more than what the reader takes.
pub(crate) const LONGEST: usize = (1 << 20) + 64;

/// What changes inputs.
pub(crate) struct Mutator {
    /// Names of keys of compose, as lines begin with them.
    keys: Vec<String>,
}

impl Mutator {
    pub(crate) fn new() -> Self {
        let names = keys::entries().into_iter().map(|entry| format!("{}: ", entry.key.name));
        Self { keys: names.collect() }
    }

    /// An input after one to eight changes. `other` lends parts.
    pub(crate) fn mutate(&self, random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut input = input.to_vec();
        for _ in 0..=random.below(8) {
            self.change(random, &mut input, other);
            input.truncate(LONGEST);
        }
        input
    }

    fn change(&self, random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
        let (start, end) = range(random, input.len());
        match random.below(14) {
            0 => drop(input.drain(start..end)),
            1 => {
                if let Some(byte) = input.get_mut(start) {
                    *byte ^= 1 << random.below(8);
                }
            }
            2..=4 => insert(input, start, piece(random)),
            5 => insert(input, start, self.key(random)),
            6 => {
                let (from, to) = range(random, other.len());
                insert(input, start, &other[from..to]);
            }
            7 => repeat(random, input, start, end),
            8 => wrap(random, input, start, end),
            _ => self.change_lines(random, input, other),
        }
    }

    /// Lines carry the structure of YAML, so most changes are of whole ones.
    fn change_lines(&self, random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
        let lines: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
        let (start, end) = range(random, lines.len());
        let (before, part, after) = (&lines[..start], &lines[start..end], &lines[end..]);
        let new: Vec<u8> = match random.below(7) {
            0 => Vec::new(),
            1 => {
                let times = 2 + random.below(3);
                part.concat().repeat(times)
            }
            2 => {
                part.iter().flat_map(|line| [b"  ".as_slice(), *line]).flatten().copied().collect()
            }
            3 => part
                .iter()
                .flat_map(|line| line.strip_prefix(b"  ").unwrap_or(*line))
                .copied()
                .collect(),
            4 => part.iter().rev().flat_map(|line| line.iter()).copied().collect(),
            5 => {
                let others: Vec<&[u8]> = other.split_inclusive(|byte| *byte == b'\n').collect();
                let (from, to) = range(random, others.len());
                others[from..to].concat()
            }
            _ => {
                let line = part.first().copied().unwrap_or_default();
                let indent = line.iter().take_while(|byte| **byte == b' ').count();
                let line = format!(
                    "{}{}{}\n",
                    " ".repeat(indent),
                    text(self.key(random)),
                    text(piece(random))
                );
                line.into_bytes()
            }
        };
        *input = [before.concat(), new, after.concat()].concat();
    }

    fn key(&self, random: &mut Random) -> &[u8] {
        random.pick(&self.keys).map_or(b"", |key| key.as_bytes())
    }
}

fn piece(random: &mut Random) -> &'static [u8] {
    random.pick(&PIECES).map_or(b"", |piece| piece.as_bytes())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn insert(input: &mut Vec<u8>, at: usize, new: &[u8]) {
    input.splice(at..at, new.iter().copied());
}

/// A part again and again: mostly a few times, now and then until nothing more fits.
fn repeat(random: &mut Random, input: &mut Vec<u8>, start: usize, end: usize) {
    let part = input[start..end].to_vec();
    let most = if random.once_in(20) { LONGEST } else { 1 << 12 };
    let times = random.below(most.saturating_sub(input.len()) / part.len().max(1));
    insert(input, start, &part.repeat(times));
}

/// A part inside of many brackets, quotes or variables.
fn wrap(random: &mut Random, input: &mut Vec<u8>, start: usize, end: usize) {
    const PAIRS: [(&str, &str); 7] = [
        ("[", "]"),
        ("{a: ", "}"),
        ("${A:-", "}"),
        ("\"", "\""),
        ("'", "'"),
        ("&a [*a, ", "]"),
        ("- ", ""),
    ];
    let Some((open, close)) = random.pick(&PAIRS) else { return };
    let most = if random.once_in(10) { 10_000 } else { 20 };
    let times = 1 + random.below(most);
    insert(input, end, close.repeat(times).as_bytes());
    insert(input, start, open.repeat(times).as_bytes());
}

/// A part, mostly a short one.
fn range(random: &mut Random, length: usize) -> (usize, usize) {
    let start = random.below(length + 1);
    let most = if random.once_in(4) { length } else { 16 };
    (start, length.min(start + random.below(most.max(1) + 1)))
}
