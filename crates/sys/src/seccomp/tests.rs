use super::interpret::{data, run};
use super::*;

fn rule(names: &[&str], action: Action, args: &[Arg]) -> Rule {
    Rule { syscalls: names.iter().map(ToString::to_string).collect(), action, args: args.to_vec() }
}

fn arg(index: u8, op: Op, value: u64) -> Arg {
    Arg { index, op, value, value_two: 0 }
}

fn filter(default: Action, arches: &[Arch], rules: Vec<Rule>) -> Filter {
    Filter { default, arches: arches.to_vec(), rules, flags: Flags::default() }
}

fn verdict(filter: &Filter, arch: Arch, call: &str, first: u64) -> u32 {
    let program = compile(filter).expect("compiles");
    let number = number(arch, call).expect("a call of this architecture");
    run(&program.instructions, &data(number, arch.audit(), [first, 0, 0, 0, 0, 0]))
}

const EPERM: Action = Action::Errno(1);
const ENOSYS: Action = Action::Errno(38);

#[test]
fn upper_halves_do_not_smuggle_socket_families_through() {
    let rules = vec![
        rule(&["socket"], Action::Allow, &[arg(0, Op::Less, 38)]),
        rule(&["socket"], Action::Allow, &[arg(0, Op::Equal, 39)]),
        rule(&["socket"], Action::Allow, &[arg(0, Op::Greater, 40)]),
    ];
    let filter = filter(EPERM, &[Arch::X86_64, Arch::X86], rules);
    for (family, expected) in [
        (2, Action::Allow),
        (38, EPERM),
        (39, Action::Allow),
        (40, EPERM),
        (41, Action::Allow),
        (0x1_0000_0026, EPERM),
        (0xffff_ffff_0000_0028, EPERM),
        (0x1_0000_0002, Action::Allow),
    ] {
        assert_eq!(verdict(&filter, Arch::X86_64, "socket", family), expected.encode(), "family {family:#x}");
    }
    let mut denied = filter;
    denied.default = Action::Allow;
    denied.rules = vec![rule(&["ioctl"], EPERM, &[arg(1, Op::Equal, 0x5412)])];
    let program = compile(&denied).expect("compiles");
    let ioctl = data(16, Arch::X86_64.audit(), [0, 0x7_0000_5412, 0, 0, 0, 0]);
    assert_eq!(run(&program.instructions, &ioctl), EPERM.encode(), "TIOCSTI with upper bits");
}

#[test]
fn foreign_architectures_die() {
    let filter = filter(Action::Allow, &[Arch::X86_64], vec![rule(&["read"], EPERM, &[])]);
    let program = compile(&filter).expect("compiles").instructions;
    let kill = Action::KillProcess.encode();
    for (number, audit) in [(0, Arch::X86.audit()), (0, Arch::Aarch64.audit()), (0x4000_0000, Arch::X86_64.audit())] {
        assert_eq!(run(&program, &data(number, audit, [0; 6])), kill, "{number:#x} {audit:#x}");
    }
    assert_eq!(run(&program, &data(u32::MAX, Arch::X86_64.audit(), [0; 6])), Action::Allow.encode(), "skipped call");
}

#[test]
fn newer_calls_are_unknown_and_not_forbidden() {
    let names = ["read", "clone3", "openat2"];
    let strict = filter(EPERM, &[Arch::X86_64, Arch::X32, Arch::Arm], vec![rule(&names, Action::Allow, &[])]);
    let program = compile(&strict).expect("compiles").instructions;
    let at = |arch: Arch, number| run(&program, &data(number, arch.audit(), [0; 6]));
    assert_eq!(at(Arch::X86_64, 437), Action::Allow.encode());
    assert_eq!(at(Arch::X86_64, 436), EPERM.encode());
    assert_eq!(at(Arch::X86_64, 438), ENOSYS.encode());
    assert_eq!(at(Arch::X86_64, 0x3fff_ffff), ENOSYS.encode());
    assert_eq!(at(Arch::X32, 0x4000_0000 + 438), ENOSYS.encode());
    assert_eq!(at(Arch::Arm, 438), ENOSYS.encode());
    let open = filter(Action::Allow, &[Arch::X86_64], vec![rule(&names, EPERM, &[])]);
    assert_eq!(
        run(&compile(&open).expect("compiles").instructions, &data(9999, Arch::X86_64.audit(), [0; 6])),
        Action::Allow.encode()
    );
}

#[test]
fn private_calls_of_arm_stay_reachable() {
    let strict = filter(EPERM, &[Arch::Arm], vec![rule(&["read", "set_tls"], Action::Allow, &[])]);
    assert_eq!(verdict(&strict, Arch::Arm, "set_tls", 0), Action::Allow.encode());
    assert_eq!(verdict(&strict, Arch::Arm, "cacheflush", 0), EPERM.encode());
    assert_eq!(verdict(&strict, Arch::Arm, "openat2", 0), ENOSYS.encode());
}

