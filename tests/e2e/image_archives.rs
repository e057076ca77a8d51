//! Images made of containers and archives, and archives made of images: `commit`, `save`, `load`, `import`, `prune`.

use std::fs;

use budu_testkit::images::{BUSYBOX, CONFIGURED, DEBIAN};
use budu_testkit::suite::Suite;
use budu_testkit::{Client, ClientHandle};
use serde_json::Value;

use crate::images::alone;
use crate::shared::{self, engine, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(commit_keeps_what_changed);
    suite.both(commit_changes_and_refuses);
    suite.both(save_and_load);
    suite.both(load_what_docker_once_saved);
    suite.both(import_and_export);
    suite.both(image_prune_takes_what_nobody_uses);
    suite.both(stats_say_what_is_used);
    suite.both(df_counts_everything);
    suite.once(df_and_stats_shapes);
}

fn inspect(docker: &ClientHandle, image: &str) -> Value {
    let text = docker.ok(["image", "inspect", image]);
    serde_json::from_str::<Vec<Value>>(&text).expect("JSON").remove(0)
}

fn commit_keeps_what_changed(client: Client) {
    let docker = shared::client(client);
    let (web, image) = (name("commit"), format!("made/{}:v1", name("of")));
    let script = "mkdir /new; echo x >/new/file; ln /new/file /new/twin; rm /etc/group; rm -r /root; mkdir /root; chmod 700 /root; chown 5:6 /new; sleep 1000";
    docker.ok(["run", "-d", "--name", &web, "-e", "A=1", "--label", "own=1", BUSYBOX, "sh", "-c", script]);
    let found = budu_testkit::wait::until("the script is done", std::time::Duration::from_secs(10), || {
        docker.run(["exec", &web, "stat", "-c", "%u", "/new"]).ok().filter(|out| out.stdout.trim() == "5")
    });
    found.expect("done");
    let id = docker.ok(["commit", "-a", "me", "-m", "why", &web, &image]);
    assert!(id.starts_with("sha256:"), "{id}");
    let json = inspect(&docker, &image);
    assert_eq!((&json["Author"], &json["Comment"]), (&"me".into(), &"why".into()));
    let base = inspect(&docker, BUSYBOX);
    let layers = |json: &Value| json["RootFS"]["Layers"].as_array().expect("a list").clone();
    assert_eq!(layers(&json)[..layers(&base).len()], layers(&base)[..]);
    assert_eq!(layers(&json).len(), layers(&base).len() + 1);
    assert_eq!(json["Config"]["Labels"]["own"], "1");
    let script = "stat -c '%u:%g %h' /new/file; stat -c %u:%g /new; ls /etc/group; stat -c %a /root; ls -A /root | wc -l; echo $A; ls /.dockerenv; cat /etc/hosts | wc -l";
    let output = docker.run(["run", "--rm", &image, "sh", "-c", script]).expect("runs");
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[..6], ["0:0 2", "5:6", "700", "0", "1", "/.dockerenv"], "{}", output.stdout);
    let history = docker.ok(["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", &image]);
    assert!(history.lines().next().is_some_and(|line| line.ends_with("|why")), "{history}");
    assert_eq!(docker.ok(["inspect", "-f", "{{.State.Status}}", &web]), "running");
    docker.ok(["rm", "-f", &web]);
    docker.ok(["rmi", &image]);
}

fn commit_changes_and_refuses(client: Client) {
    let docker = shared::client(client);
    let web = name("commit-change");
    docker.ok(["create", "--name", &web, CONFIGURED]);
    let id = docker.ok([
        "commit",
        "-c",
        "ENV X=1 Y=\"two words\"",
        "--change",
        "ENTRYPOINT [\"/bin/echo\", \"new\"]",
        "-c",
        "EXPOSE 80 90/udp",
        "-c",
        "LABEL l=m",
        "-c",
        "WORKDIR sub",
        &web,
    ]);
    let config = &inspect(&docker, &id)["Config"];
    let env = config["Env"].as_array().expect("a list");
    assert!(env.contains(&"X=1".into()) && env.contains(&"Y=two words".into()), "{config}");
    assert_eq!(config["WorkingDir"], "/work/deep/sub");
    assert_eq!(config["User"], "dock");
    assert!(config["ExposedPorts"]["90/udp"].is_object() && config["Labels"]["l"] == "m", "{config}");
    assert_eq!(docker.ok(["run", "--rm", &id]), "new");
    let output = docker.run(["commit", "-c", "RUN make", &web]).expect("runs");
    output.exits(1).complains("RUN is not a valid change command");
    docker.run(["commit", "absent"]).expect("runs").exits(1).complains("No such container: absent");
    docker.ok(["rm", &web]);
    docker.ok(["rmi", &id]);
}

