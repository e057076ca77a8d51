//! The plan carried out.

use super::plan::Write;
use super::resources::Memory;
use super::{CgroupPath, Controllers, Error, Hierarchy, Layout, Plan, Resources, Version, device_program};
use rustix::fs::{self, Mode, OFlags};
use rustix::io::{self, Errno};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// The group's directory in one hierarchy.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) hierarchy: Hierarchy,
    pub(super) fd: OwnedFd,
    /// Not found but made.
    pub(super) made: bool,
}

/// A group that exists. Dropping it removes the directories it made (which fails while processes are inside), unless
/// [`Cgroup::keep`] was called.
#[derive(Debug)]
pub struct Cgroup {
    pub(super) version: Version,
    pub(super) path: CgroupPath,
    pub(super) directories: Vec<Directory>,
    pub(super) armed: bool,
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
            match self.directory(hierarchy) {
                Ok(directory) => group.directories.push(directory),
                // Whether a limit is lost by that shows when it is written.
                Err(error) if self.optional && self.version == Version::V1 && error.is_denied() => {}
                Err(error) => return Err(error),
            }
        }
        group.write(self)?;
        Ok(group)
    }

    fn directory(&self, hierarchy: &Hierarchy) -> Result<Directory, Error> {
        if self.version == Version::V1
            && !hierarchy.controllers.contains(Controllers::CPUSET)
            && let Some(fd) = self.make_at_once(hierarchy)
        {
            return Ok(Directory { hierarchy: hierarchy.clone(), fd, made: true });
        }
        let root = fs::open(&hierarchy.mount, DIRECTORY, Mode::empty())
            .map_err(|errno| Error::io("open", &hierarchy.mount, errno))?;
        let domain = self.version == Version::V1 || super::enable::enable(root.as_fd(), hierarchy, self)?;
        let (fd, made) = make(root.as_fd(), hierarchy, self)?;
        let directory = Directory { hierarchy: hierarchy.clone(), fd, made };
        if !domain && let Err(error) = super::enable::check_type(&directory, self) {
            if made {
                let _ = fs::unlinkat(&root, self.path.as_str(), fs::AtFlags::REMOVEDIR);
            }
            return Err(error);
        }
        Ok(directory)
    }

    /// The usual case on v1, with two system calls: the parent is there and the group is not.
    fn make_at_once(&self, hierarchy: &Hierarchy) -> Option<OwnedFd> {
        let full = hierarchy.mount.join(self.path.as_str());
        fs::mkdirat(fs::CWD, &full, Mode::from_raw_mode(0o755)).ok()?;
        fs::open(&full, DIRECTORY, Mode::empty()).ok()
    }
}

/// Makes one directory with its parents, most often just the last one; says whether it did.
fn make(root: BorrowedFd<'_>, hierarchy: &Hierarchy, plan: &Plan) -> Result<(OwnedFd, bool), Error> {
    let path = &plan.path;
    let full = || PathBuf::from(format!("{}{path}", hierarchy.mount.display()));
    let fail = |action: &str, errno: Errno| Error::io(action, full(), errno);
    // A new cpuset of v1 has no processor and no memory node: nobody may enter before each level got its parent's.
    // On v2 an empty one means its parent's, and the files only exist where the controller is switched on.
    let cpuset = plan.version == Version::V1 && hierarchy.controllers.contains(Controllers::CPUSET);
    let mode = Mode::from_raw_mode(0o755);
    let mut result = fs::mkdirat(root, path.as_str(), mode);
    if result == Err(Errno::NOENT) || cpuset {
        result = make_each(root, path, cpuset, result.is_ok()).map_err(|errno| fail("create", errno))?;
    }
    let open = || fs::openat(root, path.as_str(), DIRECTORY, Mode::empty()).map_err(|errno| fail("open", errno));
    match result {
        Ok(()) => Ok((open()?, true)),
        Err(Errno::EXIST) => {
            // Left behind by a crash, and then empty, or somebody else's.
            let fd = open()?;
            // A cpuset is often shared with whom the processors were set aside for.
            if !plan.adopt && (!cpuset || plan.complete) {
                check_unused(plan.version, hierarchy, fd.as_fd(), full)?;
            }
            Ok((fd, false))
        }
        Err(errno) => Err(fail("create", errno)),
    }
}

