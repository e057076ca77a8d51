//! Creations and starts that come to an untimely end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::json;

use crate::world::{World, wait};
use crate::{Test, create, status};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("a_creation_that_is_killed_can_be_deleted", a_creation_that_is_killed_can_be_deleted),
    ("what_was_killed_before_its_program_was_not_started", what_was_killed_before_its_program_was_not_started),
    ("a_full_disk_is_an_error_that_leaves_nothing", a_full_disk_is_an_error_that_leaves_nothing),
    ("what_is_created_can_be_paused", what_is_created_can_be_paused),
    ("an_update_that_fails_changes_nothing", an_update_that_fails_changes_nothing),
    ("a_foreground_run_reaps_orphans", a_foreground_run_reaps_orphans),
    ("the_root_group_is_the_hosts", the_root_group_is_the_hosts),
    ("what_an_image_wants_to_be_stopped_by", what_an_image_wants_to_be_stopped_by),
    ("what_was_opened_can_be_mounted", what_was_opened_can_be_mounted),
];

/// Directories of a world's container in the cgroup hierarchies.
fn groups(world: &World) -> Vec<String> {
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

fn what_was_killed_before_its_program_was_not_started(world: &World) -> Result<(), Failed> {
    let mut config = world.config(&["true"]);
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["execve", "execveat"], "action": "SCMP_ACT_KILL_PROCESS"}],
    });
    create(world, &config).good();
    let text = world.runtime(&["start", world.id()]).refused();
    assert!(text.contains("killed before it executed its program"), "{text}");
    assert_eq!(status(world), "stopped");
    world.runtime(&["delete", world.id()]).good();
    let text = world.run(&config).refused();
    assert!(text.contains("killed before it executed its program"), "{text}");
    Ok(())
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
    let small = Small::mount(&place, "nr_inodes=1");
    world.write_config(&world.config(&["sleep", "1000"]));
    let file = place.join("pid").to_string_lossy().into_owned();
    let text = world.runtime(&["create", "--bundle", &bundle, "--pid-file", &file, world.id()]).refused();
    assert!(text.contains("no space left on device"), "{text}");
    assert_eq!(groups(world), [""; 0]);
    assert_eq!(std::fs::read_dir(&place)?.count(), 0);
    drop(small);
    Ok(())
}

fn what_is_created_can_be_paused(world: &World) -> Result<(), Failed> {
    create(world, &world.config(&["sleep", "1000"])).good();
    world.runtime(&["pause", world.id()]).good();
    assert_eq!(status(world), "paused");
    for _ in 0..2 {
        let text = world.runtime(&["start", world.id()]).refused();
        assert!(text.contains("cannot start a container in the paused state"), "{text}");
    }
    world.runtime(&["pause", world.id()]).refused();
    world.runtime(&["resume", world.id()]).good();
    assert_eq!(status(world), "created");
    world.runtime(&["resume", world.id()]).refused();
    world.runtime(&["start", world.id()]).good();
    assert_eq!(status(world), "running");
    world.runtime(&["delete", "--force", world.id()]).good();
    create(world, &world.config(&["sleep", "1000"])).good();
    world.runtime(&["pause", world.id()]).good();
    world.runtime(&["delete", world.id()]).refused();
    world.runtime(&["delete", "--force", world.id()]).good();
    assert_eq!(groups(world), [""; 0]);
    Ok(())
}

/// Limits of every kind are taken back when the last one cannot be set.
fn an_update_that_fails_changes_nothing(world: &World) -> Result<(), Failed> {
    let container = world.start(&world.config(&["sleep", "1000"]));
    let read = || -> Vec<(String, String)> {
        let files = ["pids.max", "memory.max", "memory.limit_in_bytes", "cpu.cfs_quota_us", "cpu.max"];
        let groups = groups(world);
        let paths = groups.iter().flat_map(|group| files.iter().map(move |file| format!("{group}/{file}")));
        paths.filter_map(|path| std::fs::read_to_string(&path).ok().map(|text| (path, text))).collect()
    };
    let before = read();
    assert_eq!(before.len(), 3, "{before:?}");
    let wish = json!({
        "memory": {"limit": 1 << 28}, "pids": {"limit": 77}, "cpu": {"quota": 50_000},
        "hugepageLimits": [{"pageSize": "3MB", "limit": 4 << 20}],
    });
    let file = world.dir.join("limits.json");
    std::fs::write(&file, wish.to_string())?;
    world.runtime(&["update", "--resources", &file.to_string_lossy(), world.id()]).refused();
    assert_eq!(read(), before);
    // Without what is none of the kernel's it takes them all.
    let mut wish = wish;
    wish["hugepageLimits"] = json!([]);
    std::fs::write(&file, wish.to_string())?;
    world.runtime(&["update", "--resources", &file.to_string_lossy(), world.id()]).good();
    let changed = read().iter().zip(&before).filter(|(now, before)| now != before).count();
    assert_eq!(changed, 3, "{:?}", read());
    drop(container);
    Ok(())
}

