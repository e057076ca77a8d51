//! The Engine API as other programs meet it: versions, headers, shapes, framing, foreign clients.

use std::io::Write;
use std::time::Duration;

use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::{Suite, skip};
use budu_testkit::{Client, cache_dir};
use serde_json::{Value, json};

use crate::shared;

pub(crate) fn tests(suite: &mut Suite) {
    suite.once(ping);
    suite.once(version_document);
    suite.once(versions_in_paths);
    suite.both(every_client_version);
    suite.once(shapes_by_version);
    suite.once(list_shapes);
    suite.once(attach_with_and_without_upgrade);
    suite.once(half_close_is_end_of_input);
    suite.once(wait_answers_before_the_end);
    suite.once(logs_answer_at_once);
    suite.once(exec_is_over_when_its_stream_is);
    suite.once(many_requests_on_one_connection);
    suite.once(docker_py);
}

fn ping() {
    let engine = shared::engine();
    let mut connection = engine.connect().expect("connects");
    for target in ["/_ping", "/v1.24/_ping"] {
        let answer = connection.send("GET", target, None).expect("answers").expect(200);
        assert_eq!(answer.text(), "OK");
        let minor: u32 =
            answer.header("api-version").expect("a version").trim_start_matches("1.").parse().expect("1.x");
        assert!(minor >= 51);
        assert_eq!(answer.header("ostype"), Some("linux"));
        assert_eq!(answer.header("docker-experimental"), Some("false"));
        assert_eq!(answer.header("swarm"), Some("inactive"));
        assert_eq!(answer.header("cache-control"), Some("no-cache, no-store, must-revalidate"));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert!(answer.header("builder-version").is_some());
        assert!(answer.header("server").is_some_and(|server| server.ends_with("(linux)")));
    }
    let head = connection.send("HEAD", "/_ping", None).expect("answers").expect(200);
    assert!(head.body.is_empty() && head.header("api-version").is_some());
}

fn version_document() {
    let version = shared::engine().http("GET", "/version", None).expect("answers").expect(200).json();
    assert_eq!(version["MinAPIVersion"], "1.24");
    assert_eq!(version["Os"], "linux");
    assert_eq!(version["Arch"], "amd64");
    assert!(version["Components"].as_array().is_some_and(|list| list[0]["Name"] == "Engine"), "{version}");
    assert!(version["KernelVersion"].is_string() && version["Platform"]["Name"].is_string());
}

fn versions_in_paths() {
    let engine = shared::engine();
    let ask = |target: &str| engine.http("GET", target, None).expect("answers");
    for minor in 24..=51 {
        let answer = ask(&format!("/v1.{minor}/containers/json")).expect(200);
        assert!(answer.json().is_array());
        assert!(answer.header("api-version").is_some());
    }
    let old = ask("/v1.23/containers/json");
    let text = "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version";
    // Such clients know no JSON.
    assert!(old.status == 400 && old.text().trim_end() == text, "{}", old.text());
    let new = ask("/v1.99/containers/json");
    assert_eq!(new.status, 400);
    assert!(
        new.message().starts_with("client version 1.99 is too new. Maximum supported API version is 1."),
        "{}",
        new.text()
    );
}

fn every_client_version(client: Client) {
    for minor in [24, 25, 30, 35, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51] {
        let version = format!("1.{minor}");
        let docker = shared::client(client).with_env("DOCKER_API_VERSION", &version);
        assert_eq!(docker.ok(["version", "-f", "{{.Client.APIVersion}}"]), version);
        docker.ok(["ps", "-a"]);
        docker.ok(["images"]);
        assert_eq!(docker.ok(["run", "--rm", BUSYBOX, "echo", &version]), version);
        docker.run(["run", "--rm", BUSYBOX, "sh", "-c", "exit 4"]).expect("runs").exits(4);
    }
}

