//! Other container engines, in a Debian root directory of their own.

use std::path::{Path, PathBuf};

use crate::{Mount, World, cache_dir};

/// Packages that make up the peers.
pub const PACKAGES: [&str; 14] = [
    "docker.io",
    "docker-cli",
    "docker-compose",
    "podman",
    "crun",
    "runc",
    "containerd",
    "iptables",
    "nftables",
    "iproute2",
    "netavark",
    "ca-certificates",
    "catatonit",
    "procps",
];

/// The root directory the peers live in; made by `cargo xtask peers`.
pub fn root() -> PathBuf {
    cache_dir().join("peers/forky")
}

/// Docker's Compose, which runs outside of that directory too.
pub fn compose() -> PathBuf {
    root().join("usr/libexec/docker/cli-plugins/docker-compose")
}

/// Whether `cargo xtask peers` has been run.
pub fn present() -> bool {
    root().join("usr/sbin/dockerd").exists()
}

/// A world with the peers' root directory, in which `dir` has the same path as outside.
pub fn world(dir: &Path) -> World {
    let root = root();
    let at = |path: &str| root.join(path);
    let inside = root.join(dir.strip_prefix("/").unwrap_or(dir));
    let bind = |source: &str, target| Mount::Bind { source: PathBuf::from(source), target };
    World {
        mounts: vec![
            Mount::Kernel { kind: "proc".to_owned(), target: at("proc") },
            Mount::Kernel { kind: "sysfs".to_owned(), target: at("sys") },
            bind("/sys/fs/cgroup", at("sys/fs/cgroup")),
            bind("/dev", at("dev")),
            Mount::Tmpfs { target: at("run"), bytes: 256 << 20 },
            Mount::Tmpfs { target: at("tmp"), bytes: 256 << 20 },
            Mount::Bind { source: dir.to_owned(), target: inside },
        ],
        root: Some(root),
        network_of: None,
    }
}

/// Arguments that make podman keep everything below `dir`.
pub fn podman(dir: &Path) -> Vec<String> {
    let path = |name: &str| dir.join(name).display().to_string();
    let words = ["podman", "--root", &path("podman"), "--runroot", &path("podman-run")];
    let words = words.iter().chain(&["--cgroup-manager", "cgroupfs", "--runtime", "crun"]);
    words.map(|word| (*word).to_owned()).collect()
}
