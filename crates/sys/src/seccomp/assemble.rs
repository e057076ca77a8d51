//! A small assembler that writes programs from the end to the beginning.
//!
//! Classic BPF only jumps forward, and conditional jumps reach 255 instructions. Working backwards, every target is
//! already placed when a jump to it is written, and one that is too far away is simply placed again nearby.

use super::install::Instruction;

const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const REACH: usize = 255;

/// What a conditional jump tests, on the accumulator.
#[derive(Debug, Clone, Copy)]
pub(super) enum Test {
    Equal = 0x15,          // BPF_JMP | BPF_JEQ | BPF_K
    Greater = 0x25,        // BPF_JMP | BPF_JGT | BPF_K
    GreaterOrEqual = 0x35, // BPF_JMP | BPF_JGE | BPF_K
}

/// Where a jump leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// End the program with this value.
    Return(u32),
    /// An instruction already written, by its distance from the program's end.
    At(usize),
}

#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// Last instruction first.
    reversed: Vec<Instruction>,
    /// The newest place of each return value.
    returns: Vec<(u32, usize)>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> usize {
        self.reversed.push(Instruction { code, jt, jf, k });
        self.reversed.len() - 1
    }

    /// A place for `target` that the instruction after the next `room` ones still reaches.
    fn reachable(&mut self, target: Target, room: usize) -> usize {
        match target {
            Target::Return(value) => {
                let known = self.returns.iter().position(|(known, _)| *known == value);
                if let Some(index) = known {
                    let place = self.returns[index].1;
                    if self.reversed.len() + room - place - 1 <= REACH {
                        return place;
                    }
                    self.returns.swap_remove(index);
                }
                let place = self.push(RETURN, 0, 0, value);
                self.returns.push((value, place));
                place
            }
            Target::At(place) if self.reversed.len() + room - place - 1 <= REACH => place,
            Target::At(place) => {
                let skip = self.reversed.len() - place - 1;
                self.push(JUMP, 0, 0, u32::try_from(skip).unwrap_or(u32::MAX))
            }
        }
    }

    /// Test the accumulator and go on at `yes` or `no`.
    pub(super) fn branch(&mut self, test: Test, k: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        // Placing `yes` may add one instruction between `no` and the branch.
        let no = self.reachable(no, 1);
        let yes = self.reachable(yes, 0);
        let here = self.reversed.len();
        let offset = |place: usize| u8::try_from(here - place - 1).expect("reachable() keeps targets within 255");
        let (jt, jf) = (offset(yes), offset(no));
        Target::At(self.push(test as u16, jt, jf, k))
    }

    /// Keep only the bits of `mask` in the accumulator, then go on at `next`.
    pub(super) fn and(&mut self, mask: u32, next: Target) -> Target {
        self.follow(next);
        Target::At(self.push(AND, 0, 0, mask))
    }

    /// Load a word of `struct seccomp_data` into the accumulator, then go on at `next`.
    pub(super) fn load(&mut self, offset: u32, next: Target) -> Target {
        self.follow(next);
        Target::At(self.push(LOAD_WORD, 0, 0, offset))
    }

    /// Makes `next` what an instruction written now falls through to.
    fn follow(&mut self, next: Target) {
        match next {
            Target::At(place) if place + 1 == self.reversed.len() => {}
            Target::At(place) => {
                let skip = self.reversed.len() - place - 1;
                self.push(JUMP, 0, 0, u32::try_from(skip).unwrap_or(u32::MAX));
            }
            Target::Return(value) => {
                let place = self.push(RETURN, 0, 0, value);
                self.returns.retain(|(known, _)| *known != value);
                self.returns.push((value, place));
            }
        }
    }

    /// The program that starts at `entry`, which must be the instruction written last (or a plain return).
    pub(super) fn finish(mut self, entry: Target) -> Vec<Instruction> {
        if self.reversed.is_empty() || entry != Target::At(self.reversed.len() - 1) {
            self.follow(entry);
        }
        self.reversed.reverse();
        self.reversed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_targets_are_placed_again() {
        let mut assembler = Assembler::default();
        let end = assembler.load(0, Target::Return(7));
        let mut next = end;
        for number in 0..600 {
            next = assembler.branch(Test::Equal, number, Target::Return(1), next);
            next = assembler.branch(Test::Greater, 1000 + number, end, next);
        }
        let program = assembler.finish(next);
        let mut data = [0; 64];
        for (number, expected) in [(5_u32, 1), (599, 1), (600, 7), (1001, 7), (4000, 7)] {
            data[..4].copy_from_slice(&number.to_le_bytes());
            // The accumulator must hold the number before the first test.
            let mut with_load = vec![Instruction { code: LOAD_WORD, jt: 0, jf: 0, k: 0 }];
            with_load.extend_from_slice(&program);
            assert_eq!(super::super::interpret::run(&with_load, &data), expected, "{number}");
        }
    }
}
