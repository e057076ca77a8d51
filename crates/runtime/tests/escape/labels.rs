//! Labels, kernel parameters and keys: what is the host's stays there, and
//! what is the container's arrives.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Failed;
use serde_json::json;

use crate::Test;
use crate::races::race;
use crate::world::World;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("labels_are_not_led_astray", labels_are_not_led_astray),
    ("race_for_labels_and_parameters", race_for_labels_and_parameters),
    ("keys_of_the_caller_are_out_of_reach", keys_of_the_caller_are_out_of_reach),
];

/// A parameter of every network namespace's own, and a value that is nowhere the default.
const PARAMETER: &str = "net.ipv4.ip_unprivileged_port_start";
const SHOWN: &str = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start";

/// CVE-2025-52881: nothing comes to lie over what labels and parameters are written through.
fn labels_are_not_led_astray(world: &World) -> Result<(), Failed> {
    symlink("/proc/self/attr", world.inside("attributes"))?;
    symlink("/proc/sys", world.inside("parameters"))?;
    let file = world.canary().join("file");
    for target in [
        "/proc/self/attr/exec",
        "/proc/self/attr/current",
        "/proc/self/attr/apparmor/exec",
        "/proc/thread-self/attr/exec",
        "/proc/1/attr/exec",
        "/proc/self",
        "/proc/sys/net/ipv4/ip_unprivileged_port_start",
        "/proc/sysrq-trigger",
        "/attributes/exec",
        "/parameters/net/ipv4/ip_unprivileged_port_start",
    ] {
        let mut config = world.config(&["echo", "RAN"]);
        config["linux"]["sysctl"] = json!({PARAMETER: "1"});
        config["mounts"].as_array_mut().unwrap().push(world.bind(&file, target));
        let text = world.run(&config).refused();
        assert!(!text.contains("RAN"), "{target}: {text}");
    }
    // The honest: the parameter arrives, whatever the image has at /proc.
    std::fs::create_dir_all(world.inside("proc/sys/net/ipv4"))?;
    std::fs::write(world.inside("proc/sys/net/ipv4/ip_unprivileged_port_start"), "fake\n")?;
    let mut config = world.script(SHOWN);
    config["linux"]["sysctl"] = json!({PARAMETER: "77"});
    assert_eq!(world.run(&config).good(), "77\n");
    let fake = std::fs::read_to_string(world.inside("proc/sys/net/ipv4/ip_unprivileged_port_start"))?;
    assert_eq!(fake, "fake\n", "the image's file was written to");
    Ok(())
}

/// The same, while a neighbour exchanges a directory for a link into procfs.
fn race_for_labels_and_parameters(world: &World) -> Result<(), Failed> {
    let volume = world.dir.join("volume");
    std::fs::create_dir_all(volume.join("d/self/attr"))?;
    std::fs::create_dir_all(volume.join("d/sys/net/ipv4"))?;
    symlink("/proc", volume.join("l"))?;
    let file = world.canary().join("file");
    let mut config = world.script(&format!("{SHOWN}; cat /proc/self/attr/current 2>/dev/null; true"));
    config["linux"]["sysctl"] = json!({PARAMETER: "77"});
    let honest = world.run(&config).good();
    assert!(honest.starts_with("77\n"), "{honest}");
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.push(world.bind(&volume, "/v"));
    mounts.push(world.bind(&file, "/v/d/self/attr/exec"));
    mounts.push(world.bind(&file, "/v/d/sys/net/ipv4/ip_unprivileged_port_start"));
    let mut good = 0;
    let attempts = race(&volume.join("d"), &volume.join("l"), |_| {
        let ending = world.run(&config);
        if ending.is_good() {
            assert_eq!(ending.text, honest);
            good += 1;
        } else {
            ending.refused();
        }
    });
    assert!(attempts > 0);
    println!("{good} of {attempts} started");
    Ok(())
}

/// Serial numbers of the keyrings in `/proc/keys`, which shows everybody what they may see.
fn keyrings(text: &str) -> BTreeSet<String> {
    let rings = text.lines().filter(|line| line.contains(" keyring "));
    rings.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// Whoever has no keys sees only the session keyring it is in: a container's is
/// its own, and only on demand the caller's.
fn keys_of_the_caller_are_out_of_reach(world: &World) -> Result<(), Failed> {
    const STRANGER: u32 = 4242;
    if !Path::new("/proc/keys").exists() {
        println!("skipped: a kernel without keyrings");
        return Ok(());
    }
    let callers = Command::new("cat").arg("/proc/keys").uid(STRANGER).gid(STRANGER).output()?;
    let callers = keyrings(&String::from_utf8_lossy(&callers.stdout));
    let mut config = world.config(&["sleep", "1000"]);
    assert_eq!(world.run(&world.config(&["cat", "/proc/keys"])).good(), "", "it is not masked");
    config["linux"]["maskedPaths"] = json!([]);
    let bundle = world.dir.join("bundle").to_string_lossy().into_owned();
    for options in [&[][..], &["--no-new-keyring"]] {
        world.write_config(&config);
        world.runtime(&[&["run"], options, &["-d", "--bundle", &bundle, world.id()]].concat()).good();
        let words = ["exec", "--user", "4242:4242", world.id(), "cat", "/proc/keys"];
        let seen = keyrings(&world.runtime(&words).good());
        if options.is_empty() {
            assert!(!seen.is_empty() && seen.is_disjoint(&callers), "{seen:?} beside {callers:?}");
        } else {
            assert_eq!(seen, callers);
        }
        world.runtime(&["delete", "--force", world.id()]).good();
    }
    Ok(())
}
