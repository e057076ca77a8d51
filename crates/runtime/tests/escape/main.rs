//! Attacks on the runtime's command line: what hostile images, volumes and
//! configurations have tried against other runtimes, beside what must go on
//! working for honest ones.
//!
//! The test binary is the runtime it attacks (called `budu-oci`) and the
//! hostile program inside (called with a role), so it has a main function of
//! its own. Needs root, and busybox-static. `BUDU_ESCAPE_SECONDS` is how long
//! each race is run; the default is short.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]
#![forbid(unsafe_code)]

mod binary;
mod confine;
mod devices;
mod filter;
mod identity;
mod labels;
mod limits;
mod mounts;
mod paths;
mod probe;
mod races;
mod terminal;
mod world;

use std::path::Path;

use libtest_mimic::{Arguments, Failed, Trial};
use world::World;

/// What the test binary is called as the runtime.
const RUNTIME: &str = "budu-oci";

/// One attack, in a world of its own.
type Test = fn(&World) -> Result<(), Failed>;

fn main() {
    let mut args = std::env::args_os();
    let called = args.next().unwrap_or_default();
    if called == RUNTIME {
        std::process::exit(budu_runtime::oci::main(RUNTIME, args.collect()));
    }
    if let Some(role) = probe::role() {
        std::process::exit(role());
    }
    let arguments = Arguments::from_args();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().any(|path| Path::new(path).exists());
    let skip = match (busybox, rustix::process::geteuid().is_root()) {
        (false, _) => Some("needs busybox-static"),
        (_, false) => Some("needs root"),
        _ => None,
    };
    if let Some(reason) = skip {
        eprintln!("skipped: {reason}");
    }
    // What a careless caller of the runtime leaves open: nobody inside may ever see it.
    let leaked = rustix::fs::open("/", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    let lists = [
        binary::TESTS,
        paths::TESTS,
        mounts::TESTS,
        races::TESTS,
        identity::TESTS,
        confine::TESTS,
        devices::TESTS,
        limits::TESTS,
        terminal::TESTS,
        filter::TESTS,
        labels::TESTS,
    ];
    let trials = lists
        .concat()
        .into_iter()
        .map(|(name, test)| Trial::test(name, move || World::with(name, test)).with_ignored_flag(skip.is_some()));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    drop(leaked);
    let left = world::clean_up();
    if !left.is_empty() {
        eprintln!("left behind: {left:#?}");
        std::process::exit(101);
    }
    conclusion.exit();
}
