//! What a container's processes get and what they may, against the real
//! kernel: scheduling, limits, users, filters, hooks, working directories.
//!
//! As for the shim's tests: needs root, and busybox-static for the programs.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod rig;

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

use budu_runtime::compile;
use budu_runtime::plan::{
    Capabilities, ExecPlan, Hook, MemoryPolicyPlan, Plan, Rootfs, SchedulerPlan, SeccompAgent, Stdio, UserPlan,
};
use budu_runtime::protocol::{self, Event, ExitRecord, Failure, FailureClass, Request};
use budu_spec::oci;
use budu_sys::seccomp::{Action, Filter, Flags, Rule};
use libtest_mimic::Failed;
use rig::{Test, World, exit_of, let_go, read_frame, read_streams, walk};

const CLONE_NEWTIME: u64 = 0x80;
const CLONE_NEWUSER: u64 = 0x1000_0000;

fn main() {
    let tests: Vec<(&str, Test)> = vec![
        ("attributes_are_as_asked", attributes_are_as_asked),
        ("labels_want_their_module", labels_want_their_module),
        ("rights_are_gone_before_the_program_may_run", rights_are_gone_before_the_program_may_run),
        ("strict_filters_let_the_program_start", strict_filters_let_the_program_start),
        ("agents_decide", agents_decide),
        ("a_missing_agent_is_named", a_missing_agent_is_named),
        ("start_hooks_run_inside", start_hooks_run_inside),
        ("a_failing_start_hook_stops_the_start", a_failing_start_hook_stops_the_start),
        ("working_directories", working_directories),
        ("groups_are_as_given", groups_are_as_given),
        ("environment", environment),
        ("only_streams_are_open", only_streams_are_open),
        ("the_hosts_null_device_keeps_its_owner", the_hosts_null_device_keeps_its_owner),
        ("exec_enters_user_and_time_namespaces", exec_enters_user_and_time_namespaces),
        ("capabilities_are_exact", capabilities_are_exact),
    ];
    rig::run(tests, Vec::new());
}

fn plan(world: &World, args: &[&str]) -> Plan {
    compile::container(&world.spec(args), world.extras(Stdio::default())).unwrap()
}

/// Runs a planned container to its end.
fn complete(world: &World, plan: Plan) -> (String, ExitRecord) {
    let (mut control, answer) = world.create_planned(plan);
    assert!(matches!(answer, Event::Created { .. }), "{answer:?}");
    let attached = world.attach(false);
    let answer = let_go(&mut control);
    assert!(matches!(answer, Event::Started { .. }), "{answer:?}");
    (read_streams(attached), exit_of(control))
}

fn refused(world: &World, plan: Plan) -> Failure {
    match world.create_planned(plan) {
        (_, Event::Failed(failure)) => failure,
        (_, answer) => panic!("{answer:?}"),
    }
}

/// Executes a further process and returns what it said and how it ended.
fn exec(world: &World, plan: ExecPlan) -> Result<(String, i32), Failure> {
    let mut stream = world.connect();
    protocol::send(&mut stream, &Request::Exec(Box::new(plan))).unwrap();
    let mut text = String::new();
    while let Some((kind, payload)) = read_frame(&mut stream) {
        if kind != protocol::MESSAGE {
            text.push_str(&String::from_utf8_lossy(&payload));
            continue;
        }
        match protocol::decode(&payload).unwrap() {
            Event::Exited(exit) => return Ok((text, exit.code)),
            Event::Failed(failure) => return Err(failure),
            _ => {}
        }
    }
    panic!("the shim hung up: {text}")
}

fn exec_plan(world: &World, args: &[&str]) -> ExecPlan {
    ExecPlan { process: plan(world, args).process, ..ExecPlan::default() }
}

fn filter(default: Action, action: Action, calls: &[&str]) -> budu_sys::seccomp::Program {
    let syscalls = calls.iter().map(|call| (*call).to_owned()).collect();
    let rules = vec![Rule { syscalls, action, args: Vec::new() }];
    budu_sys::seccomp::compile(&Filter { default, arches: Vec::new(), rules, flags: Flags::default() }).unwrap()
}

