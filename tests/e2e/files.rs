//! Files of containers: `cp` in both directions, `diff`, `export`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use budu_testkit::Client;
use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::Suite;

use crate::shared::{self, engine, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(cp_follows_the_rules_for_names);
    suite.both(cp_sees_what_is_mounted);
    suite.both(cp_refuses_what_is_read_only);
    suite.both(cp_streams_archives);
    suite.both(cp_stays_inside_the_container);
    suite.both(diff_and_export);
    suite.once(what_the_archive_endpoint_says);
}

/// A directory for a test's files, which the daemon sees under the same name.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(engine().path("")).expect("a temporary directory")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

fn cp_follows_the_rules_for_names(client: Client) {
    let docker = shared::client(client);
    let (dir, web) = (scratch(), name("cp-names"));
    let at = |name: &str| dir.path().join(name);
    docker.ok(["create", "--name", &web, BUSYBOX, "sh", "-c", "sleep 1000"]);
    fs::create_dir_all(at("src/deep")).expect("made");
    fs::write(at("src/deep/file"), "one").expect("written");
    fs::set_permissions(at("src/deep/file"), fs::Permissions::from_mode(0o640)).expect("set");
    symlink("deep/file", at("src/link")).expect("linked");
    let (src, out) = (at("src"), at("out"));
    // A directory that is not there takes the name, one that is there takes it in, `/.` copies what is in it.
    let inside = |path: &str| format!("{web}:{path}");
    docker.ok(["cp", text(&src), &inside("/tmp/new")]);
    docker.ok(["cp", text(&src), &inside("/tmp/new")]);
    docker.ok(["cp", &format!("{}/.", text(&src)), &inside("/tmp")]);
    for stage in ["created", "running", "exited"] {
        match stage {
            "running" => drop(docker.ok(["start", &web])),
            "exited" => drop(docker.ok(["kill", &web])),
            _ => {}
        }
        for path in ["/tmp/new/deep/file", "/tmp/new/src/deep/file", "tmp/deep/file"] {
            docker.ok(["cp", "-q", &inside(path), text(&out)]);
            assert_eq!(fs::read_to_string(&out).expect("copied"), "one", "{stage} {path}");
            assert_eq!(fs::metadata(&out).expect("there").mode() & 0o7777, 0o640, "{stage} {path}");
            fs::remove_file(&out).expect("removed");
        }
        docker.ok(["cp", &inside("/tmp/link"), text(&out)]);
        assert_eq!(fs::read_link(&out).expect("a link").to_str(), Some("deep/file"));
        fs::remove_file(&out).expect("removed");
        docker.ok(["cp", "-L", &inside("/tmp/link"), text(&out)]);
        assert_eq!(fs::read_to_string(&out).expect("followed"), "one");
        fs::remove_file(&out).expect("removed");
        docker.ok(["cp", &inside("/tmp/new/."), text(&out)]);
        assert_eq!(fs::read_to_string(out.join("src/deep/file")).expect("copied"), "one");
        fs::remove_dir_all(&out).expect("removed");
    }
    let fails = |args: [&str; 2], want: &str| {
        let output = docker.run(["cp", args[0], args[1]]).expect("runs");
        output.exits(1).complains(want);
    };
    fails([&inside("/none"), text(&out)], &format!("Could not find the file /none in container {web}"));
    fails([text(&src), &inside("/none/deeper")], &format!("Could not find the file /none in container {web}"));
    fails([text(&src), &inside("/tmp/new/deep/file")], "cannot copy directory");
    fails([&at("src/deep/file").to_string_lossy(), &inside("/tmp/none/")], "no such directory");
    fails([text(&at("missing")), &inside("/tmp")], "no such file or directory");
    fails(["absent:/etc", text(&out)], "No such container: absent");
    docker.ok(["rm", &web]);
}

fn cp_sees_what_is_mounted(client: Client) {
    let docker = shared::client(client);
    let (dir, web) = (scratch(), name("cp-mounts"));
    fs::write(dir.path().join("from-host"), "host").expect("written");
    let bind = format!("{}:/new/data", text(dir.path()));
    docker.ok(["create", "--name", &web, "-v", &bind, BUSYBOX, "sleep", "1000"]);
    let out = dir.path().join("out");
    for running in [false, true] {
        if running {
            docker.ok(["start", &web]);
        }
        docker.ok(["cp", &format!("{web}:/new/data/from-host"), text(&out)]);
        assert_eq!(fs::read_to_string(&out).expect("copied"), "host");
        docker.ok(["cp", text(&out), &format!("{web}:/new/data/to-{running}")]);
        assert!(dir.path().join(format!("to-{running}")).is_file());
        let listed = docker.ok(["cp", &format!("{web}:/new"), "-"]);
        assert!(listed.contains("new/data/from-host"), "the directory above a volume has the volume's files");
    }
    docker.ok(["exec", &web, "cat", "/new/data/to-false"]);
    docker.ok(["cp", &format!("{web}:/etc/hosts"), text(&out)]);
    assert!(fs::read_to_string(&out).expect("copied").contains("localhost"));
    docker.ok(["rm", "-f", &web]);
}

