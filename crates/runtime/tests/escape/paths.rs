//! Working directories and the image's own files as traps.

use std::os::unix::fs::{PermissionsExt, symlink};

use libtest_mimic::Failed;
use serde_json::json;

use crate::Test;
use crate::world::World;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("cwd_through_descriptors", cwd_through_descriptors),
    ("cwd_of_exec_through_descriptors", cwd_of_exec_through_descriptors),
    ("cwd_is_made_inside", cwd_is_made_inside),
    ("passwd_that_cannot_be_read", passwd_that_cannot_be_read),
    ("states_are_closed_to_others", states_are_closed_to_others),
];

/// Climbs as far as it gets and looks for the canary.
fn climb(world: &World) -> String {
    format!("pwd; ls -d ../../../../../../../../..{}/file && echo ESCAPED", world.canary().display())
}

/// CVE-2024-21626: a working directory that is a descriptor of the runtime.
fn cwd_through_descriptors(world: &World) -> Result<(), Failed> {
    let script = climb(world);
    for number in 0..14 {
        let link = format!("fd{number}");
        symlink(format!("/proc/self/fd/{number}"), world.inside(&link)).unwrap();
        let forms =
            [format!("/proc/self/fd/{number}"), format!("/proc/thread-self/fd/{number}/.."), format!("/{link}")];
        // Not all for each: a start takes its time.
        let mut config = world.script(&script);
        config["process"]["cwd"] = json!(forms[number % 3]);
        let ending = world.run(&config);
        assert!(!ending.text.contains("ESCAPED"), "{forms:?}: {}", ending.text);
        assert!(!ending.is_good(), "{}", ending.text);
    }
    for way in ["/proc/self/cwd", "/proc/1/root", "/proc/self/root/..", "/proc/self/task/../cwd"] {
        let mut config = world.script(&script);
        config["process"]["cwd"] = json!(way);
        let ending = world.run(&config);
        assert!(!ending.text.contains("ESCAPED"), "{way}: {}", ending.text);
    }
    Ok(())
}

fn cwd_of_exec_through_descriptors(world: &World) -> Result<(), Failed> {
    let script = climb(world);
    let container = world.start(&world.config(&["sleep", "1000"]));
    for number in 0..14 {
        let link = format!("fd{number}");
        symlink(format!("/proc/self/fd/{number}"), world.inside(&link)).unwrap();
        let forms = [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/../.."), format!("/{link}")];
        let ending = container.exec(&["--cwd", &forms[number % 3]], &["sh", "-c", &script]);
        assert!(!ending.text.contains("ESCAPED"), "{forms:?}: {}", ending.text);
        assert!(!ending.is_good(), "{}", ending.text);
    }
    // The honest.
    std::fs::create_dir(world.inside("srv")).unwrap();
    symlink("/srv", world.inside("home")).unwrap();
    assert_eq!(container.exec(&["--cwd", "/home"], &["pwd"]).good(), "/srv\n");
    Ok(())
}

/// CVE-2025-24965 and its like: a missing working directory is made where the
/// container will see it.
fn cwd_is_made_inside(world: &World) -> Result<(), Failed> {
    let canary = world.canary();
    symlink(&canary, world.inside("absolute")).unwrap();
    symlink(format!("../../../../../../../../..{}", canary.display()), world.inside("climbing")).unwrap();
    symlink(canary.join("new"), world.inside("dangling")).unwrap();
    for cwd in ["/absolute/new/one", "/climbing/new/two", "/dangling", "/absolute/../../../../x"] {
        let mut config = world.script("pwd; touch here");
        config["process"]["cwd"] = json!(cwd);
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        world.run(&config);
        // What was made is the image's.
        config["process"]["user"] = json!({"uid": 0, "gid": 0});
        let text = world.run(&config).good();
        assert!(text.starts_with('/'), "{cwd}: {text}");
    }
    assert!(world.inside(&canary.to_string_lossy()).join("new/one").is_dir());
    // The honest: /var/run is a link in most images, and the directory may be missing.
    std::fs::create_dir_all(world.inside("run")).unwrap();
    std::fs::create_dir_all(world.inside("var")).unwrap();
    symlink("/run", world.inside("var/run")).unwrap();
    let mut config = world.config(&["pwd"]);
    config["process"]["cwd"] = json!("/var/run/service/new");
    assert_eq!(world.run(&config).good(), "/run/service/new\n");
    Ok(())
}

/// CVE-2026-47262 and its like: the runtime looks for HOME in these files.
fn passwd_that_cannot_be_read(world: &World) -> Result<(), Failed> {
    let passwd = world.inside("etc/passwd");
    let traps: [(&str, &dyn Fn()); 6] = [
        ("sparse", &|| std::fs::File::create(&passwd).unwrap().set_len(5 << 30).unwrap()),
        ("fifo", &|| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, &passwd, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }),
        ("zero", &|| symlink("/dev/zero", &passwd).unwrap()),
        ("kmsg", &|| symlink("/proc/kmsg", &passwd).unwrap()),
        ("loop", &|| symlink("passwd", &passwd).unwrap()),
        ("directory", &|| std::fs::create_dir(&passwd).unwrap()),
    ];
    for (name, set) in traps {
        let _ = std::fs::remove_file(&passwd).or_else(|_| std::fs::remove_dir(&passwd));
        set();
        let started = std::time::Instant::now();
        let container = world.start(&world.config(&["sleep", "1000"]));
        let text = container.exec(&[], &["env"]).good();
        assert!(text.contains("HOME=/\n"), "{name}: {text}");
        drop(container);
        assert!(started.elapsed().as_secs() < 20, "{name}: {:?}", started.elapsed());
    }
    let _ = std::fs::remove_dir(&passwd);
    std::fs::write(&passwd, "root:x:0:0::/honest:/bin/sh\n").unwrap();
    assert!(world.run(&world.config(&["env"])).good().contains("HOME=/honest\n"));
    Ok(())
}

/// CVE-2021-41091 and its like: set-user-ID files of images are below there.
fn states_are_closed_to_others(world: &World) -> Result<(), Failed> {
    let _container = world.start(&world.config(&["sleep", "1000"]));
    let mode = std::fs::metadata(world.dir.join("state"))?.permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    for entry in std::fs::read_dir(world.dir.join("state").join(world.id()))? {
        let entry = entry?;
        let mode = entry.metadata()?.permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} {mode:o}", entry.path());
    }
    Ok(())
}