fn end(mut control: UnixStream) {
    protocol::send(&mut control, &Request::Signal { signal: 9, all: true }).unwrap();
    // What ends before it started has no exit to tell of.
    while let Ok(Some(event)) = protocol::receive::<Event>(&mut control) {
        if matches!(event, Event::Exited(_)) {
            break;
        }
    }
}

fn attributes_are_as_asked(world: &World) -> Result<(), Failed> {
    const SCRIPT: &str = "busybox cut -d' ' -f19,41 /proc/self/stat; busybox uname -m; umask; ulimit -Sn; ulimit -Hn; \
                          ulimit -c; busybox ionice; grep -E 'Cpus_allowed_list' /proc/self/status; \
                          head -c 300 /proc/self/numa_maps 2>/dev/null | busybox cut -d' ' -f2 | busybox head -n 1";
    let mut plan =
        plan(world, &["sh", "-c", &SCRIPT.replace("grep", "busybox grep").replace("head -c", "busybox head -c")]);
    plan.process.scheduler = Some(SchedulerPlan { policy: 3, nice: 2, ..SchedulerPlan::default() });
    plan.process.io_priority = Some(2 << 13 | 6);
    plan.process.personality = Some(8);
    plan.process.umask = Some(0o27);
    plan.process.rlimits = vec![(7, 100, 200), (4, 0, 0)];
    plan.process.final_cpus = vec![0];
    if std::path::Path::new("/proc/self/numa_maps").exists() {
        plan.process.memory_policy = Some(MemoryPolicyPlan { mode: 2, flags: 0, nodes: vec![0] });
    }
    let numa = plan.process.memory_policy.is_some();
    let (output, exit) = complete(world, plan);
    assert_eq!(exit.code, 0, "{output}");
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "2 3", "{output}");
    assert!(lines[1] == "i686" || cfg!(not(target_arch = "x86_64")), "{output}");
    assert_eq!(lines[2..6], ["0027", "100", "200", "0"], "{output}");
    assert!(lines[6].contains("best-effort: prio 6"), "{output}");
    assert_eq!(lines[7], "Cpus_allowed_list:\t0", "{output}");
    assert!(!numa || lines[8] == "bind:0", "{output}");
    Ok(())
}

fn labels_want_their_module(world: &World) -> Result<(), Failed> {
    let enabled = |path: &str| std::path::Path::new(path).exists();
    if !enabled("/sys/module/apparmor/parameters/enabled") {
        let mut plan = plan(world, &["true"]);
        plan.process.apparmor_profile = "some-profile".into();
        let failure = refused(world, plan);
        assert!(failure.message.contains("apparmor: config provided but apparmor not supported"), "{failure:?}");
        assert_eq!(failure.class, FailureClass::Invalid);
    }
    if !enabled("/sys/fs/selinux/enforce") {
        let mut plan = plan(world, &["true"]);
        plan.process.selinux_label = "system_u:system_r:container_t:s0".into();
        let failure = refused(world, plan);
        assert!(failure.message.contains("selinux is disabled or not supported"), "{failure:?}");
    }
    Ok(())
}

/// Lines of /proc/PID/status by name.
fn status(pid: u32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim_start_matches(':').trim().to_owned()
}

