//! Filter to program.

use super::arch::X32_BIT;
use super::assemble::{Assembler, Target, Test};
use super::multiplex::multiplexed;
use super::narrow::is_narrow;
use super::{Action, Arch, Arg, Error, Filter, Op, Program};
use std::collections::BTreeMap;

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;
const MAX_INSTRUCTIONS: usize = 4096;
const ENOSYS: Action = Action::Errno(38);
/// 32-bit ARM keeps a few calls of its own far above the others.
const ARM_PRIVATE: u32 = 0x000f_0000;

/// Compiles a filter for the kernel. Calls are found by binary search over ranges of numbers that share their fate, so
/// that a call costs about seven comparisons and the kernel's own scan of the program at installation stays short.
///
/// # Errors
/// See [`Error`].
pub fn compile(filter: &Filter) -> Result<Program, Error> {
    if filter.default == Action::Notify {
        return Err(Error::NotifyByDefault);
    }
    for rule in &filter.rules {
        if let Some(arg) = rule.args.iter().find(|arg| arg.index > 5) {
            let syscall = rule.syscalls.first().cloned().unwrap_or_default();
            return Err(Error::ArgumentIndex { syscall, index: arg.index });
        }
    }
    let arches: Vec<Arch> =
        if filter.arches.is_empty() { Arch::native().into_iter().collect() } else { filter.arches.clone() };
    let mut audits: Vec<u32> = Vec::new();
    for arch in &arches {
        if !audits.contains(&arch.audit()) {
            audits.push(arch.audit());
        }
    }
    let mut assembler = Assembler::default();
    let foreign = Target::Return(Action::KillProcess.encode());
    let mut next = foreign;
    for audit in audits.into_iter().rev() {
        let members: Vec<Arch> = arches.iter().copied().filter(|arch| arch.audit() == audit).collect();
        let section = section(&mut assembler, filter, audit, &members, foreign);
        next = assembler.branch(Test::Equal, audit, section, next);
    }
    let entry = assembler.load(OFFSET_ARCH, next);
    let instructions = assembler.finish(entry);
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLarge { instructions: instructions.len() });
    }
    let notifies = filter.rules.iter().any(|rule| rule.action == Action::Notify);
    Ok(Program { instructions, flags: filter.flags, notifies })
}

/// Everything for one audit value, starting with the load of the call's number.
fn section(asm: &mut Assembler, filter: &Filter, audit: u32, members: &[Arch], foreign: Target) -> Target {
    if audit != Arch::X86_64.audit() {
        let ranges = members.first().map(|arch| ranges(filter, *arch)).unwrap_or_default();
        let big_endian = members.first().is_some_and(|arch| arch.is_big_endian());
        let search = search(asm, &ranges, big_endian, filter.default);
        return asm.load(OFFSET_NUMBER, search);
    }
    let part = |asm: &mut Assembler, arch: Arch| {
        if members.contains(&arch) { search(asm, &ranges(filter, arch), false, filter.default) } else { foreign }
    };
    let narrow = part(asm, Arch::X32);
    let wide = part(asm, Arch::X86_64);
    // A tracer that skips a call leaves -1 here: that is not an x32 call.
    let marked = asm.branch(Test::Equal, u32::MAX, wide, narrow);
    let split = asm.branch(Test::GreaterOrEqual, X32_BIT, marked, wide);
    asm.load(OFFSET_NUMBER, split)
}

/// What happens to one call number.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Always(Action),
    /// The first alternative whose conditions all hold; otherwise the default.
    When(Vec<(Vec<Condition>, Action)>),
}

/// One condition, and how much of the argument the kernel looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Condition {
    arg: Arg,
    /// Only the lower 32 bits count.
    narrow: bool,
}

/// The fate of every number of one architecture, as ranges: each starts at its number and ends before the next one.
fn ranges(filter: &Filter, arch: Arch) -> Vec<(u32, Fate)> {
    let fates = fates(filter, arch);
    let mut ranges = vec![(0, Fate::Always(filter.default))];
    let mut add = |start: u32, fate: Fate| {
        if ranges.last().is_some_and(|(last, _)| *last == start) {
            ranges.pop();
        }
        if ranges.last().is_none_or(|(_, last)| *last != fate) {
            ranges.push((start, fate));
        }
    };
    let newest = newest(filter, arch);
    let (known, private): (Vec<_>, Vec<_>) =
        fates.into_iter().partition(|(number, _)| newest.is_none_or(|newest| *number <= newest));
    for (number, fate) in known {
        add(number, fate);
        add(number + 1, Fate::Always(filter.default));
    }
    if let Some(newest) = newest {
        add(newest + 1, Fate::Always(ENOSYS));
    }
    if arch == Arch::Arm && newest.is_some() {
        add(ARM_PRIVATE, Fate::Always(filter.default));
    }
    for (number, fate) in private {
        add(number, fate);
        add(number + 1, Fate::Always(filter.default));
    }
    ranges
}

/// The highest number that the filter names, if numbers above it shall answer `ENOSYS`.
fn newest(filter: &Filter, arch: Arch) -> Option<u32> {
    if filter.default.lets_through() || filter.default == ENOSYS {
        return None;
    }
    let named = filter.rules.iter().flat_map(|rule| &rule.syscalls).filter_map(|name| arch.number(name));
    named.filter(|number| arch != Arch::Arm || *number < ARM_PRIVATE).max()
}

