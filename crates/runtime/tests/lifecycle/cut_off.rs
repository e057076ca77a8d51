//! Creations and starts that come to an untimely end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::world::World;
use crate::{Test, await_that, create, state, status};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_creation_that_is_killed_can_be_deleted", a_creation_that_is_killed_can_be_deleted),
    ("of_two_starts_one_is_refused", of_two_starts_one_is_refused),
    ("what_was_killed_before_its_program_was_not_started", what_was_killed_before_its_program_was_not_started),
    ("what_is_mounted_in_what_is_left_stays", what_is_mounted_in_what_is_left_stays),
    ("without_a_mount_namespace_nothing_stays_mounted", without_a_mount_namespace_nothing_stays_mounted),
    ("what_is_being_made_is_not_removed", what_is_being_made_is_not_removed),
    ("a_full_disk_is_an_error_that_leaves_nothing", a_full_disk_is_an_error_that_leaves_nothing),
];

/// Directories of a world's container in the cgroup hierarchies.
pub(crate) fn groups(world: &World) -> Vec<String> {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    let paths = hierarchies.chain([top.to_owned()]).map(|dir| dir.join("budu-escape").join(world.id()));
    paths.filter(|path| path.exists()).map(|path| path.display().to_string()).collect()
}

/// Processes of the runtime for a world's container: also a first process that has not executed yet.
fn processes(world: &World) -> Vec<String> {
    let lines = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ")
    });
    lines.filter(|line| line.starts_with(crate::RUNTIME) && line.contains(world.id())).collect()
}

/// Whenever it is killed.
fn a_creation_that_is_killed_can_be_deleted(world: &World) -> Result<(), Failed> {
    world.write_config(&world.config(&["sleep", "1000"]));
    let bundle = world.dir.join("bundle").to_string_lossy().into_owned();
    let mut complete = 0;
    for step in 0..60u64 {
        let mut child = world.command(&["create", "--bundle", &bundle, world.id()]);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_micros(400 * step));
        complete += u32::from(child.try_wait()?.is_some());
        let _ = child.kill();
        child.wait()?;
        world.runtime(&["delete", "--force", world.id()]).good();
        assert_eq!(groups(world), [""; 0], "step {step}");
        assert!(!world.dir.join("state").join(world.id()).exists(), "step {step}");
        let mut tries = 0;
        while !processes(world).is_empty() {
            assert!(tries < 100, "step {step}: {:?}", processes(world));
            std::thread::sleep(Duration::from_millis(10));
            tries += 1;
        }
        if complete == 3 {
            break;
        }
    }
    Ok(())
}

fn of_two_starts_one_is_refused(world: &World) -> Result<(), Failed> {
    create(world, &world.config(&["sleep", "1000"])).good();
    let pid = Pid::from_raw(i32::try_from(state(world)["pid"].as_i64().unwrap())?).unwrap();
    // Nobody goes through the gate before both are there.
    kill_process(pid, Signal::STOP)?;
    let start = || world.command(&["start", world.id()]).stderr(Stdio::piped()).spawn();
    let starts = [start()?, start()?];
    let gate = world.dir.join("state").join(world.id()).join("exec.fifo");
    await_that("the gate is not opened", &|| !gate.exists());
    kill_process(pid, Signal::CONT)?;
    let endings: Vec<_> = starts.into_iter().map(|start| start.wait_with_output()).collect::<Result<_, _>>()?;
    let texts: Vec<_> = endings.iter().map(|ending| String::from_utf8_lossy(&ending.stderr)).collect();
    assert_eq!(endings.iter().filter(|ending| ending.status.success()).count(), 1, "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("cannot start an already running container")), "{texts:?}");
    world.runtime(&["delete", "--force", world.id()]).good();
    Ok(())
}

/// Also where its parent, here the system's init, has reaped it before `start` can look at what is left of it.
fn what_was_killed_before_its_program_was_not_started(world: &World) -> Result<(), Failed> {
    let mut config = world.config(&["true"]);
    create(world, &config).good();
    let pid = Pid::from_raw(i32::try_from(state(world)["pid"].as_i64().unwrap())?).unwrap();
    kill_process(pid, Signal::STOP)?;
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    await_that("it does not stop", &|| std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T ")));
    let start = world.command(&["start", world.id()]).stderr(Stdio::piped()).spawn()?;
    let gate = world.dir.join("state").join(world.id()).join("exec.fifo");
    await_that("the gate is not opened", &|| !gate.exists());
    kill_process(Pid::from_child(&start), Signal::STOP)?;
    kill_process(pid, Signal::KILL)?;
    await_that("nobody reaps it", &|| !Path::new(&stat).exists());
    kill_process(Pid::from_child(&start), Signal::CONT)?;
    let ending = start.wait_with_output()?;
    let text = String::from_utf8_lossy(&ending.stderr);
    assert!(!ending.status.success() && text.contains("killed before it executed its program"), "{text}");
    assert_eq!(status(world), "stopped");
    world.runtime(&["delete", world.id()]).good();
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["execve", "execveat"], "action": "SCMP_ACT_KILL_PROCESS"}],
    });
    let text = world.run(&config).refused();
    assert!(text.contains("killed before it executed its program"), "{text}");
    Ok(())
}