#[test]
fn multiplexed_calls_of_x86() {
    let rules = vec![
        rule(&["bind"], Action::Allow, &[]),
        rule(&["socket"], Action::Allow, &[arg(0, Op::Equal, 1)]),
        rule(&["semget"], Action::Allow, &[]),
    ];
    let filter = filter(EPERM, &[Arch::X86], rules);
    for (call, first, expected) in [
        ("socketcall", 2, Action::Allow),
        ("socketcall", 1, EPERM),
        ("socketcall", 3, EPERM),
        ("bind", 0, Action::Allow),
        ("socket", 1, Action::Allow),
        ("socket", 2, EPERM),
        ("ipc", 2, Action::Allow),
        ("ipc", 0x1_0002, Action::Allow),
        ("ipc", 3, EPERM),
    ] {
        assert_eq!(verdict(&filter, Arch::X86, call, first), expected.encode(), "{call} {first}");
    }
}

#[test]
fn rules_in_their_order() {
    let rules = vec![
        rule(&["kill"], Action::Errno(5), &[arg(0, Op::Equal, 7)]),
        rule(&["kill"], Action::Errno(6), &[arg(0, Op::Greater, 5)]),
        rule(&["read"], EPERM, &[arg(0, Op::Equal, 1)]),
        rule(&["read"], Action::Errno(9), &[]),
        rule(&["read"], Action::Errno(10), &[]),
        rule(&["personality"], EPERM, &[arg(0, Op::Equal, 1), arg(0, Op::Equal, 2)]),
    ];
    let filter = filter(Action::Allow, &[Arch::X86_64], rules);
    for (call, first, expected) in [
        ("kill", 7, Action::Errno(5)),
        ("kill", 8, Action::Errno(6)),
        ("kill", 5, Action::Allow),
        ("read", 1, Action::Errno(9)),
        ("personality", 2, EPERM),
        ("personality", 3, Action::Allow),
    ] {
        assert_eq!(verdict(&filter, Arch::X86_64, call, first), expected.encode(), "{call} {first}");
    }
}

#[test]
fn what_cannot_be_compiled() {
    let notify = filter(Action::Notify, &[], Vec::new());
    assert_eq!(compile(&notify), Err(Error::NotifyByDefault));
    let sixth = filter(EPERM, &[], vec![rule(&["read"], Action::Allow, &[arg(6, Op::Equal, 0)])]);
    assert!(matches!(compile(&sixth), Err(Error::ArgumentIndex { index: 6, .. })));
    let many = (0..3000).map(|value| rule(&["read"], Action::Allow, &[arg(0, Op::Equal, value)])).collect();
    assert!(matches!(compile(&filter(EPERM, &[], many)), Err(Error::TooLarge { .. })));
}

/// The kernel's own opinion: a thread installs a filter and meets it.
#[test]
fn the_kernel_runs_it() {
    if Arch::native().is_none() {
        println!("skipped: no table for this architecture");
        return;
    }
    let rules = vec![
        rule(&["getppid"], Action::Errno(77), &[]),
        rule(&["dup3"], Action::Errno(78), &[arg(2, Op::Equal, 0x1234)]),
    ];
    let program = compile(&filter(Action::Allow, &[], rules)).expect("compiles");
    let bytes = program.to_bytes();
    let outcome = std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true)?;
        install(&bytes, program.flag_bits())?;
        // SAFETY: plain system calls without pointers.
        let refused = unsafe { libc::syscall(libc::SYS_getppid) };
        let errno = std::io::Error::last_os_error().raw_os_error();
        // SAFETY: as above; descriptor -1 is never valid.
        let conditional = unsafe { libc::syscall(libc::SYS_dup3, -1, -1, 0x1234) };
        let second = std::io::Error::last_os_error().raw_os_error();
        // SAFETY: as above.
        let fallen = unsafe { libc::syscall(libc::SYS_dup3, -1, -1, 0) };
        let third = std::io::Error::last_os_error().raw_os_error();
        Ok::<_, std::io::Error>((refused, errno, conditional, second, fallen, third))
    })
    .join()
    .expect("the thread ends");
    match outcome {
        Ok(seen) => assert_eq!(seen, (-1, Some(77), -1, Some(78), -1, Some(libc::EINVAL))),
        Err(error) => println!("skipped: seccomp is not available: {error}"),
    }
}

/// Microseconds to compile and to install: `cargo test -p budu-sys --release -- --ignored --nocapture figures`.
#[test]
#[ignore = "a measurement"]
fn figures() {
    let names: Vec<&str> =
        (0..460).filter_map(|number| name(Arch::X86_64, number)).filter(|name| !name.contains("time")).collect();
    let arches = [Arch::X86_64, Arch::X86, Arch::X32];
    let wanted = filter(EPERM, &arches, vec![rule(&names, Action::Allow, &[])]);
    let start = std::time::Instant::now();
    let program = compile(&wanted).expect("compiles");
    let compiled = start.elapsed();
    let mut times: Vec<std::time::Duration> = (0..50)
        .map(|_| {
            let program = program.clone();
            let install = move || {
                rustix::thread::set_no_new_privs(true).expect("always allowed");
                let start = std::time::Instant::now();
                program.install().expect("seccomp is available");
                start.elapsed()
            };
            std::thread::spawn(install).join().expect("it ends")
        })
        .collect();
    times.sort();
    println!("compile {compiled:?}, install {:?}, {} instructions", times[25], program.instructions.len());
}
