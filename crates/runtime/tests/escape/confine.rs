//! Kernel parameters and control groups.

use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::Test;
use crate::world::World;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("sysctls_of_the_host_are_refused", sysctls_of_the_host_are_refused),
    ("cgroup_paths_do_not_climb", cgroup_paths_do_not_climb),
    ("cgroup_file_systems_are_read_only", cgroup_file_systems_are_read_only),
    ("annotations_control_nothing", annotations_control_nothing),
];

/// CVE-2022-0811: only what belongs to a namespace, and only to the container's own.
fn sysctls_of_the_host_are_refused(world: &World) -> Result<(), Failed> {
    let watched =
        ["kernel/core_pattern", "vm/swappiness", "net/ipv4/ip_forward", "kernel/shm_rmid_forced", "fs/file-max"];
    let read = || watched.map(|name| std::fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default());
    let before = read();
    let refused = |config: &Value| {
        let text = world.run(config).refused();
        assert!(!text.contains("RAN"), "{text}");
        assert_eq!(read(), before, "{text}");
    };
    let keys = [
        "kernel.core_pattern",
        "kernel/core_pattern",
        "vm.swappiness",
        "fs.file-max",
        "net.ipv4.ip_forward/../../../kernel/core_pattern",
        "net/../kernel/core_pattern",
        "net/ipv4/../../kernel/core_pattern",
        "/net/ipv4/ip_forward",
        "kernel.shm_rmid_forced/../core_pattern",
        "fs.mqueue/../../kernel/core_pattern",
        "kernel.msgmax.. .core_pattern",
        "",
        ".",
        "net",
    ];
    for key in keys {
        let mut config = world.config(&["echo", "RAN"]);
        config["linux"]["sysctl"] = json!({key: "1"});
        refused(&config);
    }
    for (namespace, key) in
        [("network", "net.ipv4.ip_forward"), ("ipc", "kernel.shm_rmid_forced"), ("uts", "kernel.hostname")]
    {
        let mut config = world.config(&["echo", "RAN"]);
        config.as_object_mut().unwrap().remove("hostname");
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != namespace);
        config["linux"]["sysctl"] = json!({key: "1"});
        refused(&config);
    }
    // A value is a value, whatever is in it.
    for value in ["1\nkernel.core_pattern=x", "1+kernel.core_pattern=x", "x"] {
        let mut config = world.config(&["true"]);
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": value});
        world.run(&config);
        assert_eq!(read(), before, "{value:?}");
    }
    // The honest, in both spellings.
    let mut config = world.config(&["cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/msgmax"]);
    config["linux"]["sysctl"] = json!({"net/ipv4/ip_forward": "1", "kernel.msgmax": "4096"});
    assert_eq!(world.run(&config).good(), "1\n4096\n");
    assert_eq!(read(), before);
    Ok(())
}

/// The hierarchy of processes' numbers, where limits are easy to see.
fn pids_hierarchy() -> Option<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    [top.join("pids"), top.to_owned()].into_iter().find(|dir| dir.join("cgroup.procs").exists())
}

/// CVE-2023-6476, CVE-2025-47291: a path is below the top, and its limits are in force.
fn cgroup_paths_do_not_climb(world: &World) -> Result<(), Failed> {
    let Some(top) = pids_hierarchy() else {
        println!("skipped: no cgroups here");
        return Ok(());
    };
    let id = world.id();
    let long = "x".repeat(4096);
    let paths = [
        format!("/budu-escape/{id}/../../../../outside"),
        format!("../../../../budu-escape/{id}"),
        format!("//budu-escape/./{id}/"),
        format!("budu-escape/{id}/.."),
        "..".to_owned(),
        "/..".to_owned(),
        format!("/budu-escape/{long}"),
        format!("/budu-escape/{id}\n0::/"),
    ];
    for path in paths {
        let mut config = world.config(&["sleep", "1000"]);
        config["linux"]["cgroupsPath"] = json!(path);
        config["linux"]["resources"]["pids"] = json!({"limit": 77});
        world.write_config(&config);
        let bundle = world.dir.join("bundle");
        let output = world.dir.join("group-output");
        let child = world
            .command(&["run", "-d", "--bundle", &bundle.to_string_lossy(), id])
            .stderr(std::fs::File::create(&output)?)
            .stdout(std::process::Stdio::null())
            .spawn()?;
        match crate::world::wait(child) {
            Some(0) => {
                let state: Value = serde_json::from_str(&world.runtime(&["state", id]).good())?;
                let table = std::fs::read_to_string(format!("/proc/{}/cgroup", state["pid"]))?;
                let line = table.lines().find(|line| line.contains(":pids:") || line.starts_with("0::")).unwrap();
                let group = line.splitn(3, ':').nth(2).unwrap();
                assert!(!group.contains("..") && group.len() > 1, "{path}: {line}");
                let limit = std::fs::read_to_string(top.join(group.trim_start_matches('/')).join("pids.max"))?;
                assert_eq!(limit, "77\n", "{path}: {line}");
                world.runtime(&["delete", "--force", id]).good();
                assert!(!top.join(group.trim_start_matches('/')).exists(), "{group} is left");
            }
            Some(1) => {}
            other => panic!("{path}: {other:?} {}", std::fs::read_to_string(&output)?),
        }
    }
    assert!(!top.join("outside").exists() && !top.parent().unwrap().join("outside").exists());
    Ok(())
}

/// CVE-2023-25809: with and without a cgroup namespace.
fn cgroup_file_systems_are_read_only(world: &World) -> Result<(), Failed> {
    let script = "find /sys/fs/cgroup -name cgroup.procs | head -n 20 | while read f; do echo found; \
                  (echo 1 > $f) 2>/dev/null && echo WROTE $f; mkdir ${f%cgroup.procs}new 2>/dev/null && echo MADE $f; done; \
                  find /sys/fs/cgroup -name release_agent | while read f; do (echo x > $f) 2>/dev/null && echo WROTE $f; done; \
                  mount -o remount,rw /sys/fs/cgroup 2>/dev/null && echo REMOUNTED; true";
    for own in [true, false] {
        let mut config = world.script(script);
        if !own {
            config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "cgroup");
        }
        let text = world.run(&config).good();
        assert!(pids_hierarchy().is_none() || text.contains("found"), "own namespace {own}: {text}");
        for bad in ["WROTE", "MADE", "REMOUNTED"] {
            assert!(!text.contains(bad), "own namespace {own}: {text}");
        }
        // No other group is in sight; but on version 2, as with other runtimes, without a namespace every one is.
        if !own && std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            continue;
        }
        let mut config = world.script("find /sys/fs/cgroup -maxdepth 3");
        if !own {
            config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "cgroup");
        }
        let text = world.run(&config).good();
        assert!(!text.contains("budu-escape"), "own namespace {own}: {text}");
    }
    Ok(())
}

/// CVE-2024-3154: annotations are remarks.
fn annotations_control_nothing(world: &World) -> Result<(), Failed> {
    let mut config = world.config(&["cat", "/proc/self/status"]);
    config["annotations"] = json!({
        "org.systemd.property.ExecStartPre": "['/bin/false']",
        "run.oci.hooks.stdout": world.canary().join("hooked"),
        "run.oci.delegate-cgroup": "../../..",
        "run.oci.keep_original_groups": "1",
        "run.oci.mount_context_type": "x",
        "org.criu.config": world.canary().join("criu"),
        "io.kubernetes.cri-o.userns-mode": "host",
    });
    let text = world.run(&config).good();
    assert!(text.lines().any(|line| line.trim_end() == "Groups:"), "{text}");
    Ok(())
}
