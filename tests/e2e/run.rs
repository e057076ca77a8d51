//! `run`: what the flags do, and what comes back.

use budu_testkit::images::{BUSYBOX, CONFIGURED};
use budu_testkit::suite::Suite;
use budu_testkit::{Client, Output};

use crate::shared::{self, inspect, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(streams_are_kept_apart);
    suite.both(standard_input_reaches_the_container);
    suite.both(exit_codes);
    suite.both(detached_prints_the_id);
    suite.both(environment);
    suite.both(working_directory);
    suite.both(users_and_groups);
    suite.both(image_configuration_applies);
    suite.both(entrypoint_replaces_that_of_the_image);
    suite.both(host_name);
    suite.both(bind_mounts);
    suite.both(tmpfs_and_read_only_root);
    suite.both(removed_at_the_end);
    suite.both(labels_and_restart_policy_are_stored);
    suite.both(init_reaps_and_forwards);
    suite.both(large_output_is_complete);
}

fn run(client: Client, args: &[&str]) -> Output {
    let command = [&["run", "--rm"], args].concat();
    shared::client(client).run(command).expect("the client runs")
}

fn shell(client: Client, flags: &[&str], script: &str) -> String {
    run(client, &[flags, &[BUSYBOX, "sh", "-c", script]].concat()).ok().to_owned()
}

fn streams_are_kept_apart(client: Client) {
    let output = run(client, &[BUSYBOX, "sh", "-c", "echo out; echo err >&2"]);
    output.exits(0);
    assert_eq!(output.stdout, "out\n");
    assert_eq!(output.stderr, "err\n");
}

fn standard_input_reaches_the_container(client: Client) {
    let docker = shared::client(client);
    let args = ["run", "--rm", "-i", BUSYBOX, "sh", "-c", "wc -c; echo end"];
    // More than a pipe holds, so that input must flow while output is read.
    let output = docker.feed(args, &[b'x'; 300_000]).expect("the client runs");
    assert_eq!(output.ok(), "300000\nend");
    // Without -i there is nothing to read.
    assert_eq!(shell(client, &[], "wc -c"), "0");
}

fn exit_codes(client: Client) {
    run(client, &[BUSYBOX, "true"]).exits(0);
    run(client, &[BUSYBOX, "sh", "-c", "exit 7"]).exits(7);
    run(client, &[BUSYBOX, "sh", "-c", "exit 255"]).exits(255);
    run(client, &["--init", BUSYBOX, "sh", "-c", "kill -TERM $$"]).exits(143);
    run(client, &[BUSYBOX, "no-such-program"])
        .exits(127)
        .complains("no-such-program")
        .complains("executable file not found in $PATH");
    run(client, &[BUSYBOX, "/bin/absent"]).exits(127).complains("/bin/absent").complains("no such file or directory");
    run(client, &[BUSYBOX, "/etc/plain"]).exits(126).complains("/etc/plain").complains("permission denied");
    run(client, &[BUSYBOX, "/etc"]).exits(126);
    run(client, &["--no-such-flag", BUSYBOX]).exits(125).complains("unknown flag: --no-such-flag");
}

fn detached_prints_the_id(client: Client) {
    let (docker, name) = (shared::client(client), name("detached"));
    let id = docker.ok(["run", "-d", "--name", &name, BUSYBOX, "sleep", "1000"]);
    assert_eq!(id.len(), 64, "{id}");
    assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let state = inspect(&shared::engine(), &name);
    assert_eq!(state["Id"], id.as_str());
    assert_eq!(state["Name"], format!("/{name}"));
    assert_eq!(state["State"]["Status"], "running");
    assert!(state["State"]["Pid"].as_u64() > Some(0));
    assert_eq!(docker.ok(["rm", "-f", &name]), name);
}