fn rights_are_gone_before_the_program_may_run(world: &World) -> Result<(), Failed> {
    for no_new_privileges in [false, true] {
        let mut plan = plan(world, &["true"]);
        plan.process.user = UserPlan::Ids { uid: 33, gid: 34, groups: vec![50, 50] };
        plan.process.capabilities = Capabilities { bounding: 1 << 10, permitted: 1 << 10, ..Default::default() };
        plan.process.no_new_privileges = no_new_privileges;
        plan.process.seccomp = filter(Action::Allow, Action::Errno(1), &["mkdir"]).to_bytes();
        let (control, answer) = world.create_planned(plan);
        let Event::Created { pid } = answer else { panic!("{answer:?}") };
        assert_eq!(status(pid, "Uid"), "33\t33\t33\t33");
        assert_eq!(status(pid, "Gid"), "34\t34\t34\t34");
        assert_eq!(status(pid, "Groups"), "50 50");
        assert_eq!(status(pid, "Seccomp"), "2");
        assert_eq!(status(pid, "NoNewPrivs"), u8::from(no_new_privileges).to_string());
        for (set, value) in [("CapBnd", "400"), ("CapPrm", "400"), ("CapEff", "0"), ("CapInh", "0"), ("CapAmb", "0")] {
            assert_eq!(u64::from_str_radix(&status(pid, set), 16), u64::from_str_radix(value, 16), "{set}");
        }
        // Whoever shares its namespaces cannot look into it (CVE-2016-9962): not even its own user.
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{pid}/fd")).unwrap());
        assert_eq!(owner, 0);
        for fd in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
            let shown = std::fs::read_link(fd.path()).unwrap().display().to_string();
            assert!(["pipe:", "socket:", "/dev/null"].iter().any(|kind| shown.starts_with(kind)), "{shown}");
        }
        end(control);
        std::fs::remove_dir_all(world.dir.join("upper")).unwrap();
        for sub in ["upper", "work"] {
            std::fs::create_dir_all(world.dir.join(sub)).unwrap();
        }
    }
    Ok(())
}

fn strict_filters_let_the_program_start(world: &World) -> Result<(), Failed> {
    // Nothing but these is used between the filter and the program.
    const FORBIDDEN: [&str; 17] = [
        "sendmsg",
        "recvmsg",
        "close_range",
        "openat2",
        "setgroups",
        "setresuid",
        "setresgid",
        "memfd_create",
        "fchdir",
        "fcntl",
        "poll",
        "ppoll",
        "socket",
        "mmap2",
        "clone",
        "clone3",
        "statx",
    ];
    for (no_new_privileges, tty) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut plan = plan(world, &["true"]);
        plan.stdio.tty = tty;
        plan.process.no_new_privileges = no_new_privileges;
        plan.process.seccomp = filter(Action::Allow, Action::KillProcess, &FORBIDDEN).to_bytes();
        let (_, exit) = complete(world, plan);
        assert_eq!((exit.code, exit.signal), (0, None), "no_new_privileges {no_new_privileges}, terminal {tty}");
    }
    Ok(())
}

fn agents_decide(world: &World) -> Result<(), Failed> {
    let socket = world.dir.join("agent.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let agent = std::thread::spawn(move || {
        let (connection, _) = listener.accept().unwrap();
        let mut buffer = [0u8; 4096];
        let (n, fds) = budu_sys::socket::receive_with_fds(connection.as_fd(), &mut buffer).unwrap();
        assert_eq!(fds.len(), 1);
        // One message, then the end.
        assert_eq!((&connection).read(&mut [0; 1]).unwrap(), 0);
        serde_json::from_slice::<oci::ProcessState>(&buffer[..n]).unwrap()
    });
    let mut plan = plan(world, &["sh", "-c", "busybox mkdir /made 2>&1; echo $?"]);
    let program = filter(Action::Allow, Action::Notify, &["mkdir", "mkdirat"]);
    plan.process.seccomp = program.to_bytes();
    plan.process.seccomp_flags = program.flag_bits();
    plan.process.seccomp_agent = Some(SeccompAgent { path: socket, metadata: "some text".into() });
    plan.about.oci_version = "1.3.0".into();
    plan.about.annotations.insert("key".into(), "value".into());
    let (mut control, answer) = world.create_planned(plan);
    let Event::Created { pid } = answer else { panic!("{answer:?}") };
    // The agent has its descriptor before the program may run.
    let told = agent.join().unwrap();
    assert_eq!((told.fds, told.metadata.as_str()), (vec![oci::SECCOMP_FD.to_owned()], "some text"));
    assert_eq!((told.pid, told.state.pid), (pid.cast_signed(), pid.cast_signed()));
    assert_eq!((told.state.id.as_str(), told.state.oci_version.as_str()), (world.id.as_str(), "1.3.0"));
    assert_eq!(told.state.annotations["key"], "value");
    let attached = world.attach(false);
    assert!(matches!(let_go(&mut control), Event::Started { .. }));
    // The agent let go of the listener: its calls are answered ENOSYS.
    let output = read_streams(attached);
    assert!(output.contains("Function not implemented") && output.ends_with("1\n"), "{output}");
    exit_of(control);
    Ok(())
}

