//! The few eBPF instructions that guard devices in the unified hierarchy, and how they get there.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use crate::sys;

/// One eBPF instruction, as the kernel lays it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb4;
const UNLESS_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

impl Instruction {
    const fn new(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Self {
        Self { code, registers: from << 4 | to, offset, immediate }
    }

    /// `to = *(u32 *)(from + offset)`
    pub(super) const fn load(to: u8, from: u8, offset: i16) -> Self {
        Self::new(LOAD_WORD, to, from, offset, 0)
    }

    /// `to &= value`, 32 bits
    pub(super) const fn and(to: u8, value: i32) -> Self {
        Self::new(AND, to, 0, 0, value)
    }

    /// `to >>= value`, 32 bits
    pub(super) const fn shift_right(to: u8, value: i32) -> Self {
        Self::new(SHIFT_RIGHT, to, 0, 0, value)
    }

    /// `to = from`, 32 bits
    pub(super) const fn copy(to: u8, from: u8) -> Self {
        Self::new(COPY, to, from, 0, 0)
    }

    /// `to = value`, 32 bits
    pub(super) const fn set(to: u8, value: i32) -> Self {
        Self::new(SET, to, 0, 0, value)
    }

    /// Jumps over `offset` instructions unless the register has the value, 32 bits.
    pub(super) const fn unless_equal(register: u8, value: i32, offset: i16) -> Self {
        Self::new(UNLESS_EQUAL, register, 0, offset, value)
    }

    /// Ends with register 0 as the answer.
    pub(super) const fn exit() -> Self {
        Self::new(EXIT, 0, 0, 0, 0)
    }

    /// Sets how far a conditional jump goes; leaves other instructions alone.
    pub(super) fn jump_if_conditional(&mut self, distance: usize) {
        if self.code == UNLESS_EQUAL {
            self.offset = i16::try_from(distance).expect("a rule has a handful of checks");
        }
    }
}

/// Loads a device program and attaches it to a group of the unified hierarchy. The group keeps it.
pub(super) fn attach(folder: &Path, program: &[Instruction]) -> io::Result<()> {
    let group = File::open(folder)?;
    let loaded = sys::bpf_load_device_program(program)?;
    sys::bpf_attach_device_program(group.as_fd(), loaded.as_fd())
}

/// Runs a program on a context of words, for tests.
#[cfg(test)]
pub(super) fn interpret(program: &[Instruction], context: &[u32]) -> u32 {
    let mut registers = [0_u32; 11];
    let mut at = 0_usize;
    loop {
        let instruction = program[at];
        let to = usize::from(instruction.registers & 0xf);
        let from = usize::from(instruction.registers >> 4);
        let value = instruction.immediate.cast_unsigned();
        at += 1;
        match instruction.code {
            LOAD_WORD => {
                assert_eq!(from, 1);
                registers[to] = context[usize::try_from(instruction.offset).unwrap() / 4];
            }
            AND => registers[to] &= value,
            SHIFT_RIGHT => registers[to] >>= value,
            COPY => registers[to] = registers[from],
            SET => registers[to] = value,
            UNLESS_EQUAL => {
                if registers[to] != value {
                    at += usize::try_from(instruction.offset).unwrap();
                }
            }
            EXIT => return registers[0],
            other => panic!("instruction {other:#x}"),
        }
    }
}
