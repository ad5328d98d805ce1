//! The instructions of a filter.

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET,
    BPF_W, SECCOMP_RET_KILL_PROCESS,
};
use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator};

use super::Filter;

/// Where the kernel puts things for a filter to look at.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What happens for one call: rules with conditions in order, then the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    rules: Vec<(Vec<LinuxSeccompArg>, u32)>,
    rest: u32,
    settled: bool,
}

impl Chain {
    /// The same outcome always, until rules are added.
    pub(super) fn new(rest: u32) -> Self {
        Self { rules: Vec::new(), rest, settled: false }
    }

    /// Adds a rule; one without conditions settles the outcome for good.
    pub(super) fn add(&mut self, conditions: &[LinuxSeccompArg], action: u32) {
        if self.settled {
            return;
        }
        if conditions.is_empty() {
            *self = Self { rules: Vec::new(), rest: action, settled: true };
        } else {
            self.rules.push((conditions.to_vec(), action));
        }
    }
}

/// Call numbers from one on, up to the next range's, with the same outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: u32,
    pub(super) outcome: Chain,
}

/// Where a jump of a condition goes.
#[derive(Clone, Copy)]
enum To {
    /// The next instruction.
    Next,
    /// Over this many instructions.
    Over(u8),
    /// Behind the rule: the condition does not hold.
    Out,
}

/// Assembles the filter: other architectures die, then the number is looked up.
pub(super) fn assemble(architecture: u32, ranges: &[Range]) -> Vec<Filter> {
    let mut filter = vec![
        load(ARCHITECTURE),
        jump(BPF_JEQ, architecture, 1, 0),
        ret(SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
    ];
    filter.extend(search(ranges));
    filter
}

/// A binary search over ranges; the number is in the accumulator.
fn search(ranges: &[Range]) -> Vec<Filter> {
    match ranges {
        [] => vec![ret(SECCOMP_RET_KILL_PROCESS)],
        [only] => outcome(&only.outcome),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let (below, above) = (search(low), search(high));
            let mut code = Vec::with_capacity(below.len() + above.len() + 2);
            if let Ok(distance) = u8::try_from(below.len()) {
                code.push(jump(BPF_JGE, high[0].from, distance, 0));
            } else {
                code.push(jump(BPF_JGE, high[0].from, 0, 1));
                code.push(far_jump(below.len()));
            }
            code.extend(below);
            code.extend(above);
            code
        }
    }
}

fn outcome(chain: &Chain) -> Vec<Filter> {
    let mut code: Vec<_> =
        chain.rules.iter().flat_map(|(conditions, action)| rule(conditions, *action)).collect();
    code.push(ret(chain.rest));
    code
}

fn rule(conditions: &[LinuxSeccompArg], action: u32) -> Vec<Filter> {
    let checks: Vec<_> = conditions.iter().flat_map(condition).collect();
    let length = checks.len() + 1;
    let resolve = |at: usize, to: To| match to {
        To::Next => 0,
        To::Over(distance) => distance,
        To::Out => {
            u8::try_from(length - at - 1).expect("six conditions are at most 30 instructions")
        }
    };
    let mut code: Vec<_> = checks
        .into_iter()
        .enumerate()
        .map(|(at, (mut instruction, yes, no))| {
            instruction.jt = resolve(at, yes);
            instruction.jf = resolve(at, no);
            instruction
        })
        .collect();
    code.push(ret(action));
    code
}

/// The check of one condition, on the argument's upper half and then its lower half.
fn condition(condition: &LinuxSeccompArg) -> Vec<(Filter, To, To)> {
    use LinuxSeccompOperator::{
        ScmpCmpEq, ScmpCmpGe, ScmpCmpGt, ScmpCmpLe, ScmpCmpLt, ScmpCmpMaskedEq, ScmpCmpNe,
    };
    use To::{Next, Out, Over};
    let index = u32::try_from(condition.index()).expect("checked to be below six");
    let lower_at = ARGUMENTS + index * 8;
    let (upper, lower) = halves(condition.value());
    let (high_half, low_half) = (plain(load(lower_at + 4)), plain(load(lower_at)));
    let test = |kind, value, yes, no| (jump(kind, value, 0, 0), yes, no);
    // Upper halves that differ decide at once; for "above" a greater one holds.
    let above = |last, yes, no| {
        vec![
            high_half,
            test(BPF_JGT, upper, Over(3), Next),
            test(BPF_JEQ, upper, Next, Out),
            low_half,
            test(last, lower, yes, no),
        ]
    };
    let below = |last| {
        vec![
            high_half,
            test(BPF_JGT, upper, Out, Next),
            test(BPF_JEQ, upper, Next, Over(2)),
            low_half,
            test(last, lower, Out, Next),
        ]
    };
    match condition.op() {
        ScmpCmpEq => vec![
            high_half,
            test(BPF_JEQ, upper, Next, Out),
            low_half,
            test(BPF_JEQ, lower, Next, Out),
        ],
        ScmpCmpNe => vec![
            high_half,
            test(BPF_JEQ, upper, Next, Over(2)),
            low_half,
            test(BPF_JEQ, lower, Out, Next),
        ],
        ScmpCmpGt => above(BPF_JGT, Next, Out),
        ScmpCmpGe => above(BPF_JGE, Next, Out),
        ScmpCmpLt => below(BPF_JGE),
        ScmpCmpLe => below(BPF_JGT),
        ScmpCmpMaskedEq => {
            // The first value is the mask, the second what must be left.
            let (wanted_upper, wanted_lower) = halves(condition.value_two().unwrap_or(0));
            vec![
                high_half,
                plain(and(upper)),
                test(BPF_JEQ, wanted_upper, Next, Out),
                low_half,
                plain(and(lower)),
                test(BPF_JEQ, wanted_lower, Next, Out),
            ]
        }
    }
}

fn plain(instruction: Filter) -> (Filter, To, To) {
    (instruction, To::Next, To::Next)
}

fn halves(value: u64) -> (u32, u32) {
    let upper = u32::try_from(value >> 32).expect("32 bits are left");
    let lower = u32::try_from(value & 0xffff_ffff).expect("32 bits are left");
    (upper, lower)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> Filter {
    Filter { code: u16::try_from(code).expect("codes are 16 bits"), jt, jf, k }
}

fn load(offset: u32) -> Filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
}

fn and(mask: u32) -> Filter {
    instruction(BPF_ALU | BPF_AND | BPF_K, mask, 0, 0)
}

fn ret(value: u32) -> Filter {
    instruction(BPF_RET | BPF_K, value, 0, 0)
}

fn jump(kind: u32, value: u32, jt: u8, jf: u8) -> Filter {
    instruction(BPF_JMP | kind | BPF_K, value, jt, jf)
}

fn far_jump(distance: usize) -> Filter {
    let distance = u32::try_from(distance).expect("filters are bounded");
    instruction(BPF_JMP | BPF_JA, distance, 0, 0)
}