fn save_and_load(client: Client) {
    alone(|engine| {
        let docker = engine.client(client);
        for image in [BUSYBOX, DEBIAN] {
            engine.pull(image).expect("pulled");
        }
        docker.ok(["tag", BUSYBOX, "second:name"]);
        let path = engine.path("saved.tar");
        let path = path.to_str().expect("text");
        docker.ok(["save", "-o", path, BUSYBOX, DEBIAN, "second:name"]);
        let list = budu_testkit::program("tar", ["-tf", path]).expect("runs");
        for file in ["manifest.json", "index.json", "oci-layout"] {
            assert!(list.ok().lines().any(|line| line == file), "{}", list.stdout);
        }
        let before: Vec<Value> = [BUSYBOX, DEBIAN].iter().map(|image| inspect(&docker, image)).collect();
        docker.ok(["rmi", "-f", BUSYBOX, DEBIAN, "second:name"]);
        assert_eq!(docker.ok(["images", "-q"]), "");
        let said = docker.ok(["load", "-i", path]);
        let mut lines: Vec<&str> = said.lines().filter(|line| line.starts_with("Loaded")).collect();
        lines.sort_unstable();
        let mut want = [BUSYBOX, DEBIAN, "second:name"].map(|name| format!("Loaded image: {name}")).to_vec();
        want.sort();
        assert_eq!(lines, want);
        for (image, before) in [BUSYBOX, DEBIAN].iter().zip(&before) {
            let after = inspect(&docker, image);
            assert_eq!(after["RootFS"], before["RootFS"]);
            assert_eq!(after["Config"], before["Config"]);
        }
        assert_eq!(docker.ok(["run", "--rm", DEBIAN, "cat", "/etc/third-layer"]), "three");
        // Through pipes, compressed.
        let saved = docker.command(["save", "second:name"]).output().expect("runs").stdout;
        docker.ok(["rmi", "second:name"]);
        let packed = gzip(&saved);
        assert_eq!(docker.feed(["load", "-q"], &packed).expect("runs").ok(), "Loaded image: second:name");
        docker.feed(["load"], b"not an archive").expect("runs").exits(1);
        docker.run(["save", "absent"]).expect("runs").exits(1).complains("absent");
        fs::remove_file(path).expect("removed");
    });
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("made");
    let plain = dir.path().join("plain");
    fs::write(&plain, bytes).expect("written");
    let output = std::process::Command::new("gzip").arg("-nc").arg(&plain).output().expect("gzip runs");
    output.stdout
}

