//! What holds when nobody says otherwise, as data: Docker's default profile, and how bundles begin.
//!
//! - [`capabilities`]: the fourteen, and `--cap-add`, `--cap-drop`, `--privileged`.
//! - [`seccomp`]: the default system call filter, and filters that users bring.
//! - [`paths`]: what is hidden and what is read-only below /proc and /sys.
//! - [`devices`]: the nodes of /dev and what may be opened.
//! - [`mod@bundle`]: a first `config.json`; [`mod@features`]: what may stand in one.

pub mod bundle;
pub mod capabilities;
pub mod devices;
pub mod features;
pub mod paths;
pub mod seccomp;

use budu_spec::oci;

/// A `config.json` to begin with on this host, for root or for whoever calls.
pub fn bundle(rootless: bool) -> oci::Spec {
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let mut spec = bundle::spec(unified);
    if rootless {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        bundle::rootless(&mut spec, uid.as_raw(), gid.as_raw());
    }
    spec
}

/// What this runtime can do on this host's kernel.
pub fn features() -> oci::Features {
    features::features(budu_sys::kernel::version())
}
