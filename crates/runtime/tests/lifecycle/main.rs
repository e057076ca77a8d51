//! The life of a container as runtime.md tells it, through the commands: what
//! each does, and what it refuses without touching anything.
//!
//! The test binary is the runtime (called `budu-oci`). Needs root, and
//! busybox-static. docs/conformance.md says which sentence each test is for.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]
#![forbid(unsafe_code)]

mod cut_off;
mod hooks;
mod notify;
mod rootless;
mod running;
#[path = "../escape/world.rs"]
#[allow(dead_code, reason = "shared with the attacks, which need more of it")]
mod world;

use std::path::Path;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};
use world::World;

/// What the test binary is called as the runtime.
const RUNTIME: &str = "budu-oci";

type Test = fn(&World) -> Result<(), Failed>;

const TESTS: &[(&str, Test)] = &[
    ("created_is_not_running", created_is_not_running),
    ("later_changes_of_the_configuration_have_no_effect", later_changes_of_the_configuration_have_no_effect),
    ("the_state_has_every_member", the_state_has_every_member),
    ("ids_are_unique_and_plain", ids_are_unique_and_plain),
    ("commands_want_an_id_that_exists", commands_want_an_id_that_exists),
    ("start_is_for_created_containers", start_is_for_created_containers),
    ("kill_is_for_those_that_live", kill_is_for_those_that_live),
    ("delete_is_for_those_that_ended", delete_is_for_those_that_ended),
    ("a_failed_creation_leaves_nothing", a_failed_creation_leaves_nothing),
    ("unknown_members_are_ignored_and_wrong_values_are_not", unknown_members_are_ignored_and_wrong_values_are_not),
    ("devices_and_links_that_are_always_there", devices_and_links_that_are_always_there),
    ("namespaces_are_inherited_made_and_joined", namespaces_are_inherited_made_and_joined),
    ("mounts_are_made_in_order", mounts_are_made_in_order),
    ("features_are_true", features_are_true),
];

fn main() {
    let mut args = std::env::args_os();
    if args.next().is_some_and(|called| called == RUNTIME) {
        std::process::exit(budu_runtime::oci::main(RUNTIME, args.collect()));
    }
    if std::env::args().nth(1).is_some_and(|role| role == "role-notify") {
        std::process::exit(notify::program());
    }
    let arguments = Arguments::from_args();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().any(|path| Path::new(path).exists());
    let skip = !busybox || !rustix::process::geteuid().is_root();
    if skip {
        eprintln!("skipped: needs root and busybox-static");
    }
    let trials = TESTS
        .iter()
        .chain(hooks::TESTS)
        .chain(notify::TESTS)
        .chain(cut_off::TESTS)
        .chain(rootless::TESTS)
        .chain(running::TESTS)
        .map(|&(name, test)| Trial::test(name, move || World::with(name, test)).with_ignored_flag(skip))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let left = world::clean_up();
    if !left.is_empty() {
        eprintln!("left behind: {left:#?}");
        std::process::exit(101);
    }
    conclusion.exit();
}

/// Waits for something that nothing announces.
fn await_that(what: &str, is_so: &dyn Fn() -> bool) {
    let mut tries = 0;
    while !is_so() {
        assert!(tries < 400, "{what}");
        std::thread::sleep(Duration::from_millis(10));
        tries += 1;
    }
}

/// Creates the world's container.
fn create(world: &World, config: &Value) -> world::Ending {
    world.write_config(config);
    world.runtime(&["create", "--bundle", &world.dir.join("bundle").to_string_lossy(), world.id()])
}

fn state(world: &World) -> Value {
    serde_json::from_str(&world.runtime(&["state", world.id()]).good()).unwrap()
}

fn status(world: &World) -> String {
    state(world)["status"].as_str().unwrap().to_owned()
}

/// Waits for the container's end, by the end of its first process.
fn wait_for_end(world: &World) {
    let pid = i32::try_from(state(world)["pid"].as_i64().unwrap()).unwrap();
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
    assert!(rustix::event::poll(&mut fds, Some(&patience)).unwrap() > 0, "it does not end");
}

fn created_is_not_running(world: &World) -> Result<(), Failed> {
    create(world, &world.script("echo ran > /tmp/ran")).good();
    assert_eq!(status(world), "created");
    assert!(!world.inside("tmp/ran").exists(), "the program ran at creation");
    let pid = state(world)["pid"].to_string();
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    assert!(mounts.contains(" /proc ") && mounts.contains(" /dev/pts "), "the environment does not stand: {mounts}");
    world.runtime(&["start", world.id()]).good();
    wait_for_end(world);
    assert_eq!(status(world), "stopped");
    assert!(world.inside("tmp/ran").exists());
    world.runtime(&["delete", world.id()]).good();
    world.runtime(&["state", world.id()]).refused();
    Ok(())
}

