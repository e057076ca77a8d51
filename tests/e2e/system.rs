//! The engine itself: events, contexts, reload, encrypted and guarded connections, metrics.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::{Suite, only_budu, skip};
use budu_testkit::{Client, Engine, Options, wait};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use crate::shared;

pub(crate) fn tests(suite: &mut Suite) {
    suite.once(events_by_filter_and_time);
    suite.both(contexts);
    suite.once(contexts_of_one_are_contexts_of_the_other);
    suite.once(reload);
    suite.once(only_known_clients_get_in);
    suite.once(metrics_of_containers);
}

/// Events up to a second from now, in the shape of 1.51.
fn events(engine: &Engine, filters: &Value, more: &str) -> Vec<Value> {
    let until = shared::in_seconds(1);
    let filters = filters.to_string().replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
    let answer = engine.http("GET", &format!("/v1.51/events?until={until}&filters={filters}{more}"), None);
    let answer = answer.expect("answers").expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.text().lines().map(|line| serde_json::from_str(line).expect("an event a line")).collect()
}

fn actions(list: &[Value]) -> Vec<&str> {
    list.iter().map(|event| event["Action"].as_str().expect("an action")).collect()
}

fn events_by_filter_and_time() {
    let engine = shared::engine();
    let docker = shared::client(Client::Docker);
    let name = shared::name("happens");
    let id = docker.ok(["run", "-d", "--name", &name, "--label", "tier=a", BUSYBOX, "cat"]);
    let id = id.trim();
    docker.ok(["wait", &name]);
    docker.ok(["rm", &name]);
    // Without `since` everything that is kept comes first; names and ids count by their beginning.
    let all = events(&engine, &json!({"container": [&name[..name.len() - 1]], "type": ["container"]}), "");
    let own: Vec<Value> = all.into_iter().filter(|event| event["Actor"]["ID"] == id).collect();
    assert_eq!(actions(&own), ["create", "start", "die", "destroy"]);
    let die = &own[2];
    let attributes = &die["Actor"]["Attributes"];
    assert_eq!(
        (&attributes["exitCode"], &attributes["image"], &attributes["tier"]),
        (&json!("0"), &json!(BUSYBOX), &json!("a"))
    );
    assert_eq!((&die["status"], &die["id"], &die["from"]), (&json!("die"), &json!(id), &json!(BUSYBOX)));
    assert_eq!((&die["Type"], &die["scope"]), (&json!("container"), &json!("local")));
    for (filters, want) in [
        (json!({"container": [id], "event": ["start", "die"]}), &["start", "die"][..]),
        (json!({"container": [&id[..12]], "label": ["tier=a"], "event": ["destroy"]}), &["destroy"]),
        (json!({"container": [id], "label": ["tier=b"]}), &[]),
        (json!({"container": [id], "type": ["network"]}), &[]),
        (json!({"container": [id], "image": ["busy"]}), &[]),
        (json!({"container": [id], "scope": ["swarm"]}), &[]),
    ] {
        assert_eq!(actions(&events(&engine, &filters, "")), want, "{filters}");
    }
    let since = die["timeNano"].as_i64().expect("a time");
    let since = format!("&since={}.{:09}", since / 1_000_000_000, since % 1_000_000_000);
    assert_eq!(actions(&events(&engine, &json!({"container": [id]}), &since)), ["die", "destroy"]);
    let wrong = engine.http("GET", "/v1.51/events?since=20&until=10", None).expect("answers");
    assert_eq!((wrong.status, wrong.message().as_str()), (400, "`since` time (20) cannot be after `until` time (10)"));
    let past = engine.http("GET", "/v1.51/events?until=10", None).expect("answers").expect(200);
    assert_eq!(past.text(), "");
}

