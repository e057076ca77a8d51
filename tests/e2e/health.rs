//! Health checks: what is probed, counted, told and shown.

use std::time::{Duration, Instant};

use budu_testkit::Client;
use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::{Suite, only_budu};
use serde_json::{Value, json};

use crate::shared::{self, inspect, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(health_follows_the_probe);
    suite.once(results_are_kept);
    suite.once(a_probe_that_takes_too_long_fails);
    suite.both(no_healthcheck);
    suite.once(values_that_make_no_sense);
    suite.both(an_unhealthy_container_is_killed);
}

/// Waits until the health of a container is `status`; returns what inspect says of it.
fn until(container: &str, status: &str) -> Value {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let health = inspect(&shared::engine(), container)["State"]["Health"].clone();
        if health["Status"] == status {
            return health;
        }
        assert!(Instant::now() < end, "{container} is not {status}: {health}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn health_follows_the_probe(client: Client) {
    let (docker, name) = (shared::client(client), name("health"));
    let flags = ["--health-cmd", "test -e /well", "--health-interval", "60ms", "--health-retries", "2"];
    docker.ok([&["run", "-d", "--name", &name], &flags[..], &[BUSYBOX, "sleep", "1000"]].concat());
    let listed = |status: &str| {
        let rows = docker.ok([
            "ps",
            "--filter",
            &format!("name={name}"),
            "--filter",
            &format!("health={status}"),
            "--format",
            "{{.Status}}",
        ]);
        assert!(rows.contains(&format!("({status})")), "{rows}");
    };
    until(&name, "unhealthy");
    listed("unhealthy");
    docker.ok(["exec", &name, "touch", "/well"]);
    let health = until(&name, "healthy");
    assert_eq!(health["FailingStreak"], 0);
    listed("healthy");
    docker.ok(["stop", "-t", "0", &name]);
    assert_eq!(inspect(&shared::engine(), &name)["State"]["Health"]["Status"], "unhealthy");
    let now = shared::in_seconds(1);
    let events = docker.ok([
        "events",
        "--since",
        "1m",
        "--until",
        &now,
        "--filter",
        &format!("container={name}"),
        "--format",
        "{{.Action}}",
    ]);
    for wanted in [
        "exec_create: /bin/sh -c test -e /well",
        "exec_start: /bin/sh -c test -e /well",
        "exec_die",
        "health_status: unhealthy",
        "health_status: healthy",
    ] {
        assert!(events.contains(wanted), "{wanted}: {events}");
    }
    docker.ok(["rm", &name]);
}

fn results_are_kept() {
    let (docker, name) = (shared::client(Client::Docker), name("health"));
    let flags = [
        "--health-cmd",
        "echo seen; exit 3",
        "--health-interval",
        "30ms",
        "--health-start-period",
        "1m",
        "--health-start-interval",
        "30ms",
    ];
    docker.ok([&["run", "-d", "--name", &name], &flags[..], &[BUSYBOX, "sleep", "1000"]].concat());
    let end = Instant::now() + Duration::from_secs(20);
    let health = loop {
        let health = inspect(&shared::engine(), &name)["State"]["Health"].clone();
        if health["Log"].as_array().is_some_and(|log| log.len() == 5) {
            break health;
        }
        assert!(Instant::now() < end, "{health}");
        std::thread::sleep(Duration::from_millis(20));
    };
    // Failures of the start period do not count.
    assert_eq!((&health["Status"], &health["FailingStreak"]), (&json!("starting"), &json!(0)));
    assert_eq!((&health["Log"][4]["ExitCode"], &health["Log"][4]["Output"]), (&json!(3), &json!("seen\n")));
    docker.ok(["rm", "-f", &name]);
}

fn a_probe_that_takes_too_long_fails() {
    let (docker, name) = (shared::client(Client::Docker), name("health"));
    let flags = [
        "--health-cmd",
        "echo slow; exec sleep 100",
        "--health-interval",
        "30ms",
        "--health-timeout",
        "200ms",
        "--health-retries",
        "1",
    ];
    docker.ok([&["run", "-d", "--name", &name], &flags[..], &[BUSYBOX, "sleep", "1000"]].concat());
    let health = until(&name, "unhealthy");
    assert_eq!(health["Log"][0]["ExitCode"], -1, "{health}");
    assert_eq!(health["Log"][0]["Output"], "Health check exceeded timeout (200ms): slow\n");
    docker.ok(["rm", "-f", &name]);
}

fn no_healthcheck(client: Client) {
    let (docker, name) = (shared::client(client), name("health"));
    docker.ok(["run", "-d", "--name", &name, "--no-healthcheck", BUSYBOX, "sleep", "1000"]);
    let state = &inspect(&shared::engine(), &name)["State"];
    assert!(state["Health"].is_null() || state["Health"]["Status"] == "none", "{state}");
    docker.ok(["rm", "-f", &name]);
}

fn values_that_make_no_sense() {
    for (check, complaint) in [
        (json!({"Test": ["CMD", "x"], "Interval": 5}), "Interval in Healthcheck cannot be less than 1ms"),
        (json!({"Test": ["CMD", "x"], "Retries": -1}), "Retries in Healthcheck cannot be negative"),
    ] {
        let body = json!({"Image": BUSYBOX, "Healthcheck": check});
        let answer = shared::engine().http("POST", "/containers/create", Some(&body)).expect("the daemon answers");
        assert_eq!(answer.expect(400).json()["message"], complaint);
    }
}

fn an_unhealthy_container_is_killed(client: Client) {
    only_budu("dockerd only says that it is unhealthy");
    let (docker, name) = (shared::client(client), name("health"));
    let flags = [
        "--health-cmd",
        "false",
        "--health-interval",
        "30ms",
        "--health-retries",
        "1",
        "--label",
        "budu.health.action=kill",
    ];
    docker.ok([&["run", "-d", "--name", &name], &flags[..], &[BUSYBOX, "sleep", "1000"]].concat());
    assert_eq!(docker.ok(["wait", &name]), "137");
    docker.ok(["rm", &name]);
}
