//! Debian packages that the tests need, installed where missing.

use std::path::Path;

use anyhow::{Context, Result};
use budu_testkit::cache_dir;

use crate::run;

/// A program that tests call, and the package that brings it.
const PROGRAMS: [(&str, &str); 7] = [
    ("mmdebstrap", "mmdebstrap"),
    ("skopeo", "skopeo"),
    ("docker-registry", "docker-registry"),
    ("busybox", "busybox-static"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("ps", "procps"),
];

/// Installs what is missing, and the Python client library into the cache.
pub(crate) fn ensure() -> Result<()> {
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !present(program)).map(|(_, package)| *package).collect();
    if !present("docker") {
        missing.push(if known("docker-cli") { "docker-cli" } else { "docker.io" });
    }
    let python = cache_dir().join("python");
    let venv =
        Path::new("/usr/bin/python3").exists() && Path::new("/usr/lib/python3/dist-packages/").exists() && has_venv();
    if !python.join("bin/python3").exists() && !venv {
        missing.push("python3-venv");
    }
    if !missing.is_empty() {
        println!("installing {}", missing.join(" "));
        run("apt-get", &["update", "-q"])?;
        let install = ["install", "-y", "-q", "--no-install-recommends"];
        run("apt-get", &[&install[..], &missing].concat()).context("root is needed")?;
    }
    if !python.join("bin/python3").exists() {
        let dir = python.display().to_string();
        run("/usr/bin/python3", &["-m", "venv", &dir])?;
        let pip = python.join("bin/pip").display().to_string();
        run(&pip, &["install", "-q", "docker"]).or_else(|error| {
            // Without it one test is skipped, and says so.
            let _ = std::fs::remove_dir_all(&python);
            println!("docker-py could not be installed: {error:#}");
            Ok::<(), anyhow::Error>(())
        })?;
    }
    Ok(())
}

fn present(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(more).any(|dir| dir.join(program).is_file())
}

fn has_venv() -> bool {
    budu_testkit::program("/usr/bin/python3", ["-c", "import ensurepip"]).is_ok()
}

fn known(package: &str) -> bool {
    budu_testkit::program("apt-cache", ["show", package]).is_ok()
}
