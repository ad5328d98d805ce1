//! Compares filters with what their profiles say, by running the filters.

use oci_spec::runtime::{
    LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscallBuilder,
};
use proptest::prelude::*;

use super::*;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const NO_SUCH_CALL: u32 = ERRNO + 38;
const KILL_PROCESS: u32 = 0x8000_0000;

#[derive(Debug, Clone, Copy)]
struct Call {
    architecture: u32,
    number: u32,
    arguments: [u64; 6],
}

/// Runs a filter as the kernel does.
fn run(filter: &[Filter], call: &Call) -> u32 {
    let load = |offset: u32| match offset {
        0 => call.number,
        4 => call.architecture,
        _ => {
            let at = (offset - 16) as usize;
            let argument = call.arguments[at / 8];
            u32::try_from(if at % 8 == 4 { argument >> 32 } else { argument & 0xffff_ffff })
                .unwrap()
        }
    };
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let Filter { code, jt, jf, k } = filter[at];
        at += 1;
        let mut branch = |taken: bool| at += usize::from(if taken { jt } else { jf });
        match u32::from(code) {
            0x20 => accumulator = load(k),
            0x54 => accumulator &= k,
            0x06 => return k,
            0x05 => at += k as usize,
            0x15 => branch(accumulator == k),
            0x25 => branch(accumulator > k),
            0x35 => branch(accumulator >= k),
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn holds(condition: &LinuxSeccompArg, arguments: &[u64; 6]) -> bool {
    let (argument, value) = (arguments[condition.index()], condition.value());
    match condition.op() {
        LinuxSeccompOperator::ScmpCmpNe => argument != value,
        LinuxSeccompOperator::ScmpCmpLt => argument < value,
        LinuxSeccompOperator::ScmpCmpLe => argument <= value,
        LinuxSeccompOperator::ScmpCmpEq => argument == value,
        LinuxSeccompOperator::ScmpCmpGe => argument >= value,
        LinuxSeccompOperator::ScmpCmpGt => argument > value,
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            argument & value == condition.value_two().unwrap_or(0)
        }
    }
}

/// What a profile says about a call, read plainly.
fn judge(architecture: Architecture, table: &Table, profile: &LinuxSeccomp, call: &Call) -> u32 {
    if call.architecture != architecture.audit() {
        return KILL_PROCESS;
    }
    let default = profile.default_action().as_u32(profile.default_errno_ret());
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    let names_of =
        |rule: &LinuxSyscall| rule.names().iter().filter_map(|name| table.number(name)).collect();
    let newest = rules.iter().flat_map(|rule| -> Vec<u32> { names_of(rule) }).max().unwrap_or(0);
    let is_x32 = architecture == Architecture::X86_64 && call.number >= 0x4000_0000;
    let by_errno = profile.default_action() == LinuxSeccompAction::ScmpActErrno;
    if is_x32 {
        let harsh = profile.default_action().as_u32(None) == KILL_PROCESS;
        return if harsh { default } else { NO_SUCH_CALL };
    }
    if by_errno && newest > 0 && call.number > newest {
        return NO_SUCH_CALL;
    }
    let about = |rule: &&LinuxSyscall| -> bool {
        let numbers: Vec<u32> = names_of(rule);
        numbers.contains(&call.number) && rule.action().as_u32(rule.errno_ret()) != default
    };
    let plain =
        rules.iter().filter(about).find(|rule| rule.args().as_deref().unwrap_or(&[]).is_empty());
    if let Some(rule) = plain {
        return rule.action().as_u32(rule.errno_ret());
    }
    for rule in rules.iter().filter(about) {
        let conditions = rule.args().as_deref().unwrap();
        let mut indexes: Vec<_> = conditions.iter().map(LinuxSeccompArg::index).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let matches = if indexes.len() == conditions.len() {
            conditions.iter().all(|condition| holds(condition, &call.arguments))
        } else {
            conditions.iter().any(|condition| holds(condition, &call.arguments))
        };
        if matches {
            return rule.action().as_u32(rule.errno_ret());
        }
    }
    default
}

fn call(number: u32, first: u64) -> Call {
    let architecture = Architecture::X86_64.audit();
    Call { architecture, number, arguments: [first, 0, 0, 0, 0, 0] }
}

fn decide(bounding: u64, name: &str, first: u64) -> u32 {
    let profile = default::profile(bounding, Some(Architecture::X86_64));
    let program = compile_for(Architecture::X86_64, &profile).unwrap();
    let number = Table::of(Architecture::X86_64).number(name).unwrap();
    run(program.filter(), &call(number, first))
}

#[test]
fn the_default_profile_does_what_dockers_does() {
    let admin = 1 << 21;
    for (bounding, name, first, wanted) in [
        (0, "read", 0, ALLOW),
        (0, "ptrace", 0, ALLOW),
        (0, "mount", 0, ERRNO | 1),
        (admin, "mount", 0, ALLOW),
        (0, "keyctl", 0, ERRNO | 1),
        (0, "clone3", 0, NO_SUCH_CALL),
        (admin, "clone3", 0, ALLOW),
        (0, "clone", 0x11, ALLOW),
        (0, "clone", 0x1000_0011, ERRNO | 1),
        (0, "clone", 0x2_0011, ERRNO | 1),
        (admin, "clone", 0x1000_0011, ALLOW),
        (0, "socket", 2, ALLOW),
        (0, "socket", 10, ALLOW),
        (0, "socket", 16, ALLOW),
        (0, "socket", 38, ERRNO | 1),
        (0, "socket", 40, ERRNO | 1),
        (0, "personality", 0, ALLOW),
        (0, "personality", 0x4_0000, ERRNO | 1),
        (0, "bpf", 0, ERRNO | 1),
        (1 << 39, "bpf", 0, ALLOW),
        (0, "chroot", 0, ERRNO | 1),
        (1 << 18, "chroot", 0, ALLOW),
        (0, "arch_prctl", 0, ALLOW),
        (0, "io_uring_setup", 0, ERRNO | 1),
    ] {
        let got = decide(bounding, name, first);
        assert_eq!(got, wanted, "{name}({first:#x}) with {bounding:#x}: {got:#x}");
    }
}

#[test]
fn other_ways_into_the_kernel_are_closed() {
    let profile = default::profile(0, Some(Architecture::X86_64));
    let program = compile_for(Architecture::X86_64, &profile).unwrap();
    assert_eq!(run(program.filter(), &call(0x4000_0000, 0)), NO_SUCH_CALL);
    assert_eq!(run(program.filter(), &call(0x4000_0000 + 520, 0)), NO_SUCH_CALL);
    assert_eq!(run(program.filter(), &call(999, 0)), NO_SUCH_CALL);
    let i386 = Call { architecture: 0x4000_0003, ..call(11, 0) };
    assert_eq!(run(program.filter(), &i386), KILL_PROCESS);
}

#[test]
fn every_name_in_the_default_profile_exists_somewhere() {
    let tables = [Table::of(Architecture::X86_64), Table::of(Architecture::Aarch64)];
    for architecture in [Architecture::X86_64, Architecture::Aarch64] {
        let profile = default::profile(u64::MAX, Some(architecture));
        for name in profile.syscalls().as_ref().unwrap().iter().flat_map(LinuxSyscall::names) {
            assert!(tables.iter().any(|table| table.number(name).is_some()), "{name}");
        }
    }
}

#[test]
fn the_default_profile_agrees_with_its_filter_on_every_call() {
    for architecture in [Architecture::X86_64, Architecture::Aarch64] {
        let table = Table::of(architecture);
        for bounding in [0, 1 << 21, 0xa804_25fb, u64::MAX] {
            let profile = default::profile(bounding, Some(architecture));
            let program = compile_for(architecture, &profile).unwrap();
            assert!(program.filter().len() < 700, "{}", program.filter().len());
            for number in (0..480).chain([0x4000_0000, u32::MAX]) {
                for first in [16, 38, 0x1000_0000] {
                    let call = Call { architecture: architecture.audit(), ..call(number, first) };
                    let wanted = judge(architecture, &table, &profile, &call);
                    assert_eq!(run(program.filter(), &call), wanted, "{call:?}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_compiled_is_named() {
    let with = |arguments: Vec<LinuxSeccompArg>, errno: u32| {
        let rule = LinuxSyscallBuilder::default()
            .names(vec!["read".to_owned(), "no_such_call".to_owned()])
            .action(LinuxSeccompAction::ScmpActErrno)
            .errno_ret(errno)
            .args(arguments)
            .build()
            .unwrap();
        LinuxSeccompBuilder::default()
            .default_action(LinuxSeccompAction::ScmpActAllow)
            .syscalls(vec![rule])
            .build()
            .unwrap()
    };
    let seventh = LinuxSeccompArgBuilder::default()
        .index(6_usize)
        .value(1_u64)
        .op(LinuxSeccompOperator::ScmpCmpEq)
        .build()
        .unwrap();
    let error = compile(&with(vec![seventh], 1)).unwrap_err();
    assert_eq!(error, SeccompError::Argument { call: "read".into(), index: 6 });
    assert_eq!(compile(&with(vec![], 5000)).unwrap_err(), SeccompError::Errno(5000));
    assert!(compile(&with(vec![], 5)).is_ok());
}

#[test]
fn notifications_are_compiled_and_known() {
    let rule = LinuxSyscallBuilder::default()
        .names(vec!["mount".to_owned()])
        .action(LinuxSeccompAction::ScmpActNotify)
        .build()
        .unwrap();
    let profile = LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActAllow)
        .syscalls(vec![rule])
        .build()
        .unwrap();
    let program = compile_for(Architecture::X86_64, &profile).unwrap();
    assert!(program.notifies());
    assert_eq!(run(program.filter(), &call(165, 0)), 0x7fc0_0000);
    assert_eq!(run(program.filter(), &call(166, 0)), ALLOW);
}

fn values() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..4, any::<u64>(), Just(1 << 32), Just((1 << 32) + 1), Just(u64::MAX)]
}

fn conditions() -> impl Strategy<Value = Vec<LinuxSeccompArg>> {
    let operator = prop::sample::select(vec![
        LinuxSeccompOperator::ScmpCmpNe,
        LinuxSeccompOperator::ScmpCmpLt,
        LinuxSeccompOperator::ScmpCmpLe,
        LinuxSeccompOperator::ScmpCmpEq,
        LinuxSeccompOperator::ScmpCmpGe,
        LinuxSeccompOperator::ScmpCmpGt,
        LinuxSeccompOperator::ScmpCmpMaskedEq,
    ]);
    let one = (0_usize..3, values(), prop::option::of(values()), operator).prop_map(
        |(index, value, two, op)| {
            let builder = LinuxSeccompArgBuilder::default().index(index).value(value).op(op);
            match two {
                Some(two) => builder.value_two(two).build().unwrap(),
                None => builder.build().unwrap(),
            }
        },
    );
    prop::collection::vec(one, 0..4)
}

fn rules() -> impl Strategy<Value = Vec<LinuxSyscall>> {
    let names = prop::collection::vec(
        prop::sample::select(vec!["read", "write", "open", "close", "mmap", "clone3", "gone"]),
        1..4,
    );
    let action = prop::sample::select(vec![
        (LinuxSeccompAction::ScmpActAllow, None),
        (LinuxSeccompAction::ScmpActErrno, Some(1_u32)),
        (LinuxSeccompAction::ScmpActErrno, Some(13_u32)),
        (LinuxSeccompAction::ScmpActKillProcess, None),
    ]);
    let one = (names, action, conditions()).prop_map(|(names, (action, errno), conditions)| {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let builder = LinuxSyscallBuilder::default().names(names).action(action).args(conditions);
        match errno {
            Some(errno) => builder.errno_ret(errno).build().unwrap(),
            None => builder.build().unwrap(),
        }
    });
    prop::collection::vec(one, 0..12)
}

proptest! {
    #[test]
    fn a_filter_does_what_its_profile_says(
        rules in rules(),
        default in prop::sample::select(vec![
            (LinuxSeccompAction::ScmpActAllow, None),
            (LinuxSeccompAction::ScmpActErrno, Some(1_u32)),
            (LinuxSeccompAction::ScmpActKillProcess, None),
        ]),
        calls in prop::collection::vec((0_u32..440, values(), values(), values()), 12),
        x86_64 in any::<bool>(),
    ) {
        let architecture = if x86_64 { Architecture::X86_64 } else { Architecture::Aarch64 };
        let mut builder = LinuxSeccompBuilder::default().default_action(default.0).syscalls(rules);
        if let Some(errno) = default.1 {
            builder = builder.default_errno_ret(errno);
        }
        let profile = builder.build().unwrap();
        let table = Table::of(architecture);
        let program = compile_for(architecture, &profile).unwrap();
        let named = ["read", "write", "open", "close", "mmap", "clone3"];
        let known = named.iter().filter_map(|name| table.number(name));
        for (number, a, b, c) in calls {
            for number in known.clone().chain([number, 0x4000_0000 + number]) {
                let arguments = [a, b, c, 0, 0, 0];
                let call = Call { architecture: architecture.audit(), number, arguments };
                let wanted = judge(architecture, &table, &profile, &call);
                prop_assert_eq!(run(program.filter(), &call), wanted, "{:?}", call);
            }
        }
    }
}
