//! Images whose mount points are prepared: links, files, wrong file systems.

use std::os::unix::fs::{FileTypeExt, symlink};

use libtest_mimic::Failed;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::{Value, json};

use crate::Test;
use crate::world::World;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("proc_and_sys_are_real_directories", proc_and_sys_are_real_directories),
    ("nothing_is_mounted_over_proc", nothing_is_mounted_over_proc),
    ("dev_is_a_link", dev_is_a_link),
    ("targets_are_links", targets_are_links),
    ("false_null_hides_nothing", false_null_hides_nothing),
    ("restarted_with_links", restarted_with_links),
    ("masked_paths_stay_hidden", masked_paths_stay_hidden),
];

/// Adds to a list of the configuration.
fn add(config: &mut Value, list: &str, value: Value) {
    config.pointer_mut(list).unwrap().as_array_mut().unwrap().push(value);
}

/// CVE-2019-19921 and what came back of it: a procfs that is somewhere else.
fn proc_and_sys_are_real_directories(world: &World) -> Result<(), Failed> {
    for (name, target) in [("proc", "/elsewhere"), ("sys", "elsewhere"), ("proc", "/proc/self/cwd"), ("sys", "/")] {
        std::fs::create_dir_all(world.inside("elsewhere")).unwrap();
        let link = world.inside(name);
        let _ = std::fs::remove_dir_all(&link);
        symlink(target, &link).unwrap();
        let text = world.run(&world.config(&["echo", "RAN"])).refused();
        assert!(text.contains("must be mounted on ordinary directory") && !text.contains("RAN"), "{text}");
        std::fs::remove_file(&link).unwrap();
        // A file is no better.
        std::fs::write(&link, "").unwrap();
        world.run(&world.config(&["echo", "RAN"])).refused();
        std::fs::remove_file(&link).unwrap();
    }
    assert_eq!(world.run(&world.config(&["echo", "honest"])).good(), "honest\n");
    Ok(())
}

/// CVE-2019-16884: labels and parameters would be written to a fake.
fn nothing_is_mounted_over_proc(world: &World) -> Result<(), Failed> {
    let volume = world.dir.join("volume");
    std::fs::create_dir_all(volume.join("self/attr")).unwrap();
    std::fs::write(volume.join("file"), "").unwrap();
    std::fs::create_dir(world.inside("data")).unwrap();
    symlink("/proc/self", world.inside("data/link")).unwrap();
    symlink("../proc", world.inside("data/proc")).unwrap();
    for to in [
        "/proc",
        "/proc/self/attr",
        "/proc/self",
        "/proc/sys",
        "/proc/1/attr",
        "/data/../proc",
        "/data/link/attr",
        "/data/proc",
    ] {
        let mut config = world.config(&["echo", "RAN"]);
        add(&mut config, "/mounts", world.bind(&volume, to));
        let text = world.run(&config).refused();
        assert!(!text.contains("RAN"), "{to}: {text}");
        let mut config = world.config(&["echo", "RAN"]);
        add(&mut config, "/mounts", json!({"destination": to, "type": "tmpfs", "source": "tmpfs"}));
        let text = world.run(&config).refused();
        assert!(!text.contains("RAN"), "{to}: {text}");
    }
    // The honest: what lxcfs covers, and the host's own procfs.
    let mut config = world.config(&["cat", "/proc/meminfo", "/proc/uptime"]);
    std::fs::write(volume.join("file"), "small\n").unwrap();
    add(&mut config, "/mounts", world.bind(&volume.join("file"), "/proc/meminfo"));
    add(&mut config, "/mounts", world.bind(&volume.join("file"), "/proc/uptime"));
    assert_eq!(world.run(&config).good(), "small\nsmall\n");
    let mut config = world.config(&["sh", "-c", "cat /proc/sys/kernel/ostype"]);
    config["mounts"][0] = world.bind("/proc".as_ref(), "/proc");
    config["linux"]["maskedPaths"] = json!([]);
    assert_eq!(world.run(&config).good(), "Linux\n");
    Ok(())
}