/// A restoration that is killed leaves the root file system mounted in the container's directory, where CRIU wanted it.
fn what_is_mounted_in_what_is_left_stays(world: &World) -> Result<(), Failed> {
    let (root, left) = (world.inside("/"), world.dir.join("state").join(world.id()));
    let mounted = world.inside("mounted");
    let file = mounted.join("file");
    for (state, force) in [(false, false), (false, true), (true, true)] {
        if state {
            create(world, &world.config(&["true"])).good();
        }
        let place = left.join("deep").join("criu-root");
        std::fs::create_dir_all(&place)?;
        // Shared with its copy, as a host's mounts usually are.
        let original = Bound::new(&root, &root);
        mount(&["--make-shared"], &[&root]);
        let small = Small::mount(&mounted, "size=16k");
        std::fs::write(&file, "there")?;
        mount(&["--rbind"], &[&root, &place]);
        let args = if force { &["delete", "--force", world.id()][..] } else { &["delete", world.id()] };
        let ending = world.runtime(args);
        assert_eq!(ending.is_good(), force, "{ending:?}");
        assert!(!left.exists(), "the container's directory is left");
        assert_eq!(std::fs::read_to_string(&file)?, "there", "it was emptied, or is not mounted any more");
        assert!(world.inside("bin/busybox").exists());
        drop((small, original));
    }
    Ok(())
}

/// Then the host sees the container's mounts, and they would hide the root file system for good.
fn without_a_mount_namespace_nothing_stays_mounted(world: &World) -> Result<(), Failed> {
    let mut config = world.config(&["stat", "/proc/self/exe"]);
    config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "mount");
    for paths in ["maskedPaths", "readonlyPaths"] {
        config["linux"].as_object_mut().unwrap().remove(paths);
    }
    let mounted = || -> Vec<String> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = table.lines().filter(|line| line.contains(&*world.dir.to_string_lossy()));
        ours.filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect()
    };
    let root = world.inside("").canonicalize()?;
    // A root file system that is a mount already stays one.
    for bound in [false, true] {
        // Else what cleans up after a failure would find the host's devices in the root file system.
        let _let_go = LetGo(&root);
        let _before = bound.then(|| Bound::new(&root, &root));
        let there = mounted();
        assert_eq!(there.len(), usize::from(bound));
        world.run(&config).good();
        assert_eq!(mounted(), there, "after a run");
        create(world, &config).good();
        assert!(mounted().len() > there.len() + 3, "it has its own: {:?}", mounted());
        world.runtime(&["delete", "--force", world.id()]).good();
        assert_eq!(mounted(), there, "after its deletion");
        let mut broken = config.clone();
        let wrong = json!({"destination": "/m", "type": "nosuchfs", "source": "none"});
        broken["mounts"].as_array_mut().unwrap().push(wrong);
        create(world, &broken).refused();
        assert_eq!(mounted(), there, "after a creation that failed");
    }
    Ok(())
}

