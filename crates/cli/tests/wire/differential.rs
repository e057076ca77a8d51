//! The same arguments given to the real `docker` command must come to the same requests, the same
//! text and the same status.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::fake::{Fake, NEWEST};
use super::{client, run, shown};

/// The real command, and ours under its name.
struct Pair {
    docker: PathBuf,
    ours: PathBuf,
    _directory: tempfile::TempDir,
}

impl Pair {
    fn find() -> Option<Pair> {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let docker = std::env::split_paths(&paths).map(|path| path.join("docker")).find(|path| path.exists());
        let Some(docker) = docker else {
            println!("skipped: there is no docker command to compare with");
            return None;
        };
        let version = std::process::Command::new(&docker).arg("--version").output().ok()?;
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        if !version.starts_with("Docker version 28.") {
            println!("skipped: compared with docker 28 only, this is {}", version.trim());
            return None;
        }
        let directory = tempfile::tempdir().expect("temporary directory");
        let ours = directory.path().join("docker");
        std::os::unix::fs::symlink(client(), &ours).expect("link");
        Some(Pair { docker, ours, _directory: directory })
    }
}

/// Maps whose keys alone mean something.
const SETS: &[&str] = &["ExposedPorts", "Volumes", "Labels", "Tmpfs", "PortBindings", "EndpointsConfig"];

/// Removes what means nothing: members that are null, false, zero or empty.
fn essence(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.iter().map(|(key, value)| match value {
                Value::Object(set) if SETS.contains(&key.as_str()) => {
                    (key.clone(), Value::Object(set.iter().map(|(key, value)| (key.clone(), essence(value))).collect()))
                }
                // Docker keeps these in no order of its own.
                Value::Array(list) if matches!(key.as_str(), "Env" | "Ulimits" | "Binds") => {
                    let mut list: Vec<Value> = list.iter().map(essence).collect();
                    list.sort_by_key(ToString::to_string);
                    (key.clone(), Value::Array(list))
                }
                value => (key.clone(), essence(value)),
            });
            Value::Object(kept.filter(|(_, value)| !is_nothing(value)).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(essence).collect()),
        other => other.clone(),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Array(_) => false,
    }
}

/// Lists the members in which two bodies differ.
fn differences(place: &str, docker: &Value, ours: &Value, into: &mut Vec<String>) {
    match (docker, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differences(&format!("{place}.{key}"), &of(a), &of(b), into);
            }
        }
        _ if docker == ours => {}
        _ => into.push(format!("  {place}: docker {docker}, ours {ours}")),
    }
}

fn create_body(program: &Path, args: &[&str]) -> (Value, String) {
    let fake = Fake::start(NEWEST);
    let output = run(program, &fake.host(), args, "");
    let create = fake.asked().into_iter().find(|asked| asked.line.contains("/containers/create"));
    let Some(create) = create else { panic!("{args:?}: no create request: {}", shown(&output)) };
    let query = create.line.split_once('?').map_or("", |(_, query)| query).to_owned();
    (essence(&create.body), query)
}