fn later_changes_of_the_configuration_have_no_effect(world: &World) -> Result<(), Failed> {
    create(world, &world.script("echo first > /tmp/which")).good();
    world.write_config(&world.script("echo second > /tmp/which"));
    world.runtime(&["start", world.id()]).good();
    wait_for_end(world);
    assert_eq!(std::fs::read_to_string(world.inside("tmp/which"))?, "first\n");
    std::fs::write(world.dir.join("bundle/config.json"), "nonsense")?;
    world.runtime(&["delete", world.id()]).good();
    Ok(())
}

fn the_state_has_every_member(world: &World) -> Result<(), Failed> {
    let mut config = world.config(&["sleep", "1000"]);
    config["annotations"] = json!({"org.example.key": "value"});
    create(world, &config).good();
    let state = state(world);
    assert_eq!(state["ociVersion"], config["ociVersion"]);
    assert_eq!(state["id"], world.id());
    assert_eq!(state["status"], "created");
    assert!(state["pid"].as_i64().unwrap() > 0);
    assert_eq!(state["bundle"], json!(world.dir.join("bundle").canonicalize()?));
    assert_eq!(state["annotations"], config["annotations"]);
    Ok(())
}

fn ids_are_unique_and_plain(world: &World) -> Result<(), Failed> {
    create(world, &world.config(&["sleep", "1000"])).good();
    let before = state(world);
    create(world, &world.config(&["true"])).refused();
    assert_eq!(state(world), before, "the first container was touched");
    let bundle = world.dir.join("bundle");
    for id in ["", ".", "..", "a/b", "../x", "a b", "a\n", "ü", &"x".repeat(1100)] {
        let ending = world.runtime(&["create", "--bundle", &bundle.to_string_lossy(), id]);
        assert_eq!(ending.code, Some(1), "{id:?}: {ending:?}");
    }
    let states: Vec<_> = std::fs::read_dir(world.dir.join("state"))?.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(states, [world.id()]);
    Ok(())
}

fn commands_want_an_id_that_exists(world: &World) -> Result<(), Failed> {
    for command in ["state", "create", "start", "kill", "delete", "pause", "resume", "ps", "events", "update"] {
        let ending = world.runtime(&[command]);
        assert!(ending.code.is_some_and(|code| code != 0), "{command} without id: {ending:?}");
        if command != "create" {
            let ending = world.runtime(&[command, "nobody"]);
            assert!(ending.code.is_some_and(|code| code != 0), "{command} of nobody: {ending:?}");
        }
    }
    // No bundle: the working directory has no config.json.
    world.runtime(&["create", world.id()]).refused();
    world.runtime(&["create", "--bundle", "/nowhere", world.id()]).refused();
    Ok(())
}

fn start_is_for_created_containers(world: &World) -> Result<(), Failed> {
    create(world, &world.config(&["sleep", "1000"])).good();
    world.runtime(&["start", world.id()]).good();
    let before = state(world);
    world.runtime(&["start", world.id()]).refused();
    assert_eq!(state(world), before);
    world.runtime(&["kill", world.id(), "KILL"]).good();
    wait_for_end(world);
    world.runtime(&["start", world.id()]).refused();
    world.runtime(&["delete", world.id()]).good();
    // Without a process there is nothing to start.
    let mut config = world.config(&["true"]);
    config.as_object_mut().unwrap().remove("process");
    if create(world, &config).is_good() {
        world.runtime(&["start", world.id()]).refused();
    }
    Ok(())
}