fn environment(client: Client) {
    let engine = shared::engine();
    let file = engine.path(&name("env"));
    std::fs::write(&file, "# comment\nIN_FILE=some value\nFROM_CLIENT\n\nQUOTED=\"q\"\n")
        .expect("the engine's directory is writable");
    let file = file.display().to_string();
    let docker = engine.client(client).with_env("FROM_CLIENT", "passed");
    let flags = ["run", "--rm", "-e", "A=1", "-e", "EMPTY=", "-e", "FROM_CLIENT", "-e", "ABSENT"];
    let args = [&flags[..], &["--env-file", &file, BUSYBOX, "env"]].concat();
    let seen = docker.ok(args);
    let lines: Vec<&str> = seen.lines().collect();
    for expected in ["A=1", "EMPTY=", "FROM_CLIENT=passed", "IN_FILE=some value", "QUOTED=\"q\"", "HOME=/root"] {
        assert!(lines.contains(&expected), "{expected} is not in {seen}");
    }
    assert!(!seen.contains("ABSENT"), "{seen}");
    assert!(lines.iter().any(|line| line.starts_with("PATH=/usr/local/sbin:")), "{seen}");
}

fn working_directory(client: Client) {
    assert_eq!(shell(client, &[], "pwd"), "/");
    assert_eq!(shell(client, &["-w", "/tmp"], "pwd"), "/tmp");
    assert_eq!(shell(client, &["-w", "/made/for/this"], "pwd; ls -d ."), "/made/for/this\n.");
    run(client, &["-w", "relative", BUSYBOX, "pwd"])
        .exits(125)
        .complains("the working directory 'relative' is invalid, it needs to be an absolute path");
}

fn users_and_groups(client: Client) {
    assert_eq!(shell(client, &[], "id -u; id -g"), "0\n0");
    assert_eq!(shell(client, &["-u", "1234"], "id -u; id -g"), "1234\n0");
    assert_eq!(shell(client, &["-u", "1234:4321"], "id -u; id -g"), "1234\n4321");
    assert_eq!(
        shell(client, &["-u", "dock"], "id; echo $HOME"),
        "uid=1000(dock) gid=1001(dock) groups=1001(dock),2000(extra)\n/home"
    );
    assert_eq!(shell(client, &["-u", "dock:extra"], "id -g"), "2000");
    run(client, &["-u", "nobody-here", BUSYBOX, "id"])
        .exits(125)
        .complains("unable to find user nobody-here: no matching entries in passwd file");
}

fn image_configuration_applies(client: Client) {
    assert_eq!(run(client, &[CONFIGURED]).ok(), "entry default");
    assert_eq!(run(client, &[CONFIGURED, "other", "words"]).ok(), "entry other words");
    let probe = "id -un; pwd; echo $FROM_IMAGE";
    let output = run(client, &["--entrypoint", "sh", CONFIGURED, "-c", probe]);
    assert_eq!(output.ok(), "dock\n/work/deep\nyes");
    let output = run(client, &["-e", "FROM_IMAGE=no", "--entrypoint", "env", CONFIGURED]);
    assert!(output.ok().contains("FROM_IMAGE=no"), "{output}");
}

fn entrypoint_replaces_that_of_the_image(client: Client) {
    // The image's command belongs to its own entry point and is dropped with it.
    assert_eq!(run(client, &["--entrypoint", "/bin/echo", CONFIGURED]).ok(), "");
    assert_eq!(run(client, &["--entrypoint", "", CONFIGURED, "echo", "bare"]).ok(), "bare");
}

fn host_name(client: Client) {
    let script = "hostname; cat /etc/hostname; grep -w named /etc/hosts | wc -l";
    assert_eq!(shell(client, &["--hostname", "named"], script), "named\nnamed\n1");
    let (docker, name) = (shared::client(client), name("hostname"));
    let id = docker.ok(["run", "-d", "--name", &name, BUSYBOX, "sleep", "1000"]);
    assert_eq!(docker.ok(["exec", &name, "hostname"]), id[..12]);
}

fn bind_mounts(client: Client) {
    let engine = shared::engine();
    let dir = engine.path(&name("bind"));
    std::fs::create_dir(&dir).expect("the engine's directory is writable");
    std::fs::write(dir.join("given"), "from the host\n").expect("writable");
    let writable = format!("{}:/mnt/data", dir.display());
    assert_eq!(shell(client, &["-v", &writable], "cat /mnt/data/given; echo back > /mnt/data/result"), "from the host");
    assert_eq!(std::fs::read_to_string(dir.join("result")).expect("written inside"), "back\n");
    let read_only = format!("{}:/mnt/data:ro", dir.display());
    let output = run(client, &["-v", &read_only, BUSYBOX, "touch", "/mnt/data/new"]);
    output.exits(1).complains("Read-only file system");
    let file = format!("{}/given:/etc/given", dir.display());
    assert_eq!(shell(client, &["-v", &file], "cat /etc/given"), "from the host");
    // -v makes a missing directory on the host, --mount refuses it.
    let missing = format!("{}/made/here:/mnt", dir.display());
    assert_eq!(shell(client, &["-v", &missing], "ls /mnt | wc -l"), "0");
    assert!(dir.join("made/here").is_dir());
    let refused = format!("type=bind,source={}/absent,target=/mnt", dir.display());
    run(client, &["--mount", &refused, BUSYBOX, "true"]).exits(125).complains("bind source path does not exist");
}

