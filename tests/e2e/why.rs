//! Why containers end: in `inspect`, in `ps` and as `why`. Docker has no such thing.

use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::{Suite, only_budu};
use budu_testkit::{Client, ClientHandle};

use crate::shared::{self, inspect, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.once(out_of_memory);
    suite.once(stopped_the_hard_way);
    suite.once(a_signal_from_elsewhere);
    suite.once(last_words);
    suite.once(a_denied_system_call);
    suite.once(a_start_that_failed);
    suite.once(nothing_to_say);
}

/// A client, and the name for a container.
fn begin() -> (ClientHandle, String) {
    only_budu("dockerd does not say why");
    (shared::client(Client::Budu), name("why"))
}

/// Kind and summary.
fn seen(container: &str) -> (String, String) {
    let why = &inspect(&shared::engine(), container)["State"]["BuduWhy"];
    let text = |key: &str| why[key].as_str().unwrap_or_default().to_owned();
    (text("Kind"), text("Summary"))
}

fn out_of_memory() {
    let (budu, name) = begin();
    let script = "tail -c 200m /dev/zero";
    let args = ["run", "--name", &name, "-m", "16m", "--memory-swap", "16m", BUSYBOX, "sh", "-c", script];
    budu.run(args).expect("the client runs").exits(137);
    let (kind, summary) = seen(&name);
    assert_eq!(kind, "out-of-memory");
    assert!(summary.contains("killed tail (pid ") && summary.ends_with("at the limit of 16MiB"), "{summary}");
    let page = budu.ok(["why", &name]);
    assert!(page.contains(&summary) && page.contains("peak 16MiB") && page.contains("try: "), "{page}");
    let row = budu.ok(["ps", "-a", "--why", "--filter", &format!("name={name}")]);
    assert!(row.contains("WHY") && row.contains(&summary), "{row}");
    budu.ok(["rm", &name]);
}

fn stopped_the_hard_way() {
    let (budu, name) = begin();
    budu.ok(["run", "-d", "--name", &name, BUSYBOX, "sleep", "1000"]);
    budu.ok(["stop", "-t", "0", &name]);
    let (kind, summary) = seen(&name);
    assert_eq!(kind, "stopped");
    assert!(summary.contains("did not end within 0s of SIGTERM and was killed"), "{summary}");
    budu.ok(["start", &name]);
    budu.ok(["kill", &name]);
    assert_eq!(seen(&name).0, "killed");
    budu.ok(["rm", &name]);
}

fn a_signal_from_elsewhere() {
    let (budu, name) = begin();
    budu.ok(["run", "-d", "--name", &name, BUSYBOX, "sleep", "1000"]);
    let pid = inspect(&shared::engine(), &name)["State"]["Pid"].as_i64().expect("a number");
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
    budu.ok(["wait", &name]);
    let (kind, summary) = seen(&name);
    let own = format!("(pid {})", std::process::id());
    assert!(kind == "signal" && (summary.contains(&own) || summary.contains("somebody else than Budu")), "{summary}");
    budu.ok(["rm", &name]);
}

fn last_words() {
    let (budu, name) = begin();
    let script = "echo starting; date -s 2001-01-01; exit 1";
    budu.run(["run", "--name", &name, BUSYBOX, "sh", "-c", script]).expect("the client runs").exits(1);
    let (kind, summary) = seen(&name);
    assert_eq!(kind, "denied", "{summary}");
    assert!(budu.ok(["why", &name]).contains("--cap-add SYS_TIME"));
    budu.ok(["rm", &name]);
}

fn a_denied_system_call() {
    let (budu, name) = begin();
    let profile = shared::engine().path("kill-mkdir.json");
    let rules = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#;
    std::fs::write(&profile, rules).expect("a profile");
    let option = format!("seccomp={}", profile.display());
    budu.run(["run", "--name", &name, "--security-opt", &option, BUSYBOX, "mkdir", "/x"])
        .expect("the client runs")
        .exits(159);
    let (kind, summary) = seen(&name);
    assert_eq!(
        (kind.as_str(), summary.as_str()),
        ("denied-syscall", "the system call mkdir is denied by its seccomp profile")
    );
    budu.ok(["rm", &name]);
}

fn a_start_that_failed() {
    let (budu, name) = begin();
    budu.run(["run", "--name", &name, BUSYBOX, "no-such-program"]).expect("the client runs").exits(127);
    let page = budu.ok(["why", &name]);
    assert!(page.contains("could not be started (exit code 127)") && page.contains("$PATH"), "{page}");
    budu.ok(["rm", &name]);
}

fn nothing_to_say() {
    let (budu, name) = begin();
    budu.ok(["run", "--name", &name, BUSYBOX, "true"]);
    assert_eq!(seen(&name), (String::new(), String::new()));
    budu.ok(["rm", &name]);
}
