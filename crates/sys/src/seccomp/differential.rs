//! The same filter through libseccomp and through [`compile`]: the same verdict for every call.
//!
//! Only built for tests; needs gcc and libseccomp.so.2 and says so when they are missing.

use super::interpret::{data, run};
use super::narrow::is_narrow;
use super::{Action, Arch, Arg, Filter, Flags, Instruction, Op, Rule, compile};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The reference compiler, built once per test. `Err` says why there is none.
fn reference() -> Result<PathBuf, String> {
    let library = Path::new("/usr/lib/x86_64-linux-gnu/libseccomp.so.2");
    if !library.exists() {
        return Err(format!("{} is not installed (package libseccomp2)", library.display()));
    }
    let program =
        std::env::temp_dir().join(format!("budu-libseccomp-{}-{:?}", std::process::id(), std::thread::current().id()));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/seccomp/differential.c");
    let status = Command::new("gcc").args(["-O1", "-o"]).arg(&program).arg(source).arg(library).status();
    match status {
        Ok(status) if status.success() => Ok(program),
        Ok(status) => Err(format!("gcc failed: {status}")),
        Err(error) => Err(format!("gcc: {error}")),
    }
}

/// What libseccomp calls an architecture: the audit value, except for x32.
fn token(arch: Arch) -> u32 {
    if arch == Arch::X32 { 0x4000_003e } else { arch.audit() }
}

fn operator(op: Op) -> u32 {
    match op {
        Op::NotEqual => 1,
        Op::Less => 2,
        Op::LessOrEqual => 3,
        Op::Equal => 4,
        Op::GreaterOrEqual => 5,
        Op::Greater => 6,
        Op::MaskedEqual => 7,
    }
}

fn libseccomp(reference: &Path, filter: &Filter) -> Vec<Instruction> {
    let mut text = format!("default {}\n", filter.default.encode());
    for arch in &filter.arches {
        writeln!(text, "arch {}", token(*arch)).expect("a string");
    }
    for rule in &filter.rules {
        for name in &rule.syscalls {
            write!(text, "rule {} {name} {}", rule.action.encode(), rule.args.len()).expect("a string");
            for arg in &rule.args {
                write!(text, " {} {} {} {}", arg.index, operator(arg.op), arg.value, arg.value_two).expect("a string");
            }
            text.push('\n');
        }
    }
    let mut child = Command::new(reference)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program that was just built runs");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads everything");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "libseccomp refused:\n{text}");
    let (instructions, rest) = output.stdout.as_chunks::<8>();
    assert!(rest.is_empty(), "whole instructions");
    let read = |&[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Instruction {
        code: u16::from_ne_bytes([c0, c1]),
        jt,
        jf,
        k: u32::from_ne_bytes([k0, k1, k2, k3]),
    };
    instructions.iter().map(read).collect()
}

/// Verdicts may differ where this compiler answers ENOSYS beyond the newest call that the filter names, as runc's own
/// addition to libseccomp does, and in that a foreign architecture kills the process and not just the thread.
fn same(ours: u32, theirs: u32, filter: &Filter) -> bool {
    ours == theirs
        || (ours == Action::Errno(38).encode() && theirs == filter.default.encode())
        || (ours == Action::KillProcess.encode() && theirs == Action::KillThread.encode())
}

fn check(reference: &Path, filter: &Filter, vectors: &[[u64; 6]]) -> (usize, usize) {
    let ours = compile(filter).expect("compiles").instructions;
    let theirs = libseccomp(reference, filter);
    let is_large = |arg: &Arg| arg.value.max(arg.value_two) > u64::from(u32::MAX);
    let large = filter.rules.iter().filter(|rule| rule.args.iter().any(is_large));
    let large: Vec<u32> = large.flat_map(|rule| rule.syscalls.iter().flat_map(|call| numbers(call))).collect();
    let short = CALLS.iter().filter(|call| (0..6).any(|index| is_narrow(call, index)));
    let short: Vec<u32> = short.flat_map(|call| numbers(call)).collect();
    let mut audits: Vec<(u32, u32)> = Arch::ALL.iter().map(|arch| (arch.audit(), 0)).collect();
    audits.push((Arch::X32.audit(), 0x4000_0000));
    for (audit, base) in audits {
        // x32 too: there libseccomp ignores the upper halves.
        let narrow = base != 0 || Arch::ALL.iter().any(|arch| arch.audit() == audit && !arch.is_64_bit());
        for number in (0..600).map(|number| base + number).chain([0xf_0001, 0xf_0002, 0xf_0005, u32::MAX]) {
            // Values beyond 32 bits: libseccomp cuts them where arguments are short, here they are simply never reached.
            if large.contains(&number) && (narrow || short.contains(&number)) {
                continue;
            }
            for vector in vectors {
                let mut args = *vector;
                for (index, arg) in args.iter_mut().enumerate() {
                    // The kernel never reports more than 32 bits for an argument of a 32-bit program, and for some
                    // arguments this compiler looks at no more.
                    let index = u8::try_from(index).expect("six arguments");
                    if narrow
                        || (short.contains(&number)
                            && CALLS.iter().any(|call| is_narrow(call, index) && numbers(call).contains(&number)))
                    {
                        *arg &= 0xffff_ffff;
                    }
                }
                let data = data(number, audit, args);
                let (mine, reference) = (run(&ours, &data), run(&theirs, &data));
                assert!(
                    same(mine, reference, filter),
                    "{} args {args:x?}: {mine:#x}, libseccomp {reference:#x}, default {:#x}",
                    describe(filter, audit, number),
                    filter.default.encode(),
                );
            }
        }
    }
    (ours.len(), theirs.len())
}