/// Without a pid namespace orphans become children of whoever stays in the foreground.
fn a_foreground_run_reaps_orphans(world: &World) -> Result<(), Failed> {
    let mut config =
        world.script("sh -c 'sleep 0.2 & echo $! > /tmp/orphan.new'; mv /tmp/orphan.new /tmp/orphan; sleep 1000");
    config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
    config["mounts"][0] =
        json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind", "ro"]});
    world.write_config(&config);
    let bundle = world.dir.join("bundle").to_string_lossy().into_owned();
    let run = world.command(&["run", "--bundle", &bundle, world.id()]).stdout(Stdio::null()).spawn()?;
    let await_that = |what: &str, is_so: &dyn Fn() -> bool| {
        let mut tries = 0;
        while !is_so() {
            assert!(tries < 400, "{what}");
            std::thread::sleep(Duration::from_millis(10));
            tries += 1;
        }
    };
    await_that("it does not start", &|| world.inside("tmp/orphan").exists());
    let orphan = std::fs::read_to_string(world.inside("tmp/orphan"))?.trim().to_owned();
    let stat = std::fs::read_to_string(format!("/proc/{orphan}/stat")).unwrap_or_default();
    let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split(' ').nth(2)).unwrap_or_default().to_owned();
    assert!(parent.is_empty() || parent == run.id().to_string(), "its parent is {parent}, not {}", run.id());
    // A zombie has this directory as long as nobody reaps it.
    await_that("the orphan is not reaped", &|| !Path::new("/proc").join(&orphan).exists());
    world.runtime(&["kill", world.id(), "KILL"]).good();
    wait(run);
    Ok(())
}

/// Taken, as any group that has processes.
fn the_root_group_is_the_hosts(world: &World) -> Result<(), Failed> {
    let mut config = world.config(&["true"]);
    config["linux"]["cgroupsPath"] = json!("/");
    config["linux"]["resources"] = json!({});
    for command in ["create", "run"] {
        world.write_config(&config);
        let text = world.runtime(&[command, "--bundle", &world.dir.join("bundle").to_string_lossy(), world.id()]);
        let text = text.refused();
        assert!(text.contains("container's cgroup is not empty: "), "{text}");
        assert!(!world.dir.join("state").join(world.id()).exists());
    }
    Ok(())
}

/// `kill` without a signal sends that of the annotation; a named one is what it is.
fn what_an_image_wants_to_be_stopped_by(world: &World) -> Result<(), Failed> {
    let script = "for s in TERM QUIT USR1; do trap \"echo $s >> /tmp/got\" $s; done; echo > /tmp/ready; \
                  while true; do sleep 0.02; done";
    let mut config = world.script(script);
    config["annotations"] = json!({"org.opencontainers.image.stopSignal": "SIGQUIT"});
    let container = world.start(&config);
    let await_file = |name: &str, text: &str| {
        let mut tries = 0;
        while std::fs::read_to_string(world.inside(name)).unwrap_or_default() != text {
            assert!(tries < 400, "{name}: {:?}", std::fs::read_to_string(world.inside(name)));
            std::thread::sleep(Duration::from_millis(10));
            tries += 1;
        }
    };
    await_file("tmp/ready", "\n");
    world.runtime(&["kill", world.id()]).good();
    await_file("tmp/got", "QUIT\n");
    world.runtime(&["kill", world.id(), "USR1"]).good();
    await_file("tmp/got", "QUIT\nUSR1\n");
    drop(container);
    config["annotations"] = json!({"org.opencontainers.image.stopSignal": "SIGNOTHING"});
    let container = world.start(&config);
    let text = world.runtime(&["kill", world.id()]).refused();
    assert!(text.contains("unknown signal") && text.contains("SIGNOTHING"), "{text}");
    drop(container);
    Ok(())
}

/// A source by descriptor whose name shows something else by now.
fn what_was_opened_can_be_mounted(world: &World) -> Result<(), Failed> {
    let (source, programs) = (world.dir.join("source"), world.dir.join("programs"));
    for dir in [&source, &programs] {
        std::fs::create_dir(dir)?;
    }
    std::fs::write(source.join("word"), "opened\n")?;
    std::os::unix::fs::symlink(std::env::current_exe()?, programs.join(crate::RUNTIME))?;
    let mut config = world.config(&["cat", "/m/word"]);
    let opened = json!({"destination": "/m", "type": "bind", "source": "/proc/self/fd/3", "options": ["bind"]});
    config["mounts"].as_array_mut().unwrap().push(opened);
    world.write_config(&config);
    let script = format!(
        "exec 3<source && mount -t tmpfs tmpfs source && PATH={}:$PATH && exec {} --root state run --preserve-fds 1 \
         --bundle bundle {}",
        programs.display(),
        crate::RUNTIME,
        world.id()
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).current_dir(&world.dir).output()?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(text, "opened\n", "{errors}");
    Ok(())
}
