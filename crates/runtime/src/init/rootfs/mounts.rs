//! One mount of the plan after the other.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use budu_sys::mount::{self, Detached, attr};
use budu_sys::rooted::Missing;
use rustix::fs::{CWD, FileType, OFlags, Stat, XattrFlags, fstat};
use rustix::io::Errno;

use super::place::{Guest, clean};
use super::source::Source;
use super::{
    CLONE_NEWPID, CLONE_NEWUSER, MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, NewRoot, PROC_MAGIC, SYSFS_MAGIC, attributes,
    failed, has_own, in_place, kind_of, layers, refused,
};
use crate::init::{Failing, cgroupfs, copy_up};
use crate::plan::{MountPlan, MountSource, Plan};
use crate::protocol::Failure;

/// Kinds whose superblock does not know what read-only is, or is shared with others who write.
const PSEUDO: [&str; 10] =
    ["tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "devtmpfs", "securityfs", "debugfs"];

/// Kinds of which every mount has a new instance that nobody else sees.
const OWN: [&str; 4] = ["tmpfs", "ramfs", "devpts", "overlay"];

/// Options of mount(2) that are not parameters everywhere, and that nobody misses.
const OPTIONAL: [&str; 2] = ["iversion", "noiversion"];

/// Says which mount a failure is about, in the words users search for.
pub(super) fn about(mount: &MountPlan, failure: Failure) -> Failure {
    let source = match &mount.source {
        MountSource::New { source, kind, .. } if source.is_empty() => kind.clone(),
        MountSource::New { source, .. } => source.clone(),
        MountSource::Bind { path, .. } => path.display().to_string(),
        MountSource::Inside { root, path } => root.join(path).display().to_string(),
        MountSource::Layers { inside, .. } => Path::new("/").join(inside).display().to_string(),
        MountSource::Cgroup => "cgroup".to_owned(),
        MountSource::Remount { .. } => String::new(),
    };
    failure.about(&format!("error mounting {source:?} to rootfs at {:?}", mount.target))
}

/// Where a mount goes in the container. Destinations that repeat the bundle's
/// root are an old habit of some callers.
fn target(plan: &Plan, mount: &MountPlan) -> PathBuf {
    let given = Path::new(&mount.target);
    match in_place(plan).and_then(|root| given.strip_prefix(root).ok()) {
        Some(inside) => Path::new("/").join(inside),
        None => given.to_owned(),
    }
}

impl NewRoot {
    pub(super) fn mount(
        &mut self,
        plan: &Plan,
        mount: &MountPlan,
        source: Option<Source>,
        hierarchies: &[String],
    ) -> Failing<()> {
        let target = target(plan, mount);
        let mounted = match (&mount.source, source) {
            (MountSource::New { .. }, _) => self.mount_new(plan, mount, &target)?,
            (MountSource::Bind { .. } | MountSource::Inside { .. }, Some(source)) => {
                self.mount_bind(plan, mount, &target, source)?
            }
            (MountSource::Bind { .. } | MountSource::Inside { .. }, None) => {
                return Err(refused("its source is missing".to_owned()));
            }
            (MountSource::Layers { lower, inside }, _) => {
                let taken = layers::take(lower, inside, &self.root).map_err(failed("mount the image"))?;
                self.mount_bind(plan, mount, &target, Source::of(taken, false)?)?
            }
            (MountSource::Cgroup, _) => self.mount_cgroup(plan, mount, &target, hierarchies)?,
            (MountSource::Remount { options }, _) => return self.remount(plan, mount, &target, options),
        };
        if mount.propagation != 0 {
            let recursive = mount.propagation & MS_REC != 0;
            mount::set_attributes(mounted.as_fd(), c"", 0, 0, mount.propagation & !MS_REC, recursive)
                .map_err(failed("set its propagation"))?;
        }
        let what = failed("look at what is mounted");
        match (&mount.source, clean(&target)) {
            (MountSource::New { kind, .. }, _) if kind == "devpts" => self.devpts = Some(mounted),
            (_, path) if path == Path::new("/proc") && kind_of(&mounted).map_err(what)? == PROC_MAGIC => {
                self.proc = Some(mounted);
            }
            _ => {}
        }
        Ok(())
    }

    fn mount_new(&mut self, plan: &Plan, mount: &MountPlan, target: &Path) -> Failing<OwnedFd> {
        let MountSource::New { kind, source, options, copy_up } = &mount.source else {
            return Err(refused("not a file system".to_owned()));
        };
        let existed = kind == "tmpfs" && self.root.open(target, OFlags::PATH).is_ok();
        let place = if matches!(kind.as_str(), "proc" | "sysfs") {
            self.place_kernel(target, kind)?
        } else {
            self.place(target, Missing::MakeDirectory, Guest::Other)?
        };
        let mut set = mount.set | mount.set_recursive;
        // Mount points, devices and copies are still to be made in there.
        let later = set & attr::RDONLY != 0 && (kind == "tmpfs" || clean(target) == Path::new("/dev"));
        if later {
            set &= !attr::RDONLY;
        }
        let mut extra = Vec::new();
        if existed {
            // A directory keeps its mode when it becomes a tmpfs, unless another one is asked for.
            let mode = fstat(&place).map_err(|e| failed("look at its mount point")(e.into()))?.st_mode & 0o7777;
            extra.push(("mode".to_owned(), Some(format!("{mode:04o}"))));
        }
        if set & attr::RDONLY != 0 && !PSEUDO.contains(&kind.as_str()) {
            extra.push(("ro".to_owned(), None));
        }
        extra.extend(options.iter().cloned());
        let label = Label::of(plan);
        extra.extend(label.for_new(kind));
        let detached = match new_instance(kind, source, &extra, set) {
            Ok(detached) => detached,
            Err(error) => self.hosts_own(plan, kind, set).ok_or_else(|| failed("make it")(error))?,
        };
        if *copy_up {
            copy_up::copy(&place, detached.as_fd()).map_err(failed("copy the image's files into it"))?;
        }
        let mounted = attach(detached, &place)?;
        if OWN.contains(&kind.as_str()) {
            self.own.extend(fstat(&mounted).map(|stat| stat.st_dev));
        }
        if kind == "mqueue" {
            label.set_on(&mounted).map_err(failed("label it"))?;
        }
        if later {
            self.freeze.push(mounted.try_clone().map_err(failed("keep it"))?);
        }
        Ok(mounted)
    }

    /// In a user namespace that does not own what a kernel file system shows,
    /// the host's mount stands in for a new one.
    fn hosts_own(&self, plan: &Plan, kind: &str, set: u64) -> Option<Detached> {
        if !has_own(plan, CLONE_NEWUSER) {
            return None;
        }
        let (path, magic) = match kind {
            "sysfs" => ("/sys", SYSFS_MAGIC),
            "proc" if !has_own(plan, CLONE_NEWPID) => ("/proc", PROC_MAGIC),
            "mqueue" => ("/dev/mqueue", 0x1980_0202),
            _ => return None,
        };
        let clone = Detached::clone_of(CWD, Path::new(path), true).ok()?;
        let right = kind_of(&clone).ok()? == magic;
        clone.set_attributes(0, 0, MS_SLAVE, true).ok()?;
        clone.set_attributes(set & !attr::ATIME, 0, 0, false).ok()?;
        right.then_some(clone)
    }

    fn mount_bind(&self, plan: &Plan, mount: &MountPlan, target: &Path, source: Source) -> Failing<OwnedFd> {
        let letter = in_place(plan).is_some();
        let Source { mount: clone, missing, locked } = source;
        attributes::apply(&clone, mount.set, mount.clear, letter, locked)?;
        attributes::apply_below(&clone, mount.set_recursive, mount.clear_recursive, letter)?;
        let base = match mount.propagation {
            bits if bits & MS_SHARED != 0 => 0,
            bits if bits & MS_SLAVE != 0 => MS_SLAVE,
            0 if letter => MS_SLAVE,
            _ => MS_PRIVATE,
        };
        if base != 0 {
            clone.set_attributes(0, 0, base, true).map_err(failed("cut it off from the host"))?;
        }
        let proc = kind_of(&clone).map_err(failed("look at the source"))? == PROC_MAGIC;
        let place = self.place(target, missing, if proc { Guest::FromProc } else { Guest::Other })?;
        attach(clone, &place)
    }

    fn mount_cgroup(&self, plan: &Plan, mount: &MountPlan, target: &Path, hierarchies: &[String]) -> Failing<OwnedFd> {
        let place = self.place(target, Missing::MakeDirectory, Guest::Other)?;
        let own = has_own(plan, super::CLONE_NEWCGROUP);
        let set = mount.set | mount.set_recursive;
        let view = cgroupfs::View {
            set,
            hierarchies,
            own_namespace: own,
            new_namespace: plan.namespaces.new & super::CLONE_NEWCGROUP != 0,
            whole: in_place(plan).is_some(),
            optional: plan.cgroup.optional,
            group: self.group.as_deref(),
        };
        cgroupfs::mount(&place, &view).map_err(failed("make the cgroup view"))
    }

    fn remount(
        &self,
        plan: &Plan,
        mount: &MountPlan,
        target: &Path,
        options: &[(String, Option<String>)],
    ) -> Failing<()> {
        let found = self.root.reach(target, Missing::Refuse).map_err(failed("find it"))?;
        // Read-only or not is this mount's alone, unless the file system is the container's own: one that is shared
        // with the host would change there.
        let own = fstat(&found).is_ok_and(|stat| self.own.contains(&stat.st_dev));
        let options: Vec<_> =
            options.iter().filter(|(word, _)| own || !matches!(word.as_str(), "ro" | "rw")).cloned().collect();
        if !options.is_empty() {
            mount::reconfigure(found.as_fd(), &parameters(&options)).map_err(failed("change its parameters"))?;
        }
        let change = attributes::Change::wanted(mount.set, mount.clear, in_place(plan).is_some());
        mount::set_attributes(found.as_fd(), c"", change.set, change.clear, 0, false)
            .map_err(failed("set its options"))?;
        let below = attributes::Change::wanted_below(mount.set_recursive, mount.clear_recursive);
        if below.set | below.clear != 0 {
            mount::set_attributes(found.as_fd(), c"", below.set, below.clear, 0, true)
                .map_err(failed("set its options recursively"))?;
        }
        if mount.propagation != 0 {
            let recursive = mount.propagation & MS_REC != 0;
            mount::set_attributes(found.as_fd(), c"", 0, 0, mount.propagation & !MS_REC, recursive)
                .map_err(failed("set its propagation"))?;
        }
        Ok(())
    }
}

/// Attaches a mount; a directory on a file, or a file on a directory, is told as mount(2) does.
fn attach(detached: Detached, place: &OwnedFd) -> Failing<OwnedFd> {
    let what = failed("attach it");
    let directory = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let kinds = fstat(&detached).and_then(|mount| Ok((directory(mount), directory(fstat(place)?))));
    let (mount, point) = kinds.map_err(|e| what(e.into()))?;
    if mount != point {
        return Err(what(Errno::NOTDIR.into()));
    }
    detached.attach(place.as_fd()).map_err(what)
}

fn parameters(options: &[(String, Option<String>)]) -> Vec<mount::Parameter<'_>> {
    options.iter().map(|(key, value)| (key.as_str(), value.as_deref().map(str::as_bytes))).collect()
}

