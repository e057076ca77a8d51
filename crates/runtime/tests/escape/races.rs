//! A neighbour exchanges names in a shared volume while a container starts.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use libtest_mimic::Failed;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};
use serde_json::{Value, json};

use crate::Test;
use crate::world::{Ending, World, race_time};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("race_for_a_mount_point", race_for_a_mount_point),
    ("race_for_a_missing_mount_point", race_for_a_missing_mount_point),
    ("race_for_null", race_for_null),
    ("race_for_the_console", race_for_the_console),
    ("race_for_a_read_only_path", race_for_a_read_only_path),
    ("race_for_proc", race_for_proc),
    ("race_for_the_working_directory", race_for_the_working_directory),
];

/// Exchanges two names all the time while `attempt` is made again and again.
/// Returns how many attempts there were.
pub(crate) fn race(one: &Path, other: &Path, mut attempt: impl FnMut(usize)) -> usize {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let racer = scope.spawn(|| {
            let mut exchanges = 0u64;
            while !over.load(Ordering::Relaxed) {
                exchanges += u64::from(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok());
            }
            exchanges
        });
        // Ends the racer when an attempt fails.
        let stop = Stop(&over);
        let started = Instant::now();
        let mut attempts = 0;
        while started.elapsed() < race_time() {
            attempt(attempts);
            attempts += 1;
        }
        drop(stop);
        assert!(racer.join().unwrap() > 0, "nothing was ever exchanged");
        attempts
    })
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A volume with `d`, a directory, and `l`, a link to the canary.
fn volume(world: &World) -> PathBuf {
    let volume = world.dir.join("volume");
    std::fs::create_dir_all(volume.join("d/sub")).unwrap();
    let up = "../".repeat(16);
    symlink(format!("{up}{}", world.canary().display()), volume.join("l")).unwrap();
    volume
}

/// Whatever happens, it is an orderly end.
fn check(ending: &Ending) {
    assert!(matches!(ending.code, Some(0..=2)), "{ending:?}");
    assert!(!ending.text.contains("panicked"), "{ending:?}");
    assert!(!ending.text.contains("the host's"), "the canary was seen: {ending:?}");
}

fn with_mounts(mut config: Value, more: impl IntoIterator<Item = Value>) -> Value {
    config["mounts"].as_array_mut().unwrap().extend(more);
    config
}

/// CVE-2021-30465.
fn race_for_a_mount_point(world: &World) -> Result<(), Failed> {
    let volume = volume(world);
    let content = world.dir.join("content");
    std::fs::create_dir(&content).unwrap();
    let script = "cat /v/d/file /v/l/file /v/d/sub/file /v/l/directory/file 2>/dev/null; true";
    let mounts = [world.bind(&volume, "/v"), world.bind(&content, "/v/d/sub"), world.bind(&content, "/v/d")];
    let config = with_mounts(world.script(script), mounts);
    let mut good = 0;
    let attempts = race(&volume.join("d"), &volume.join("l"), |_| {
        let ending = world.run(&config);
        check(&ending);
        good += usize::from(ending.is_good());
    });
    println!("{attempts} starts, {good} of them came to be");
    Ok(())
}

/// CVE-2024-45310.
fn race_for_a_missing_mount_point(world: &World) -> Result<(), Failed> {
    let volume = volume(world);
    let content = world.dir.join("content");
    std::fs::create_dir(&content).unwrap();
    std::fs::write(content.join("plain"), "").unwrap();
    let attempts = race(&volume.join("d"), &volume.join("l"), |number| {
        let to = format!("/v/d/new{number}/deep");
        let mounts = [
            world.bind(&volume, "/v"),
            world.bind(&content, &to),
            world.bind(&content.join("plain"), &format!("/v/d/new{number}-plain")),
            json!({"destination": format!("/v/d/tmpfs{number}"), "type": "tmpfs", "source": "tmpfs"}),
        ];
        check(&world.run(&with_mounts(world.config(&["true"]), mounts)));
    });
    println!("{attempts} starts");
    Ok(())
}

