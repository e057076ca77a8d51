//! The container's view of the cgroup file system.
//!
//! On version 2 it is one mount. On version 1 it is a tmpfs with a directory
//! for each hierarchy, as on the host. In a cgroup namespace every hierarchy
//! starts at the container's own cgroup.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use budu_sys::mount::{Detached, attr};
use budu_sys::rooted::{Missing, Root};
use rustix::fs::symlinkat;

/// Mounts the view on `target`; `set` are attribute bits, of which read-only matters.
pub(super) fn mount(target: OwnedFd, set: u64) -> io::Result<()> {
    let hierarchies = hierarchies()?;
    if hierarchies.is_empty() {
        let view = Detached::new("cgroup2", &[("source", Some(b"cgroup")), ("nsdelegate", None)], set)
            .or_else(|_| Detached::new("cgroup2", &[("source", Some(b"cgroup"))], set))?;
        return view.attach(target.as_fd()).map(drop);
    }
    let parameters: [(&str, Option<&[u8]>); 2] = [("source", Some(b"tmpfs")), ("mode", Some(b"755"))];
    let top = Detached::new("tmpfs", &parameters, set & !attr::RDONLY)?.attach(target.as_fd())?;
    let root = Root::new(top);
    for name in &hierarchies {
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

/// Names of the version 1 hierarchies this process has left the root of (that
/// is, those its container was given a cgroup in); empty on version 2.
fn hierarchies() -> io::Result<Vec<String>> {
    let text = std::fs::read_to_string("/proc/self/cgroup")?;
    Ok(parse(&text))
}

/// Reads /proc/self/cgroup, cgroups(7). In a new cgroup namespace every
/// hierarchy shows `/`, so all with controllers count.
fn parse(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers) = (fields.next()?, fields.next()?);
            (!controllers.is_empty() && !controllers.starts_with("name=")).then(|| controllers.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn version_one_lists_hierarchies_and_version_two_none() {
        let v1 = "12:pids:/x\n4:cpu,cpuacct:/x\n1:name=systemd:/\n0::/\n";
        assert_eq!(parse(v1), ["pids", "cpu,cpuacct"]);
        assert!(parse("0::/budu/x\n").is_empty());
    }
}
