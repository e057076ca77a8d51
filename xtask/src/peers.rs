//! `cargo xtask peers`: dockerd, podman, crun and runc in a Debian forky root directory.

use anyhow::{Context, Result};
use budu_testkit::{images, peers};

use crate::run;

/// Installs the peers unless they are there.
pub(crate) fn install() -> Result<()> {
    if peers::present() {
        println!("the peers are in {}", peers::root().display());
        return Ok(());
    }
    let root = peers::root();
    let parent = root.parent().context("the cache directory has no parent")?;
    std::fs::create_dir_all(parent)?;
    let making = parent.join("forky.making");
    if making.exists() {
        std::fs::remove_dir_all(&making)?;
    }
    let include = format!("--include={}", peers::PACKAGES.join(","));
    let target = making.display().to_string();
    // A mirror that lags behind serves an expired index; its signature is checked all the same.
    let expired = "--aptopt=Acquire::Check-Valid-Until \"false\"";
    let mirror = images::mirror()?;
    run("mmdebstrap", &["--quiet", "--variant=minbase", expired, &include, "forky", &target, &mirror])?;
    std::fs::rename(&making, &root)?;
    println!("the peers are in {}", root.display());
    Ok(())
}
