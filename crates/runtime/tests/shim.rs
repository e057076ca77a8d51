//! Shims against the real kernel: containers made, entered, attached to,
//! signalled, and what is left afterwards.
//!
//! The test binary is also the launcher that it starts, so it has a main
//! function of its own. Needs root, and busybox-static for the programs.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod rig;

use std::io::Write;
use std::path::Path;

use budu_runtime::compile::{self, Extras};
use budu_runtime::plan::Stdio;
use budu_runtime::protocol::{self, Event, FailureClass, Request};
use budu_spec::oci;
use libtest_mimic::{Failed, Trial};
use rig::{Test, World, exit_of, read_frame, read_streams, walk};

fn main() {
    let tests: Vec<(&str, Test)> = vec![
        ("exit_status_and_output", exit_status_and_output),
        ("signals_are_128_plus_n", signals_are_128_plus_n),
        ("missing_command_is_named", missing_command_is_named),
        ("isolation", isolation),
        ("exec_joins_the_container", exec_joins_the_container),
        ("an_exec_ends_though_its_children_go_on_writing", an_exec_ends_though_its_children_go_on_writing),
        ("clients_that_leave_do_not_keep_the_shim_busy", clients_that_leave_do_not_keep_the_shim_busy),
        ("terminal", terminal),
        ("stdin_reaches_the_program", stdin_reaches_the_program),
        ("init_reaps_and_forwards", init_reaps_and_forwards),
        ("unknown_user_is_refused", unknown_user_is_refused),
        ("exit_record_survives_the_engine", exit_record_survives_the_engine),
        ("user_namespace", user_namespace),
        ("nothing_is_left", nothing_is_left),
    ];
    let figures = Trial::test("figures", || figures(&World::new("figures")));
    rig::run(tests, vec![figures.with_kind("measurement").with_ignored_flag(true)]);
}

fn exit_status_and_output(world: &World) -> Result<(), Failed> {
    let (output, exit) = world.run("echo out; echo err >&2; pwd; exit 7");
    assert_eq!(exit.code, 7);
    assert!(output.contains("out\n") && output.contains("err\n") && output.contains("/made/on/the/way"), "{output}");
    Ok(())
}

fn signals_are_128_plus_n(world: &World) -> Result<(), Failed> {
    let (mut control, _attached) = world.start(&world.spec(&["sleep", "1000"]), Stdio::default());
    protocol::send(&mut control, &Request::Signal { signal: 9, all: false }).unwrap();
    let exit = exit_of(control);
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    Ok(())
}

fn missing_command_is_named(world: &World) -> Result<(), Failed> {
    for (command, class, text) in [
        ("nosuch", FailureClass::CommandNotFound, "exec: \"nosuch\": executable file not found in $PATH"),
        ("/no/such", FailureClass::CommandNotFound, "no such file or directory"),
        ("/etc/passwd", FailureClass::CommandNotExecutable, "permission denied"),
        ("/etc", FailureClass::CommandNotExecutable, "is a directory"),
    ] {
        let (_, answer) = world.create(&world.spec(&[command]), world.extras(Stdio::default()));
        let Event::Failed(failure) = answer else { panic!("{command}: {answer:?}") };
        assert_eq!(failure.class, class, "{failure:?}");
        assert!(failure.message.contains(text), "{failure:?}");
    }
    Ok(())
}

fn isolation(world: &World) -> Result<(), Failed> {
    let (output, exit) = world.run(
        "echo pid $$; hostname; ls -l /dev/null /dev/fd >/dev/null && echo devices; \
         test -s /proc/kcore || echo masked; echo 1 2>/dev/null > /proc/sys/kernel/hostname || echo readonly; \
         cat /proc/self/mountinfo; echo covered $(ls /sys/firmware /proc/bus); cat /proc/self/status",
    );
    assert_eq!(exit.code, 0, "{output}");
    const COVERED: &str = "covered /proc/bus: /sys/firmware:\n";
    for wanted in ["pid 1\n", "inside\n", "devices\n", "masked\n", "readonly\n", COVERED, "CapEff:\t0000000000000000"] {
        assert!(output.contains(wanted), "{wanted:?} is missing in {output}");
    }
    assert!(!output.contains(&std::env::temp_dir().join("budu").display().to_string()) || output.contains("overlay"));
    let host_mounts = output.lines().filter(|line| line.contains(" / /") && line.contains("ext4")).count();
    assert_eq!(host_mounts, 0, "a mount of the host is visible: {output}");
    Ok(())
}

