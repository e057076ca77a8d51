//! Documents and files that are almost right, against everything that reads
//! them: no panic, no hang, no memory without bound, and errors that say where.
//!
//! Deterministic: a failure names its target, seed and case. By default each
//! target runs for two seconds; `cargo xtask fuzz` runs longer, with
//! `BUDU_FUZZ_SECONDS` and `BUDU_FUZZ_SEED`. The test binary is also the
//! runtime (called `budu-oci`) that reads a container's state.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]
#![forbid(unsafe_code)]

mod files;
mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use mutate::Random;

const RUNTIME: &str = "budu-oci";

/// One case: makes something from the randomness and has it read. The text is
/// what was read, for the report of a failure.
type Case = fn(&mut Random) -> String;

/// No case may take longer.
const SLOW: Duration = Duration::from_secs(5);
/// No run may take more memory than this, in KiB.
const LARGE: u64 = 1 << 20;

fn main() {
    let mut args = std::env::args_os();
    if args.next().is_some_and(|called| called == RUNTIME) {
        std::process::exit(budu_runtime::oci::main(RUNTIME, args.collect()));
    }
    let arguments = Arguments::from_args();
    let cases = targets::CASES.iter().chain(files::CASES);
    let trials = cases.map(|&(name, case)| Trial::test(name, move || run(name, case))).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    files::clean_up();
    conclusion.exit();
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn run(name: &str, case: Case) -> Result<(), Failed> {
    let seed = number("BUDU_FUZZ_SEED", 1);
    let until = Instant::now() + Duration::from_secs(number("BUDU_FUZZ_SECONDS", 2));
    let only = std::env::var("BUDU_FUZZ_CASE").ok().and_then(|text| text.parse().ok());
    let mut count = only.unwrap_or(0);
    while Instant::now() < until {
        let started = Instant::now();
        // Each case by itself, so that one can be run again alone.
        let mut random = Random::new(seed, count);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(&mut random))) {
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
            return Err(format!("{name}: BUDU_FUZZ_SEED={seed} BUDU_FUZZ_CASE={count}: {what:.3000}").into());
        }
        let took = started.elapsed();
        if took > SLOW {
            return Err(format!("{name}: BUDU_FUZZ_SEED={seed} BUDU_FUZZ_CASE={count}: took {took:?}").into());
        }
        count += 1;
        if only.is_some() {
            break;
        }
    }
    let used = peak_memory();
    println!("{name}: {count} cases, peak memory {used} KiB");
    if used > LARGE { Err(format!("{name}: {used} KiB of memory").into()) } else { Ok(()) }
}

fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
