//! Bad input and faults: a clear complaint, the right code, nothing left behind.

use budu_testkit::images::{BIG, BUSYBOX, CONFIGURED, busybox_layout};
use budu_testkit::suite::Suite;
use budu_testkit::{Client, Engine, Fault, FaultyRegistry, Options};

use crate::shared::{self, inspect, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(unknown_image);
    suite.both(unreachable_registry);
    suite.both(faulty_registries);
    suite.once(transfer_is_resumed);
    suite.both(name_in_use);
    suite.both(bad_commands);
    suite.both(daemon_is_not_there);
    suite.both(failed_start_leaves_a_container);
    suite.once(full_disk);
    suite.once(error_bodies);
}

fn unknown_image(client: Client) {
    let docker = shared::client(client);
    docker
        .run(["run", "--rm", "127.0.0.1:5000/no-such-image:1"])
        .expect("runs")
        .exits(125)
        .complains("127.0.0.1:5000/no-such-image");
    docker.run(["pull", "127.0.0.1:5000/busybox:no-such-tag"]).expect("runs").exits(1).complains("no-such-tag");
    docker.run(["pull", "some/UPPER"]).expect("runs").exits(1).complains("invalid reference format");
    docker.run(["run", "--rm", "a b"]).expect("runs").exits(125).complains("invalid reference format");
    docker.run(["rmi", "absent"]).expect("runs").exits(1).complains("No such image: absent");
}

fn unreachable_registry(client: Client) {
    let docker = shared::client(client);
    docker
        .run(["pull", "127.0.0.1:1/some/image"])
        .expect("runs")
        .exits(1)
        .complains("127.0.0.1:1")
        .complains("onnection refused");
}

fn faulty_registries(client: Client) {
    // Not an engine that has parts of the image already: what is there is not fetched again.
    let engine = Engine::start(Options::default()).expect("starts");
    budu_testkit::images::ensure().expect("images are made");
    let docker = engine.client(client);
    let digest = budu_testkit::images::digest_of(BUSYBOX).expect("known");
    for fault in [Fault::WrongManifest, Fault::WrongLayer, Fault::TruncatedLayer, Fault::Broken] {
        let registry = FaultyRegistry::start(engine.side(), &busybox_layout(), fault).expect("starts");
        let repository = format!("{}/broken", registry.address());
        let image = format!("{repository}@{digest}");
        let output = docker.run(["pull", &image]).expect("runs");
        assert_eq!(output.code(), 1, "{fault:?}: {output}");
        if fault == Fault::WrongLayer {
            // It names the layer that is not what was promised.
            output.complains("layer").complains("sha256:");
        }
        assert!(!output.stderr.trim().is_empty(), "{fault:?}: no word of what went wrong");
        let kept = docker.ok(["images", "-q", &repository]);
        assert_eq!(kept, "", "{fault:?}: an image that never arrived is listed");
    }
    engine.finish().expect("nothing is left");
}

/// One broken transfer is no reason to give up.
fn transfer_is_resumed() {
    let engine = shared::engine_for("resume", Options::default);
    let layout = busybox_layout();
    budu_testkit::images::ensure().expect("images are made");
    let registry = FaultyRegistry::start(engine.side(), &layout, Fault::TruncatedOnce).expect("starts");
    let image = format!("{}/flaky:1", registry.address());
    engine.pull(&image).expect("pulled in the end");
    let docker = engine.client(Client::Docker);
    assert_eq!(docker.ok(["run", "--rm", &image, "echo", "whole"]), "whole");
}

fn name_in_use(client: Client) {
    let (docker, name) = (shared::client(client), name("taken"));
    let id = docker.ok(["create", "--name", &name, BUSYBOX]);
    docker
        .run(["run", "-d", "--name", &name, BUSYBOX])
        .expect("runs")
        .exits(125)
        .complains(&format!("Conflict. The container name \"/{name}\" is already in use by container \"{id}\""))
        .complains("You have to remove (or rename) that container to be able to reuse that name.");
    docker.ok(["rm", &name]);
}

fn bad_commands(client: Client) {
    let docker = shared::client(client);
    docker.run(["run"]).expect("runs").exits(1).complains("requires at least 1 argument");
    docker.run(["no-such-command"]).expect("runs").exits(1).complains("no-such-command");
    docker.run(["ps", "--no-such-flag"]).expect("runs").exits(125).complains("unknown flag: --no-such-flag");
    docker.run(["rm"]).expect("runs").exits(1).complains("requires at least 1 argument");
    docker.run(["run", "-e"]).expect("runs").exits(125).complains("flag needs an argument: 'e' in -e");
    docker.run(["inspect", "absent"]).expect("runs").exits(1).complains("No such object: absent");
    docker.run(["run", "--rm", "-d", "--restart", "always", BUSYBOX]).expect("runs").exits(125).complains("--restart");
    docker.run(["run", "--env-file", "/no/such/file", BUSYBOX]).expect("runs").exits(125).complains("/no/such/file");
}