fn contexts(client: Client) {
    let engine = shared::engine();
    let home = tempfile::tempdir().expect("a directory");
    let path = |name: &str| home.path().join(name).display().to_string();
    let cli = shared::client(client).with_env("DOCKER_CONFIG", &path("config")).with_env("DOCKER_HOST", "");
    let address = format!("host=unix://{}", engine.socket().display());
    assert_eq!(cli.ok(["context", "show"]), "default");
    assert_eq!(cli.ok(["context", "create", "here", "--description", "this one", "--docker", &address]), "here");
    let again = cli.run(["context", "create", "here", "--docker", &address]).expect("runs");
    assert!(again.status.code() == Some(1) && again.stderr.contains("context \"here\" already exists"), "{again:?}");
    assert_eq!(cli.ok(["context", "create", "copy", "--from", "here"]), "copy");
    let list = ["context", "ls", "--format", "{{.Name}}|{{.Current}}|{{.Description}}"];
    let text = "copy|false|this one\ndefault|true|Current DOCKER_HOST based configuration\nhere|false|this one";
    assert_eq!(cli.ok(list), text);
    assert_eq!(cli.ok(["--context", "here", "version", "--format", "{{.Server.Os}}"]), "linux");
    assert_eq!(cli.ok(["context", "use", "here"]), "here");
    assert_eq!(cli.ok(["context", "show"]), "here");
    assert_eq!(cli.ok(["version", "--format", "{{.Server.Os}}"]), "linux");
    assert!(cli.ok(["context", "ls"]).contains("here *"));
    let format = "{{.Name}} {{.Endpoints.docker.Host}}";
    let want = format!("here {}", address.trim_start_matches("host="));
    assert_eq!(cli.ok(["context", "inspect", "--format", format]), want);
    assert_eq!(cli.ok(["context", "update", "copy", "--description", "new"]), "copy");
    assert!(cli.ok(["context", "inspect", "copy"]).contains("\"Description\": \"new\""));
    cli.ok(["context", "export", "here", &path("here.tar")]);
    assert_eq!(cli.ok(["context", "import", "back", &path("here.tar")]), "back");
    assert_eq!(cli.ok(["--context", "back", "version", "--format", "{{.Server.Os}}"]), "linux");
    let used = cli.run(["context", "rm", "here"]).expect("runs");
    assert!(
        used.status.code() == Some(1)
            && used.stderr.contains("context \"here\" is in use, set -f flag to force remove"),
        "{used:?}"
    );
    let default = cli.run(["context", "rm", "default"]).expect("runs");
    assert!(default.stderr.contains("context \"default\" cannot be removed"), "{default:?}");
    assert_eq!(cli.ok(["context", "rm", "-f", "here", "copy", "back"]), "here\ncopy\nback");
    assert_eq!(cli.ok(["context", "ls", "-q"]), "default");
}

fn contexts_of_one_are_contexts_of_the_other() {
    let engine = shared::engine();
    let home = tempfile::tempdir().expect("a directory");
    let config = home.path().display().to_string();
    let of = |client| shared::client(client).with_env("DOCKER_CONFIG", &config).with_env("DOCKER_HOST", "");
    let (docker, budu) = (of(Client::Docker), of(Client::Budu));
    let address = format!("host=unix://{},skip-tls-verify=true", engine.socket().display());
    docker.ok(["context", "create", "stock", "--docker", &address]);
    budu.ok(["context", "create", "ours", "--docker", &address]);
    for (maker, reader, name) in [(&docker, &budu, "stock"), (&budu, &docker, "ours")] {
        let shown = |cli: &budu_testkit::ClientHandle| -> Value {
            let mut value: Value = serde_json::from_str(&cli.ok(["context", "inspect", name])).expect("JSON");
            value[0]["Metadata"].take();
            value
        };
        assert_eq!(shown(reader), shown(maker));
        assert_eq!(reader.ok(["--context", name, "version", "--format", "{{.Server.Os}}"]), "linux");
    }
    docker.ok(["context", "use", "ours"]);
    assert_eq!(budu.ok(["context", "show"]), "ours");
}

