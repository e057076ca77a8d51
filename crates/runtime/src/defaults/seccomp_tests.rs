use super::*;
use crate::defaults::capabilities;

fn host(capabilities: CapSet) -> Host {
    Host { capabilities, arch: Arch::X86_64, kernel: (6, 1) }
}

fn with(name: &str) -> CapSet {
    capabilities::default_set().with(Capability::from_name(name).expect("a capability"))
}

/// The first unconditional action for a call.
fn always(filter: &Filter, name: &str) -> Option<Action> {
    let rule = filter.rules.iter().find(|rule| rule.args.is_empty() && rule.syscalls.iter().any(|one| one == name));
    rule.map(|rule| rule.action)
}

#[test]
fn the_built_in_profile_parses_and_compiles() {
    let filter = Profile::built_in().filter(&host(capabilities::default_set())).expect("valid");
    assert_eq!(filter.default, Action::Errno(1));
    assert_eq!(filter.arches, [Arch::X86_64, Arch::X86, Arch::X32]);
    let program = seccomp::compile(&filter).expect("compiles");
    assert!(program.instructions.len() < 1000, "{} instructions", program.instructions.len());
    for arch in Arch::ALL {
        let host = Host { arch, ..host(CapSet::ALL) };
        seccomp::compile(&Profile::built_in().filter(&host).expect("valid")).expect("compiles everywhere");
    }
}

#[test]
fn capabilities_open_calls() {
    let plain = Profile::built_in().filter(&host(capabilities::default_set())).expect("valid");
    assert_eq!(always(&plain, "mount"), None);
    assert_eq!(always(&plain, "clone"), None);
    assert_eq!(always(&plain, "clone3"), Some(Action::Errno(38)));
    assert_eq!(always(&plain, "chroot"), Some(Action::Allow));
    assert_eq!(always(&plain, "ptrace"), Some(Action::Allow), "kernel 4.8 and later");
    let admin = Profile::built_in().filter(&host(with("SYS_ADMIN"))).expect("valid");
    for name in ["mount", "clone", "clone3", "setns", "bpf"] {
        assert_eq!(always(&admin, name), Some(Action::Allow), "{name}");
    }
    for (capability, name) in [("DAC_READ_SEARCH", "open_by_handle_at"), ("SYSLOG", "syslog"), ("BPF", "bpf")] {
        assert_eq!(always(&plain, name), None, "{name}");
        let more = Profile::built_in().filter(&host(with(capability))).expect("valid");
        assert_eq!(always(&more, name), Some(Action::Allow), "{name}");
    }
    let none = Profile::built_in().filter(&host(CapSet::EMPTY)).expect("valid");
    assert_eq!(always(&none, "chroot"), None);
}

#[test]
fn kernel_and_architecture_decide() {
    let old = Host { kernel: (4, 7), ..host(capabilities::default_set()) };
    assert_eq!(always(&Profile::built_in().filter(&old).expect("valid"), "ptrace"), None);
    let arm = Host { arch: Arch::Aarch64, ..host(capabilities::default_set()) };
    let filter = Profile::built_in().filter(&arm).expect("valid");
    assert_eq!(filter.arches, [Arch::Aarch64, Arch::Arm]);
    assert_eq!(always(&filter, "arch_prctl"), None);
    assert_eq!(always(&filter, "set_tls"), Some(Action::Allow));
}

#[test]
fn programs_are_remembered() {
    let set = capabilities::default_set();
    let first = default_program(set).expect("compiles");
    assert!(Arc::ptr_eq(&first, &default_program(set).expect("compiles")));
    let admin = default_program(with("SYS_ADMIN")).expect("compiles");
    assert_ne!(first.instructions, admin.instructions);
}

#[test]
fn both_formats_parse() {
    let docker = r#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":[{"architecture":"SCMP_ARCH_X86_64",
        "subArchitectures":["SCMP_ARCH_X86"]}],"syscalls":[{"name":"chmod","action":"SCMP_ACT_ERRNO","args":null,
        "includes":{},"excludes":{}},{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":30,"args":[
        {"index":1,"value":511,"valueTwo":0,"op":"SCMP_CMP_EQ"}]}]}"#;
    let filter = Profile::parse(docker).expect("valid").filter(&host(CapSet::EMPTY)).expect("valid");
    assert_eq!(filter.arches, [Arch::X86_64, Arch::X86]);
    assert_eq!(always(&filter, "chmod"), Some(Action::Errno(1)));
    assert_eq!(filter.rules[1].action, Action::Errno(30));
    let oci = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64",
        "SCMP_ARCH_PARISC"],"flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[{"names":["read"],
        "action":"SCMP_ACT_ALLOW"}]}"#;
    let filter = Profile::parse(oci).expect("valid").filter(&host(CapSet::EMPTY)).expect("valid");
    assert_eq!((filter.default, filter.flags.log), (Action::Errno(38), true));
    let same = oci_filter(&serde_json::from_str(oci).expect("a config.json part")).expect("valid");
    assert_eq!(same.rules, filter.rules);
}

