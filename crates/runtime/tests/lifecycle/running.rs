//! What is done to containers that stand, and what they do meanwhile.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::json;

use crate::cut_off::groups;
use crate::world::{World, wait};
use crate::{Test, await_that, create, status};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("what_is_created_can_be_paused", what_is_created_can_be_paused),
    ("an_update_that_fails_changes_nothing", an_update_that_fails_changes_nothing),
    ("a_foreground_run_reaps_orphans", a_foreground_run_reaps_orphans),
    ("the_root_group_is_the_hosts", the_root_group_is_the_hosts),
    ("what_an_image_wants_to_be_stopped_by", what_an_image_wants_to_be_stopped_by),
    ("what_was_opened_can_be_mounted", what_was_opened_can_be_mounted),
];

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
    // There is no such disk, which shows only when the others are written.
    let mut wish = json!({
        "memory": {"limit": 1 << 28}, "pids": {"limit": 77}, "cpu": {"quota": 50_000},
        "blockIO": {"throttleReadBpsDevice": [{"major": 999, "minor": 1, "rate": 1000}]},
    });
    let file = world.dir.join("limits.json");
    std::fs::write(&file, wish.to_string())?;
    world.runtime(&["update", "--resources", &file.to_string_lossy(), world.id()]).refused();
    assert_eq!(read(), before);
    wish.as_object_mut().unwrap().remove("blockIO");
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
    await_that("it does not start", &|| world.inside("tmp/orphan").exists());
    let orphan = std::fs::read_to_string(world.inside("tmp/orphan"))?.trim().to_owned();
    let stat = std::fs::read_to_string(format!("/proc/{orphan}/stat")).unwrap_or_default();
    let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split(' ').nth(2)).unwrap_or_default().to_owned();
    assert!(parent.is_empty() || parent == run.id().to_string(), "its parent is {parent}, not {}", run.id());
    // A zombie has this directory as long as nobody reaps it.
    // Whoever stays in the foreground keeps nobody from it.
    world.runtime(&["update", "--pids-limit", "50", world.id()]).good();
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
