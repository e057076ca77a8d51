//! Log drivers: what lies in their files, what arrives at receivers, and what is left to read.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::{Suite, only_budu};
use budu_testkit::{Backend, Client, Engine, Options, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::shared::{self, inspect, name};

const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn tests(suite: &mut Suite) {
    suite.both(json_file_is_dockers);
    suite.both(rotation_and_compression);
    suite.both(local_driver);
    suite.once(options_are_checked);
    suite.once(syslog_formats);
    suite.once(gelf_over_udp);
    suite.once(fluentd_with_receipts);
    suite.once(journald_fields);
    suite.both(a_receiver_that_is_not_there);
    suite.once(defaults_of_the_daemon);
    suite.once(a_crash_of_the_daemon_loses_no_line);
}

/// Runs a container with `options` to its end and returns its name.
fn ran(docker: &budu_testkit::ClientHandle, options: &[&str], script: &str) -> String {
    let name = name("driver");
    let run = [&["run", "--name", &name][..], options, &[BUSYBOX, "sh", "-c", script]].concat();
    docker.run(run).expect("runs").exits(0);
    name
}

fn json_file_is_dockers(client: Client) {
    let (docker, engine) = (shared::client(client), shared::engine());
    let options = ["--label", "a=1 &", "--label", "ab=2", "-e", "B=3"];
    let wishes =
        ["--log-opt", "labels=a", "--log-opt", "labels-regex=^ab", "--log-opt", "env=B", "--log-opt", "tag={{.Name}}"];
    let name =
        ran(&docker, &[&options[..], &wishes].concat(), "printf '<é>\\t\"\\n'; printf '\\377\\r\\n' >&2; printf end");
    let path = inspect(&engine, &name)["LogPath"].as_str().expect("a path").to_owned();
    let text = std::fs::read_to_string(&path).expect("a file");
    let mut lines: Vec<&str> = text.lines().collect();
    // Which stream is read first is up to the daemon.
    lines.sort_by_key(|line| line.contains("stderr"));
    let attrs = format!("\"attrs\":{{\"B\":\"3\",\"a\":\"1 \\u0026\",\"ab\":\"2\",\"tag\":\"{name}\"}}");
    for (line, start) in lines.iter().zip([
        "{\"log\":\"\\u003cé\\u003e\\u0009\\\"\\n\",\"stream\":\"stdout\",",
        "{\"log\":\"end\",\"stream\":\"stdout\",",
        "{\"log\":\"\\ufffd\\r\\n\",\"stream\":\"stderr\",",
    ]) {
        let rest = line.strip_prefix(start).unwrap_or_else(|| panic!("{line} does not begin with {start}"));
        let time = rest.strip_prefix(&format!("{attrs},\"time\":\"")).unwrap_or_else(|| panic!("{rest}"));
        assert!(time.ends_with("Z\"}") && time.len() <= 33, "{time}");
    }
    let details = docker.ok(["logs", "--details", &name]);
    let tag = format!("B=3,a=1+%26,ab=2,tag={name} ");
    assert!(details.lines().all(|line| line.starts_with(&tag)), "{details}");
    docker.ok(["rm", &name]);
}

fn rotation_and_compression(client: Client) {
    let (docker, engine) = (shared::client(client), shared::engine());
    let bounds = ["--log-opt", "max-size=20k", "--log-opt", "max-file=3", "--log-opt", "compress=true"];
    let name = ran(&docker, &bounds, "for n in 0 1 2 3 4 5 6 7; do seq $((n*250+1)) $((n*250+250)); sleep 0.2; done");
    let path = inspect(&engine, &name)["LogPath"].as_str().expect("a path").to_owned();
    // The last file is compressed in the background.
    let packed = |n: u32| Path::new(&format!("{path}.{n}.gz")).exists();
    wait::until("compressed files", LIMIT, || (packed(1) && packed(2)).then_some(())).expect("two of them");
    assert!(!packed(3) && Path::new(&path).metadata().expect("a file").len() <= 21_000);
    let text = docker.ok(["logs", &name]);
    let numbers: Vec<u32> = text.lines().map(|line| line.parse().expect("a number")).collect();
    assert!(numbers.len() < 2000 && numbers.last() == Some(&2000), "{} lines", numbers.len());
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "no gap");
    assert_eq!(docker.ok(["logs", "--tail", "500", &name]).lines().next(), Some("1501"));
    docker.ok(["rm", &name]);
}

