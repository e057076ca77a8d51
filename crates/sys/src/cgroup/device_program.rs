//! Device rules as an eBPF program, which is how cgroup v2 guards devices (BPF_PROG_TYPE_CGROUP_DEVICE).
//!
//! The kernel calls the program with what somebody wants to open or make; 1 allows, 0 denies. Every access bit (read,
//! write, mknod) is decided by the last rule that speaks about it, and all wanted bits must be allowed. What no rule
//! opens stays closed.

use super::{DeviceKind, DeviceRule};
use rustix::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One eBPF instruction, laid out as `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high four.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const KIND: u8 = 2;
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE: u8 = 0xb7;
const SHIFT_RIGHT: u8 = 0x77;
const AND: u8 = 0x57;
const JUMP_IF_NOT: u8 = 0x55;
const JUMP_IF_SET: u8 = 0x45;
const JUMP: u8 = 0x05;
const EXIT: u8 = 0x95;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset, immediate }
}

fn answer(value: i32) -> [Instruction; 2] {
    [instruction(MOVE, 0, 0, 0, value), instruction(EXIT, 0, 0, 0, 0)]
}

/// Compiles rules, the last one first.
pub(super) fn compile(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, 1, 0, 0), // access << 16 | kind
        instruction(MOVE_REGISTER, WANTED, KIND, 0, 0),
        instruction(SHIFT_RIGHT, WANTED, 0, 0, 16),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(LOAD_WORD, MAJOR, 1, 4, 0),
        instruction(LOAD_WORD, MINOR, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        if rule.is_total() {
            // Older kernels refuse programs with code that cannot be reached, so this must be the end.
            program.extend(answer(i32::from(rule.allow)));
            return program;
        }
        program.extend(block(rule));
    }
    program.extend(answer(0));
    program
}

/// One rule: tests that jump behind the block, then the decision.
fn block(rule: &DeviceRule) -> Vec<Instruction> {
    let mut tests = Vec::new();
    match rule.kind {
        DeviceKind::All => {}
        DeviceKind::Block => tests.push((KIND, 1)),
        DeviceKind::Char => tests.push((KIND, 2)),
    }
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        let Some(number) = number else { continue };
        // Device numbers have 12 and 20 bits: a larger one never matches, nor does its rule.
        let Ok(number) = i32::try_from(number) else { return Vec::new() };
        tests.push((register, number));
    }
    let bits = rule.access.bits();
    let decision: Vec<Instruction> = if rule.allow {
        let rest = [instruction(AND, WANTED, 0, 0, !bits), instruction(JUMP_IF_NOT, WANTED, 0, 2, 0)];
        rest.into_iter().chain(answer(1)).collect()
    } else {
        let hit = [instruction(JUMP_IF_SET, WANTED, 0, 1, bits), instruction(JUMP, 0, 0, 2, 0)];
        hit.into_iter().chain(answer(0)).collect()
    };
    let mut skip = i16::try_from(tests.len() + decision.len()).unwrap_or(i16::MAX);
    let mut block = Vec::with_capacity(tests.len() + decision.len());
    for (register, value) in tests {
        skip -= 1;
        block.push(instruction(JUMP_IF_NOT, register, 0, skip, value));
    }
    block.extend(decision);
    block
}

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const PROG_QUERY: libc::c_long = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// bpf(2) with one of the structures above.
fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: each structure above is a prefix of `union bpf_attr` for its command, its size is passed along, and the
    // addresses in it point to memory that the callers keep alive during the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(io::Errno::from_io_error(&error).unwrap_or(io::Errno::INVAL));
    }
    i32::try_from(result).map_err(|_| io::Errno::INVAL)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // A descriptor that exists is not negative.
    fd.as_raw_fd().cast_unsigned()
}

/// Gives the program to the kernel's verifier.
pub(super) fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut attributes = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(|_| io::Errno::TOOBIG)?,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        name: *b"budu_devices\0\0\0\0",
        ..Load::default()
    };
    let fd = bpf(PROG_LOAD, &mut attributes)?;
    // SAFETY: BPF_PROG_LOAD returns a new descriptor (close-on-exec) that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes `program` the only device program of a group. The new one is in force before the old ones go, and since all
/// attached programs must agree, nothing is open in between that either would close.
pub(super) fn replace(group: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let old = attached(group)?;
    let new = load(program)?;
    let target = number(group);
    let mut attributes =
        Attach { target, program: number(new.as_fd()), kind: ATTACH_CGROUP_DEVICE, flags: ALLOW_MULTI };
    bpf(PROG_ATTACH, &mut attributes)?;
    for id in old {
        let fd = bpf(PROG_GET_FD_BY_ID, &mut ById { id, ..ById::default() })?;
        // SAFETY: BPF_PROG_GET_FD_BY_ID returns a new descriptor that nobody else owns.
        let old = unsafe { OwnedFd::from_raw_fd(fd) };
        bpf(PROG_DETACH, &mut Attach { target, program: number(old.as_fd()), kind: ATTACH_CGROUP_DEVICE, flags: 0 })?;
    }
    Ok(())
}

/// Ids of the device programs attached to a group.
pub(super) fn attached(group: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; 64];
    let mut query = Query {
        target: number(group),
        kind: ATTACH_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: 64,
        ..Query::default()
    };
    bpf(PROG_QUERY, &mut query)?;
    Ok(ids.into_iter().take(query.count as usize).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Access;

    fn allowed(rules: &[DeviceRule], kind: char, major: u32, minor: u32, access: &str) -> bool {
        let mut bytes = Vec::new();
        for one in compile(rules) {
            bytes.extend([one.code, one.registers]);
            bytes.extend(one.offset.to_le_bytes());
            bytes.extend(one.immediate.to_le_bytes());
        }
        let access = Access::parse(access).expect("letters").bits().cast_unsigned();
        let mut context: Vec<u8> = Vec::new();
        for word in [access << 16 | if kind == 'b' { 1 } else { 2 }, major, minor] {
            context.extend(word.to_le_bytes());
        }
        let machine = rbpf::EbpfVmRaw::new(Some(&bytes)).expect("rbpf verifies the program");
        machine.execute_program(&mut context).expect("the program ends") == 1
    }

    fn rules(text: &str) -> Vec<DeviceRule> {
        text.lines()
            .map(|line| {
                let (verb, rule) = line.trim().split_once(' ').expect("verb and rule");
                DeviceRule { allow: verb == "allow", ..rule.parse().expect("a rule") }
            })
            .collect()
    }

    #[test]
    fn only_what_is_opened_is_open() {
        let rules = rules("deny a *:* rwm\nallow c 1:3 rwm\nallow c 136:* rw\nallow b *:* m\nallow c *:* m");
        let cases = [
            ('c', 1, 3, "rwm", true),
            ('c', 1, 4, "r", false),
            ('b', 1, 3, "r", false),
            ('b', 1, 3, "m", true),
            ('c', 9, 9, "m", true),
            ('c', 9, 9, "rm", false),
            ('c', 136, 77, "rw", true),
            ('c', 136, 77, "rwm", true),
        ];
        for (kind, major, minor, access, expected) in cases {
            assert_eq!(allowed(&rules, kind, major, minor, access), expected, "{kind} {major}:{minor} {access}");
        }
    }

    #[test]
    fn the_last_rule_decides_each_bit() {
        let rules = rules("deny a *:* rwm\nallow c 1:* rw\ndeny c 1:3 w\nallow c 5:0 r\nallow c 5:0 w");
        assert!(allowed(&rules, 'c', 1, 3, "r"));
        assert!(!allowed(&rules, 'c', 1, 3, "w"));
        assert!(!allowed(&rules, 'c', 1, 3, "rw"));
        assert!(allowed(&rules, 'c', 1, 5, "rw"));
        assert!(allowed(&rules, 'c', 5, 0, "rw"));
    }

    #[test]
    fn no_rule_and_total_rules() {
        assert!(!allowed(&[], 'c', 1, 3, "r"));
        assert!(allowed(&rules("allow a *:* rwm"), 'b', 8, 0, "rwm"));
        assert!(!allowed(&rules("allow c 1:3 rwm\ndeny a *:* rwm"), 'c', 1, 3, "r"));
        assert!(!allowed(&rules("allow c 4294967295:3 rwm"), 'c', u32::MAX, 3, "r"));
    }

    #[test]
    fn every_number_in_a_range() {
        let rules = rules("deny a *:* rwm\nallow c 1:3 rwm\nallow c 1:5 rwm\nallow c 5:0 rwm\ndeny c 10:229 rwm");
        for kind in ['b', 'c'] {
            for major in 0..512 {
                for minor in 0..16 {
                    let open = kind == 'c' && matches!((major, minor), (1, 3 | 5) | (5, 0));
                    assert_eq!(allowed(&rules, kind, major, minor, "rw"), open, "{kind} {major}:{minor}");
                }
            }
        }
    }
}
