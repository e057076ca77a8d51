//! What ordinary images and bundles expect.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use libtest_mimic::Failed;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::json;

use crate::Test;
use crate::world::{World, add, add_user_namespace, bind, mode_of, mounts_below};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("links_of_images_are_followed_inside", links_of_images_are_followed_inside),
    ("missing_mount_points_are_made", missing_mount_points_are_made),
    ("mounts_show_what_earlier_ones_brought", mounts_show_what_earlier_ones_brought),
    ("tmpfs_has_the_mode_of_its_place", tmpfs_has_the_mode_of_its_place),
    ("tmpfs_starts_with_the_images_files", tmpfs_starts_with_the_images_files),
    ("readonly_tmpfs_and_dev_are_prepared_first", readonly_tmpfs_and_dev_are_prepared_first),
    ("matching_devices_stay_others_are_refused", matching_devices_stay_others_are_refused),
    ("masks_and_readonly_paths", masks_and_readonly_paths),
    ("cgroup_views", cgroup_views),
    ("cgroup_views_in_a_user_namespace", cgroup_views_in_a_user_namespace),
    ("user_namespace", user_namespace),
    ("user_namespace_sees_what_root_lends", user_namespace_sees_what_root_lends),
    ("missing_sources_are_named", missing_sources_are_named),
    ("remount_changes_what_is_there", remount_changes_what_is_there),
    ("remount_leaves_the_hosts_file_system_alone", remount_leaves_the_hosts_file_system_alone),
    ("without_pivot", without_pivot),
    ("nothing_is_left", nothing_is_left),
];

fn links_of_images_are_followed_inside(world: &World) -> Result<(), Failed> {
    fs::create_dir_all(world.root("run")).unwrap();
    fs::create_dir_all(world.root("var")).unwrap();
    symlink("/run", world.root("var/run")).unwrap();
    // A name server file that points to where nothing is yet, twice removed.
    symlink("/tmp/foo/bar", world.root("jump")).unwrap();
    symlink("/jump/baz/hosts", world.root("etc/hosts")).unwrap();
    symlink("/tmp/hosts", world.root("etc/directory")).unwrap();
    fs::write(world.dir.join("hosts"), "names\n").unwrap();
    let mut config = world.config(
        "cat /tmp/foo/bar/baz/hosts; test -d /tmp/hosts && echo directory; cat /run/lock/names; \
         grep -c -e ' /tmp/foo/bar/baz/hosts ' -e ' /tmp/hosts ' -e ' /run/lock/names ' /proc/self/mountinfo",
    );
    let hosts = world.path("hosts");
    for (source, target) in [
        (hosts.as_str(), "/etc/hosts"),
        (world.path("volume").as_str(), "/etc/directory"),
        (hosts.as_str(), "/var/run/lock/names"),
    ] {
        add(&mut config, bind(source, target, &[]));
    }
    assert_eq!(world.run(&config).unwrap(), "names\ndirectory\nnames\n3\n");
    assert!(world.root("run/lock/names").is_file());
    world.check_canary();
    Ok(())
}

fn missing_mount_points_are_made(world: &World) -> Result<(), Failed> {
    fs::create_dir(world.root("setgid")).unwrap();
    fs::set_permissions(world.root("setgid"), fs::Permissions::from_mode(0o7755)).unwrap();
    fs::write(world.dir.join("file"), "content\n").unwrap();
    let mut config = world.config("cat /new/deep/file relative");
    add(&mut config, bind(&world.path("file"), "/new/deep/file", &["bind"]));
    add(&mut config, bind(&world.path("file"), "relative", &["bind"]));
    add(&mut config, json!({"destination": "/setgid/a/b/c", "type": "tmpfs", "source": "tmpfs"}));
    assert_eq!(world.run(&config).unwrap(), "content\ncontent\n");
    for (path, mode) in [("new/deep", 0o755), ("new/deep/file", 0o644), ("setgid/a", 0o2755), ("setgid/a/b/c", 0o2755)]
    {
        assert_eq!(mode_of(&world.root(path)), mode, "{path}");
    }
    assert_eq!(fs::read(world.root("new/deep/file")).unwrap(), b"");
    Ok(())
}