/// A call's numbers on all architectures.
fn numbers(call: &str) -> Vec<u32> {
    Arch::ALL.iter().filter_map(|arch| arch.number(call)).collect()
}

/// A call and the rules about it.
fn describe(filter: &Filter, audit: u32, number: u32) -> String {
    let name = Arch::ALL.iter().filter(|arch| arch.audit() == audit).find_map(|arch| super::name(*arch, number));
    let rules = filter.rules.iter().filter(|rule| rule.syscalls.iter().any(|one| Some(one.as_str()) == name));
    let rules: Vec<String> = rules.map(|rule| format!("{:?} if {:x?}", rule.action, rule.args)).collect();
    format!("arch {audit:#x} call {number} {name:?} rules {rules:#?}")
}

/// xorshift: the same cases every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("below a usize")
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

const VALUES: [u64; 12] =
    [0, 1, 2, 8, 38, 39, 40, 0x7e02_0000, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0008, 0x7fff_ffff_ffff_ffff];

const CALLS: [&str; 20] = [
    "read",
    "write",
    "clone",
    "personality",
    "ioctl",
    "prctl",
    "fcntl",
    "mmap",
    "openat",
    "kill",
    "dup3",
    "getpid",
    "execve",
    "io_uring_setup",
    "cacheflush",
    "umount2",
    "arch_prctl",
    "setns",
    "no_such_call",
    "clone3",
];

fn random_rule(random: &mut Random, call: &str, action: Action, most: usize) -> Rule {
    let ops = [Op::NotEqual, Op::Less, Op::LessOrEqual, Op::Equal, Op::GreaterOrEqual, Op::Greater, Op::MaskedEqual];
    let mut args: Vec<Arg> = Vec::new();
    for _ in 0..random.below(most + 1) {
        let index = u8::try_from(random.below(6)).expect("below six");
        if args.iter().all(|arg| arg.index != index) {
            let (value, value_two) = (random.pick(&VALUES), random.pick(&VALUES));
            args.push(Arg { index, op: random.pick(&ops), value, value_two });
        }
    }
    Rule { syscalls: vec![call.to_owned()], action, args }
}

/// What the module's documentation promises, word for word, without any BPF.
fn by_definition(filter: &Filter, arch: Arch, call: &str, args: [u64; 6]) -> Action {
    let holds = |arg: &Arg| {
        let narrow = !arch.is_64_bit() || is_narrow(call, arg.index);
        let given = args[usize::from(arg.index)];
        let given = if narrow { given & 0xffff_ffff } else { given };
        match arg.op {
            Op::NotEqual => given != arg.value,
            Op::Less => given < arg.value,
            Op::LessOrEqual => given <= arg.value,
            Op::Equal => given == arg.value,
            Op::GreaterOrEqual => given >= arg.value,
            Op::Greater => given > arg.value,
            Op::MaskedEqual if narrow => (given ^ arg.value_two) & arg.value & 0xffff_ffff == 0,
            Op::MaskedEqual => given & arg.value == arg.value_two & arg.value,
        }
    };
    let rules = filter.rules.iter().filter(|rule| rule.action != filter.default);
    let rules: Vec<&Rule> = rules.filter(|rule| rule.syscalls.iter().any(|one| one == call)).collect();
    if let Some(rule) = rules.iter().find(|rule| rule.args.is_empty()) {
        return rule.action;
    }
    rules.iter().find(|rule| rule.args.iter().all(holds)).map_or(filter.default, |rule| rule.action)
}

const ACTIONS: [Action; 7] = [
    Action::Allow,
    Action::Errno(1),
    Action::Errno(38),
    Action::Log,
    Action::Trap(0),
    Action::KillProcess,
    Action::Notify,
];

fn random_vectors(random: &mut Random) -> Vec<[u64; 6]> {
    (0..24).map(|_| [(); 6].map(|()| random.pick(&VALUES))).collect()
}

