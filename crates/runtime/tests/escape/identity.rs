//! Who a program is, what it may, what it is told.

use std::os::unix::fs::PermissionsExt;

use libtest_mimic::Failed;
use rustix::fs::XattrFlags;
use serde_json::json;

use crate::Test;
use crate::world::{World, copy};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("capabilities_are_neither_inherited_nor_ambient", capabilities_are_neither_inherited_nor_ambient),
    ("groups_are_exactly_those_given", groups_are_exactly_those_given),
    ("users_that_are_none", users_that_are_none),
    ("environment_is_only_what_is_given", environment_is_only_what_is_given),
    ("hooks_know_nothing_of_the_image", hooks_know_nothing_of_the_image),
];

const STATUS: &str = "grep -E ^Cap /proc/self/status";

/// A line of /proc/self/status as a number.
fn set(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    u64::from_str_radix(line.unwrap_or_else(|| panic!("no {name} in {text}")).trim(), 16).unwrap()
}

/// CVE-2022-24769 and -29162, CVE-2025-27612.
fn capabilities_are_neither_inherited_nor_ambient(world: &World) -> Result<(), Failed> {
    const DEFAULT: u64 = 0xa804_25fb;
    // A program that would raise everything that can be inherited.
    std::fs::create_dir(world.inside("raising")).unwrap();
    let program = world.inside("raising/cat");
    copy(&world.inside("bin/busybox"), &program);
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let mut attribute = [0x0200_0001u32, 0, u32::MAX, 0, 0x1ff].map(u32::to_le_bytes).concat();
    let set_capabilities = rustix::fs::setxattr(&program, "security.capability", &attribute, XattrFlags::empty());
    attribute.clear();
    for uid in [0, 1000] {
        let mut config = world.script(STATUS);
        config["process"]["user"]["uid"] = json!(uid);
        let given = if uid == 0 { DEFAULT } else { 0 };
        let check = |text: &str, given: u64| {
            assert_eq!(set(text, "CapInh:"), 0, "uid {uid}: {text}");
            assert_eq!(set(text, "CapAmb:"), 0, "uid {uid}: {text}");
            assert_eq!(set(text, "CapEff:"), given, "uid {uid}: {text}");
            assert_eq!(set(text, "CapPrm:"), given, "uid {uid}: {text}");
        };
        check(&world.run(&config).good(), given);
        config["process"]["args"] = json!(["sleep", "1000"]);
        let container = world.start(&config);
        check(&container.exec(&[], &["sh", "-c", STATUS]).good(), given);
        // More for one program is not more for its children.
        let more = if uid == 0 { given | 1 << 12 } else { 0 };
        check(&container.exec(&["--cap", "CAP_NET_ADMIN"], &["sh", "-c", STATUS]).good(), more);
        if set_capabilities.is_ok() && uid != 0 {
            let text = container.exec(&[], &["/raising/cat", "/proc/self/status"]).good();
            check(&text, 0);
        }
    }
    // The honest: ambient capabilities that were asked for.
    let mut config = world.script(STATUS);
    config["process"]["user"]["uid"] = json!(1000);
    for kind in ["inheritable", "ambient"] {
        config["process"]["capabilities"][kind] = json!(["CAP_KILL"]);
    }
    assert_eq!(set(&world.run(&config).good(), "CapEff:"), 1 << 5);
    // No capabilities at all.
    let mut config = world.script(STATUS);
    config["process"]["capabilities"] = json!({});
    let text = world.run(&config).good();
    assert_eq!((set(&text, "CapEff:"), set(&text, "CapBnd:")), (0, 0), "{text}");
    config["process"].as_object_mut().unwrap().remove("capabilities");
    let text = world.run(&config).good();
    assert_eq!((set(&text, "CapEff:"), set(&text, "CapInh:")), (0, 0), "{text}");
    Ok(())
}

/// CVE-2022-36109 and its like; the image's group file has no say.
fn groups_are_exactly_those_given(world: &World) -> Result<(), Failed> {
    let cases = [
        (json!({"uid": 0, "gid": 0}), "0 0 0"),
        (json!({"uid": 1000, "gid": 1000}), "1000 1000 1000"),
        (json!({"uid": 1000, "gid": 0}), "1000 0 0"),
        (json!({"uid": 0, "gid": 7, "additionalGids": [5, 6]}), "0 7 7 5 6"),
        (json!({"uid": 1000, "gid": 5, "additionalGids": [5]}), "1000 5 5"),
        (json!({"uid": 4_294_967_294u32, "gid": 4_294_967_294u32}), "4294967294 4294967294 4294967294"),
        // A name is not looked up, and nobody is root for lack of one.
        (json!({"uid": 33, "gid": 34, "username": "root"}), "33 34 34"),
    ];
    for (user, expected) in cases {
        let script = "echo $(id -u) $(id -g) $(id -G)";
        let mut config = world.script(script);
        config["process"]["user"] = user.clone();
        assert_eq!(world.run(&config).good().trim(), expected, "{user}");
        config["process"]["args"] = json!(["sleep", "1000"]);
        let container = world.start(&config);
        assert_eq!(container.exec(&[], &["sh", "-c", script]).good().trim(), expected, "exec: {user}");
    }
    Ok(())
}