#[test]
fn bad_profiles_are_refused() {
    let cases = [
        ("", "decoding seccomp profile failed"),
        ("{}", "defaultAction"),
        (r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#, "is not a valid action for seccomp"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#, "no meaning"),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":70000}"#, "4095"),
        (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "default action"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["x86"]}"#, "is not a valid arch"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["FAST"]}"#, "is not known"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],
            "archMap":[{"architecture":"SCMP_ARCH_X86"}]}"#,
            "archMap",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_LOG"}]}"#,
            "names",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["b"],"action":"SCMP_ACT_LOG",
            "args":[{"index":6,"op":"SCMP_CMP_EQ"}]}]}"#,
            "index 6",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["b"],"action":"SCMP_ACT_LOG",
            "args":[{"index":0,"op":"LIKE"}]}]}"#,
            "operator",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["b"],"action":"SCMP_ACT_LOG",
            "includes":{"minKernel":"new"}}]}"#,
            "MAJOR.MINOR",
        ),
    ];
    for (json, expected) in cases {
        let error = custom_program(json, CapSet::EMPTY).expect_err(json);
        assert!(error.to_string().contains(expected), "{json}: {error}");
        assert_eq!(error.class(), ErrorClass::InvalidArgument);
    }
}

/// The compiled default profile itself, call by call, on every convention of an x86 host.
#[test]
fn what_the_default_lets_through() {
    let filter = Profile::built_in().filter(&host(capabilities::default_set())).expect("valid");
    let program = seccomp::compile(&filter).expect("compiles");
    println!("{} instructions", program.instructions.len());
    let (allow, eperm, enosys) = (Action::Allow.encode(), Action::Errno(1).encode(), Action::Errno(38).encode());
    let judge = |arch, call: &str, args: [u64; 6]| program.evaluate(arch, call, args);
    for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
        for family in 0..51 {
            let expected = if matches!(family, 38 | 40) { eperm } else { allow };
            for upper in [0, 1 << 32, 0xffff_ffff << 32] {
                let args = [family | upper, 1, 0, 0, 0, 0];
                assert_eq!(judge(arch, "socket", args), Some(expected), "{arch:?} family {family} {upper:#x}");
            }
        }
        for call in ["read", "execve", "futex", "statx", "openat2", "chroot", "mknodat", "ptrace", "close_range"] {
            assert_eq!(judge(arch, call, [0; 6]), Some(allow), "{arch:?} {call}");
        }
        let refused = [
            "add_key",
            "keyctl",
            "request_key",
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "mount",
            "umount2",
            "unshare",
            "setns",
            "pivot_root",
            "open_by_handle_at",
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "kexec_load",
            "init_module",
            "reboot",
            "swapon",
            "move_mount",
            "fsopen",
            "syslog",
            "acct",
        ];
        for call in refused {
            assert_eq!(judge(arch, call, [0; 6]), Some(eperm), "{arch:?} {call}");
        }
        assert_eq!(judge(arch, "clone3", [0; 6]), Some(enosys), "{arch:?}");
        assert_eq!(judge(arch, "clone", [0x3d0f00, 0, 0, 0, 0, 0]), Some(allow), "{arch:?} a thread");
        for bit in [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
            assert_eq!(judge(arch, "clone", [bit, 0, 0, 0, 0, 0]), Some(eperm), "{arch:?} namespace {bit:#x}");
        }
        for (persona, expected) in [(0, allow), (8, allow), (0xffff_ffff, allow), (0x40_0000, eperm)] {
            assert_eq!(judge(arch, "personality", [persona, 0, 0, 0, 0, 0]), Some(expected), "{arch:?} {persona:#x}");
        }
    }
    assert_eq!(judge(Arch::X86, "socketcall", [1, 0, 0, 0, 0, 0]), Some(allow), "32-bit programs");
    assert_eq!(program.evaluate_number(Arch::X86_64, 100_000, [0; 6]), enosys, "newer than the profile");
    assert_eq!(program.evaluate_number(Arch::Aarch64, 0, [0; 6]), Action::KillProcess.encode());
}