fn a_missing_agent_is_named(world: &World) -> Result<(), Failed> {
    let mut plan = plan(world, &["true"]);
    plan.process.seccomp_agent = Some(SeccompAgent { path: world.dir.join("no.sock"), metadata: String::new() });
    let failure = refused(world, plan);
    assert!(failure.message.contains("failed to connect with seccomp agent"), "{failure:?}");
    assert!(failure.message.ends_with("no such file or directory"), "{failure:?}");
    Ok(())
}

fn hook(script: &str) -> Hook {
    let args = ["sh", "-c", script].map(str::to_owned).to_vec();
    Hook { path: "/bin/sh".into(), args, ..Hook::default() }
}

fn start_hooks_run_inside(world: &World) -> Result<(), Failed> {
    let mut plan = plan(world, &["cat", "/told", "/own"]);
    plan.process.env.push("FROM=config".into());
    plan.about.annotations.insert("a".into(), "b".into());
    let mut own = hook("echo $FROM$OWN >> /own");
    own.env = vec!["OWN=hook".into()];
    plan.hooks.start_container = vec![hook("cat > /told; echo; ls /proc/self/fd > /fds; echo $FROM > /own"), own];
    let id = plan.id.clone();
    let (output, exit) = complete(world, plan);
    assert_eq!(exit.code, 0, "{output}");
    let (json, rest) = output.split_at(output.find("config").unwrap());
    let state: oci::State = serde_json::from_str(json).unwrap();
    assert_eq!((state.id, state.pid, state.status), (id, 1, oci::Status::Created));
    assert_eq!(state.annotations["a"], "b");
    assert_eq!(rest, "config\nhook\n");
    // The fourth is the directory being listed.
    assert_eq!(std::fs::read_to_string(world.dir.join("upper/fds")).unwrap(), "0\n1\n2\n3\n");
    Ok(())
}

fn a_failing_start_hook_stops_the_start(world: &World) -> Result<(), Failed> {
    let mut plan = plan(world, &["sh", "-c", "echo ran > /ran"]);
    plan.process.seccomp = filter(Action::Allow, Action::KillProcess, &["mkdir", "mkdirat"]).to_bytes();
    plan.process.rlimits = vec![(4, 0, 0)];
    plan.hooks.start_container = vec![hook("true"), hook("busybox mkdir /made")];
    let (mut control, answer) = world.create_planned(plan);
    assert!(matches!(answer, Event::Created { .. }), "{answer:?}");
    let Event::Failed(failure) = let_go(&mut control) else { panic!("it started") };
    // The filter holds for hooks too; the shell tells of its child.
    assert!(failure.message.starts_with("error running startContainer hook #1: "), "{failure:?}");
    assert!(failure.message.to_lowercase().contains("bad system call"), "{failure:?}");
    assert!(!world.dir.join("upper/ran").exists());
    Ok(())
}

fn working_directories(world: &World) -> Result<(), Failed> {
    // Descriptors of the host are not to be reached by number (CVE-2024-21626).
    std::os::unix::fs::symlink("/proc/self/fd/3", world.dir.join("lower/link")).unwrap();
    for cwd in (3..40).map(|n| format!("/proc/self/fd/{n}")).chain(["/link".into(), "/link/../..".into()]) {
        let mut plan = plan(world, &["sh", "-c", "cd ../../../../..; pwd; ls"]);
        plan.process.cwd.clone_from(&cwd);
        let (mut control, answer) = world.create_planned(plan);
        if let Event::Failed(failure) = answer {
            let expected = format!("chdir to cwd ({cwd:?}) set in config.json failed: ");
            assert!(failure.message.starts_with(&expected), "{failure:?}");
            continue;
        }
        // Read as the text of a link, it leads to some place inside.
        let attached = world.attach(false);
        assert!(matches!(let_go(&mut control), Event::Started { .. }));
        let output = read_streams(attached);
        assert!(output.starts_with("/\n") && output.contains("link\n"), "{cwd}: {output}");
        exit_of(control);
    }
    // Only its own user may enter it, and root may not.
    let private = world.dir.join("lower/private");
    std::fs::create_dir(&private).unwrap();
    std::fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut made = plan(world, &["pwd"]);
    made.process.args = ["sh", "-c", "pwd"].map(str::to_owned).to_vec();
    made.process.cwd = "/private".into();
    made.process.user = UserPlan::Ids { uid: 33, gid: 33, groups: Vec::new() };
    let (output, exit) = complete(world, made);
    assert_eq!((output.as_str(), exit.code), ("/private\n", 0));
    // In exec a missing one is an error; a read-only root gets its own in time.
    let mut plan = plan(world, &["sleep", "1000"]);
    plan.process.make_cwd = true;
    plan.process.cwd = "/not/there/yet".into();
    let Rootfs::Overlay { readonly, .. } = &mut plan.rootfs else { panic!("no overlay") };
    *readonly = true;
    let (mut control, answer) = world.create_planned(plan);
    assert!(matches!(answer, Event::Created { .. }), "{answer:?}");
    assert!(matches!(let_go(&mut control), Event::Started { .. }));
    let mut further = exec_plan(world, &["true"]);
    further.process.make_cwd = false;
    further.process.cwd = "/missing".into();
    let failure = exec(world, further).unwrap_err();
    let expected = "chdir to cwd (\"/missing\") set in config.json failed: no such file or directory";
    assert_eq!(failure.message, expected);
    end(control);
    Ok(())
}