/// CVE-2024-40635, CVE-2016-3697, CVE-2026-30892: what is no id is not root.
fn users_that_are_none(world: &World) -> Result<(), Failed> {
    let none = [
        json!(-1),
        json!(4_294_967_295u64),
        json!(4_294_967_296u64),
        json!(4_294_968_296u64),
        json!(1.5),
        json!("0"),
        json!("root"),
        json!([0]),
        json!(true),
    ];
    for value in none {
        for field in ["uid", "gid", "additionalGids"] {
            let mut config = world.config(&["id"]);
            let value = if field == "additionalGids" { json!([value]) } else { value.clone() };
            config["process"]["user"][field] = value.clone();
            let text = world.run(&config).refused();
            assert!(!text.contains("uid="), "{field} {value}: {text}");
        }
    }
    let container = world.start(&world.config(&["sleep", "1000"]));
    let wrong = [
        "-1",
        "0x0",
        "",
        ":",
        "root",
        "4294967295",
        "4294967296",
        "4294968296",
        "1000:4294967296",
        "1000:",
        ":0",
        "0 ",
        " 0",
        "1e3",
        "1000:1000:1000",
        "٣",
    ];
    for user in wrong {
        let ending = container.exec(&[&format!("--user={user}")[..]], &["id"]);
        assert!(!ending.is_good() && !ending.text.contains("uid="), "{user:?}: {ending:?}");
    }
    // The honest; the image names its root account "1000".
    let text = container.exec(&["--user", "1000:7"], &["sh", "-c", "echo $(id -u) $(id -g)"]).good();
    assert_eq!(text, "1000 7\n");
    Ok(())
}

/// CVE-2026-57231: the caller's environment is nobody else's.
fn environment_is_only_what_is_given(world: &World) -> Result<(), Failed> {
    for wrong in ["PATH", "SECRET", "*", "", "=x", "A\0B=c"] {
        let mut config = world.config(&["env"]);
        config["process"]["env"] = json!(["PATH=/bin", wrong]);
        let text = world.run(&config).refused();
        assert!(text.contains("environment"), "{wrong:?}: {text}");
    }
    let mut config = world.config(&["env"]);
    config["process"]["env"] = json!(["PATH=/bin", "A=1", "A=2", "B=with\nline", "HOME=/h"]);
    assert_eq!(world.run(&config).good(), "PATH=/bin\nA=2\nB=with\nline\nHOME=/h\n");
    world.write_config(&config);
    let mut command = world.command(&["run", "--bundle", &world.dir.join("bundle").to_string_lossy(), world.id()]);
    let output = command.env("MARKER", "of-the-caller").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("A=2") && !text.contains("of-the-caller"), "{text}");
    // Notices of socket activation are the only exception, and only if they are there.
    assert!(!text.contains("LISTEN"), "{text}");
    Ok(())
}

/// CVE-2025-23266: hooks run on the host, without anything that the image says.
fn hooks_know_nothing_of_the_image(world: &World) -> Result<(), Failed> {
    let said = world.dir.join("said");
    let said = said.display();
    let hook = |point: &str| {
        let script = format!("{{ echo {point}; env; ls -l /proc/self/fd; readlink /proc/self/cwd; }} >> {said}");
        json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
    };
    let mut config = world.config(&["cat", "/tmp/said"]);
    config["process"]["env"] =
        json!(["PATH=/bin", "LD_PRELOAD=/marker.so", "LD_LIBRARY_PATH=/marker", "GLIBC_TUNABLES=marker"]);
    std::fs::create_dir_all(world.inside("root")).unwrap();
    for point in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        config["hooks"][point] = json!([hook(point)]);
    }
    // This one is the image's own affair, but what is open on the host is not.
    let script = "ls -l /proc/self/fd > /tmp/said; readlink /proc/self/cwd >> /tmp/said";
    config["hooks"]["startContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    let inside = world.run(&config).good();
    assert!(inside.ends_with("\n/\n"), "{inside}");
    let text = std::fs::read_to_string(said.to_string()).unwrap();
    for point in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        assert!(text.contains(&format!("{point}\n")), "{text}");
    }
    assert!(!text.contains("marker") && !text.contains("LD_"), "{text}");
    let rootfs = world.inside("");
    let rootfs = rootfs.to_string_lossy();
    let here = text.lines().filter(|line| *line == rootfs.trim_end_matches('/')).count();
    // That one is meant to see the image; it lies on the host and runs what the configuration says.
    assert!(here <= 1, "hooks other than createContainer ran in the image: {text}");
    // Nothing is open but its own streams, the file and the listing.
    let leaked: Vec<&str> =
        text.lines().chain(inside.lines()).filter(|line| line.contains(" -> ") && !is_own(line)).collect();
    assert!(leaked.is_empty(), "{leaked:#?}");
    Ok(())
}

fn is_own(line: &str) -> bool {
    const OWN: [&str; 5] = ["pipe:[", "/said", "/memfd:state", "/dev/null", "/proc/"];
    let to = line.rsplit(" -> ").next().unwrap_or_default();
    OWN.iter().any(|part| to.contains(part))
}