fn kill_is_for_those_that_live(world: &World) -> Result<(), Failed> {
    let script = "trap 'echo usr1 > /tmp/got' USR1; echo > /tmp/ready; while true; do sleep 0.05; done";
    let container = world.start(&world.script(script));
    while !world.inside("tmp/ready").exists() {
        container.exec(&[], &["true"]).good();
    }
    world.runtime(&["kill", world.id(), "SIGUSR1"]).good();
    let mut tries = 0;
    while !world.inside("tmp/got").exists() && tries < 200 {
        container.exec(&[], &["sleep", "0.05"]).good();
        tries += 1;
    }
    assert!(world.inside("tmp/got").exists(), "the signal did not arrive");
    world.runtime(&["kill", world.id(), "NOSUCH"]).refused();
    assert_eq!(status(world), "running");
    world.runtime(&["kill", world.id(), "9"]).good();
    wait_for_end(world);
    world.runtime(&["kill", world.id(), "KILL"]).refused();
    assert_eq!(status(world), "stopped");
    drop(container);
    // One that is created has a first process too.
    create(world, &world.config(&["true"])).good();
    world.runtime(&["kill", world.id(), "KILL"]).good();
    wait_for_end(world);
    assert_eq!(status(world), "stopped");
    Ok(())
}

fn delete_is_for_those_that_ended(world: &World) -> Result<(), Failed> {
    let container = world.start(&world.config(&["sleep", "1000"]));
    let before = state(world);
    let text = world.runtime(&["delete", world.id()]).refused();
    assert!(text.contains("not stopped"), "{text}");
    assert_eq!(state(world), before);
    world.runtime(&["kill", world.id(), "KILL"]).good();
    wait_for_end(world);
    world.runtime(&["delete", world.id()]).good();
    assert!(!world.dir.join("state").join(world.id()).exists());
    // What the container did not bring is not taken away.
    assert!(world.inside("bin/busybox").exists());
    drop(container);
    Ok(())
}

fn a_failed_creation_leaves_nothing(world: &World) -> Result<(), Failed> {
    let broken: [(&str, Value); 5] = [
        ("/mounts/0/type", json!("nosuchfs")),
        ("/root/path", json!("nowhere")),
        ("/process/cwd", json!("relative")),
        ("/linux/namespaces/0/type", json!("nonsense")),
        ("/ociVersion", json!("9.0.0")),
    ];
    for (place, value) in broken {
        let mut config = world.config(&["true"]);
        *config.pointer_mut(place).unwrap() = value;
        create(world, &config).refused();
        assert!(!world.dir.join("state").join(world.id()).exists(), "{place}");
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            assert!(!hierarchy.path().join("budu-escape").join(world.id()).exists(), "{place}: {hierarchy:?}");
        }
    }
    Ok(())
}

fn unknown_members_are_ignored_and_wrong_values_are_not(world: &World) -> Result<(), Failed> {
    let mut config = world.config(&["echo", "fine"]);
    for place in ["", "/process", "/root", "/linux", "/linux/resources", "/mounts/0", "/process/user"] {
        let member = config.pointer_mut(place).unwrap().as_object_mut().unwrap();
        member.insert("xUnknown".to_owned(), json!({"deep": [1, {"er": null}]}));
    }
    config["annotations"] = json!({"com.example.unknown": "x", "org.opencontainers.unheard.of": "y"});
    assert_eq!(world.run(&config).good(), "fine\n");
    let wrong: [(&str, Value); 10] = [
        ("/ociVersion", json!("one")),
        ("/process/cwd", json!("relative")),
        ("/process/args", json!([])),
        ("/process/args", json!("true")),
        ("/process/user/uid", json!("root")),
        ("/root/path", json!(7)),
        ("/mounts/0/destination", json!({})),
        ("/linux/namespaces/0/type", json!("mnt")),
        ("/linux/cgroupsPath", json!(5)),
        ("/linux/maskedPaths", json!("/proc/kcore")),
    ];
    for (place, value) in wrong {
        let mut config = world.config(&["echo", "RAN"]);
        *config.pointer_mut(place).unwrap() = value;
        let text = world.run(&config).refused();
        assert!(!text.contains("RAN"), "{place}: {text}");
    }
    let mut config = world.config(&["echo", "RAN"]);
    let first = config["linux"]["namespaces"][0].clone();
    config["linux"]["namespaces"].as_array_mut().unwrap().push(first);
    world.run(&config).refused();
    Ok(())
}

fn devices_and_links_that_are_always_there(world: &World) -> Result<(), Failed> {
    let script = "for d in null zero full random urandom tty; do stat -c '%F %t:%T %n' /dev/$d; done; \
                  for l in fd stdin stdout stderr ptmx core; do echo $l $(stat -c %N /dev/$l); done";
    let text = world.run(&world.script(script)).good();
    for (name, numbers) in
        [("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8"), ("urandom", "1:9"), ("tty", "5:0")]
    {
        assert!(text.contains(&format!("character special file {numbers} /dev/{name}\n")), "{name}: {text}");
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(name) && line.contains(&format!("'{target}'"))),
            "{name}: {text}"
        );
    }
    Ok(())
}

