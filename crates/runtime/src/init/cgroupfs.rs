//! The container's view of the cgroup file system.
//!
//! On version 2 it is one mount. On version 1 it is a tmpfs with a directory
//! for each hierarchy the container has a cgroup in. In a cgroup namespace
//! every hierarchy starts at the container's own cgroup.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use budu_sys::mount::{Detached, attr};
use budu_sys::rooted::{Missing, Root};
use rustix::fs::symlinkat;

/// Mounts the view on `target`; `set` are attribute bits, of which read-only
/// matters. `hierarchies` names the version 1 hierarchies, none on version 2.
pub(super) fn mount(target: OwnedFd, set: u64, hierarchies: &[String]) -> io::Result<()> {
    if hierarchies.is_empty() {
        let view = Detached::new("cgroup2", &[("source", Some(b"cgroup"))], set)?;
        return view.attach(target.as_fd()).map(drop);
    }
    let parameters: [(&str, Option<&[u8]>); 2] = [("source", Some(b"tmpfs")), ("mode", Some(b"755"))];
    let top = Detached::new("tmpfs", &parameters, set & !attr::RDONLY)?.attach(target.as_fd())?;
    let root = Root::new(top);
    for name in hierarchies {
        let place = root.reach(name, Missing::MakeDirectory)?;
        let mut parameters: Vec<(&str, Option<&[u8]>)> = vec![("source", Some(b"cgroup"))];
        parameters.extend(name.split(',').map(|controller| (controller, None)));
        Detached::new("cgroup", &parameters, set)?.attach(place.as_fd())?;
        if name.contains(',') {
            for controller in name.split(',') {
                symlinkat(name.as_str(), root.as_fd(), controller)?;
            }
        }
    }
    if set & attr::RDONLY != 0 {
        budu_sys::mount::set_attributes(root.as_fd(), c"", attr::RDONLY, 0, 0, false)?;
    }
    Ok(())
}