fn local_driver(client: Client) {
    let (docker, engine) = (shared::client(client), shared::engine());
    let name = ran(&docker, &["--log-driver", "local"], "echo out; echo err >&2; head -c 20000 /dev/zero | tr '\\0' x");
    assert_eq!(inspect(&engine, &name)["LogPath"], "");
    let output = docker.run(["logs", &name]).expect("runs");
    assert_eq!((output.stdout.len(), output.stderr.as_str()), (4 + 20_000, "err\n"));
    let stamped = docker.ok(["logs", "-t", "--tail", "1", &name]);
    assert!(stamped.contains("Z xxx"), "{stamped}");
    docker.ok(["rm", &name]);
}

fn options_are_checked() {
    let engine = shared::engine();
    for (driver, options, want) in [
        ("nope", json!({}), "error looking up logging plugin nope: plugin \"nope\" not found"),
        ("json-file", json!({"mode": "x"}), "logger: logging mode not supported: x"),
        ("json-file", json!({"x": "y"}), "unknown log opt 'x' for json-file log driver"),
        ("local", json!({"x": "y"}), "unknown log opt 'x' for log driver local"),
        (
            "json-file",
            json!({"max-buffer-size": "1m"}),
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        ("syslog", json!({"syslog-address": "x://y"}), "unsupported scheme: 'x'"),
        ("syslog", json!({"syslog-facility": "x"}), "invalid syslog facility"),
        ("syslog", json!({"cache-disabled": "x"}), "invalid value for option cache-disabled: x"),
        ("gelf", json!({}), "gelf-address is a required parameter"),
        ("gelf", json!({"gelf-address": "tcp://x"}), "gelf: please provide gelf-address as proto://host:port"),
        ("fluentd", json!({"fluentd-address": "x://y"}), "invalid fluentd-address (x://y): unsupported scheme: 'x'"),
        ("fluentd", json!({"fluentd-retry-wait": "x"}), "time: invalid duration \"x\""),
    ] {
        let body = json!({"Image": BUSYBOX, "HostConfig": {"LogConfig": {"Type": driver, "Config": options}}});
        let answer = engine.http("POST", "/containers/create", Some(&body)).expect("answers").expect(400);
        assert_eq!(answer.message(), want);
    }
    // Values that are looked at when it starts.
    for (options, want) in [
        (json!({"max-size": "x"}), "failed to initialize logging driver: invalid size: 'x'"),
        (json!({"max-file": "0"}), "failed to initialize logging driver: max-file cannot be less than 1"),
    ] {
        let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {"LogConfig": {"Type": "json-file", "Config": options}}});
        let created = engine.http("POST", "/containers/create", Some(&body)).expect("answers").expect(201).json();
        let id = created["Id"].as_str().expect("an id");
        let answer = engine.http("POST", &format!("/containers/{id}/start"), None).expect("answers");
        assert!(answer.status >= 400 && answer.message().ends_with(want), "{}", answer.message());
        engine.http("DELETE", &format!("/containers/{id}"), None).expect("answers").expect(204);
    }
}

/// Gives what arrives on a socket in the daemon's network, a message at a time.
fn udp(engine: &Engine) -> (u16, Receiver<Vec<u8>>) {
    let socket = engine.side().in_network(|| UdpSocket::bind("127.0.0.1:0")).expect("entered").expect("bound");
    let port = socket.local_addr().expect("an address").port();
    let (give, take) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0u8; 65536];
        while let Ok(count) = socket.recv(&mut buffer) {
            if give.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    (port, take)
}

/// Gives the lines that arrive on TCP connections in the daemon's network.
fn tcp(engine: &Engine) -> (u16, Receiver<String>) {
    let listener = engine.side().in_network(|| TcpListener::bind("127.0.0.1:0")).expect("entered").expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let (give, take) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let give = give.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = give.send(line);
                }
            });
        }
    });
    (port, take)
}

