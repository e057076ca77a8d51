//! A dialogue with a systemd of our own.

use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use budu_sys::dbus::{Kind, Message};

use super::*;

/// Answers calls by a script: member, and what is sent back.
fn systemd(script: Vec<(&'static str, Answer)>) -> (Manager, JoinHandle<Vec<Message>>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let service = std::thread::spawn(move || {
        let mut connection = Connection::over(theirs);
        let mut heard = Vec::new();
        for (member, answer) in script {
            let call = connection.receive(Instant::now() + Duration::from_secs(5), member).unwrap();
            assert_eq!(call.member, member);
            let reply = Message { reply_to: call.serial, ..Message::default() };
            let result = |body| Message { kind: Kind::Return, body, ..reply.clone() };
            match answer {
                Answer::Nothing => drop(connection.send(result(Vec::new())).unwrap()),
                Answer::Text(text) => drop(connection.send(result(vec![Value::text(text).boxed()])).unwrap()),
                Answer::Error(name) => {
                    let error = Message { kind: Kind::Error, error: name.to_owned(), ..reply };
                    connection.send(error).unwrap();
                }
                Answer::Job(ending) => {
                    // The end of another job, and of this one before its beginning is answered.
                    for (path, ending) in [("/job/1", "canceled"), ("/job/2", ending)] {
                        let body = vec![Value::U32(1), Value::Path(path.into()), Value::text("u"), Value::text(ending)];
                        let member = "JobRemoved".to_owned();
                        connection.send(Message { kind: Kind::Signal, member, body, ..Message::default() }).unwrap();
                    }
                    connection.send(result(vec![Value::Path("/job/2".to_owned())])).unwrap();
                }
            }
            heard.push(call);
        }
        heard
    });
    (Manager::over(Connection::over(ours)).unwrap(), service)
}

