//! The container's view of the cgroup file system.
//!
//! On version 2 it is one mount. On version 1 it is a tmpfs with a directory
//! for each hierarchy. In a cgroup namespace every hierarchy starts at the
//! container's own cgroup; without one, that cgroup's directory is bound there.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use budu_sys::mount::{self, Detached, attr};
use budu_sys::rooted::{Missing, Root};
use rustix::fs::{CWD, fstatfs, symlinkat};

use super::rootfs::unescape;

const CGROUP2_MAGIC: i64 = 0x6367_7270;
const MS_SLAVE: u64 = 1 << 19;
const TOP: &str = "/sys/fs/cgroup";

/// What a container is to see.
pub(super) struct View<'a> {
    /// Attribute bits, of which read-only matters.
    pub(super) set: u64,
    /// Version 1 hierarchies the container has a cgroup in; none on version 2.
    pub(super) hierarchies: &'a [String],
    /// It is in a cgroup namespace of its own.
    pub(super) own_namespace: bool,
    /// And that namespace is new, not one that was joined: the host's may be joined, too.
    pub(super) new_namespace: bool,
    /// Every hierarchy of the host, not just those above.
    pub(super) whole: bool,
    /// It may be in no cgroup of its own, without privilege.
    pub(super) optional: bool,
    /// Where the host shows its cgroup of version 2, if it has one.
    pub(super) group: Option<&'a Path>,
}

/// One hierarchy of version 1.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    /// Directory name, such as `cpu,cpuacct` or `systemd`.
    name: String,
    /// Its controllers and its name, as mount parameters.
    parameters: Vec<String>,
    /// Where the host mounts it.
    mount: PathBuf,
    /// Which group that mount shows.
    root: PathBuf,
}

/// Mounts the view and returns it.
pub(super) fn mount(target: &OwnedFd, view: &View<'_>) -> io::Result<OwnedFd> {
    let unified = fstatfs_type(TOP) == Some(CGROUP2_MAGIC);
    if unified || view.hierarchies.is_empty() && !view.whole {
        return mount_v2(target, view);
    }
    let hierarchies = if view.own_namespace && !view.whole {
        view.hierarchies.iter().map(|name| Hierarchy::named(name)).collect()
    } else {
        let table = budu_sys::mount::table()?;
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        mounted(&table, &controllers(&own))
    };
    if hierarchies.is_empty() {
        return mount_v2(target, view);
    }
    mount_v1(target, view, &hierarchies)
}

fn fstatfs_type(path: &str) -> Option<i64> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).ok()?;
    Some(fstatfs(&file).ok()?.f_type as i64)
}

fn mount_v2(target: &OwnedFd, view: &View<'_>) -> io::Result<OwnedFd> {
    // In the first cgroup namespace a mount sets the options of all of them: nsdelegate must not be lost by that.
    let table = if view.new_namespace { Vec::new() } else { budu_sys::mount::table()? };
    let options = v2_options(&table);
    let mut parameters: Vec<(&str, Option<&[u8]>)> = vec![("source", Some(b"cgroup"))];
    parameters.extend(options.iter().map(|option| (option.as_str(), None)));
    match Detached::new("cgroup2", &parameters, view.set) {
        Ok(new) => return new.attach(target.as_fd()),
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ResourceBusy) => {}
        Err(e) => return Err(e),
    }
    let bound = Detached::clone_of(CWD, bound_in_place(view), true).and_then(|clone| {
        clone.set_attributes(0, 0, MS_SLAVE, true)?;
        clone.set_attributes(view.set & !attr::ATIME, 0, 0, false)?;
        clone.attach(target.as_fd())
    });
    match bound {
        // What may be there below a bound /sys is not the container's to write.
        Err(e) if view.optional && e.kind() == io::ErrorKind::NotFound => {
            Detached::new("tmpfs", &[("source", Some(b"tmpfs"))], attr::RDONLY)?.attach(target.as_fd())
        }
        other => other,
    }
}

/// What is bound where a user namespace may not mount: in a cgroup namespace of
/// its own the container sees no more than its own group; without, the host's tree.
fn bound_in_place<'a>(view: &View<'a>) -> &'a Path {
    view.group.filter(|_| view.own_namespace).unwrap_or(Path::new(TOP))
}

/// Options of version 2 as the host mounts it.
fn v2_options(table: &[u8]) -> Vec<String> {
    let options = table.split(|&b| b == b'\n').find_map(|line| {
        let mut fields = line.split(|&b| b == b' ').skip_while(|field| *field != b"-").skip(1);
        (fields.next()? == b"cgroup2").then(|| fields.nth(1)).flatten()
    });
    let options = String::from_utf8_lossy(options.unwrap_or_default()).into_owned();
    options.split(',').filter(|option| !matches!(*option, "" | "rw" | "ro")).map(str::to_owned).collect()
}