fn check_unused(
    version: Version,
    hierarchy: &Hierarchy,
    group: BorrowedFd<'_>,
    full: impl Fn() -> PathBuf,
) -> Result<(), Error> {
    let count = super::control::count(group).map_err(|errno| Error::io("read", full(), errno))?;
    if count > 0 {
        return Err(Error::NotEmpty { path: full(), count });
    }
    match super::control::is_frozen(version, hierarchy, group) {
        Ok(true) => Err(Error::Frozen { path: full() }),
        _ => Ok(()),
    }
}

/// Each level of a path; the last one's outcome.
fn make_each(root: BorrowedFd<'_>, path: &CgroupPath, cpuset: bool, made: bool) -> io::Result<io::Result<()>> {
    let mut result = Ok(());
    let mut prefix = String::new();
    for part in path.components() {
        let parent = prefix.clone();
        prefix = if prefix.is_empty() { part.to_owned() } else { format!("{prefix}/{part}") };
        let last = prefix.len() == path.as_str().len();
        result = if made {
            if last { Ok(()) } else { Err(Errno::EXIST) }
        } else {
            fs::mkdirat(root, prefix.as_str(), Mode::from_raw_mode(0o755))
        };
        match result {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Ok(Err(errno)),
        }
        if cpuset {
            inherit_cpuset(root, &parent, &prefix, last && result.is_ok())?;
        }
    }
    Ok(result)
}

