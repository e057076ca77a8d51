//! What only the host can tell about a bundle. Everything else in [`super`] asks nobody.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use budu_spec::oci;

use super::{Bundle, CompileError, namespaces, wrong};
use crate::plan::{Namespaces, Plan, Rootfs};

/// Checks a plan of a bundle against this host, before anything is made.
///
/// # Errors
/// Names the part of the configuration that this host, or this caller, cannot fulfil.
pub fn check_host(spec: &oci::Spec, plan: &Plan, bundle: &Bundle) -> Result<(), CompileError> {
    root(plan)?;
    kernel(plan)?;
    if network_is_the_hosts(&plan.namespaces)? {
        let net = plan.sysctls.iter().find(|(path, _)| path.starts_with("net/"));
        if let Some((path, _)) = net {
            let key = path.replace('/', ".");
            return Err(wrong("linux.sysctl", format!("sysctl {key:?} not allowed in host network namespace")));
        }
    }
    if bundle.rootless && !rustix::process::geteuid().is_root() {
        rootless(spec, plan)?;
    }
    Ok(())
}

/// The root is a directory, named without symbolic links.
fn root(plan: &Plan) -> Result<(), CompileError> {
    let Rootfs::Directory { path, .. } = &plan.rootfs else { return Ok(()) };
    let real = path
        .canonicalize()
        .map_err(|error| wrong("root.path", format!("invalid rootfs: stat {}: {}", path.display(), told(&error))))?;
    if !real.components().eq(path.components()) {
        return Err(wrong("root.path", "invalid rootfs: not an absolute path, or a symlink"));
    }
    if !real.is_dir() {
        return Err(wrong("root.path", format!("invalid rootfs: {} is not a directory", path.display())));
    }
    Ok(())
}

/// The system's own words, without the number that std appends.
fn told(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    words.to_ascii_lowercase()
}

fn kernel(plan: &Plan) -> Result<(), CompileError> {
    let needs = [
        (namespaces::USER, "/proc/self/ns/user", "user namespaces aren't enabled in the kernel"),
        (namespaces::CGROUP, "/proc/self/ns/cgroup", "cgroup namespaces aren't enabled in the kernel"),
        (namespaces::TIME, "/proc/self/timens_offsets", "time namespaces aren't enabled in the kernel"),
    ];
    let own = namespaces::own(&plan.namespaces);
    for (bit, file, reason) in needs {
        if own & bit != 0 && !Path::new(file).exists() {
            return Err(wrong("linux.namespaces", reason));
        }
    }
    let label = !plan.process.selinux_label.is_empty() || !plan.mount_label.is_empty();
    if label && !Path::new("/sys/fs/selinux/enforce").exists() {
        let reason = "selinux label is specified in config, but selinux is disabled or not supported";
        return Err(wrong("process.selinuxLabel", reason));
    }
    Ok(())
}

fn network_is_the_hosts(planned: &Namespaces) -> Result<bool, CompileError> {
    let Some((_, path)) = planned.join.iter().find(|(bit, _)| *bit == namespaces::NETWORK) else {
        return Ok(false);
    };
    let stat = |path: &Path| {
        path.metadata().map(|found| (found.dev(), found.ino())).map_err(|error| {
            wrong("linux.namespaces", format!("invalid netns path: stat {}: {}", path.display(), told(&error)))
        })
    };
    Ok(stat(path)? == stat(Path::new("/proc/self/ns/net"))?)
}

/// Without root, everything depends on a user namespace, and file systems know only its ids.
fn rootless(spec: &oci::Spec, plan: &Plan) -> Result<(), CompileError> {
    if namespaces::own(&plan.namespaces) & namespaces::USER == 0 {
        return Err(wrong("linux.namespaces", "rootless container requires user namespaces"));
    }
    if let Some(n) = plan.mounts.iter().position(|mount| mount.idmap.is_some()) {
        return Err(wrong(format!("mounts[{n}]"), "id-mapped mounts are not supported for rootless containers"));
    }
    if plan.namespaces.new & namespaces::USER == 0 {
        return Ok(());
    }
    for (n, mount) in spec.mounts.iter().enumerate() {
        for word in mount.options.iter().flat_map(|word| word.split(',')) {
            let (kind, map, id) = match word.split_once('=') {
                Some(("uid", id)) => ("uid", &plan.namespaces.uid_map, id),
                Some(("gid", id)) => ("gid", &plan.namespaces.gid_map, id),
                _ => continue,
            };
            let Ok(id) = id.parse() else { continue };
            if namespaces::host_id(map, id).is_none() {
                let reason = format!(
                    "cannot specify {word} mount option for rootless container: \
                     user namespaces enabled, but no mapping found for {kind} {id}"
                );
                return Err(wrong(format!("mounts[{n}].options"), reason));
            }
        }
    }
    Ok(())
}
