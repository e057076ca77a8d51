//! Messages there and back, a dialogue with a service of our own, and with the reference implementation of a bus where
//! it is installed.

use super::*;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn everything() -> Vec<Value> {
    vec![
        Value::Byte(7),
        Value::Bool(true),
        Value::I16(-2),
        Value::U16(3),
        Value::I32(-4),
        Value::U32(5),
        Value::I64(-6),
        Value::U64(u64::MAX),
        Value::F64(0.5),
        Value::text("é"),
        Value::Path("/a/b".to_owned()),
        Value::Signature("a{sv}".to_owned()),
        Value::Array("(ss)".to_owned(), vec![Value::Struct(vec![Value::text("a"), Value::text("")])]),
        Value::Array("t".to_owned(), Vec::new()),
        Value::Array(
            "{sv}".to_owned(),
            vec![Value::Entry(
                Box::new(Value::text("k")),
                Box::new(Value::Array("u".to_owned(), vec![Value::U32(1)]).boxed()),
            )],
        ),
        Value::Bool(false).boxed(),
    ]
}

#[test]
fn a_message_is_read_as_it_was_written() {
    let message = Message {
        kind: Kind::Signal,
        serial: 9,
        path: "/x".to_owned(),
        interface: "a.b".to_owned(),
        member: "C".to_owned(),
        sender: ":1.2".to_owned(),
        body: everything(),
        ..Message::default()
    };
    let bytes = message.encode();
    assert_eq!(Message::decode(&bytes).expect("ours"), message);
    let signature: String = message.body.iter().map(Value::signature).collect();
    assert_eq!(signature, "ybnqiuxtdsoga(ss)ata{sv}v");
    for end in 0..bytes.len() {
        assert!(Message::decode(&bytes[..end]).is_err(), "{end} bytes of {}", bytes.len());
    }
    // Whatever is changed, there is an answer and no panic.
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            let _ = Message::decode(&changed);
        }
    }
}

#[test]
fn the_other_byte_order() {
    // A return with one U32, written by hand.
    let bytes = [
        b'B', 2, 1, 1, 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 15, 5, 1, b'u', 0, 0, 0, 0, 3, 8, 1, b'g', 0, 1, b'u', 0, 0, 0,
        0, 0, 42,
    ];
    let message = Message::decode(&bytes).expect("well-formed");
    assert_eq!((message.serial, message.reply_to), (7, 3));
    assert_eq!(message.body, [Value::U32(42)]);
}

#[test]
fn nesting_ends() {
    let mut value = Value::Byte(1);
    for _ in 0..200 {
        value = value.boxed();
    }
    let message = Message { body: vec![value], ..Message::default() };
    assert!(Message::decode(&message.encode()).is_err());
}

#[test]
fn a_call_is_answered_and_signals_are_kept() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let service = std::thread::spawn(move || {
        let mut connection = Connection::over(theirs);
        let call = connection.receive(Instant::now() + Duration::from_secs(5), "a call").expect("it comes");
        assert_eq!((call.member.as_str(), call.body.as_slice()), ("Do", [Value::text("this")].as_slice()));
        for text in ["other", "mine"] {
            let body = vec![Value::text(text)];
            let signal = Message { kind: Kind::Signal, member: "Done".to_owned(), body, ..Message::default() };
            connection.send(signal).expect("heard");
        }
        let answer =
            Message { kind: Kind::Return, reply_to: call.serial, body: vec![Value::U32(1)], ..Message::default() };
        connection.send(answer).expect("heard");
        let call = connection.receive(Instant::now() + Duration::from_secs(5), "a call").expect("it comes");
        let body = vec![Value::text("no")];
        let error = "a.b.Error".to_owned();
        connection
            .send(Message { kind: Kind::Error, reply_to: call.serial, error, body, ..Message::default() })
            .expect("heard");
    });
    let mut connection = Connection::over(ours);
    let result = connection.call(("s", "/o", "i.f"), "Do", vec![Value::text("this")]).expect("answered");
    assert_eq!(result, [Value::U32(1)]);
    let mine = connection.signal("Done", |signal| signal.body == [Value::text("mine")]).expect("kept");
    assert_eq!(mine.member, "Done");
    let error = connection.call(("s", "/o", "i.f"), "Do", Vec::new()).expect_err("refused");
    assert!(error.is("a.b.Error"), "{error}");
    assert_eq!(error.to_string(), "a.b.Error: no");
    service.join().expect("no panic");
}

#[test]
fn a_real_bus_knows_us() {
    let socket = std::env::temp_dir().join(format!("budu-dbus-{}", std::process::id()));
    let address = format!("unix:path={}", socket.display());
    let config = format!(
        "<busconfig><type>session</type><listen>{address}</listen><policy context=\"default\">\
         <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>"
    );
    let file = socket.with_extension("conf");
    std::fs::write(&file, config).expect("writable");
    let config = format!("--config-file={}", file.display());
    let bus = Command::new("dbus-daemon").args([&config, "--nofork", "--print-address"]).stdout(Stdio::piped()).spawn();
    let Ok(mut bus) = bus else {
        std::fs::remove_file(&file).expect("ours");
        return println!("skipped: no dbus-daemon");
    };
    let mut line = String::new();
    let output = bus.stdout.take().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("it prints its address");
    let result = Connection::bus(&address).and_then(|mut connection| {
        let of = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus");
        let names = connection.call(of, "ListNames", Vec::new())?;
        let rule = "type='signal',interface='org.freedesktop.DBus',member='NameOwnerChanged'";
        connection.call(of, "AddMatch", vec![Value::text(rule)])?;
        connection.call(of, "RequestName", vec![Value::text("org.budu.Test"), Value::U32(0)])?;
        let told = connection.signal("NameOwnerChanged", |signal| {
            signal.body.first().and_then(Value::as_text) == Some("org.budu.Test")
        })?;
        Ok((names, told))
    });
    let _ = bus.kill();
    let _ = bus.wait();
    let _ = std::fs::remove_file(&file);
    let _ = std::fs::remove_file(&socket);
    let (names, told) = result.expect("a bus like any other");
    assert!(matches!(&names[..], [Value::Array(kind, names)] if kind == "s" && names.len() >= 2), "{names:?}");
    assert_eq!(told.sender, "org.freedesktop.DBus");
}
