//! Attacks: images and containers that try to reach the host.

use std::path::{Path, PathBuf};

use budu_testkit::images::{BUSYBOX, HOSTILE, HOSTILE_TARGET, LINKED, TRAP};
use budu_testkit::suite::Suite;
use budu_testkit::{Client, Engine, Options};
use serde_json::json;

use crate::shared::{self, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.once(hostile_layers_stay_inside);
    suite.once(links_in_the_image_do_not_lead_out);
    suite.once(mount_targets_stay_inside);
    suite.once(container_cannot_replace_the_engine);
    suite.once(no_descriptor_of_the_engine_leaks);
    suite.once(sockets_and_state_are_private);
}

/// A path of the daemon's machine, as seen from here.
fn on_host(engine: &Engine, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{path}", engine.cage().pid()))
}

fn hostile_layers_stay_inside() {
    let options = Options { images: vec![BUSYBOX], ..Options::default() };
    let engine = Engine::start(options).expect("starts");
    let shadow = std::fs::metadata("/etc/shadow").expect("a Debian has this");
    for attack in HOSTILE {
        let image = format!("127.0.0.1:5000/hostile-{attack}:1");
        // Whether such an image is refused or tamed is the engine's choice; that nothing escapes is not.
        let pulled = engine.pull(&image);
        if pulled.is_ok() {
            let body = json!({"Image": image, "Cmd": ["true"]});
            let id = engine.http("POST", "/containers/create", Some(&body)).expect("answers");
            if id.status == 201 {
                let id = id.json()["Id"].as_str().expect("an id").to_owned();
                engine.http("POST", &format!("/containers/{id}/start"), None).expect("answers");
                engine.http("DELETE", &format!("/containers/{id}?force=1"), None).expect("answers");
            }
        }
        assert!(!on_host(&engine, HOSTILE_TARGET).exists(), "{attack}: wrote {HOSTILE_TARGET}");
        assert!(Path::new("/tmp").is_dir() && engine.path("data").is_dir(), "{attack}");
    }
    use std::os::unix::fs::MetadataExt;
    let after = std::fs::metadata("/etc/shadow").expect("still there");
    assert_eq!((shadow.nlink(), shadow.len()), (after.nlink(), after.len()));
    let docker = engine.client(Client::Docker);
    assert_eq!(docker.ok(["run", "--rm", BUSYBOX, "echo", "well"]), "well");
    engine.finish().expect("nothing is left");
}

/// The engine writes and mounts at paths that the image controls.
fn links_in_the_image_do_not_lead_out() {
    let engine = shared::engine();
    engine.pull(LINKED).expect("pulled");
    let trap = on_host(&engine, TRAP);
    std::fs::create_dir_all(trap.join("work")).expect("writable");
    let names = ["hosts", "hostname", "resolv.conf", "dockerenv"];
    for name in names {
        std::fs::write(trap.join(name), "untouched").expect("writable");
    }
    for name in ["scratch", "volume"] {
        std::fs::create_dir_all(trap.join(name)).expect("writable");
    }
    let volume = engine.path("linked-volume");
    std::fs::create_dir_all(&volume).expect("writable");
    let volume = format!("{}:/volume", volume.display());
    let flags = ["run", "--rm", "-w", "/work/inner", "--tmpfs", "/scratch", "-v", &volume];
    let script = "echo x > /volume/x; echo x > /scratch/x; echo x >> /etc/hosts; true";
    // Whether such an image runs is the engine's choice; where the links lead is not.
    let _ = shared::client(Client::Docker).run([&flags[..], &[LINKED, "sh", "-c", script]].concat()).expect("runs");
    for name in names {
        assert_eq!(std::fs::read_to_string(trap.join(name)).expect("there"), "untouched", "{name}");
    }
    for name in ["work", "scratch", "volume"] {
        let made: Vec<_> = std::fs::read_dir(trap.join(name)).expect("there").flatten().collect();
        assert!(made.is_empty(), "{name}: {made:?}");
    }
    // An empty volume takes over what the image has at its place, not what the host has.
    std::fs::write(trap.join("volume/secret"), "of the host").expect("writable");
    let docker = shared::client(Client::Docker);
    let taken = docker.run(["run", "--rm", "-v", "linked-data:/volume", LINKED, "ls", "/volume"]).expect("runs");
    assert!(!taken.stdout.contains("secret"), "{}", taken.stdout);
    docker.ok(["volume", "rm", "linked-data"]);
    std::fs::remove_dir_all(trap).expect("removed");
}