/// The tree of runc's test of the same thing.
fn nested(world: &World, options: &[&str]) -> serde_json::Value {
    for sub in ["a/x", "b/y", "c/z"] {
        fs::create_dir_all(world.dir.join("sources").join(sub)).unwrap();
        fs::write(world.dir.join("sources").join(sub).join("file"), format!("{sub}\n")).unwrap();
    }
    fs::create_dir_all(world.root("mnt")).unwrap();
    fs::create_dir_all(world.root("final")).unwrap();
    let sources = world.path("sources");
    let root = world.root("").to_str().unwrap().trim_end_matches('/').to_owned();
    let mut config = world.config("cat /final/x/y/z/z/x/y/z/x/file");
    for (source, target) in [("a", "/mnt"), ("b", "/mnt/x"), ("c", "/mnt/x/y"), ("a", "/mnt/x/y/z")] {
        add(&mut config, bind(&format!("{sources}/{source}"), target, &["rprivate"]));
    }
    for (source, target) in [("mnt/x", "mnt/x/y/z/x"), ("mnt/x/y", "mnt/x/y/z"), ("mnt", "final")] {
        add(&mut config, bind(&format!("{root}/{source}"), &format!("{root}/{target}"), options));
    }
    config
}

fn mounts_show_what_earlier_ones_brought(world: &World) -> Result<(), Failed> {
    assert_eq!(world.run(&nested(world, &["rprivate"])).unwrap(), "a/x\n");
    Ok(())
}

fn tmpfs_has_the_mode_of_its_place(world: &World) -> Result<(), Failed> {
    fs::create_dir(world.root("private")).unwrap();
    fs::set_permissions(world.root("private"), fs::Permissions::from_mode(0o710)).unwrap();
    let tmpfs = |target: &str, options: &[&str]| {
        let mount = json!({"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options});
        world.run(&world.with_mount(&format!("stat -c %a {target}"), mount)).unwrap()
    };
    assert_eq!(tmpfs("/private", &["nodev"]), "710\n");
    assert_eq!(tmpfs("/private", &["nodev", "mode=1500"]), "1500\n");
    assert_eq!(tmpfs("/not/there/yet", &[]), "1777\n");
    assert_eq!((mode_of(&world.root("not/there")), mode_of(&world.root("private"))), (0o755, 0o710));
    Ok(())
}

fn tmpfs_starts_with_the_images_files(world: &World) -> Result<(), Failed> {
    fs::create_dir_all(world.root("data/open")).unwrap();
    fs::set_permissions(world.root("data/open"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(world.root("data/program"), "x").unwrap();
    std::os::unix::fs::chown(world.root("data/program"), Some(5), Some(6)).unwrap();
    fs::set_permissions(world.root("data/program"), fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("program", world.root("data/link")).unwrap();
    let mount = json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "ro"]});
    let script = "stat -c '%a %u:%g' /data/open /data/program; readlink /data/link; touch /data/x || echo readonly";
    let output = world.run(&world.with_mount(script, mount)).unwrap();
    assert!(output.starts_with("777 0:0\n4755 5:6\nprogram\n") && output.contains("readonly\n"), "{output}");
    Ok(())
}

fn readonly_tmpfs_and_dev_are_prepared_first(world: &World) -> Result<(), Failed> {
    let mut config = world.config("grep -E '^tmpfs (/dev|/scratch) ' /proc/mounts; echo x > /dev/null && echo null");
    config["mounts"][1]["options"] = json!(["nosuid", "mode=755", "ro"]);
    config["root"]["readonly"] = json!(true);
    add(&mut config, json!({"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}));
    add(&mut config, bind(&world.path("volume"), "/scratch/below", &[]));
    let output = world.run(&config).unwrap();
    assert_eq!(output.matches(" ro,").count(), 2, "{output}");
    assert!(output.contains("null\n"), "{output}");
    Ok(())
}

fn matching_devices_stay_others_are_refused(world: &World) -> Result<(), Failed> {
    let node = |name: &str, minor| {
        let path = world.dir.join("volume").join(name);
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(1, minor)).unwrap();
    };
    node("zero", 5);
    node("wrong", 7);
    fs::write(world.dir.join("volume/file"), "").unwrap();
    symlink("zero", world.dir.join("volume/link")).unwrap();
    let config = |path: &str| {
        let mut config = world.with_mount("stat -c '%a %t:%T' /nodes/zero", bind(&world.path("volume"), "/nodes", &[]));
        config["linux"]["devices"] = json!([{"path": path, "type": "c", "major": 1, "minor": 5, "fileMode": 438}]);
        config
    };
    assert_eq!(world.run(&config("/nodes/zero")).unwrap(), "600 1:5\n");
    for (path, there) in [("wrong", "character device 1:7"), ("file", "a file"), ("link", "a symbolic link")] {
        let error = world.run(&config(&format!("/nodes/{path}"))).unwrap_err();
        assert!(error.contains(&format!("there is {there} already, not character device 1:5")), "{error}");
    }
    Ok(())
}

fn masks_and_readonly_paths(world: &World) -> Result<(), Failed> {
    for dir in ["one", "two", "kept/below"] {
        fs::create_dir_all(world.root(dir)).unwrap();
        fs::write(world.root(dir).join("file"), "secret\n").unwrap();
    }
    fs::write(world.root("etc/hidden"), "secret\n").unwrap();
    let mut config = world.config(
        "ls /one /two; cat /etc/hidden; stat -c %d /one /two; touch /one/x /kept/x /kept/below/x 2>&1; \
         { echo x > /kept/below/file; } 2>&1; grep -c ' /etc/hidden ' /proc/self/mountinfo; test -s /proc/kcore || echo end",
    );
    config["linux"]["maskedPaths"] = json!(["/one", "/two", "/etc/hidden", "/etc/../etc/hidden", "/proc/kcore"]);
    config["linux"]["readonlyPaths"] = json!(["/kept", "/proc/sys"]);
    let output = world.run(&config).unwrap();
    assert!(!output.contains("secret"), "{output}");
    assert_eq!(output.matches("Read-only file system").count(), 4, "{output}");
    assert!(output.contains("1\nend\n"), "{output}");
    let devices: Vec<&str> = output.lines().filter(|line| line.parse::<u64>().is_ok()).collect();
    assert_eq!(devices[0], devices[1], "{output}");
    Ok(())
}

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The host's mounts of version 2, with their options.
fn v2_mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(" - cgroup2 ")).map(str::to_owned).collect()
}

fn cgroup_views(world: &World) -> Result<(), Failed> {
    let (v2, before) = (is_v2(), v2_mounts());
    let script = "awk '$2 ~ \"^/sys/fs/cgroup\" {print $4}' /proc/mounts; cat /sys/fs/cgroup/pids/cgroup.procs \
                  /sys/fs/cgroup/cgroup.procs 2>/dev/null; touch /sys/fs/cgroup/x /sys/fs/cgroup/pids/x; echo end";
    for own in [false, true] {
        let options = json!(["nosuid", "noexec", "nodev", "relatime", "ro"]);
        let view = json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options});
        let mut config = world.with_mount(script, view);
        if own {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
        }
        let output = world.run(&config).unwrap();
        let flags: Vec<&str> = output.lines().filter(|line| line.contains("noexec")).collect();
        assert!(!flags.is_empty() && flags.iter().all(|line| line.starts_with("ro,")), "{output}");
        // Without a namespace version 2 shows every group, as other runtimes do.
        assert!(output.contains("\n1\n") || (v2 && !own), "own namespace {own}: its processes are not in {output}");
        assert!(!output.contains("touch: /sys/fs/cgroup/x: Permission denied"), "{output}");
        assert_eq!(output.matches("Read-only file system").count(), if v2 { 1 } else { 2 }, "{output}");
        assert_eq!(v2_mounts(), before, "the host's own mount has changed");
    }
    Ok(())
}

