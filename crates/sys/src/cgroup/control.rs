//! What can be done with the processes of a group, and small file operations relative to its directory.

use super::{Cgroup, Controllers, Error, Hierarchy, Version};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{self, Dir, FileType, Mode, OFlags};
use rustix::io::{self, Errno};
use rustix::process::{Pid, Signal, kill_process};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long freezing may take; a task in uninterruptible sleep can hold it up.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);
/// Killing goes on without freezing after this.
const KILL_FREEZE_TIMEOUT: Duration = Duration::from_millis(200);

/// A file's contents.
pub(super) fn read(directory: BorrowedFd<'_>, file: &str) -> io::Result<Vec<u8>> {
    let fd = fs::openat(directory, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    read_all(&fd)
}

fn read_all(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(4096);
    loop {
        bytes.reserve(1024);
        let start = bytes.len();
        // Files here have no size; read until the end.
        bytes.resize(bytes.capacity(), 0);
        match io::read(fd, &mut bytes[start..]) {
            Ok(0) => {
                bytes.truncate(start);
                return Ok(bytes);
            }
            Ok(count) => bytes.truncate(start + count),
            Err(Errno::INTR) => bytes.truncate(start),
            Err(errno) => return Err(errno),
        }
    }
}

/// Writes a value with one write, as these files want it.
pub(super) fn write(directory: BorrowedFd<'_>, file: &str, value: &[u8]) -> io::Result<()> {
    let fd = fs::openat(directory, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    io::write(&fd, value).map(drop)
}

/// What the files of a group say once it is removed: those that are opened, and those that were.
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NODEV)
}

/// Names of all groups below, relative, deepest first.
pub(super) fn descendants(directory: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    below(directory, "", 0, &mut found)?;
    Ok(found)
}

fn below(directory: BorrowedFd<'_>, prefix: &str, depth: u8, found: &mut Vec<String>) -> io::Result<()> {
    // Containers choose this depth; nobody needs more, and recursion must end.
    if depth >= 32 {
        return Ok(());
    }
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if entry.file_type() != FileType::Directory || name == "." || name == ".." {
            continue;
        }
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if let Ok(child) = fs::openat(directory, name, flags, Mode::empty()) {
            match below(child.as_fd(), &path, depth + 1, found) {
                Err(errno) if is_gone(errno) => {}
                other => other?,
            }
        }
        found.push(path);
    }
    Ok(())
}

/// Process ids, one per line; a `0` (a process outside our pid namespace) is left out.
pub(super) fn pids(text: &[u8]) -> Vec<Pid> {
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| str::from_utf8(line).ok());
    lines.filter_map(|line| line.parse().ok().and_then(Pid::from_raw)).collect()
}

/// Processes of a group and the groups below it. In a threaded group only threads are listed.
pub(super) fn procs_below(directory: BorrowedFd<'_>) -> io::Result<Vec<Pid>> {
    let mut found = members(directory, "")?;
    for child in descendants(directory)? {
        // It may be gone already, and its processes with it.
        if let Ok(more) = members(directory, &format!("{child}/")) {
            found.extend(more);
        }
    }
    Ok(found)
}

fn members(directory: BorrowedFd<'_>, prefix: &str) -> io::Result<Vec<Pid>> {
    match read(directory, &format!("{prefix}cgroup.procs")) {
        // A threaded group: its processes are listed by the domain above.
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        other => other.map(|text| pids(&text)),
    }
}

/// How many processes are in a group and below, those of other pid namespaces included.
pub(super) fn count(directory: BorrowedFd<'_>) -> io::Result<usize> {
    let lines = |file: &str| read(directory, file).map(|text| text.iter().filter(|byte| **byte == b'\n').count());
    let mut count = match lines("cgroup.procs") {
        Err(Errno::OPNOTSUPP) => lines("cgroup.threads")?,
        other => other?,
    };
    for child in descendants(directory)? {
        count += lines(&format!("{child}/cgroup.procs")).unwrap_or(0);
    }
    Ok(count)
}