fn groups_are_as_given(world: &World) -> Result<(), Failed> {
    for (user, expected) in [
        (UserPlan::Ids { uid: 10, gid: 10, groups: vec![1401, 5, 5] }, "uid=10 gid=10 groups=5,5,1401"),
        (UserPlan::Ids { uid: 0, gid: 0, groups: Vec::new() }, "uid=0(root) gid=0(root)"),
        (
            UserPlan::Named { user: "web".into(), groups: vec!["77".into()] },
            "uid=33(web) gid=34(web) groups=34(web),50(extra),77",
        ),
        (UserPlan::Named { user: "web:root".into(), groups: Vec::new() }, "uid=33(web) gid=0(root) groups=0(root)"),
        (UserPlan::Named { user: "33:34".into(), groups: Vec::new() }, "uid=33(web) gid=34(web) groups=34(web)"),
    ] {
        let mut plan = plan(world, &["id"]);
        plan.process.user = user.clone();
        let (output, _) = complete(world, plan);
        assert!(output.trim_end() == expected, "{user:?}: {output:?} instead of {expected:?}");
    }
    for user in ["4294967296", "4294967295", "-1", "+0", "1000:4294967296"] {
        let mut plan = plan(world, &["id"]);
        plan.process.user = UserPlan::Named { user: user.into(), groups: Vec::new() };
        assert_eq!(refused(world, plan).class, FailureClass::Invalid, "{user}");
    }
    Ok(())
}

fn environment(world: &World) -> Result<(), Failed> {
    let mut given = plan(world, &["busybox", "env"]);
    given.process.env = ["PATH=/bin", "A=1", "B=x=y", "A=2", "HOME="].map(str::to_owned).to_vec();
    given.process.user = UserPlan::Ids { uid: 33, gid: 33, groups: Vec::new() };
    let (output, _) = complete(world, given);
    assert_eq!(output, "PATH=/bin\nB=x=y\nA=2\nHOME=/srv\n");
    for wrong in ["*", "NAME", "=value"] {
        let mut plan = plan(world, &["true"]);
        plan.process.env = vec!["PATH=/bin".into(), wrong.into()];
        let failure = refused(world, plan);
        assert!(failure.message.starts_with("invalid environment variable: "), "{failure:?}");
    }
    Ok(())
}

fn only_streams_are_open(world: &World) -> Result<(), Failed> {
    let (output, _) = complete(world, plan(world, &["ls", "/proc/self/fd"]));
    assert_eq!(output, "0\n1\n2\n3\n");
    let (mut control, answer) = world.create_planned(plan(world, &["sleep", "1000"]));
    assert!(matches!(answer, Event::Created { .. }), "{answer:?}");
    assert!(matches!(let_go(&mut control), Event::Started { .. }));
    for _ in 0..20 {
        let (output, code) = exec(world, exec_plan(world, &["ls", "/proc/self/fd"])).unwrap();
        assert_eq!((output.as_str(), code), ("0\n1\n2\n3\n", 0));
    }
    end(control);
    Ok(())
}

