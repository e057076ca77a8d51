//! Containers that share namespaces with each other.

use budu_testkit::Client;
use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::Suite;

use crate::shared::{self, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(pid_namespace_of_another);
    suite.both(ipc_namespace_of_another);
    suite.both(who_does_not_share);
}

fn pid_namespace_of_another(client: Client) {
    let (docker, donor, guest) = (shared::client(client), name("donor"), name("guest"));
    docker.ok(["run", "-d", "--name", &donor, BUSYBOX, "sleep", "4321"]);
    let mode = format!("container:{donor}");
    let seen = docker.ok(["run", "--rm", "--pid", &mode, BUSYBOX, "cat", "/proc/1/cmdline"]);
    assert_eq!(seen, "sleep\u{0}4321\u{0}");
    // Whatever a guest started ends with it, though its host goes on.
    docker.ok(["run", "-d", "--name", &guest, "--pid", &mode, BUSYBOX, "sh", "-c", "sleep 8765 & sleep 8765"]);
    docker.ok(["kill", &guest]);
    let left = docker.ok(["exec", &donor, "ps", "-o", "args"]);
    assert!(left.contains("sleep 4321") && !left.contains("8765"), "{left}");
    docker.ok(["rm", "-f", &guest, &donor]);
}

fn ipc_namespace_of_another(client: Client) {
    let (docker, donor) = (shared::client(client), name("donor"));
    docker.ok([
        "run",
        "-d",
        "--name",
        &donor,
        "--ipc",
        "shareable",
        "--shm-size",
        "3m",
        BUSYBOX,
        "sh",
        "-c",
        "echo ours > /dev/shm/word; sleep 1000",
    ]);
    let mode = format!("container:{donor}");
    let script =
        "cat /dev/shm/word; df -k /dev/shm | tail -n 1; echo theirs > /dev/shm/answer; readlink /proc/self/ns/ipc";
    let seen = docker.ok(["run", "--rm", "--ipc", &mode, BUSYBOX, "sh", "-c", script]);
    let own = docker.ok(["exec", &donor, "sh", "-c", "cat /dev/shm/answer; readlink /proc/self/ns/ipc"]);
    let (word, namespace) = own.split_once('\n').expect("two lines");
    assert!(seen.starts_with("ours\n") && seen.contains(" 3072 ") && seen.ends_with(namespace), "{seen} / {own}");
    assert_eq!(word, "theirs");
    docker.ok(["rm", "-f", &donor]);
}

fn who_does_not_share(client: Client) {
    let (docker, donor) = (shared::client(client), name("donor"));
    docker.ok(["run", "-d", "--name", &donor, BUSYBOX, "sleep", "1000"]);
    let mode = format!("container:{donor}");
    let fails = |flag: &str, mode: &str, text: &str| {
        let args = ["run", "--rm", flag, mode, BUSYBOX, "true"];
        docker.run(args).expect("the client runs").exits(125).complains(text);
    };
    fails("--ipc", &mode, "non-shareable IPC (hint: use IpcMode:shareable for the donor container)");
    docker.ok(["stop", "-t", "0", &donor]);
    fails("--ipc", &mode, "is not running");
    fails("--pid", &mode, "is not running");
    fails("--pid", "container:no-such", "No such container: no-such");
    fails("--pid", "nonsense", "invalid PID mode");
    docker.ok(["rm", &donor]);
}