fn namespaces_are_inherited_made_and_joined(world: &World) -> Result<(), Failed> {
    let kinds = [("network", "net"), ("uts", "uts"), ("ipc", "ipc"), ("pid", "pid"), ("cgroup", "cgroup")];
    let script = "for n in net uts ipc pid cgroup mnt; do echo $n $(stat -c %N /proc/self/ns/$n); done";
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    let text = world.run(&world.script(script)).good();
    for (_, name) in kinds {
        assert!(!text.contains(&own(name)), "{name} is not made: {text}");
    }
    for (kind, name) in kinds {
        let mut config = world.script(script);
        config.as_object_mut().unwrap().remove("hostname");
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != kind);
        let text = world.run(&config).good();
        assert!(text.contains(&own(name)), "{name} is not inherited: {text}");
        config["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": kind, "path": format!("/proc/self/ns/{name}")}));
        let text = world.run(&config).good();
        assert!(text.contains(&own(name)), "{name} is not joined: {text}");
        // What is no namespace, or one of another kind.
        let other = if name == "net" { "uts" } else { "net" };
        for path in [
            format!("/proc/self/ns/{other}"),
            "/etc/passwd".to_owned(),
            "/nowhere".to_owned(),
            format!("proc/self/ns/{name}"),
        ] {
            config["linux"]["namespaces"].as_array_mut().unwrap().last_mut().unwrap()["path"] = json!(path);
            let ending = world.run(&config);
            assert!(!ending.is_good(), "{name} {path}: {ending:?}");
        }
    }
    Ok(())
}

fn mounts_are_made_in_order(world: &World) -> Result<(), Failed> {
    let (one, two) = (world.dir.join("one"), world.dir.join("two"));
    for (dir, word) in [(&one, "one"), (&two, "two")] {
        std::fs::create_dir_all(dir.join("sub"))?;
        std::fs::write(dir.join("word"), word)?;
        std::fs::write(dir.join("sub/word"), format!("{word}-sub"))?;
    }
    let run = |mounts: Vec<Value>| {
        let mut config = world.config(&["cat", "/m/word", "/m/sub/word"]);
        config["mounts"].as_array_mut().unwrap().extend(mounts);
        world.run(&config).good()
    };
    assert_eq!(run(vec![world.bind(&one, "/m"), world.bind(&two, "/m")]), "twotwo-sub");
    assert_eq!(run(vec![world.bind(&one, "/m"), world.bind(&two, "/m/sub")]), "onetwo");
    assert_eq!(run(vec![world.bind(&two, "/m/sub"), world.bind(&one, "/m")]), "oneone-sub");
    // An old habit: without the slash.
    assert!(run(vec![world.bind(&one, "m")]).ends_with("oneone-sub"));
    Ok(())
}

/// What `features` lists can be used.
fn features_are_true(world: &World) -> Result<(), Failed> {
    let features: Value = serde_json::from_str(&world.runtime(&["features"]).good())?;
    for member in ["ociVersionMin", "ociVersionMax"] {
        let mut config = world.config(&["true"]);
        config["ociVersion"] = features[member].clone();
        world.run(&config).good();
    }
    let hooks: Vec<&str> = features["hooks"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for point in hooks::ON_THE_HOST.iter().chain(&["startContainer"]) {
        assert!(hooks.contains(point), "{point}: {hooks:?}");
    }
    let mut config = world.config(&["true"]);
    let options: Vec<&str> = features["mountOptions"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(options.len() > 50, "{options:?}");
    // All that a bind mount of a directory can have at once; contradictions: the last word counts.
    let source = world.dir.join("source");
    std::fs::create_dir(&source)?;
    for option in options.iter().filter(|option| !matches!(**option, "remount" | "idmap" | "ridmap" | "tmpcopyup")) {
        config["mounts"].as_array_mut().unwrap().truncate(7);
        let bind = json!({"destination": "/m", "type": "none", "source": source, "options": ["bind", option]});
        config["mounts"].as_array_mut().unwrap().push(bind);
        let ending = world.run(&config);
        assert!(ending.is_good(), "{option}: {ending:?}");
    }
    for action in features["linux"]["seccomp"]["actions"].as_array().unwrap() {
        if action != "SCMP_ACT_NOTIFY" {
            let mut config = world.config(&["true"]);
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["swapoff"], "action": action}],
            });
            world.run(&config).good();
        }
    }
    Ok(())
}
