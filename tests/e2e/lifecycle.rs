//! `ps`, `stop`, `kill`, `start`, `restart`, `wait`, `rm`, `inspect`, `top`, `version`, `info`, `events`.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::Suite;
use budu_testkit::{Client, ClientHandle};
use serde_json::{Value, json};

use crate::shared::{self, inspect, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(ps_table);
    suite.both(ps_filters_and_formats);
    suite.both(stop_asks_then_kills);
    suite.both(kill_sends_signals);
    suite.both(start_again);
    suite.both(restart_keeps_the_file_system);
    suite.both(wait_returns_exit_codes);
    suite.both(rm_refuses_what_runs);
    suite.both(inspect_shapes);
    suite.both(top_lists_processes);
    suite.both(version_and_info);
    suite.both(events_tell_the_story);
    suite.both(create_then_start_attached);
    suite.both(short_ids_and_prefixes);
    suite.both(stop_wakes_what_is_paused);
    suite.both(wait_sees_an_end_that_a_policy_follows);
    suite.both(restart_keeps_what_removes_itself);
}

/// Starts a container that reacts to signals as told; its name.
fn background(docker: &ClientHandle, stem: &str, flags: &[&str], script: &str) -> String {
    let name = name(stem);
    let run = ["run", "-d", "--name", &name];
    docker.ok([&run[..], flags, &[BUSYBOX, "sh", "-c", script]].concat());
    name
}

/// A script that says it is ready and then obeys: ends with 3 on SIGTERM and 4 on SIGUSR1.
const OBEDIENT: &str = "trap 'exit 3' TERM; trap 'exit 4' USR1; echo ready; while :; do sleep 0.05; done";

fn ready(docker: &ClientHandle, name: &str) {
    let found = budu_testkit::wait::until("a ready container", Duration::from_secs(10), || {
        docker.run(["logs", name]).ok().filter(|output| output.stdout.contains("ready"))
    });
    found.expect("the container says that it is ready");
}

