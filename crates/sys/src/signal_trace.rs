//! Who sends signals: the kernel's tracepoint `signal:signal_generate`, by perf_event_open(2).
//!
//! Neither wait(2) nor anything else tells a parent who killed its child; this
//! does, for the whole host. Nothing of it outlives the process that asked.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

const EVENT: [&str; 2] =
    ["/sys/kernel/tracing/events/signal/signal_generate", "/sys/kernel/debug/tracing/events/signal/signal_generate"];

/// PERF_TYPE_TRACEPOINT.
const TRACEPOINT: u32 = 2;
/// PERF_SAMPLE_TID and PERF_SAMPLE_RAW.
const SAMPLE: u64 = 0x2 | 0x400;
/// PERF_FLAG_FD_CLOEXEC.
const CLOEXEC: libc::c_ulong = 8;
/// PERF_EVENT_IOC_SET_FILTER.
const SET_FILTER: libc::c_ulong = 0x4008_2406;
/// PERF_RECORD_SAMPLE.
const RECORD_SAMPLE: u32 = 9;
/// Pages of a ring beside the first; a power of two. A page holds some fifty signals.
const PAGES: usize = 1;
/// Where the kernel's and our positions are in the first page.
const HEAD: usize = 1024;
const TAIL: usize = 1032;

/// struct perf_event_attr as of its first version.
#[repr(C)]
#[derive(Debug, Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint: u32,
    config1: u64,
}

/// One signal that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its number.
    pub signal: i32,
    /// The process that sent it.
    pub sender: u32,
    /// The thread it is for; the first one of a process has the process's number.
    pub target: u32,
}

/// Sees signals from its making on.
#[derive(Debug)]
pub struct SignalTrace {
    rings: Vec<Ring>,
    offsets: Offsets,
}

/// Where in a record the kernel puts what.
#[derive(Debug, Clone, Copy)]
struct Offsets {
    signal: usize,
    target: usize,
}

impl SignalTrace {
    /// Begins to look at signals that `filter` takes (trace events' syntax: `sig==9||sig==15`).
    ///
    /// # Errors
    /// Without the privilege (CAP_PERFMON), or where the kernel offers no tracepoints.
    pub fn open(filter: &str) -> io::Result<SignalTrace> {
        let read = |name: &str| {
            EVENT.iter().map(|dir| std::fs::read_to_string(format!("{dir}/{name}"))).find(|text| text.is_ok())
        };
        let missing = || io::Error::from(io::ErrorKind::Unsupported);
        let id = read("id").transpose()?.and_then(|text| text.trim().parse().ok()).ok_or_else(missing)?;
        let offsets = read("format").transpose()?.as_deref().and_then(offsets).ok_or_else(missing)?;
        let filter = std::ffi::CString::new(filter).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let rings = online()?.into_iter().map(|cpu| Ring::open(cpu, id, &filter)).collect::<io::Result<_>>()?;
        Ok(SignalTrace { rings, offsets })
    }

    /// What becomes readable when there is something to [`SignalTrace::drain`].
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.rings.iter().map(|ring| ring.fd.as_fd())
    }

    /// Takes what was seen since the last time.
    pub fn drain(&mut self, mut each: impl FnMut(Sent)) {
        let offsets = self.offsets;
        for ring in &mut self.rings {
            ring.drain(|record| {
                if let Some(sent) = decode(record, offsets) {
                    each(sent);
                }
            });
        }
    }
}

/// Finds `field:int sig;\toffset:8;` and its like.
fn offsets(format: &str) -> Option<Offsets> {
    let of = |name: &str| {
        let line = format.lines().find(|line| line.contains(&format!(" {name};")))?;
        line.split("offset:").nth(1)?.split(';').next()?.parse().ok()
    };
    Some(Offsets { signal: of("sig")?, target: of("pid")? })
}

/// The body of a sample: process and thread that caused it, length and bytes of the event.
fn decode(record: &[u8], offsets: Offsets) -> Option<Sent> {
    let word = |at: usize| record.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let raw = 12;
    Some(Sent {
        signal: word(raw + offsets.signal)?.cast_signed(),
        sender: word(0)?,
        target: word(raw + offsets.target)?,
    })
}

