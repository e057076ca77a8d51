//! Terminals and attaching: what a person at a keyboard notices.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::Suite;
use budu_testkit::{Client, wait};

use crate::shared::{self, inspect, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(interactive_shell);
    suite.both(size_follows_the_window);
    suite.both(interrupt_key);
    suite.both(detach_and_attach_again);
    suite.both(other_detach_keys);
    suite.both(attach_without_terminal);
    suite.both(signals_are_passed_on);
    suite.both(not_a_terminal);
    suite.both(terminal_output_in_logs);
    suite.both(first_byte_is_not_lost);
}

fn interactive_shell(client: Client) {
    let docker = shared::client(client);
    let mut terminal = docker.terminal(["run", "--rm", "-it", BUSYBOX, "sh"]).expect("starts");
    terminal.expect("# ").expect("a prompt");
    terminal.send("tty; stty size; echo $TERM; ls -l /proc/self/fd/0\r").expect("typed");
    terminal.expect("/dev/pts/0\r\n").expect("the first terminal of the container's own");
    terminal.expect("24 80\r\n").expect("the size");
    terminal.expect("xterm\r\n").expect("a terminal's type");
    terminal.expect("-> /dev/pts/0\r\n").expect("the terminal is standard input");
    terminal.expect("# ").expect("a prompt");
    terminal.send("echo go; cat\r").expect("typed");
    terminal.expect("go\r\n").expect("cat comes next");
    terminal.send("line\r").expect("typed");
    terminal.expect("line\r\nline\r\n").expect("echo and output");
    terminal.send("\u{4}").expect("end of input");
    terminal.expect("# ").expect("a prompt");
    terminal.send("exit 42\r").expect("typed");
    assert_eq!(terminal.wait().expect("ends"), 42);
}

fn size_follows_the_window(client: Client) {
    let docker = shared::client(client);
    let script = "trap 'echo size $(stty size)' WINCH; echo ready; while :; do sleep 0.05; done";
    let name = name("winch");
    let run = ["run", "--rm", "-it", "--name", &name, BUSYBOX, "sh", "-c", script];
    let mut terminal = docker.terminal(run).expect("starts");
    terminal.expect("ready").expect("the script runs");
    // The client begins to watch its window a moment after the container's first output: turn it until it looks.
    wait::until("the new size", Duration::from_secs(10), || {
        terminal.resize(50, 131).ok()?;
        terminal.resize(50, 132).ok()?;
        std::thread::sleep(Duration::from_millis(100));
        terminal.text().contains("size 50 132").then_some(())
    })
    .expect("the container is told");
    terminal.resize(10, 20).expect("resized");
    terminal.expect("size 10 20").expect("the container is told");
    docker.ok(["kill", &name]);
    assert_eq!(terminal.wait().expect("ends"), 137);
}

fn interrupt_key(client: Client) {
    let docker = shared::client(client);
    let mut terminal = docker.terminal(["run", "--rm", "-it", BUSYBOX, "sh"]).expect("starts");
    terminal.expect("# ").expect("a prompt");
    terminal.send("sleep 1000\r").expect("typed");
    terminal.expect("sleep 1000\r\n").expect("echo");
    std::thread::sleep(Duration::from_millis(200));
    terminal.send("\u{3}").expect("ctrl-c");
    terminal.expect("# ").expect("the sleep ended, the shell did not");
    terminal.send("echo $?\r").expect("typed");
    terminal.expect("130\r\n").expect("interrupted");
    terminal.send("exit 130\r").expect("typed");
    assert_eq!(terminal.wait().expect("ends"), 130);
}

fn detach_and_attach_again(client: Client) {
    let (docker, name) = (shared::client(client), name("detach"));
    let mut terminal = docker.terminal(["run", "-it", "--name", &name, BUSYBOX, "sh"]).expect("starts");
    terminal.expect("# ").expect("a prompt");
    terminal.send("VALUE=kept\r").expect("typed");
    terminal.expect("# ").expect("a prompt");
    terminal.send("\u{10}\u{11}").expect("ctrl-p ctrl-q");
    assert_eq!(terminal.wait().expect("ends"), 0);
    assert_eq!(inspect(&shared::engine(), &name)["State"]["Running"], true);
    let mut terminal = docker.terminal(["attach", &name]).expect("starts");
    std::thread::sleep(Duration::from_millis(200));
    terminal.send("echo $VALUE\r").expect("typed");
    terminal.expect("kept\r\n").expect("the same shell");
    // A lone ctrl-p is the shell's: it recalls the last line.
    terminal.send("\u{10}\r").expect("typed");
    terminal.expect("kept\r\n").expect("recalled");
    terminal.send("exit 3\r").expect("typed");
    assert_eq!(terminal.wait().expect("ends"), 3);
    docker.ok(["rm", &name]);
}