/// CVE-2026-41579: devices are set up where /dev leads.
fn dev_is_a_link(world: &World) -> Result<(), Failed> {
    let canary = world.canary().display().to_string();
    let up = "../../../../../../../../..";
    // The configuration's own /dev mounts, and none at all: then the image's is used.
    for own in [true, false] {
        for target in [canary.clone(), format!("{up}{canary}")] {
            for name in ["dev", "dev/pts", "dev/ptmx", "dev/shm", "dev/mqueue", "dev/null", "dev/console", "dev/fd"] {
                let _ =
                    std::fs::remove_file(world.inside("dev")).or_else(|_| std::fs::remove_dir_all(world.inside("dev")));
                if name != "dev" {
                    std::fs::create_dir(world.inside("dev")).unwrap();
                }
                symlink(&target, world.inside(name)).unwrap();
                let mut config = world.config(&["sh", "-c", "echo ran; ls -l /dev/null"]);
                if !own {
                    config["mounts"].as_array_mut().unwrap().remove(1);
                }
                config["process"]["terminal"] = json!(name == "dev/console" || name == "dev/ptmx");
                let ending = world.run(&config);
                assert!(matches!(ending.code, Some(0 | 1)), "{name} -> {target}: {ending:?}");
                assert!(!ending.text.contains("panicked"), "{ending:?}");
            }
        }
    }
    // The honest: a link to another directory of the image.
    let _ = std::fs::remove_file(world.inside("dev")).or_else(|_| std::fs::remove_dir_all(world.inside("dev")));
    std::fs::create_dir_all(world.inside("system/dev")).unwrap();
    symlink("/system/dev", world.inside("dev")).unwrap();
    let text = world.run(&world.script("echo x > /dev/null; echo > /dev/shm/x; stat -c %t:%T /system/dev/null")).good();
    assert_eq!(text, "1:3\n");
    Ok(())
}

/// CVE-2024-45310's still picture: mount points are made inside.
fn targets_are_links(world: &World) -> Result<(), Failed> {
    let canary = world.canary();
    let volume = world.dir.join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("file"), "volume\n").unwrap();
    symlink(&canary, world.inside("absolute")).unwrap();
    symlink(format!("../../../../../../../../..{}", canary.display()), world.inside("climbing")).unwrap();
    for to in
        ["/absolute", "/absolute/directory", "/absolute/new/one", "/climbing/new/two", "/../../../..//climbing/three"]
    {
        let mut config = world.config(&["cat", &format!("{to}/file")]);
        add(&mut config, "/mounts", world.bind(&volume, to));
        assert_eq!(world.run(&config).good(), "volume\n", "{to}");
        let mut config = world.config(&["cat", &format!("{to}-file")]);
        add(&mut config, "/mounts", world.bind(&volume.join("file"), &format!("{to}-file")));
        let ending = world.run(&config);
        assert!(ending.text == "volume\n" || !ending.is_good(), "{to}: {ending:?}");
    }
    // Something that is there but cannot be a mount point.
    std::fs::write(world.inside("plain"), "").unwrap();
    let mut config = world.config(&["true"]);
    add(&mut config, "/mounts", world.bind(&volume, "/plain"));
    world.run(&config).refused();
    // The root itself is none.
    let mut config = world.config(&["true"]);
    add(&mut config, "/mounts", world.bind(&volume, "/"));
    world.run(&config).refused();
    // The honest: /var/run -> /run, a link that dangles inside the root, /dev/shm.
    std::fs::create_dir(world.inside("run")).unwrap();
    std::fs::create_dir(world.inside("var")).unwrap();
    symlink("/run", world.inside("var/run")).unwrap();
    symlink("/not/yet", world.inside("dangling")).unwrap();
    let mut config = world.config(&["cat", "/run/v/file", "/not/yet/file", "/dev/shm/v/file"]);
    for to in ["/var/run/v", "/dangling", "/dev/shm/v"] {
        add(&mut config, "/mounts", world.bind(&volume, to));
    }
    assert_eq!(world.run(&config).good(), "volume\nvolume\nvolume\n");
    Ok(())
}