/// Any rules at all, with several actions for one call, against the definition.
#[test]
fn random_filters_do_what_they_say() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let vectors = random_vectors(&mut random);
    for _ in 0..60 {
        let default = random.pick(&ACTIONS[..6]);
        let mut rules = Vec::new();
        for call in CALLS {
            for _ in 0..random.below(5) {
                let action = random.pick(&ACTIONS);
                rules.push(random_rule(&mut random, call, action, 4));
            }
        }
        let filter = Filter { default, arches: Arch::ALL.to_vec(), rules, flags: Flags::default() };
        let program = compile(&filter).expect("compiles").instructions;
        for arch in Arch::ALL.into_iter().filter(|arch| !arch.is_big_endian()) {
            for call in CALLS {
                let Some(number) = arch.number(call) else { continue };
                for vector in &vectors {
                    let args = if arch.is_64_bit() { *vector } else { vector.map(|value| value & 0xffff_ffff) };
                    let verdict = run(&program, &data(number, arch.audit(), args));
                    let expected = by_definition(&filter, arch, call, args).encode();
                    let named = filter.rules.iter().any(|rule| rule.syscalls.iter().any(|one| one == call));
                    let newer = !named && verdict == Action::Errno(38).encode() && !default.lets_through();
                    let text = || describe(&filter, arch.audit(), number);
                    assert!(verdict == expected || newer, "{} args {args:x?}: {verdict:#x}, not {expected:#x}", text());
                }
            }
        }
    }
}

/// One conditional rule per call: libseccomp 2.5.4 itself is wrong for some mixtures (two rules `> 0x1_0000_0008` and
/// `< 0` on one argument let 0x28 through), and has no order where actions overlap. The definition above covers those.
#[test]
fn random_filters_agree_with_libseccomp() {
    let reference = match reference() {
        Ok(reference) => reference,
        Err(why) => return println!("skipped: {why}"),
    };
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let vectors = random_vectors(&mut random);
    for _ in 0..15 {
        let default = random.pick(&ACTIONS[..6]);
        // libseccomp 2.5 does not know LoongArch; s390x would swap the halves of arguments.
        let others = [Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm, Arch::Riscv64, Arch::Ppc64le];
        let mut arches = vec![Arch::X86_64];
        arches.extend(others.into_iter().filter(|_| random.next().is_multiple_of(3)));
        let mut rules = Vec::new();
        for call in CALLS {
            let action = random.pick(&ACTIONS);
            if random.below(4) > 0 {
                rules.push(random_rule(&mut random, call, action, 3));
            }
            if random.below(4) == 0 {
                rules.push(random_rule(&mut random, call, action, 0));
            }
        }
        check(&reference, &Filter { default, arches, rules, flags: Flags::default() }, &vectors);
    }
    std::fs::remove_file(reference).expect("ours to remove");
}

/// The shape of Docker's profile: hundreds of allowed calls, several rules on one argument, multiplexed calls.
#[test]
fn a_profile_like_dockers_agrees_with_libseccomp() {
    let reference = match reference() {
        Ok(reference) => reference,
        Err(why) => return println!("skipped: {why}"),
    };
    let mut random = Random(7);
    let equal = |index, op, value| Arg { index, op, value, value_two: 0 };
    let rule = |call: &str, args: Vec<Arg>| Rule { syscalls: vec![call.to_owned()], action: Action::Allow, args };
    // libseccomp 2.5 knows calls up to Linux 5.17.
    let names = (0..335)
        .chain(424..449)
        .filter_map(|number| super::name(Arch::X86_64, number))
        .filter(|_| !random.next().is_multiple_of(5));
    let special = ["socket", "personality", "clone", "clone3", "ipc", "socketcall"];
    let names = names.filter(|name| !special.contains(name)).map(ToOwned::to_owned).collect();
    let mut rules = vec![Rule { syscalls: names, action: Action::Allow, args: Vec::new() }];
    for (op, value) in [(Op::Less, 38), (Op::Equal, 39), (Op::Greater, 40)] {
        rules.push(rule("socket", vec![equal(0, op, value)]));
    }
    for value in [0, 8, 0x20000, 0x20008, 0xffff_ffff] {
        rules.push(rule("personality", vec![equal(0, Op::Equal, value)]));
    }
    let mask = Arg { index: 0, op: Op::MaskedEqual, value: 0x7e02_0000, value_two: 0 };
    rules.push(rule("clone", vec![mask]));
    rules.push(Rule { action: Action::Errno(38), ..rule("clone3", Vec::new()) });
    rules.push(rule("socketcall", Vec::new()));
    let arches = vec![Arch::X86_64, Arch::X86, Arch::X32];
    let filter = Filter { default: Action::Errno(1), arches, rules, flags: Flags::default() };
    let (ours, theirs) = check(&reference, &filter, &random_vectors(&mut random));
    assert!(ours < theirs, "{ours} instructions, libseccomp {theirs}");
    println!("{ours} instructions, libseccomp {theirs}");
    std::fs::remove_file(reference).expect("ours to remove");
}