fn syslog_formats() {
    let engine = shared::engine();
    let docker = engine.client(Client::Docker);
    let (port, datagrams) = udp(&engine);
    let udp = format!("syslog-address=udp://127.0.0.1:{port}");
    let options = ["--log-driver", "syslog", "--log-opt", "syslog-facility=local3", "--log-opt", "tag=T", "--log-opt"];
    let name = ran(&docker, &[&options[..], &[&udp]].concat(), "echo one; sleep 0.1; echo two >&2");
    for (priority, text) in [("<158>", "one"), ("<155>", "two")] {
        let message = String::from_utf8(datagrams.recv_timeout(LIMIT).expect("a datagram")).expect("text");
        assert!(message.starts_with(priority) && message.ends_with(&format!("]: {text}\n")), "{message}");
        assert!(message.contains(" T["), "{message}");
    }
    // What was sent can be read, too.
    let output = docker.run(["logs", &name]).expect("runs");
    output.exits(0);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("one\n", "two\n"));
    docker.ok(["rm", &name]);
    let (port, lines) = tcp(&engine);
    let tcp = format!("syslog-address=tcp://127.0.0.1:{port}");
    for (format, start, middle) in
        [("rfc3164", "<30>", " T["), ("rfc5424", "<30>1 20", " T "), ("rfc5424micro", "<30>1 20", ". T ")]
    {
        let format_option = format!("syslog-format={format}");
        let options = ["--log-driver", "syslog", "--log-opt", "tag=T", "--log-opt", &tcp, "--log-opt", &format_option];
        let name = ran(&docker, &options, "echo line");
        let line = lines.recv_timeout(LIMIT).expect("a line");
        assert!(line.starts_with(start) && line.ends_with("line"), "{line}");
        let (dot, tag) = middle.split_at(middle.len() - 3);
        assert!(line.contains(tag) && line.split(' ').next_back() == Some("line"), "{line}");
        assert!(dot.is_empty() || line.split(' ').nth(1).is_some_and(|time| time.contains('.')), "{line}");
        docker.ok(["rm", &name]);
    }
    let socket = engine.path("syslog.sock");
    let listener = UnixListener::bind(&socket).expect("bound");
    let unix = format!("syslog-address=unix://{}", socket.display());
    let name =
        ran(&docker, &["--log-driver", "syslog", "--log-opt", &unix, "--log-opt", "cache-disabled=true"], "echo unix");
    let (stream, _) = listener.accept().expect("a connection");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("a line");
    assert!(line.ends_with("]: unix\n"), "{line}");
    docker.run(["logs", &name]).expect("runs").complains("configured logging driver does not support reading");
    docker.ok(["rm", &name]);
}

fn gelf_over_udp() {
    let engine = shared::engine();
    let docker = engine.client(Client::Docker);
    let (port, datagrams) = udp(&engine);
    let address = format!("gelf-address=udp://127.0.0.1:{port}");
    let options = ["--log-driver", "gelf", "--label", "k=v", "--log-opt", "labels=k", "--log-opt", &address];
    let plain = [&options[..], &["--log-opt", "gelf-compression-type=none"]].concat();
    let name = ran(&docker, &plain, "echo '<line>' >&2");
    let message: Value = serde_json::from_slice(&datagrams.recv_timeout(LIMIT).expect("a datagram")).expect("JSON");
    assert_eq!((&message["version"], &message["short_message"]), (&json!("1.1"), &json!("<line>")));
    assert_eq!((&message["level"], &message["_k"]), (&json!(3), &json!("v")));
    assert_eq!((&message["_container_name"], &message["_image_name"]), (&json!(name), &json!(BUSYBOX)));
    assert!(message["timestamp"].as_f64().is_some_and(|time| time > 1.0e9), "{message}");
    docker.ok(["rm", &name]);
    // Compressed unless asked otherwise: gzip's first bytes.
    let name = ran(&docker, &options, "echo again");
    assert_eq!(datagrams.recv_timeout(LIMIT).expect("a datagram")[..2], [0x1f, 0x8b]);
    assert_eq!(docker.ok(["logs", &name]), "again");
    docker.ok(["rm", &name]);
}