fn daemon_is_not_there(client: Client) {
    let docker = shared::client(client).with_env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    docker
        .run(["ps"])
        .expect("runs")
        .exits(1)
        .complains("Cannot connect to the Docker daemon at unix:///nowhere/docker.sock. Is the docker daemon running?");
    docker.run(["run", BUSYBOX]).expect("runs").exits(125);
}

fn failed_start_leaves_a_container(client: Client) {
    let (docker, name) = (shared::client(client), name("unstarted"));
    docker.run(["run", "--name", &name, BUSYBOX, "no-such-program"]).expect("runs").exits(127);
    let state = &inspect(&shared::engine(), &name)["State"];
    assert_eq!(state["Status"], "created");
    assert_eq!(state["ExitCode"], 127);
    assert!(state["Error"].as_str().is_some_and(|error| error.contains("no-such-program")), "{state}");
    docker.ok(["rm", &name]);
    // With --rm not even that.
    docker.run(["run", "--rm", "--name", &name, BUSYBOX, "no-such-program"]).expect("runs").exits(127);
    docker.run(["inspect", &name]).expect("runs").exits(1);
}

fn full_disk() {
    let options = Options { registry: true, disk: Some(40 << 20), ..Options::default() };
    let engine = Engine::start(options).expect("starts");
    let docker = engine.client(Client::Docker);
    docker.ok(["pull", BUSYBOX]);
    docker.run(["pull", BIG]).expect("runs").exits(1).complains("no space left on device");
    assert_eq!(docker.ok(["images", "-q", BIG]), "");
    // What was begun is gone, so that there is room again.
    docker.ok(["pull", CONFIGURED]);
    assert_eq!(docker.ok(["run", "--rm", BUSYBOX, "echo", "room"]), "room");
    engine.finish().expect("nothing is left");
}

fn error_bodies() {
    let engine = shared::engine();
    let ask = |method: &str, target: &str, body: Option<serde_json::Value>| {
        engine.http(method, target, body.as_ref()).expect("answers")
    };
    let absent = ask("GET", "/containers/absent/json", None);
    assert_eq!((absent.status, absent.message().as_str()), (404, "No such container: absent"));
    assert_eq!(absent.header("content-type"), Some("application/json"));
    let image = ask("POST", "/containers/create", Some(serde_json::json!({"Image": "absent"})));
    assert_eq!((image.status, image.message().as_str()), (404, "No such image: absent:latest"));
    let image = ask("GET", "/images/absent/json", None);
    assert_eq!((image.status, image.message().as_str()), (404, "No such image: absent:latest"));
    let page = ask("GET", "/no/such/path", None);
    assert_eq!((page.status, page.message().as_str()), (404, "page not found"));
    let method = ask("PATCH", "/containers/json", None);
    assert_eq!((method.status, method.message().as_str()), (404, "page not found"));
    let id = engine.container(&serde_json::json!({"Cmd": ["sleep", "1000"]})).expect("started");
    assert_eq!(ask("POST", &format!("/containers/{id}/start"), None).status, 304);
    let busy = ask("DELETE", &format!("/containers/{id}"), None);
    assert_eq!(busy.status, 409);
    assert!(
        busy.message().starts_with(&format!("cannot remove container \"{id}\""))
            || busy.message().contains("container is running"),
        "{}",
        busy.text()
    );
    let signal = ask("POST", &format!("/containers/{id}/kill?signal=NOSUCH"), None);
    assert_eq!(signal.status, 400, "{}", signal.text());
    assert_eq!(ask("POST", &format!("/containers/{id}/stop?t=0"), None).status, 204);
    assert_eq!(ask("POST", &format!("/containers/{id}/stop"), None).status, 304);
    assert_eq!(ask("POST", &format!("/containers/{id}/kill"), None).status, 409);
    assert_eq!(ask("POST", &format!("/containers/{id}/exec"), Some(serde_json::json!({"Cmd": ["true"]}))).status, 409);
    assert_eq!(ask("DELETE", &format!("/containers/{id}"), None).status, 204);
    let filters = ask("GET", "/containers/json?filters=%7B%22nonsense%22%3A%5B%22x%22%5D%7D", None);
    assert_eq!((filters.status, filters.message().as_str()), (400, "invalid filter 'nonsense'"));
    let json = ask("GET", "/containers/json?filters=nonsense", None);
    assert_eq!(json.status, 400, "{}", json.text());
    let name = ask("POST", "/containers/create?name=-bad", Some(serde_json::json!({"Image": BUSYBOX})));
    assert_eq!(name.status, 400, "{}", name.text());
    let nothing = ask("POST", "/containers/create", None);
    assert_eq!(nothing.status, 400, "{}", nothing.text());
}