fn shapes_by_version() {
    let engine = shared::engine();
    let at = |version: &str, target: &str| -> Value {
        engine.http("GET", &format!("/v{version}{target}"), None).expect("answers").expect(200).json()
    };
    let image = |version: &str| at(version, &format!("/images/{BUSYBOX}/json"));
    assert!(image("1.43")["VirtualSize"].is_number());
    assert!(image("1.44").get("VirtualSize").is_none());
    assert!(image("1.51")["Config"]["Cmd"].is_array());
    let id = engine.container(&json!({"Cmd": ["sleep", "1000"], "HostConfig": {"AutoRemove": true}})).expect("started");
    let container = |version: &str| at(version, &format!("/containers/{id}/json"));
    let short = &id[..12];
    for version in ["1.24", "1.44", "1.51"] {
        let one = container(version);
        let network = &one["NetworkSettings"];
        // Gone since 1.52, and clients up to 1.51 count on it.
        assert_eq!(network["IPAddress"], network["Networks"]["bridge"]["IPAddress"], "{version}");
        assert_eq!(one["Config"]["Hostname"], short);
        assert!(one["HostConfig"]["RestartPolicy"]["Name"] == "no", "{one}");
    }
    let summary = at("1.51", "/images/json");
    let row = summary.as_array().and_then(|rows| rows.iter().find(|row| row["RepoTags"][0] == BUSYBOX));
    let row = row.expect("busybox is listed");
    assert_eq!(row["SharedSize"], -1, "not asked for");
    engine.http("DELETE", &format!("/containers/{id}?force=1"), None).expect("answers").expect(204);
}

fn list_shapes() {
    let engine = shared::engine();
    let id = engine.container(&json!({"Cmd": ["sleep", "1000"]})).expect("started");
    let filters = format!("%7B%22id%22%3A%5B%22{id}%22%5D%7D");
    let list =
        engine.http("GET", &format!("/containers/json?filters={filters}"), None).expect("answers").expect(200).json();
    let one = &list[0];
    assert_eq!(one["Id"], id.as_str());
    assert_eq!(one["Image"], BUSYBOX);
    assert_eq!(one["Command"], "sleep 1000");
    assert_eq!(one["State"], "running");
    assert!(one["Status"].as_str().is_some_and(|status| status.starts_with("Up ")), "{one}");
    assert_eq!((&one["Ports"], &one["Mounts"], &one["Labels"]), (&json!([]), &json!([]), &json!({})));
    assert_eq!(one["HostConfig"]["NetworkMode"], "bridge");
    assert!(one["Created"].is_u64());
    // Without -a only what runs; the legacy list form and the map form of filters mean the same.
    let map = format!("%7B%22id%22%3A%7B%22{id}%22%3Atrue%7D%7D");
    let again = engine.http("GET", &format!("/containers/json?filters={map}"), None).expect("answers").json();
    assert_eq!(again[0]["Id"], one["Id"]);
    let sized = engine.http("GET", &format!("/containers/json?size=1&filters={map}"), None).expect("answers").json();
    assert!(sized[0]["SizeRootFs"].as_u64() > Some(0), "{sized}");
    engine.http("DELETE", &format!("/containers/{id}?force=1"), None).expect("answers").expect(204);
}

fn create(request: &Value) -> String {
    let mut body = json!({"Image": BUSYBOX});
    if let (Some(body), Some(request)) = (body.as_object_mut(), request.as_object()) {
        body.extend(request.clone());
    }
    let created = shared::engine().http("POST", "/containers/create", Some(&body)).expect("answers").expect(201);
    assert_eq!(created.json()["Warnings"], json!([]));
    created.json()["Id"].as_str().expect("an id").to_owned()
}

fn attach_with_and_without_upgrade() {
    let engine = shared::engine();
    let upgrade: &[(&str, &str)] = &[("Connection", "Upgrade"), ("Upgrade", "tcp")];
    for (version, headers, status, kind) in [
        ("1.51", upgrade, 101, "application/vnd.docker.multiplexed-stream"),
        ("1.41", upgrade, 101, "application/vnd.docker.raw-stream"),
        ("1.51", &[], 200, "application/vnd.docker.raw-stream"),
    ] {
        let id = create(&json!({"Cmd": ["sh", "-c", "echo out; echo err >&2"]}));
        let target = format!("/v{version}/containers/{id}/attach?stream=1&stdout=1&stderr=1");
        let connection = engine.connect().expect("connects");
        let mut stream = connection.stream("POST", &target, None, headers).expect("answers");
        assert_eq!(stream.status, status);
        assert_eq!(stream.header("content-type"), Some(kind), "{version}");
        engine.http("POST", &format!("/containers/{id}/start"), None).expect("answers").expect(204);
        assert_eq!(stream.frames().expect("frames"), ("out\n".to_owned(), "err\n".to_owned()));
        engine.http("DELETE", &format!("/containers/{id}?force=1"), None).expect("answers").expect(204);
    }
}

