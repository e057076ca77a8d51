//! Volumes: what lies in them, who may use them, when they go.

use budu_testkit::images::{BUSYBOX, CONFIGURED};
use budu_testkit::suite::{Suite, only_budu};
use budu_testkit::{Client, Output};
use serde_json::{Value, json};

use crate::shared::{self, engine, inspect, name};

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(files_outlive_the_container);
    suite.both(an_empty_volume_takes_over_what_the_image_has);
    suite.both(anonymous_volumes_go_with_their_container);
    suite.both(mounts_of_another_container);
    suite.both(volumes_in_use_stay);
    suite.both(prune_takes_anonymous_ones_unless_told_otherwise);
    suite.both(parts_of_a_volume);
    suite.both(files_of_an_image);
    suite.both(volumes_elsewhere);
    suite.once(a_part_is_never_outside_of_its_volume);
    suite.once(shape_of_a_volume);
    suite.once(refusals);
    suite.once(what_happens_is_told);
    suite.once(names_clones_and_snapshots);
    suite.once(binds_that_belong_to_the_caller);
    suite.once(size_limits);
}

fn run(client: Client, args: &[&str]) -> Output {
    let command = [&["run", "--rm"], args].concat();
    shared::client(client).run(command).expect("the client runs")
}

fn shell(client: Client, flags: &[&str], script: &str) -> String {
    run(client, &[flags, &[BUSYBOX, "sh", "-c", script]].concat()).ok().to_owned()
}

fn volume(name: &str) -> Value {
    engine().http("GET", &format!("/volumes/{name}"), None).expect("the daemon answers").expect(200).json()
}

fn is_there(name: &str) -> bool {
    engine().http("GET", &format!("/volumes/{name}"), None).expect("the daemon answers").status == 200
}

fn files_outlive_the_container(client: Client) {
    let (docker, data) = (shared::client(client), name("data"));
    let flag = format!("{data}:/data");
    shell(client, &["-v", &flag], "echo kept > /data/file");
    assert_eq!(shell(client, &["-v", &format!("{flag}:ro")], "cat /data/file; touch /data/x || true"), "kept");
    let mount = format!("type=volume,source={data},target=/mnt/here,readonly");
    assert_eq!(
        shell(client, &["--mount", &mount], "cat /mnt/here/file; grep -c ' /mnt/here .*ro' /proc/mounts"),
        "kept\n1"
    );
    assert_eq!(docker.ok(["volume", "rm", &data]), data);
    let gone = docker.run(["volume", "inspect", &data]).expect("runs");
    gone.exits(1).complains(&format!("get {data}: no such volume"));
}