enum Answer {
    Nothing,
    Text(&'static str),
    Error(&'static str),
    Job(&'static str),
}
use Answer::{Error, Job, Nothing, Text};

const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

#[test]
fn a_scope_starts() {
    let (mut manager, service) = systemd(vec![
        ("Get", Text("v252.4-1")),
        ("AddMatch", Nothing),
        ("Subscribe", Nothing),
        ("StartTransientUnit", Error(UNIT_EXISTS)),
        ("ResetFailedUnit", Nothing),
        ("StartTransientUnit", Job("done")),
    ]);
    assert_eq!(manager.version, 252);
    let unit = Unit::parse("a-b.slice:docker:x", "x", false).unwrap();
    let pid = Pid::from_raw(42).unwrap();
    manager.start(&unit.name, unit.properties("x", Version::V2, pid)).unwrap();
    let heard = service.join().unwrap();
    let call = &heard[5];
    assert_eq!(call.body[0], Value::text("docker-x.scope"));
    let signature: String = call.body.iter().map(Value::signature).collect();
    assert_eq!(signature, "ssa(sv)a(sa(sv))");
    let Value::Array(_, properties) = &call.body[2] else { panic!("{call:?}") };
    let has = |name: &str, value: Value| properties.contains(&Value::Struct(vec![Value::text(name), value.boxed()]));
    assert!(has("Slice", Value::text("a-b.slice")));
    assert!(has("Delegate", Value::Bool(true)));
    assert!(has("PIDs", Value::Array("u".to_owned(), vec![Value::U32(42)])));
    assert!(has("IOAccounting", Value::Bool(true)));
}

#[test]
fn a_scope_that_does_not_start_is_reset() {
    let (mut manager, service) = systemd(vec![
        ("Get", Text("255")),
        ("AddMatch", Error("org.freedesktop.DBus.Error.UnknownMethod")),
        ("Subscribe", Nothing),
        ("StartTransientUnit", Job("failed")),
        ("ResetFailedUnit", Nothing),
    ]);
    let message = manager.start("x.scope", Vec::new()).unwrap_err().message;
    assert!(message.ends_with("unable to start unit \"x.scope\": got `failed`"), "{message}");
    service.join().unwrap();
}

#[test]
fn a_scope_stops_or_is_gone() {
    let (mut manager, service) = systemd(vec![
        ("Get", Text("255")),
        ("AddMatch", Nothing),
        ("Subscribe", Nothing),
        ("StopUnit", Job("done")),
        ("ResetFailedUnit", Error("org.freedesktop.systemd1.NoSuchUnit")),
        ("AddMatch", Nothing),
        ("Subscribe", Error("org.freedesktop.systemd1.AlreadySubscribed")),
        ("StopUnit", Error("org.freedesktop.systemd1.NoSuchUnit")),
        ("ResetFailedUnit", Nothing),
    ]);
    manager.stop("x.scope").unwrap();
    manager.stop("x.scope").unwrap();
    service.join().unwrap();
}

#[test]
fn versions() {
    for (text, number) in [("v245.4-1.fc32", 245), ("\"v245\"", 245), ("257~rc1", 257), ("x", 0)] {
        assert_eq!(version(text), number, "{text}");
    }
}

/// What systemd is asked for on behalf of a configuration with these annotations; the plan alone for the engine's.
fn asked_with(annotations: &serde_json::Value, bundle: bool) -> Failing<Vec<Value>> {
    use crate::compile::{Bundle, Extras, container};
    let mut spec = crate::defaults::bundle::spec(false);
    spec.annotations = serde_json::from_value(annotations.clone()).unwrap();
    let bundle = bundle.then(|| Bundle { path: "/b".into(), systemd: true, ..Bundle::default() });
    let plan = container(&spec, Extras { id: "x".into(), bundle, ..Extras::default() })?;
    let (mut manager, service) = systemd(vec![
        ("Get", Text("252")),
        ("AddMatch", Nothing),
        ("Subscribe", Nothing),
        ("StartTransientUnit", Job("done")),
    ]);
    let result = manager.start_annotated("x.scope", Vec::new(), &plan.cgroup);
    drop(manager);
    result?;
    let Value::Array(_, sent) = service.join().unwrap()[3].body[2].clone() else { panic!("no list") };
    Ok(sent)
}

/// CVE-2024-3154: annotations and labels that anybody may give say nothing to systemd.
#[test]
fn only_properties_become_properties() {
    use serde_json::json;
    let free = json!({
        "ExecStartPre": "['/bin/evil']",
        "systemd.property.ExecStartPre": "['/bin/evil']",
        "org.systemd.properties.ExecStartPre": "['/bin/evil']",
        "org.systemd.propertyExecStartPre": "['/bin/evil']",
        "Org.Systemd.Property.ExecStartPre": "['/bin/evil']",
        "io.kubernetes.org.systemd.property.ExecStartPre": "['/bin/evil']",
        "label": "org.systemd.property.ExecStartPre=x",
    });
    assert_eq!(asked_with(&free, true).unwrap(), []);
    // The engine's labels are no annotations, and its annotations no properties.
    assert_eq!(asked_with(&json!({"org.systemd.property.TimeoutStopUSec": "uint64 1"}), false).unwrap(), []);
    for bad in [
        json!({"org.systemd.property.": "1"}),
        json!({"org.systemd.property.Exec-Start": "'x'"}),
        json!({"org.systemd.property.A.B": "'x'"}),
        json!({"org.systemd.property.TimeoutStopUSec": "uint64 1, 'ExecStart', 'x'"}),
        json!({"org.systemd.property.TimeoutStopUSec": "uint64 1> <'x'"}),
        json!({"org.systemd.property.TimeoutStopUSec": ""}),
    ] {
        assert!(asked_with(&bad, true).is_err(), "{bad}");
    }
    // The honest: one property, as it was asked for.
    let sent = asked_with(&json!({"org.systemd.property.TimeoutStopUSec": "uint64 123"}), true).unwrap();
    assert_eq!(sent, [Value::Struct(vec![Value::text("TimeoutStopUSec"), Value::U64(123).boxed()])]);
}