fn half_close_is_end_of_input() {
    let engine = shared::engine();
    let id = create(
        &json!({"Cmd": ["sh", "-c", "wc -c; sleep 0.3; echo after"], "OpenStdin": true, "StdinOnce": true, "AttachStdin": true}),
    );
    let target = format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1");
    let headers = [("Connection", "Upgrade"), ("Upgrade", "tcp")];
    let mut stream = engine.connect().expect("connects").stream("POST", &target, None, &headers).expect("answers");
    engine.http("POST", &format!("/containers/{id}/start"), None).expect("answers").expect(204);
    stream.write(&[b'z'; 1000]).expect("written");
    stream.end_input().expect("closed");
    assert_eq!(stream.frames().expect("frames").0, "1000\nafter\n");
    engine.http("DELETE", &format!("/containers/{id}?force=1"), None).expect("answers").expect(204);
}

fn wait_answers_before_the_end() {
    let engine = shared::engine();
    let id = create(&json!({"Cmd": ["sh", "-c", "exit 11"], "HostConfig": {"AutoRemove": true}}));
    let target = format!("/containers/{id}/wait?condition=removed");
    // The head of the answer arrives although the container was not even started: clients wait for it first.
    let mut stream = engine.stream("POST", &target, None).expect("the head of the answer");
    assert_eq!(stream.status, 200);
    engine.http("POST", &format!("/containers/{id}/start"), None).expect("answers").expect(204);
    let mut body = Vec::new();
    while let Some(chunk) = stream.chunk().expect("a chunk") {
        body.extend(chunk);
    }
    let result: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(result["StatusCode"], 11);
    let gone = engine.http("GET", &format!("/containers/{id}/json"), None).expect("answers");
    assert_eq!(gone.status, 404, "the answer came before the container was removed");
}

fn logs_answer_at_once() {
    let engine = shared::engine();
    let id = engine.container(&json!({"Cmd": ["sleep", "1000"]})).expect("started");
    let started = std::time::Instant::now();
    let stream = engine.stream("GET", &format!("/containers/{id}/logs?follow=1&stdout=1"), None).expect("answers");
    assert_eq!(stream.status, 200);
    assert!(started.elapsed() < Duration::from_secs(2));
    drop(stream);
    let none = engine.http("GET", &format!("/containers/{id}/logs"), None).expect("answers");
    assert_eq!((none.status, none.message().as_str()), (400, "Bad parameters: you must choose at least one stream"));
    engine.http("DELETE", &format!("/containers/{id}?force=1"), None).expect("answers").expect(204);
}

fn exec_is_over_when_its_stream_is() {
    let engine = shared::engine();
    let id = engine.container(&json!({"Cmd": ["sleep", "1000"]})).expect("started");
    for code in 0..10 {
        let body = json!({"AttachStdout": true, "Cmd": ["sh", "-c", format!("echo x; exit {code}")]});
        let exec =
            engine.http("POST", &format!("/containers/{id}/exec"), Some(&body)).expect("answers").expect(201).json();
        let exec = exec["Id"].as_str().expect("an id");
        let headers = [("Connection", "Upgrade"), ("Upgrade", "tcp")];
        let body = json!({"Detach": false, "Tty": false});
        let connection = engine.connect().expect("connects");
        let mut stream =
            connection.stream("POST", &format!("/exec/{exec}/start"), Some(&body), &headers).expect("answers");
        assert_eq!(stream.frames().expect("frames").0, "x\n");
        let state = engine.http("GET", &format!("/exec/{exec}/json"), None).expect("answers").expect(200).json();
        assert_eq!((&state["Running"], &state["ExitCode"]), (&json!(false), &json!(code)), "{state}");
        assert_eq!(state["ContainerID"], id.as_str());
    }
    engine.http("DELETE", &format!("/containers/{id}?force=1"), None).expect("answers").expect(204);
}