fn the_hosts_null_device_keeps_its_owner(world: &World) -> Result<(), Failed> {
    let owner = || std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/dev/null").unwrap());
    let before = owner();
    let mut plan = plan(world, &["sh", "-c", "echo mine > /dev/stdout"]);
    plan.process.user = UserPlan::Ids { uid: 33, gid: 33, groups: Vec::new() };
    let (output, exit) = complete(world, plan);
    assert_eq!((output.as_str(), exit.code), ("mine\n", 0));
    assert_eq!(owner(), before);
    Ok(())
}

fn exec_enters_user_and_time_namespaces(world: &World) -> Result<(), Failed> {
    // The run directory is a way to the root file system for a user who is nobody on the host.
    for dir in [world.dir.clone(), world.dir.join("run")] {
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    }
    let root = world.dir.join("lower");
    for path in walk(&root) {
        std::os::unix::fs::lchown(&path, Some(100_000), Some(100_000)).unwrap();
    }
    let mut plan = plan(world, &["sleep", "1000"]);
    plan.rootfs = Rootfs::Directory { path: root, readonly: false, in_place: false };
    plan.namespaces.new |= CLONE_NEWUSER | CLONE_NEWTIME;
    plan.namespaces.uid_map = vec![(0, 100_000, 65536)];
    plan.namespaces.gid_map = vec![(0, 100_000, 65536)];
    plan.namespaces.time_offsets = vec![("boottime".into(), 1_000_000_000, 0)];
    plan.process.cwd = "/".into();
    // Only the parent may raise it, and only with CAP_SYS_RESOURCE.
    let own = u64::from_str_radix(&status(std::process::id(), "CapEff"), 16).unwrap();
    let limit: u64 = if own >> 24 & 1 == 1 { 1 << 30 } else { 5000 };
    plan.process.rlimits = vec![(6, limit, limit)];
    let (mut control, answer) = world.create_planned(plan);
    assert!(matches!(answer, Event::Created { .. }), "{answer:?}");
    assert!(matches!(let_go(&mut control), Event::Started { .. }));
    let script = "id -u; cat /proc/self/uid_map; ulimit -Hu; busybox cut -c1-2 /proc/uptime; \
                  for kind in time user; do \
                  test $(busybox readlink /proc/self/ns/$kind) = $(busybox readlink /proc/1/ns/$kind) && echo 1; done";
    let mut further = exec_plan(world, &["sh", "-c", script]);
    further.process.cwd = "/".into();
    further.process.rlimits = vec![(6, limit, limit)];
    let (output, code) = exec(world, further).unwrap();
    let words: Vec<&str> = output.split_whitespace().collect();
    let limit = limit.to_string();
    assert_eq!(words, ["0", "0", "100000", "65536", &limit, "10", "1", "1"], "{output}");
    assert_eq!(code, 0);
    end(control);
    Ok(())
}

fn capabilities_are_exact(world: &World) -> Result<(), Failed> {
    let script = "busybox grep Cap /proc/self/status | busybox cut -f2 | busybox sed s/^0*//";
    // CAP_NET_RAW and CAP_KILL.
    let (raw, kill) = (1 << 13, 1 << 5);
    let both = raw | kill;
    let sets = Capabilities { bounding: both, effective: both, permitted: both, inheritable: raw, ambient: raw };
    let mut plan = plan(world, &["sh", "-c", script]);
    plan.process.capabilities = sets;
    plan.process.user = UserPlan::Ids { uid: 33, gid: 33, groups: Vec::new() };
    let (output, _) = complete(world, plan);
    assert_eq!(output.split_whitespace().collect::<Vec<_>>(), ["2000", "2000", "2000", "2020", "2000"], "{output}");
    let mut beyond = self::plan(world, &["true"]);
    beyond.process.capabilities =
        Capabilities { bounding: 0, effective: raw, permitted: raw, inheritable: raw, ambient: 0 };
    let failure = refused(world, beyond);
    assert_eq!(failure.message, "unable to apply caps: operation not permitted");
    Ok(())
}
