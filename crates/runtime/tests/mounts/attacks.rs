//! Images and volumes that want the runtime to mount, write or hide elsewhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};
use serde_json::json;

use crate::Test;
use crate::world::{World, add, bind, mounts_below};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("links_in_place_of_proc_and_sys", links_in_place_of_proc_and_sys),
    ("nothing_covers_proc", nothing_covers_proc),
    ("dev_as_a_link_stays_inside", dev_as_a_link_stays_inside),
    ("fake_null_hides_nothing", fake_null_hides_nothing),
    ("masked_path_as_a_link_stays_inside", masked_path_as_a_link_stays_inside),
    ("racing_mount_targets", racing_mount_targets),
    ("racing_new_mount_points", racing_new_mount_points),
    ("racing_null", racing_null),
    ("sysctls_reach_a_real_procfs", sysctls_reach_a_real_procfs),
    ("console_as_a_link_is_refused", console_as_a_link_is_refused),
    ("without_pivot_no_bare_proc_is_left", without_pivot_no_bare_proc_is_left),
];

/// How many starts a race takes, and how long where each is slow, as on an emulated processor.
const STARTS: usize = 200;
const RACE: Duration = Duration::from_secs(20);

fn links_in_place_of_proc_and_sys(world: &World) -> Result<(), Failed> {
    for (name, target) in [("proc", "/fake"), ("proc", "../../canary"), ("sys", "/fake"), ("sys", "/proc")] {
        let _ = fs::remove_dir(world.root("proc"));
        let _ = fs::remove_dir(world.root("sys"));
        fs::create_dir_all(world.root("fake")).unwrap();
        symlink(target, world.root(name)).unwrap();
        let error = world.run(&world.config("echo ran")).unwrap_err();
        assert!(error.contains("must be mounted on ordinary directory"), "{name} -> {target}: {error}");
        fs::remove_file(world.root(name)).unwrap();
    }
    world.check_canary();
    Ok(())
}