fn other_detach_keys(client: Client) {
    let (docker, name) = (shared::client(client), name("keys"));
    let run = ["run", "-it", "--detach-keys", "ctrl-a,x", "--name", &name, BUSYBOX, "sh"];
    let mut terminal = docker.terminal(run).expect("starts");
    terminal.expect("# ").expect("a prompt");
    terminal.send("\u{1}x").expect("ctrl-a x");
    assert_eq!(terminal.wait().expect("ends"), 0);
    assert_eq!(inspect(&shared::engine(), &name)["State"]["Running"], true);
    docker.ok(["rm", "-f", &name]);
    let bad = ["run", "--rm", "-it", "--detach-keys", "ctrl-nonsense", BUSYBOX, "true"];
    let mut terminal = docker.terminal(bad).expect("starts");
    assert_ne!(terminal.wait().expect("ends"), 0);
}

fn attach_without_terminal(client: Client) {
    let (docker, name) = (shared::client(client), name("attach"));
    let script = "echo early; read line; echo got $line; echo err >&2; exit 8";
    docker.ok(["run", "-d", "-i", "--name", &name, BUSYBOX, "sh", "-c", script]);
    let early = || docker.ok(["logs", &name]).contains("early").then_some(());
    wait::until("the first words", Duration::from_secs(10), early).expect("said");
    let mut command = docker.command(["attach", &name]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    std::thread::sleep(Duration::from_millis(300));
    let mut input = child.stdin.take().expect("piped");
    input.write_all(b"input\n").expect("written");
    let output = child.wait_with_output().expect("ends");
    drop(input);
    assert_eq!(output.status.code(), Some(8));
    // What was said before belongs to the logs, not to the attached stream.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "got input\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
    docker.run(["attach", &name]).expect("runs").exits(1).complains("cannot attach to a stopped container");
    docker.ok(["rm", &name]);
}

fn signals_are_passed_on(client: Client) {
    let docker = shared::client(client);
    let script = "trap 'echo told; exit 21' TERM; echo ready; while :; do sleep 0.05; done";
    let mut command = docker.command(["run", "--rm", BUSYBOX, "sh", "-c", script]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let mut out = child.stdout.take().expect("piped");
    let mut seen = [0; 6];
    out.read_exact(&mut seen).expect("ready");
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("sent");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("read");
    assert_eq!(rest, "told\n");
    assert_eq!(child.wait().expect("ends").code(), Some(21));
}

fn not_a_terminal(client: Client) {
    let docker = shared::client(client);
    docker
        .run(["run", "--rm", "-it", BUSYBOX, "true"])
        .expect("runs")
        .exits(1)
        .complains("the input device is not a TTY");
    // -t alone needs none.
    let output = docker.run(["run", "--rm", "-t", BUSYBOX, "sh", "-c", "tty; echo err >&2"]).expect("runs");
    assert_eq!(output.stdout, "/dev/pts/0\r\nerr\r\n", "{output}");
    output.exits(0);
}

fn terminal_output_in_logs(client: Client) {
    let (docker, name) = (shared::client(client), name("ttylog"));
    docker.ok(["run", "-d", "-t", "--name", &name, BUSYBOX, "echo", "on a terminal"]);
    docker.ok(["wait", &name]);
    assert_eq!(docker.run(["logs", &name]).expect("runs").stdout, "on a terminal\r\n");
    docker.ok(["rm", &name]);
}

fn first_byte_is_not_lost(client: Client) {
    let docker = shared::client(client);
    for _ in 0..10 {
        let output = docker.run(["run", "--rm", BUSYBOX, "echo", "first"]).expect("runs");
        assert_eq!(output.ok(), "first");
    }
}
