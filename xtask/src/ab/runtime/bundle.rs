//! Bundles: a busybox root directory, and configurations as `runc spec` and as Docker's daemon write them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use budu_testkit::{Backend, Engine, Options, images};
use serde_json::{Value, json};

/// Makes the bundle `name` below `dir`, its configuration edited from `config` to run `true`.
pub(super) fn make(dir: &Path, name: &str, mut config: Value) -> Result<PathBuf> {
    let bundle = dir.join(name);
    root(&bundle.join("rootfs"))?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["true"]);
    config["root"]["path"] = json!("rootfs");
    fs::write(bundle.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
    Ok(bundle)
}

/// A root directory with busybox under the names that tests call it by.
fn root(root: &Path) -> Result<()> {
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("copy busybox")?;
    for name in ["true", "sh", "sleep"] {
        symlink("busybox", root.join("bin").join(name))?;
    }
    // Docker mounts files over these.
    for name in ["hosts", "hostname", "resolv.conf"] {
        fs::write(root.join("etc").join(name), "")?;
    }
    Ok(())
}

/// The configuration that Docker's daemon hands to its runtime for an ordinary container without a network, but
/// for what only works beside that daemon: its hooks, its files, its control group.
pub(super) fn as_docker_does(dir: &Path) -> Result<Value> {
    let options = Options { backend: Some(Backend::Dockerd), images: vec![images::BUSYBOX], ..Options::default() };
    let engine = Engine::start(options)?;
    let host = json!({"NetworkMode": "none", "Memory": 256 << 20, "PidsLimit": 100});
    let id = engine.container(&json!({"Cmd": ["sleep", "100000"], "HostConfig": host}))?;
    let tasks = engine.path("exec/containerd/daemon/io.containerd.runtime.v2.task/moby");
    let text = fs::read_to_string(tasks.join(&id).join("config.json")).context("read Docker's configuration")?;
    let answer = engine.http("DELETE", &format!("/containers/{id}?force=1"), None)?;
    ensure!(answer.status == 204, "remove: {}", answer.text());
    let mut config: Value = serde_json::from_str(&text)?;
    for gone in ["/hooks", "/linux/cgroupsPath"] {
        let (parent, key) = gone.rsplit_once('/').context("a path")?;
        if let Some(object) = config.pointer_mut(parent).and_then(Value::as_object_mut) {
            object.remove(key);
        }
    }
    for mount in config["mounts"].as_array_mut().context("no mounts")? {
        let target = mount["destination"].as_str().unwrap_or_default().to_owned();
        if let (true, Some(name)) = (mount["type"] == "bind", target.strip_prefix("/etc/")) {
            let source = dir.join(name);
            fs::write(&source, "")?;
            mount["source"] = json!(source);
        }
    }
    for namespace in config.pointer_mut("/linux/namespaces").and_then(Value::as_array_mut).context("no namespaces")? {
        namespace.as_object_mut().context("no namespace")?.remove("path");
    }
    Ok(config)
}
