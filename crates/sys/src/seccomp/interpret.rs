//! Runs a program the way the kernel does: for tests of profiles, and to explain a verdict.

use super::install::{Instruction, Program};
use super::{Arch, tables};

impl Program {
    /// What the kernel would be told about this call: the value of [`super::Action::encode`]. `None` when `arch` has no
    /// such call. Only meaningful on a little-endian host or for a big-endian `arch` on its own host.
    pub fn evaluate(&self, arch: Arch, call: &str, args: [u64; 6]) -> Option<u32> {
        Some(self.evaluate_number(arch, tables::number(arch, call)?, args))
    }

    /// The same by number.
    pub fn evaluate_number(&self, arch: Arch, number: u32, args: [u64; 6]) -> u32 {
        run(&self.instructions, &data(number, arch.audit(), args))
    }
}

/// The value the program returns for `data` (`struct seccomp_data` of a little-endian host).
///
/// # Panics
/// On what no seccomp compiler emits.
pub(super) fn run(program: &[Instruction], data: &[u8; 64]) -> u32 {
    let mut accumulator = 0_u32;
    let mut index = 0_u32;
    let mut scratch = [0_u32; 16];
    let mut at = 0;
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let branch = |taken: bool| usize::from(if taken { jt } else { jf });
        match code {
            0x20 => {
                let offset = k as usize;
                assert!(offset.is_multiple_of(4) && offset < 64, "load outside seccomp_data: {offset}");
                accumulator = u32::from_le_bytes([data[offset], data[offset + 1], data[offset + 2], data[offset + 3]]);
            }
            0x00 => accumulator = k,
            0x01 => index = k,
            0x60 => accumulator = scratch[k as usize],
            0x02 => scratch[k as usize] = accumulator,
            0x07 => index = accumulator,
            0x87 => accumulator = index,
            0x54 => accumulator &= k,
            0x44 => accumulator |= k,
            0x05 => at += k as usize,
            0x15 => at += branch(accumulator == k),
            0x25 => at += branch(accumulator > k),
            0x35 => at += branch(accumulator >= k),
            0x45 => at += branch(accumulator & k != 0),
            0x06 => return k,
            0x16 => return accumulator,
            other => panic!("instruction {other:#x} is not used by seccomp compilers"),
        }
    }
}

/// `struct seccomp_data` of a little-endian host.
pub(super) fn data(number: u32, audit: u32, args: [u64; 6]) -> [u8; 64] {
    let mut data = [0; 64];
    data[..4].copy_from_slice(&number.to_le_bytes());
    data[4..8].copy_from_slice(&audit.to_le_bytes());
    for (index, arg) in args.iter().enumerate() {
        data[16 + 8 * index..24 + 8 * index].copy_from_slice(&arg.to_le_bytes());
    }
    data
}
