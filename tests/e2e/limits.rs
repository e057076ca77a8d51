//! Limits on memory, processors, processes and files, on either generation of control groups.

use budu_testkit::Client;
use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::Suite;

use crate::shared::{self, inspect, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(memory);
    suite.both(processors);
    suite.both(processes);
    suite.both(resource_limits);
    suite.once(out_of_memory_is_told);
    suite.both(bad_values);
}

/// Reads a control file of the container's own group: `v1` is hierarchy/file, `v2` the file.
fn read(client: Client, flags: &[&str], v1: &str, v2: &str) -> String {
    let script = format!("cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}");
    let args = [&["run", "--rm"], flags, &[BUSYBOX, "sh", "-c", &script]].concat();
    shared::client(client).ok(args)
}

fn memory(client: Client) {
    let seen = read(client, &["-m", "64m"], "memory/memory.limit_in_bytes", "memory.max");
    assert_eq!(seen, "67108864");
}

fn processors(client: Client) {
    let seen = read(client, &["--cpus", "0.5"], "cpu/cpu.cfs_quota_us", "cpu.max");
    assert!(seen == "50000" || seen == "50000 100000", "{seen}");
    let seen = read(client, &["--cpu-shares", "512"], "cpu/cpu.shares", "cpu.weight");
    assert!(["512", "20", "59"].contains(&seen.as_str()), "{seen}");
    let seen = read(client, &["--cpuset-cpus", "0"], "cpuset/cpuset.cpus", "cpuset.cpus");
    assert_eq!(seen, "0");
}

fn processes(client: Client) {
    let seen = read(client, &["--pids-limit", "20"], "pids/pids.max", "pids.max");
    assert_eq!(seen, "20");
    let bomb = "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; wait";
    let output = shared::client(client)
        .run(["run", "--rm", "--pids-limit", "20", BUSYBOX, "sh", "-c", bomb])
        .expect("the client runs");
    output.complains("can't fork");
}

fn resource_limits(client: Client) {
    let args = ["run", "--rm", "--ulimit", "nofile=100:200", "--ulimit", "core=0"];
    let script = "ulimit -Sn; ulimit -Hn; ulimit -Sc";
    let seen = shared::client(client).ok([&args[..], &[BUSYBOX, "sh", "-c", script]].concat());
    assert_eq!(seen, "100\n200\n0");
    let args = ["run", "--rm", "--shm-size", "8m", BUSYBOX, "df", "-k", "/dev/shm"];
    let seen = shared::client(client).ok(args);
    assert!(seen.contains(" 8192 "), "{seen}");
}

fn out_of_memory_is_told() {
    let (docker, name) = (shared::client(Client::Docker), name("oom"));
    let hog = ["run", "--name", &name, "-m", "16m", "--memory-swap", "16m", BUSYBOX];
    let greedy = ["sh", "-c", "exec tail -c 200m /dev/zero"];
    docker.run([&hog[..], &greedy].concat()).expect("the client runs").exits(137);
    let state = &inspect(&shared::engine(), &name)["State"];
    assert_eq!(state["OOMKilled"], true, "{state}");
    assert_eq!(state["ExitCode"], 137);
}

fn bad_values(client: Client) {
    let docker = shared::client(client);
    let fails = |args: &[&str], text: &str| {
        let all = [&["run", "--rm"], args, &[BUSYBOX, "true"]].concat();
        docker.run(all).expect("the client runs").exits(125).complains(text);
    };
    fails(&["-m", "many"], "invalid");
    fails(&["-m", "1m"], "Minimum memory limit allowed is 6MB");
    fails(&["--cpus", "1000"], "range of CPUs is from 0.01 to");
    fails(&["--cpus", "x"], "invalid argument \"x\" for \"--cpus\" flag");
    fails(&["--ulimit", "nofile=9:1"], "invalid");
    fails(&["-p", "abc"], "invalid");
    fails(&["-p", "70000:1"], "invalid");
    fails(&["--name", "-bad/name"], "Invalid container name");
    fails(&["--network", "no-such-net"], "network no-such-net not found");
}
