//! The first thing a person does: `budu run --rm hello`, with nothing prepared.

use std::time::Duration;

use budu_testkit::suite::{Suite, only_budu};
use budu_testkit::{Backend, Client, Engine, Options, World};

use crate::shared;

pub(crate) fn tests(suite: &mut Suite) {
    suite.once(hello);
    suite.once(starts_a_daemon_by_itself);
    suite.once(called_as_docker);
    suite.once(several_daemons_on_one_machine);
    suite.once(configuration_file);
    suite.once(static_binary);
}

const NO_HELLO: &str = "the built-in image and its daemon are Budu's";

fn hello() {
    only_budu(NO_HELLO);
    let engine = Engine::start(Options::default()).expect("starts");
    let output = engine.client(Client::Budu).run(["run", "--rm", "hello"]).expect("runs");
    let seen = output.ok().to_lowercase();
    for word in ["pid", "host", "address", "limit", "root", "namespace", "10.88."] {
        assert!(seen.contains(word), "{word} is not in {output}");
    }
    // It is an image like any other.
    let stock = engine.client(Client::Docker);
    assert!(stock.ok(["images"]).contains("hello"));
    assert!(!stock.ok(["run", "--rm", "hello"]).is_empty());
    engine.finish().expect("nothing is left");
}

/// The daemon that a command starts lives at the default places, so it gets a machine with places of its own.
fn starts_a_daemon_by_itself() {
    only_budu(NO_HELLO);
    let dir = tempfile::tempdir().expect("a directory");
    let bind =
        |name: &str, target: &str| budu_testkit::Mount::Bind { source: dir.path().join(name), target: target.into() };
    for name in ["run", "lib", "out"] {
        std::fs::create_dir(dir.path().join(name)).expect("writable");
    }
    let world = World { mounts: vec![bind("run", "/run"), bind("lib", "/var/lib")], ..World::default() };
    let cage = budu_testkit::Cage::new(&world).expect("a cage");
    let run = |args: &[&str], log: &str| {
        let mut argv = vec![Backend::budu_binary().display().to_string()];
        argv.extend(args.iter().map(|arg| (*arg).to_owned()));
        let env = [("PATH".to_owned(), "/usr/bin:/bin".to_owned()), ("HOME".to_owned(), "/root".to_owned())];
        let log = dir.path().join("out").join(log);
        let pid = cage.spawn(&argv, &env, &log).expect("starts");
        let code = cage.wait_exit(pid, Duration::from_secs(30)).expect("ends");
        (code, std::fs::read_to_string(&log).expect("readable"))
    };
    let (code, first) = run(&["run", "--rm", "hello"], "first");
    assert_eq!(code, 0, "{first}");
    let note: Vec<&str> = first.lines().filter(|line| line.contains("daemon")).collect();
    assert_eq!(note.len(), 1, "one line about the daemon: {first}");
    let (code, second) = run(&["run", "--rm", "hello"], "second");
    assert_eq!(code, 0, "{second}");
    assert!(!second.contains("daemon"), "the daemon of the first command still answers: {second}");
    assert!(dir.path().join("run/budu/budu.sock").exists());
    let (code, _) = run(&["run", "--rm", "--entrypoint", "/no-such", "hello"], "third");
    assert_eq!(code, 127);
}

fn called_as_docker() {
    only_budu(NO_HELLO);
    let engine = shared::engine();
    let link = engine.path("docker");
    std::os::unix::fs::symlink(Backend::budu_binary(), &link).expect("writable");
    let socket = format!("unix://{}", engine.socket().display());
    let output = budu_testkit::program(&link, ["-H", &socket, "version"]).expect("runs");
    assert!(output.stdout.contains("Server:"), "{output}");
}

fn several_daemons_on_one_machine() {
    only_budu("dockerd cannot: its containerd address and firewall chains are fixed");
    let engine = shared::engine();
    let dir = engine.path("second");
    std::fs::create_dir(&dir).expect("writable");
    let path = |name: &str| dir.join(name).display().to_string();
    let host = format!("unix://{}", path("s"));
    let argv = [
        &Backend::budu_binary().display().to_string(),
        "daemon",
        "-H",
        &host,
        "--data-root",
        &path("data"),
        "--exec-root",
        &path("exec"),
        "--bridge",
        "budu-two",
        "--bip",
        "10.89.0.1/24",
    ]
    .map(str::to_owned);
    let env = [("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    let pid = engine.cage().spawn(&argv, &env, &dir.join("log")).expect("starts");
    let second = engine.client(Client::Budu).with_env("DOCKER_HOST", &host);
    budu_testkit::wait::until("the second daemon", Duration::from_secs(10), || {
        second.run(["version"]).ok().filter(budu_testkit::Output::success)
    })
    .expect("answers");
    let seen = second.ok(["run", "--rm", "hello"]);
    assert!(seen.contains("10.89.0."), "{seen}");
    assert_eq!(second.ok(["ps", "-aq"]), "", "containers of the first daemon are not its own");
    let target = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(target, rustix::process::Signal::TERM).expect("sent");
    assert_eq!(engine.cage().wait_exit(pid, Duration::from_secs(10)).expect("ends"), 0);
    engine.side().run("ip", &["link", "del", "budu-two"]).expect("its bridge stayed");
}

fn configuration_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("daemon.json");
    std::fs::write(&file, r#"{"labels": ["from=file"], "debug": true}"#).expect("writable");
    let flags = vec!["--config-file".to_owned(), file.display().to_string()];
    only_budu("the file is not visible in the peers' root directory");
    let engine = Engine::start(Options { flags, ..Options::default() }).expect("starts");
    let info = engine.http("GET", "/info", None).expect("answers").json();
    assert_eq!(info["Labels"], serde_json::json!(["from=file"]));
    assert_eq!(info["Debug"], true);
    engine.finish().expect("nothing is left");
}

fn static_binary() {
    only_budu("this is about our own binary");
    let bytes = std::fs::read(Backend::budu_binary()).expect("it is built");
    let needle = b"/lib64/ld-linux";
    let dynamic = bytes.windows(needle.len()).any(|window| window == needle) && has_interpreter(&bytes);
    assert!(!dynamic, "the binary asks for a dynamic loader");
}

/// Whether an ELF file (64 bit, little endian) has a program header of type PT_INTERP.
fn has_interpreter(elf: &[u8]) -> bool {
    let number = |at: usize, size: usize| {
        elf[at..at + size].iter().rev().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|index| number(table + index * size, 4) == 3)
}
