//! Which devices a container may make and open.

use serde::{Deserialize, Serialize};

use super::Write;
use super::bpf::Instruction;

/// One thing that is allowed; everything else is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the kernel's own four yes-or-no questions")]
pub struct DeviceRule {
    /// Whether it is a block device, not a character device.
    pub block: bool,
    /// The major number; `None` is any.
    pub major: Option<u32>,
    /// The minor number; `None` is any.
    pub minor: Option<u32>,
    /// Whether it may be opened for reading.
    pub read: bool,
    /// Whether it may be opened for writing.
    pub write: bool,
    /// Whether a device node may be made.
    pub make: bool,
}

impl DeviceRule {
    const fn character(major: u32, minor: Option<u32>) -> Self {
        let (read, write, make) = (true, true, true);
        Self { block: false, major: Some(major), minor, read, write, make }
    }

    const fn any_node(block: bool) -> Self {
        Self { block, major: None, minor: None, read: false, write: false, make: true }
    }

    /// What every container may use: any node may be made, and null, zero, full, random, urandom, tty
    /// and terminals opened.
    #[must_use]
    pub const fn defaults() -> [Self; 10] {
        [
            Self::any_node(false),
            Self::any_node(true),
            Self::character(1, Some(3)),
            Self::character(1, Some(5)),
            Self::character(1, Some(7)),
            Self::character(1, Some(8)),
            Self::character(1, Some(9)),
            Self::character(5, Some(0)),
            Self::character(5, Some(2)),
            Self::character(136, None),
        ]
    }
}

/// Control files of the v1 hierarchy: first nothing, then what is allowed.
pub(super) fn v1(rules: &[DeviceRule]) -> Vec<Write> {
    let number = |number: Option<u32>| number.map_or("*".into(), |number| number.to_string());
    let allow = |rule: &DeviceRule| {
        let kind = if rule.block { 'b' } else { 'c' };
        let (major, minor) = (number(rule.major), number(rule.minor));
        let mut value = format!("{kind} {major}:{minor} ");
        let access = [(rule.read, 'r'), (rule.write, 'w'), (rule.make, 'm')];
        value.extend(access.iter().filter(|(allowed, _)| *allowed).map(|(_, letter)| letter));
        Write::new("devices.allow", value)
    };
    std::iter::once(Write::new("devices.deny", "a")).chain(rules.iter().map(allow)).collect()
}

/// The kernel's words for kinds and access in the context of a device program.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// The program of the unified hierarchy: it answers 1 for what is allowed.
pub(super) fn v2(rules: &[DeviceRule]) -> Vec<Instruction> {
    // r2 = kind, r3 = access, r4 = major, r5 = minor; the context has access << 16 | kind, major, minor.
    let mut program = vec![
        Instruction::load(2, 1, 0),
        Instruction::and(2, 0xffff),
        Instruction::load(3, 1, 0),
        Instruction::shift_right(3, 16),
        Instruction::load(4, 1, 4),
        Instruction::load(5, 1, 8),
    ];
    for rule in rules {
        program.extend(one_rule(rule));
    }
    program.extend([Instruction::set(0, 0), Instruction::exit()]);
    program
}

fn one_rule(rule: &DeviceRule) -> Vec<Instruction> {
    let kind = if rule.block { BLOCK } else { CHARACTER };
    let access = [(rule.read, READ), (rule.write, WRITE), (rule.make, MAKE)];
    let refused: i32 = access.iter().filter(|(allowed, _)| !allowed).map(|(_, bit)| bit).sum();
    let mut checks = vec![Instruction::unless_equal(2, kind, 0)];
    if refused != 0 {
        checks.push(Instruction::copy(1, 3));
        checks.push(Instruction::and(1, refused));
        checks.push(Instruction::unless_equal(1, 0, 0));
    }
    for (register, number) in [(4, rule.major), (5, rule.minor)] {
        if let Some(number) = number {
            checks.push(Instruction::unless_equal(register, number.cast_signed(), 0));
        }
    }
    // A check that fails goes to the next rule: past the rest of the checks and the two that allow.
    let length = checks.len();
    for (index, check) in checks.iter_mut().enumerate() {
        check.jump_if_conditional(length - index - 1 + 2);
    }
    checks.extend([Instruction::set(0, 1), Instruction::exit()]);
    checks
}

#[cfg(test)]
mod tests {
    use super::super::bpf::interpret;
    use super::*;

    fn allows(rules: &[DeviceRule], block: bool, major: u32, minor: u32, access: i32) -> bool {
        let kind = if block { BLOCK } else { CHARACTER };
        let first = u32::try_from(access << 16 | kind).unwrap();
        interpret(&v2(rules), &[first, major, minor]) == 1
    }

    #[test]
    fn v1_denies_all_and_allows_the_list() {
        let writes = v1(&DeviceRule::defaults());
        assert_eq!(writes[0], Write::new("devices.deny", "a"));
        assert_eq!(writes[1], Write::new("devices.allow", "c *:* m"));
        assert_eq!(writes[3], Write::new("devices.allow", "c 1:3 rwm"));
        assert_eq!(writes.last(), Some(&Write::new("devices.allow", "c 136:* rwm")));
    }

    #[test]
    fn the_program_allows_exactly_the_list() {
        let rules = DeviceRule::defaults();
        for (block, major, minor, access, wanted) in [
            (false, 1, 3, READ | WRITE, true),
            (false, 1, 3, READ | WRITE | MAKE, true),
            (false, 1, 1, READ, false),
            (false, 1, 1, MAKE, true),
            (true, 8, 0, MAKE, true),
            (true, 8, 0, READ, false),
            (true, 1, 3, WRITE, false),
            (false, 136, 77, READ | WRITE, true),
            (false, 10, 200, READ, false),
        ] {
            let got = allows(&rules, block, major, minor, access);
            assert_eq!(got, wanted, "block {block} {major}:{minor} access {access}");
        }
        assert!(!allows(&[], false, 1, 3, READ));
    }
}
