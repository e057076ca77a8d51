//! `logs`: everything a container has written, and what it writes next.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use budu_testkit::Client;
use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::Suite;

use crate::shared::{self, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(streams_and_order);
    suite.both(tail_since_until_timestamps);
    suite.both(follow_until_the_end);
    suite.both(long_and_unfinished_lines);
    suite.both(failures);
}

fn streams_and_order(client: Client) {
    let (docker, name) = (shared::client(client), name("logs"));
    docker.ok(["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", "echo a; echo b >&2; echo c; printf d"]);
    docker.ok(["wait", &name]);
    let output = docker.run(["logs", &name]).expect("runs");
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("a\nc\nd", "b\n"));
    docker.ok(["rm", &name]);
}

fn tail_since_until_timestamps(client: Client) {
    let (docker, name) = (shared::client(client), name("logs"));
    docker.ok(["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", "seq 1 50; sleep 1.2; seq 51 60"]);
    docker.ok(["wait", &name]);
    assert_eq!(docker.ok(["logs", "--tail", "3", &name]), "58\n59\n60");
    assert_eq!(docker.ok(["logs", "-n", "0", &name]), "");
    assert_eq!(docker.ok(["logs", "--tail", "all", &name]).lines().count(), 60);
    let stamped = docker.ok(["logs", "-t", &name]);
    let times: Vec<&str> = stamped.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(times.iter().all(|time| time.len() == 30 && time.ends_with('Z')), "{stamped}");
    assert!(times.is_sorted());
    let later = docker.ok(["logs", "--since", times[50], &name]);
    assert_eq!(later.lines().next(), Some("51"));
    let earlier = docker.ok(["logs", "--until", times[49], &name]);
    assert_eq!(earlier.lines().last(), Some("50"));
    docker.ok(["rm", &name]);
}

fn follow_until_the_end(client: Client) {
    let (docker, name) = (shared::client(client), name("logs"));
    let script = "echo one; while [ ! -e /go ]; do sleep 0.05; done; echo two; exit 3";
    docker.ok(["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", script]);
    let mut child = docker.spawn(["logs", "-f", &name]).expect("starts");
    let mut out = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert_eq!(out.next().expect("a line").expect("text"), "one");
    docker.ok(["exec", &name, "touch", "/go"]);
    assert_eq!(out.next().expect("a line").expect("text"), "two");
    assert!(out.next().is_none(), "the stream ends with the container");
    let limit = Duration::from_secs(5);
    let ended = budu_testkit::wait::until("the client's end", limit, || child.try_wait().ok()?);
    assert_eq!(ended.expect("follow ends").code(), Some(0));
    docker.ok(["rm", &name]);
}

fn long_and_unfinished_lines(client: Client) {
    let (docker, name) = (shared::client(client), name("logs"));
    let script = "head -c 70000 /dev/zero | tr '\\0' x; echo; echo end";
    docker.ok(["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", script]);
    docker.ok(["wait", &name]);
    let lines = docker.ok(["logs", &name]);
    let lengths: Vec<usize> = lines.lines().map(str::len).collect();
    assert_eq!(lengths, [70_000, 3]);
    assert_eq!(docker.ok(["logs", "--tail", "1", &name]), "end");
    docker.ok(["rm", &name]);
}

fn failures(client: Client) {
    let docker = shared::client(client);
    docker.run(["logs", "no-such"]).expect("runs").exits(1).complains("No such container: no-such");
    docker.run(["logs", "--tail", "x", "no-such"]).expect("runs").exits(1);
}
