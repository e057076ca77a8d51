//! Options of bind mounts, and owners shown through maps.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use libtest_mimic::Failed;
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};
use serde_json::{Value, json};

use crate::Test;
use crate::world::{FIRST, World, add, add_user_namespace, bind};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("bind_without_options_keeps_the_hosts", bind_without_options_keeps_the_hosts),
    ("bind_with_options_has_those_alone", bind_with_options_has_those_alone),
    ("access_time_rules", access_time_rules),
    ("locked_options_in_a_user_namespace", locked_options_in_a_user_namespace),
    ("recursive_options", recursive_options),
    ("owners_through_a_map", owners_through_a_map),
    ("owners_through_the_containers_map", owners_through_the_containers_map),
];

/// A tmpfs of the host with these options on its mount.
fn source(world: &World, flags: MountFlags) -> String {
    let dir = world.dir.join("holder/source");
    if !dir.exists() {
        fs::create_dir_all(&dir).unwrap();
        mount("tmpfs", &dir, "tmpfs", MountFlags::STRICTATIME, None).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    mount_remount(&dir, MountFlags::BIND | MountFlags::STRICTATIME, "").unwrap();
    mount_remount(&dir, MountFlags::BIND | flags, "").unwrap();
    dir.to_str().unwrap().to_owned()
}

fn config(world: &World, source: &str, options: &[&str]) -> Value {
    let mut all = vec!["bind"];
    all.extend(options);
    let mount = json!({"destination": "/mnt", "type": "bind", "source": source, "options": all});
    world.with_mount("awk '$2 == \"/mnt\" {print $4}' /proc/mounts", mount)
}

/// The options a container sees of such a bind mount.
fn seen(world: &World, flags: MountFlags, options: &[&str]) -> Vec<String> {
    let output = world.run(&config(world, &source(world, flags), options)).unwrap();
    output.trim().split(',').map(str::to_owned).collect()
}

fn has(seen: &[String], wanted: &[&str], unwanted: &[&str]) {
    for one in wanted {
        assert!(seen.iter().any(|s| s == one), "{one} is not in {seen:?}");
    }
    for one in unwanted {
        assert!(!seen.iter().any(|s| s == one), "{one} is in {seen:?}");
    }
}

fn bind_without_options_keeps_the_hosts(world: &World) -> Result<(), Failed> {
    let flags = MountFlags::RDONLY | MountFlags::NOEXEC | MountFlags::NODIRATIME;
    has(&seen(world, flags, &[]), &["ro", "noexec", "nodiratime"], &["rw"]);
    has(&seen(world, flags, &["rprivate"]), &["ro", "noexec", "nodiratime"], &["rw"]);
    Ok(())
}

fn bind_with_options_has_those_alone(world: &World) -> Result<(), Failed> {
    let flags = MountFlags::RDONLY | MountFlags::NOEXEC | MountFlags::NODIRATIME;
    has(&seen(world, flags, &["dev"]), &["rw", "nodiratime"], &["ro", "noexec"]);
    has(&seen(world, MountFlags::RDONLY, &["nosuid", "nodev"]), &["rw", "nosuid", "nodev"], &["ro"]);
    has(&seen(world, MountFlags::RDONLY, &["rw", "nosuid"]), &["rw", "nosuid"], &["ro"]);
    has(&seen(world, MountFlags::NODEV, &["ro", "exec"]), &["ro"], &["nodev", "noexec"]);
    Ok(())
}

fn access_time_rules(world: &World) -> Result<(), Failed> {
    let noatime = MountFlags::NOATIME;
    has(&seen(world, noatime, &["relatime"]), &["relatime"], &["noatime"]);
    has(&seen(world, noatime, &["nodiratime"]), &["relatime", "nodiratime"], &["noatime"]);
    has(&seen(world, noatime, &["strictatime"]), &["rw"], &["noatime", "relatime"]);
    has(&seen(world, noatime, &["nodiratime", "strictatime"]), &["nodiratime"], &["noatime", "relatime"]);
    has(&seen(world, MountFlags::NODIRATIME, &["strictatime"]), &["rw"], &["nodiratime", "relatime"]);
    has(&seen(world, noatime, &["ro"]), &["ro", "noatime"], &[]);
    Ok(())
}

fn locked_options_in_a_user_namespace(world: &World) -> Result<(), Failed> {
    world.own_by_container();
    let run = |flags, options: &[&str]| {
        let mut config = config(world, &source(world, flags), options);
        add_user_namespace(&mut config);
        world.run(&config).map(|text| text.trim().split(',').map(str::to_owned).collect::<Vec<_>>())
    };
    let (ro, noexec) = (MountFlags::RDONLY, MountFlags::NOEXEC);
    // Both by the container's own doing, and where only root can reach the source.
    for closed in [false, true] {
        let _ = source(world, ro);
        let mode = if closed { 0o700 } else { 0o711 };
        fs::set_permissions(world.dir.join("holder"), fs::Permissions::from_mode(mode)).unwrap();
        has(&run(ro | noexec, &["dev"]).unwrap(), &["ro", "noexec"], &["rw"]);
        has(&run(ro, &["nosuid"]).unwrap(), &["ro", "nosuid"], &["rw"]);
        has(&run(MountFlags::NODEV, &["ro"]).unwrap(), &["ro", "nodev"], &[]);
        for (flags, options) in
            [(ro, ["rw", "nosuid"]), (noexec, ["exec", "ro"]), (MountFlags::NOATIME, ["relatime", "ro"])]
        {
            let error = run(flags, &options).unwrap_err();
            assert!(error.ends_with("operation not permitted"), "{options:?}: {error}");
        }
    }
    Ok(())
}

fn recursive_options(world: &World) -> Result<(), Failed> {
    let top = source(world, MountFlags::empty());
    let below = Path::new(&top).join("below");
    fs::create_dir(&below).unwrap();
    mount_bind(world.dir.join("volume"), &below).unwrap();
    let script = "touch /mnt/x 2>/dev/null && echo top; touch /mnt/below/x 2>/dev/null && echo below; \
                  awk '$2 ~ \"^/mnt\" {print $4}' /proc/mounts";
    let run = |options: &[&str]| world.run(&world.with_mount(script, bind(&top, "/mnt", options))).unwrap();
    assert!(run(&["ro"]).starts_with("below\n"));
    assert!(!run(&["rro"]).contains("below"));
    assert!(!run(&["ro", "rro"]).contains("top"));
    let output = run(&["rnoatime", "rnosuid"]);
    assert_eq!((output.matches("noatime").count(), output.matches("nosuid").count()), (2, 2), "{output}");
    assert_eq!(run(&["rrelatime"]).matches("relatime").count(), 2);
    assert_eq!(run(&["rstrictatime"]).matches("relatime").count(), 0);
    Ok(())
}

/// A directory with files of several owners; `None` when its file system knows no maps.
fn owned(world: &World) -> String {
    let dir = world.dir.join("owned");
    fs::create_dir(&dir).unwrap();
    for (name, owner) in [("root", 0), ("one", 1)] {
        fs::write(dir.join(name), "").unwrap();
        std::os::unix::fs::chown(dir.join(name), Some(owner), Some(owner)).unwrap();
    }
    dir.to_str().unwrap().to_owned()
}

fn owners_through_a_map(world: &World) -> Result<(), Failed> {
    let dir = owned(world);
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    let mut mount = bind(&dir, "/mnt", &[]);
    mount["uidMappings"] = map.clone();
    mount["gidMappings"] = map;
    let config = world.with_mount("stat -c %u:%g /mnt/root /mnt/one; touch /mnt/new; stat -c %u /mnt/new", mount);
    let output = world.run(&config).unwrap();
    assert!(output.starts_with("1000:1000\n1001:1001\n"), "{output}");
    Ok(())
}

fn owners_through_the_containers_map(world: &World) -> Result<(), Failed> {
    let dir = owned(world);
    world.own_by_container();
    for option in ["idmap", "ridmap"] {
        let script = "stat -c %u:%g /mnt/root /mnt/one; touch /mnt/new && stat -c %u /mnt/new";
        let mut config = world.with_mount(script, bind(&dir, "/mnt", &[option]));
        add_user_namespace(&mut config);
        assert_eq!(world.run(&config).unwrap(), "0:0\n1:1\n0\n", "{option}");
        assert_eq!(fs::metadata(Path::new(&dir).join("new")).unwrap().uid(), 0);
        fs::remove_file(Path::new(&dir).join("new")).unwrap();
    }
    // A map of its own beside the container's.
    let map = json!([{"containerID": 0, "hostID": FIRST + 7, "size": 100}]);
    let mut mount = bind(&dir, "/mnt", &[]);
    mount["uidMappings"] = map.clone();
    mount["gidMappings"] = map;
    let mut config = world.with_mount("stat -c %u:%g /mnt/root /mnt/one", mount);
    add_user_namespace(&mut config);
    assert_eq!(world.run(&config).unwrap(), "7:7\n8:8\n");
    // What earlier mounts brought can be mapped too.
    let root = world.root("").to_str().unwrap().trim_end_matches('/').to_owned();
    let mut config = world.with_mount("stat -c %u:%g /again/one", bind(&dir, "/mnt", &[]));
    add(&mut config, bind(&format!("{root}/mnt"), "/again", &["idmap"]));
    add_user_namespace(&mut config);
    assert_eq!(world.run(&config).unwrap(), "1:1\n");
    Ok(())
}
