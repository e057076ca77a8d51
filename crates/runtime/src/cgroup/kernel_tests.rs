//! Against the running kernel: groups `budu-test-…` that are removed again.

use std::process::{Child, Command, Stdio};

use super::*;

fn host() -> Option<Layout> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return None;
    }
    let layout = layout().expect("/proc is readable");
    if layout.is_none() {
        println!("skipped: no cgroup file system");
    }
    layout
}

fn plan(what: &str) -> CgroupPlan {
    CgroupPlan { path: format!("budu-test-{}-{what}", std::process::id()), ..CgroupPlan::default() }
}

/// A process in a group, until its input ends. It is put there: to move itself it would take `unsafe`.
fn inside(entry: Entry) -> Child {
    let child = Command::new("/bin/sh").args(["-c", "read x"]).stdin(Stdio::piped()).spawn().expect("a shell");
    let pid = child.id().to_string();
    match entry {
        Entry::V1 { tasks, .. } => tasks.iter().for_each(|tasks| {
            rustix::io::write(tasks, pid.as_bytes()).expect("it lives");
        }),
        Entry::V2(directory) => {
            let flags = rustix::fs::OFlags::WRONLY;
            let procs = rustix::fs::openat(directory, "cgroup.procs", flags, rustix::fs::Mode::empty());
            rustix::io::write(procs.expect("it exists"), pid.as_bytes()).expect("it lives");
        }
    }
    child
}

#[test]
fn a_group_lives_and_ends_by_its_place() {
    let Some(layout) = host() else { return };
    for under_own in [false, true] {
        let mut plan = CgroupPlan { under_own, ..plan(if under_own { "own" } else { "root" }) };
        plan.resources = Resources { pids: Some(50), memory: Some(64 << 20), ..Resources::default() };
        let place = resolve(Some(&layout), &plan).expect("a place");
        let group = make(Some(&layout), &plan).expect("root may").expect("a group").keep();
        let mut child = inside(group.entry().expect("it exists"));
        let own = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).expect("it lives");
        assert!(own.lines().filter(|line| line.ends_with(&plan.path)).count() >= 1, "{own}");
        let found = metrics(&layout, &plan, "x", &place).expect("readable");
        assert_eq!((found.pids.limit, found.pids.current, found.memory.usage.limit), (50, 1, 64 << 20));
        let wish = Resources { pids: Some(60), cpuset_cpus: "0".to_owned(), ..Resources::default() };
        update(&layout, &plan, &place, &wish).expect("root may");
        assert_eq!(metrics(&layout, &plan, "x", &place).expect("readable").pids.limit, 60);
        let message = make(Some(&layout), &plan).expect_err("it is taken").message;
        assert!(message.contains("container's cgroup is not empty: 1 process(es) found"), "{message}");
        let entry = exec_entry(&layout, &place, &[], child.id().cast_signed()).expect("the same group");
        let mut second = inside(entry);
        assert_eq!(metrics(&layout, &plan, "x", &place).expect("readable").pids.current, 2);
        let message = exec_entry(&layout, &place, &["nothing".to_owned()], 1).expect_err("no such group").message;
        assert!(
            message.contains("error adding pid ") && message.contains("/nothing/cgroup.procs: no such file"),
            "{message}"
        );
        let reap = std::thread::spawn(move || {
            child.wait().expect("ours");
            second.wait().expect("ours");
        });
        remove(&layout, &place).expect("killed and removed");
        reap.join().expect("both ended");
        assert!(open(&layout, &place).is_err());
        remove(&layout, &place).expect("gone is fine");
    }
}

#[test]
fn a_rootless_container_may_do_without() {
    let Some(layout) = host() else { return };
    let mut layout = layout;
    // Where nobody can make a directory.
    layout.hierarchies.iter_mut().for_each(|one| one.mount = "/sys/kernel".into());
    let mut plan = CgroupPlan { optional: true, ..plan("rootless") };
    if !is_v2(&layout) {
        assert!(make(Some(&layout), &plan).expect("nothing is limited").is_none());
    }
    plan.resources.pids = Some(5);
    let message = make(Some(&layout), &plan).expect_err("a limit cannot be kept").message;
    let either = [
        "rootless needs no limits + no cgrouppath when no permission is granted for cgroups",
        "cannot set pids limit: container could not join or create cgroup",
    ];
    assert!(either.iter().any(|text| message.contains(text)) || is_v2(&layout), "{message}");
}

#[test]
fn a_scope_of_the_systemd_that_runs_here() {
    let Some(layout) = host() else { return };
    if !std::path::Path::new("/run/systemd/system").is_dir() {
        return println!("skipped: systemd does not run here");
    }
    let name = format!("test{}", std::process::id());
    let mut plan = CgroupPlan { path: format!("budutest-a.slice:budu:{name}"), systemd: true, ..CgroupPlan::default() };
    plan.resources = Resources {
        pids: Some(50),
        memory: Some(64 << 20),
        memory_swap: Some(64 << 20),
        cpu_shares: Some(512),
        cpu_quota: Some(12_345),
        cpu_period: Some(50_000),
        cpuset_cpus: "0".to_owned(),
        devices: vec![
            crate::plan::DeviceRule { allow: false, kind: 'a', major: None, minor: None, access: "rwm".to_owned() },
            crate::plan::DeviceRule {
                allow: true,
                kind: 'c',
                major: Some(1),
                minor: Some(3),
                access: "rwm".to_owned(),
            },
            crate::plan::DeviceRule { allow: true, kind: 'c', major: None, minor: None, access: "m".to_owned() },
        ],
        ..Resources::default()
    };
    plan.scope_properties = vec![("TimeoutStopSec".to_owned(), "1".to_owned())];
    let place = resolve(Some(&layout), &plan).expect("a place");
    assert!(place.starts_with(&format!("/budutest.slice/budutest-a.slice/budu-{name}.scope\n")), "{place}");
    let mut child =
        Command::new("/bin/sh").args(["-c", "trap '' TERM; read x"]).stdin(Stdio::piped()).spawn().expect("a shell");
    let pid = Pid::from_child(&child);
    let group = make_scope(Some(&layout), &plan, "x", pid).expect("root may").expect("a group").keep();
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).expect("it lives");
    let path = place.lines().next().expect("a path");
    assert!(own.lines().all(|line| line.ends_with(path)), "{own}");
    let found = metrics(&layout, &plan, "x", &place).expect("readable");
    assert_eq!((found.pids.limit, found.memory.usage.limit), (50, 64 << 20));
    if is_v2(&layout) {
        let text = |file: &str| group.text(Controllers::NONE, file).unwrap_or_default();
        assert_eq!(text("cpu.max").trim(), "12500 50000", "rounded to whole percents as systemd does");
        assert_eq!(text("cpu.weight").trim(), "59");
        assert_eq!(text("cpuset.cpus").trim(), "0");
    }
    let message = make_scope(Some(&layout), &plan, "x", pid).expect_err("it is taken").message;
    assert!(message.contains("container's cgroup is not empty"), "{message}");
    update(&layout, &plan, &place, &Resources { pids: Some(60), ..Resources::default() }).expect("root may");
    assert_eq!(metrics(&layout, &plan, "x", &place).expect("readable").pids.limit, 60);
    let reap = std::thread::spawn(move || child.wait().expect("ours"));
    remove(&layout, &place).expect("killed, stopped and removed");
    reap.join().expect("it ended");
    assert!(open(&layout, &place).is_err());
    remove(&layout, &place).expect("gone is fine");
}