fn exec_plan(world: &World, args: &[&str], user: &str) -> Request {
    let mut process = world.spec(args).process.unwrap();
    process.user.username = user.to_owned();
    Request::Exec(Box::new(compile::exec(&process, None, false, (0, 0)).unwrap()))
}

fn exec_joins_the_container(world: &World) -> Result<(), Failed> {
    let (mut control, _attached) = world.start(&world.spec(&["sleep", "1000"]), Stdio::default());
    let mut stream = world.connect();
    protocol::send(&mut stream, &exec_plan(world, &["sh", "-c", "id; hostname; ps; exit 3"], "web")).unwrap();
    let (mut text, mut code) = (String::new(), None);
    while let Some((kind, payload)) = read_frame(&mut stream) {
        match kind {
            protocol::MESSAGE => {
                if let Event::Exited(exit) = protocol::decode(&payload).unwrap() {
                    code = Some(exit.code);
                }
            }
            _ => text.push_str(&String::from_utf8_lossy(&payload)),
        }
    }
    assert_eq!(code, Some(3), "{text}");
    for wanted in ["uid=33(web) gid=34(web) groups=34(web),50(extra)", "inside", "sleep 1000"] {
        assert!(text.contains(wanted), "{wanted:?} is missing in {text}");
    }
    let mut stream = world.connect();
    protocol::send(&mut stream, &exec_plan(world, &["nosuch"], "")).unwrap();
    let Some(Event::Failed(failure)) = protocol::receive(&mut stream).unwrap() else { panic!("no failure") };
    assert_eq!(failure.class, FailureClass::CommandNotFound);
    protocol::send(&mut control, &Request::Signal { signal: 9, all: false }).unwrap();
    assert_eq!(exit_of(control).code, 137);
    Ok(())
}

fn an_exec_ends_though_its_children_go_on_writing(world: &World) -> Result<(), Failed> {
    let (mut control, _attached) = world.start(&world.spec(&["sleep", "1000"]), Stdio::default());
    let mut stream = world.connect();
    let script = "for n in 1 2 3 4; do while :; do echo xxxx; done & done; read line; exit 3";
    let process = world.spec(&["sh", "-c", script]).process.unwrap();
    let plan = compile::exec(&process, None, true, (0, 0)).unwrap();
    protocol::send(&mut stream, &Request::Exec(Box::new(plan))).unwrap();
    let (mut said, mut code) = (0, None);
    while let Some((kind, payload)) = read_frame(&mut stream) {
        match (kind, protocol::decode(&payload)) {
            (protocol::MESSAGE, Ok(Event::Exited(exit))) => code = Some(exit.code),
            (protocol::STDOUT, _) => {
                if said == 0 {
                    // Now that they write, and faster than it is read.
                    stream.write_all(&[&protocol::header(protocol::STDIN, 1)[..], b"\n"].concat()).unwrap();
                }
                said += payload.len();
            }
            _ => {}
        }
        assert!(said < 256 << 20, "its end is not told");
    }
    assert_eq!(code, Some(3));
    protocol::send(&mut control, &Request::Signal { signal: 9, all: false }).unwrap();
    assert_eq!(exit_of(control).code, 137);
    Ok(())
}

/// While the program takes no input, nothing is read from who feeds it.
fn clients_that_leave_do_not_keep_the_shim_busy(world: &World) -> Result<(), Failed> {
    let stdio = Stdio { open_stdin: true, ..Stdio::default() };
    let (mut control, mut feeding) = world.start(&world.spec(&["sleep", "1000"]), stdio);
    let listening = [world.attach(false), world.attach(true)];
    let shim = rustix::net::sockopt::socket_peercred(&feeding).unwrap().pid.as_raw_nonzero();
    let rests = || {
        let stat = std::fs::read_to_string(format!("/proc/{shim}/stat")).unwrap();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
    };
    let open = || std::fs::read_dir(format!("/proc/{shim}/fd")).unwrap().count();
    feeding.set_nonblocking(true).unwrap();
    let piece = [&protocol::header(protocol::STDIN, 1 << 15)[..], &[b'x'; 1 << 15]].concat();
    let mut sent = 0;
    loop {
        match feeding.write(&piece[sent..]) {
            Ok(n) => sent = (sent + n) % piece.len(),
            Err(_) => {
                await_that("the shim does not rest", &rests);
                // It has taken what it will, when there is still no room.
                match feeding.write(&piece[sent..]) {
                    Ok(n) => sent = (sent + n) % piece.len(),
                    Err(_) => break,
                }
            }
        }
    }
    let before = open();
    drop(listening);
    await_that("those who left are kept", &|| open() == before - 2);
    drop(feeding);
    // A shim that is told of it again and again never sleeps.
    await_that("the shim does not rest", &rests);
    protocol::send(&mut control, &Request::Signal { signal: 9, all: false }).unwrap();
    assert_eq!(exit_of(control).code, 137);
    Ok(())
}

