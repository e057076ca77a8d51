//! Runs a program one instruction at a time and tells which of its code ran.
//!
//! `steps REPORT PROGRAM [ARGUMENT…]`: the program and all processes it starts are stepped by ptrace(2). REPORT gets a
//! line for each 16 bytes of PROGRAM's own code that ran in any of them: the offset from the start of its image,
//! hexadecimal. It is written when the first process has ended, which is told by the line "ended" on standard output,
//! and again when all have. Some 30,000 instructions a second go by.

use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::fmt::Write as _;
use std::io::{Error, Write as _};
use std::{fs, mem, process, ptr};

/// Bytes to a line of the report.
const GRAIN: u64 = 16;

/// Where a process has the program's image and its code.
#[derive(Clone, Copy, Default)]
struct Image {
    base: u64,
    code: (u64, u64),
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [report, command @ ..] = args.as_slice() else { usage() };
    let words: Vec<CString> = command.iter().filter_map(|word| CString::new(word.as_str()).ok()).collect();
    let Some(program) = command.first().and_then(|path| fs::canonicalize(path).ok()) else { usage() };
    let size = fs::metadata(&program).map_or(0, |found| found.len());
    let first = start(&words);
    let mut seen = BTreeSet::new();
    let mut images: HashMap<i32, Image> = HashMap::new();
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if pid < 0 {
            break;
        }
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            images.remove(&pid);
            if pid == first {
                write(report, &seen);
                println!("ended");
                let _ = std::io::stdout().flush();
            }
            continue;
        }
        if status >> 16 == libc::PTRACE_EVENT_EXEC {
            images.remove(&pid);
        }
        let image = *images.entry(pid).or_insert_with(|| image(pid, size));
        let at = counter(pid);
        if (image.code.0..image.code.1).contains(&at) {
            seen.insert((at - image.base) / GRAIN);
        }
        let signal = Some(libc::WSTOPSIG(status)).filter(|signal| !matches!(*signal, libc::SIGTRAP | libc::SIGSTOP));
        // SAFETY: stepping touches no memory of ours.
        unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, pid, 0, signal.unwrap_or(0)) };
    }
    write(report, &seen);
}

fn usage() -> ! {
    eprintln!("usage: steps REPORT PROGRAM [ARGUMENT...]");
    process::exit(125)
}

/// Starts the program, stopped and traced with all that will descend from it.
fn start(words: &[CString]) -> i32 {
    let mut argv: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    argv.push(ptr::null());
    // SAFETY: this process has one thread; the child makes nothing but system calls.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: `argv` ends with a null pointer, and its strings live.
        unsafe {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            libc::raise(libc::SIGSTOP);
            libc::execv(argv[0], argv.as_ptr());
            libc::_exit(127);
        }
    }
    let options = libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_EXITKILL;
    let mut status = 0;
    // SAFETY: `status` outlives the call; the others touch no memory of ours.
    unsafe {
        libc::waitpid(child, &raw mut status, 0);
        libc::ptrace(libc::PTRACE_SETOPTIONS, child, 0, options);
        libc::ptrace(libc::PTRACE_SINGLESTEP, child, 0, 0);
    }
    child
}

/// The image of a process's binary, if it is the program: a link or a read-only mount of it has another path, but
/// the same length.
fn image(pid: i32, size: u64) -> Image {
    if fs::metadata(format!("/proc/{pid}/exe")).map_or(0, |found| found.len()) != size {
        return Image::default();
    }
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let lines: Vec<Vec<&str>> = maps.lines().map(|line| line.split_whitespace().collect()).collect();
    let range = |words: &[&str]| -> Option<(u64, u64)> {
        let (from, to) = words.first()?.split_once('-')?;
        Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
    };
    let is_file = |words: &&Vec<&str>| words.get(5).is_some_and(|path| path.starts_with('/'));
    let code = lines.iter().filter(is_file).find(|words| words[1].contains('x')).and_then(|words| range(words));
    let base = lines.iter().find(is_file).and_then(|words| range(words));
    match (base, code) {
        (Some((base, _)), Some(code)) => Image { base, code },
        _ => Image::default(),
    }
}

/// The address a stopped process is at; 0 when it is gone.
fn counter(pid: i32) -> u64 {
    // SAFETY: the structure is plain data; the kernel fills it.
    unsafe {
        let mut registers: libc::user_regs_struct = mem::zeroed();
        match libc::ptrace(libc::PTRACE_GETREGS, pid, 0, &raw mut registers) {
            0 => registers.rip,
            _ => 0,
        }
    }
}

fn write(report: &str, seen: &BTreeSet<u64>) {
    let mut text = String::new();
    for grain in seen {
        let _ = writeln!(text, "{:x}", grain * GRAIN);
    }
    if let Err(error) = fs::write(report, text) {
        let error: Error = error;
        eprintln!("steps: {report}: {error}");
        process::exit(125);
    }
}
