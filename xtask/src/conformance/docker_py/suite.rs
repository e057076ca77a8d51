//! docker-py's source, a Python environment that can run it, and the images that it pulls.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use budu_testkit::oci::{Compression, Image, write_layout};
use budu_testkit::{Cage, Registry, World, cache_dir, images};
use serde_json::json;

use crate::run;

/// The version of the `docker` package.
pub(super) const VERSION: &str = "7.2.0";

/// Official images that the suite expects to have or to pull.
pub(super) const IMAGES: [&str; 3] = ["alpine:3.10", "alpine:latest", "busybox:latest"];

/// Files that are about swarm and nothing else.
const SWARM: [&str; 7] = [
    "api_config_test",
    "api_secret_test",
    "api_service_test",
    "api_swarm_test",
    "models_nodes_test",
    "models_services_test",
    "models_swarm_test",
];

/// The prepared suite.
pub(super) struct Suite {
    dir: PathBuf,
}

impl Suite {
    /// Fetches and installs what is missing.
    pub(super) fn ensure() -> Result<Suite> {
        let suite = Suite { dir: cache_dir().join("suites/docker-py").join(VERSION) };
        std::fs::create_dir_all(&suite.dir)?;
        let source = suite.path("source");
        if !source.join("tests/integration").is_dir() {
            let target = source.display().to_string();
            let url = "https://github.com/docker/docker-py";
            run("git", &["clone", "--quiet", "--depth", "1", "--branch", VERSION, url, &target])?;
        }
        let venv = suite.path("venv");
        if !venv.join("ready").exists() {
            run("/usr/bin/python3", &["-m", "venv", &venv.display().to_string()])?;
            let pip = venv.join("bin/pip").display().to_string();
            let package = format!("docker=={VERSION}");
            run(&pip, &["install", "-q", &package, "pytest", "pytest-timeout", "paramiko", "websocket-client"])?;
            std::fs::write(venv.join("ready"), VERSION)?;
        }
        Ok(suite)
    }

    /// A path below the suite's directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Names of the files that may hold a test that one of `filters` means, without their ending.
    pub(super) fn files(&self, filters: &[String]) -> Result<Vec<String>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.path("source/tests/integration"))? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".py")) else { continue };
            if !name.ends_with("_test") || SWARM.contains(&name) {
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            let means = |filter: &String| {
                let last = filter.rsplit("::").next().unwrap_or(filter);
                let file = filter.split_once("::").is_none_or(|(file, _)| name.contains(file));
                name.contains(filter.as_str()) || (file && text.contains(last))
            };
            if filters.is_empty() || filters.iter().any(means) {
                files.push(name.to_owned());
            }
        }
        files.sort();
        Ok(files)
    }

    /// A registry's storage that holds the suite's images under the names they have on Docker Hub.
    pub(super) fn registry(&self) -> Result<PathBuf> {
        let storage = self.path("registry");
        if storage.join("ready").exists() {
            return Ok(storage);
        }
        images::ensure()?;
        let cage = Cage::new(&World::default())?;
        Registry::start(&cage, &storage, &self.path("registry.log"))?;
        let layout = images::busybox_layout();
        let copy = |layout: &std::path::Path, tag: &str, image: &str| {
            let source = format!("oci:{}:{tag}", layout.display());
            let target = format!("docker://{}/library/{image}", Registry::ADDRESS);
            cage.run("skopeo", &["copy", "--quiet", "--dest-tls-verify=false", &source, &target]).map(drop)
        };
        for image in IMAGES {
            copy(&layout, "1", image)?;
        }
        let hello = self.path("hello-world");
        let said = "\nHello from Docker!\nThis message shows that your installation appears to be working correctly.\n";
        write_layout(&hello, "1", &[hello_world(said)?])?;
        copy(&hello, "1", "hello-world:latest")?;
        ensure!(storage.is_dir(), "the registry has kept nothing");
        std::fs::write(storage.join("ready"), VERSION)?;
        Ok(storage)
    }
}

fn hello_world(said: &str) -> Result<Image> {
    let busybox = std::fs::read("/bin/busybox")?;
    let tar = budu_testkit::oci::Tar::default()
        .file("hello", 0o755, &busybox)?
        .dir("bin/", 0o755)?
        .symlink("bin/echo", "../hello")?
        .finish()?;
    let config = json!({"Env": ["PATH=/bin"], "Cmd": ["/bin/echo", said]});
    Ok(Image { layers: vec![(tar, Compression::Gzip)], config, architecture: images::architecture() })
}