fn mount_v1(target: &OwnedFd, view: &View<'_>, hierarchies: &[Hierarchy]) -> io::Result<OwnedFd> {
    let set = view.set | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let parameters: [(&str, Option<&[u8]>); 2] = [("source", Some(b"tmpfs")), ("mode", Some(b"755"))];
    let top = Detached::new("tmpfs", &parameters, set & !attr::RDONLY)?.attach(target.as_fd())?;
    let result = top.try_clone()?;
    let root = Root::new(top);
    let own = if view.own_namespace { String::new() } else { std::fs::read_to_string("/proc/self/cgroup")? };
    for hierarchy in hierarchies {
        let detached = if view.own_namespace { hierarchy.new_mount(set)? } else { hierarchy.bind(&own, set)? };
        let place = root.reach(&hierarchy.name, Missing::MakeDirectory)?;
        detached.attach(place.as_fd())?;
        if hierarchy.name.contains(',') {
            for controller in hierarchy.name.split(',') {
                match symlinkat(hierarchy.name.as_str(), root.as_fd(), controller) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
    }
    if set & attr::RDONLY != 0 {
        mount::set_attributes(root.as_fd(), c"", attr::RDONLY, 0, 0, false)?;
    }
    Ok(result)
}

impl Hierarchy {
    fn named(name: &str) -> Hierarchy {
        let parameters = name.split(',').map(str::to_owned).collect();
        Hierarchy { name: name.to_owned(), parameters, mount: PathBuf::new(), root: PathBuf::new() }
    }

    fn new_mount(&self, set: u64) -> io::Result<Detached> {
        let mut parameters: Vec<(&str, Option<&[u8]>)> = vec![("source", Some(b"cgroup"))];
        parameters.extend(self.parameters.iter().map(|parameter| match parameter.split_once('=') {
            Some((key, value)) => (key, Some(value.as_bytes())),
            None => (parameter.as_str(), None),
        }));
        Detached::new("cgroup", &parameters, set)
    }

    /// Clones the directory of the group that `own` (/proc/self/cgroup) names.
    fn bind(&self, own: &str, set: u64) -> io::Result<Detached> {
        let group = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            controllers.split(',').any(|one| self.parameters.iter().any(|p| p == one)).then_some(path)
        });
        let group = Path::new(group.unwrap_or("/"));
        // A mount that does not reach down to it must not be shown in its place.
        let below = group.strip_prefix(&self.root).map_err(|_| {
            let (group, mount, root) = (group.display(), self.mount.display(), self.root.display());
            io::Error::other(format!("the group {group} is not below {root}, which is what {mount} shows"))
        })?;
        let directory = self.mount.join(below);
        let clone = Detached::clone_of(CWD, &directory, true)?;
        clone.set_attributes(0, 0, MS_SLAVE, true)?;
        clone.set_attributes(set & !attr::ATIME, 0, 0, false)?;
        Ok(clone)
    }
}

/// Hierarchies of version 1 by name and place, and options of version 2, out
/// of a mountinfo file and a /proc/self/cgroup.
pub(crate) fn parsed(table: &[u8], own: &str) -> (Vec<(String, PathBuf)>, Vec<String>) {
    let hierarchies = mounted(table, &controllers(own)).into_iter().map(|one| (one.name, one.mount)).collect();
    (hierarchies, v2_options(table))
}

/// Controllers and names of version 1 hierarchies, out of /proc/self/cgroup.
fn controllers(own: &str) -> Vec<String> {
    let lists = own.lines().filter(|line| !line.starts_with("0:")).filter_map(|line| line.split(':').nth(1));
    lists.flat_map(|list| list.split(',')).filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

/// Version 1 hierarchies in a mount table, each once. `known` is what may be
/// a controller among the options there.
fn mounted(table: &[u8], known: &[String]) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in table.split(|&b| b == b'\n') {
        let Some(hierarchy) = parse(line, known) else { continue };
        // What is mounted on the same place later is what one sees there.
        found.retain(|covered| covered.mount != hierarchy.mount);
        if !found.iter().any(|other| other.parameters == hierarchy.parameters || other.name == hierarchy.name) {
            found.push(hierarchy);
        }
    }
    found
}

fn parse(line: &[u8], known: &[String]) -> Option<Hierarchy> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    if *fields.get(separator + 1)? != b"cgroup" {
        return None;
    }
    let path = |field: &[u8]| PathBuf::from(OsString::from_vec(unescape(field)));
    let (root, mount) = (path(fields.get(3)?), path(fields.get(4)?));
    let options = std::str::from_utf8(fields.get(separator + 3)?).ok()?;
    let parameters: Vec<String> =
        options.split(',').filter(|option| known.iter().any(|one| one == option)).map(str::to_owned).collect();
    if parameters.is_empty() {
        return None;
    }
    let name = mount.file_name()?.to_str()?.to_owned();
    Some(Hierarchy { name, parameters, mount, root })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "9:name=systemd:/user\n8:cpu,cpuacct:/a/b\n4:memory:/\n0::/x\n";

    #[test]
    fn only_the_own_group_is_bound_in_its_namespace() {
        let group = Path::new("/sys/fs/cgroup/a");
        let view = |own_namespace, group| View {
            set: 0,
            hierarchies: &[],
            own_namespace,
            new_namespace: own_namespace,
            whole: true,
            optional: false,
            group,
        };
        assert_eq!(bound_in_place(&view(true, Some(group))), group);
        assert_eq!(bound_in_place(&view(false, Some(group))), Path::new(TOP));
        assert_eq!(bound_in_place(&view(true, None)), Path::new(TOP));
    }

    #[test]
    fn options_of_version_2() {
        let table = b"22 1 0:5 / / rw - ext4 /dev/x rw\n\
            41 31 0:38 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
        assert_eq!(v2_options(table), ["nsdelegate", "memory_recursiveprot"]);
        assert!(v2_options(b"").is_empty());
    }

    #[test]
    fn hierarchies_of_a_mount_table() {
        let table = b"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            40 31 0:37 /.. /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            42 27 0:29 / /again rw - cgroup cgroup rw,cpu,cpuacct\n\
            43 40 0:37 /docker/x /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
        let found = mounted(table, &controllers(OWN));
        let names: Vec<(&str, usize)> = found.iter().map(|h| (h.name.as_str(), h.parameters.len())).collect();
        assert_eq!(names, [("cpu,cpuacct", 2), ("systemd", 1)]);
        assert_eq!(found[1].parameters, ["name=systemd"]);
        assert_eq!(found[1].root, Path::new("/docker/x"));
    }
}
