//! The driver `journald`: the native protocol of systemd's journal, one
//! datagram a record.

use std::collections::BTreeMap;
use std::path::PathBuf;

use budu_runtime::log::Entry;
use budu_runtime::protocol::STDERR;
use budu_spec::units::rfc3339_nano;
use jiff::Timestamp;

use super::about::About;
use super::wire::Address;
use crate::Error;

const SOCKET: &str = "/run/systemd/journal/socket";

/// Prints records.
#[derive(Debug)]
pub(super) struct Journald {
    /// Fields that are the same in each record, printed.
    fixed: Vec<u8>,
    /// Records so far, of this connection.
    count: u64,
}

impl Journald {
    /// The printer, and where to send what it prints.
    pub(super) fn new(about: &About) -> Result<(Journald, Address), Error> {
        let tag = about.tag("{{.ID}}")?;
        let mut fields = BTreeMap::from([
            ("CONTAINER_ID", about.short_id().to_owned()),
            ("CONTAINER_ID_FULL", about.id.clone()),
            ("CONTAINER_NAME", about.name.clone()),
            ("CONTAINER_TAG", tag.clone()),
            ("IMAGE_NAME", about.image_name.clone()),
            ("SYSLOG_IDENTIFIER", tag),
            ("CONTAINER_LOG_EPOCH", budu_spec::Id::random().to_string()),
        ])
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect::<BTreeMap<_, _>>();
        fields.extend(about.extra()?.into_iter().map(|(key, value)| (field_name(&key), value)));
        let mut fixed = Vec::new();
        for (key, value) in fields.iter().filter(|(key, _)| !key.is_empty()) {
            field(&mut fixed, key, value.as_bytes());
        }
        Ok((Journald { fixed, count: 0 }, Address::UnixDatagram(PathBuf::from(SOCKET))))
    }

    /// Appends a record.
    pub(super) fn print(&mut self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        self.count += 1;
        out.extend_from_slice(&self.fixed);
        field(out, "PRIORITY", if entry.stream == STDERR { b"3" } else { b"6" });
        field(out, "MESSAGE", entry.text());
        let time = Timestamp::from_nanosecond(entry.time.into()).unwrap_or_default();
        field(out, "SYSLOG_TIMESTAMP", rfc3339_nano(time).as_bytes());
        field(out, "CONTAINER_LOG_ORDINAL", self.count.to_string().as_bytes());
        if let Some(partial) = &entry.partial {
            field(out, "CONTAINER_PARTIAL_ID", partial.id.as_bytes());
            field(out, "CONTAINER_PARTIAL_ORDINAL", partial.ordinal.to_string().as_bytes());
            field(out, "CONTAINER_PARTIAL_LAST", partial.last.to_string().as_bytes());
            if !partial.last {
                field(out, "CONTAINER_PARTIAL_MESSAGE", b"true");
            }
        }
    }
}

/// `KEY=value`, or with the length where the value has line ends.
fn field(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.extend_from_slice(key.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The name of a label or variable as the journal takes it.
fn field_name(key: &str) -> String {
    let letters = key.chars().map(|c| match c {
        'a'..='z' => c.to_ascii_uppercase(),
        'A'..='Z' | '0'..='9' => c,
        _ => '_',
    });
    letters.skip_while(|c| *c == '_').collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::tests::record;
    use budu_runtime::log::Partial;

    #[test]
    fn fields() {
        let record = record("web");
        let (mut journald, _) = Journald::new(&About::new(&record)).unwrap();
        let partial = Some(Partial { id: "abc".to_owned(), ordinal: 2, last: false });
        let entry = Entry { stream: STDERR, time: 0, line: b"a\rb".as_slice().into(), partial, attributes: Vec::new() };
        let mut out = Vec::new();
        journald.print(&entry, &mut out);
        let text = String::from_utf8(out).unwrap();
        for line in [
            "MESSAGE=a\rb",
            "PRIORITY=3",
            "CONTAINER_NAME=web",
            "SYSLOG_TIMESTAMP=1970-01-01T00:00:00Z",
            "CONTAINER_LOG_ORDINAL=1",
            "CONTAINER_PARTIAL_ORDINAL=2",
            "CONTAINER_PARTIAL_MESSAGE=true",
        ] {
            assert!(text.split('\n').any(|l| l == line), "{line} in {text}");
        }
        let mut out = Vec::new();
        field(&mut out, "K", b"a\nb");
        assert_eq!(out, b"K\n\x03\0\0\0\0\0\0\0a\nb\n");
        assert_eq!(field_name("_com.example-1"), "COM_EXAMPLE_1");
    }
}