fn reload() {
    only_budu("dockerd sees no file of this test");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("daemon.json");
    std::fs::write(&file, r#"{"labels": ["a=1"], "max-concurrent-downloads": 2}"#).expect("writes");
    let flags = vec!["--config-file".to_owned(), file.display().to_string()];
    let engine = Engine::start(Options { flags, ..Options::default() }).expect("starts");
    let info = || engine.http("GET", "/info", None).expect("answers").expect(200).json();
    assert_eq!(info()["Labels"], json!(["a=1"]));
    let hup = || {
        let pid = i32::try_from(engine.daemon_pid()).ok().and_then(Pid::from_raw).expect("it runs");
        rustix::process::kill_process(pid, Signal::HUP).expect("signals");
    };
    // What cannot be used changes nothing.
    std::fs::write(&file, r#"{"lables": []}"#).expect("writes");
    hup();
    wait::until("a complaint", Duration::from_secs(5), || engine.log().contains("lables").then_some(()))
        .expect("heard");
    assert_eq!(info()["Labels"], json!(["a=1"]));
    std::fs::write(&file, r#"{"labels": ["b=2"], "debug": true, "features": {"x": true}}"#).expect("writes");
    hup();
    wait::until("new labels", Duration::from_secs(5), || (info()["Labels"] == json!(["b=2"])).then_some(()))
        .expect("read");
    assert_eq!(info()["Debug"], true);
    let told = events(&engine, &json!({"type": ["daemon"]}), "");
    assert_eq!(actions(&told), ["reload"]);
    let attributes = &told[0]["Actor"]["Attributes"];
    assert_eq!((&attributes["labels"], &attributes["features"]), (&json!(r#"["b=2"]"#), &json!("map[x:true]")));
    assert_eq!((&attributes["debug"], &attributes["max-concurrent-downloads"]), (&json!("true"), &json!("3")));
    assert_eq!((&told[0]["Actor"]["ID"], &attributes["name"]), (&info()["ID"], &info()["Name"]));
}

/// An authority, and a server's and a client's certificate by it; another authority's client, too.
fn certificates(dir: &Path) -> bool {
    let script = r#"
        set -e
        authority() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" -keyout $1.key -out $1.pem; }
        issue() {
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout $2-key.pem -out $2.csr
            printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' > $2.ext
            openssl x509 -req -days 2 -in $2.csr -CA $1.pem -CAkey $1.key -CAcreateserial -extfile $2.ext -out $2.pem
        }
        authority ca; authority other
        issue ca server; issue ca alice; issue other mallory
        mkdir alice mallory
        for who in alice mallory; do cp ca.pem $who/; cp $who.pem $who/cert.pem; cp $who-key.pem $who/key.pem; done
    "#;
    let made = Command::new("sh").args(["-c", script]).current_dir(dir).output();
    made.is_ok_and(|output| output.status.success())
}

fn only_known_clients_get_in() {
    only_budu("dockerd sees no file of this test");
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    if !certificates(dir.path()) {
        skip("no openssl to make certificates with");
    }
    let words = [
        "--tlsverify",
        "--tlscacert",
        &path("ca.pem"),
        "--tlscert",
        &path("server.pem"),
        "--tlskey",
        &path("server-key.pem"),
    ];
    let mut flags: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    flags.extend(["-H".to_owned(), "tcp://127.0.0.1:2376".to_owned()]);
    let engine = Engine::start(Options { images: vec![BUSYBOX], flags, ..Options::default() }).expect("starts");
    for client in [Client::Docker, Client::Budu] {
        let of = |who: &str| {
            let cli = engine.client(client).with_env("DOCKER_HOST", "tcp://127.0.0.1:2376");
            cli.with_env("DOCKER_TLS_VERIFY", "1").with_env("DOCKER_CERT_PATH", &path(who))
        };
        let inside = |cli: &budu_testkit::ClientHandle, args: &[&str]| {
            engine.cage().in_network(|| cli.feed(args, b"ping\n")).expect("enters").expect("runs")
        };
        let cat = inside(&of("alice"), &["run", "-i", "--rm", BUSYBOX, "cat"]);
        assert_eq!((cat.status.code(), cat.stdout.as_str()), (Some(0), "ping\n"), "{client:?} {cat:?}");
        let other = inside(&of("mallory"), &["version"]);
        assert!(!other.status.success(), "{client:?}: a certificate of another authority gets in: {other:?}");
        let plain = engine.client(client).with_env("DOCKER_HOST", "tcp://127.0.0.1:2376");
        assert!(!inside(&plain, &["version"]).status.success(), "{client:?}: a client without TLS gets in");
        let mistrust = of("alice").with_env("DOCKER_CERT_PATH", &path("mallory-only"));
        assert!(
            !inside(&mistrust, &["version"]).status.success(),
            "{client:?}: a server of an unknown authority is trusted"
        );
    }
}

fn metrics_of_containers() {
    only_budu("dockerd has no metrics of containers");
    let flags = vec!["--metrics-addr".to_owned(), "127.0.0.1:9323".to_owned()];
    let engine = Engine::start(Options { images: vec![BUSYBOX], flags, ..Options::default() }).expect("starts");
    engine.client(Client::Docker).ok([
        "run",
        "-d",
        "--name",
        "busy",
        "-m",
        "32m",
        BUSYBOX,
        "sh",
        "-c",
        "sleep 60 & wait",
    ]);
    let get = || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect("127.0.0.1:9323").expect("connects");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("asks");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answers");
        text
    };
    let page = engine.cage().in_network(get).expect("enters");
    let figure = |start: &str| -> f64 {
        let line = page.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start} in {page}"));
        line.rsplit_once(' ').expect("a value").1.parse().expect("a number")
    };
    assert_eq!(figure("engine_daemon_container_states_containers{state=\"running\"}"), 1.0);
    assert_eq!(figure("engine_daemon_container_actions_seconds_count{action=\"start\"}"), 1.0);
    assert_eq!(figure("budu_container_memory_limit_bytes{"), 33_554_432.0);
    assert_eq!(figure("budu_container_pids{"), 2.0);
    assert!(figure("budu_container_cpu_seconds_total{") > 0.0 && figure("process_resident_memory_bytes") > 1e6);
}
