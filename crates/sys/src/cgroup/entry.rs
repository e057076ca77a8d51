//! The doors of a group.

use super::control::{count, read};
use super::{Cgroup, CgroupPath, Controllers, Error, Version};
use rustix::fs::{self, Mode, OFlags};
use rustix::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// How a process gets in. Made by the parent, used by the child, without allocating.
#[derive(Debug)]
pub enum Entry {
    /// First generation.
    V1 {
        /// The `tasks` file of each hierarchy, open for writing. The single-threaded process writes `0` into each.
        tasks: Vec<OwnedFd>,
        /// The directory in the v2 tree beside them. Nobody enters it afterwards, because that takes the kernel a
        /// lock over all threads of the machine; a process can be born there.
        beside: Option<OwnedFd>,
    },
    /// The directory, for `CLONE_INTO_CGROUP`.
    V2(OwnedFd),
}

impl Entry {
    /// The directory for clone3's `cgroup` field by which a process is born inside and need not
    /// [`enter`](Entry::enter), if this host has that door.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Entry::V1 { .. } => None,
            Entry::V2(directory) => Some(directory.as_fd()),
        }
    }

    /// The directory for clone3's `cgroup` field whichever the generation: on v1 the process must
    /// [`enter`](Entry::enter) besides.
    pub fn birthplace(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Entry::V1 { beside, .. } => beside.as_ref().map(AsFd::as_fd),
            Entry::V2(directory) => Some(directory.as_fd()),
        }
    }

    /// All it holds open.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Entry::V1 { tasks, beside } => tasks.iter().chain(beside).map(AsFd::as_fd).collect(),
            Entry::V2(directory) => vec![directory.as_fd()],
        }
    }

    /// Moves the calling thread (v1) or process (v2, where clone3 could not do it) inside.
    ///
    /// # Errors
    /// The kernel's, `ENODEV` for a removed group.
    pub fn enter(&self) -> io::Result<()> {
        match self {
            Entry::V1 { tasks, .. } => tasks.iter().try_for_each(|file| io::write(file, b"0").map(drop)),
            Entry::V2(directory) => {
                let file = fs::openat(directory, c"cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
                io::write(&file, b"0").map(drop)
            }
        }
    }
}

impl Cgroup {
    /// The door for a new process.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn entry(&self) -> Result<Entry, Error> {
        self.entry_below(&[])
    }

    /// The door to groups below this one: path by controllers, where [`Controllers::NONE`] stands for all.
    ///
    /// # Errors
    /// [`Error::Io`] with `ENOENT` for one that does not exist, [`Error::BadPath`] for one that is not below,
    /// [`Error::NoController`].
    pub fn entry_below(&self, below: &[(Controllers, String)]) -> Result<Entry, Error> {
        for (controllers, _) in below.iter().filter(|(controllers, _)| !controllers.is_empty()) {
            if !self.directories.iter().any(|one| one.hierarchy.controllers.intersects(*controllers)) {
                let what = "entering a group below".to_owned();
                return Err(Error::NoController { controller: controllers.to_string(), what });
            }
        }
        let mut tasks = Vec::with_capacity(self.directories.len());
        let mut beside = None;
        for directory in &self.directories {
            let own = directory.hierarchy.controllers;
            let part = below.iter().find(|(named, _)| named.is_empty() || named.intersects(own));
            let part = part.map(|(_, part)| part.trim_matches('/')).filter(|part| !part.is_empty());
            let file = match (self.version, own) {
                (Version::V1, Controllers::UNIFIED) | (Version::V2, _) => "",
                (Version::V1, _) => "tasks",
            };
            let path = match part {
                None => file.to_owned(),
                Some(part) => format!("{}/{file}", CgroupPath::parse(part)?.as_str()),
            };
            let full = || self.full(directory).join(part.unwrap_or_default()).join("cgroup.procs");
            let fail = |errno| Error::io("open", full(), errno);
            if file.is_empty() {
                let path = if path.is_empty() { "." } else { path.as_str() };
                let fd = fs::openat(&directory.fd, path, super::apply::DIRECTORY, Mode::empty()).map_err(fail)?;
                beside = Some(fd);
            } else {
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                tasks.push(fs::openat(&directory.fd, path, flags, Mode::empty()).map_err(fail)?);
            }
        }
        match (self.version, beside) {
            (Version::V1, beside) => Ok(Entry::V1 { tasks, beside }),
            (Version::V2, Some(directory)) => Ok(Entry::V2(directory)),
            (Version::V2, None) => Err(Error::NotMounted),
        }
    }

    /// v2: whether a process can be in the group itself, which is no longer so once it hands controllers that limit
    /// whole processes down to groups below.
    pub fn takes_processes(&self) -> bool {
        const ON_THREADS: Controllers =
            Controllers::CPU.union(Controllers::CPUSET).union(Controllers::PIDS).union(Controllers::PERF_EVENT);
        let (Version::V2, Some(directory)) = (self.version, self.directories.first()) else { return true };
        let text = read(directory.fd.as_fd(), "cgroup.subtree_control").unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.split_ascii_whitespace()
            .all(|name| Controllers::from_name(name).is_some_and(|one| ON_THREADS.contains(one)))
    }

    /// Hands the group over to `owner`, who may then make groups below it: the directory and the files that
    /// /sys/kernel/cgroup/delegate lists.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn delegate(&self, owner: u32) -> Result<(), Error> {
        const LISTED: &str = "/sys/kernel/cgroup/delegate";
        // Before Linux 4.15 there was no list.
        let files = std::fs::read_to_string(LISTED)
            .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
        let (Version::V2, Some(directory)) = (self.version, self.directories.first()) else { return Ok(()) };
        let owner = Some(rustix::process::Uid::from_raw(owner));
        let fail = |file: &str, errno| Error::io("change the owner of", self.full(directory).join(file), errno);
        fs::fchown(&directory.fd, owner, None).map_err(|errno| fail("", errno))?;
        for file in files.lines().filter(|file| !file.is_empty() && !file.contains('/')) {
            match fs::chownat(&directory.fd, file, owner, None, fs::AtFlags::SYMLINK_NOFOLLOW) {
                Ok(()) | Err(io::Errno::NOENT) => {}
                Err(errno) => return Err(fail(file, errno)),
            }
        }
        Ok(())
    }

    /// Where the group lies in each hierarchy: controllers and full path.
    pub fn places(&self) -> impl Iterator<Item = (Controllers, PathBuf)> {
        self.directories.iter().map(|one| (one.hierarchy.controllers, self.full(one)))
    }

    /// How many processes are in the group and below.
    pub fn population(&self) -> usize {
        self.directories.first().and_then(|one| count(one.fd.as_fd()).ok()).unwrap_or(0)
    }
}