/// Numbers of the processors there are.
fn online() -> io::Result<Vec<i32>> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
    let mut list = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<i32>().map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
        list.extend(number(first)?..=number(last)?);
    }
    Ok(list)
}

/// What one processor's kernel writes into and we read from.
#[derive(Debug)]
struct Ring {
    fd: OwnedFd,
    memory: NonNull<u8>,
    page: usize,
}

// SAFETY: the mapping belongs to the ring alone, and is read through `&mut self` only.
unsafe impl Send for Ring {}

impl Ring {
    fn open(cpu: i32, event: u64, filter: &std::ffi::CStr) -> io::Result<Ring> {
        let attributes = Attributes {
            kind: TRACEPOINT,
            size: size_of::<Attributes>() as u32,
            config: event,
            sample_period: 1,
            sample_type: SAMPLE,
            wakeup_events: 1,
            ..Attributes::default()
        };
        // SAFETY: the kernel reads a struct perf_event_attr of the size it says; the rest are numbers.
        let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, -1, cpu, -1, CLOEXEC) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the kernel reads a string that ends with NUL.
        if unsafe { libc::ioctl(fd.as_raw_fd(), SET_FILTER, filter.as_ptr()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let page = rustix::param::page_size();
        let (protection, flags) =
            (rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE, rustix::mm::MapFlags::SHARED);
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory in use.
        let memory = unsafe { rustix::mm::mmap(std::ptr::null_mut(), (1 + PAGES) * page, protection, flags, &fd, 0) }?;
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Ring { fd, memory, page })
    }

    fn position(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the first page is mapped as long as `self`, is aligned, and both sides use this word atomically.
        unsafe { AtomicU64::from_ptr(self.memory.as_ptr().add(at).cast()) }
    }

    /// Calls `each` with the body of every new sample.
    fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        let size = (PAGES * self.page) as u64;
        let head = self.position(HEAD).load(Ordering::Acquire);
        let mut tail = self.position(TAIL).load(Ordering::Relaxed);
        let mut record = Vec::new();
        while tail < head {
            let mut header = [0u8; 8];
            self.copy(tail, &mut header);
            let [a, b, c, d, _, _, low, high] = header;
            let length = u64::from(u16::from_ne_bytes([low, high]));
            if length < 8 || length > size {
                break;
            }
            if u32::from_ne_bytes([a, b, c, d]) == RECORD_SAMPLE {
                record.resize(length as usize - 8, 0);
                self.copy(tail + 8, &mut record);
                each(&record);
            }
            tail += length;
        }
        self.position(TAIL).store(head, Ordering::Release);
    }

    /// Copies bytes out of the ring, which may go over its end.
    fn copy(&self, from: u64, to: &mut [u8]) {
        let size = PAGES * self.page;
        for (n, byte) in to.iter_mut().enumerate() {
            let at = self.page + (from as usize + n) % size;
            // SAFETY: `at` is within the pages mapped; the kernel writes nothing before our position passes it.
            *byte = unsafe { self.memory.as_ptr().add(at).read_volatile() };
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody looks at it any more.
        let _ = unsafe { rustix::mm::munmap(self.memory.as_ptr().cast(), (1 + PAGES) * self.page) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_sender() {
        let mut trace = match SignalTrace::open("sig==10") {
            Ok(trace) => trace,
            Err(error) => {
                println!("skipped: the kernel does not tell of signals here: {error}");
                return;
            }
        };
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::USR1).unwrap();
        child.wait().unwrap();
        let mut seen = Vec::new();
        trace.drain(|sent| seen.push(sent));
        assert!(seen.contains(&Sent { signal: 10, sender: std::process::id(), target: child.id() }), "{seen:?}");
    }

    #[test]
    fn formats() {
        let text = "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\tfield:int sig;\toffset:8;\tsize:4;\n\tfield:pid_t pid;\toffset:36;\tsize:4;\n";
        let offsets = offsets(text).unwrap();
        assert_eq!((offsets.signal, offsets.target), (8, 36));
    }
}
