//! Other limits and restart policies for containers that exist.

use budu_testkit::Client;
use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::Suite;
use serde_json::json;

use crate::shared::{self, inspect, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(limits_change_while_it_runs);
    suite.both(a_stopped_container_starts_with_its_new_limits);
    suite.both(what_cannot_be_updated);
    suite.once(what_the_kernel_refuses_changes_nothing);
}

/// What a running container sees of one of its limits.
fn seen(client: Client, container: &str, v1: &str, v2: &str) -> String {
    let script = format!("cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}");
    shared::client(client).ok(["exec", container, "sh", "-c", &script])
}

fn limits_change_while_it_runs(client: Client) {
    let (docker, name) = (shared::client(client), name("update"));
    docker.ok(["run", "-d", "--name", &name, "-m", "64m", "--memory-swap", "64m", BUSYBOX, "sleep", "1000"]);
    let flags = [
        "-m",
        "32m",
        "--memory-swap",
        "48m",
        "--cpu-quota",
        "20000",
        "--pids-limit",
        "50",
        "--restart",
        "on-failure:3",
    ];
    assert_eq!(docker.ok([&["update"], &flags[..], &[&name]].concat()), name);
    assert_eq!(seen(client, &name, "memory/memory.limit_in_bytes", "memory.max"), "33554432");
    let quota = seen(client, &name, "cpu/cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "20000" || quota == "20000 100000", "{quota}");
    assert_eq!(seen(client, &name, "pids/pids.max", "pids.max"), "50");
    let host = &inspect(&shared::engine(), &name)["HostConfig"];
    assert_eq!(
        (&host["Memory"], &host["MemorySwap"], &host["PidsLimit"]),
        (&json!(33_554_432), &json!(50_331_648), &json!(50))
    );
    assert_eq!(host["RestartPolicy"], json!({"Name": "on-failure", "MaximumRetryCount": 3}));
    docker.ok(["update", "--pids-limit", "-1", &name]);
    assert_eq!(seen(client, &name, "pids/pids.max", "pids.max"), "max");
    docker.ok(["rm", "-f", &name]);
}

fn a_stopped_container_starts_with_its_new_limits(client: Client) {
    let (docker, name) = (shared::client(client), name("update"));
    docker.ok(["create", "--name", &name, "-m", "64m", BUSYBOX, "sleep", "1000"]);
    docker.ok(["update", "--cpu-shares", "512", &name]);
    docker.ok(["start", &name]);
    let shares = seen(client, &name, "cpu/cpu.shares", "cpu.weight");
    assert!(["512", "20", "59"].contains(&shares.as_str()), "{shares}");
    docker.ok(["rm", "-f", &name]);
}

fn what_cannot_be_updated(client: Client) {
    let (docker, name) = (shared::client(client), name("update"));
    docker.ok(["create", "--name", &name, "--rm", "-m", "64m", "--cpus", "1", BUSYBOX, "true"]);
    let fails = |args: &[&str], text: &str| {
        let all = [&["update"], args, &[&name]].concat();
        docker.run(all).expect("the client runs").exits(1).complains(text);
    };
    fails(&[], "you must provide one or more flags when using this command");
    fails(&["--restart", "always"], "Restart policy cannot be updated because AutoRemove is enabled for the container");
    fails(
        &["--cpu-quota", "5000"],
        "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
    );
    fails(
        &["-m", "1g"],
        "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
    );
    fails(&["-m", "1m"], "Minimum memory limit allowed is 6MB");
    docker
        .run(["update", "-c", "5", "no-such"])
        .expect("the client runs")
        .exits(1)
        .complains("No such container: no-such");
    docker.ok(["rm", &name]);
}

fn what_the_kernel_refuses_changes_nothing() {
    let (docker, name) = (shared::client(Client::Docker), name("update"));
    docker.ok([
        "run",
        "-d",
        "--name",
        &name,
        "--cpu-period",
        "100000",
        "--cpu-quota",
        "50000",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    let body = json!({"CpusetCpus": "4000"});
    let engine = shared::engine();
    engine.http("POST", &format!("/containers/{name}/update"), Some(&body)).expect("the daemon answers").expect(400);
    let host = &inspect(&engine, &name)["HostConfig"];
    assert_eq!((&host["CpuQuota"], &host["CpusetCpus"]), (&json!(50_000), &json!("")));
    assert!(seen(Client::Docker, &name, "cpu/cpu.cfs_quota_us", "cpu.max").starts_with("50000"));
    docker.ok(["rm", "-f", &name]);
}