fn inherit_cpuset(root: BorrowedFd<'_>, parent: &str, child: &str, new: bool) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let child = format!("{child}/{file}");
        if new || super::control::read(root, &child)?.trim_ascii().is_empty() {
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
            match fs::open(hierarchy.mount.join(path.as_str()), DIRECTORY, Mode::empty()) {
                Ok(fd) => directories.push(Directory { hierarchy: hierarchy.clone(), fd, made: false }),
                Err(errno) => last = errno,
            }
        }
        if directories.is_empty() {
            return Err(Error::io("open", PathBuf::from(path.to_string()), last));
        }
        Ok(Cgroup { version: layout.version, path: path.clone(), directories, armed: false })
    }

    /// Whether somebody could move in: nobody is inside, and it is not frozen.
    ///
    /// # Errors
    /// [`Error::NotEmpty`], [`Error::Frozen`].
    pub fn check_unused(&self) -> Result<(), Error> {
        self.directories
            .iter()
            .try_for_each(|one| check_unused(self.version, &one.hierarchy, one.fd.as_fd(), || self.full(one)))
    }

    /// Moves a process of somebody else in, where it is not inside already. This costs the kernel a lock over all
    /// threads of the machine; [`Cgroup::entry`] is the way for one's own.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn take_in(&self, pid: rustix::process::Pid) -> Result<(), Error> {
        for directory in &self.directories {
            let inside = super::control::read(directory.fd.as_fd(), "cgroup.procs")
                .is_ok_and(|text| super::control::pids(&text).contains(&pid));
            if !inside {
                super::control::move_in(directory.fd.as_fd(), &[pid])
                    .map_err(|errno| Error::io("move a process to", self.full(directory), errno))?;
            }
        }
        Ok(())
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

    /// Changes limits of a running group. A group of v1 that was made without the controller of a limit gets a
    /// directory in that hierarchy too, with its processes; on v2 a controller that no limit needed before is switched
    /// on. The group must lie at the layout's base.
    ///
    /// # Errors
    /// As [`super::plan`] and [`Plan::apply`].
    pub fn update(&mut self, layout: &Layout, resources: &Resources, lenient: bool) -> Result<(), Error> {
        let mut plan = super::plan_update(layout, &self.path, resources)?;
        (plan.lenient, plan.optional) = (lenient, lenient);
        if self.version == Version::V2 {
            Cgroup::switch_on(&plan)?;
        } else {
            self.enter_more(&plan)?;
        }
        self.write(&plan)
    }

    /// v2: the plan's controllers, in every group above.
    fn switch_on(plan: &Plan) -> Result<(), Error> {
        for hierarchy in &plan.hierarchies {
            let root = fs::open(&hierarchy.mount, DIRECTORY, Mode::empty())
                .map_err(|errno| Error::io("open", &hierarchy.mount, errno))?;
            super::enable::enable(root.as_fd(), hierarchy, plan)?;
        }
        Ok(())
    }

    /// v1: hierarchies that the plan writes to and the group is not in.
    fn enter_more(&mut self, plan: &Plan) -> Result<(), Error> {
        for (at, hierarchy) in plan.hierarchies.iter().enumerate() {
            let known = self.directories.iter().any(|one| one.hierarchy.mount == hierarchy.mount);
            if known || !plan.writes.iter().any(|write| write.hierarchy == at) {
                continue;
            }
            let root = fs::open(&hierarchy.mount, DIRECTORY, Mode::empty())
                .map_err(|errno| Error::io("open", &hierarchy.mount, errno))?;
            let (fd, made) = make(root.as_fd(), hierarchy, plan)?;
            let members = self.procs()?;
            self.directories.push(Directory { hierarchy: hierarchy.clone(), fd, made });
            let directory = &self.directories[self.directories.len() - 1];
            super::control::move_in(directory.fd.as_fd(), &members)
                .map_err(|errno| Error::io("move processes to", self.full(directory), errno))?;
        }
        Ok(())
    }

    /// All writes of a plan. One that fails is repeated once after the others, because some limits depend on each
    /// other and which of two must come first depends on the values before, and because on v2 systemd switches off
    /// in its slices, at any time, what none of its own units needs.
    fn write(&self, plan: &Plan) -> Result<(), Error> {
        if let Some(wish) = &plan.check_memory {
            self.check_memory(wish)?;
        }
        let mut late = Vec::new();
        for write in &plan.writes {
            let Some(directory) = self.directory_of(plan, write) else {
                if plan.optional && !write.file.starts_with("devices.") {
                    let controller = write.file.split('.').next().unwrap_or_default().to_owned();
                    return Err(Error::NotJoined { controller });
                }
                continue;
            };
            if self.write_one(directory, write, plan.lenient).is_err() {
                late.push((directory, write));
            }
        }
        if plan.version == Version::V2 && !late.is_empty() {
            // What is still missing then shows below.
            let _ = Cgroup::switch_on(plan);
        }
        for (directory, write) in late {
            self.write_one(directory, write, plan.lenient)?;
        }
        if let (Some(program), Some(directory)) = (&plan.devices, self.directories.first()) {
            match device_program::replace(directory.fd.as_fd(), program) {
                Err(Errno::PERM | Errno::ACCESS) if plan.lenient => {}
                other => {
                    other.map_err(|errno| Error::io("attach the device program to", self.full(directory), errno))?
                }
            }
        }
        Ok(())
    }

    /// Refuses, where `wish` asks for the check, a limit that what is in use already reaches: it would end in
    /// somebody's death. On v1 the kernel itself refuses.
    ///
    /// # Errors
    /// [`Error::InUse`].
    pub fn check_memory(&self, wish: &Memory) -> Result<(), Error> {
        if !wish.check || self.version == Version::V1 {
            return Ok(());
        }
        let Some(used) =
            self.directory(Controllers::MEMORY).and_then(|group| super::control::number(group, "memory.current"))
        else {
            return Ok(());
        };
        for (what, limit) in [("memory+swap limit", wish.swap), ("memory limit", wish.limit)] {
            if let Some(limit) = limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit != 0)
                && limit <= used
            {
                return Err(Error::InUse { what, limit, used });
            }
        }
        Ok(())
    }

    /// By mount point: the plan may know more hierarchies than this group has.
    fn directory_of(&self, plan: &Plan, write: &Write) -> Option<&Directory> {
        let wanted = &plan.hierarchies[write.hierarchy].mount;
        self.directories.iter().find(|one| one.hierarchy.mount == *wanted)
    }

    fn write_one(&self, directory: &Directory, write: &Write, lenient: bool) -> Result<(), Error> {
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
            Err(Errno::PERM | Errno::ACCESS) if file.starts_with("devices.") && lenient => Ok(()),
            Err(Errno::BUSY) if file == "memory.limit_in_bytes" => Err(self.below_usage(directory, value)),
            Err(errno) => Err(Error::io(format!("write {value:?} to"), self.full(directory).join(file), errno)),
            Ok(()) => Ok(()),
        }
    }

    fn below_usage(&self, directory: &Directory, limit: &str) -> Error {
        let number = |file| super::control::number(directory.fd.as_fd(), file).unwrap_or(0);
        let (usage, peak) = (number("memory.usage_in_bytes"), number("memory.max_usage_in_bytes"));
        Error::TooSmall { limit: limit.to_owned(), usage, peak }
    }

    pub(super) fn full(&self, directory: &Directory) -> PathBuf {
        PathBuf::from(format!("{}{}", directory.hierarchy.mount.display(), self.path))
    }
}
