//! Containers of somebody who is not root.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::Test;
use crate::world::{World, copy};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("without_root_and_without_helpers", without_root_and_without_helpers),
    ("with_subordinate_ids", with_subordinate_ids),
];

/// `nobody`: has an entry in /etc/passwd everywhere, and no subordinate ids.
const USER: u32 = 65534;
const SUBORDINATE: u32 = 100_000;

/// Gives the bundle to the user, with the configuration that `spec --rootless` makes.
fn prepare(world: &World, script: &str) -> Value {
    let bundle = world.dir.join("bundle");
    let owner = format!("{USER}:{USER}");
    assert!(Command::new("chown").arg(&owner).arg(&world.dir).status().unwrap().success());
    assert!(Command::new("chown").args(["-R", &owner]).arg(&bundle).status().unwrap().success());
    let mut command = world.command(&["spec", "--rootless", "--bundle", &bundle.to_string_lossy()]);
    let output = command.uid(USER).gid(USER).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut config: Value = serde_json::from_slice(&std::fs::read(bundle.join("config.json")).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sh", "-c", script]);
    config["process"]["env"] = json!(["PATH=/bin"]);
    config["root"]["readonly"] = json!(false);
    config
}

/// Runs one command of the runtime as the user; what it and its container wrote.
fn as_user(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let output = world.command(args).uid(USER).gid(USER).output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.code(), text)
}

/// The user's own id is all that there is.
fn without_root_and_without_helpers(world: &World) -> Result<(), Failed> {
    let bundle = world.dir.join("bundle").to_string_lossy().into_owned();
    let script = "echo $(id -u) $(id -g) $(cat /proc/self/uid_map); echo > /tmp/made";
    let mut config = prepare(world, script);
    world.write_config(&config);
    let ending = as_user(world, &["run", "--bundle", &bundle, world.id()]);
    assert_eq!(ending, (Some(0), format!("0 0 0 {USER} 1\n")));
    assert_eq!(std::fs::metadata(world.inside("tmp/made"))?.uid(), USER);
    // A life in steps.
    config["process"]["args"] = json!(["sleep", "1000"]);
    world.write_config(&config);
    let log = world.dir.join("bundle/log");
    let file = std::fs::File::create(&log)?;
    let mut create = world.command(&["create", "--bundle", &bundle, world.id()]);
    let create = create.uid(USER).gid(USER).stdout(file.try_clone()?).stderr(file).status()?;
    assert!(create.success(), "{}", std::fs::read_to_string(&log)?);
    for (args, expected) in [
        (&["start", world.id()][..], ""),
        (&["exec", world.id(), "id", "-u"], "0\n"),
        (&["kill", world.id(), "KILL"], ""),
        (&["delete", "--force", world.id()], ""),
    ] {
        assert_eq!(as_user(world, args), (Some(0), expected.to_owned()), "{args:?}");
    }
    assert_eq!(std::fs::read_dir(world.dir.join("state"))?.count(), 0);
    // The host's root is not theirs to take.
    config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    world.write_config(&config);
    let (code, text) = as_user(world, &["run", "--bundle", &bundle, world.id()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("uidmap") || text.contains("uid_map"), "{text}");
    Ok(())
}

/// A whole range of ids, through newuidmap(1) and newgidmap(1).
fn with_subordinate_ids(world: &World) -> Result<(), Failed> {
    let needed = ["/usr/bin/newuidmap", "/usr/bin/newgidmap", "/etc/subuid", "/etc/subgid"];
    if let Some(missing) = needed.into_iter().find(|path| !Path::new(path).exists()) {
        eprintln!("with_subordinate_ids skipped: no {missing} (package uidmap)");
        return Ok(());
    }
    let mut config = prepare(world, "cat /proc/self/uid_map; echo > /tmp/file");
    config["process"]["user"] = json!({"uid": 33, "gid": 33});
    let mappings = |first: u32| json!([{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": first, "size": 65536}]);
    std::fs::set_permissions(world.inside("tmp"), PermissionsExt::from_mode(0o1777))?;
    let program = world.dir.join("bundle").join(crate::RUNTIME);
    copy(&std::env::current_exe()?, &program);
    let ids = world.dir.join("bundle/ids");
    std::fs::write(&ids, format!("nobody:{SUBORDINATE}:65536\n{USER}:{SUBORDINATE}:65536\n"))?;
    // The host's own lists stay as they are.
    let line = format!(
        "mount --bind {0} /etc/subuid && mount --bind {0} /etc/subgid && PATH={1}:$PATH && cd / && \
         exec setpriv --reuid {USER} --regid {USER} --clear-groups {2} --root {3} run --bundle {1} {4}",
        ids.display(),
        world.dir.join("bundle").display(),
        crate::RUNTIME,
        world.dir.join("state").display(),
        world.id()
    );
    let mut run = |first: u32| {
        config["linux"]["uidMappings"] = mappings(first);
        config["linux"]["gidMappings"] = mappings(first);
        world.write_config(&config);
        let output = Command::new("unshare").args(["-m", "sh", "-c", &line]).output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        (output.status.code(), text)
    };
    let (code, text) = run(SUBORDINATE);
    assert_eq!(code, Some(0), "{text}");
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words, ["0", "65534", "1", "1", "100000", "65536"], "{text}");
    assert_eq!(std::fs::metadata(world.inside("tmp/file"))?.uid(), SUBORDINATE + 32);
    // What is not theirs is refused, by name.
    let (code, text) = run(SUBORDINATE + 1);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("newuidmap: "), "{text}");
    assert_eq!(std::fs::read_dir(world.dir.join("state"))?.count(), 0);
    Ok(())
}