/// Waits for something that nothing announces.
fn await_that(what: &str, is_so: &dyn Fn() -> bool) {
    let mut tries = 0;
    while !is_so() {
        assert!(tries < 400, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
        tries += 1;
    }
}

fn terminal(world: &World) -> Result<(), Failed> {
    let mut spec = world.spec(&["sh", "-c", "tty; stty size; read line; stty size; echo got $line"]);
    let process = spec.process.as_mut().unwrap();
    process.terminal = true;
    process.console_size = Some(oci::ConsoleSize { height: 33, width: 77 });
    let (mut control, mut attached) = world.start(&spec, Stdio { open_stdin: true, ..Stdio::default() });
    protocol::send(&mut control, &Request::Resize { rows: 44, cols: 99 }).unwrap();
    assert!(matches!(protocol::receive(&mut control).unwrap(), Some(Event::Done)));
    let input = b"word\n";
    attached.write_all(&protocol::header(protocol::STDIN, input.len())).unwrap();
    attached.write_all(input).unwrap();
    let output = read_streams(attached);
    assert_eq!(exit_of(control).code, 0, "{output}");
    for wanted in ["/dev/pts/0", "44 99", "got word"] {
        assert!(output.contains(wanted), "{wanted:?} is missing in {output}");
    }
    Ok(())
}

fn stdin_reaches_the_program(world: &World) -> Result<(), Failed> {
    let stdio = Stdio { open_stdin: true, stdin_once: true, ..Stdio::default() };
    let (control, mut attached) = world.start(&world.spec(&["cat"]), stdio);
    // More than a pipe holds, so that both directions have to push back.
    let data = vec![b'x'; 1 << 20];
    let mut writer = attached.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        for chunk in data.chunks(10_000) {
            writer.write_all(&protocol::header(protocol::STDIN, chunk.len())).unwrap();
            writer.write_all(chunk).unwrap();
        }
        writer.write_all(&protocol::header(protocol::STDIN_EOF, 0)).unwrap();
    });
    let mut received = 0;
    while let Some((_, payload)) = read_frame(&mut attached) {
        received += payload.len();
    }
    sender.join().unwrap();
    assert_eq!(received, 1 << 20);
    assert_eq!(exit_of(control).code, 0);
    Ok(())
}

fn init_reaps_and_forwards(world: &World) -> Result<(), Failed> {
    let script = "trap 'echo caught; exit 5' TERM; (sh -c 'sleep 0.01 &' ); echo pid $$; while :; do sleep 0.05; done";
    let spec = world.spec(&["sh", "-c", script]);
    let extras = Extras { init: true, ..world.extras(Stdio::default()) };
    let (mut control, answer) = world.create(&spec, extras);
    assert!(matches!(answer, Event::Created { .. }), "{answer:?}");
    let mut attached = world.attach(false);
    protocol::send(&mut control, &Request::Start).unwrap();
    let (_, first) = read_frame(&mut attached).unwrap();
    assert_eq!(String::from_utf8_lossy(&first), "pid 2\n");
    protocol::send(&mut control, &Request::Signal { signal: 15, all: false }).unwrap();
    assert!(read_streams(attached).contains("caught"));
    assert_eq!(exit_of(control).code, 5);
    Ok(())
}

fn unknown_user_is_refused(world: &World) -> Result<(), Failed> {
    let mut spec = world.spec(&["true"]);
    spec.process.as_mut().unwrap().user.username = "nobody-here".into();
    let (_, answer) = world.create(&spec, world.extras(Stdio::default()));
    let Event::Failed(failure) = answer else { panic!("{answer:?}") };
    assert_eq!(failure.class, FailureClass::Invalid);
    assert!(failure.message.contains("unable to find user nobody-here"), "{failure:?}");
    Ok(())
}

