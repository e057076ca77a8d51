//! Devices by name: what vendors describe, and who asks for it.

use std::path::PathBuf;

use budu_testkit::Client;
use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::{Suite, only_budu};

use crate::shared::{self, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(nodes_of_the_host);
    suite.both(a_described_device);
    suite.both(what_nobody_describes);
    suite.once(a_described_hook_runs_on_the_host);
}

fn nodes_of_the_host(client: Client) {
    let docker = shared::client(client);
    // Of a device that no driver serves, the kernel says so only to those who may use it.
    let script = "head -c 3 /dev/other | wc -c; mknod /dev/k c 240 77; head -c 1 /dev/k 2>&1";
    let run = |flags: &[&str]| {
        let all =
            [&["run", "--rm", "--device", "/dev/zero:/dev/other:r"], flags, &[BUSYBOX, "sh", "-c", script]].concat();
        docker.run(all).expect("the client runs").exits(1).stdout.clone()
    };
    assert_eq!(run(&["--device-cgroup-rule", "c 240:77 rwm"]), "3\nhead: /dev/k: No such device or address\n");
    assert_eq!(run(&["--device-cgroup-rule", "c 240:78 rwm"]), "3\nhead: /dev/k: Operation not permitted\n");
    let args = ["run", "--rm", "--device", "/dev/no-such", BUSYBOX, "true"];
    docker.run(args).expect("the client runs").exits(127).complains(
        "error gathering device information while adding custom device \"/dev/no-such\": no such file or directory",
    );
}

/// A description where every daemon looks for them, as long as the test runs.
struct Described(PathBuf);

fn describe(file: &str, text: &str) -> Described {
    // dockerd may see another /run than we do.
    let root = PathBuf::from(format!("/proc/{}/root/run/cdi", shared::engine().daemon_pid()));
    std::fs::create_dir_all(&root).expect("a directory");
    let path = root.join(format!("{}-{file}", name("budu-e2e")));
    std::fs::write(&path, text).expect("a description");
    Described(path)
}

impl Drop for Described {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        // Others may describe something there.
        let _ = self.0.parent().map(std::fs::remove_dir);
    }
}

const THINGS: &str = "cdiVersion: 0.6.0
kind: acme.com/thing
devices:
- name: one
  containerEdits:
    env: [THING=one]
    deviceNodes:
    - {path: /dev/thing, hostPath: /dev/zero, permissions: r}
containerEdits:
  env:
  - MAKER=acme
  mounts:
  - {hostPath: /etc/hostname, containerPath: /opt/thing, options: [ro, bind]}
";

fn a_described_device(client: Client) {
    let docker = shared::client(client);
    let kind = format!("acme.com/{}", name("thing"));
    let _described = describe("things.yaml", &THINGS.replace("acme.com/thing", &kind));
    let device = format!("{kind}=one");
    let script = "echo $MAKER $THING; head -c 4 /dev/thing | wc -c; test -e /opt/thing && echo mounted; echo x > /opt/thing || echo refused";
    let args = ["run", "--rm", "--device", &device, BUSYBOX, "sh", "-c", script];
    let seen = docker.ok(args);
    assert!(seen.starts_with("acme one\n4\nmounted") && seen.ends_with("refused"), "{seen}");
}

fn what_nobody_describes(client: Client) {
    let docker = shared::client(client);
    let fails = |flag: &str, value: &str, text: &str| {
        let args = ["run", "--rm", flag, value, BUSYBOX, "true"];
        docker.run(args).expect("the client runs").exits(125).complains(text);
    };
    fails("--device", "acme.com/thing=none", "unresolvable CDI devices acme.com/thing=none");
    fails("--gpus", "all", "could not select device driver \"\" with capabilities: [[gpu]]");
}

fn a_described_hook_runs_on_the_host() {
    only_budu("the path of its runtime's state differs");
    let (engine, name) = (shared::engine(), name("hook"));
    let note = engine.path("hook-was-told");
    let text = format!(
        r#"{{"cdiVersion":"0.6.0","kind":"acme.com/hook","devices":[{{"name":"all","containerEdits":{{"hooks":[
        {{"hookName":"createRuntime","path":"/bin/sh","args":["sh","-c","cat > {0}"]}},
        {{"hookName":"poststop","path":"/bin/sh","args":["sh","-c","echo over >> {0}"]}}]}}}}]}}"#,
        note.display()
    );
    let _described = describe("hook.json", &text);
    let docker = engine.client(Client::Docker);
    docker.ok(["run", "--name", &name, "--device", "acme.com/hook=all", BUSYBOX, "true"]);
    let told = std::fs::read_to_string(&note).expect("the hook ran");
    assert!(told.contains("\"status\":\"creating\"") && told.ends_with("over\n"), "{told}");
    docker.ok(["rm", &name]);
}