/// The format before OCI layouts: a directory for each layer, plain archives, documents at the end.
fn load_what_docker_once_saved(client: Client) {
    let docker = shared::client(client);
    let dir = tempfile::tempdir_in(engine().path("")).expect("made");
    let run = |script: &str| {
        let output = std::process::Command::new("sh").arg("-ec").arg(script).current_dir(dir.path()).output();
        let output = output.expect("sh runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    let image = format!("{}:latest", name("old-format"));
    run("mkdir -p l1 l2 fs; echo one >fs/one; tar -C fs --numeric-owner -cf l1/layer.tar one");
    run(&format!("echo {image} >fs/two"));
    run("rm fs/one; touch fs/.wh.one; tar -C fs --numeric-owner -cf l2/layer.tar two .wh.one");
    let digest = |layer: &str| run(&format!("sha256sum {layer}/layer.tar | cut -d' ' -f1"));
    let (one, two) = (digest("l1"), digest("l2"));
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["/two"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{one}","sha256:{two}"]}},"history":[{{"created_by":"a"}},{{"created_by":"b"}}]}}"#
    );
    fs::write(dir.path().join("config.json"), config).expect("written");
    let manifest =
        format!(r#"[{{"Config":"config.json","RepoTags":["{image}"],"Layers":["l1/layer.tar","l2/layer.tar"]}}]"#);
    fs::write(dir.path().join("manifest.json"), manifest).expect("written");
    run("tar -cf all.tar l1 l2 config.json manifest.json");
    // A layer that is not what the configuration says.
    run("echo wrong >>l2/layer.tar; tar -cf bad.tar l1 l2 config.json manifest.json");
    let path = dir.path().join("bad.tar");
    docker.run(["load", "-i", path.to_str().expect("text")]).expect("runs").exits(1);
    assert_eq!(docker.ok(["images", "-q", &image]), "");
    let path = dir.path().join("all.tar");
    let said = docker.ok(["load", "--input", path.to_str().expect("text")]);
    assert!(said.contains(&format!("Loaded image: {image}")), "{said}");
    let web = name("old-format-c");
    docker.ok(["create", "--name", &web, &image]);
    let out = dir.path().join("out.tar");
    docker.ok(["export", "-o", out.to_str().expect("text"), &web]);
    let list = budu_testkit::program("tar", ["-tf", out.to_str().expect("text")]).expect("runs");
    assert!(list.ok().lines().any(|line| line == "two") && !list.ok().lines().any(|line| line == "one"));
    docker.ok(["rm", &web]);
    docker.ok(["rmi", &image]);
}

fn import_and_export(client: Client) {
    let docker = shared::client(client);
    let (web, image) = (name("import"), format!("{}:flat", name("import")));
    docker.ok(["run", "--name", &web, BUSYBOX, "sh", "-c", "echo kept >/kept; chown 9:9 /kept"]);
    let exported = docker.command(["export", &web]).output().expect("runs").stdout;
    let change = ["--change", "CMD [\"cat\", \"/kept\"]", "-m", "flat"];
    let args = [&["import"][..], &change, &["-", &image]].concat();
    let id = docker.feed(args, &exported).expect("runs").ok().to_owned();
    assert!(id.starts_with("sha256:"), "{id}");
    let json = inspect(&docker, &image);
    assert_eq!((&json["Id"], &json["Comment"]), (&id.as_str().into(), &"flat".into()));
    assert_eq!(json["RootFS"]["Layers"].as_array().map(Vec::len), Some(1));
    assert_eq!(docker.ok(["run", "--rm", &image]), "kept");
    docker.feed(["import", "-"], b"no archive at all, and long enough to be looked at").expect("runs").exits(1);
    docker.ok(["rm", &web]);
    docker.ok(["rmi", &image]);
}

fn image_prune_takes_what_nobody_uses(client: Client) {
    alone(|engine| {
        let docker = engine.client(client);
        for image in [BUSYBOX, CONFIGURED] {
            engine.pull(image).expect("pulled");
        }
        docker.ok(["create", "--name", "user", BUSYBOX]);
        let loose = docker.ok(["commit", "-c", "LABEL keep=no", "user"]);
        let said = docker.ok(["image", "prune", "-f", "--filter", "label=keep=yes"]);
        assert_eq!(said, "Total reclaimed space: 0B");
        let said = docker.ok(["image", "prune", "-f"]);
        assert!(said.contains(&format!("deleted: {loose}")) && said.contains("Total reclaimed space: "), "{said}");
        let said = docker.ok(["image", "prune", "-af"]);
        assert!(said.contains(&format!("untagged: {CONFIGURED}")), "{said}");
        assert!(!said.contains(&format!("untagged: {BUSYBOX}\n")), "{said}");
        assert_eq!(docker.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"]), BUSYBOX);
        let output = docker.run(["image", "prune", "-f", "--filter", "cheese=x"]).expect("runs");
        output.exits(1).complains("invalid filter");
        let pruned = docker.ok(["container", "prune", "-f"]);
        assert!(pruned.starts_with("Deleted Containers:\n"), "{pruned}");
    });
}

fn stats_say_what_is_used(client: Client) {
    let docker = shared::client(client);
    let (busy, idle) = (name("stats-busy"), name("stats-idle"));
    docker.ok(["run", "-d", "--name", &busy, "-m", "64m", BUSYBOX, "sh", "-c", "while :; do :; done"]);
    docker.ok(["create", "--name", &idle, BUSYBOX]);
    let format = "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}} {{.NetIO}}";
    let said = docker.ok(["stats", "--no-stream", "--format", format, &busy, &idle]);
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!((lines[0][0], lines[1][0]), (busy.as_str(), idle.as_str()));
    let percent: f64 = lines[0][1].trim_end_matches('%').parse().expect("a number");
    assert!(percent > 5.0, "{said}");
    assert_eq!((lines[0][4], lines[0][5]), ("64MiB", "1"), "{said}");
    let table = docker.ok(["stats", "--no-stream", "--no-trunc", &busy]);
    assert!(table.starts_with("CONTAINER ID") && table.contains("MEM USAGE / LIMIT"), "{table}");
    docker.run(["stats", "--no-stream", "absent"]).expect("runs").exits(1).complains("No such container: absent");
    docker.ok(["rm", "-f", &busy, &idle]);
}

fn df_counts_everything(client: Client) {
    alone(|engine| {
        let docker = engine.client(client);
        engine.pull(BUSYBOX).expect("pulled");
        let rows = || {
            let said = docker.ok(["system", "df", "--format", "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}"]);
            said.lines().map(str::to_owned).collect::<Vec<String>>()
        };
        let start = rows();
        assert!(start[0].starts_with("Images|1|0|") && start[1] == "Containers|0|0|0B", "{start:?}");
        assert_eq!((start[2].as_str(), start[3].as_str()), ("Local Volumes|0|0|0B", "Build Cache|0|0|0B"));
        docker.ok(["run", "--name", "big", BUSYBOX, "sh", "-c", "head -c 1000000 /dev/zero >/file"]);
        let after = rows();
        assert!(after[0].starts_with("Images|1|1|"), "{after:?}");
        assert!(after[1].starts_with("Containers|1|0|1MB") || after[1].starts_with("Containers|1|0|1.0"), "{after:?}");
        let verbose = docker.ok(["system", "df", "-v"]);
        assert!(verbose.starts_with("Images space usage:"), "{verbose}");
        assert!(verbose.lines().any(|line| line.contains("big")), "{verbose}");
        docker.ok(["rm", "big"]);
    });
}

fn df_and_stats_shapes() {
    let engine = engine();
    let docker = engine.client(Client::Docker);
    let web = name("shapes");
    docker.ok(["run", "-d", "--name", &web, BUSYBOX, "sleep", "1000"]);
    let get = |target: &str| engine.http("GET", target, None).expect("answers").expect(200).json();
    let df = get("/v1.47/system/df?type=container");
    assert!(df["Containers"].as_array().is_some_and(|list| !list.is_empty()), "{df}");
    assert!(df["Containers"][0]["SizeRootFs"].as_u64() > Some(0), "{df}");
    assert_eq!((&df["Images"], &df["Volumes"], &df["LayersSize"]), (&Value::Null, &Value::Null, &0.into()));
    let all = get("/v1.41/system/df?type=container");
    assert!(all["Images"].is_array() && all["Volumes"].is_array(), "older clients know no types: {all}");
    let answer = engine.http("GET", "/system/df?type=cheese", None).expect("answers");
    assert_eq!((answer.status, answer.message().as_str()), (400, "unknown object type: cheese"));
    let once = get(&format!("/containers/{web}/stats?stream=0&one-shot=1"));
    assert_eq!((&once["name"], &once["preread"]), (&format!("/{web}").into(), &"0001-01-01T00:00:00Z".into()));
    assert!(once["precpu_stats"]["system_cpu_usage"].is_null() && once["cpu_stats"]["online_cpus"].as_u64() > Some(0));
    assert!(once["memory_stats"]["usage"].as_u64() > Some(0) && once["pids_stats"]["current"] == 1, "{once}");
    assert!(once["networks"]["eth0"]["rx_bytes"].is_u64(), "{once}");
    let twice = get(&format!("/containers/{web}/stats?stream=false"));
    assert!(twice["precpu_stats"]["cpu_usage"]["total_usage"].as_u64() > Some(0), "{twice}");
    let mut stream = engine.stream("GET", &format!("/containers/{web}/stats"), None).expect("answers");
    for _ in 0..2 {
        let piece = stream.chunk().expect("a chunk").expect("more");
        assert_eq!(serde_json::from_slice::<Value>(&piece).expect("an object a piece")["name"], format!("/{web}"));
    }
    drop(stream);
    docker.ok(["rm", "-f", &web]);
    let answer = engine.http(
        "POST",
        "/auth",
        Some(&serde_json::json!({"username": "u", "password": "p", "serveraddress": "127.0.0.1:1"})),
    );
    assert_eq!(answer.expect("answers").status, 500);
}