fn exit_record_survives_the_engine(world: &World) -> Result<(), Failed> {
    let (control, attached) = world.start(
        &world.spec(&["sh", "-c", "read line; exit 9"]),
        Stdio { open_stdin: true, stdin_once: true, ..Stdio::default() },
    );
    // The engine dies: its connections close. The container ends afterwards.
    drop(control);
    let mut watcher = world.connect();
    protocol::send(&mut watcher, &Request::Watch).unwrap();
    assert!(matches!(protocol::receive(&mut watcher).unwrap(), Some(Event::Created { pid }) if pid > 1));
    drop(attached);
    assert_eq!(exit_of(watcher).code, 9);
    let exit = protocol::read_exit(&world.dir.join("run")).unwrap().expect("an exit record");
    assert_eq!(exit.code, 9);
    Ok(())
}

fn user_namespace(world: &World) -> Result<(), Failed> {
    const FIRST: u32 = 100_000;
    let root = world.dir.join("lower");
    for path in walk(&root) {
        std::os::unix::fs::lchown(&path, Some(FIRST), Some(FIRST)).unwrap();
    }
    let script = "id -u; cat /proc/self/uid_map; echo x > /dev/null && echo device; echo mine > /file && echo written";
    let mut spec = world.spec(&["sh", "-c", script]);
    spec.root = Some(oci::Root { path: root.clone(), readonly: false });
    let linux = spec.linux.as_mut().unwrap();
    linux.namespaces.push(oci::Namespace { kind: "user".into(), path: String::new() });
    let map = oci::IdMapping { container_id: 0, host_id: FIRST, size: 65536 };
    linux.uid_mappings = vec![map];
    linux.gid_mappings = vec![map];
    // The run directory is a way to the root file system for a user who is nobody on the host.
    for dir in [world.dir.clone(), world.dir.join("run")] {
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    }
    let (mut control, answer) = world.create(&spec, Extras { rootfs: None, ..world.extras(Stdio::default()) });
    assert!(matches!(answer, Event::Created { .. }), "{answer:?}");
    let attached = world.attach(false);
    protocol::send(&mut control, &Request::Start).unwrap();
    let output = read_streams(attached);
    assert_eq!(exit_of(control).code, 0, "{output}");
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536", "device", "written"]);
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(root.join("file")).unwrap());
    assert_eq!(owner, FIRST);
    Ok(())
}

fn nothing_is_left(world: &World) -> Result<(), Failed> {
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    world.run("true");
    let (_, answer) = world.create(&world.spec(&["nosuch"]), world.extras(Stdio::default()));
    assert!(matches!(answer, Event::Failed(_)));
    assert_eq!(before, mounts());
    let top = Path::new("/sys/fs/cgroup");
    let below = std::fs::read_dir(top).unwrap().flatten().map(|hierarchy| hierarchy.path());
    for hierarchy in below.chain([top.to_owned()]) {
        let path = hierarchy.join("budu-test").join(&world.id);
        assert!(!path.exists(), "{} is left", path.display());
    }
    assert!(!world.dir.join("run").join(protocol::SOCKET).exists());
    Ok(())
}

/// Prints where the time of one container goes; run with `--ignored figures`.
fn figures(world: &World) -> Result<(), Failed> {
    let mut steps: [Vec<u128>; 4] = Default::default();
    let spec = world.spec(&["true"]);
    for _ in 0..300 {
        let begin = std::time::Instant::now();
        let plan = compile::container(&spec, world.extras(Stdio::default())).unwrap();
        let mut control = world.launcher.new_shim(None).unwrap();
        protocol::send(&mut control, &Request::Create(Box::new(plan))).unwrap();
        let forked = begin.elapsed();
        assert!(matches!(protocol::receive(&mut control).unwrap(), Some(Event::Created { .. })));
        let created = begin.elapsed();
        protocol::send(&mut control, &Request::Start).unwrap();
        assert!(matches!(protocol::receive(&mut control).unwrap(), Some(Event::Started { .. })));
        let started = begin.elapsed();
        exit_of(control);
        let ended = begin.elapsed();
        for (step, time) in steps.iter_mut().zip([forked, created, started, ended]) {
            step.push(time.as_micros());
        }
    }
    for (name, step) in ["asked", "created", "started", "ended"].iter().zip(&mut steps) {
        step.sort_unstable();
        println!("{name:>8}: median {} us, fastest {} us", step[step.len() / 2], step[0]);
    }
    Ok(())
}
