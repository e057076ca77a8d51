//! `pull`, `images`, `rmi`, `inspect` of images from a real registry.

use std::sync::Arc;

use budu_testkit::images::{BUSYBOX, CONFIGURED, DEBIAN, MULTI, digest_of};
use budu_testkit::suite::Suite;
use budu_testkit::{Client, Engine, Options};
use serde_json::Value;

use crate::shared::{self, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(pull_by_tag);
    suite.both(pull_by_digest);
    suite.once(layers_of_either_compression);
    suite.once(index_of_several_platforms);
    suite.both(images_table);
    suite.both(rmi_untags_and_deletes);
    suite.both(inspect_an_image);
    suite.both(run_pulls_what_is_missing);
    suite.once(parallel_pulls_of_one_image);
    suite.once(pull_progress_is_json);
}

/// An engine of its own for these tests: other tests count on their images.
fn engine() -> Arc<Engine> {
    shared::engine_for("images", || Options { registry: true, ..Options::default() })
}

/// Tests that pull and remove by name take turns, each with an engine that has no image.
pub(crate) fn alone<T>(work: impl FnOnce(&Engine) -> T) -> T {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let engine = engine();
    let list = engine.http("GET", "/images/json", None).expect("answers").json();
    for image in list.as_array().into_iter().flatten() {
        let id = image["Id"].as_str().unwrap_or_default();
        engine.http("DELETE", &format!("/images/{id}?force=1"), None).expect("answers");
    }
    work(&engine)
}

fn pull_by_tag(client: Client) {
    alone(|engine| {
        let docker = engine.client(client);
        let out = docker.ok(["pull", BUSYBOX]);
        let digest = digest_of(BUSYBOX).expect("known");
        let (repository, _) = BUSYBOX.rsplit_once(':').expect("a tag");
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], format!("1: Pulling from {}", &repository["127.0.0.1:5000/".len()..]));
        assert!(out.contains(&format!("Digest: {digest}")), "{out}");
        assert!(out.contains(&format!("Status: Downloaded newer image for {BUSYBOX}")), "{out}");
        assert_eq!(*lines.last().expect("lines"), BUSYBOX);
        let again = docker.ok(["pull", BUSYBOX]);
        assert!(again.contains(&format!("Status: Image is up to date for {BUSYBOX}")), "{again}");
        assert_eq!(docker.ok(["pull", "-q", BUSYBOX]), BUSYBOX);
    });
}

fn pull_by_digest(client: Client) {
    alone(|engine| {
        let docker = engine.client(client);
        let (repository, _) = CONFIGURED.rsplit_once(':').expect("a tag");
        let by_digest = format!("{repository}@{}", digest_of(CONFIGURED).expect("known"));
        let out = docker.ok(["pull", &by_digest]);
        assert!(out.contains(&format!("Status: Downloaded newer image for {by_digest}")), "{out}");
        assert_eq!(docker.ok(["run", "--rm", &by_digest]), "entry default");
        let listed = docker.ok(["images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}"]);
        assert_eq!(listed, format!("{repository} <none> {}", by_digest.rsplit_once('@').expect("@").1));
        let wrong = format!("{repository}@sha256:{}", "0".repeat(64));
        docker.run(["pull", &wrong]).expect("runs").exits(1).complains("manifest unknown");
    });
}

fn layers_of_either_compression() {
    alone(|engine| {
        let docker = engine.client(Client::Docker);
        docker.ok(["pull", DEBIAN]);
        let script = "cut -d. -f1 /etc/debian_version; cat /etc/third-layer; ls /etc/issue 2>&1 | wc -l; \
                      ls -A /usr/share/zoneinfo; stat -c '%a %U' /usr/bin/passwd; readlink /bin; \
                      dpkg -s base-files | grep Status; test -e /etc/issue && echo there; \
                      find / -xdev -name '.wh.*' | wc -l";
        let seen = docker.ok(["run", "--rm", DEBIAN, "bash", "-c", script]);
        let expected = "12\nthree\n1\nonly\n4755 root\nusr/bin\nStatus: install ok installed\n0";
        assert_eq!(seen, expected);
        // Hard links within a layer stay one file.
        let links = docker.ok(["run", "--rm", DEBIAN, "bash", "-c", "stat -c %h /usr/bin/perl"]);
        assert_eq!(links, "2");
        let layers = docker.ok(["inspect", "-f", "{{len .RootFS.Layers}}", DEBIAN]);
        assert_eq!(layers, "3");
    });
}

fn index_of_several_platforms() {
    alone(|engine| {
        engine.pull(MULTI).expect("pulled");
        let docker = engine.client(Client::Docker);
        let own = docker.ok(["version", "-f", "{{.Server.Arch}}"]);
        assert_eq!(docker.ok(["inspect", "-f", "{{.Architecture}}", MULTI]), own);
        assert_eq!(docker.ok(["run", "--rm", MULTI, "echo", "runs"]), "runs");
        let digest = digest_of(MULTI).expect("known");
        let digests = docker.ok(["inspect", "-f", "{{index .RepoDigests 0}}", MULTI]);
        assert_eq!(digests, format!("127.0.0.1:5000/multi@{digest}"));
    });
}

