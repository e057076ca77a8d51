//! Cgroups of a cage: one subtree in every hierarchy, shown to the cage as if it were the whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

const TOP: &str = "/sys/fs/cgroup";

/// The roots of all hierarchies of this machine; the flag says cgroup v2.
fn hierarchies() -> Vec<(PathBuf, bool)> {
    let top = Path::new(TOP);
    if top.join("cgroup.controllers").exists() {
        return vec![(top.to_owned(), true)];
    }
    let Ok(entries) = fs::read_dir(top) else { return Vec::new() };
    let mut roots: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").exists())
        .map(|path| {
            let unified = path.join("cgroup.controllers").exists();
            (path, unified)
        })
        .collect();
    roots.sort();
    roots
}

/// Moves this process into a new subtree `name` of every hierarchy and makes that subtree all it can see.
/// Expects a private mount namespace.
pub(super) fn enter(name: &str) -> io::Result<()> {
    let hierarchies = hierarchies();
    for (root, unified) in &hierarchies {
        let own = root.join(name);
        fs::create_dir(&own)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // Only the v1 cpuset hierarchy has these at its root, and there a child starts out empty.
            if let (false, Ok(value)) = (unified, fs::read(root.join(file))) {
                fs::write(own.join(file), value)?;
            }
        }
        if *unified {
            let have = fs::read_to_string(root.join("cgroup.subtree_control"))?;
            for controller in have.split_whitespace() {
                fs::write(own.join("cgroup.subtree_control"), format!("+{controller}"))?;
            }
            // A v2 group with controllers for its children may hold no process of its own.
            fs::create_dir(own.join("cage"))?;
        }
        fs::write(own.join("cgroup.procs"), "0")
            .or_else(|error| if *unified { fs::write(own.join("cage/cgroup.procs"), "0") } else { Err(error) })?;
    }
    // SAFETY: detaches the cgroup view of this single-threaded process only.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP)? };
    for (root, unified) in &hierarchies {
        let own = root.join(name);
        if *unified {
            fs::write(own.join("cage/cgroup.procs"), "0")?;
        }
        mount_bind(&own, root)?;
    }
    Ok(())
}

/// All cgroup directories below the subtrees called `name`, deepest first; the subtrees' own not included.
pub(super) fn below(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (root, _) in hierarchies() {
        collect(&root.join(name), &mut found);
    }
    found.retain(|path| path.file_name().is_none_or(|last| last != "cage"));
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
            found.push(entry.path());
        }
    }
}

/// Removes the subtrees called `name`.
pub(super) fn remove(name: &str) {
    for dir in below(name) {
        let _ = fs::remove_dir(dir);
    }
    for (root, _) in hierarchies() {
        let _ = fs::remove_dir(root.join(name).join("cage"));
        let _ = fs::remove_dir(root.join(name));
    }
}

/// Makes every mount of this process private.
pub(super) fn privatise() -> io::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(mount_change("/", flags)?)
}

/// Mounts a file system of type `kind`.
pub(super) fn mount_kind(kind: &str, target: &Path, data: &str) -> io::Result<()> {
    let data = std::ffi::CString::new(data)?;
    Ok(mount(kind, target, kind, MountFlags::empty(), data.as_c_str())?)
}
