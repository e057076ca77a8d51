//! The system call filter as the kernel has it, for every call and every
//! convention, against libseccomp.
//!
//! Needs gcc and libseccomp.so.2 and says so when they are missing.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use budu_runtime::defaults::capabilities;
use budu_runtime::defaults::seccomp::{Host, Profile};
use budu_sys::capability::{CapSet, Capability};
use budu_sys::seccomp::{self, Action, Arch, Filter, Instruction, Op, Program};
use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::Test;
use crate::world::World;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("dockers_profile_agrees_with_libseccomp", dockers_profile_agrees_with_libseccomp),
    ("loaded_filter_is_the_compiled_one", loaded_filter_is_the_compiled_one),
    ("denials_with_the_default_errno_are_kept", denials_with_the_default_errno_are_kept),
];

/// Compiles a C program; `None` when this machine cannot.
fn build(world: &World, source: &str, library: Option<&Path>) -> Option<PathBuf> {
    if library.is_some_and(|library| !library.exists()) {
        println!("skipped: {} is missing", library.unwrap().display());
        return None;
    }
    let program = world.dir.join(Path::new(source).file_stem().unwrap());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    match Command::new("gcc").args(["-O1", "-o"]).arg(&program).arg(source).args(library).status() {
        Ok(status) if status.success() => Some(program),
        other => {
            println!("skipped: gcc: {other:?}");
            None
        }
    }
}

fn operator(op: Op) -> (u32, &'static str) {
    match op {
        Op::NotEqual => (1, "SCMP_CMP_NE"),
        Op::Less => (2, "SCMP_CMP_LT"),
        Op::LessOrEqual => (3, "SCMP_CMP_LE"),
        Op::Equal => (4, "SCMP_CMP_EQ"),
        Op::GreaterOrEqual => (5, "SCMP_CMP_GE"),
        Op::Greater => (6, "SCMP_CMP_GT"),
        Op::MaskedEqual => (7, "SCMP_CMP_MASKED_EQ"),
    }
}

/// The filter as libseccomp compiles it.
fn reference(program: &Path, filter: &Filter) -> Program {
    let mut text = format!("default {}\n", filter.default.encode());
    for arch in &filter.arches {
        // x32 is told apart by its numbers alone, except in libseccomp's names.
        let token = if *arch == Arch::X32 { 0x4000_003e } else { arch.audit() };
        writeln!(text, "arch {token}").unwrap();
    }
    for rule in &filter.rules {
        for name in &rule.syscalls {
            write!(text, "rule {} {name} {}", rule.action.encode(), rule.args.len()).unwrap();
            for arg in &rule.args {
                write!(text, " {} {} {} {}", arg.index, operator(arg.op).0, arg.value, arg.value_two).unwrap();
            }
            text.push('\n');
        }
    }
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "libseccomp refused:\n{text}");
    program_of(&output.stdout)
}