#[test]
fn create_requests_are_the_same() {
    let Some(pair) = Pair::find() else { return };
    let files = tempfile::tempdir().expect("temporary directory");
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).expect("write");
        path.to_str().expect("utf-8").to_owned()
    };
    let env_file = file("env", "# no\nA=1\nFROM_OUTSIDE\nUNSET_HERE\n B=x y \n");
    let label_file = file("labels", "l1=v1\nl2\n");
    let profile = file("seccomp.json", "{\n \"defaultAction\": \"SCMP_ACT_ALLOW\",\n \"b\": [1, 2]\n}");
    let seccomp = format!("seccomp={profile}");
    let cases: &[&[&str]] = &[
        &[],
        &["--name", "n", "--rm"],
        &["-e", "X=1", "-eY=2", "-e", "FROM_OUTSIDE", "-e", "UNSET_HERE", "--env-file", &env_file],
        &["-l", "a=b", "--label", "c", "--label-file", &label_file],
        &[
            "-p",
            "80",
            "-p",
            "8080:81/udp",
            "-p",
            "127.0.0.1::82",
            "-p",
            "9000-9001:90-91",
            "-P",
            "--expose",
            "70-71",
            "--expose",
            "7/udp",
        ],
        &["-p", "target=80,published=8080,protocol=tcp"],
        &[
            "-v",
            "/a:/b:ro",
            "-v",
            "/anon",
            "-v",
            "vol:/v",
            "-v",
            "./rel:/r",
            "--volumes-from",
            "x",
            "--volume-driver",
            "d",
        ],
        &["--mount", "type=bind,src=/a,dst=/b,readonly,bind-propagation=rprivate,bind-recursive=readonly"],
        &[
            "--mount",
            "type=volume,source=v,target=/v,volume-nocopy,volume-label=a=b,volume-driver=d,volume-opt=o=p",
            "--mount",
            "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770",
        ],
        &["--tmpfs", "/run:size=1m,noexec", "--tmpfs", "/x", "--read-only"],
        &[
            "-m",
            "64m",
            "--memory-swap",
            "-1",
            "--memory-reservation",
            "1.5g",
            "--memory-swappiness",
            "5",
            "--oom-kill-disable",
            "--oom-score-adj",
            "-5",
        ],
        &["--cpus", "1.5", "--cpu-shares", "7", "--cpuset-cpus", "0-1", "--cpuset-mems", "0", "--pids-limit", "50"],
        &[
            "--cpu-period",
            "100000",
            "--cpu-quota",
            "5000",
            "--cpu-rt-period",
            "9",
            "--cpu-rt-runtime",
            "8",
            "--cgroup-parent",
            "/p",
        ],
        &[
            "--blkio-weight",
            "300",
            "--blkio-weight-device",
            "/dev/x:20",
            "--device-read-bps",
            "/dev/x:1mb",
            "--device-write-iops",
            "/dev/x:5",
        ],
        &[
            "--cap-add",
            "NET_ADMIN",
            "--cap-drop",
            "all",
            "--privileged",
            "--security-opt",
            "no-new-privileges",
            "--security-opt",
            "label:disable",
        ],
        &["--security-opt", &seccomp, "--security-opt", "systempaths=unconfined", "--security-opt", "apparmor=x"],
        &["--network", "host", "--add-host", "a:1.2.3.4", "--add-host", "b=[::1]", "--add-host", "c:host-gateway"],
        &[
            "--net",
            "mine",
            "--ip",
            "10.0.0.5",
            "--ip6",
            "fd00::5",
            "--network-alias",
            "x",
            "--mac-address",
            "92:d0:c6:0a:29:33",
            "--link",
            "db:d",
        ],
        &["--network", "name=mine,alias=one,alias=two,ip=10.0.0.6,driver-opt=k=v,gw-priority=5"],
        &["--network", "bridge"],
        &["--network", "none"],
        &["--network", "bridge", "--mac-address", "92:d0:c6:0a:29:33"],
        &["--network", "bridge", "--ip", "10.0.0.5"],
        &["--network", "name=bridge,mac-address=92:d0:c6:0a:29:33"],
        &["--mac-address", "92:d0:c6:0a:29:33", "--ip", "10.0.0.5"],
        &["--cap-add", "chown", "--cap-add", "audit_write", "--cap-drop", "chown", "--cap-drop", "kill"],
        &["--network", "container:x"],
        &["--network", "name=host"],
        &["--network", "a", "--network", "b"],
        &["--cap-add", "all", "--cap-add", "chown", "--cap-drop", "ALL", "--cap-drop", "CAP_KILL"],
        &["--dns", "1.1.1.1", "--dns-opt", "ndots:1", "--dns-option", "rotate", "--dns-search", "example.com"],
        &[
            "--hostname",
            "h",
            "--domainname",
            "d",
            "-u",
            "1:2",
            "-w",
            "/w",
            "--group-add",
            "audio",
            "--init",
            "--stop-signal",
            "INT",
            "--stop-timeout",
            "3",
        ],
        &["--entrypoint", "/bin/sh"],
        &["--entrypoint", ""],
        &["--restart", "on-failure:3"],
        &["--restart=unless-stopped", "--log-driver", "json-file", "--log-opt", "max-size=1m"],
        &["--ulimit", "nofile=5:10", "--ulimit", "core=0", "--sysctl", "net.ipv4.ip_forward=1", "--shm-size", "1g"],
        &[
            "--pid",
            "host",
            "--ipc",
            "shareable",
            "--uts",
            "host",
            "--userns",
            "host",
            "--cgroupns",
            "private",
            "--runtime",
            "r",
        ],
        &[
            "--device",
            "/dev/null",
            "--device",
            "/dev/zero:/dev/z:r",
            "--device",
            "/dev/full:rw",
            "--device-cgroup-rule",
            "c 1:* rwm",
        ],
        &["--device", "vendor.com/class=gpu0", "--gpus", "all"],
        &["--gpus", "\"device=0,1\",capabilities=compute"],
        &[
            "--health-cmd",
            "true",
            "--health-interval",
            "1m30s",
            "--health-retries",
            "4",
            "--health-start-period",
            "1s",
            "--health-timeout",
            "5s",
        ],
        &["--no-healthcheck", "--annotation", "a=b", "--storage-opt", "size=1g", "--isolation", "default"],
        &["--platform", "linux/arm64", "--pull", "never", "--quiet"],
        &["-a", "stdout", "-a", "STDERR", "--rm=false"],
        &["-i", "--tty=false"],
        &["-dt"],
    ];
    let mut wrong = Vec::new();
    for case in cases {
        let args: Vec<&str> = [&["run"], *case, &["echo", "sh", "-c", "-x", "--rm", "--", "y"]].concat();
        let (docker, ours) = (create_body(&pair.docker, &args), create_body(&pair.ours, &args));
        let mut found = Vec::new();
        differences("", &docker.0, &ours.0, &mut found);
        differences("query", &docker.1.into(), &ours.1.into(), &mut found);
        if !found.is_empty() {
            wrong.push(format!("{case:?}\n{}", found.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Arguments whose output must be the same to the byte.
const TEXTS: &[&[&str]] = &[
    &["ps"],
    &["ps", "-q"],
    &["ps", "--no-trunc"],
    &["ps", "--format", "table {{.Names}}\\t{{.Label \"com.example.team\"}}\\t{{.Mounts}}\\t{{.Networks}}"],
    &["ps", "--format", "{{.ID}}: {{.Labels}} {{.CreatedAt}} {{.LocalVolumes}} {{.State}}"],
    &["ps", "--format", "json"],
    &["ps", "--format", "{{json .}}"],
    &["ps", "--format", "{{nope}}"],
    &["inspect", "-f", "{{nope}}", "web"],
    &["images"],
    &["images", "-q"],
    &["images", "--digests"],
    &["images", "--no-trunc"],
    &["images", "--format", "{{.Repository}}:{{.Tag}} {{.Digest}} {{.Size}} {{.CreatedAt}}"],
    &["images", "--format", "json"],
    &["inspect", "-f", "{{.Name}} {{.State.Status}} {{index .Config.Labels \"a.b\"}}", "web"],
    &["inspect", "-f", "{{.Nope}}", "web"],
    &["container", "inspect", "gone"],
    &["stop", "web", "gone"],
    &["kill", "-s", "HUP", "web"],
    &["run", "--rm", "echo"],
    &["run", "-d", "absent"],
    &["run", "--rm", "nocmd"],
    &["run", "--pull=never", "absent"],
    &["create", "absent"],
    &["create", "--pull=never", "absent"],
    &["create", "-p", "x", "echo"],
    &["exec", "web", "ls"],
    &["exec", "gone", "ls"],
    &["logs", "web"],
    &["logs", "gone"],
    &["attach", "gone"],
    &["start", "web"],
    &["start", "gone"],
    &["rm", "gone"],
    &["rm", "-f", "gone"],
    &["port", "gone"],
    &["top", "gone"],
    &["rename", "gone", "x"],
    &["pull", "absent"],
    &["pull", "-q", "absent"],
    &["wait", "gone"],
    &["rmi", "gone"],
    &["tag", "a", "B"],
    &["run", "--format"],
    &["run", "-m", "abc", "x"],
    &["run"],
    &["ps", "a"],
    &["exec", "a"],
    &["ps", "-z"],
];

#[test]
fn texts_are_the_same() {
    let Some(pair) = Pair::find() else { return };
    let mut wrong = Vec::new();
    for args in TEXTS {
        let show = |program: &Path| shown(&run(program, &Fake::start(NEWEST).host(), args, ""));
        let (docker, ours) = (show(&pair.docker), show(&pair.ours));
        if docker != ours {
            wrong.push(format!("{args:?}\n=== docker\n{docker}\n=== ours\n{ours}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), TEXTS.len(), wrong.join("\n"));
}