/// CVE-2025-31133's still picture: what is mounted to hide a file is the null device.
fn false_null_hides_nothing(world: &World) -> Result<(), Failed> {
    let volume = world.dir.join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(world.inside("secret"), "secret\n").unwrap();
    let null = volume.join("null");
    let run = || {
        let mut config = world.script("cat /secret; stat -c %F /secret");
        config["mounts"][1] = world.bind(&volume, "/dev");
        config["linux"]["maskedPaths"] = json!(["/secret"]);
        world.run(&config)
    };
    let wrong: [(&str, &dyn Fn()); 5] = [
        ("link to procfs", &|| symlink("/proc/sys/kernel/core_pattern", &null).unwrap()),
        ("file", &|| std::fs::write(&null, "").unwrap()),
        ("directory", &|| std::fs::create_dir(&null).unwrap()),
        ("other device", &|| {
            mknodat(CWD, &null, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 5)).unwrap();
        }),
        ("block device", &|| {
            mknodat(CWD, &null, FileType::BlockDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
        }),
    ];
    for (name, make) in wrong {
        let _ = std::fs::remove_file(&null).or_else(|_| std::fs::remove_dir(&null));
        make();
        let text = run().refused();
        assert!(!text.contains("secret\n"), "{name}: {text}");
    }
    std::fs::remove_file(&null).unwrap();
    mknodat(CWD, &null, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
    assert_eq!(run().good(), "character special file\n");
    assert!(std::fs::symlink_metadata(&null)?.file_type().is_char_device());
    Ok(())
}

/// CVE-2015-3629 and -3630: what a container left behind is used at its next start.
fn restarted_with_links(world: &World) -> Result<(), Failed> {
    let canary = world.canary().display().to_string();
    let script = format!(
        "grep -c shared: /proc/self/mountinfo; rm -rf /etc /tmp /dev /sys; ln -s {canary} /etc; ln -s {canary} /tmp; \
         ln -s {canary} /run; mkdir -p /{canary}; ln -s / /{canary}/root; echo done"
    );
    for _ in 0..4 {
        let mut config = world.script(&script);
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/sys"));
        let volume = world.dir.join("volume");
        std::fs::create_dir_all(&volume).unwrap();
        for to in ["/etc/hosts.d", "/run/lock", "/tmp/root/deep"] {
            add(&mut config, "/mounts", world.bind(&volume, to));
        }
        let text = world.run(&config).good();
        // No mount of the container's travels.
        assert!(text.contains("0\n") && text.ends_with("done\n"), "{text}");
    }
    Ok(())
}

/// Reads, writes, uncovers everything that is hidden or read-only.
fn masked_paths_stay_hidden(world: &World) -> Result<(), Failed> {
    let masked = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
        "/nowhere",
    ];
    let readonly = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/etc"];
    let script = format!(
        "for f in {}; do test -e $f || continue; echo looked; \
           umount $f 2>/dev/null && echo UNCOVERED $f; \
           if test -d $f; then test -z \"$(ls -A $f)\" || echo SEEN $f; touch $f/x 2>/dev/null && echo WROTE $f; \
           else test -z \"$(head -c 64 $f)\" || echo SEEN $f; fi; \
         done; \
         for f in {}; do test -e $f || continue; umount $f 2>/dev/null && echo UNCOVERED $f; \
           mount -o remount,rw $f 2>/dev/null && echo REMOUNTED $f; chmod 777 $f 2>/dev/null && echo CHANGED $f; \
           if test -d $f; then touch $f/x 2>/dev/null && echo WROTE $f; fi; done; \
         (echo core > /proc/sys/kernel/core_pattern) 2>/dev/null && echo WROTE; echo end",
        masked.join(" "),
        readonly.join(" "),
    );
    let mut config = world.script(&script);
    config["linux"]["maskedPaths"] = json!(masked);
    config["linux"]["readonlyPaths"] = json!(readonly);
    let text = world.run(&config).good();
    assert!(text.contains("looked\n") && text.ends_with("end\n"), "{text}");
    for bad in ["UNCOVERED", "SEEN", "WROTE", "REMOUNTED", "CHANGED"] {
        assert!(!text.contains(bad), "{text}");
    }
    Ok(())
}
