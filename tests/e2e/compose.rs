//! Docker's Compose as a client that nobody here wrote.

use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::{Suite, skip};
use budu_testkit::{Client, HOST, peers};

use crate::shared::{self, port};

pub(crate) fn tests(suite: &mut Suite) {
    suite.once(five_services);
}

fn five_services() {
    if !peers::compose().exists() {
        skip("no docker-compose: cargo xtask peers");
    }
    let (engine, port) = (shared::engine(), port());
    let project = shared::name("five");
    let text = include_str!("compose.yml").replace("PROJECT", &project).replace("IMAGE", BUSYBOX);
    let file = engine.path("compose.yml");
    std::fs::write(&file, text.replace("PORT", &port.to_string())).expect("written");
    let compose = engine.client(Client::Docker).with_program(peers::compose());
    let file = file.display().to_string();
    let run = |args: &[&str]| compose.ok([&["-f", &file, "--ansi", "never"], args].concat());
    run(&["up", "-d", "--wait", "--wait-timeout", "40"]);
    let running = run(&["ps", "--services", "--status", "running"]);
    let mut running: Vec<&str> = running.lines().collect();
    running.sort_unstable();
    assert_eq!(running, ["api", "cache", "db", "web"]);
    assert!(run(&["ps", "db"]).contains("(healthy)"));
    crate::network::serves(engine.lan(), &format!("{HOST}:{port}"), "composed");
    // The name was known when its owner's health let the asker start.
    assert!(run(&["exec", "-T", "api", "cat", "/tmp/seen"]).contains("10.79.3."));
    // A second time changes nothing; a service of a profile comes when it is called.
    let before = run(&["ps", "-q"]);
    run(&["up", "-d"]);
    assert_eq!(run(&["ps", "-q"]), before);
    run(&["--profile", "debug", "up", "-d", "--scale", "cache=2"]);
    let script = "nslookup -type=a cache 127.0.0.11 | grep -c '^Address.*10.79.3.'";
    assert_eq!(run(&["exec", "-T", "tools", "sh", "-c", script]), "2", "both of the scaled service");
    // What was stored stays when its service is made anew.
    run(&["up", "-d", "--force-recreate", "--no-deps", "--wait", "db"]);
    assert_eq!(run(&["exec", "-T", "db", "cat", "/data/log"]), "stored\nstored");
    run(&["logs", "--no-color"]);
    run(&["--profile", "debug", "down", "-v", "-t", "1"]);
    let docker = engine.client(Client::Docker);
    for args in [["network", "ls"], ["volume", "ls"]] {
        let left = docker
            .ok([&args[..], &["-q", "--filter", &format!("label=com.docker.compose.project={project}")]].concat());
        assert_eq!(left, "", "{args:?}");
    }
}
