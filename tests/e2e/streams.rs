//! Streams: WebSockets, clients that stall or leave, first and last bytes.

use std::time::{Duration, Instant};

use budu_testkit::http::Stream;
use budu_testkit::images::BUSYBOX;
use budu_testkit::suite::{Suite, only_budu};
use budu_testkit::{Engine, wait};
use serde_json::json;

use crate::shared;

pub(crate) fn tests(suite: &mut Suite) {
    suite.once(websocket);
    suite.once(raw_connection_takes_input);
    suite.once(last_byte_is_not_lost);
    suite.once(a_stalled_client_harms_nobody);
    suite.once(streams_end_when_their_client_leaves);
}

fn create(engine: &Engine, request: &serde_json::Value) -> String {
    let mut body = json!({"Image": BUSYBOX});
    let more = request.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(more);
    let created = engine.http("POST", "/containers/create", Some(&body)).expect("answers").expect(201);
    created.json()["Id"].as_str().expect("an id").to_owned()
}

fn start(engine: &Engine, id: &str) {
    engine.http("POST", &format!("/containers/{id}/start"), None).expect("answers").expect(204);
}

fn remove(engine: &Engine, id: &str) {
    engine.http("DELETE", &format!("/containers/{id}?force=1"), None).expect("answers").expect(204);
}

const UPGRADE: &[(&str, &str)] = &[("Connection", "Upgrade"), ("Upgrade", "tcp")];

fn attach(engine: &Engine, id: &str, query: &str, headers: &[(&str, &str)]) -> Stream {
    let target = format!("/containers/{id}/attach?stream=1&{query}");
    engine.connect().expect("connects").stream("POST", &target, None, headers).expect("answers")
}

/// A client's frame of at most 125 bytes.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [7u8, 1, 9, 3];
    let body = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    [0x80 | opcode, 0x80 | payload.len() as u8].into_iter().chain(mask).chain(body).collect()
}

fn websocket() {
    let engine = shared::engine();
    let script = "echo ready; read line; echo got $line; echo err >&2";
    let id = create(&engine, &json!({"Cmd": ["sh", "-c", script], "OpenStdin": true, "StdinOnce": true}));
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Origin", "http://localhost"),
    ];
    let target = format!("/v1.51/containers/{id}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1");
    let connection = engine.connect().expect("connects");
    let mut stream = connection.stream("GET", &target, None, &headers).expect("answers");
    assert_eq!(stream.status, 101);
    assert_eq!(stream.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    start(&engine, &id);
    stream.write(&masked(2, b"hi\n")).expect("written");
    let bytes = stream.rest().expect("everything");
    // Unmasked binary frames, the last of them perhaps a close frame.
    let (mut text, mut rest) = (Vec::new(), &bytes[..]);
    while let [first, length, tail @ ..] = rest {
        let (payload, after) = tail.split_at(usize::from(*length));
        match first {
            0x82 => text.extend_from_slice(payload),
            other => assert_eq!(*other, 0x88, "an unexpected frame"),
        }
        rest = after;
    }
    let text = String::from_utf8(text).expect("text");
    assert!(text.starts_with("ready\ngot hi\n") && text.ends_with("err\n"), "{text}");
    remove(&engine, &id);
}

fn raw_connection_takes_input() {
    let engine = shared::engine();
    let id = create(&engine, &json!({"Cmd": ["cat"], "OpenStdin": true, "StdinOnce": true, "AttachStdin": true}));
    let mut stream = attach(&engine, &id, "stdin=1&stdout=1", &[]);
    assert_eq!((stream.status, stream.header("content-type")), (200, Some("application/vnd.docker.raw-stream")));
    start(&engine, &id);
    stream.write(b"typed").expect("written");
    assert_eq!(stream.frame().expect("a frame"), Some((1, b"typed".to_vec())));
    stream.end_input().expect("closed");
    assert_eq!(stream.frame().expect("the end"), None);
    remove(&engine, &id);
}

fn last_byte_is_not_lost() {
    let engine = shared::engine();
    // More than every buffer on the way holds, to a client that reads when it is over.
    let script = "seq 1 200000; printf end";
    let id = create(&engine, &json!({"Cmd": ["sh", "-c", script]}));
    let mut stream = attach(&engine, &id, "stdout=1&stderr=1", UPGRADE);
    start(&engine, &id);
    if engine.backend() == budu_testkit::Backend::Budu {
        let answer = engine.http("POST", &format!("/containers/{id}/wait"), None).expect("answers");
        assert_eq!(answer.json()["StatusCode"], 0);
    }
    let (out, _) = stream.frames().expect("frames");
    assert!(out.starts_with("1\n2\n") && out.ends_with("200000\nend"), "{} bytes", out.len());
    assert_eq!(out.lines().count(), 200_001);
    remove(&engine, &id);
}

fn a_stalled_client_harms_nobody() {
    only_budu("dockerd holds the container up");
    let engine = shared::engine();
    let id = create(
        &engine,
        &json!({"Cmd": ["sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' 'x' | fold -w 99; echo; echo end"]}),
    );
    let stalled = attach(&engine, &id, "stdout=1", UPGRADE);
    let mut other = attach(&engine, &id, "stdout=1", UPGRADE);
    let begin = Instant::now();
    start(&engine, &id);
    let (out, _) = other.frames().expect("frames");
    assert!(out.ends_with("end\n") && out.len() > 20_000_000);
    let answer = engine.http("POST", &format!("/containers/{id}/wait"), None).expect("answers");
    assert_eq!(answer.json()["StatusCode"], 0);
    assert!(begin.elapsed() < Duration::from_secs(30));
    let log = engine.http("GET", &format!("/containers/{id}/logs?stdout=1&tail=1"), None).expect("answers");
    assert_eq!(log.body, b"\x01\0\0\0\0\0\0\x04end\n");
    drop(stalled);
    remove(&engine, &id);
}

fn streams_end_when_their_client_leaves() {
    let engine = shared::engine();
    let id = create(&engine, &json!({"Cmd": ["sleep", "1000"], "OpenStdin": true}));
    start(&engine, &id);
    let descriptors = || {
        let dir = format!("/proc/{}/fd", engine.daemon_pid());
        std::fs::read_dir(dir).expect("a process").count()
    };
    let open = || {
        let mut streams = Vec::new();
        for target in
            ["/events".to_owned(), format!("/containers/{id}/logs?follow=1&stdout=1"), format!("/containers/{id}/wait")]
        {
            let method = if target.ends_with("wait") { "POST" } else { "GET" };
            streams.push(engine.stream(method, &target, None).expect("answers"));
        }
        streams.push(attach(&engine, &id, "stdin=1&stdout=1", UPGRADE));
        streams
    };
    // The first time opens what stays open.
    drop(open());
    let settled = || {
        let before = descriptors();
        std::thread::sleep(Duration::from_millis(300));
        (descriptors() == before).then_some(before)
    };
    let before = wait::until("quiet", Duration::from_secs(10), settled).expect("it settles");
    let streams: Vec<_> = (0..5).flat_map(|_| open()).collect();
    assert!(descriptors() >= before + streams.len());
    drop(streams);
    let gone = wait::until("closed connections", Duration::from_secs(10), || (descriptors() <= before).then_some(()));
    gone.unwrap_or_else(|_| panic!("{} descriptors, {before} before", descriptors()));
    remove(&engine, &id);
}
