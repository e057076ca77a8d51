//! The plan carried out.

use super::plan::Write;
use super::{CgroupPath, Controllers, Error, Hierarchy, Layout, Plan, Resources, Version, device_program};
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::{self, Errno};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// The group's directory in one hierarchy.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) hierarchy: Hierarchy,
    pub(super) fd: OwnedFd,
}

/// A group that exists. Dropping it removes the directories (which fails while processes are inside), unless
/// [`Cgroup::keep`] was called.
#[derive(Debug)]
pub struct Cgroup {
    pub(super) version: Version,
    pub(super) path: CgroupPath,
    pub(super) directories: Vec<Directory>,
    pub(super) armed: bool,
}

/// How a process gets in. Made by the parent, used by the child, without allocating.
#[derive(Debug)]
pub enum Entry {
    /// The `tasks` file of each hierarchy, open for writing. The single-threaded process writes `0` into each.
    V1(Vec<OwnedFd>),
    /// The directory, for `CLONE_INTO_CGROUP`.
    V2(OwnedFd),
}

impl Entry {
    /// The directory for clone3's `cgroup` field, if this host has that door.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Entry::V1(_) => None,
            Entry::V2(directory) => Some(directory.as_fd()),
        }
    }

    /// Moves the calling thread (v1) or process (v2, where clone3 could not do it) inside.
    ///
    /// # Errors
    /// The kernel's, `ENODEV` for a removed group.
    pub fn enter(&self) -> io::Result<()> {
        match self {
            Entry::V1(tasks) => tasks.iter().try_for_each(|file| io::write(file, b"0").map(drop)),
            Entry::V2(directory) => {
                let file = fs::openat(directory, c"cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
                io::write(&file, b"0").map(drop)
            }
        }
    }
}

impl Plan {
    /// Makes the directories and sets the limits. What was made is undone when a step fails.
    ///
    /// # Errors
    /// [`Error::Io`], with `EBUSY` when a group of this name exists and has processes.
    pub fn apply(&self) -> Result<Cgroup, Error> {
        let mut group = Cgroup {
            version: self.version,
            path: self.path.clone(),
            directories: Vec::with_capacity(self.hierarchies.len()),
            armed: true,
        };
        for hierarchy in &self.hierarchies {
            let root = fs::open(&hierarchy.mount, DIRECTORY, Mode::empty())
                .map_err(|errno| Error::io("open", &hierarchy.mount, errno))?;
            if self.version == Version::V2 {
                super::control::enable(root.as_fd(), hierarchy, &self.path, self.enable)?;
            }
            let fd = make(root.as_fd(), hierarchy, &self.path, self.version)?;
            group.directories.push(Directory { hierarchy: hierarchy.clone(), fd });
        }
        group.write(self)?;
        Ok(group)
    }
}

/// Makes one directory with its parents, most often just the last one.
fn make(root: BorrowedFd<'_>, hierarchy: &Hierarchy, path: &CgroupPath, version: Version) -> Result<OwnedFd, Error> {
    let full = || PathBuf::from(format!("{}{path}", hierarchy.mount.display()));
    let fail = |action: &str, errno: Errno| Error::io(action, full(), errno);
    // A new cpuset of v1 has no processor and no memory node: nobody may enter before each level got its parent's.
    // On v2 an empty one means its parent's, and the files only exist where the controller is switched on.
    let cpuset = version == Version::V1 && hierarchy.controllers.contains(Controllers::CPUSET);
    let mode = Mode::from_raw_mode(0o755);
    let mut result = fs::mkdirat(root, path.as_str(), mode);
    if result == Err(Errno::NOENT) || cpuset {
        let mut prefix = String::new();
        for part in path.components() {
            let parent = prefix.clone();
            prefix = if prefix.is_empty() { part.to_owned() } else { format!("{prefix}/{part}") };
            result = fs::mkdirat(root, prefix.as_str(), mode);
            match result {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(fail("create", errno)),
            }
            if cpuset {
                inherit_cpuset(root, &parent, &prefix).map_err(|errno| fail("prepare the cpuset", errno))?;
            }
        }
    }
    match result {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            // Left behind by a crash, and then empty, or somebody else's.
            let fd = fs::openat(root, path.as_str(), DIRECTORY, Mode::empty()).map_err(|errno| fail("open", errno))?;
            let busy = super::control::read(fd.as_fd(), "cgroup.procs").map_err(|errno| fail("read", errno))?;
            if !busy.is_empty() && !cpuset {
                return Err(fail("take over (it has processes)", Errno::BUSY));
            }
            return Ok(fd);
        }
        Err(errno) => return Err(fail("create", errno)),
    }
    fs::openat(root, path.as_str(), DIRECTORY, Mode::empty()).map_err(|errno| fail("open", errno))
}

