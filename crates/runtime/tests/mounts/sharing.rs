//! Propagation: what the host mounts later, and what the container does.

use std::fs;
use std::path::Path;

use libtest_mimic::Failed;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use serde_json::json;

use crate::Test;
use crate::world::{World, bind, mounts_below};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("propagation_words", propagation_words),
    ("a_shared_volume_reaches_the_host", a_shared_volume_reaches_the_host),
    ("root_propagation", root_propagation),
];

/// A volume of the host that is a mount of its own, shared.
fn shared(world: &World) -> String {
    let dir = world.dir.join("shared");
    fs::create_dir(&dir).unwrap();
    mount_bind(&dir, &dir).unwrap();
    mount_change(&dir, MountPropagationFlags::SHARED).unwrap();
    fs::create_dir(dir.join("point")).unwrap();
    dir.to_str().unwrap().to_owned()
}

fn propagation_words(world: &World) -> Result<(), Failed> {
    let volume = shared(world);
    let script = "grep ' /volume ' /proc/self/mountinfo";
    for (root, word, wanted) in [
        ("", "", ["master:", ""]),
        ("", "rprivate", ["", ""]),
        ("", "rslave", ["master:", ""]),
        ("", "rshared", ["shared:", "master:"]),
        ("rshared", "rshared", ["shared:", ""]),
        ("rshared", "rslave", ["shared:", "master:"]),
        ("rslave", "rslave", ["master:", ""]),
        ("rprivate", "rslave", ["", ""]),
        ("", "unbindable", ["unbindable", ""]),
    ] {
        let options: &[&str] = if word.is_empty() { &[] } else { &[word] };
        let mut config = world.with_mount(script, bind(&volume, "/volume", options));
        config["linux"]["rootfsPropagation"] = json!(root);
        let output = world.run(&config).unwrap();
        let fields = output.split(" - ").next().unwrap();
        for sign in ["shared:", "master:", "unbindable"] {
            assert_eq!(fields.contains(sign), wanted.contains(&sign), "root {root:?}, mount {word:?}: {output}");
        }
    }
    assert_eq!(mounts_below(&world.dir), [Path::new(&volume)]);
    Ok(())
}

fn a_shared_volume_reaches_the_host(world: &World) -> Result<(), Failed> {
    let volume = shared(world);
    let point = Path::new(&volume).join("point");
    let script = "mount -t tmpfs x /volume/point && echo mounted";
    for (word, reaches) in [("rshared", true), ("rslave", false), ("rprivate", false)] {
        let mut config = world.with_mount(script, bind(&volume, "/volume", &[word]));
        config["linux"]["rootfsPropagation"] = json!("rshared");
        let all = json!(["CAP_SYS_ADMIN"]);
        config["process"]["capabilities"] = json!({"bounding": all, "effective": all, "permitted": all});
        assert_eq!(world.run(&config).unwrap(), "mounted\n", "{word}");
        assert_eq!(mounts_below(&world.dir).contains(&point), reaches, "{word}");
        if reaches {
            rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH).unwrap();
        }
    }
    Ok(())
}

fn root_propagation(world: &World) -> Result<(), Failed> {
    // A host whose every mount is shared, as systemd makes it.
    let bundle = world.dir.join("bundle");
    mount_bind(&bundle, &bundle).unwrap();
    mount_change(&bundle, MountPropagationFlags::SHARED | MountPropagationFlags::REC).unwrap();
    fs::create_dir(world.root("sub")).unwrap();
    mount("tmpfs", world.root("sub"), "tmpfs", MountFlags::empty(), None).unwrap();
    let before = mounts_below(&world.dir);
    for (word, wanted) in [
        ("", ["", ""]),
        ("private", ["", ""]),
        ("rprivate", ["", ""]),
        ("slave", ["master:", ""]),
        ("rslave", ["master:", ""]),
        ("shared", ["shared:", ""]),
        ("rshared", ["shared:", ""]),
        ("unbindable", ["unbindable", ""]),
    ] {
        let volume = bind(&world.path("volume"), "/sub/volume", &["rprivate"]);
        let mut config = world.with_mount("grep ' / / \\| /bundle/rootfs / ' /proc/self/mountinfo", volume);
        config["linux"]["rootfsPropagation"] = json!(word);
        config["process"]["args"][2] = json!("awk '$5 == \"/\"' /proc/self/mountinfo");
        let output = world.run(&config).unwrap();
        let fields = output.split(" - ").next().unwrap();
        for sign in ["shared:", "master:", "unbindable"] {
            assert_eq!(fields.contains(sign), wanted.contains(&sign), "{word:?}: {output}");
        }
        assert_eq!(mounts_below(&world.dir), before, "{word:?} leaves something on the host");
    }
    Ok(())
}
