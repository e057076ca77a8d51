//! Mounts of a container that come from outside of it: CRIU is told of them by
//! name, and finds them again under that name.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use budu_spec::oci;
use budu_sys::cgroup::Cgroup;
use budu_sys::rooted::{Missing, Root};
use rustix::fs::OFlags;
use rustix::mount::{UnmountFlags, mount_bind_recursive, unmount};

use crate::cgroup;
use crate::init::{Failing, failed};

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outside {
    /// Where it is in the container.
    pub(crate) place: String,
    /// Where it comes from on the host.
    pub(crate) source: String,
}

fn is_bind(mount: &oci::Mount) -> bool {
    mount.kind == "bind" || mount.options.iter().any(|option| option == "bind" || option == "rbind")
}

/// All of them, by the configuration.
pub(crate) fn all(spec: &oci::Spec, bundle: &Path, rootfs: &Path, group: Option<&Cgroup>) -> Failing<Vec<Outside>> {
    let mut found = Vec::new();
    for mount in &spec.mounts {
        if is_bind(mount) {
            let source = bundle.join(&mount.source).display().to_string();
            found.push(Outside { place: resolved(rootfs, &mount.destination), source });
        } else if mount.kind == "cgroup" {
            found.extend(groups(spec, rootfs, &mount.destination, group)?);
        }
    }
    // Where no device may be made they are bound, too.
    let devices = spec.linux.iter().flat_map(|linux| &linux.devices);
    found.extend(devices.map(|device| Outside { place: resolved(rootfs, &device.path), source: device.path.clone() }));
    Ok(found)
}

/// Groups of cgroup v1 are bound one by one, unless there is a namespace for them.
fn groups(spec: &oci::Spec, rootfs: &Path, destination: &str, group: Option<&Cgroup>) -> Failing<Vec<Outside>> {
    let own = spec.linux.iter().flat_map(|linux| &linux.namespaces).any(|namespace| namespace.kind == "cgroup");
    let layout = cgroup::layout()?.filter(|layout| !own && !cgroup::is_v2(layout));
    let (Some(layout), Some(group)) = (layout, group) else { return Ok(Vec::new()) };
    let places = layout.hierarchies.iter().filter_map(|hierarchy| {
        let (_, path) = group.places().find(|(controllers, _)| *controllers == hierarchy.controllers)?;
        let name = hierarchy.mount.file_name()?.to_str()?;
        let place = resolved(rootfs, &format!("{}/{name}", destination.trim_end_matches('/')));
        Some(Outside { place, source: path.display().to_string() })
    });
    Ok(places.collect())
}

/// A mount's destination with links of the image followed, as far as it exists.
fn resolved(rootfs: &Path, destination: &str) -> String {
    let whole = Path::new(destination);
    let Ok(root) = Root::open_at(rootfs) else { return destination.to_owned() };
    let open = |path: &Path| -> Option<PathBuf> {
        let found: OwnedFd = root.open(path, OFlags::PATH | OFlags::CLOEXEC).ok()?;
        let real = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()?;
        let top = std::fs::canonicalize(rootfs).ok()?;
        Some(Path::new("/").join(real.strip_prefix(top).ok()?))
    };
    for ancestor in whole.ancestors() {
        if let Some(real) = open(ancestor) {
            let rest = whole.strip_prefix(ancestor).unwrap_or(Path::new(""));
            let path = if rest.as_os_str().is_empty() { real } else { real.join(rest) };
            return path.display().to_string();
        }
    }
    destination.to_owned()
}

/// Mounts that go when this does, the last one first.
#[derive(Debug)]
struct Temporary<'a> {
    root: &'a Root,
    places: Vec<&'a str>,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        for place in self.places.iter().rev() {
            if let Ok(found) = self.root.open(place, OFlags::PATH | OFlags::CLOEXEC) {
                let _ = unmount(by_descriptor(&found), UnmountFlags::DETACH);
            }
        }
    }
}

fn by_descriptor(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Makes the places of mounts that are missing, in the root file system and in
/// what is bound into it, as they were made when the container was.
pub(crate) fn make_places(spec: &oci::Spec, bundle: &Path, rootfs: &Path) -> Failing<()> {
    let root = Root::open_at(rootfs).map_err(failed(&format!("open the root file system {}", rootfs.display())))?;
    let mut bound = Temporary { root: &root, places: Vec::new() };
    for mount in &spec.mounts {
        // Places in a tmpfs are in the image; those of cgroups are there with what is around them.
        if mount.kind == "cgroup" || is_on_tmpfs(&mount.destination, &spec.mounts) {
            continue;
        }
        let what = failed(&format!("make the place of the mount {}", mount.destination));
        let source = bundle.join(&mount.source);
        let is_file = is_bind(mount) && std::fs::metadata(&source).is_ok_and(|meta| !meta.is_dir());
        let missing = if is_file { Missing::MakeFile } else { Missing::MakeDirectory };
        let place = root.reach(&mount.destination, missing).map_err(&what)?;
        if is_bind(mount) {
            mount_bind_recursive(&source, by_descriptor(&place)).map_err(|e| what(e.into()))?;
            bound.places.push(&mount.destination);
        }
    }
    Ok(())
}

fn is_on_tmpfs(path: &str, mounts: &[oci::Mount]) -> bool {
    let below = |mount: &oci::Mount| Path::new(path).starts_with(&mount.destination) && path != mount.destination;
    mounts.iter().any(|mount| mount.kind == "tmpfs" && below(mount))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_follow_the_links_of_the_image() {
        let directory = std::env::temp_dir().join(format!("budu-criu-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("real/conf")).unwrap();
        std::os::unix::fs::symlink("/real/conf", directory.join("conf")).unwrap();
        assert_eq!(resolved(&directory, "/conf"), "/real/conf");
        assert_eq!(resolved(&directory, "/conf/a/b"), "/real/conf/a/b");
        assert_eq!(resolved(&directory, "/none/x"), "/none/x");
        let bind = oci::Mount {
            destination: "/conf".to_owned(),
            source: "x".to_owned(),
            options: vec!["rbind".to_owned()],
            ..oci::Mount::default()
        };
        let spec = oci::Spec { mounts: vec![bind], ..oci::Spec::default() };
        let expected = Outside { place: "/real/conf".to_owned(), source: "/b/x".to_owned() };
        assert_eq!(all(&spec, Path::new("/b"), &directory, None).unwrap(), [expected]);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn places_on_a_tmpfs_are_in_the_image() {
        let dev = oci::Mount { destination: "/dev".to_owned(), kind: "tmpfs".to_owned(), ..oci::Mount::default() };
        for (path, expected) in [("/dev/pts", true), ("/dev", false), ("/device", false)] {
            assert_eq!(is_on_tmpfs(path, std::slice::from_ref(&dev)), expected, "{path}");
        }
    }
}