fn mount_targets_stay_inside() {
    let engine = shared::engine();
    let docker = engine.client(Client::Docker);
    let source = engine.path("mount-source");
    std::fs::create_dir_all(&source).expect("writable");
    let flag = format!("{}:/../../../../mnt/target", source.display());
    let seen = docker.ok(["run", "--rm", "-v", &flag, BUSYBOX, "sh", "-c", "grep -c ' /mnt/target ' /proc/mounts"]);
    assert_eq!(seen, "1");
    docker
        .run(["run", "--rm", "-v", &format!("{}:/", source.display()), BUSYBOX, "true"])
        .expect("runs")
        .exits(125)
        .complains("destination can't be '/'");
    docker.run(["run", "--rm", "-v", "relative/../path:/x", BUSYBOX, "true"]).expect("runs").exits(125);
}

/// The attack on `/proc/self/exe` of the program that enters a container.
fn container_cannot_replace_the_engine() {
    let engine = shared::engine();
    let docker = engine.client(Client::Docker);
    let name = name("exe");
    docker.ok(["run", "-d", "--name", &name, BUSYBOX, "sleep", "1000"]);
    // A process that entered would be visible for a moment; what it runs must not be writable from here.
    let script = "for i in $(seq 300); do for p in /proc/[0-9]*; do \
                    [ \"$(readlink $p/exe)\" = /bin/busybox ] || { echo x 2>/dev/null >> $p/exe && echo wrote $p; }; \
                  done; done 2>/dev/null; echo tried";
    std::thread::scope(|scope| {
        let attack = scope.spawn(|| docker.ok(["exec", &name, "sh", "-c", script]));
        for _ in 0..20 {
            docker.ok(["exec", &name, "true"]);
        }
        assert_eq!(attack.join().expect("no panic"), "tried");
    });
    docker.ok(["rm", "-f", &name]);
}

fn no_descriptor_of_the_engine_leaks() {
    let docker = shared::client(Client::Docker);
    let name = name("descriptors");
    let script = "ls /proc/self/fd | wc -l; for f in /proc/self/fd/*; do readlink $f; done | grep -v -e pipe: -e /proc -e null -e socket: | wc -l";
    docker.ok(["run", "-d", "--name", &name, BUSYBOX, "sleep", "1000"]);
    for seen in
        [docker.ok(["run", "--rm", BUSYBOX, "sh", "-c", script]), docker.ok(["exec", &name, "sh", "-c", script])]
    {
        let lines: Vec<&str> = seen.lines().collect();
        // Three standard streams, and the directory that is being listed.
        assert_eq!(lines, ["4", "0"], "{seen}");
    }
    // An environment of the daemon's is not the container's.
    let env = docker.ok(["run", "--rm", BUSYBOX, "env"]);
    assert!(!env.contains("RUST_BACKTRACE"), "{env}");
    docker.ok(["rm", "-f", &name]);
}

fn sockets_and_state_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let engine = shared::engine();
    let socket = std::fs::metadata(engine.socket()).expect("there").permissions().mode();
    assert_eq!(socket & 0o007, 0, "everybody may speak to the daemon: {socket:o}");
    let data = std::fs::metadata(engine.path("data")).expect("there").permissions().mode();
    assert_eq!(data & 0o006, 0, "everybody may list images and volumes: {data:o}");
}