fn new_instance(kind: &str, source: &str, options: &[(String, Option<String>)], set: u64) -> io::Result<Detached> {
    let mut all: Vec<mount::Parameter<'_>> = Vec::with_capacity(options.len() + 2);
    if !source.is_empty() {
        all.push(("source", Some(source.as_bytes())));
    }
    if let Some((_, subtype)) = kind.split_once('.') {
        all.push(("subtype", Some(subtype.as_bytes())));
    }
    all.extend(parameters(options));
    match Detached::new(kind, &all, set) {
        Err(e) if e.kind() == io::ErrorKind::InvalidInput && all.iter().any(|(key, _)| OPTIONAL.contains(key)) => {
            all.retain(|(key, _)| !OPTIONAL.contains(key));
            Detached::new(kind, &all, set)
        }
        other => other,
    }
}

/// The SELinux label of what is mounted, where the kernel has SELinux.
pub(super) struct Label<'a>(&'a str);

impl Label<'_> {
    pub(super) fn of(plan: &Plan) -> Label<'_> {
        let wanted = !plan.mount_label.is_empty() && Path::new("/sys/fs/selinux/enforce").exists();
        Label(if wanted { &plan.mount_label } else { "" })
    }

    /// The parameter a new file system of this kind is labelled with.
    pub(super) fn for_new(&self, kind: &str) -> Option<(String, Option<String>)> {
        let plain = !matches!(kind, "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2");
        (plain && !self.0.is_empty()).then(|| ("context".to_owned(), Some(self.0.to_owned())))
    }

    fn set_on(&self, mounted: &OwnedFd) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let path = format!("/proc/self/fd/{}", mounted.as_raw_fd());
        Ok(rustix::fs::setxattr(path, "security.selinux", self.0.as_bytes(), XattrFlags::empty())?)
    }
}