fn cp_refuses_what_is_read_only(client: Client) {
    let docker = shared::client(client);
    let (dir, web) = (scratch(), name("cp-ro"));
    fs::write(dir.path().join("file"), "1").expect("written");
    let file = dir.path().join("file");
    let (ro, rw) = (format!("{}:/ro:ro", text(dir.path())), format!("{}:/rw", text(dir.path())));
    docker.ok(["run", "-d", "--name", &web, "--read-only", "-v", &ro, "-v", &rw, BUSYBOX, "sleep", "1000"]);
    for (target, want) in
        [("/ro/new", "mounted volume is marked read-only"), ("/root/new", "container rootfs is marked read-only")]
    {
        let output = docker.run(["cp", text(&file), &format!("{web}:{target}")]).expect("runs");
        output.exits(1).complains(want);
    }
    docker.ok(["cp", text(&file), &format!("{web}:/rw/new")]);
    assert!(dir.path().join("new").is_file());
    docker.ok(["cp", &format!("{web}:/ro/file"), text(&dir.path().join("back"))]);
    docker.ok(["rm", "-f", &web]);
}

fn cp_streams_archives(client: Client) {
    let docker = shared::client(client);
    let (from, to) = (name("cp-from"), name("cp-to"));
    let script = "mkdir /w; echo data >/w/a; ln /w/a /w/b; chown 1234:4321 /w/a; chmod 4711 /w/a; mkfifo /w/p; touch -d @1000000000 /w/a";
    docker.ok(["run", "--name", &from, BUSYBOX, "sh", "-c", script]);
    docker.ok(["run", "-d", "--name", &to, "-u", "7:8", BUSYBOX, "sleep", "1000"]);
    let raw = |args: &[&str]| {
        let output = docker.command(args).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let archive = raw(&["cp", &format!("{from}:/w"), "-"]);
    docker.feed(["cp", "-", &format!("{to}:/tmp")], &archive).expect("runs").ok();
    let state = |path: &str| docker.ok(["exec", &to, "stat", "-c", "%a %u %g %h %F %Y", path]);
    assert_eq!(state("/tmp/w/b"), "4711 1234 4321 2 regular file 1000000000");
    assert!(state("/tmp/w/p").contains("fifo"));
    docker.feed(["cp", "-a", "-", &format!("{to}:/tmp")], &archive).expect("runs").ok();
    assert!(state("/tmp/w/a").starts_with("4711 7 8 2 "), "with -a the container's user gets them");
    let output = docker.feed(["cp", "-", &format!("{to}:/tmp/w/a")], &archive).expect("runs");
    output.exits(1).complains("must be a directory");
    docker.ok(["rm", "-f", &from, &to]);
}

/// Links of a container never lead a copy out of it, whoever swaps them meanwhile.
fn cp_stays_inside_the_container(client: Client) {
    let docker = shared::client(client);
    let (dir, web) = (scratch(), name("cp-evil"));
    let canary = dir.path().join("canary");
    fs::write(&canary, "host secret").expect("written");
    let script = format!(
        "mkdir -p /a/real{0} && ln -s / /a/link && ln -s ../../../../../.. /a/up; touch /ready; while :; do mv /a/real /a/x; mv /a/link /a/real; mv /a/x /a/link; done",
        text(dir.path())
    );
    docker.ok(["run", "-d", "--name", &web, BUSYBOX, "sh", "-c", &script]);
    let payload = dir.path().join("payload");
    fs::create_dir(&payload).expect("made");
    fs::write(payload.join("canary"), "overwritten").expect("written");
    for round in 0..10 {
        for way in ["/a/real", "/a/link", "/a/up"] {
            let inside = format!("{web}:{way}{}", text(dir.path()));
            let out = dir.path().join(format!("out-{round}"));
            let _ = docker.run(["cp", "-L", &format!("{inside}/canary"), text(&out)]).expect("runs");
            if let Ok(copied) = fs::read_to_string(&out) {
                assert_ne!(copied, "host secret");
                fs::remove_file(&out).expect("removed");
            }
            let _ = docker.run(["cp", &format!("{}/.", text(&payload)), &inside]).expect("runs");
        }
    }
    assert_eq!(fs::read_to_string(&canary).expect("there"), "host secret");
    docker.ok(["rm", "-f", &web]);
}

fn diff_and_export(client: Client) {
    let docker = shared::client(client);
    let web = name("diff");
    let script = "mkdir /new; echo x >/new/file; rm /bin/ash; echo y >>/etc/group; chmod 700 /root; mv /var/www /var/w2 2>/dev/null; true";
    docker.ok(["run", "--name", &web, "-v", "/tmp:/mounted", BUSYBOX, "sh", "-c", script]);
    let mut changes: Vec<String> = docker.ok(["diff", &web]).lines().map(str::to_owned).collect();
    changes.retain(|line| !line.contains("/var"));
    changes.sort();
    let want = ["A /mounted", "A /new", "A /new/file", "C /bin", "C /etc", "C /etc/group", "C /root", "D /bin/ash"];
    assert_eq!(changes, want);
    let dir = scratch();
    let out = dir.path().join("export.tar");
    docker.ok(["export", "-o", text(&out), &web]);
    let list = budu_testkit::program("tar", ["-tvf", text(&out)]).expect("runs");
    let list = list.ok();
    let has = |name: &str| list.lines().any(|line| line.ends_with(&format!(" {name}")));
    assert!(has("new/file") && has("etc/group") && has("mounted/") && has("proc/"), "{list}");
    assert!(!has("bin/ash") && !list.contains("mounted/budu"), "{list}");
    let output = docker.run(["diff", "absent"]).expect("runs");
    output.exits(1).complains("No such container: absent");
    docker.ok(["rm", &web]);
}

fn what_the_archive_endpoint_says() {
    let engine = engine();
    let docker = engine.client(Client::Docker);
    let web = name("archive");
    docker.ok(["run", "--name", &web, BUSYBOX, "sh", "-c", "ln -s ../etc/./passwd /tmp/l; ln -s nowhere /tmp/d"]);
    let stat = |path: &str| {
        let answer = engine.http("HEAD", &format!("/containers/{web}/archive?path={path}"), None).expect("answers");
        let header = answer.expect(200).header("x-docker-container-path-stat").expect("a header").to_owned();
        let json = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, header).expect("base64");
        serde_json::from_slice::<serde_json::Value>(&json).expect("JSON")
    };
    let link = stat("/tmp/l");
    assert_eq!((&link["name"], &link["linkTarget"]), (&"l".into(), &"/etc/passwd".into()));
    assert_eq!(link["mode"], 0o777 | 1 << 27);
    assert_eq!(stat("/tmp/d")["linkTarget"], "/tmp/nowhere");
    assert_eq!(stat("/tmp")["mode"], 0o777u32 | 1 << 31 | 1 << 20);
    assert_eq!((&stat("/")["name"], &stat("/tmp/.")["name"]), (&"/".into(), &".".into()));
    assert_eq!(stat("/etc/../etc/./passwd")["mode"], 0o644);
    for (method, path, status, message) in [
        ("GET", "/none", 404, format!("Could not find the file /none in container {web}")),
        ("PUT", "/none", 404, format!("Could not find the file /none in container {web}")),
        ("PUT", "/etc/passwd", 400, "extraction point is not a directory".to_owned()),
        ("GET", "", 400, "bad parameter: pathcannot be empty".to_owned()),
    ] {
        let answer = engine.http(method, &format!("/containers/{web}/archive?path={path}"), None).expect("answers");
        assert_eq!((answer.status, answer.message()), (status, message), "{method} {path}");
    }
    let names = |path: &str| {
        let answer = engine.http("GET", &format!("/containers/{web}/archive?path={path}"), None).expect("answers");
        assert_eq!(answer.header("content-type"), Some("application/x-tar"));
        // The first block's name field.
        String::from_utf8_lossy(answer.expect(200).body[..100].split(|byte| *byte == 0).next().unwrap_or(&[]))
            .into_owned()
    };
    assert_eq!(
        [names("/etc"), names("/etc/"), names("/etc/."), names("/"), names("/etc/passwd")],
        ["etc/", "etc/", "./", "/", "passwd"]
    );
    docker.ok(["rm", &web]);
}
