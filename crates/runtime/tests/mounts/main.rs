//! The container's file systems against the real kernel: hostile images and
//! volumes, and twins that show that honest ones work.
//!
//! The test binary is also the launcher that it starts. Everything happens in a
//! mount namespace of its own. Needs root, and busybox-static.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod attacks;
mod honest;
mod options;
mod sharing;
mod world;

use std::path::Path;

use budu_runtime::{LAUNCHER_PERSONALITY, launcher_main};
use budu_sys::process::{self, SingleThreaded};
use libtest_mimic::{Arguments, Failed, Trial};
use rustix::mount::{MountPropagationFlags, mount_change};
use world::World;

/// One test, in a world of its own.
type Test = fn(&World) -> Result<(), Failed>;

fn main() {
    if std::env::args().nth(1).as_deref() == Some(LAUNCHER_PERSONALITY) {
        std::process::exit(launcher_main());
    }
    let arguments = Arguments::from_args();
    let busybox = world::busybox();
    let skip = match (busybox, rustix::process::geteuid().is_root()) {
        (None, _) => Some("needs busybox-static"),
        (_, false) => Some("needs root"),
        _ => None,
    };
    match skip {
        Some(reason) => eprintln!("skipped: {reason}"),
        None => leave_the_host(),
    }
    let tests = [attacks::TESTS, honest::TESTS, options::TESTS, sharing::TESTS].concat();
    let trials = tests
        .into_iter()
        .map(|(name, test)| Trial::test(name, move || test(&World::new(name))).with_ignored_flag(skip.is_some()))
        .collect::<Vec<_>>();
    let conclusion = libtest_mimic::run(&arguments, trials);
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let _ = std::fs::remove_dir(hierarchy.path().join(world::GROUP));
    }
    let _ = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(world::GROUP));
    conclusion.exit();
}

/// What tests mount must not be seen, nor stay, on the machine.
fn leave_the_host() {
    const CLONE_NEWNS: i32 = 0x0002_0000;
    let token = SingleThreaded::check().unwrap();
    process::unshare(&token, CLONE_NEWNS).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}
