//! v2: controllers handed down from group to group, and what a group may be (cgroup-v2.rst, "Threads" and
//! "Top-down Constraint").

use super::apply::Directory;
use super::control::{read, write};
use super::{Controllers, Error, Hierarchy, Plan};
use rustix::fs::{self, Mode};
use rustix::io::{self, Errno};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

/// Controllers that cannot work on threads: a group that limits these must be a domain.
const DOMAIN: Controllers = Controllers::MEMORY
    .union(Controllers::IO)
    .union(Controllers::HUGETLB)
    .union(Controllers::RDMA)
    .union(Controllers::MISC);

/// Switches controllers on in every ancestor of the plan's group, from the root down; says whether all are on and the
/// group is thereby known to be a domain.
///
/// The ancestors below the root are ours and hold no process. In a container with a private cgroup namespace even the
/// root is an ordinary group, and while it holds processes (the container's own) it may not hand controllers down:
/// these processes are then moved to a group `init` beside ours, unless the layout is somebody else's to arrange
/// ([`super::Layout::complete`]), where only a controller that a limit needs may not be missing.
pub(super) fn enable(root: BorrowedFd<'_>, hierarchy: &Hierarchy, plan: &Plan) -> Result<bool, Error> {
    if plan.enable.is_empty() {
        return Ok(false);
    }
    let mut all = plan.enable.intersects(DOMAIN);
    let mut level = String::new();
    for part in plan.path.components() {
        let file = format!("{level}cgroup.subtree_control");
        let fail = |action: &str, errno: Errno| Error::io(action, hierarchy.mount.join(&file), errno);
        let on = controllers_on(root, &level, &file).map_err(|errno| fail("read", errno))?;
        let missing = plan.enable.difference(on);
        if !missing.is_empty() {
            let mut result = switch_on(root, &file, missing);
            if result == Err(Errno::BUSY) && level.is_empty() && !plan.complete {
                evacuate(root).map_err(|errno| fail("move processes out of the root group for", errno))?;
                result = switch_on(root, &file, missing);
            }
            if let Err(errno) = result {
                if !plan.complete && !plan.lenient {
                    return Err(fail(&format!("switch {missing} on in"), errno));
                }
                all = false;
                for name in missing.names() {
                    // Whether a limit needs it shows when its file is written.
                    let _ = write(root, &file, format!("+{name}").as_bytes());
                }
            }
        }
        level.push_str(part);
        level.push('/');
    }
    Ok(all)
}

/// What a group hands down; the group is made if it is missing.
fn controllers_on(root: BorrowedFd<'_>, level: &str, file: &str) -> io::Result<Controllers> {
    let text = match read(root, file) {
        Err(Errno::NOENT) if !level.is_empty() => {
            match fs::mkdirat(root, level.trim_end_matches('/'), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => read(root, file)?,
                Err(errno) => return Err(errno),
            }
        }
        other => other?,
    };
    let text = String::from_utf8_lossy(&text);
    let names = text.split_ascii_whitespace().filter_map(Controllers::from_name);
    Ok(names.fold(Controllers::NONE, Controllers::union))
}

fn switch_on(root: BorrowedFd<'_>, file: &str, controllers: Controllers) -> io::Result<()> {
    let names: Vec<String> = controllers.names().map(|name| format!("+{name}")).collect();
    write(root, file, names.join(" ").as_bytes())
}

/// Moves every process of the namespace's root group to a group `init` below it.
fn evacuate(root: BorrowedFd<'_>) -> io::Result<()> {
    match fs::mkdirat(root, "init", Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let init = fs::openat(root, "init", super::apply::DIRECTORY, Mode::empty())?;
    // New ones may be forked meanwhile.
    for _ in 0..10 {
        let pids = super::control::pids(&read(root, "cgroup.procs")?);
        if pids.is_empty() {
            break;
        }
        super::control::move_in(init.as_fd(), &pids)?;
    }
    Ok(())
}

/// A group below a threaded one is `domain invalid` until it is threaded too, and nobody can enter it; a threaded one
/// has no limits but those on threads.
pub(super) fn check_type(directory: &Directory, plan: &Plan) -> Result<(), Error> {
    let group = directory.fd.as_fd();
    let Ok(text) = read(group, "cgroup.type") else { return Ok(()) };
    let kind = String::from_utf8_lossy(text.trim_ascii()).into_owned();
    let threaded = match kind.as_str() {
        "domain invalid" | "threaded" | "domain threaded" => true,
        _ => return Ok(()),
    };
    if threaded && plan.needed.intersects(DOMAIN) {
        let path = PathBuf::from(format!("{}{}", directory.hierarchy.mount.display(), plan.path));
        return Err(Error::Threaded { path, kind, controllers: plan.needed.intersection(DOMAIN) });
    }
    if kind == "domain invalid" {
        // Whether that helps shows when somebody enters.
        let _ = write(group, "cgroup.type", b"threaded");
    }
    Ok(())
}