fn tmpfs_and_read_only_root(client: Client) {
    let script = "touch /new 2>/dev/null || echo refused; echo x > /scratch/f && cat /scratch/f; \
                  grep ' /scratch ' /proc/mounts";
    let output = shell(client, &["--read-only", "--tmpfs", "/scratch:size=1m,mode=700"], script);
    let mut lines = output.lines();
    assert_eq!(lines.next(), Some("refused"));
    assert_eq!(lines.next(), Some("x"));
    let mount = lines.next().unwrap_or_default();
    for option in ["tmpfs", "size=1024k", "mode=700", "nosuid", "nodev", "noexec"] {
        assert!(mount.contains(option), "{option} is not in {mount}");
    }
}

fn removed_at_the_end(client: Client) {
    let (docker, name) = (shared::client(client), name("removed"));
    docker.run(["run", "--rm", "--name", &name, BUSYBOX, "false"]).expect("runs").exits(1);
    let gone = docker.run(["inspect", &name]).expect("runs");
    gone.exits(1).complains(&format!("No such object: {name}"));
    // The name is free at once: --rm has finished when the command returns.
    docker.ok(["run", "--rm", "--name", &name, BUSYBOX, "true"]);
    docker.ok(["run", "--rm", "-d", "--name", &name, BUSYBOX, "true"]);
    let engine = shared::engine();
    let gone = budu_testkit::wait::until("removal", std::time::Duration::from_secs(10), || {
        let answer = engine.http("GET", &format!("/containers/{name}/json"), None).ok()?;
        (answer.status == 404).then_some(())
    });
    gone.expect("a detached --rm container goes by itself");
}

fn labels_and_restart_policy_are_stored(client: Client) {
    let (docker, name) = (shared::client(client), name("stored"));
    docker.ok(["run", "-d", "--name", &name, "--label", "a=b", "-l", "flag", "--restart", "on-failure:3", CONFIGURED]);
    let state = inspect(&shared::engine(), &name);
    let labels = serde_json::json!({"a": "b", "flag": "", "from": "image"});
    assert_eq!(state["Config"]["Labels"], labels);
    let policy = serde_json::json!({"Name": "on-failure", "MaximumRetryCount": 3});
    assert_eq!(state["HostConfig"]["RestartPolicy"], policy);
    run(client, &["--restart", "sometimes", BUSYBOX]).exits(125);
}

fn init_reaps_and_forwards(client: Client) {
    assert_eq!(shell(client, &[], "echo $$"), "1");
    assert_ne!(shell(client, &["--init"], "echo $$; true"), "1");
    // An orphan that ends must not stay as a zombie.
    let script = "sh -c 'sleep 0.1 &'; sleep 0.5; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";
    assert_eq!(shell(client, &["--init"], script), "0");
    let (docker, name) = (shared::client(client), name("init"));
    docker.ok(["run", "-d", "--init", "--name", &name, BUSYBOX, "sleep", "1000"]);
    let start = std::time::Instant::now();
    docker.ok(["stop", &name]);
    assert!(start.elapsed().as_secs() < 8, "sleep does not handle SIGTERM as pid 1, but it is not");
    assert_eq!(inspect(&shared::engine(), &name)["State"]["ExitCode"], 143);
}

fn large_output_is_complete(client: Client) {
    let script = "i=0; while [ $i -lt 20 ]; do head -c 100000 /dev/zero | tr '\\0' x; echo; i=$((i+1)); done";
    let output = run(client, &[BUSYBOX, "sh", "-c", script]);
    output.exits(0);
    assert_eq!(output.stdout.len(), 20 * 100_001);
}
