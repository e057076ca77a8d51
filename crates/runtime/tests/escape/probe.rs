//! What the test binary does inside a container: the hostile program.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};

/// The role this process was started for, if any: the first argument, or, for
/// the interpreter of a script, the one before the script's name.
pub(crate) fn role() -> Option<fn() -> i32> {
    let role = std::env::args().nth(1)?;
    Some(match role.as_str() {
        "role-overwrite" => overwrite,
        "role-spy" => spy,
        "role-devices" => devices,
        "role-descriptors" => descriptors,
        _ => return None,
    })
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Tries to get hold of its own binary for writing, in every way it knows.
fn overwrite() -> i32 {
    say("running");
    let held = File::open("/proc/self/exe").unwrap();
    let via_descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    let exe = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    for path in [Path::new("/proc/self/exe"), Path::new(&via_descriptor), Path::new("/proc/1/exe"), &exe] {
        match OpenOptions::new().write(true).open(path) {
            Ok(_) => say(&format!("WRITABLE {}", path.display())),
            // Only because it is being executed: whoever waits for its end gets through,
            // unless its mount is read-only, which the kernel looks at later.
            Err(e) if e.raw_os_error() == Some(26) && !is_protected(&held) => say(&format!("BUSY {}", path.display())),
            Err(e) => say(&format!("refused {}: {e}", path.display())),
        }
    }
    let changed = std::fs::set_permissions(&via_descriptor, std::os::unix::fs::PermissionsExt::from_mode(0o777));
    if changed.is_ok() && !is_protected(&held) {
        say("CHANGED its mode");
    }
    0
}

fn is_protected(file: &File) -> bool {
    let readonly = rustix::fs::StatVfsMountFlags::RDONLY;
    rustix::fs::fstatvfs(file).is_ok_and(|stat| stat.f_flag.contains(readonly))
        || rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(rustix::fs::SealFlags::WRITE))
}

/// Watches every process that appears, for a way out of the container; ends
/// when there is a file `/stop`. Argument: a path that only the host has.
fn spy() -> i32 {
    let canary = std::env::args().nth(2).unwrap_or_default();
    let busybox = std::fs::metadata("/bin/busybox").map_or(0, |meta| meta.len().cast_signed());
    say("watching");
    while !Path::new("/stop").exists() {
        for pid in 2..160 {
            let dir = format!("/proc/{pid}");
            for way in ["root", "cwd"] {
                if Path::new(&format!("{dir}/{way}{canary}")).exists() {
                    say(&format!("ESCAPED through {dir}/{way}"));
                }
            }
            look_at_descriptors(&dir, &canary);
            // The image's own programs are the container's anyway.
            let image = rustix::fs::stat("/bin").map(|stat| stat.st_dev);
            if let Ok(exe) = File::open(format!("{dir}/exe"))
                && !is_protected(&exe)
                && rustix::fs::fstat(&exe).map(|stat| (stat.st_dev, stat.st_size)) != image.map(|dev| (dev, busybox))
            {
                say(&format!("WRITABLE {dir}/exe {:?}", std::fs::read_link(format!("{dir}/exe"))));
            }
        }
    }
    0
}

fn look_at_descriptors(dir: &str, canary: &str) {
    let up = "/..".repeat(16);
    for entry in std::fs::read_dir(format!("{dir}/fd")).into_iter().flatten().flatten() {
        let fd = entry.path();
        if Path::new(&format!("{}{up}{canary}", fd.display())).exists() {
            let name = std::fs::read_link(&fd).unwrap_or_default();
            say(&format!("ESCAPED through {} ({})", fd.display(), name.display()));
        }
    }
}

/// Makes a node for every device number up to 511:15 and says which open.
fn devices() -> i32 {
    let path = Path::new("/tmp/node");
    for kind in [FileType::CharacterDevice, FileType::BlockDevice] {
        for (major, minor) in (0..512).flat_map(|major| (0..16).map(move |minor| (major, minor))) {
            let _ = std::fs::remove_file(path);
            if mknodat(CWD, path, kind, Mode::from_raw_mode(0o666), makedev(major, minor)).is_err() {
                say("cannot make nodes");
                return 1;
            }
            let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty());
            // Everything but a refusal: no such driver, no medium, busy.
            if !matches!(opened, Err(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS)) {
                say(&format!("{} {major}:{minor}", if kind == FileType::BlockDevice { "b" } else { "c" }));
            }
        }
    }
    0
}

/// Lists everything it was started with.
fn descriptors() -> i32 {
    for number in 0..1024 {
        let Ok(name) = std::fs::read_link(format!("/proc/self/fd/{number}")) else { continue };
        let kind = std::fs::metadata(format!("/proc/self/fd/{number}")).map(|meta| meta.file_type());
        let kind = match kind {
            Ok(kind) if kind.is_dir() => "directory",
            Ok(kind) if kind.is_char_device() => "character",
            Ok(_) => "file",
            Err(_) => "gone",
        };
        say(&format!("fd {number} {kind} {}", name.display()));
    }
    0
}
