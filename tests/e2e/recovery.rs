//! `kill -9` of the daemon: containers live on, and the next daemon knows them.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::{Suite, only_budu};
use budu_testkit::{Backend, Client, Engine, HOST, Options, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::shared::inspect;

pub(crate) fn tests(suite: &mut Suite) {
    suite.once(containers_survive);
    suite.once(exit_codes_from_the_time_between);
    suite.once(terminal_and_input_survive);
    suite.once(killed_again_and_again);
    suite.once(orderly_stop);
    suite.once(what_nobody_owns_is_reclaimed);
    suite.once(restart_policy);
}

fn start() -> Engine {
    Engine::start(Options { images: vec![BUSYBOX], ..Options::default() }).expect("starts")
}

fn crash(engine: &Engine) {
    assert_eq!(engine.stop_daemon(Signal::KILL).expect("ends"), 137);
}

fn containers_survive() {
    let engine = start();
    let docker = engine.client(Client::Docker);
    let script = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done";
    docker.ok(["run", "-d", "--name", "talker", BUSYBOX, "sh", "-c", script]);
    let publish = ["run", "-d", "--name", "server", "-p", "20999:80", "--label", "a=b"];
    docker.ok([&publish[..], &[BUSYBOX, "sh", "-c", "echo up > /index.html; exec httpd -f -p 80 -h /"]].concat());
    let before = [inspect(&engine, "talker"), inspect(&engine, "server")];
    crash(&engine);
    let pid = before[0]["State"]["Pid"].as_u64().expect("it runs");
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "the container died with the daemon");
    std::thread::sleep(Duration::from_millis(300));
    engine.start_daemon().expect("starts again");
    for (name, before) in ["talker", "server"].iter().zip(&before) {
        let after = inspect(&engine, name);
        for field in ["Id", "Created", "Name", "Image"] {
            assert_eq!(after[field], before[field]);
        }
        assert_eq!(after["State"]["Pid"], before["State"]["Pid"]);
        assert_eq!(after["State"]["Status"], "running");
        assert_eq!(after["State"]["StartedAt"], before["State"]["StartedAt"]);
        assert_eq!(after["NetworkSettings"]["Ports"], before["NetworkSettings"]["Ports"]);
        let ip = |state: &Value| state["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].clone();
        assert_eq!(ip(&after), ip(before));
    }
    assert_eq!(docker.ok(["ps", "-q"]).lines().count(), 2);
    // No line is missing, none is there twice, and they go on.
    let mut follow = docker.spawn(["logs", "-f", "talker"]).expect("starts");
    let lines = BufReader::new(follow.stdout.take().expect("piped")).lines();
    for (number, line) in lines.take(40).enumerate() {
        assert_eq!(line.expect("text"), format!("line {}", number + 1));
    }
    let _ = follow.kill();
    let _ = follow.wait();
    assert_eq!(docker.ok(["exec", "server", "cat", "/index.html"]), "up");
    let answer = engine.lan().in_network(|| std::net::TcpStream::connect((HOST, 20999)).is_ok());
    assert!(answer.expect("entered"), "the published port is gone");
    // Its address is not given to another.
    let ip = docker.ok(["run", "--rm", BUSYBOX, "hostname", "-i"]);
    assert!(before.iter().all(|state| state["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] != ip.as_str()));
    docker.ok(["stop", "-t", "0", "talker"]);
    assert_eq!(docker.ok(["wait", "talker"]), "137");
    docker.ok(["rm", "-f", "talker", "server"]);
    engine.finish().expect("nothing is left");
}

fn exit_codes_from_the_time_between() {
    only_budu("dockerd forgets them and says 255");
    let engine = start();
    let docker = engine.client(Client::Docker);
    let script = |code: u8| format!("while [ ! -e /go ]; do sleep 0.02; done; echo bye; exit {code}");
    for code in [0, 7, 77] {
        docker.ok(["run", "-d", "--name", &format!("code-{code}"), BUSYBOX, "sh", "-c", &script(code)]);
    }
    docker.ok(["run", "-d", "--rm", "--name", "gone", BUSYBOX, "sh", "-c", &script(1)]);
    docker.ok(["run", "-d", "--name", "shot", BUSYBOX, "sleep", "1000"]);
    let names = ["code-0", "code-7", "code-77", "gone", "shot"];
    let pids = names.map(|name| inspect(&engine, name)["State"]["Pid"].as_u64().expect("it runs"));
    crash(&engine);
    for pid in &pids[..4] {
        std::fs::write(format!("/proc/{pid}/root/go"), "").expect("the container runs");
    }
    let pid = i32::try_from(pids[4]).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, Signal::SEGV).expect("sent");
    rustix::process::kill_process(pid, Signal::KILL).expect("sent");
    for pid in pids {
        let path = format!("/proc/{pid}/ns/pid");
        wait::until("a container's end", Duration::from_secs(10), || std::fs::read_link(&path).is_err().then_some(()))
            .expect("ends without a daemon");
    }
    engine.start_daemon().expect("starts again");
    for (name, code) in [("code-0", 0), ("code-7", 7), ("code-77", 77), ("shot", 137)] {
        assert_eq!(docker.ok(["wait", name]), code.to_string(), "{name}");
        let state = &inspect(&engine, name)["State"];
        assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(code)), "{name}");
    }
    assert_eq!(docker.ok(["logs", "code-7"]), "bye");
    let gone = wait::until("the --rm container's removal", Duration::from_secs(10), || {
        docker.run(["inspect", "gone"]).ok().filter(|output| !output.success())
    });
    gone.expect("removed at the next start");
    docker.ok(["start", "code-0"]);
    engine.finish().expect("nothing is left");
}

fn terminal_and_input_survive() {
    let engine = start();
    let docker = engine.client(Client::Docker);
    docker.ok(["run", "-d", "-it", "--name", "shell", BUSYBOX, "sh"]);
    docker.ok(["run", "-d", "-i", "--name", "reader", BUSYBOX, "sh", "-c", "read line; echo got $line; exit 5"]);
    crash(&engine);
    engine.start_daemon().expect("starts again");
    let mut terminal = docker.terminal(["attach", "shell"]).expect("starts");
    std::thread::sleep(Duration::from_millis(300));
    terminal.send("echo a''live; exit 9\r").expect("typed");
    terminal.expect("alive").expect("the same shell");
    assert_eq!(terminal.wait().expect("ends"), 9);
    let output = docker.feed(["attach", "reader"], b"word\n").expect("runs");
    output.exits(5);
    assert_eq!(docker.ok(["logs", "reader"]), "got word");
    engine.finish().expect("nothing is left");
}

fn killed_again_and_again() {
    let engine = start();
    let docker = engine.client(Client::Docker);
    docker.ok(["run", "-d", "--name", "old", BUSYBOX, "sleep", "1000"]);
    for round in 0..3 {
        // Killed in the middle of work, wherever that is.
        let mut busy: Vec<_> = (0..3)
            .map(|number| {
                docker.spawn(["run", "-d", "--name", &format!("busy-{round}-{number}"), BUSYBOX, "sleep", "1000"])
            })
            .collect();
        std::thread::sleep(Duration::from_millis(40 * (round + 1)));
        crash(&engine);
        for child in busy.drain(..) {
            let _ = child.expect("starts").wait();
        }
        engine.start_daemon().expect("starts again");
        assert_eq!(inspect(&engine, "old")["State"]["Running"], true);
        // Whatever came of those, each can be removed and its name used again.
        for number in 0..3 {
            let name = format!("busy-{round}-{number}");
            docker.ok(["rm", "-f", &name]);
            docker.ok(["run", "--rm", "--name", &name, BUSYBOX, "true"]);
        }
    }
    // dockerd leaves mounts, control groups and shims behind here.
    if engine.backend() == Backend::Budu {
        engine.finish().expect("nothing is left");
    }
}

fn orderly_stop() {
    let engine = start();
    let docker = engine.client(Client::Docker);
    docker.ok(["run", "-d", "--name", "kept", BUSYBOX, "sleep", "1000"]);
    let pid = inspect(&engine, "kept")["State"]["Pid"].clone();
    assert_eq!(engine.stop_daemon(Signal::TERM).expect("ends"), 0);
    engine.start_daemon().expect("starts again");
    assert_eq!(inspect(&engine, "kept")["State"]["Pid"], pid, "an upgrade must not touch containers");
    engine.finish().expect("nothing is left");
}

fn what_nobody_owns_is_reclaimed() {
    let engine = start();
    let docker = engine.client(Client::Docker);
    docker.ok(["run", "-d", "--name", "killed", "-p", "20998:80", BUSYBOX, "sleep", "1000"]);
    let pids = engine.cage().processes();
    crash(&engine);
    // Power cut, without the reboot: everything that was running is gone.
    for pid in pids {
        if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
    wait::until("an empty machine", Duration::from_secs(10), || engine.cage().processes().is_empty().then_some(()))
        .expect("all killed");
    engine.start_daemon().expect("starts again");
    let state = inspect(&engine, "killed")["State"].clone();
    assert_eq!(state["Status"], "exited", "{state}");
    docker.ok(["start", "killed"]);
    docker.ok(["rm", "-f", "killed"]);
    docker.ok(["run", "--rm", "-p", "20998:80", BUSYBOX, "true"]);
    engine.finish().expect("nothing is left");
}

fn restart_policy() {
    let engine = start();
    let docker = engine.client(Client::Docker);
    docker.ok(["run", "-d", "--name", "phoenix", "--restart", "always", BUSYBOX, "sleep", "0.1"]);
    wait::until("a restart", Duration::from_secs(10), || {
        (inspect(&engine, "phoenix")["RestartCount"].as_u64() > Some(1)).then_some(())
    })
    .expect("restarted");
    docker.ok(["rm", "-f", "phoenix"]);
    engine.finish().expect("nothing is left");
}