fn an_empty_volume_takes_over_what_the_image_has(client: Client) {
    let (docker, data) = (shared::client(client), name("populated"));
    let image_says = shell(client, &[], "ls -n /etc | sort; stat -c '%a %u %g' /etc /tmp");
    let flags = ["-v", &format!("{data}:/etc/"), "-v", &format!("{data}-tmp:/tmp")];
    let script = "ls -n /etc | grep -v -e hosts -e hostname -e resolv.conf | sort; stat -c '%a %u %g' /etc /tmp";
    let seen = shell(client, &flags, script);
    let plain = |text: &str| {
        let own = |line: &&str| !["hosts", "hostname", "resolv.conf", "mtab"].iter().any(|name| line.contains(name));
        text.lines().filter(own).filter(|line| !line.starts_with("total")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(plain(&seen), plain(&image_says));
    // A volume that has something keeps it, and one that is asked to stay empty does.
    let other = name("kept");
    shell(client, &["-v", &format!("{other}:/x")], "echo mine > /x/passwd");
    assert_eq!(shell(client, &["-v", &format!("{other}:/home")], "ls /home"), "passwd");
    assert_eq!(shell(client, &["-v", &format!("{other}2:/usr:nocopy")], "ls /usr | wc -l"), "0");
    for volume in [format!("{data}-tmp"), data, format!("{other}2"), other] {
        docker.ok(["volume", "rm", &volume]);
    }
}

fn anonymous_volumes_go_with_their_container(client: Client) {
    let (docker, name) = (shared::client(client), name("anonymous"));
    let volumes = |args: &[&str]| {
        docker.ok([&["create", "--name", &name], args, &[BUSYBOX, "true"]].concat());
        let mounts = inspect(&engine(), &name)["Mounts"].clone();
        let names =
            mounts.as_array().expect("a list").iter().map(|m| m["Name"].as_str().unwrap_or_default().to_owned());
        names.collect::<Vec<_>>()
    };
    let made = volumes(&["-v", "/data"]);
    assert_eq!((made.len(), made[0].len()), (1, 64));
    assert_eq!(volume(&made[0])["Labels"], json!({"com.docker.volume.anonymous": ""}));
    docker.ok(["rm", &name]);
    assert!(is_there(&made[0]), "without -v it stays");
    docker.ok(["volume", "rm", &made[0]]);
    let named = format!("{name}-named");
    let both = volumes(&["-v", "/data", "-v", &format!("{named}:/named")]);
    docker.ok(["rm", "-v", &name]);
    for volume in &both {
        assert_eq!(is_there(volume), *volume == named, "{volume}");
    }
    docker.ok(["volume", "rm", &named]);
    let gone = volumes(&["--rm", "-v", "/data"]);
    docker.ok(["start", "-a", &name]);
    let waited = budu_testkit::wait::until("removal", std::time::Duration::from_secs(10), || {
        (!is_there(&gone[0])).then_some(())
    });
    waited.expect("--rm takes it along");
}

fn mounts_of_another_container(client: Client) {
    let (docker, name) = (shared::client(client), name("donor"));
    docker.ok(["create", "--name", &name, "-v", "/data", "-v", &format!("{name}:/named"), BUSYBOX, "true"]);
    shell(client, &["--volumes-from", &name], "echo shared > /data/file; echo shared > /named/file");
    let seen = shell(client, &["--volumes-from", &format!("{name}:ro")], "cat /data/file; touch /named/x || echo ro");
    assert_eq!(seen, "shared\nro");
    // What is asked for besides wins over what is taken over.
    assert_eq!(shell(client, &["--volumes-from", &name, "--tmpfs", "/named"], "ls /named | wc -l"), "0");
    run(client, &["--volumes-from", &name, "--volumes-from", "no-such", BUSYBOX, "true"])
        .exits(125)
        .complains("No such container: no-such");
    docker.ok(["rm", "-v", &name]);
    docker.ok(["volume", "rm", &name]);
}

fn volumes_in_use_stay(client: Client) {
    let (docker, name) = (shared::client(client), name("used"));
    assert_eq!(docker.ok(["volume", "create", &name]), name);
    let id = docker.ok(["create", "--name", &name, "-v", &format!("{name}:/x"), BUSYBOX, "true"]);
    let refused = docker.run(["volume", "rm", &name]).expect("runs");
    refused.exits(1).complains(&format!("remove {name}: volume is in use - [{id}]"));
    assert_eq!(docker.ok(["volume", "ls", "-q", "-f", &format!("name={name}"), "-f", "dangling=true"]), "");
    assert_eq!(docker.ok(["ps", "-aq", "--no-trunc", "--filter", &format!("volume={name}")]), id);
    docker.ok(["rm", &name]);
    assert_eq!(docker.ok(["volume", "ls", "-q", "-f", &format!("name={name}"), "-f", "dangling=true"]), name);
    docker.ok(["volume", "rm", &name]);
    docker.run(["volume", "rm", &name]).expect("runs").exits(1).complains("no such volume");
    docker.run(["volume", "rm", "-f", &name]).expect("runs").exits(0);
}

fn prune_takes_anonymous_ones_unless_told_otherwise(client: Client) {
    let (docker, name) = (shared::client(client), name("prune"));
    let label = format!("label=only={name}");
    let create = |args: &[&str]| docker.ok([&["volume", "create", "--label", &format!("only={name}")], args].concat());
    let (named, anonymous) = (create(&[&name]), create(&[]));
    let pruned = docker.ok(["volume", "prune", "-f", "--filter", &label]);
    assert!(pruned.contains(&anonymous) && !pruned.contains(&named), "{pruned}");
    assert!(pruned.contains("Total reclaimed space: 0B"), "{pruned}");
    shell(client, &["-v", &format!("{named}:/x")], "head -c 3000 /dev/zero > /x/file");
    let pruned = docker.ok(["volume", "prune", "-f", "-a", "--filter", &label]);
    assert!(pruned.contains(&named) && pruned.contains("Total reclaimed space: 3kB"), "{pruned}");
    assert!(!is_there(&named));
}

fn parts_of_a_volume(client: Client) {
    let (docker, data) = (shared::client(client), name("parts"));
    let script = "mkdir -p /d/a/b; echo inner > /d/a/b/file; ln -s /etc /d/out; ln -s a/b /d/in";
    shell(client, &["-v", &format!("{data}:/d")], script);
    let part = |path: &str| format!("type=volume,source={data},target=/part,volume-subpath={path}");
    assert_eq!(shell(client, &["--mount", &part("a/b")], "cat /part/file"), "inner");
    assert_eq!(shell(client, &["--mount", &part("in")], "cat /part/file"), "inner");
    assert_eq!(shell(client, &["--mount", &part("a/b/file")], "cat /part"), "inner");
    run(client, &["--mount", &part("none"), BUSYBOX, "true"]).complains("no such file or directory");
    run(client, &["--mount", &part("../x"), BUSYBOX, "true"])
        .exits(125)
        .complains("subpath must be a relative path within the volume");
    let out = run(client, &["--mount", &part("out"), BUSYBOX, "ls", "/part"]);
    assert!(!out.stdout.contains("passwd"), "a link leads out of the volume: {}", out.stdout);
    docker.ok(["volume", "rm", &data]);
}

/// Somebody exchanges the part for a link all the time.
fn a_part_is_never_outside_of_its_volume() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use std::sync::atomic::{AtomicBool, Ordering};
    let (docker, data) = (shared::client(Client::Docker), name("raced"));
    docker.ok(["volume", "create", &data]);
    let place = std::path::PathBuf::from(volume(&data)["Mountpoint"].as_str().expect("a path"));
    std::fs::create_dir(place.join("part")).expect("writable");
    std::fs::write(place.join("part/inside"), "").expect("writable");
    std::os::unix::fs::symlink("../../../../../../../../../../../../etc", place.join("link")).expect("writable");
    let mount = format!("type=volume,source={data},target=/part,volume-subpath=part");
    let over = AtomicBool::new(false);
    let seen: Vec<Output> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let (part, link) = (place.join("part"), place.join("link"));
                renameat_with(CWD, part, CWD, link, RenameFlags::EXCHANGE).expect("exchanged");
            }
        });
        let seen = (0..12).map(|_| run(Client::Docker, &["--mount", &mount, BUSYBOX, "ls", "/part"])).collect();
        over.store(true, Ordering::Relaxed);
        seen
    });
    for output in seen {
        assert!(!output.stdout.contains("passwd"), "the host's files: {}", output.stdout);
    }
    docker.ok(["volume", "rm", &data]);
}