fn fluentd_with_receipts() {
    let engine = shared::engine();
    let docker = engine.client(Client::Docker);
    let socket = engine.path("fluent.sock");
    let listener = UnixListener::bind(&socket).expect("bound");
    let (give, take) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let (mut bytes, mut buffer, mut answered) = (Vec::new(), [0u8; 4096], 0);
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..count]);
            // `chunk` and its id are the end of each message; a receipt is a map with it under `ack`.
            while let Some(at) = find(&bytes[answered..], b"\xa5chunk").map(|at| answered + at + 6) {
                let id = match bytes.get(at) {
                    Some(0xd9) => bytes.get(at + 1).and_then(|length| bytes.get(at..at + 2 + usize::from(*length))),
                    Some(short) => bytes.get(at..at + 1 + usize::from(short & 0x1f)),
                    None => None,
                };
                let Some(id) = id else { break };
                stream.write_all(&[b"\x81\xa3ack", id].concat()).expect("written");
                answered = at + id.len();
            }
            let _ = give.send(bytes.clone());
        }
    });
    let address = format!("fluentd-address=unix://{}", socket.display());
    let wishes = ["--log-driver", "fluentd", "--log-opt", &address, "--log-opt", "tag=T.{{.Name}}"];
    let name = ran(&docker, &[&wishes[..], &["--log-opt", "fluentd-request-ack=true"]].concat(), "echo one; echo two");
    let mut all = Vec::new();
    wait::until("both messages", LIMIT, || {
        all = take.recv_timeout(LIMIT).ok()?;
        find(&all, b"two").map(drop)
    })
    .expect("arrive");
    let tag = format!("T.{name}");
    for want in
        [tag.as_bytes(), b"\xa3one", b"\xa6source\xa6stdout", b"\xaccontainer_id", format!("/{name}").as_bytes()]
    {
        assert!(
            find(&all, want).is_some(),
            "{:?} in {:?}",
            String::from_utf8_lossy(want),
            String::from_utf8_lossy(&all)
        );
    }
    assert_eq!(docker.ok(["logs", &name]), "one\ntwo");
    docker.ok(["rm", &name]);
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn journald_fields() {
    let options = Options { images: vec![BUSYBOX], own_run: true, ..Options::default() };
    let engine = Engine::start(options).expect("starts");
    let docker = engine.client(Client::Docker);
    let name = "journal";
    docker
        .run(["run", "--name", name, "--log-driver", "journald", BUSYBOX, "true"])
        .expect("runs")
        .complains("journald is not enabled on this host");
    docker.ok(["rm", name]);
    let dir = Path::new("/proc").join(engine.cage().pid().to_string()).join("root");
    let dir = match engine.backend() {
        Backend::Budu => dir.join("run/systemd/journal"),
        Backend::Dockerd => Path::new("/proc").join(engine.daemon_pid().to_string()).join("root/run/systemd/journal"),
    };
    std::fs::create_dir_all(&dir).expect("made");
    let socket = std::os::unix::net::UnixDatagram::bind(dir.join("socket")).expect("bound");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    let options = ["--log-driver", "journald", "--label", "a.b=c", "--log-opt", "labels=a.b", "--log-opt", "tag=T"];
    let run = [&["run", "--name", name][..], &options, &[BUSYBOX, "sh", "-c", "echo line >&2"]].concat();
    docker.run(run).expect("runs").exits(0);
    let mut buffer = [0u8; 65536];
    let text = loop {
        let count = socket.recv(&mut buffer).expect("a record");
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        // Whether anybody listens is asked with an empty one.
        if text.contains("MESSAGE") {
            break text;
        }
    };
    for field in ["CONTAINER_NAME=journal", "CONTAINER_TAG=T", "SYSLOG_IDENTIFIER=T", "PRIORITY=3", "A_B=c"] {
        assert!(text.lines().any(|line| line == field), "{field} in {text}");
    }
    assert!(text.contains("line"), "{text}");
    if engine.backend() == Backend::Budu {
        assert_eq!(docker.run(["logs", name]).expect("runs").stderr, "line\n");
    }
    engine.finish().expect("nothing is left");
}