fn inherit_cpuset(root: BorrowedFd<'_>, parent: &str, child: &str) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let child = format!("{child}/{file}");
        if super::control::read(root, &child)?.trim_ascii().is_empty() {
            let parent = if parent.is_empty() { file.to_owned() } else { format!("{parent}/{file}") };
            let value = super::control::read(root, &parent)?;
            super::control::write(root, &child, value.trim_ascii())?;
        }
    }
    Ok(())
}

impl Cgroup {
    /// A group made earlier, by its path, in whatever hierarchies it is found. Not removed on drop.
    ///
    /// # Errors
    /// [`Error::Io`] with `ENOENT` when no hierarchy has it.
    pub fn open(layout: &Layout, path: &CgroupPath) -> Result<Cgroup, Error> {
        let mut directories = Vec::new();
        let mut last = Errno::NOENT;
        for hierarchy in &layout.hierarchies {
            let found = fs::open(&hierarchy.mount, DIRECTORY, Mode::empty())
                .and_then(|root| fs::openat(root, path.as_str(), DIRECTORY, Mode::empty()));
            match found {
                Ok(fd) => directories.push(Directory { hierarchy: hierarchy.clone(), fd }),
                Err(errno) => last = errno,
            }
        }
        if directories.is_empty() {
            return Err(Error::io("open", PathBuf::from(path.to_string()), last));
        }
        Ok(Cgroup { version: layout.version, path: path.clone(), directories, armed: false })
    }

    /// The group stays when this handle goes.
    #[must_use]
    pub fn keep(mut self) -> Cgroup {
        self.armed = false;
        self
    }

    /// Where it lies below each hierarchy's root.
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// The controllers of each hierarchy the group has a directory in.
    pub fn hierarchies(&self) -> impl Iterator<Item = Controllers> {
        self.directories.iter().map(|directory| directory.hierarchy.controllers)
    }