fn images_table(client: Client) {
    alone(|engine| {
        engine.pull(BUSYBOX).expect("pulled");
        let docker = engine.client(client);
        docker.ok(["tag", BUSYBOX, "other/name:v2"]);
        let table = docker.ok(["images"]);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]);
        let id = docker.ok(["images", "-q", "--no-trunc", BUSYBOX]);
        let rows: Vec<&[&str]> = lines[1..].iter().map(|line| &line[..3]).collect();
        let short = &id["sha256:".len().."sha256:".len() + 12];
        assert!(rows.contains(&&["127.0.0.1:5000/busybox", "1", short][..]), "{table}");
        assert!(rows.contains(&&["other/name", "v2", short][..]), "{table}");
        assert_eq!(docker.ok(["images", "-q"]).lines().next(), Some(short));
        assert_eq!(docker.ok(["images", "--format", "{{.Tag}}", "other/name"]), "v2");
        assert_eq!(docker.ok(["images", "-q", "--filter", "reference=other/*"]), short);
        assert_eq!(docker.ok(["images", "-q", "--filter", "dangling=true"]), "");
    });
}

fn rmi_untags_and_deletes(client: Client) {
    alone(|engine| {
        engine.pull(BUSYBOX).expect("pulled");
        let docker = engine.client(client);
        let id = docker.ok(["images", "-q", "--no-trunc", BUSYBOX]);
        docker.ok(["tag", BUSYBOX, "second:name"]);
        assert_eq!(docker.ok(["rmi", "second:name"]), "Untagged: second:name");
        let name = name("uses");
        docker.ok(["run", "-d", "--name", &name, BUSYBOX, "sleep", "1000"]);
        docker
            .run(["rmi", &id])
            .expect("runs")
            .exits(1)
            .complains("conflict: unable to delete")
            .complains("image is being used by running container");
        docker.ok(["stop", "-t", "0", &name]);
        docker
            .run(["rmi", BUSYBOX])
            .expect("runs")
            .exits(1)
            .complains("unable to remove repository reference")
            .complains("(must force)");
        docker.ok(["rm", &name]);
        let out = docker.ok(["rmi", BUSYBOX]);
        assert!(out.contains(&format!("Untagged: {BUSYBOX}")), "{out}");
        assert!(out.contains(&format!("Deleted: {id}")), "{out}");
        docker.run(["rmi", BUSYBOX]).expect("runs").exits(1).complains(&format!("No such image: {BUSYBOX}"));
        assert_eq!(docker.ok(["images", "-q"]), "");
    });
}

fn inspect_an_image(client: Client) {
    alone(|engine| {
        engine.pull(CONFIGURED).expect("pulled");
        let docker = engine.client(client);
        let json: Value = serde_json::from_str(&docker.ok(["inspect", CONFIGURED])).expect("an array");
        let one = &json[0];
        assert_eq!(one["RepoTags"], serde_json::json!([CONFIGURED]));
        assert_eq!(one["Config"]["User"], "dock");
        assert_eq!(one["Config"]["WorkingDir"], "/work/deep");
        assert_eq!(one["Config"]["Entrypoint"], serde_json::json!(["/bin/echo", "entry"]));
        assert_eq!(one["Config"]["StopSignal"], "SIGUSR1");
        assert_eq!(one["Created"], "2026-01-02T03:04:05Z");
        assert_eq!(one["Os"], "linux");
        assert_eq!(one["RootFS"]["Type"], "layers");
        assert!(one["Size"].as_u64() > Some(100_000), "{one}");
        let id = docker.ok(["inspect", "-f", "{{.Id}}", CONFIGURED]);
        assert_eq!(docker.ok(["inspect", "--type", "image", "-f", "{{.Id}}", &id[7..19]]), id);
        docker.run(["inspect", "--type", "image", "absent"]).expect("runs").exits(1).complains("No such image: absent");
    });
}

fn run_pulls_what_is_missing(client: Client) {
    alone(|engine| {
        let docker = engine.client(client);
        let output = docker.run(["run", "--rm", BUSYBOX, "echo", "pulled and run"]).expect("runs");
        assert_eq!(output.ok(), "pulled and run");
        output.complains(&format!("Unable to find image '{BUSYBOX}' locally"));
        output.complains("Status: Downloaded newer image");
        let never = docker.run(["run", "--rm", "--pull", "never", CONFIGURED]).expect("runs");
        never.exits(125).complains(&format!("No such image: {CONFIGURED}"));
    });
}

fn parallel_pulls_of_one_image() {
    alone(|engine| {
        std::thread::scope(|scope| {
            let pulls: Vec<_> = (0..4).map(|_| scope.spawn(|| engine.pull(DEBIAN))).collect();
            for pull in pulls {
                pull.join().expect("no panic").expect("pulled");
            }
        });
        let docker = engine.client(Client::Docker);
        assert_eq!(docker.ok(["run", "--rm", DEBIAN, "cat", "/etc/third-layer"]), "three");
    });
}

fn pull_progress_is_json() {
    alone(|engine| {
        let target = format!("/images/create?fromImage={}&tag=12", DEBIAN.trim_end_matches(":12"));
        let mut stream = engine.stream("POST", &target, None).expect("answers");
        assert_eq!(stream.status, 200);
        assert_eq!(stream.header("content-type"), Some("application/json"));
        let mut text = Vec::new();
        while let Some(chunk) = stream.chunk().expect("a chunk") {
            text.extend(chunk);
        }
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("}\r\n{"), "objects are separated by line ends");
        let objects: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
        let ids: std::collections::BTreeSet<&str> = objects
            .iter()
            .filter(|object| object["status"] == "Pull complete")
            .filter_map(|object| object["id"].as_str())
            .collect();
        assert_eq!(ids.len(), 3, "{text}");
        assert!(ids.iter().all(|id| id.len() == 12));
        let progress = objects.iter().find(|object| object["progressDetail"]["total"].is_u64());
        assert!(progress.is_some(), "{text}");
    });
}
