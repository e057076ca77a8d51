//! The meter: lives of containers under one OCI runtime, each step timed and its memory taken from the kernel.
//!
//! `meter lives COUNT BUNDLE SCRATCH NAME RUNTIME [ARGUMENT…]`: `create`, `start`, the process's own end, `delete`,
//! COUNT times, with RUNTIME's ARGUMENTs before the subcommand. `meter once COUNT PROGRAM [ARGUMENT…]`: a program that
//! does its work at once. Each prints a line per round: microseconds and kilobytes by turns.
//!
//! It is a program of its own because a child's peak memory never reads lower than that of the process that
//! started it, so that process must be small; and because it is a subreaper: a container's process becomes its child,
//! so that its peak (which outlives `execve`) can be taken too.

use std::fs::File;
use std::io::{self, Error};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How one child ended: wait status, and peak resident set in kilobytes.
struct Ended {
    pid: i32,
    status: i32,
    peak: i64,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["lives", count, bundle, scratch, name, runtime @ ..] if !runtime.is_empty() => {
            lives(number(count), bundle, scratch, name, runtime)
        }
        ["once", count, program @ ..] if !program.is_empty() => once(number(count), program),
        _ => {
            eprintln!(
                "usage: meter lives COUNT BUNDLE SCRATCH NAME RUNTIME [ARGUMENT...] | once COUNT PROGRAM [ARGUMENT...]"
            );
            return ExitCode::from(125);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meter: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or(1)
}

fn once(count: usize, program: &[&str]) -> io::Result<()> {
    for _ in 0..count {
        let start = Instant::now();
        let peak = run(program, &[], &File::create("/dev/null")?)?;
        println!("{} {peak}", start.elapsed().as_micros());
    }
    Ok(())
}

fn lives(count: usize, bundle: &str, scratch: &str, name: &str, runtime: &[&str]) -> io::Result<()> {
    // SAFETY: changes an attribute of this process.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) } != 0 {
        return Err(Error::last_os_error());
    }
    let (pid_file, log) = (format!("{scratch}/{name}.pid"), format!("{scratch}/{name}.log"));
    for round in 0..count {
        let id = format!("{name}-{round}");
        life(bundle, &id, &pid_file, &log, runtime).map_err(|error| {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            Error::other(format!("{runtime:?}: {error}\n{said}"))
        })?;
    }
    Ok(())
}

fn life(bundle: &str, id: &str, pid_file: &str, log: &str, runtime: &[&str]) -> io::Result<()> {
    let log = File::create(log)?;
    let whole = Instant::now();
    let mut step = whole;
    let mut lap = || {
        let now = Instant::now();
        (now - std::mem::replace(&mut step, now)).as_micros()
    };
    let create_peak = run(runtime, &["create", "--bundle", bundle, "--pid-file", pid_file, id], &log)?;
    let create = lap();
    let text = std::fs::read_to_string(pid_file)?;
    let pid: i32 = text.trim().parse().map_err(|_| Error::other(format!("{pid_file}: {text:?}")))?;
    let handle = pidfd(pid)?;
    let start_peak = run(runtime, &["start", id], &log)?;
    let start = lap();
    ended(&handle)?;
    let mut left = wait(pid, 0).map_or(0, |ended| ended.map_or(0, |ended| ended.peak));
    let end = lap();
    let delete_peak = run(runtime, &["delete", id], &log)?;
    let delete = lap();
    let whole = whole.elapsed().as_micros();
    // Whatever else the runtime has left behind: its memory counts as well.
    while let Ok(Some(ended)) = wait(-1, libc::WNOHANG) {
        left = left.max(ended.peak);
    }
    println!("{create} {create_peak} {start} {start_peak} {end} {left} {delete} {delete_peak} {whole} 0");
    Ok(())
}

/// Runs a program to its end, which must be a success; its peak in kilobytes, its own children included.
fn run(program: &[&str], more: &[&str], log: &File) -> io::Result<i64> {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).args(more).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(Error::other)?;
    let ended = wait(pid, 0)?.ok_or_else(|| Error::other("nobody ended"))?;
    if ended.pid == pid && ended.status == 0 {
        return Ok(ended.peak);
    }
    Err(Error::other(format!("{more:?}: wait status {}", ended.status)))
}

/// `wait4`: absent when `flags` say not to wait and nobody has ended.
fn wait(pid: i32, flags: i32) -> io::Result<Option<Ended>> {
    let mut status = 0;
    // SAFETY: all-zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live variables of the right types.
    let pid = unsafe { libc::wait4(pid, &raw mut status, flags, &raw mut usage) };
    match pid {
        0 => Ok(None),
        1.. => Ok(Some(Ended { pid, status, peak: usage.ru_maxrss })),
        _ => Err(Error::last_os_error()),
    }
}

fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).map_err(Error::other)?) })
}

/// Waits until the process behind `handle` has ended.
fn ended(handle: &OwnedFd) -> io::Result<()> {
    let limit = Duration::from_secs(20);
    let mut poll = libc::pollfd { fd: handle.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live pollfd.
    let ready = unsafe { libc::poll(&raw mut poll, 1, i32::try_from(limit.as_millis()).unwrap_or(i32::MAX)) };
    match ready {
        1 => Ok(()),
        0 => Err(Error::new(io::ErrorKind::TimedOut, "the container's process does not end")),
        _ => Err(Error::last_os_error()),
    }
}
