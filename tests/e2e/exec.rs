//! `exec`: a second process in a running container.

use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::Suite;
use budu_testkit::{Client, ClientHandle};

use crate::shared::{self, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(output_and_exit_code);
    suite.both(options);
    suite.both(failures);
    suite.both(detached);
    suite.both(same_place_as_the_container);
    suite.both(on_a_terminal);
    suite.once(many_at_once);
}

fn sleeper(docker: &ClientHandle, flags: &[&str]) -> String {
    let name = name("exec");
    let run = ["run", "-d", "--name", &name];
    docker.ok([&run[..], flags, &[BUSYBOX, "sleep", "1000"]].concat());
    name
}

fn output_and_exit_code(client: Client) {
    let docker = shared::client(client);
    let name = sleeper(&docker, &[]);
    let output = docker.run(["exec", &name, "sh", "-c", "echo out; echo err >&2; exit 5"]).expect("runs");
    output.exits(5);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    let output = docker.feed(["exec", "-i", &name, "wc", "-c"], &[b'y'; 200_000]).expect("runs");
    assert_eq!(output.ok(), "200000");
    docker.run(["exec", &name, "sh", "-c", "kill -9 $$"]).expect("runs").exits(137);
    docker.ok(["rm", "-f", &name]);
}

fn options(client: Client) {
    let docker = shared::client(client);
    let name = sleeper(&docker, &["-e", "OUTER=1", "-w", "/var"]);
    let script = "pwd; id -un; echo $OUTER $INNER";
    let seen = docker.ok(["exec", &name, "sh", "-c", script]);
    assert_eq!(seen, "/var\nroot\n1");
    let seen = docker.ok(["exec", "-e", "INNER=2", "-w", "/tmp", "-u", "dock", &name, "sh", "-c", script]);
    assert_eq!(seen, "/tmp\ndock\n1 2");
    let caps = |args: &[&str]| {
        let exec = [&["exec"], args, &[&name, "grep", "CapEff", "/proc/self/status"]].concat();
        docker.ok(exec).split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(caps(&[]), "00000000a80425fb");
    assert_eq!(caps(&["-u", "1000"]), "0000000000000000");
    assert_ne!(caps(&["--privileged"]), caps(&[]));
    docker.ok(["rm", "-f", &name]);
}

fn failures(client: Client) {
    let docker = shared::client(client);
    let name = sleeper(&docker, &[]);
    let output = docker.run(["exec", &name, "no-such-program"]).expect("runs");
    output.exits(127);
    assert!(format!("{}{}", output.stdout, output.stderr).contains("no-such-program"), "{output}");
    docker.run(["exec", &name, "/etc/plain"]).expect("runs").exits(126);
    docker.run(["exec", "-u", "nobody-here", &name, "id"]).expect("runs").complains("unable to find user nobody-here");
    docker.ok(["stop", "-t", "0", &name]);
    docker.run(["exec", &name, "true"]).expect("runs").exits(1).complains("is not running");
    docker.run(["exec", "no-such", "true"]).expect("runs").exits(1).complains("No such container: no-such");
    docker.ok(["rm", "-f", &name]);
}

fn detached(client: Client) {
    let docker = shared::client(client);
    let name = sleeper(&docker, &[]);
    assert_eq!(docker.ok(["exec", "-d", &name, "sh", "-c", "echo done > /result"]), "");
    let limit = std::time::Duration::from_secs(5);
    let result = budu_testkit::wait::until("the result", limit, || {
        docker.run(["exec", &name, "cat", "/result"]).ok().filter(|output| output.success())
    });
    assert_eq!(result.expect("the process ran").ok(), "done");
    docker.ok(["rm", "-f", &name]);
}

fn same_place_as_the_container(client: Client) {
    let docker = shared::client(client);
    let name = sleeper(&docker, &["-m", "64m"]);
    for kind in ["mnt", "pid", "net", "uts", "ipc", "cgroup"] {
        let script = format!("readlink /proc/1/ns/{kind}; readlink /proc/self/ns/{kind}");
        let seen = docker.ok(["exec", &name, "sh", "-c", &script]);
        let (container, own) = seen.split_once('\n').expect("two lines");
        assert_eq!(container, own, "{kind}");
    }
    // Its limits are the container's: the same control groups.
    let seen = docker.ok(["exec", &name, "sh", "-c", "cmp /proc/1/cgroup /proc/self/cgroup && echo same"]);
    assert_eq!(seen, "same");
    let seen = docker.ok(["exec", &name, "grep", "^Seccomp:", "/proc/self/status"]);
    assert!(seen.ends_with('2'), "{seen}");
    docker.ok(["rm", "-f", &name]);
}

fn on_a_terminal(client: Client) {
    let docker = shared::client(client);
    let name = sleeper(&docker, &[]);
    let mut terminal = docker.terminal(["exec", "-it", &name, "sh"]).expect("starts");
    terminal.expect("# ").expect("a prompt");
    terminal.send("stty size; echo $TERM; tty\r").expect("typed");
    terminal.expect("24 80\r\n").expect("the size");
    terminal.expect("xterm\r\n").expect("a terminal's type");
    terminal.expect("/dev/pts/").expect("the terminal's name");
    terminal.resize(41, 123).expect("resized");
    terminal.send("until [ \"$(stty size)\" = '41 123' ]; do sleep 0.05; done; echo re''sized\r").expect("typed");
    terminal.expect("resized").expect("the new size arrives");
    terminal.send("exit 12\r").expect("typed");
    assert_eq!(terminal.wait().expect("ends"), 12);
    // Leaving by the detach keys leaves the process alone.
    let mut terminal = docker.terminal(["exec", "-it", &name, "sh"]).expect("starts");
    terminal.expect("# ").expect("a prompt");
    terminal.send("sleep 777\r").expect("typed");
    terminal.expect("777").expect("echoed");
    terminal.send("\u{10}\u{11}").expect("typed");
    terminal.wait().expect("ends");
    let lives = budu_testkit::wait::until("the process", std::time::Duration::from_secs(5), || {
        docker.ok(["top", &name]).contains("sleep 777").then_some(())
    });
    lives.expect("the process goes on");
    docker.ok(["rm", "-f", &name]);
}

fn many_at_once() {
    let engine = shared::engine();
    let docker = engine.client(Client::Docker);
    let name = sleeper(&docker, &[]);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (docker, name) = (&docker, &name);
            scope.spawn(move || {
                let code = (number * 3).to_string();
                let output = docker.run(["exec", name, "sh", "-c", &format!("echo {code}; exit {code}")]);
                let output = output.expect("runs");
                assert_eq!((output.stdout.trim(), output.code().to_string()), (code.as_str(), code.clone()));
            });
        }
    });
    docker.ok(["rm", "-f", &name]);
}
