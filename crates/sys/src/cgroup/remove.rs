//! The end of a group.

use super::apply::{DIRECTORY, Directory};
use super::control::{descendants, is_gone, procs_below};
use super::{Cgroup, CgroupPath, Error, Layout, Version};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags};
use rustix::io::{self, Errno};
use rustix::process::{PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long processes that were killed may take to leave.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses between attempts where no event tells of the end: 1, 2, 4 … milliseconds.
const LAST_PAUSE: Duration = Duration::from_millis(256);

impl Cgroup {
    /// Removes the group and the groups below it. Processes inside are not killed: see [`Cgroup::destroy`].
    ///
    /// # Errors
    /// [`Error::Io`] with `EBUSY` when processes are still there after half a second.
    pub fn remove(&mut self) -> Result<(), Error> {
        self.armed = false;
        let mut failed = None;
        for directory in &self.directories {
            if let Err(errno) = remove(directory, &self.path) {
                failed = Some(Error::io("remove", self.full(directory), errno));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Kills what is inside and removes the group with the groups below it.
    ///
    /// # Errors
    /// [`Error::Io`] with `EBUSY` when a process does not end.
    pub fn destroy(&mut self) -> Result<(), Error> {
        if !self.is_empty() {
            self.kill_all()?;
            self.drain(DRAIN_TIMEOUT);
        }
        self.remove()
    }

    /// Whether no process is left. A group that is gone is empty.
    pub fn is_empty(&self) -> bool {
        self.remaining().is_ok_and(|pids| pids.is_empty())
    }

    /// Waits until no process is left, or for `timeout`; says whether none is.
    pub fn drain(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        match self.version {
            Version::V2 => {
                self.directories.first().is_none_or(|one| unpopulated(one.fd.as_fd(), deadline).unwrap_or(true))
            }
            Version::V1 => self.directories.iter().all(|one| left(one.fd.as_fd(), deadline)),
        }
    }

    /// Removes a group by its path without looking into it first, which is enough for one whose processes have ended:
    /// a system call per hierarchy. Else it is opened and destroyed.
    ///
    /// # Errors
    /// As [`Cgroup::destroy`].
    pub fn remove_at(layout: &Layout, path: &CgroupPath) -> Result<(), Error> {
        let mut gone = true;
        for hierarchy in &layout.hierarchies {
            let full = hierarchy.mount.join(path.as_str());
            gone &= matches!(fs::unlinkat(CWD, full, AtFlags::REMOVEDIR), Ok(()) | Err(Errno::NOENT));
        }
        if gone {
            return Ok(());
        }
        match Cgroup::open(layout, path) {
            Ok(mut group) => group.destroy(),
            Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// v2: cgroup.events announces the end of the last process.
fn unpopulated(group: BorrowedFd<'_>, deadline: Instant) -> io::Result<bool> {
    let events = fs::openat(group, "cgroup.events", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    super::control::await_event(&events, "populated", "0", deadline).map(|()| true).or_else(|errno| match errno {
        Errno::TIMEDOUT => Ok(false),
        other => Err(other),
    })
}

/// v1: the end of each process is awaited.
fn left(group: BorrowedFd<'_>, deadline: Instant) -> bool {
    loop {
        let Ok(pids) = procs_below(group) else { return true };
        let open: Vec<OwnedFd> = pids.iter().filter_map(|pid| pidfd_open(*pid, PidfdFlags::empty()).ok()).collect();
        if open.is_empty() {
            // None, or none that is not on its way out: the directory can go in a moment.
            return true;
        }
        for process in &open {
            let Some(rest) = deadline.checked_duration_since(Instant::now()) else { return false };
            let Ok(timeout) = Timespec::try_from(rest) else { return false };
            match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return false,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

fn remove(directory: &Directory, path: &CgroupPath) -> io::Result<()> {
    let root = fs::open(&directory.hierarchy.mount, DIRECTORY, Mode::empty())?;
    let mut pause = Duration::from_millis(1);
    loop {
        let mut result = fs::unlinkat(&root, path.as_str(), AtFlags::REMOVEDIR);
        if result == Err(Errno::BUSY) {
            // Groups that the container made for itself go first.
            let children = match descendants(directory.fd.as_fd()) {
                Err(errno) if is_gone(errno) => Vec::new(),
                other => other?,
            };
            for child in children {
                let _ = fs::unlinkat(&directory.fd, child.as_str(), AtFlags::REMOVEDIR);
            }
            result = fs::unlinkat(&root, path.as_str(), AtFlags::REMOVEDIR);
        }
        match result {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if pause <= LAST_PAUSE => {
                // A process that has ended leaves within milliseconds, and nothing announces it on v1.
                std::thread::sleep(pause);
                pause *= 2;
            }
            Err(errno) => return Err(errno),
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.armed {
            // Undoing a failed start: its error is reported, not this one. What was there before stays.
            self.directories.retain(|directory| directory.made);
            let _ = self.remove();
        }
    }
}