fn cgroup_views_in_a_user_namespace(world: &World) -> Result<(), Failed> {
    world.own_by_container();
    for own in [false, true] {
        let options = json!(["nosuid", "noexec", "nodev", "relatime", "ro"]);
        let view = json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options});
        let mut config =
            world.with_mount("touch /sys/fs/cgroup/x 2>&1; cat /sys/fs/cgroup/*procs /sys/fs/cgroup/pids/*procs", view);
        add_user_namespace(&mut config);
        if own {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
        }
        let output = world.run(&config).unwrap();
        let found = output.contains("\n1\n") || (is_v2() && !own);
        assert!(output.contains("Read-only file system") && found, "own namespace {own}: {output}");
    }
    Ok(())
}

fn user_namespace(world: &World) -> Result<(), Failed> {
    world.own_by_container();
    fs::set_permissions(world.dir.join("volume"), fs::Permissions::from_mode(0o777)).unwrap();
    let script = "id -u; echo x > /dev/null && echo null; readlink /dev/ptmx; touch /volume/mine /made && echo made; \
                  test -d /sys/class && echo sysfs";
    let mut config = world.with_mount(script, bind(&world.path("volume"), "/volume", &[]));
    add(&mut config, json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"}));
    add(&mut config, json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid"]}));
    add_user_namespace(&mut config);
    config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/acpi", "/sys/firmware"]);
    config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    assert_eq!(world.run(&config).unwrap(), "0\nnull\npts/ptmx\nmade\nsysfs\n");
    let owner = fs::metadata(world.dir.join("volume/mine")).unwrap().uid();
    assert_eq!(owner, crate::world::FIRST);
    Ok(())
}

fn user_namespace_sees_what_root_lends(world: &World) -> Result<(), Failed> {
    world.own_by_container();
    for n in 0..80 {
        let dir = world.dir.join(format!("closed-{n}/data"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), format!("{n}\n")).unwrap();
        fs::set_permissions(dir.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let mut config = world.config("cat /lent/0/file /lent/64/file /lent/79/file");
    add_user_namespace(&mut config);
    for n in 0..80 {
        add(&mut config, bind(&world.path(&format!("closed-{n}/data")), &format!("/lent/{n}"), &[]));
    }
    assert_eq!(world.run(&config).unwrap(), "0\n64\n79\n");
    Ok(())
}

fn missing_sources_are_named(world: &World) -> Result<(), Failed> {
    let error = world.run(&world.with_mount("true", bind("/no/such/thing", "/x", &[]))).unwrap_err();
    assert!(error.contains("error mounting \"/no/such/thing\" to rootfs at \"/x\""), "{error}");
    assert!(error.ends_with("no such file or directory"), "{error}");
    fs::write(world.dir.join("file"), "").unwrap();
    let error = world.run(&world.with_mount("true", bind(&world.path("file"), "/etc", &[]))).unwrap_err();
    assert!(error.ends_with("not a directory"), "{error}");
    let error = world.run(&world.with_mount("true", bind(&world.path("volume"), "/", &[]))).unwrap_err();
    assert!(error.contains("is on the top of rootfs"), "{error}");
    let tmpfs = json!({"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": ["nonsense=1"]});
    let error = world.run(&world.with_mount("true", tmpfs)).unwrap_err();
    assert!(error.contains("nonsense"), "{error}");
    Ok(())
}

fn remount_changes_what_is_there(world: &World) -> Result<(), Failed> {
    let mut config = world.with_mount(
        "touch /volume/x || echo readonly; grep ' /volume ' /proc/mounts",
        bind(&world.path("volume"), "/volume", &[]),
    );
    let again = json!({"destination": "/volume", "type": "bind", "source": "none",
                       "options": ["bind", "remount", "ro", "noexec"]});
    add(&mut config, again);
    let output = world.run(&config).unwrap();
    assert!(output.contains("readonly\n") && output.contains(" ro,noexec"), "{output}");
    Ok(())
}

/// Without `bind` the file system itself is asked; the host's stays as it is.
fn remount_leaves_the_hosts_file_system_alone(world: &World) -> Result<(), Failed> {
    let volume = world.dir.join("volume");
    let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&volume).status()?;
    assert!(mounted.success());
    let script = "touch /volume/x || echo readonly; touch /own/x || echo readonly";
    let mut config = world.with_mount(script, bind(&world.path("volume"), "/volume", &[]));
    add(&mut config, json!({"destination": "/own", "type": "tmpfs", "source": "tmpfs"}));
    for destination in ["/volume", "/own"] {
        add(
            &mut config,
            json!({"destination": destination, "type": "tmpfs", "source": "none",
                                "options": ["remount", "ro"]}),
        );
    }
    let output = world.run(&config);
    let written = fs::write(volume.join("still"), "writable");
    let _ = std::process::Command::new("umount").arg(&volume).status();
    assert_eq!(output.unwrap().matches("readonly\n").count(), 2);
    written?;
    Ok(())
}

fn without_pivot(world: &World) -> Result<(), Failed> {
    fs::write(world.root("etc/hidden"), "secret\n").unwrap();
    let mut config =
        world.with_mount("ls /volume; cat /etc/hidden; echo end", bind(&world.path("canary"), "/volume", &[]));
    config["linux"]["maskedPaths"] = json!(["/etc/hidden"]);
    config["root"]["readonly"] = json!(true);
    let output = world.run_with(&config, |bundle| bundle.no_pivot = true).unwrap();
    assert_eq!(output, "inner\nsecret\nend\n");
    Ok(())
}

fn nothing_is_left(world: &World) -> Result<(), Failed> {
    let mut config = world.with_mount("true", bind(&world.path("volume"), "/volume", &["rshared"]));
    world.run(&config).unwrap();
    add(&mut config, bind("/no/such/thing", "/x", &[]));
    world.run(&config).unwrap_err();
    assert!(mounts_below(&world.dir).is_empty());
    Ok(())
}