/// Its directory has no state at first, and is locked.
fn what_is_being_made_is_not_removed(world: &World) -> Result<(), Failed> {
    let place = world.dir.join("state").join(world.id());
    std::fs::create_dir_all(&place)?;
    let held = std::fs::File::open(&place)?;
    held.lock()?;
    let text = world.runtime(&["delete", "--force", world.id()]).refused();
    assert!(text.contains("it is being created"), "{text}");
    assert!(place.exists());
    drop(held);
    world.runtime(&["delete", "--force", world.id()]).good();
    assert!(!place.exists());
    Ok(())
}

fn mount(options: &[&str], paths: &[&Path]) {
    assert!(Command::new("mount").args(options).args(paths).status().unwrap().success(), "{options:?} {paths:?}");
}

/// A directory mounted somewhere, as long as the value lives.
struct Bound<'a>(&'a Path);

impl Bound<'_> {
    fn new<'a>(from: &Path, at: &'a Path) -> Bound<'a> {
        mount(&["--bind"], &[from, at]);
        Bound(at)
    }
}

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

/// Unmounts whatever is mounted at a directory when the value goes.
struct LetGo<'a>(&'a Path);

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        while Command::new("umount").arg("-l").arg(self.0).stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {}
    }
}

/// A small file system, as long as the value lives.
struct Small<'a>(&'a Path);

impl Small<'_> {
    fn mount<'a>(at: &'a Path, options: &str) -> Small<'a> {
        std::fs::create_dir_all(at).unwrap();
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status();
        assert!(status.unwrap().success());
        Small(at)
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

fn a_full_disk_is_an_error_that_leaves_nothing(world: &World) -> Result<(), Failed> {
    let place = world.dir.join("small");
    let bundle = world.dir.join("bundle").to_string_lossy().into_owned();
    let root = place.to_string_lossy().into_owned();
    world.write_config(&world.config(&["sleep", "1000"]));
    let mut refused = 0;
    let sizes =
        (2..8).map(|count| format!("nr_inodes={count}")).chain((1..4).map(|pages| format!("size={}k", pages * 4)));
    for options in sizes {
        let small = Small::mount(&place, &options);
        let ending = world.runtime(&["--root", &root, "create", "--bundle", &bundle, world.id()]);
        if ending.is_good() {
            world.runtime(&["--root", &root, "delete", "--force", world.id()]).good();
        } else {
            refused += 1;
            let text = ending.refused();
            assert!(text.contains("no space left on device"), "{options}: {text}");
        }
        assert_eq!(std::fs::read_dir(&place)?.count(), 0, "{options}");
        assert_eq!(groups(world), [""; 0], "{options}");
        drop(small);
    }
    assert!(refused >= 4, "only {refused}");
    // The root file system: mount points cannot be made.
    let small = Small::mount(&place, "nr_inodes=3");
    let mut config = world.config(&["true"]);
    config["root"]["path"] = json!(place);
    let text = world.run(&config).refused();
    assert!(text.contains("no space left on device"), "{text}");
    assert_eq!(groups(world), [""; 0]);
    assert!(!world.dir.join("state").join(world.id()).exists());
    drop(small);
    // The file for the process id.
    let small = Small::mount(&place, "size=4k");
    std::fs::write(place.join("full"), [0; 4096])?;
    world.write_config(&world.config(&["sleep", "1000"]));
    let file = place.join("pid").to_string_lossy().into_owned();
    let text = world.runtime(&["create", "--bundle", &bundle, "--pid-file", &file, world.id()]).refused();
    assert!(text.contains("no space left on device"), "{text}");
    assert_eq!(groups(world), [""; 0]);
    assert_eq!(std::fs::read_dir(&place)?.count(), 1, "more is left than what was there");
    drop(small);
    Ok(())
}