    /// Which generation.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Directory handle of the hierarchy with this controller (v2: of the only one).
    pub fn directory(&self, controller: Controllers) -> Option<BorrowedFd<'_>> {
        self.directories
            .iter()
            .find(|one| self.version == Version::V2 || one.hierarchy.controllers.contains(controller))
            .map(|one| one.fd.as_fd())
    }

    /// The door for a new process.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn entry(&self) -> Result<Entry, Error> {
        if self.version == Version::V2 {
            let directory = self.directories.first().ok_or(Error::NotMounted)?;
            let fd = directory.fd.try_clone().map_err(|source| Error::io("open", self.full(directory), source))?;
            return Ok(Entry::V2(fd));
        }
        let open = |directory: &Directory| {
            fs::openat(&directory.fd, c"tasks", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| Error::io("open tasks in", self.full(directory), errno))
        };
        self.directories.iter().map(open).collect::<Result<_, _>>().map(Entry::V1)
    }

    /// Changes limits of a running group. Needs a handle with the same hierarchies; a limit for a controller the group
    /// does not have is an error on v1. On v2 a controller that no limit needed before is switched on.
    ///
    /// # Errors
    /// As [`super::plan`] and [`Plan::apply`].
    pub fn update(&self, resources: &Resources) -> Result<(), Error> {
        let layout = Layout {
            version: self.version,
            hierarchies: self.directories.iter().map(|one| one.hierarchy.clone()).collect(),
            unified: None,
        };
        let plan = super::plan_update(&layout, &self.path, resources)?;
        if self.version == Version::V2 {
            for hierarchy in &layout.hierarchies {
                let root = fs::open(&hierarchy.mount, DIRECTORY, Mode::empty())
                    .map_err(|errno| Error::io("open", &hierarchy.mount, errno))?;
                super::control::enable(root.as_fd(), hierarchy, &self.path, plan.enable)?;
            }
        }
        self.write(&plan)
    }

    /// All writes of a plan. One that fails is repeated once after the others, because some limits depend on each
    /// other and which of two must come first depends on the values before.
    fn write(&self, plan: &Plan) -> Result<(), Error> {
        let mut late = Vec::new();
        for write in &plan.writes {
            let Some(directory) = self.directory_of(plan, write) else { continue };
            if self.write_one(directory, write).is_err() {
                late.push((directory, write));
            }
        }
        for (directory, write) in late {
            self.write_one(directory, write)?;
        }
        if let (Some(program), Some(directory)) = (&plan.devices, self.directories.first()) {
            device_program::replace(directory.fd.as_fd(), program)
                .map_err(|errno| Error::io("attach the device program to", self.full(directory), errno))?;
        }
        Ok(())
    }

    /// By mount point: the plan may know more hierarchies than this group has.
    fn directory_of(&self, plan: &Plan, write: &Write) -> Option<&Directory> {
        let wanted = &plan.hierarchies[write.hierarchy].mount;
        self.directories.iter().find(|one| one.hierarchy.mount == *wanted)
    }

    fn write_one(&self, directory: &Directory, write: &Write) -> Result<(), Error> {
        let mut result = super::control::write(directory.fd.as_fd(), &write.file, write.value.as_bytes());
        let (mut file, mut value) = (&write.file, &write.value);
        if result == Err(Errno::NOENT)
            && let Some((other_file, other_value)) = &write.otherwise
        {
            (file, value) = (other_file, other_value);
            result = super::control::write(directory.fd.as_fd(), file, value.as_bytes());
        }
        match result {
            Err(Errno::NOENT) if write.optional => Ok(()),
            Err(errno) => Err(Error::io(format!("write {value:?} to"), self.full(directory).join(file), errno)),
            Ok(()) => Ok(()),
        }
    }

    pub(super) fn full(&self, directory: &Directory) -> PathBuf {
        PathBuf::from(format!("{}{}", directory.hierarchy.mount.display(), self.path))
    }

    /// Removes the group and the groups below it. Processes inside are not killed: see [`Cgroup::kill_all`].
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
}

fn remove(directory: &Directory, path: &CgroupPath) -> io::Result<()> {
    let root = fs::open(&directory.hierarchy.mount, DIRECTORY, Mode::empty())?;
    let mut pause = std::time::Duration::from_millis(1);
    loop {
        let mut result = fs::unlinkat(&root, path.as_str(), AtFlags::REMOVEDIR);
        if result == Err(Errno::BUSY) {
            // Groups that the container made for itself go first.
            for child in super::control::descendants(directory.fd.as_fd())? {
                let _ = fs::unlinkat(&directory.fd, child.as_str(), AtFlags::REMOVEDIR);
            }
            result = fs::unlinkat(&root, path.as_str(), AtFlags::REMOVEDIR);
        }
        match result {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if pause.as_millis() <= 256 => {
                // A process that was just killed leaves within milliseconds, and nothing announces it on v1.
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
            // Undoing a failed start: its error is reported, not this one.
            let _ = self.remove();
        }
    }
}