fn files_of_an_image(client: Client) {
    let mount = format!("type=image,source={CONFIGURED},target=/image");
    let script = "cat /image/etc/plain; touch /image/x || echo ro; ls -a /image | grep -c dockerenv || true";
    assert_eq!(shell(client, &["--mount", &mount], script), "not a program\nro\n0");
    let part = format!("type=image,source={CONFIGURED},target=/image,image-subpath=etc");
    if client == Client::Budu {
        assert_eq!(shell(client, &["--mount", &part], "cat /image/plain"), "not a program");
    }
}

fn volumes_elsewhere(client: Client) {
    let (docker, name) = (shared::client(client), name("elsewhere"));
    docker.ok(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=1000", &name]);
    let flag = format!("{name}:/t");
    assert_eq!(
        shell(client, &["-v", &flag], "grep -c ' /t tmpfs .*size=1024k' /proc/mounts; stat -c %u /t"),
        "1\n1000"
    );
    // All who run at the same time see the same, and the last one takes it along.
    let first = format!("{name}-1");
    docker.ok(["run", "-d", "--name", &first, "-v", &flag, BUSYBOX, "sh", "-c", "echo x > /t/f; exec sleep 1000"]);
    assert_eq!(shell(client, &["-v", &flag], "until [ -e /t/f ]; do :; done; cat /t/f"), "x");
    docker.ok(["rm", "-f", &first]);
    assert_eq!(shell(client, &["-v", &flag], "ls /t | wc -l"), "0");
    docker.ok(["volume", "rm", &name]);
    let dir = engine().path(&name);
    std::fs::create_dir(&dir).expect("writable");
    let device = format!("device={}", dir.display());
    docker.ok(["volume", "create", "-o", "type=none", "-o", &device, "-o", "o=bind,ro", &name]);
    shell(client, &["-v", &flag], "touch /t/x || true");
    assert!(!dir.join("x").exists(), "it was to be read-only");
    docker.ok(["volume", "rm", &name]);
    assert!(dir.exists(), "the directory is not the volume's to remove");
    docker.ok(["volume", "create", "-o", "type=none", "-o", "device=/no/such", "-o", "o=bind", &name]);
    run(client, &["-v", &flag, BUSYBOX, "true"]).complains("failed to mount local volume");
    docker.ok(["volume", "rm", &name]);
}

fn shape_of_a_volume() {
    let (engine, name) = (engine(), name("shape"));
    let wish = json!({"Name": name, "DriverOpts": {}, "Labels": {"a": "b"}});
    let made: Value = engine.http("POST", "/volumes/create", Some(&wish)).expect("answers").expect(201).json();
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&made), ["CreatedAt", "Driver", "Labels", "Mountpoint", "Name", "Options", "Scope"]);
    assert_eq!(
        (&made["Driver"], &made["Scope"], &made["Labels"]),
        (&json!("local"), &json!("local"), &json!({"a": "b"}))
    );
    let path = made["Mountpoint"].as_str().expect("a path").to_owned();
    assert!(path.ends_with(&format!("/volumes/{name}/_data")) && std::path::Path::new(&path).is_dir(), "{path}");
    // Made again, it is the same one.
    let again: Value =
        engine.http("POST", "/volumes/create", Some(&json!({"Name": name}))).expect("answers").expect(201).json();
    assert_eq!(again, volume(&name));
    let container = json!({"Image": BUSYBOX, "HostConfig": {"Binds": [format!("{name}:/x")], "Mounts": [{"Type": "tmpfs", "Target": "/t"}]}});
    let id = engine.container(&container).expect("created");
    let mut mounts = inspect(&engine, &id)["Mounts"].as_array().expect("a list").clone();
    mounts.sort_by_key(|mount| mount["Destination"].as_str().map(str::to_owned));
    let tmpfs = json!({"Type": "tmpfs", "Source": "", "Destination": "/t", "Mode": "", "RW": true, "Propagation": ""});
    let of_volume = json!({
        "Type": "volume", "Name": name, "Source": path, "Destination": "/x", "Driver": "local", "Mode": "z", "RW": true,
        "Propagation": "",
    });
    assert_eq!(mounts, [tmpfs, of_volume]);
    engine.http("DELETE", &format!("/containers/{id}?force=1"), None).expect("answers").expect(204);
    engine.http("DELETE", &format!("/volumes/{name}"), None).expect("answers").expect(204);
    let list: Value =
        engine.http("GET", "/volumes?filters=%7B%22name%22%3A%5B%22no-such%22%5D%7D", None).expect("answers").json();
    assert_eq!(list, json!({"Volumes": [], "Warnings": null}));
}