fn many_requests_on_one_connection() {
    let engine = shared::engine();
    let mut connection = engine.connect().expect("connects");
    for _ in 0..20 {
        let body = json!({"Image": BUSYBOX, "Cmd": ["true"]});
        let id = connection.send("POST", "/containers/create", Some(&body)).expect("answers").expect(201).json();
        let id = id["Id"].as_str().expect("an id").to_owned();
        connection.send("POST", &format!("/containers/{id}/start"), None).expect("answers").expect(204);
        let code = connection.send("POST", &format!("/containers/{id}/wait"), None).expect("answers").expect(200);
        assert_eq!(code.json()["StatusCode"], 0);
        connection.send("DELETE", &format!("/containers/{id}"), None).expect("answers").expect(204);
    }
}

const DOCKER_PY: &str = r#"
import sys, docker
client = docker.from_env()
image = sys.argv[1]
assert client.ping()
assert client.version()["ApiVersion"]
assert client.info()["OSType"] == "linux"
assert client.containers.run(image, "echo from python", remove=True) == b"from python\n"
try:
    client.containers.run(image, ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
    raise SystemExit("no error")
except docker.errors.ContainerError as error:
    assert error.exit_status == 3 and b"bad" in error.stderr, error
try:
    client.images.get("absent")
    raise SystemExit("no error")
except docker.errors.ImageNotFound:
    pass
box = client.containers.run(image, "sleep 1000", detach=True, labels={"from": "python"}, mem_limit="64m",
                            environment={"A": "b"}, ports={"80/tcp": None})
box.reload()
assert box.status == "running" and box.labels == {"from": "python"}
assert box.ports["80/tcp"][0]["HostPort"]
code, output = box.exec_run(["sh", "-c", "echo $A; exit 4"])
assert (code, output) == (4, b"b\n"), (code, output)
code, (out, err) = box.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True)
assert (out, err) == (b"o\n", b"e\n"), (out, err)
stream = box.exec_run(["sh", "-c", "for i in 1 2 3; do echo $i; done"], stream=True).output
assert b"".join(stream) == b"1\n2\n3\n"
socket = box.exec_run("cat", stdin=True, socket=True).output
socket._sock.sendall(b"hello\n")
assert socket.read(14)[8:] == b"hello\n"
socket._sock.close()
assert [c.id for c in client.containers.list(filters={"label": "from=python"})] == [box.id]
assert box.top()["Titles"]
box.kill("SIGKILL")
assert box.wait()["StatusCode"] == 137
box.remove()
talker = client.containers.create(image, ["sh", "-c", "echo one; echo two"])
follow = talker.attach(stdout=True, stream=True)
talker.start()
assert b"".join(follow) == b"one\ntwo\n"
assert talker.wait()["StatusCode"] == 0
assert b"".join(talker.logs(stream=True, follow=True)) == b"one\ntwo\n"
assert talker.logs(tail=1) == b"two\n"
talker.remove()
assert any(image in i.tags for i in client.images.list())
print("python is content")
"#;

fn docker_py() {
    let python = cache_dir().join("python/bin/python3");
    if !python.exists() {
        skip("docker-py is not installed: cargo xtask test installs it");
    }
    let engine = shared::engine();
    let script = engine.path("script.py");
    let mut file = std::fs::File::create(&script).expect("the engine's directory is writable");
    file.write_all(DOCKER_PY.as_bytes()).expect("written");
    let output = std::process::Command::new(python)
        .arg(&script)
        .arg(BUSYBOX)
        .env("DOCKER_HOST", format!("unix://{}", engine.socket().display()))
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.trim(), "python is content", "{}", String::from_utf8_lossy(&output.stderr));
}