fn program_of(bytes: &[u8]) -> Program {
    let (instructions, rest) = bytes.as_chunks::<8>();
    assert!(rest.is_empty() && !instructions.is_empty(), "{} bytes are no program", bytes.len());
    let read = |&[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Instruction {
        code: u16::from_ne_bytes([c0, c1]),
        jt,
        jf,
        k: u32::from_ne_bytes([k0, k1, k2, k3]),
    };
    Program { instructions: instructions.iter().map(read).collect(), flags: Default::default(), notifies: false }
}

/// Every number there is, on every architecture, those in the holes between them, and those beyond.
fn numbers(arch: Arch) -> impl Iterator<Item = u32> {
    let base = if arch == Arch::X32 { 0x4000_0000 } else { 0 };
    (0..600).map(move |number| base + number).chain([1000, 4095, 5000, 0xf_0001, 0xf_0005, 0x7fff_ffff, u32::MAX])
}

/// First and second arguments that the profile's conditions tell apart, and their neighbours.
fn vectors() -> Vec<[u64; 6]> {
    let values = [0, 1, 2, 7, 8, 9, 37, 38, 39, 40, 41, 0x2_0000, 0x2_0008, 0x7e02_0000, 0x1000_0000, 0xffff_ffff];
    let mut all: Vec<[u64; 6]> = values.iter().map(|&value| [value, 0, 0, 0, 0, 0]).collect();
    all.extend(values.iter().map(|&value| [0, value, value, 0, 0, 0]));
    all
}

/// Where verdicts may differ: the answer to calls newer than the profile, which
/// runc adds to libseccomp's filter in the same way, and that a foreign
/// architecture costs the whole process and not a thread alone.
fn same(ours: u32, theirs: u32, default: u32) -> bool {
    ours == theirs
        || (ours == Action::Errno(38).encode() && theirs == default)
        || (ours == Action::KillProcess.encode() && theirs == Action::KillThread.encode())
}

fn compare(ours: &Program, theirs: &Program, filter: &Filter) {
    let default = filter.default.encode();
    for arch in Arch::ALL {
        // Big-endian programs are evaluated on their own hosts only.
        // libseccomp always knows the host it runs on.
        let added = !filter.arches.contains(&arch) && Some(arch.audit()) == Arch::native().map(Arch::audit);
        if arch == Arch::S390x || added {
            continue;
        }
        for number in numbers(arch) {
            for args in vectors() {
                let mine = ours.evaluate_number(arch, number, args);
                let other = theirs.evaluate_number(arch, number, args);
                let name = || seccomp::name(arch, number & !0x4000_0000);
                assert!(
                    same(mine, other, default),
                    "{arch:?} {number} {:?} {args:x?}: {mine:#x}, libseccomp {other:#x}",
                    name(),
                );
            }
        }
    }
}

fn capability_sets() -> [CapSet; 4] {
    let admin = Capability::from_name("SYS_ADMIN").unwrap();
    [capabilities::default_set(), capabilities::default_set().with(admin), CapSet::ALL, CapSet::EMPTY]
}

/// Calls that libseccomp 2.5 knows, which is up to Linux 5.16.
fn is_old(name: &str) -> bool {
    const NEWER: u32 = 449;
    if ["uretprobe", "uprobe", "riscv_hwprobe"].contains(&name) {
        return false;
    }
    let of = |arch| seccomp::number(arch, name).map(|number| number & !0x4000_0000);
    let newer = Arch::ALL.into_iter().filter_map(of).any(|number| (NEWER..600).contains(&number));
    !newer || of(Arch::X32).is_some_and(|number| number >= 512 && of(Arch::X86_64).is_none_or(|n| n < NEWER))
}

fn dockers_profile_agrees_with_libseccomp(world: &World) -> Result<(), Failed> {
    let library = Path::new("/usr/lib/x86_64-linux-gnu/libseccomp.so.2");
    let Some(oracle) = build(world, "../sys/src/seccomp/differential.c", Some(library)) else { return Ok(()) };
    for arch in [Arch::X86_64, Arch::Aarch64, Arch::Riscv64, Arch::Ppc64le] {
        for capabilities in capability_sets() {
            let host = Host { capabilities, arch, kernel: (6, 1) };
            let mut filter = Profile::built_in().filter(&host)?;
            for rule in &mut filter.rules {
                rule.syscalls.retain(|name| is_old(name));
            }
            filter.rules.retain(|rule| !rule.syscalls.is_empty());
            let ours = seccomp::compile(&filter)?;
            compare(&ours, &reference(&oracle, &filter), &filter);
        }
    }
    Ok(())
}

/// The profile as an engine writes it into `config.json`.
fn section(filter: &Filter) -> Value {
    let action = |action: Action| match action {
        Action::Allow => ("SCMP_ACT_ALLOW", None),
        Action::Errno(number) => ("SCMP_ACT_ERRNO", Some(number)),
        other => panic!("{other:?}"),
    };
    let rules = filter.rules.iter().map(|rule| {
        let (name, errno) = action(rule.action);
        let args = rule.args.iter().map(
            |arg| json!({"index": arg.index, "value": arg.value, "valueTwo": arg.value_two, "op": operator(arg.op).1}),
        );
        json!({"names": rule.syscalls, "action": name, "errnoRet": errno, "args": args.collect::<Vec<_>>()})
    });
    let (default, errno) = action(filter.default);
    let arches: Vec<&str> = filter.arches.iter().map(|arch| arch.oci_name()).collect();
    json!({"defaultAction": default, "defaultErrnoRet": errno, "architectures": arches, "syscalls": rules.collect::<Vec<_>>()})
}

/// What the kernel runs for a container's first process.
fn loaded(reader: &Path, pid: i32) -> Option<Program> {
    let output = Command::new(reader).arg(pid.to_string()).output().unwrap();
    match output.status.code() {
        Some(0) => Some(program_of(&output.stdout)),
        Some(3) => {
            println!("skipped: this kernel does not show filters");
            None
        }
        other => panic!("{other:?} {}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Not the JSON, not the compiler's output: what is there after the program has started.
fn loaded_filter_is_the_compiled_one(world: &World) -> Result<(), Failed> {
    let Some(reader) = build(world, "tests/escape/loaded_filter.c", None) else { return Ok(()) };
    let filter = Profile::built_in().filter(&Host::current(capabilities::default_set())?)?;
    let compiled = seccomp::compile(&filter)?;
    for no_new_privileges in [true, false] {
        let mut config = world.config(&["sleep", "1000"]);
        config["linux"]["seccomp"] = section(&filter);
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let container = world.start(&config);
        let Some(loaded) = loaded(&reader, container.pid()) else { return Ok(()) };
        assert_eq!(loaded.instructions.len(), compiled.instructions.len());
        for arch in Arch::ALL.into_iter().filter(|arch| *arch != Arch::S390x) {
            for (number, args) in numbers(arch).flat_map(|number| vectors().into_iter().map(move |args| (number, args)))
            {
                let (mine, kernels) =
                    (compiled.evaluate_number(arch, number, args), loaded.evaluate_number(arch, number, args));
                assert_eq!(mine, kernels, "{arch:?} {number} {args:x?}");
            }
        }
        // What joins it later has the same.
        let text = container.exec(&[], &["grep", "-E", "^(Seccomp|NoNewPrivs)", "/proc/self/status"]).good();
        assert!(
            text.contains("Seccomp:\t2") && text.contains(&format!("NoNewPrivs:\t{}", u8::from(no_new_privileges))),
            "{text}"
        );
        // And it works: what other runtimes' users know to fail.
        let text = container.exec(&[], &["sh", "-c", "mount -t tmpfs x /tmp 2>&1; chmod 700 /tmp && echo fine"]);
        assert!(text.text.contains("fine"), "{text:?}");
    }
    Ok(())
}

/// A denial whose number is the default's is no rule for libseccomp, and so
/// what it denies could be allowed by a rule made up for another call.
fn denials_with_the_default_errno_are_kept(_: &World) -> Result<(), Failed> {
    for errno in [1, 38, 13] {
        let text = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": errno,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [
                {"names": ["socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno},
                {"names": ["bind", "connect"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
            ],
        });
        let filter = Profile::parse(&text.to_string())?.filter(&Host::current(CapSet::EMPTY)?)?;
        let program = seccomp::compile(&filter)?;
        let verdict = program.evaluate(Arch::X86, "socketcall", [1, 0, 0, 0, 0, 0]).unwrap();
        assert_ne!(verdict, Action::Allow.encode(), "socket by socketcall, whose family nobody can see");
        assert_eq!(program.evaluate(Arch::X86, "socket", [1, 0, 0, 0, 0, 0]), Some(Action::Allow.encode()));
        assert_ne!(program.evaluate(Arch::X86, "socket", [38, 0, 0, 0, 0, 0]), Some(Action::Allow.encode()));
    }
    Ok(())
}
