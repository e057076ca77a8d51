//! The runtime's own binary and descriptors, within a container's reach while
//! a process is on its way in.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use libtest_mimic::Failed;
use serde_json::json;

use crate::Test;
use crate::world::{CAPS, World};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("binary_is_never_writable_as_entrypoint", binary_is_never_writable_as_entrypoint),
    ("binary_is_never_writable_during_exec", binary_is_never_writable_during_exec),
    ("exec_shows_nothing_of_the_host", exec_shows_nothing_of_the_host),
    ("only_standard_streams_are_inherited", only_standard_streams_are_inherited),
];

/// Size, mode and times of the file that is the runtime.
fn own_binary() -> (u64, u32, i64, i64, i64) {
    let meta = std::fs::metadata(std::env::current_exe().unwrap()).unwrap();
    (meta.size(), meta.mode(), meta.mtime(), meta.ctime(), meta.ctime_nsec())
}

/// CVE-2019-5736, by an image whose program is the runtime itself.
fn binary_is_never_writable_as_entrypoint(world: &World) -> Result<(), Failed> {
    let before = own_binary();
    symlink("/proc/self/exe", world.inside("bin/itself")).unwrap();
    let script = world.inside("bin/script");
    std::fs::write(&script, "#!/proc/self/exe role-overwrite\n").unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    for args in [&["/proc/self/exe", "role-overwrite"][..], &["/bin/itself", "role-overwrite"], &["/bin/script"]] {
        let ending = world.run(&world.config(args));
        // It may run, or be refused; it may not write.
        assert!(ending.text.contains("running") || !ending.is_good(), "{args:?}: {ending:?}");
        for bad in ["WRITABLE", "BUSY", "CHANGED"] {
            assert!(!ending.text.contains(bad), "{args:?}: {ending:?}");
        }
        assert_eq!(own_binary(), before, "{args:?}");
    }
    // The honest: links to programs, scripts with interpreters.
    symlink("/bin/busybox", world.inside("bin/uname")).unwrap();
    std::fs::write(&script, "#!/bin/sh\necho honest\n").unwrap();
    assert_eq!(world.run(&world.config(&["/bin/script"])).good(), "honest\n");
    assert_eq!(world.run(&world.config(&["uname"])).good(), "Linux\n");
    Ok(())
}

/// CVE-2019-5736, by a program that waits for others to be brought in.
fn binary_is_never_writable_during_exec(world: &World) -> Result<(), Failed> {
    let before = own_binary();
    let found = spied_upon(world, &CAPS, 20);
    assert!(!found.contains("WRITABLE"), "{found}");
    assert_eq!(own_binary(), before);
    Ok(())
}

/// CVE-2016-9962: with the right to trace, too, nothing of the host is there to be found.
fn exec_shows_nothing_of_the_host(world: &World) -> Result<(), Failed> {
    let found = spied_upon(world, &[&CAPS[..], &["CAP_SYS_PTRACE"]].concat(), 40);
    assert!(!found.contains("ESCAPED"), "{found}");
    Ok(())
}

/// Lets a hostile first process watch while others are brought in.
fn spied_upon(world: &World, caps: &[&str], times: usize) -> String {
    world.bring_probe();
    let mut config = world.config(&["/bin/probe", "role-spy", &world.canary().to_string_lossy()]);
    config["process"]["capabilities"] = json!({"bounding": caps, "effective": caps, "permitted": caps});
    let container = world.start(&config);
    for _ in 0..times {
        container.exec(&[], &["/bin/true"]).good();
    }
    std::fs::write(world.inside("stop"), "").unwrap();
    let text = container.end();
    assert!(text.contains("watching"), "{text}");
    text
}

/// CVE-2024-21626's first half: whatever the caller left open stays outside.
fn only_standard_streams_are_inherited(world: &World) -> Result<(), Failed> {
    world.bring_probe();
    let own = std::fs::read_dir("/proc/self/fd")?.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    assert!(own.into_iter().any(|target| target == Path::new("/")), "this test leaks the host's root on purpose");
    let check = |text: &str| {
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("fd ")).collect();
        // The last is the directory listing's own link.
        assert!(lines.len() == 3 && lines.iter().all(|line| !line.contains("directory")), "{text}");
    };
    check(&world.run(&world.config(&["/bin/probe", "role-descriptors"])).good());
    let container = world.start(&world.config(&["sleep", "1000"]));
    check(&container.exec(&[], &["/bin/probe", "role-descriptors"]).good());
    Ok(())
}
