//! What can be done with the processes of a group, and small file operations relative to its directory.

use super::{Cgroup, CgroupPath, Controllers, Error, Hierarchy, Version};
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
            below(child.as_fd(), &path, depth + 1, found)?;
        }
        found.push(path);
    }
    Ok(())
}

/// Switches controllers on in every ancestor of `path`, from the root down.
///
/// The ancestors below the root are ours and hold no process. In a container with a private cgroup namespace even the
/// root is an ordinary group, and while it holds processes (the container's own) it may not hand controllers down:
/// these processes are then moved to a group `init` beside ours.
pub(super) fn enable(
    root: BorrowedFd<'_>,
    hierarchy: &Hierarchy,
    path: &CgroupPath,
    controllers: Controllers,
) -> Result<(), Error> {
    if controllers.is_empty() {
        return Ok(());
    }
    let fail = |action: &str, errno: Errno| Error::io(action, hierarchy.mount.join("cgroup.subtree_control"), errno);
    let mut level = String::new();
    for part in path.components() {
        let file = format!("{level}cgroup.subtree_control");
        let text = match read(root, &file) {
            Ok(text) => text,
            Err(Errno::NOENT) if !level.is_empty() => {
                let _ = fs::mkdirat(root, level.trim_end_matches('/'), Mode::from_raw_mode(0o755));
                read(root, &file).map_err(|errno| fail("read", errno))?
            }
            Err(errno) => return Err(fail("read", errno)),
        };
        let text = String::from_utf8_lossy(&text);
        let on = text
            .split_ascii_whitespace()
            .filter_map(Controllers::from_name)
            .fold(Controllers::NONE, Controllers::union);
        let missing = controllers.difference(on);
        if !missing.is_empty() {
            let names: Vec<String> = missing.names().map(|name| format!("+{name}")).collect();
            let value = names.join(" ");
            let mut result = write(root, &file, value.as_bytes());
            if result == Err(Errno::BUSY) && level.is_empty() {
                evacuate(root).map_err(|errno| fail("move processes out of the root group for", errno))?;
                result = write(root, &file, value.as_bytes());
            }
            result.map_err(|errno| fail(&format!("write {value:?} to"), errno))?;
        }
        level.push_str(part);
        level.push('/');
    }
    Ok(())
}

/// Moves every process of the namespace's root group to a group `init` below it.
fn evacuate(root: BorrowedFd<'_>) -> io::Result<()> {
    match fs::mkdirat(root, "init", Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    // New ones may be forked meanwhile.
    for _ in 0..10 {
        let pids = pids(&read(root, "cgroup.procs")?);
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            match write(root, "init/cgroup.procs", pid.as_raw_nonzero().to_string().as_bytes()) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

/// Process ids, one per line; a `0` (a process outside our pid namespace) is left out.
fn pids(text: &[u8]) -> Vec<Pid> {
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| str::from_utf8(line).ok());
    lines.filter_map(|line| line.parse().ok().and_then(Pid::from_raw)).collect()
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
        let directory = self.members()?;
        let mut found = pids(&read(directory, "cgroup.procs").map_err(|errno| self.fail("list processes of", errno))?);
        for child in descendants(directory).map_err(|errno| self.fail("list groups below", errno))? {
            // It may be gone already, and its processes with it.
            if let Ok(text) = read(directory, &format!("{child}/cgroup.procs")) {
                found.extend(pids(&text));
            }
        }
        Ok(found)
    }

    /// Kills every process in the group and below, also those that fork meanwhile. They are gone a moment later.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn kill_all(&self) -> Result<(), Error> {
        if self.version == Version::V2 {
            match write(self.members()?, "cgroup.kill", b"1") {
                Ok(()) => return Ok(()),
                // Before Linux 5.14.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(self.fail("kill", errno)),
            }
        }
        // Frozen processes cannot fork, so that one pass suffices where freezing works.
        let frozen = self.procs()?.len() > 1 && self.set_frozen(true, KILL_FREEZE_TIMEOUT).is_ok();
        let mut result = Ok(());
        for _ in 0..if frozen { 1 } else { 32 } {
            let pids = self.procs()?;
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

    /// Lets them run again.
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
        outcome.map_err(|errno| self.fail(action, errno))
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
        let directory = self.freezer()?;
        let result = match self.version {
            Version::V1 => read(directory, "freezer.state").map(|state| state.trim_ascii() == b"FROZEN"),
            Version::V2 => read(directory, "cgroup.freeze").map(|state| state.trim_ascii() == b"1"),
        };
        result.map_err(|errno| self.fail("read the state of", errno))
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
    let wanted = if frozen { "1" } else { "0" };
    loop {
        fs::seek(&events, fs::SeekFrom::Start(0))?;
        let text = read_all(&events)?;
        let text = String::from_utf8_lossy(&text);
        let state = text.lines().find_map(|line| line.strip_prefix("frozen "));
        // Kernels before 5.2 have no freezer here and no such line; the write above failed on those.
        if state.is_none_or(|state| state == wanted) {
            return Ok(());
        }
        let left = deadline.checked_duration_since(Instant::now()).ok_or(Errno::TIMEDOUT)?;
        let timeout = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
