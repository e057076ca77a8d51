//! `cargo xtask vm-test`: kernel tests in a Debian 12 of our own, with systemd and control groups v2.
//!
//! QEMU boots the distribution's kernel, emulating the processor in software where KVM does not work. The root
//! file system comes from Debian packages alone and is made once; the programs under test are on a second disk,
//! made for every run. The guest has no network. It says on a serial line what came of each suite, then
//! powers off; nothing it writes outlives the run.

mod build;
mod image;
mod machine;
mod outcome;
mod suite;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use outcome::Outcome;
use suite::Suite;

const USAGE: &str = "usage: cargo xtask vm-test [--timeout SECONDS] [--accel kvm|tcg] [--rebuild] [SUITE]...

Suites (all but e2e when none is named):
  sys      control groups, device programs, seccomp, netlink against the kernel
  runtime  shims and containers against the kernel
  network  bridges, firewall and traffic against the kernel
  engine   a daemon and its command line: limits, OOM, exec, stop, restart after kill -9, device access
  e2e      the end-to-end tests; e2e:FILTER runs some of them

--rebuild makes the root file system anew. A binary in $BUDU_BIN is used as it is. Needs root, and Debian's mmdebstrap, qemu-system-x86.
";

/// What the command line asks for.
struct Options {
    suites: Vec<Suite>,
    timeout: Duration,
    accel: Option<machine::Accel>,
    rebuild: bool,
}

/// Builds, boots, runs, counts; fails when a test failed or the guest did not reach its end.
pub(crate) fn command(args: &[String]) -> Result<()> {
    let Some(options) = parse(args)? else {
        print!("{USAGE}");
        return Ok(());
    };
    image::install_programs()?;
    let image = image::ensure(options.rebuild).context("make the guest's root file system")?;
    let begin = Instant::now();
    let payload = build::payload(&options.suites).context("make the disk with the tests")?;
    println!("vm-test: tests built in {} s", begin.elapsed().as_secs());
    let accel = match options.accel {
        Some(accel) => accel,
        None => machine::best_accel(&image)?,
    };
    let mut outcome = Outcome::default();
    let begin = Instant::now();
    let end = machine::run(&image, payload.path(), accel, options.timeout, |line| {
        if outcome.line(line) {
            println!("{line}");
        }
        if let Some(uptime) = outcome.take_boot() {
            let seconds = begin.elapsed().as_secs_f64();
            println!("vm-test: {} guest ready after {seconds:.1} s ({uptime} s by its own clock)", accel.name());
        }
    })?;
    outcome.print(&options.suites);
    println!("vm-test: {} s in the guest", begin.elapsed().as_secs());
    println!("{}", outcome.total());
    if let Some(trouble) = end {
        bail!("{trouble}; the console of the guest is in {}", image.console().display());
    }
    ensure!(outcome.good(&options.suites), "not every suite passed");
    Ok(())
}

fn parse(args: &[String]) -> Result<Option<Options>> {
    let mut options = Options { suites: Vec::new(), timeout: Duration::from_secs(1200), accel: None, rebuild: false };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--rebuild" => options.rebuild = true,
            "--timeout" => options.timeout = Duration::from_secs(value()?.parse()?),
            "--accel" => options.accel = Some(machine::Accel::parse(value()?)?),
            name => options.suites.push(Suite::parse(name)?),
        }
    }
    if options.suites.is_empty() {
        options.suites = Suite::usual();
    }
    Ok(Some(options))
}
