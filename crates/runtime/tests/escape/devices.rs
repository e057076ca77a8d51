//! Device nodes: any may be made, few may be opened.

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::Test;
use crate::world::World;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("devices_are_denied_unless_allowed", devices_are_denied_unless_allowed),
    ("device_nodes_are_what_they_claim", device_nodes_are_what_they_claim),
];

/// GHSA-g54h-m393-cpwq: every number is tried.
fn devices_are_denied_unless_allowed(world: &World) -> Result<(), Failed> {
    world.bring_probe();
    let opened = |config: &Value| -> Vec<String> {
        let text = world.run(config).good();
        text.lines().map(str::to_owned).collect()
    };
    let always = ["c 1:3", "c 1:5", "c 1:7", "c 1:8", "c 1:9", "c 5:0", "c 5:1", "c 5:2"];
    let allowed = |line: &String| {
        // Terminals of the container's own devpts have the majors 136 to 143.
        let pts = line.strip_prefix("c ").and_then(|rest| rest.split(':').next()).and_then(|major| major.parse().ok());
        // The kernel knows no device 0:0, and asks nobody about it.
        line.ends_with(" 0:0")
            || always.contains(&line.as_str())
            || pts.is_some_and(|major: u32| (136..=143).contains(&major))
    };
    let mut config = world.config(&["/bin/probe", "role-devices"]);
    let first = opened(&config);
    if first.iter().any(|line| line.starts_with("b ")) && first.len() > 500 {
        println!("skipped: the kernel enforces no device rules here");
        return Ok(());
    }
    let wrong: Vec<&String> = first.iter().filter(|line| !allowed(line)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    for needed in ["c 1:3", "c 1:5", "c 1:9"] {
        assert!(first.iter().any(|line| line == needed), "{needed} is missing in {first:?}");
    }
    // No list at all denies everything else as well; one more is one more.
    config["linux"]["resources"] = json!({});
    let none = opened(&config);
    assert!(
        none.iter().all(allowed),
        "without a list: {:?}",
        none.iter().filter(|line| !allowed(line)).collect::<Vec<_>>()
    );
    config["linux"]["resources"]["devices"] = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 15, "access": "rwm"},
        {"allow": true, "type": "b", "major": 7, "minor": 14, "access": "m"},
    ]);
    let more = opened(&config);
    let extra: Vec<&String> = more.iter().filter(|line| !allowed(line)).collect();
    assert_eq!(extra, ["c 10:15"], "{more:?}");
    Ok(())
}

/// What is there already stays only if it is the device that was asked for.
fn device_nodes_are_what_they_claim(world: &World) -> Result<(), Failed> {
    let mut config = world.config(&["stat", "-c", "%F %t:%T %a", "/x/fuse"]);
    config["linux"]["devices"] =
        json!([{"path": "/x/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 0, "gid": 0}]);
    // Directory and node are made.
    assert_eq!(world.run(&config).good(), "character special file a:e5 600\n");
    for (name, wrong) in [("a file", 0), ("a link", 1), ("a directory", 2)] {
        let node = world.inside("x/fuse");
        let _ = std::fs::remove_file(&node).or_else(|_| std::fs::remove_dir(&node));
        match wrong {
            0 => std::fs::write(&node, "").unwrap(),
            1 => std::os::unix::fs::symlink(world.canary().join("new"), &node).unwrap(),
            _ => std::fs::create_dir(&node).unwrap(),
        }
        let text = world.run(&config).refused();
        assert!(text.contains("/x/fuse"), "{name}: {text}");
    }
    // A directory on the way that is a link leads nowhere but into the root.
    let mut config = config.clone();
    std::os::unix::fs::symlink(world.canary(), world.inside("y")).unwrap();
    config["linux"]["devices"][0]["path"] = json!("/y/fuse");
    config["process"]["args"] = json!(["stat", "-c", "%t:%T", "/y/fuse"]);
    assert_eq!(world.run(&config).good(), "a:e5\n");
    Ok(())
}