fn nothing_covers_proc(world: &World) -> Result<(), Failed> {
    symlink("/proc/self/attr", world.root("attr")).unwrap();
    symlink("proc", world.root("also-proc")).unwrap();
    let volume = world.path("volume");
    for (target, reason) in [
        ("/proc", "not of type proc"),
        ("/also-proc", "not of type proc"),
        ("/proc/", "not of type proc"),
        ("/proc/self/attr", "inside /proc"),
        ("/proc/sys", "inside /proc"),
        ("/attr", "inside /proc"),
        ("/tmp/../proc/1", "inside /proc"),
    ] {
        let error = world.run(&world.with_mount("echo ran", bind(&volume, target, &[]))).unwrap_err();
        assert!(error.contains(reason), "{target}: {error}");
    }
    let tmpfs = json!({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"});
    let error = world.run(&world.with_mount("echo ran", tmpfs)).unwrap_err();
    assert!(error.contains("not of type proc"), "{error}");
    // What lxcfs does goes on working.
    fs::write(world.dir.join("volume/meminfo"), "MemTotal: 1 kB\n").unwrap();
    let file = bind(&world.path("volume/meminfo"), "/proc/meminfo", &[]);
    assert_eq!(world.run(&world.with_mount("cat /proc/meminfo", file)).unwrap(), "MemTotal: 1 kB\n");
    // And so does the host's /proc in its place.
    let mut config = world.config("test -d /proc/self && echo real");
    config["mounts"][0] = bind("/proc", "/proc", &[]);
    assert_eq!(world.run(&config).unwrap(), "real\n");
    Ok(())
}

fn dev_as_a_link_stays_inside(world: &World) -> Result<(), Failed> {
    let outside = world.path("canary");
    for target in [outside.as_str(), "../../canary", "../../../../../../canary/inner"] {
        let _ = fs::remove_dir_all(world.root("dev"));
        let _ = fs::remove_file(world.root("dev"));
        symlink(target, world.root("dev")).unwrap();
        // With a tmpfs over it and without: devices and links are made either way.
        for mounts in [4, 1] {
            let mut config = world.config("echo x > /dev/null && readlink /dev/fd");
            config["mounts"].as_array_mut().unwrap().truncate(mounts);
            let outcome = world.run(&config);
            assert!(matches!(outcome.as_deref(), Ok("/proc/self/fd\n")), "{target}: {outcome:?}");
            world.check_canary();
        }
    }
    for name in ["pts", "ptmx", "shm", "null"] {
        let _ = fs::remove_file(world.root("dev"));
        let _ = fs::remove_dir_all(world.root("dev"));
        fs::create_dir(world.root("dev")).unwrap();
        symlink(world.path("canary/inner"), world.root("dev").join(name)).unwrap();
        let mut config = world.config("readlink /dev/ptmx");
        config["mounts"].as_array_mut().unwrap().truncate(1);
        match (name, world.run(&config)) {
            ("null", Err(error)) => assert!(error.contains("symbolic link"), "{error}"),
            (_, Ok(output)) => assert_eq!(output, "pts/ptmx\n", "{name}"),
            (_, Err(error)) => panic!("{name}: {error}"),
        }
        world.check_canary();
    }
    Ok(())
}

fn volume_as_dev(world: &World, script: &str) -> serde_json::Value {
    let mut config = world.config(script);
    config["mounts"].as_array_mut().unwrap().remove(2);
    config["mounts"][1] = bind(&world.path("volume"), "/dev", &[]);
    config["linux"]["maskedPaths"] = json!(["/etc/hidden"]);
    config
}

fn fake_null_hides_nothing(world: &World) -> Result<(), Failed> {
    let null = world.dir.join("volume/null");
    fs::write(world.root("etc/hidden"), "secret\n").unwrap();
    let config = volume_as_dev(world, "cat /etc/hidden; echo written > /etc/hidden; echo end");
    let is_refused = |what: &str| {
        match world.run(&config) {
            Err(error) => assert!(error.contains("/dev/null is invalid"), "{what}: {error}"),
            Ok(output) => panic!("{what}: started, and said {output}"),
        }
        fs::remove_file(&null).unwrap();
    };
    fs::write(&null, "not null\n").unwrap();
    is_refused("a file");
    symlink("/proc/sys/kernel/core_pattern", &null).unwrap();
    is_refused("a link to a parameter");
    symlink("/proc/1/oom_score_adj", &null).unwrap();
    is_refused("a link to a process");
    mknodat(CWD, &null, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 5)).unwrap();
    is_refused("the zero device");
    // The real one, and none at all, hide.
    assert_eq!(world.run(&config).unwrap(), "end\n");
    mknodat(CWD, &null, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
    assert_eq!(world.run(&config).unwrap(), "end\n");
    assert_eq!(fs::read_to_string(world.root("etc/hidden")).unwrap(), "secret\n");
    Ok(())
}

fn masked_path_as_a_link_stays_inside(world: &World) -> Result<(), Failed> {
    fs::write(world.root("etc/hidden"), "secret\n").unwrap();
    symlink("hidden", world.root("etc/link")).unwrap();
    symlink(world.path("canary/secret"), world.root("etc/out")).unwrap();
    symlink("../../../canary", world.root("etc/climb")).unwrap();
    symlink("loop", world.root("loop")).unwrap();
    let mut config = world.config("cat /etc/hidden; echo end");
    config["linux"]["maskedPaths"] = json!(["/etc/link", "/no/such", "/etc/hidden/x"]);
    config["linux"]["readonlyPaths"] = json!(["/no/such"]);
    assert_eq!(world.run(&config).unwrap(), "end\n");
    assert!(mounts_below(&world.dir).is_empty());
    // What cannot be looked at cannot be hidden either.
    for path in ["/loop", "/etc/out", "/etc/climb"] {
        config["linux"]["maskedPaths"] = json!([path]);
        assert!(world.run(&config).unwrap_err().contains("can't mask path"), "{path}");
    }
    config["linux"]["maskedPaths"] = json!([]);
    config["linux"]["readonlyPaths"] = json!(["/etc/out"]);
    assert!(world.run(&config).unwrap_err().contains("make /etc/out read-only"));
    world.check_canary();
    Ok(())
}

/// The starts of one race, by number; some in any case.
fn starts() -> impl Iterator<Item = usize> {
    let begin = Instant::now();
    (0..STARTS).take_while(move |start| *start < 3 || begin.elapsed() < RACE)
}

/// Exchanges two names as fast as it can while `meanwhile` runs.
fn race(a: &Path, b: &Path, meanwhile: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

fn racing_mount_targets(world: &World) -> Result<(), Failed> {
    let volume = world.dir.join("volume");
    fs::create_dir_all(volume.join("d/inner")).unwrap();
    symlink("/", volume.join("link")).unwrap();
    symlink(world.dir.join("canary"), volume.join("canary")).unwrap();
    fs::write(world.dir.join("flag"), "").unwrap();
    for link in ["link", "canary"] {
        let mut config = world.with_mount(
            "cat /volume/d/secret /volume/link/secret /volume/canary/secret /secret 2>/dev/null; echo end",
            bind(&world.path("volume"), "/volume", &[]),
        );
        add(&mut config, bind(&world.path("run"), "/volume/d/inner", &[]));
        add(&mut config, json!({"destination": "/volume/d/inner", "type": "tmpfs", "source": "tmpfs"}));
        race(&volume.join("d"), &volume.join(link), || {
            for _ in starts() {
                if let Ok(output) = world.run(&config) {
                    assert_eq!(output, "end\n");
                }
                assert!(mounts_below(&world.dir).is_empty());
            }
        });
        world.check_canary();
    }
    Ok(())
}

fn racing_new_mount_points(world: &World) -> Result<(), Failed> {
    let volume = world.dir.join("volume");
    fs::create_dir_all(volume.join("d")).unwrap();
    symlink(world.dir.join("canary"), volume.join("link")).unwrap();
    symlink("../canary", volume.join("up")).unwrap();
    fs::write(world.dir.join("file"), "").unwrap();
    for link in ["link", "up"] {
        race(&volume.join("d"), &volume.join(link), || {
            for n in starts() {
                let mut config = world.with_mount("true", bind(&world.path("volume"), "/volume", &[]));
                add(&mut config, bind(&world.path("run"), &format!("/volume/d/new{n}/a/b"), &[]));
                add(&mut config, bind(&world.path("file"), &format!("/volume/d/file{n}"), &[]));
                let _ = world.run(&config);
                world.check_canary();
            }
        });
    }
    Ok(())
}

fn racing_null(world: &World) -> Result<(), Failed> {
    let volume = world.dir.join("volume");
    fs::write(world.root("etc/hidden"), "secret\n").unwrap();
    mknodat(CWD, volume.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
    symlink("/proc/sys/kernel/core_pattern", volume.join("link")).unwrap();
    let config = volume_as_dev(world, "cat /etc/hidden; echo end");
    race(&volume.join("null"), &volume.join("link"), || {
        for _ in starts() {
            match world.run(&config) {
                Ok(output) => assert_eq!(output, "end\n"),
                Err(error) => assert!(error.contains("/dev/null is invalid"), "{error}"),
            }
        }
    });
    Ok(())
}

fn sysctls_reach_a_real_procfs(world: &World) -> Result<(), Failed> {
    let script = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_forward";
    let mut config = world.config(script);
    config["linux"]["sysctl"] = json!({"kernel.shm_rmid_forced": "1", "net.ipv4.ip_forward": "1"});
    assert_eq!(world.run(&config).unwrap(), "1\n1\n");
    // Without a /proc of its own, over an image that has a fake one.
    fs::create_dir_all(world.root("proc/sys/kernel")).unwrap();
    fs::create_dir_all(world.root("proc/sys/net/ipv4")).unwrap();
    fs::write(world.root("proc/sys/kernel/shm_rmid_forced"), "fake\n").unwrap();
    fs::write(world.root("proc/sys/net/ipv4/ip_forward"), "fake\n").unwrap();
    config["mounts"].as_array_mut().unwrap().remove(0);
    assert_eq!(world.run(&config).unwrap(), "fake\nfake\n");
    // A read-only one is no obstacle.
    let mut config = world.config(script);
    config["linux"]["sysctl"] = json!({"kernel.shm_rmid_forced": "1"});
    config["mounts"][0]["options"] = json!(["ro"]);
    assert!(world.run(&config).unwrap().starts_with("1\n"));
    Ok(())
}

fn console_as_a_link_is_refused(world: &World) -> Result<(), Failed> {
    let mut config = world.config("test -c /dev/console && echo console");
    config["process"]["terminal"] = json!(true);
    assert_eq!(world.run(&config).unwrap().trim_end(), "console");
    let volume = world.dir.join("volume");
    fs::create_dir(volume.join("pts")).unwrap();
    config["mounts"][1] = bind(&world.path("volume"), "/dev", &[]);
    for target in ["/proc/self/attr/exec", "/etc/passwd", "pts/0"] {
        symlink(target, volume.join("console")).unwrap();
        let error = world.run(&config).unwrap_err();
        assert!(error.contains("neither a file nor a device"), "{target}: {error}");
        fs::remove_file(volume.join("console")).unwrap();
    }
    assert_eq!(world.run(&config).unwrap().trim_end(), "console");
    Ok(())
}

fn without_pivot_no_bare_proc_is_left(world: &World) -> Result<(), Failed> {
    let script = "cat /proc/self/mountinfo; ls /";
    let output = world.run_with(&world.config(script), |bundle| bundle.no_pivot = true).unwrap();
    let bare = |kind: &str| output.lines().filter(|line| line.contains(&format!(" - {kind} "))).count();
    assert_eq!((bare("proc"), bare("sysfs")), (1, 1), "{output}");
    assert!(output.contains("bin\n"), "{output}");
    Ok(())
}