fn refusals() {
    let (engine, name) = (engine(), name("refused"));
    let volume = |wish: Value| {
        let answer = engine.http("POST", "/volumes/create", Some(&wish)).expect("answers");
        (answer.status, answer.json()["message"].as_str().unwrap_or_default().to_owned())
    };
    for (wish, status, message) in [
        (
            json!({"Name": "x"}),
            400,
            "create x: volume name is too short, names should be at least two alphanumeric characters",
        ),
        (
            json!({"Name": "../x"}),
            400,
            "create ../x: \"../x\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
        ),
        (json!({"Name": name, "DriverOpts": {"nope": "1"}}), 400, &*format!("create {name}: invalid option: \"nope\"")),
        (
            json!({"Name": name, "DriverOpts": {"type": "x"}}),
            400,
            &*format!("create {name}: missing required option: \"device\""),
        ),
        (
            json!({"Name": name, "Driver": "no-such"}),
            404,
            &*format!("create {name}: error looking up volume plugin no-such: plugin \"no-such\" not found"),
        ),
    ] {
        assert_eq!(volume(wish.clone()), (status, message.to_owned()), "{wish}");
    }
    assert!(!is_there(&name));
    let container = |host: Value| {
        let wish = json!({"Image": BUSYBOX, "HostConfig": host});
        let answer = engine.http("POST", "/containers/create", Some(&wish)).expect("answers");
        // Docker calls some of them its own failures.
        assert!(answer.status >= 400, "{}", answer.text());
        answer.json()["message"].as_str().unwrap_or_default().to_owned()
    };
    for (host, message) in [
        (json!({"Binds": ["/a:/b:nope"]}), "invalid mode: nope"),
        (json!({"Binds": ["/a:/b:ro:x"]}), "invalid volume specification: '/a:/b:ro:x'"),
        (json!({"Binds": ["/a:/x", "/b:/x/"]}), "Duplicate mount point: /x"),
        (
            json!({"Binds": ["./a:/x"]}),
            "create ./a: \"./a\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
        ),
        (
            json!({"Mounts": [{"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"Options": [["uid", "5"]]}}]}),
            "invalid mount config for type \"tmpfs\": invalid option: uid",
        ),
        (
            json!({"Mounts": [{"Type": "volume", "Target": "/x", "VolumeOptions": {"Subpath": "a"}}]}),
            "invalid mount config for type \"volume\": must not set Subpath when using anonymous volumes",
        ),
    ] {
        assert_eq!(container(host.clone()), message, "{host}");
    }
}

fn what_happens_is_told() {
    let (engine, name) = (engine(), name("told"));
    let docker = engine.client(Client::Docker);
    let since = shared::in_seconds(0);
    docker.ok(["run", "--rm", "-v", &format!("{name}:/x:ro"), BUSYBOX, "true"]);
    docker.ok(["volume", "rm", &name]);
    let told = docker.ok([
        "events", "--since", &since, "--until", &shared::in_seconds(1), "--filter", &format!("volume={name}"), "--format",
        "{{.Action}} {{.Actor.Attributes.driver}} {{index .Actor.Attributes \"destination\"}} {{index .Actor.Attributes \"read/write\"}}",
    ]);
    let told: Vec<&str> = told.lines().map(str::trim_end).collect();
    assert_eq!(told, ["create local", "mount local /x false", "unmount local", "destroy local"]);
}

fn names_clones_and_snapshots() {
    only_budu("Docker's volumes can be neither renamed nor copied");
    let (client, name) = (Client::Budu, name("copied"));
    let budu = shared::client(client);
    let flag = format!("{name}:/x");
    shell(client, &["-v", &flag], "echo one > /x/file; chown 1000:1001 /x/file");
    let snapshot = budu.ok(["volume", "snapshot", &name, "before"]);
    assert_eq!(snapshot, "before");
    shell(client, &["-v", &flag], "echo two > /x/file; touch /x/more");
    let copy = format!("{name}-copy");
    assert_eq!(budu.ok(["volume", "clone", &name, &copy]), copy);
    assert_eq!(volume(&name)["Status"]["Snapshots"][0]["Name"], "before");
    budu.ok(["volume", "restore", &name, "before"]);
    let look = "cat /x/file; stat -c %u:%g /x/file; ls /x | wc -l";
    assert_eq!(shell(client, &["-v", &flag], look), "one\n1000:1001\n1");
    assert_eq!(shell(client, &["-v", &format!("{copy}:/x")], look), "two\n1000:1001\n2");
    // Containers follow a new name, but no running one can lose its files.
    let (user, new) = (format!("{name}-user"), format!("{name}-new"));
    budu.ok(["create", "--name", &user, "-v", &flag, BUSYBOX, "cat", "/x/file"]);
    budu.ok(["volume", "rename", &name, &new]);
    assert!(!is_there(&name));
    assert_eq!(budu.ok(["start", "-a", &user]), "one");
    budu.run(["volume", "rename", &new, &copy]).expect("runs").exits(1).complains("already exists");
    budu.ok(["rm", &user]);
    budu.ok(["run", "-d", "--name", &user, "-v", &format!("{new}:/x"), BUSYBOX, "sleep", "1000"]);
    budu.run(["volume", "restore", &new, "before"]).expect("runs").exits(1).complains("in use by running container");
    budu.ok(["rm", "-f", &user]);
    budu.ok(["volume", "snapshot", "--rm", &new, "before"]);
    budu.run(["volume", "restore", &new, "before"]).expect("runs").exits(1).complains("no such snapshot");
    budu.ok(["volume", "rm", &new, &copy]);
}

fn binds_that_belong_to_the_caller() {
    only_budu("Docker has no id-mapped binds");
    use std::os::unix::fs::{MetadataExt, chown};
    let engine = engine();
    let dir = engine.path(&name("idmap"));
    std::fs::create_dir(&dir).expect("writable");
    chown(&dir, Some(1234), Some(5678)).expect("root may");
    let script = "touch /x/file; stat -c %u:%g /x";
    assert_eq!(shell(Client::Docker, &["-v", &format!("{}:/x:idmap", dir.display())], script), "0:0");
    let made = std::fs::metadata(dir.join("file")).expect("made inside");
    assert_eq!((made.uid(), made.gid()), (1234, 5678));
    let mount = format!("type=bind,source={},target=/x,idmap=1234:5678", dir.display());
    let script = "touch /x/mine; stat -c %u:%g /x/file";
    assert_eq!(shell(Client::Budu, &["-u", "77:88", "--mount", &mount], script), "77:88");
    let made = std::fs::metadata(dir.join("mine")).expect("made inside");
    assert_eq!((made.uid(), made.gid()), (1234, 5678));
}

fn size_limits() {
    only_budu("this file system has no project quota for Docker to use");
    let (client, name) = (Client::Docker, name("limited"));
    let docker = shared::client(client);
    docker.ok(["volume", "create", "-o", "size=20m", &name]);
    let flag = format!("{name}:/x");
    let script =
        "head -c 10000000 /dev/zero > /x/a && echo fits; head -c 20000000 /dev/zero > /x/b || echo full; rm /x/b";
    assert_eq!(shell(client, &["-v", &flag], script), "fits\nfull");
    assert_eq!(shell(client, &["-v", &flag], "stat -c %s /x/a; ls /x"), "10000000\na");
    docker.ok(["volume", "rm", &name]);
}