/// Moves processes; those that have ended meanwhile are left out.
pub(super) fn move_in(directory: BorrowedFd<'_>, pids: &[Pid]) -> io::Result<()> {
    for pid in pids {
        match write(directory, "cgroup.procs", pid.as_raw_nonzero().to_string().as_bytes()) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A file with one number.
pub(super) fn number(directory: BorrowedFd<'_>, file: &str) -> Option<u64> {
    let text = read(directory, file).ok()?;
    str::from_utf8(text.trim_ascii()).ok()?.parse().ok()
}

/// The value after a name at the start of a line; 0 without such a line.
pub(super) fn number_after(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// Whether a group was frozen itself, not just with one above it. `FREEZING` is waited out.
pub(super) fn is_frozen(version: Version, hierarchy: &Hierarchy, directory: BorrowedFd<'_>) -> io::Result<bool> {
    if version == Version::V2 {
        return read(directory, "cgroup.freeze").map(|state| state.trim_ascii() == b"1");
    }
    if !hierarchy.controllers.contains(Controllers::FREEZER) {
        return Ok(false);
    }
    let deadline = Instant::now() + FREEZE_TIMEOUT;
    loop {
        match read(directory, "freezer.state")?.trim_ascii() {
            b"FROZEN" => {
                return Ok(read(directory, "freezer.self_freezing").is_ok_and(|own| own.trim_ascii() != b"0"));
            }
            b"FREEZING" if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            _ => return Ok(false),
        }
    }
}

/// Waits until cgroup.events says `key value`. A file without such a line says so too.
pub(super) fn await_event(events: &OwnedFd, key: &str, value: &str, deadline: Instant) -> io::Result<()> {
    loop {
        fs::seek(events, fs::SeekFrom::Start(0))?;
        let text = read_all(events)?;
        let text = String::from_utf8_lossy(&text);
        let state = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        if state.is_none_or(|state| state == value) {
            return Ok(());
        }
        let left = deadline.checked_duration_since(Instant::now()).ok_or(Errno::TIMEDOUT)?;
        let timeout = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        match poll(&mut [PollFd::new(events, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

impl Cgroup {
    /// A directory that lists all processes: the only one on v2, any one on v1.
    fn members(&self) -> Result<BorrowedFd<'_>, Error> {
        self.directory(Controllers::FREEZER)
            .or_else(|| self.directories.first().map(|one| one.fd.as_fd()))
            .ok_or(Error::NotMounted)
    }

    fn fail(&self, action: &str, errno: Errno) -> Error {
        Error::io(action, self.path.to_string(), errno)
    }

    /// Processes in the group and the groups below it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn procs(&self) -> Result<Vec<Pid>, Error> {
        procs_below(self.members()?).map_err(|errno| self.fail("list processes of", errno))
    }

    /// As [`Cgroup::procs`], but none when the group is gone: systemd removes its own with the last process, and
    /// whoever else ends the container removes others.
    pub(super) fn remaining(&self) -> Result<Vec<Pid>, Error> {
        match procs_below(self.members()?) {
            Err(errno) if is_gone(errno) => Ok(Vec::new()),
            other => other.map_err(|errno| self.fail("list processes of", errno)),
        }
    }

    /// Kills every process in the group and below, also those that fork meanwhile. They are gone a moment later. In a
    /// group that is gone there are none.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn kill_all(&self) -> Result<(), Error> {
        if self.version == Version::V2 {
            match write(self.members()?, "cgroup.kill", b"1") {
                Ok(()) => return Ok(()),
                // Before Linux 5.14; or the group is gone.
                Err(errno) if is_gone(errno) => {}
                Err(errno) => return Err(self.fail("kill", errno)),
            }
        }
        // Frozen processes cannot fork, so that one pass suffices where freezing works.
        let frozen = self.remaining()?.len() > 1 && self.set_frozen(true, KILL_FREEZE_TIMEOUT).is_ok();
        let mut result = Ok(());
        for _ in 0..if frozen { 1 } else { 32 } {
            let pids = self.remaining()?;
            if pids.is_empty() {
                break;
            }
            for pid in pids {
                match kill_process(pid, Signal::KILL) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(errno) => result = Err(self.fail("kill processes of", errno)),
                }
            }
        }
        if self.directory(Controllers::FREEZER).is_some() {
            // A frozen process of v1 takes its signal only when thawed.
            self.thaw()?;
        }
        result
    }

    /// Stops every process of the group and waits until they stand.
    ///
    /// # Errors
    /// [`Error::NoController`] on v1 without freezer, [`Error::Io`] with `ETIMEDOUT` when one does not stop; the group
    /// is thawed again then.
    pub fn freeze(&self) -> Result<(), Error> {
        let result = self.set_frozen(true, FREEZE_TIMEOUT);
        if result.is_err() {
            let _ = self.thaw();
        }
        result
    }

    /// Lets them run again. In a group that is gone nobody is held.
    ///
    /// # Errors
    /// As [`Cgroup::freeze`].
    pub fn thaw(&self) -> Result<(), Error> {
        self.set_frozen(false, FREEZE_TIMEOUT)
    }

    fn set_frozen(&self, frozen: bool, timeout: Duration) -> Result<(), Error> {
        let directory = self.freezer()?;
        let deadline = Instant::now() + timeout;
        let action = if frozen { "freeze" } else { "thaw" };
        let outcome = match self.version {
            Version::V1 => freeze_v1(directory, frozen, deadline),
            Version::V2 => freeze_v2(directory, frozen, deadline),
        };
        match outcome {
            // Or it cannot be frozen at all, before Linux 5.2.
            Err(errno) if !frozen && is_gone(errno) => Ok(()),
            other => other.map_err(|errno| self.fail(action, errno)),
        }
    }

    fn freezer(&self) -> Result<BorrowedFd<'_>, Error> {
        self.directory(Controllers::FREEZER)
            .ok_or_else(|| Error::NoController { controller: "freezer".to_owned(), what: "pausing".to_owned() })
    }

    /// Whether the group is frozen now.
    ///
    /// # Errors
    /// As [`Cgroup::freeze`].
    pub fn is_frozen(&self) -> Result<bool, Error> {
        let hierarchy = self
            .directories
            .iter()
            .find(|one| self.version == Version::V2 || one.hierarchy.controllers.contains(Controllers::FREEZER));
        let Some(one) = hierarchy else { return self.freezer().map(|_| false) };
        match is_frozen(self.version, &one.hierarchy, one.fd.as_fd()) {
            // No freezer before Linux 5.2; or the group is gone.
            Err(errno) if is_gone(errno) => Ok(false),
            other => other.map_err(|errno| self.fail("read the state of", errno)),
        }
    }

    /// Sends a signal to every process in the group and below.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn signal_all(&self, signal: Signal) -> Result<(), Error> {
        for pid in self.remaining()? {
            match kill_process(pid, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(self.fail("signal processes of", errno)),
            }
        }
        Ok(())
    }
}

fn freeze_v1(directory: BorrowedFd<'_>, frozen: bool, deadline: Instant) -> io::Result<()> {
    let wanted: &[u8] = if frozen { b"FROZEN" } else { b"THAWED" };
    loop {
        // Written again each time: tasks that were just forked are caught by the next attempt.
        write(directory, "freezer.state", wanted)?;
        for _ in 0..10 {
            if read(directory, "freezer.state")?.trim_ascii() == wanted {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Errno::TIMEDOUT);
            }
            // v1 announces nothing.
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

fn freeze_v2(directory: BorrowedFd<'_>, frozen: bool, deadline: Instant) -> io::Result<()> {
    let events = fs::openat(directory, "cgroup.events", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    write(directory, "cgroup.freeze", if frozen { b"1" } else { b"0" })?;
    // Kernels before 5.2 have no freezer here and no such line; the write above failed on those.
    await_event(&events, "frozen", if frozen { "1" } else { "0" }, deadline)
}