/// CVE-2025-31133.
fn race_for_null(world: &World) -> Result<(), Failed> {
    let volume = world.dir.join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(world.inside("secret"), "secret\n").unwrap();
    let (null, trap) = (volume.join("null"), volume.join("trap"));
    mknodat(CWD, &null, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
    symlink("/proc/sys/kernel/core_pattern", &trap).unwrap();
    let mut config = world.script("cat /secret; stat -c %F:%t:%T /secret");
    config["mounts"][1] = world.bind(&volume, "/dev");
    config["linux"]["maskedPaths"] = json!(["/secret"]);
    config["linux"]["readonlyPaths"] = json!([]);
    let attempts = race(&null, &trap, |_| {
        let ending = world.run(&config);
        check(&ending);
        if ending.is_good() {
            assert_eq!(ending.text, "character special file:1:3\n");
        }
    });
    println!("{attempts} starts");
    Ok(())
}

/// CVE-2025-52565.
fn race_for_the_console(world: &World) -> Result<(), Failed> {
    let volume = world.dir.join("volume");
    std::fs::create_dir_all(volume.join("pts")).unwrap();
    let (console, trap) = (volume.join("console"), volume.join("trap"));
    std::fs::write(&console, "").unwrap();
    symlink(format!("{}{}", "../".repeat(16), world.canary().join("console").display()), &trap).unwrap();
    mknodat(CWD, volume.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
    let mut config = world.script("stat -c %F:%t /dev/console 2>&1; true");
    config["mounts"][1] = world.bind(&volume, "/dev");
    config["process"]["terminal"] = json!(true);
    let mut terminals = 0;
    let attempts = race(&console, &trap, |_| {
        let ending = world.run(&config);
        check(&ending);
        assert!(!ending.text.contains("regular file"), "{ending:?}");
        terminals += usize::from(ending.text.contains("character special file:88"));
    });
    println!("{attempts} starts, {terminals} with a console");
    Ok(())
}

/// GHSA-3q8j-pf29-vwv8: the path is not resolved a second time between bind and remount.
fn race_for_a_read_only_path(world: &World) -> Result<(), Failed> {
    let volume = volume(world);
    let mut config = with_mounts(world.config(&["true"]), [world.bind(&volume, "/v")]);
    config["linux"]["readonlyPaths"] = json!(["/v/d", "/v/d/sub", "/v/l"]);
    config["linux"]["maskedPaths"] = json!(["/v/d/sub", "/v/l/file"]);
    let attempts = race(&volume.join("d"), &volume.join("l"), |_| {
        check(&world.run(&config));
        // Neither the canary nor the volume became read-only on the host.
        std::fs::write(volume.join("probe"), "").unwrap();
    });
    println!("{attempts} starts");
    // Nobody in the way: each is read-only, links inside the root are followed.
    let (d, l) = (volume.join("d"), volume.join("l"));
    if std::fs::symlink_metadata(&d)?.is_symlink() {
        renameat_with(CWD, &d, CWD, &l, RenameFlags::EXCHANGE)?;
    }
    symlink("/v/d", world.inside("link")).unwrap();
    let script = "touch /v/x && echo written; touch /v/d/x 2>/dev/null && echo WROTE; echo end";
    let mut config = with_mounts(world.script(script), [world.bind(&volume, "/v")]);
    config["linux"]["readonlyPaths"] = json!(["/link"]);
    assert_eq!(world.run(&config).good(), "written\nend\n");
    Ok(())
}

/// CVE-2023-27561: procfs is mounted on a directory, and it is procfs that is written to.
fn race_for_proc(world: &World) -> Result<(), Failed> {
    let (real, trap) = (world.inside("proc"), world.inside("trap"));
    std::fs::create_dir(&real).unwrap();
    std::fs::create_dir_all(world.inside("fake/sys/net/ipv4")).unwrap();
    std::fs::write(world.inside("fake/sys/net/ipv4/ip_forward"), "fake").unwrap();
    symlink("/fake", &trap).unwrap();
    let mut config = world.script("cat /proc/sys/net/ipv4/ip_forward");
    config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    let mut good = 0;
    let attempts = race(&real, &trap, |_| {
        let ending = world.run(&config);
        check(&ending);
        good += usize::from(ending.is_good());
        let fake = std::fs::read_to_string(world.inside("fake/sys/net/ipv4/ip_forward")).unwrap();
        assert_eq!(fake, "fake");
    });
    println!("{attempts} starts, {good} of them came to be");
    Ok(())
}

/// The working directory is looked for in a tree that changes.
fn race_for_the_working_directory(world: &World) -> Result<(), Failed> {
    let volume = volume(world);
    let script =
        format!("ls -d ../../../../../../../..{}/file && echo ESCAPED; touch here; true", world.canary().display());
    let mut config = with_mounts(world.script(&script), [world.bind(&volume, "/v")]);
    config["process"]["cwd"] = json!("/v/d/made/on/the/way");
    let attempts = race(&volume.join("d"), &volume.join("l"), |_| {
        let ending = world.run(&config);
        check(&ending);
        assert!(!ending.text.contains("ESCAPED"), "{ending:?}");
    });
    println!("{attempts} starts");
    Ok(())
}
