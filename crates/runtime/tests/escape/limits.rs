//! Resource limits, and configurations of absurd size.

use std::time::Instant;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::Test;
use crate::world::World;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("limits_are_exact", limits_are_exact),
    ("many_mounts", many_mounts),
    ("long_words", long_words),
    ("many_id_maps", many_id_maps),
    ("deep_and_broken_documents", deep_and_broken_documents),
];

fn limits_are_exact(world: &World) -> Result<(), Failed> {
    let mut config =
        world.script("cat /proc/self/limits /proc/self/oom_score_adj; ulimit -n 9999 2>/dev/null && echo RAISED");
    config["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_MEMLOCK", "soft": 4096, "hard": 8192},
    ]);
    config["process"]["oomScoreAdj"] = json!(500);
    let text = world.run(&config).text;
    let flat: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for wanted in
        ["Max open files 100 200 files", "Max core file size 0 0 bytes", "Max locked memory 4096 8192 bytes", "500"]
    {
        assert!(flat.iter().any(|line| line == wanted), "{wanted:?} is missing in {text}");
    }
    assert!(!text.contains("RAISED"), "{text}");
    // The same for a further process.
    config["process"]["args"] = json!(["sleep", "1000"]);
    let container = world.start(&config);
    let text = container.exec(&[], &["sh", "-c", "ulimit -n; ulimit -c; cat /proc/self/oom_score_adj"]).good();
    assert_eq!(text, "100\n0\n500\n");
    drop(container);
    let wrong = [
        json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}]),
        json!([{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}, {"type": "RLIMIT_NOFILE", "soft": 2, "hard": 2}]),
        json!([{"type": "RLIMIT_NOTHING", "soft": 1, "hard": 1}]),
        json!([{"type": "RLIMIT_NOFILE", "soft": -1, "hard": 1}]),
    ];
    for limits in wrong {
        config["process"]["args"] = json!(["echo", "RAN"]);
        config["process"]["rlimits"] = limits.clone();
        let text = world.run(&config).refused();
        assert!(!text.contains("RAN"), "{limits}: {text}");
    }
    for score in [-1001, 1001] {
        let mut config = world.config(&["echo", "RAN"]);
        config["process"]["oomScoreAdj"] = json!(score);
        assert!(!world.run(&config).refused().contains("RAN"), "{score}");
    }
    Ok(())
}

/// CVE-2021-43784: numbers of things are not cut to fit.
fn many_mounts(world: &World) -> Result<(), Failed> {
    let volume = world.dir.join("volume");
    std::fs::create_dir(&volume).unwrap();
    let mut config = world.script("ls /m | grep -c . ; grep -c ' /m/' /proc/self/mountinfo; ls -l /proc/self/ns");
    for number in 0..600 {
        let mount = world.bind(&volume, &format!("/m/{number}"));
        config["mounts"].as_array_mut().unwrap().push(mount);
    }
    let text = world.run(&config).good();
    assert!(text.starts_with("600\n600\n"), "{text}");
    for kind in ["mnt", "pid", "net", "uts", "ipc", "cgroup"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}"))?;
        assert!(!text.contains(&*own.to_string_lossy()), "{kind}: {text}");
    }
    // Beyond any count that fits into a small number: an answer, and soon.
    let mut config = world.config(&["echo", "RAN"]);
    let many = vec![json!({"destination": "/proc/self", "type": "tmpfs"}); 70_000];
    config["mounts"] = Value::Array([config["mounts"].as_array().unwrap().clone(), many].concat());
    let started = Instant::now();
    let text = world.run(&config).refused();
    assert!(!text.contains("RAN") && started.elapsed().as_secs() < 30, "{:?} {text:.300}", started.elapsed());
    Ok(())
}

fn long_words(world: &World) -> Result<(), Failed> {
    let long = "x".repeat(64 << 10);
    let huge = "y".repeat(1 << 20);
    let deep = "/d".repeat(2040);
    let cases: [(&str, Value); 8] = [
        ("/mounts/0/destination", json!(format!("/{long}"))),
        ("/mounts/0/source", json!(long)),
        ("/process/cwd", json!(format!("/{long}"))),
        ("/process/env", json!(["PATH=/bin", format!("A={huge}")])),
        ("/process/args", json!(["true", huge])),
        ("/hostname", json!(long)),
        ("/linux/maskedPaths", json!([format!("/{long}")])),
        ("/linux/cgroupsPath", json!(format!("/{long}"))),
    ];
    for (place, value) in cases {
        let mut config = world.config(&["echo", "RAN"]);
        *config.pointer_mut(place).unwrap() = value;
        let ending = world.run(&config);
        // Some of these the kernel ignores (the source of a procfs); none is cut in the middle.
        assert!(matches!(ending.code, Some(0 | 1)), "{place}: {:?} {:.300}", ending.code, ending.text);
        assert!(
            !ending.text.contains("panicked") && !ending.text.contains("ended before it stood"),
            "{place}: {:.300}",
            ending.text
        );
    }
    // The honest: as long as Linux allows.
    let mut config = world.config(&["sh", "-c", "echo ${#A}"]);
    config["process"]["env"] = json!(["PATH=/bin", format!("A={}", "z".repeat(100_000))]);
    assert_eq!(world.run(&config).good(), "100000\n");
    let mut config = world.config(&["true"]);
    config["process"]["cwd"] = json!(deep);
    assert!(matches!(world.run(&config).code, Some(0 | 1)));
    Ok(())
}

fn many_id_maps(world: &World) -> Result<(), Failed> {
    let maps = |count: u32| -> Vec<Value> {
        (0..count).map(|id| json!({"containerID": id, "hostID": 100_000 + id * 2, "size": 1})).collect()
    };
    let config = |count: u32| {
        let mut config = world.config(&["sh", "-c", "grep -c . /proc/self/uid_map; cat /proc/self/setgroups"]);
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        config["linux"]["uidMappings"] = json!(maps(count));
        config["linux"]["gidMappings"] = json!(maps(count));
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
        config
    };
    // Root of the namespace may not make them in somebody else's image.
    for mount_point in ["proc", "dev", "sys"] {
        std::fs::create_dir(world.inside(mount_point)).unwrap();
    }
    let few = world.run(&config(2));
    if !few.is_good() && few.text.contains("user namespace") {
        println!("skipped: no user namespaces here: {}", few.text);
        return Ok(());
    }
    assert!(few.good().starts_with("2\n"));
    assert!(world.run(&config(300)).good().starts_with("300\n"));
    // The kernel takes 340.
    world.run(&config(341)).refused();
    world.run(&config(5000)).refused();
    // Maps that overlap, that wrap around.
    let mut wrong = config(2);
    wrong["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 4_294_967_295u32, "size": 4_294_967_295u32}]);
    world.run(&wrong).refused();
    Ok(())
}

fn deep_and_broken_documents(world: &World) -> Result<(), Failed> {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let documents = [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "{\"ociVersion\":\"1.2.0\"".to_owned(),
        format!("{{\"process\":{deep}}}"),
        format!("{{\"unknown\":{deep}}}"),
        format!("{{\"annotations\":{{\"a\":\"{}\"}}}}", "x".repeat(17 << 20)),
        "\u{feff}{}".to_owned(),
    ];
    for document in documents {
        std::fs::write(world.dir.join("bundle/config.json"), &document).unwrap();
        let bundle = world.dir.join("bundle");
        let text = world.runtime(&["run", "--bundle", &bundle.to_string_lossy(), world.id()]).refused();
        assert!(text.len() < 10_000, "{document:.80}: {} bytes", text.len());
    }
    Ok(())
}