fn a_receiver_that_is_not_there(client: Client) {
    let docker = shared::client(client);
    for (options, want) in [
        (
            ["syslog", "syslog-address=tcp://127.0.0.1:1"],
            "failed to initialize logging driver: dial tcp 127.0.0.1:1: connect: connection refused",
        ),
        (
            ["fluentd", "fluentd-address=127.0.0.1:1"],
            "failed to initialize logging driver: dial tcp 127.0.0.1:1: connect: connection refused",
        ),
        (
            ["gelf", "gelf-address=tcp://127.0.0.1:1"],
            "failed to initialize logging driver: gelf: cannot connect to GELF endpoint: 127.0.0.1:1 dial tcp 127.0.0.1:1: connect: connection refused",
        ),
    ] {
        let name = name("driver");
        let run = ["run", "--name", &name, "--log-driver", options[0], "--log-opt", options[1], BUSYBOX, "true"];
        docker.run(run).expect("runs").exits(125).complains(want);
        docker.ok(["rm", &name]);
    }
    let lazy =
        ["--log-driver", "fluentd", "--log-opt", "fluentd-address=127.0.0.1:1", "--log-opt", "fluentd-async=true"];
    let name = ran(&docker, &lazy, "echo kept");
    assert_eq!(docker.ok(["logs", &name]), "kept");
    docker.ok(["rm", &name]);
}

fn defaults_of_the_daemon() {
    let flags = ["--log-driver", "local", "--log-opt", "max-size=5m", "--log-opt", "tag=T"];
    let flags = flags.map(str::to_owned).to_vec();
    let engine = Engine::start(Options { images: vec![BUSYBOX], flags, ..Options::default() }).expect("starts");
    let docker = engine.client(Client::Docker);
    docker.ok(["create", "--name", "plain", BUSYBOX]);
    docker.ok(["create", "--name", "own", "--log-opt", "max-size=1m", BUSYBOX]);
    docker.ok(["create", "--name", "other", "--log-driver", "json-file", BUSYBOX]);
    for (name, kind, config) in [
        ("plain", "local", json!({"max-size": "5m", "tag": "T"})),
        ("own", "local", json!({"max-size": "1m", "tag": "T"})),
        ("other", "json-file", json!({})),
    ] {
        let log = inspect(&engine, name)["HostConfig"]["LogConfig"].clone();
        assert_eq!((&log["Type"], &log["Config"]), (&json!(kind), &config), "{name}");
    }
    assert_eq!(docker.ok(["info", "-f", "{{.LoggingDriver}}"]), "local");
    engine.finish().expect("nothing is left");
}

fn a_crash_of_the_daemon_loses_no_line() {
    only_budu("dockerd sends lines itself: what it had not sent is lost with it");
    let engine = Engine::start(Options { images: vec![BUSYBOX], ..Options::default() }).expect("starts");
    let docker = engine.client(Client::Docker);
    let (port, lines) = tcp(&engine);
    let address = format!("syslog-address=tcp://127.0.0.1:{port}");
    let script = "i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo n=$i.; [ $((i%20)) = 0 ] && sleep 0.1; done";
    let options = ["run", "-d", "--name", "crash", "--log-driver", "syslog", "--log-opt", &address];
    docker.ok([&options[..], &[BUSYBOX, "sh", "-c", script]].concat());
    let mut seen = std::collections::BTreeSet::new();
    let mut take = |until: usize| {
        while seen.len() < until {
            let line = lines.recv_timeout(LIMIT).expect("a line");
            let number = line.split_once("n=").and_then(|(_, n)| n.strip_suffix('.')?.parse::<usize>().ok());
            seen.insert(number.unwrap_or_else(|| panic!("{line}")));
        }
    };
    for until in [50, 200] {
        take(until);
        assert_eq!(engine.stop_daemon(Signal::KILL).expect("ends"), 137);
        // It goes on without anybody, and perhaps ends.
        std::thread::sleep(Duration::from_millis(300));
        engine.start_daemon().expect("starts again");
    }
    take(600);
    assert_eq!(docker.ok(["wait", "crash"]), "0");
    assert_eq!(docker.ok(["logs", "--tail", "1", "crash"]), "n=600.");
    engine.finish().expect("nothing is left");
}