fn fates(filter: &Filter, arch: Arch) -> BTreeMap<u32, Fate> {
    let mut fates = BTreeMap::new();
    if arch == Arch::S390x && !filter.default.lets_through() {
        // Call 0 is how this architecture reports a number it does not know.
        fates.insert(0, Fate::Always(ENOSYS));
    }
    for rule in filter.rules.iter().filter(|rule| rule.action != filter.default) {
        for name in &rule.syscalls {
            if let Some(number) = arch.number(name) {
                let condition = |arg: &Arg| {
                    let narrow = !arch.is_64_bit() || is_narrow(name, arg.index);
                    Condition { arg: *arg, narrow }
                };
                for alternative in alternatives(&rule.args) {
                    add_fate(&mut fates, number, alternative.iter().map(condition).collect(), rule.action);
                }
            }
            if rule.args.is_empty()
                && let Some((number, arg)) = multiplexed(arch, name)
            {
                add_fate(&mut fates, number, vec![Condition { arg, narrow: true }], rule.action);
            }
        }
    }
    fates
}

/// A rule's conditions as sets that must hold together: one set, or one per condition when an argument comes twice.
fn alternatives(args: &[Arg]) -> Vec<Vec<Arg>> {
    let repeated = args.iter().enumerate().any(|(at, arg)| args[..at].iter().any(|other| other.index == arg.index));
    if repeated { args.iter().map(|arg| vec![*arg]).collect() } else { vec![args.to_vec()] }
}

fn add_fate(fates: &mut BTreeMap<u32, Fate>, number: u32, conditions: Vec<Condition>, action: Action) {
    match fates.get_mut(&number) {
        Some(Fate::Always(_)) => {}
        Some(Fate::When(list)) if !conditions.is_empty() => list.push((conditions, action)),
        _ if conditions.is_empty() => {
            fates.insert(number, Fate::Always(action));
        }
        _ => {
            fates.insert(number, Fate::When(vec![(conditions, action)]));
        }
    }
}

/// Binary search for the accumulator's number.
fn search(asm: &mut Assembler, ranges: &[(u32, Fate)], big_endian: bool, default: Action) -> Target {
    let leaves: Vec<(u32, Target)> = ranges
        .iter()
        .map(|(start, fate)| {
            let target = match fate {
                Fate::Always(action) => Target::Return(action.encode()),
                Fate::When(list) => conditions(asm, list, big_endian, default),
            };
            (*start, target)
        })
        .collect();
    if leaves.is_empty() { Target::Return(default.encode()) } else { split(asm, &leaves) }
}

fn split(asm: &mut Assembler, leaves: &[(u32, Target)]) -> Target {
    if let [(_, only)] = leaves {
        return *only;
    }
    let (low, high) = leaves.split_at(leaves.len() / 2);
    let start = high[0].0;
    let high = split(asm, high);
    let low = split(asm, low);
    asm.branch(Test::GreaterOrEqual, start, high, low)
}

fn conditions(asm: &mut Assembler, list: &[(Vec<Condition>, Action)], big_endian: bool, default: Action) -> Target {
    let mut miss = Target::Return(default.encode());
    for (set, action) in list.iter().rev() {
        let mut hit = Target::Return(action.encode());
        for condition in set.iter().rev() {
            hit = compare(asm, *condition, big_endian, hit, miss);
        }
        miss = hit;
    }
    miss
}

/// Loads and compares one argument.
fn compare(asm: &mut Assembler, condition: Condition, big_endian: bool, yes: Target, no: Target) -> Target {
    let Condition { arg, narrow } = condition;
    let (yes, no) = match arg.op {
        Op::NotEqual | Op::Less | Op::LessOrEqual => (no, yes),
        Op::Equal | Op::GreaterOrEqual | Op::Greater | Op::MaskedEqual => (yes, no),
    };
    let base = OFFSET_ARGS + 8 * u32::from(arg.index);
    let (low, high) = if big_endian { (base + 4, base) } else { (base, base + 4) };
    let (high_value, low_value) = halves(arg.value);
    if arg.op == Op::MaskedEqual {
        let (high_expected, low_expected) = halves(arg.value_two & arg.value);
        let test = masked(asm, low, low_value, low_expected, yes, no);
        return if narrow { test } else { masked(asm, high, high_value, high_expected, test, no) };
    }
    let strict = matches!(arg.op, Op::Greater | Op::LessOrEqual);
    let equality = matches!(arg.op, Op::Equal | Op::NotEqual);
    let operator = match (equality, strict) {
        (true, _) => Test::Equal,
        (_, true) => Test::Greater,
        _ => Test::GreaterOrEqual,
    };
    if narrow {
        // A negative number is written with all upper bits set; any other value this large is never reached.
        let negative = high_value == u32::MAX && low_value > u32::MAX / 2;
        if high_value != 0 && !negative {
            return no;
        }
        let test = asm.branch(operator, low_value, yes, no);
        return asm.load(low, test);
    }
    let test = asm.branch(operator, low_value, yes, no);
    let test = asm.load(low, test);
    let mut test = asm.branch(Test::Equal, high_value, test, no);
    if !equality {
        test = asm.branch(Test::Greater, high_value, yes, test);
    }
    asm.load(high, test)
}

/// Loads one half of an argument, masks and compares it; nothing at all when the mask is empty.
fn masked(asm: &mut Assembler, offset: u32, mask: u32, expected: u32, yes: Target, no: Target) -> Target {
    if mask == 0 {
        return yes;
    }
    let test = asm.branch(Test::Equal, expected, yes, no);
    let test = if mask == u32::MAX { test } else { asm.and(mask, test) };
    asm.load(offset, test)
}

/// Upper and lower half.
fn halves(value: u64) -> (u32, u32) {
    let bytes = value.to_be_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}