fn ps_table(client: Client) {
    let docker = shared::client(client);
    let running = background(&docker, "ps-up", &["--label", "table=1"], "sleep 1000");
    let script = "exit 3 # a long command line that is cut";
    let ended = background(&docker, "ps-end", &["--label", "table=1"], script);
    docker.ok(["wait", &ended]);
    let table = docker.ok(["ps", "-a", "--filter", &format!("name={running}")]);
    let lines: Vec<&str> = table.lines().collect();
    let head: Vec<&str> = lines[0].split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
    assert_eq!(head, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    assert_eq!(lines.len(), 2, "{table}");
    let id = docker.ok(["inspect", "--format", "{{.Id}}", &running]);
    assert!(lines[1].starts_with(&format!("{}   {BUSYBOX}   \"sh -c 'sleep 1000'\"   ", &id[..12])), "{table}");
    assert!(lines[1].contains(" ago   Up ") && lines[1].ends_with(&running), "{table}");
    let table = docker.ok(["ps", "-a", "--filter", &format!("name={ended}")]);
    assert!(table.contains("\"sh -c 'exit 3 # a l…\""), "{table}");
    assert!(table.contains("Exited (3) ") && table.contains(" ago "), "{table}");
    assert!(!docker.ok(["ps"]).contains(&ended), "only running containers without -a");
    docker.ok(["rm", "-f", &running, &ended]);
}

fn ps_filters_and_formats(client: Client) {
    let docker = shared::client(client);
    let mark = name("mark");
    let label = format!("mark={mark}");
    let filter = format!("label={label}");
    let up = background(&docker, "filter-up", &["--label", &label], "sleep 1000");
    let down = background(&docker, "filter-down", &["--label", &label], "exit 5");
    docker.ok(["wait", &down]);
    let list = |args: &[&str]| {
        let found = docker.ok([&["ps", "--filter", &filter, "--format", "{{.Names}}"], args].concat());
        let mut names: Vec<String> = found.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(list(&[]), std::slice::from_ref(&up));
    assert_eq!(list(&["-a"]), [down.clone(), up.clone()]);
    assert_eq!(list(&["--filter", "status=exited"]), std::slice::from_ref(&down));
    assert_eq!(list(&["-a", "--filter", "exited=5"]), std::slice::from_ref(&down));
    assert_eq!(list(&["-a", "--filter", &format!("ancestor={BUSYBOX}")]).len(), 2);
    let id = docker.ok(["inspect", "-f", "{{.Id}}", &up]);
    assert_eq!(docker.ok(["ps", "-q", "--filter", &filter]), id[..12]);
    assert_eq!(docker.ok(["ps", "-q", "--no-trunc", "--filter", &filter]), id);
    let json = docker.ok(["ps", "--filter", &filter, "--format", "json"]);
    let json: Value = serde_json::from_str(&json).expect("one object");
    assert_eq!(json["Names"], up.as_str());
    assert_eq!(json["State"], "running");
    let table = docker.ok(["ps", "--filter", &filter, "--format", "table {{.ID}}\t{{.State}}"]);
    assert_eq!(table, format!("CONTAINER ID   STATE\n{}   running", &id[..12]));
    docker.run(["ps", "--filter", "nonsense=1"]).expect("runs").exits(1).complains("invalid filter");
    docker.ok(["rm", "-f", &up, &down]);
}

fn stop_asks_then_kills(client: Client) {
    let docker = shared::client(client);
    let polite = background(&docker, "stop", &[], OBEDIENT);
    ready(&docker, &polite);
    assert_eq!(docker.ok(["stop", &polite]), polite);
    assert_eq!(inspect(&shared::engine(), &polite)["State"]["ExitCode"], 3);
    docker.ok(["stop", &polite]);
    let stubborn = background(&docker, "stop", &[], "trap '' TERM; echo ready; while :; do sleep 1; done");
    ready(&docker, &stubborn);
    let start = Instant::now();
    docker.ok(["stop", "-t", "1", &stubborn]);
    assert!(start.elapsed() >= Duration::from_secs(1));
    let state = &inspect(&shared::engine(), &stubborn)["State"];
    assert_eq!((&state["ExitCode"], &state["Status"]), (&137.into(), &"exited".into()));
    let other = background(&docker, "stop", &["--stop-signal", "SIGUSR1"], OBEDIENT);
    ready(&docker, &other);
    docker.ok(["stop", &other]);
    assert_eq!(inspect(&shared::engine(), &other)["State"]["ExitCode"], 4);
    docker.run(["stop", "no-such-container"]).expect("runs").exits(1).complains("No such container: no-such-container");
    docker.ok(["rm", &polite, &stubborn, &other]);
}

fn kill_sends_signals(client: Client) {
    let docker = shared::client(client);
    let one = background(&docker, "kill", &[], OBEDIENT);
    ready(&docker, &one);
    docker.ok(["kill", "-s", "USR1", &one]);
    assert_eq!(docker.ok(["wait", &one]), "4");
    docker.run(["kill", &one]).expect("runs").exits(1).complains("is not running");
    let two = background(&docker, "kill", &[], "sleep 1000");
    docker.ok(["kill", &two]);
    assert_eq!(docker.ok(["wait", &two]), "137");
    let three = background(&docker, "kill", &[], "sleep 1000");
    docker.run(["kill", "-s", "NOSUCH", &three]).expect("runs").exits(1).complains("nvalid signal: NOSUCH");
    docker.ok(["rm", "-f", &one, &two, &three]);
}

fn start_again(client: Client) {
    let docker = shared::client(client);
    let name = background(&docker, "start", &[], "echo run >> /count; wc -l < /count; exit 6");
    docker.ok(["wait", &name]);
    assert_eq!(docker.ok(["start", &name]), name);
    docker.ok(["wait", &name]);
    docker.run(["start", "-a", &name]).expect("runs").exits(6);
    assert_eq!(docker.ok(["logs", &name]), "1\n2\n3");
    docker.ok(["rm", &name]);
}

fn restart_keeps_the_file_system(client: Client) {
    let docker = shared::client(client);
    let script = format!("echo boot >> /boots; {OBEDIENT}");
    let name = background(&docker, "restart", &[], &script);
    ready(&docker, &name);
    let before = inspect(&shared::engine(), &name);
    assert_eq!(docker.ok(["restart", &name]), name);
    let after = inspect(&shared::engine(), &name);
    assert_ne!(before["State"]["StartedAt"], after["State"]["StartedAt"]);
    assert_eq!(after["State"]["Running"], true);
    assert_eq!(after["RestartCount"], 0);
    let boots = budu_testkit::wait::until("the second boot", Duration::from_secs(5), || {
        (docker.ok(["exec", &name, "wc", "-l", "/boots"]) == "2 /boots").then_some(())
    });
    boots.expect("the file system is the same");
    docker.ok(["rm", "-f", &name]);
}

fn wait_returns_exit_codes(client: Client) {
    let docker = shared::client(client);
    let one = background(&docker, "wait", &[], "sleep 0.3; exit 9");
    let two = background(&docker, "wait", &[], "exit 0");
    assert_eq!(docker.ok(["wait", &one, &two]), "9\n0");
    docker.run(["wait", "no-such"]).expect("runs").exits(1).complains("No such container: no-such");
    docker.ok(["rm", &one, &two]);
}

fn rm_refuses_what_runs(client: Client) {
    let docker = shared::client(client);
    let name = background(&docker, "rm", &[], "sleep 1000");
    docker
        .run(["rm", &name])
        .expect("runs")
        .exits(1)
        .complains("cannot remove container")
        .complains("container is running: stop the container before removing or force remove");
    assert_eq!(docker.ok(["rm", "-f", &name]), name);
    docker.run(["rm", &name]).expect("runs").exits(1).complains(&format!("No such container: {name}"));
    // -f is about the outcome: gone is gone.
    docker.run(["rm", "-f", &name]).expect("runs").exits(0);
}

fn inspect_shapes(client: Client) {
    let docker = shared::client(client);
    let name = background(&docker, "inspect", &["-e", "K=v"], "sleep 1000");
    let json: Value = serde_json::from_str(&docker.ok(["inspect", &name])).expect("an array");
    let one = &json[0];
    assert_eq!(one["Path"], "sh");
    assert_eq!(one["Args"], serde_json::json!(["-c", "sleep 1000"]));
    assert_eq!(one["Config"]["Image"], BUSYBOX);
    assert!(one["Image"].as_str().is_some_and(|id| id.starts_with("sha256:")), "{one}");
    assert_eq!(one["HostConfig"]["NetworkMode"], "bridge");
    assert_eq!(one["State"]["FinishedAt"], "0001-01-01T00:00:00Z");
    assert!(
        one["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().is_some_and(|ip| ip.starts_with("10.88."))
    );
    assert_eq!(one["Mounts"], serde_json::json!([]));
    let format = "{{.State.Running}} {{json .Config.Cmd}} {{index .Config.Env 0}} {{range .Args}}[{{.}}]{{end}}";
    let line = docker.ok(["inspect", "-f", format, &name]);
    assert_eq!(line, "true [\"sh\",\"-c\",\"sleep 1000\"] K=v [-c][sleep 1000]");
    let output = docker.run(["inspect", &name, "no-such-thing"]).expect("runs");
    output.exits(1).complains("No such object: no-such-thing");
    let found: Value = serde_json::from_str(&output.stdout).expect("what was found");
    assert_eq!(found.as_array().map(Vec::len), Some(1));
    docker.ok(["rm", "-f", &name]);
}

fn top_lists_processes(client: Client) {
    let docker = shared::client(client);
    let name = background(&docker, "top", &[], "sleep 1234 & sleep 4321; true");
    let listed = budu_testkit::wait::until("three processes", Duration::from_secs(5), || {
        let table = docker.ok(["top", &name]);
        (table.lines().count() == 4).then_some(table)
    });
    let table = listed.expect("sh and two sleeps");
    let head: Vec<&str> = table.lines().next().unwrap_or("").split_whitespace().collect();
    assert_eq!(head, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert!(table.contains("sleep 1234") && table.contains("sleep 4321"), "{table}");
    docker.ok(["rm", "-f", &name]);
    docker.run(["top", &name]).expect("runs").exits(1);
}

fn version_and_info(client: Client) {
    let docker = shared::client(client);
    let version = docker.ok(["version"]);
    assert!(version.starts_with("Client:") && version.contains("\nServer:"), "{version}");
    let api = docker.ok(["version", "--format", "{{.Server.APIVersion}}"]);
    let minor: u32 = api.trim_start_matches("1.").parse().expect("1.x");
    assert!(minor >= 51, "{api}");
    let info = docker.ok(["info"]);
    for line in [
        "Containers:",
        "Server Version:",
        "Storage Driver: overlay",
        "Cgroup Version:",
        "Kernel Version:",
        "Total Memory:",
        "Docker Root Dir:",
    ] {
        assert!(info.contains(line), "{line} is not in {info}");
    }
    let root = docker.ok(["info", "-f", "{{.DockerRootDir}}"]);
    assert_eq!(root, shared::engine().path("data").display().to_string());
}

fn events_tell_the_story(client: Client) {
    let docker = shared::client(client);
    let name = name("events");
    let filter = format!("container={name}");
    let mut child = docker
        .spawn(["events", "--filter", &filter, "--format", "{{.Action}} {{index .Actor.Attributes \"name\"}}"])
        .expect("the client starts");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let (send, events) = std::sync::mpsc::channel();
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    // The subscription stands once an event arrives that was caused after it.
    let probe = budu_testkit::wait::until("the first event", Duration::from_secs(10), || {
        docker.ok(["create", "--name", &name, BUSYBOX, "sh", "-c", "exit 2"]);
        let seen = events.recv_timeout(Duration::from_millis(200)).ok();
        if seen.is_none() {
            docker.ok(["rm", &name]);
        }
        seen
    });
    assert!(probe.expect("an event").ends_with(&format!(" {name}")));
    while events.recv_timeout(Duration::from_millis(100)).is_ok() {}
    docker.ok(["start", &name]);
    docker.ok(["wait", &name]);
    docker.ok(["rm", &name]);
    let mut story = Vec::new();
    while story.last().is_none_or(|last: &String| !last.starts_with("destroy")) {
        story.push(events.recv_timeout(Duration::from_secs(10)).expect("an event"));
    }
    let _ = child.kill();
    let _ = child.wait();
    let expected = ["start", "die", "destroy"].map(|action| format!("{action} {name}"));
    assert_eq!(story, expected);
    let past = ["events", "--since", "10m", "--until", &shared::in_seconds(1)];
    let past = docker.ok([&past[..], &["--filter", &filter, "--filter", "event=die"]].concat());
    assert!(past.contains("container die ") && past.contains("exitCode=2"), "{past}");
}

fn create_then_start_attached(client: Client) {
    let docker = shared::client(client);
    let id = docker.ok(["create", "-i", BUSYBOX, "cat"]);
    assert_eq!(inspect(&shared::engine(), &id)["State"]["Status"], "created");
    let listed = docker.ok(["ps", "-a", "--filter", &format!("id={id}"), "--format", "{{.Status}}"]);
    assert_eq!(listed, "Created");
    let output = docker.feed(["start", "-a", "-i", &id], b"through\n").expect("runs");
    assert_eq!(output.ok(), "through");
    docker.ok(["rm", &id]);
}

fn short_ids_and_prefixes(client: Client) {
    let docker = shared::client(client);
    let id = docker.ok(["create", BUSYBOX]);
    assert_eq!(docker.ok(["inspect", "-f", "{{.Id}}", &id[..12]]), id);
    assert_eq!(docker.ok(["inspect", "-f", "{{.Id}}", &id[..7]]), id);
    assert_eq!(docker.ok(["rm", &id[..12]]), id[..12]);
}

fn stop_wakes_what_is_paused(client: Client) {
    let docker = shared::client(client);
    let name = background(&docker, "paused", &[], OBEDIENT);
    ready(&docker, &name);
    docker.ok(["pause", &name]);
    let started = Instant::now();
    docker.ok(["stop", "-t", "60", &name]);
    assert!(started.elapsed() < Duration::from_secs(30), "it was asked, not killed after its time");
    let state = &inspect(&shared::engine(), &name)["State"];
    assert_eq!((&state["ExitCode"], &state["Status"]), (&json!(3), &json!("exited")));
    docker.ok(["rm", &name]);
}

fn wait_sees_an_end_that_a_policy_follows(client: Client) {
    let docker = shared::client(client);
    let name = background(&docker, "again", &["--restart", "always"], OBEDIENT);
    ready(&docker, &name);
    let mut waiting = docker.spawn(["wait", &name]).expect("starts");
    // The daemon has the request once the client's connection is there; an end before it would not be seen.
    let end = || {
        // Fails while it is being started again.
        let _ = docker.run(["exec", &name, "kill", "-USR1", "1"]);
        waiting.try_wait().transpose()
    };
    let waited = budu_testkit::wait::until("an end", Duration::from_secs(30), end).expect("wait returns");
    assert!(waited.expect("a status").success());
    docker.ok(["rm", "-f", &name]);
}

fn restart_keeps_what_removes_itself(client: Client) {
    let docker = shared::client(client);
    let name = background(&docker, "kept", &["--rm"], OBEDIENT);
    ready(&docker, &name);
    let id = docker.ok(["inspect", "--format", "{{.Id}}", &name]);
    docker.ok(["restart", "-t", "5", &name]);
    assert_eq!(
        docker.ok(["inspect", "--format", "{{.Id}} {{.State.Running}}", &name]).trim(),
        format!("{} true", id.trim())
    );
    docker.ok(["stop", "-t", "5", &name]);
    let gone = || (!docker.run(["inspect", &name]).ok()?.status.success()).then_some(());
    budu_testkit::wait::until("its removal", Duration::from_secs(10), gone)
        .expect("it removes itself when it is stopped");
}
