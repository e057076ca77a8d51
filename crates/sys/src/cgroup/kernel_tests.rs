//! Against the running kernel: groups `budu-test-PID-…` that are removed again. And v2's file formats, read from a
//! directory of ordinary files.

use super::*;
use rustix::process::{Pid, Signal};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn name(what: &str) -> CgroupPath {
    CgroupPath::parse(&format!("budu-test-{}-{what}", std::process::id())).expect("valid")
}

/// The host's layout with its limits, whichever generation, or why not.
fn host() -> Option<Layout> {
    match Layout::detect() {
        Ok(layout) if rustix::process::geteuid().is_root() => Some(layout),
        Ok(_) => {
            println!("skipped: needs root");
            None
        }
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// The v2 tree of the host, wherever it is, without counting on any controller.
fn v2() -> Option<Layout> {
    let layout = Layout::detect().ok()?;
    let mount = match layout.version {
        Version::V2 => layout.hierarchies.first().map(|one| one.mount.clone()),
        Version::V1 => layout.unified,
    };
    let Some(mount) = mount.filter(|_| rustix::process::geteuid().is_root()) else {
        println!("skipped: needs root and a v2 tree");
        return None;
    };
    Some(Layout::v2_at(&mount, Controllers::NONE))
}

/// A process that waits for its standard input to end, then runs `script` inside the group.
struct Inside {
    child: Child,
}

impl Inside {
    fn start(group: &Cgroup, script: &str) -> Inside {
        use std::os::unix::process::CommandExt;
        let entry = group.entry().expect("the group exists");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: enter() only makes system calls.
        unsafe { command.pre_exec(move || entry.enter().map_err(Into::into)) };
        Inside { child: command.spawn().expect("a shell") }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn status(mut self) -> std::process::ExitStatus {
        drop(self.child.stdin.take());
        self.child.wait().expect("our child")
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn exists(layout: &Layout, path: &CgroupPath) -> bool {
    layout.hierarchies.iter().any(|one| one.mount.join(path.as_str()).exists())
}

#[test]
fn a_dropped_group_is_gone_and_a_kept_one_stays() {
    let Some(layout) = host() else { return };
    let path = name("guard").join("below").expect("valid");
    drop(plan(&layout, &path, &Resources::default()).expect("valid").apply().expect("root may"));
    assert!(!exists(&layout, &path));
    let _ = plan(&layout, &path, &Resources::default()).expect("valid").apply().expect("root may").keep();
    assert!(exists(&layout, &path));
    let mut again = Cgroup::open(&layout, &path).expect("it exists");
    again.remove().expect("it is empty");
    Cgroup::open(&layout, &name("guard")).expect("the parent stays").remove().expect("it is empty");
    assert!(!exists(&layout, &name("guard")));
    assert_eq!(Cgroup::open(&layout, &path).expect_err("gone").errno(), Some(2));
}

#[test]
fn a_failed_limit_leaves_nothing() {
    let Some(layout) = host() else { return };
    let path = name("failed");
    let resources = Resources { pids: Some(i64::MAX), ..Resources::default() };
    let error = plan(&layout, &path, &resources).expect("valid").apply().expect_err("the kernel has a maximum");
    assert!(error.to_string().contains("pids.max"), "{error}");
    assert!(!exists(&layout, &path));
}

#[test]
fn limits_arrive_and_change() {
    let Some(layout) = host() else { return };
    let path = name("limits");
    let swap =
        layout.hierarchy(Controllers::MEMORY).is_some_and(|one| one.mount.join("memory.memsw.limit_in_bytes").exists());
    let resources = |memory: i64| Resources {
        memory: Memory { limit: Some(memory), swap: swap.then_some(memory * 2), ..Memory::default() },
        cpu: Cpu { quota: Some(50_000), period: Some(100_000), cpus: Some("0".to_owned()), ..Cpu::default() },
        pids: Some(77),
        ..Resources::default()
    };
    let mut group = plan(&layout, &path, &resources(64 << 20)).expect("valid").apply().expect("root may");
    let stats = group.stats().expect("it exists");
    assert_eq!((stats.memory.limit, stats.pids.limit), (64 << 20, 77));
    // Each direction needs another order of limit and limit with swap.
    group.update(&layout, &resources(256 << 20), false).expect("up");
    assert_eq!(group.stats().expect("it exists").memory.limit, 256 << 20);
    group.update(&layout, &resources(32 << 20), false).expect("down");
    assert_eq!(group.stats().expect("it exists").memory.limit, 32 << 20);
    assert_eq!(group.oom_kills().expect("readable"), 0);
}

#[test]
fn an_update_on_v1_may_need_another_hierarchy() {
    let Some(layout) = host() else { return };
    if layout.version == Version::V2 {
        return println!("skipped: needs v1");
    }
    let path = name("cpuset");
    let mut group = plan(&layout, &path, &Resources::default()).expect("valid").apply().expect("root may");
    let inside = Inside::start(&group, "read x");
    let cpu = Cpu { cpus: Some("0".to_owned()), ..Cpu::default() };
    group.update(&layout, &Resources { cpu, ..Resources::default() }, false).expect("the host has cpusets");
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", inside.pid().as_raw_nonzero())).expect("it lives");
    assert!(own.contains(&format!(":cpuset:{path}\n")), "{own}");
    assert_eq!(inside.status().code(), Some(1), "end of input");
}

#[test]
fn complete_groups_are_everywhere_and_born_into() {
    let Some(layout) = host() else { return };
    let layout = layout.complete();
    let path = name("complete");
    let mut group = plan(&layout, &path, &Resources::default()).expect("valid").apply().expect("root may");
    let inside = Inside::start(&group, "read x");
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", inside.pid().as_raw_nonzero())).expect("it lives");
    // The v2 tree beside v1 is entered by birth alone, which this test's process was not.
    let elsewhere: Vec<&str> =
        own.lines().filter(|line| !line.starts_with("0::") && !line.ends_with(&path.to_string())).collect();
    assert!(elsewhere.is_empty(), "{own}");
    assert_eq!(
        group.entry().expect("it exists").birthplace().is_some(),
        layout.unified.is_some() || layout.version == Version::V2
    );
    group.destroy().expect("kills and removes");
    drop(inside);
    assert!(!exists(&layout, &path));
}

#[test]
fn a_group_is_removed_by_its_path_with_all_that_is_in_it() {
    let Some(layout) = host() else { return };
    let path = name("path");
    let group = plan(&layout, &path, &Resources::default()).expect("valid").apply().expect("root may").keep();
    let inside = Inside::start(&group, "sleep 1000 & read x; wait");
    Cgroup::remove_at(&layout, &path).expect("killed first");
    drop(inside);
    assert!(!exists(&layout, &path));
    Cgroup::remove_at(&layout, &path).expect("gone is fine");
}

#[test]
fn a_frozen_group_is_not_taken_over() {
    let Some(layout) = host() else { return };
    let plan = plan(&layout, &name("frozen"), &Resources::default()).expect("valid");
    let mut group = plan.apply().expect("root may");
    group.freeze().expect("freezes");
    let error = plan.apply().expect_err("frozen").to_string();
    assert!(error.contains("container's cgroup unexpectedly frozen"), "{error}");
    assert!(group.is_frozen().expect("it was not undone"));
    group.remove().expect("it is empty");
}

#[test]
fn an_update_on_v2_may_need_another_controller() {
    let Some(layout) = host() else { return };
    if layout.version == Version::V1 {
        return println!("skipped: needs v2");
    }
    let path = name("later");
    let mut group = plan(&layout, &path, &Resources::default()).expect("valid").apply().expect("root may");
    let cpu = Cpu { cpus: Some("0".to_owned()), ..Cpu::default() };
    group.update(&layout, &Resources { cpu, ..Resources::default() }, false).expect("the host has cpusets");
    let cpuset = layout.hierarchy(Controllers::CPUSET).expect("every host has it");
    let file = cpuset.mount.join(path.as_str()).join("cpuset.cpus");
    assert_eq!(std::fs::read_to_string(file).expect("readable").trim(), "0");
}

#[test]
fn who_needs_too_much_memory_is_killed_and_counted() {
    let Some(layout) = host() else { return };
    let limit = Some(16 << 20);
    let swap = limit.filter(|_| layout.support().swap);
    let memory = Memory { limit, swap, ..Memory::default() };
    let resources = Resources { memory, ..Resources::default() };
    let mut group = plan(&layout, &name("oom"), &resources).expect("valid").apply().expect("root may");
    let watch = group.watch_oom().expect("the host has a memory controller");
    assert_eq!(watch.take().expect("readable"), News::default());
    // tail keeps what may be the end, and this has no line in it.
    let inside = Inside::start(&group, "read x; head -c 200000000 /dev/zero | tail -n 1 >/dev/null; exit 3");
    assert_eq!(inside.status().code(), Some(3), "only the greedy one is killed");
    assert_eq!(group.oom_kills().expect("readable"), 1);
    assert!(watch.take().expect("readable").out_of_memory);
    group.remove().expect("it is empty in a moment");
    let mut ready = [rustix::event::PollFd::new(&watch, rustix::event::PollFlags::IN)];
    if layout.version == Version::V1 {
        let timeout = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut ready, Some(&timeout)), Ok(1), "removal is news");
        assert_eq!(watch.take().expect("readable"), News { out_of_memory: false, ended: true });
    }
}

#[test]
fn a_process_enters_is_counted_frozen_and_killed() {
    let Some(layout) = host() else { return };
    inside_and_out(&layout, "host");
}

#[test]
fn the_same_on_a_v2_tree_without_controllers() {
    let Some(layout) = v2() else { return };
    inside_and_out(&layout, "v2");
}

#[test]
fn no_limits_on_processes_beside_a_group_for_threads() {
    let Some(layout) = v2() else { return };
    let above = name("threads");
    let at = |below: &str| layout.hierarchies[0].mount.join(above.as_str()).join(below);
    std::fs::create_dir_all(at("threads")).expect("root may");
    std::fs::write(at("threads/cgroup.type"), "threaded").expect("the group is empty");
    let path = above.join("box").expect("valid");
    let mut wish = plan(&layout, &path, &Resources::default()).expect("valid");
    drop(wish.apply().expect("without limits it becomes threaded too"));
    wish.needed = Controllers::MEMORY;
    let error = wish.apply().expect_err("memory belongs to processes").to_string();
    assert!(error.contains("cannot limit memory") && error.contains("domain invalid"), "{error}");
    assert!(!at("box").exists(), "and nothing is left");
    Cgroup::remove_at(&layout, &above).expect("empty");
}

fn inside_and_out(layout: &Layout, what: &str) {
    let mut group = plan(layout, &name(what), &Resources::default()).expect("valid").apply().expect("root may");
    let inside = Inside::start(&group, "sleep 1000 & sleep 1000 & read x; wait");
    let deadline = Instant::now() + Duration::from_secs(5);
    while group.procs().expect("readable").len() < 3 {
        assert!(Instant::now() < deadline, "two sleeps and their shell");
        std::thread::yield_now();
    }
    assert!(group.procs().expect("readable").contains(&inside.pid()));
    group.freeze().expect("freezes");
    assert!(group.is_frozen().expect("readable"));
    group.thaw().expect("thaws");
    assert!(!group.is_frozen().expect("readable"));
    group.freeze().expect("freezes");
    group.kill_all().expect("kills, frozen or not");
    let status = inside.status();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::KILL.as_raw()));
    group.remove().expect("it is empty in a moment");
    assert!(!exists(layout, group.path()));
}

#[test]
fn a_group_that_somebody_removed_is_done_with() {
    let Some(layout) = host() else { return };
    let mut group = plan(&layout, &name("gone"), &Resources::default()).expect("valid").apply().expect("root may");
    Cgroup::open(&layout, group.path()).expect("it exists").remove().expect("nobody is in it");
    group.thaw().expect("nobody is held");
    group.kill_all().expect("nobody is left");
    group.signal_all(Signal::TERM).expect("nobody is left");
    assert!(group.is_empty() && !group.is_frozen().expect("it is not"));
    group.destroy().expect("it is gone");
}

#[test]
fn groups_made_inside_go_too() {
    let Some(layout) = host() else { return };
    let mut group = plan(&layout, &name("nested"), &Resources::default()).expect("valid").apply().expect("root may");
    let pids = layout.hierarchy(Controllers::PIDS).expect("every host has it");
    std::fs::create_dir_all(pids.mount.join(group.path().as_str()).join("a/b/c")).expect("root may");
    group.remove().expect("children first");
    assert!(!exists(&layout, group.path()));
}

/// Opens /dev/null and /dev/full; the second is closed by the rules.
const DEVICES: &str = "read x; (: < /dev/null) || exit 10; (: < /dev/full) && exit 11; exit 0";

fn device_rules() -> Resources {
    let rules = vec![DeviceRule::DENY_ALL, "c *:* m".parse().expect("a rule"), "c 1:3 rwm".parse().expect("a rule")];
    Resources { devices: Some(rules), ..Resources::default() }
}

#[test]
fn devices_are_closed() {
    let Some(layout) = host() else { return };
    let group = plan(&layout, &name("devices"), &device_rules()).expect("valid").apply().expect("root may");
    // The shell's own standard streams are opened before it enters.
    assert_eq!(Inside::start(&group, DEVICES).status().code(), Some(0));
}

#[test]
fn devices_are_closed_on_v2_and_rules_can_be_replaced() {
    let Some(layout) = v2() else { return };
    let mut group = match plan(&layout, &name("devices2"), &device_rules()).expect("valid").apply() {
        Ok(group) => group,
        Err(error) if matches!(error.errno(), Some(1 | 22 | 38)) => {
            return println!("skipped: no device programs: {error}");
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(Inside::start(&group, DEVICES).status().code(), Some(0));
    let open = Resources { devices: Some(vec![DeviceRule::ALLOW_ALL]), ..Resources::default() };
    group.update(&layout, &open, false).expect("replaces");
    let attached = device_program::attached(group.directory(Controllers::NONE).expect("v2")).expect("readable");
    assert_eq!(attached.len(), 1, "the old program is detached");
    assert_eq!(Inside::start(&group, DEVICES).status().code(), Some(11));
}

#[test]
fn a_second_group_of_the_same_name_is_refused_while_it_lives() {
    let Some(layout) = host() else { return };
    let plan = plan(&layout, &name("twice"), &Resources::default()).expect("valid");
    let first = plan.apply().expect("root may").keep();
    let inside = Inside::start(&first, "read x");
    assert_eq!(plan.apply().expect_err("in use").errno(), Some(libc::EBUSY));
    assert!(exists(&layout, first.path()), "somebody else's group is not undone");
    drop(inside);
    let mut again = plan.apply().expect("left behind and empty");
    again.remove().expect("empty");
}

#[test]
fn v2_files_read_and_written() {
    let directory = std::env::temp_dir().join(format!("budu-cgroup2-{}", std::process::id()));
    let group = directory.join("budu/x");
    std::fs::create_dir_all(&group).expect("a temporary directory");
    let put = |path: &Path, file: &str, text: &str| std::fs::write(path.join(file), text).expect("writable");
    put(&directory, "cgroup.subtree_control", "cpu memory\n");
    put(&directory.join("budu"), "cgroup.subtree_control", "");
    for (file, text) in [
        ("cgroup.procs", ""),
        (
            "cpu.stat",
            "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 4\nnr_throttled 2\nthrottled_usec 9\n",
        ),
        ("memory.current", "4096\n"),
        ("memory.peak", "8192\n"),
        ("memory.max", "max\n"),
        ("memory.stat", "anon 1\nfile 2\ninactive_file 3\n"),
        ("memory.events", "low 0\nhigh 0\nmax 5\noom 1\noom_kill 7\noom_group_kill 0\n"),
        ("pids.current", "3\n"),
        ("pids.max", "max\n"),
        ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n253:1 \n"),
        ("cpu.max", ""),
        ("memory.swap.max", ""),
    ] {
        put(&group, file, text);
    }
    // A controller that nobody asked for is not switched on, and has no files in the group.
    let all = Controllers::CPU.union(Controllers::MEMORY).union(Controllers::PIDS).union(Controllers::CPUSET);
    let layout = Layout::v2_at(&directory, all);
    let resources = Resources {
        memory: Memory { limit: Some(1 << 20), swap: Some(1 << 20), ..Memory::default() },
        cpu: Cpu { quota: Some(5), ..Cpu::default() },
        ..Resources::default()
    };
    let made = plan(&layout, &CgroupPath::parse("budu/x").expect("valid"), &resources).expect("valid").apply();
    let made = made.expect("an empty group is taken over").keep();
    let read = |path: &str| std::fs::read_to_string(directory.join(path)).expect("readable");
    // Ordinary files are overwritten in place: what was written stands at their beginning.
    assert!(read("cgroup.subtree_control").starts_with("+pids"));
    assert!(read("budu/cgroup.subtree_control").starts_with("+cpu +memory +pids"));
    assert_eq!(read("budu/x/cpu.max"), "5 100000");
    assert_eq!(read("budu/x/memory.swap.max"), "0");
    assert!(read("budu/x/memory.max").starts_with("1048576"));
    put(&group, "memory.max", "max\n");
    let stats = made.stats().expect("readable");
    assert_eq!((stats.cpu.usage_ns, stats.cpu.throttled_periods, stats.cpu.throttled_ns), (1_500_000, 2, 9000));
    assert_eq!((stats.memory.usage, stats.memory.max_usage, stats.memory.limit), (4096, 8192, u64::MAX));
    assert_eq!((stats.memory.stat("inactive_file"), stats.memory.fail_count), (Some(3), 5));
    assert_eq!((stats.pids.current, stats.pids.limit), (3, 0));
    assert_eq!(stats.block_io.len(), 2);
    assert_eq!((stats.block_io[0].read_bytes, stats.block_io[0].writes), (10, 2));
    assert_eq!(made.oom_kills().expect("readable"), 7);
    std::fs::remove_dir_all(directory).expect("ours");
}

/// Microseconds of each step, medians: `cargo test -p budu-sys --release -- --ignored --nocapture figures`.
#[test]
#[ignore = "a measurement"]
fn figures() {
    let Some(layout) = host() else { return };
    let devices = {
        let text = "c *:* m,b *:* m,c 1:3 rwm,c 1:5 rwm,c 1:7 rwm,c 1:8 rwm,c 1:9 rwm,c 5:0 rwm,c 5:1 rwm,c 5:2 rwm,c 136:* rwm";
        let rules = text.split(',').map(|rule| rule.parse().expect("a rule"));
        Resources { devices: Some([DeviceRule::DENY_ALL].into_iter().chain(rules).collect()), ..Resources::default() }
    };
    let all = layout.clone().complete();
    for (what, layout, resources) in [
        ("no limits", &layout, Resources::default()),
        ("with device rules", &layout, devices.clone()),
        ("everywhere, no limits", &all, Resources::default()),
        ("everywhere, with device rules", &all, devices),
    ] {
        let mut columns: [Vec<f64>; 5] = Default::default();
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(5));
            let mut last = Instant::now();
            let mut lap = |column: &mut Vec<f64>| {
                let now = Instant::now();
                column.push(now.duration_since(last).as_secs_f64() * 1e6);
                last = now;
            };
            let plan = plan(layout, &name("figures"), &resources).expect("valid");
            lap(&mut columns[0]);
            let mut group = plan.apply().expect("root may");
            lap(&mut columns[1]);
            let entry = group.entry().expect("the group exists");
            lap(&mut columns[2]);
            std::thread::spawn(move || entry.enter().expect("a thread may enter")).join().expect("it ends");
            lap(&mut columns[3]);
            group.remove().expect("empty");
            lap(&mut columns[4]);
        }
        let median = |column: &mut Vec<f64>| {
            column.sort_by(f64::total_cmp);
            column[column.len() / 2]
        };
        let [plan, apply, entry, enter, remove] = &mut columns;
        println!(
            "{what}: plan {:.0} apply {:.0} entry {:.0} enter (with thread) {:.0} remove {:.0} us",
            median(plan),
            median(apply),
            median(entry),
            median(enter),
            median(remove)
        );
    }
}
