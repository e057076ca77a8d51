//! The driver `gelf`: Graylog's extended log format 1.1, in UDP datagrams
//! (compressed, in chunks where they are large) or over TCP.

use std::io::Write;

use budu_runtime::log::Entry;
use budu_runtime::protocol::STDERR;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Map, Value, json};

use super::about::About;
use super::options::{Options, is_common, text};
use super::wire::{Address, Batch, Url};
use crate::{Error, clock};

const ERROR: u8 = 3;
const INFO: u8 = 6;
/// Of a datagram, with its header.
const CHUNK: usize = 1420;
const CHUNK_HEADER: usize = 12;
const CHUNKS: usize = 128;

/// How datagrams are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zlib,
    None,
}

/// Prints messages.
#[derive(Debug)]
pub(super) struct Gelf {
    udp: bool,
    packing: Packing,
    level: Compression,
    host: String,
    /// Everything that is the same in each message.
    extra: Map<String, Value>,
}

/// How often, and how long in between, a lost connection is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) count: u32,
    pub(super) seconds: u32,
}

fn address(options: &Options) -> Result<(bool, String, u16), Error> {
    let address = text(options, "gelf-address");
    if address.is_empty() {
        return Err(Error::invalid("gelf-address is a required parameter"));
    }
    let url = Url::parse(address);
    if !matches!(url.scheme, "udp" | "tcp") {
        return Err(Error::invalid("gelf: endpoint needs to be TCP or UDP"));
    }
    match url.host_port() {
        (host, Some(port)) if port.parse::<u16>().is_ok() => {
            Ok((url.scheme == "udp", host.to_owned(), port.parse().unwrap_or(0)))
        }
        _ => Err(Error::invalid("gelf: please provide gelf-address as proto://host:port")),
    }
}

/// Checks what Docker checks when a container is made.
pub(super) fn check(options: &Options) -> Result<(), Error> {
    let (udp, ..) = address(options)?;
    for (key, value) in options {
        let number = value.parse::<i64>().ok();
        let good = match key.as_str() {
            key if is_common(key) => true,
            "gelf-address" => true,
            "gelf-compression-level" | "gelf-compression-type" if !udp => {
                return Err(Error::invalid("compression is only supported on UDP"));
            }
            "gelf-compression-level" => number.is_some_and(|n| (-1..=9).contains(&n)),
            "gelf-compression-type" => matches!(value.as_str(), "gzip" | "zlib" | "none"),
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" if udp => {
                return Err(Error::invalid(format!("{key:?} is only valid for TCP")));
            }
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" if number.is_none_or(|n| n < 0) => {
                return Err(Error::invalid(format!("{key:?} must be a positive integer")));
            }
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" => true,
            _ => return Err(Error::invalid(format!("unknown log opt {key:?} for gelf log driver"))),
        };
        if !good {
            return Err(Error::invalid(format!("unknown value {value:?} for log opt {key:?} for gelf log driver")));
        }
    }
    Ok(())
}

impl Gelf {
    /// The printer, and where to send what it prints.
    pub(super) fn new(options: &Options, about: &About) -> Result<(Gelf, Address, Retry), Error> {
        let (udp, host, port) = address(options)?;
        let mut extra = Map::new();
        for (key, value) in [
            ("_container_id", about.id.clone()),
            ("_container_name", about.name.clone()),
            ("_image_id", about.image_id.clone()),
            ("_image_name", about.image_name.clone()),
            ("_command", about.command.clone()),
            ("_tag", about.tag("{{.ID}}")?),
            ("_created", clock::print(about.created)),
        ] {
            extra.insert(key.to_owned(), value.into());
        }
        for (key, value) in about.extra()? {
            let key = if key.starts_with('_') { key } else { format!("_{key}") };
            extra.insert(key, value.into());
        }
        let packing = match text(options, "gelf-compression-type") {
            "zlib" => Packing::Zlib,
            "none" => Packing::None,
            _ => Packing::Gzip,
        };
        let level = match text(options, "gelf-compression-level").parse::<i32>() {
            Ok(-1) => Compression::default(),
            Ok(level) => Compression::new(level.clamp(0, 9).cast_unsigned()),
            Err(_) => Compression::fast(),
        };
        let number = |key: &str, usual| text(options, key).parse().unwrap_or(usual);
        let retry =
            Retry { count: number("gelf-tcp-max-reconnect", 3), seconds: number("gelf-tcp-reconnect-delay", 1) };
        let address = if udp { Address::Udp(host, port) } else { Address::Tcp(host, port) };
        Ok((Gelf { udp, packing, level, host: about.hostname.clone(), extra }, address, retry))
    }

    /// Appends a message, which may be several datagrams; none for an empty line.
    pub(super) fn print(&self, entry: &Entry<'_>, batch: &mut Batch) {
        let line = entry.text();
        if line.is_empty() {
            return;
        }
        let level = if entry.stream == STDERR { ERROR } else { INFO };
        let mut message = self.extra.clone();
        message.extend([
            ("version".to_owned(), json!("1.1")),
            ("host".to_owned(), json!(self.host)),
            ("short_message".to_owned(), json!(String::from_utf8_lossy(line))),
            ("timestamp".to_owned(), json!((entry.time / 1_000_000) as f64 / 1000.0)),
            ("level".to_owned(), json!(level)),
        ]);
        let text = Value::Object(message).to_string();
        if self.udp {
            self.datagrams(&self.pack(text.into_bytes()), batch);
        } else {
            batch.bytes.extend_from_slice(text.as_bytes());
            batch.bytes.push(0);
            batch.end_message();
        }
    }

    fn pack(&self, text: Vec<u8>) -> Vec<u8> {
        // Writing to memory cannot fail.
        match self.packing {
            Packing::None => text,
            Packing::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), self.level);
                let _ = encoder.write_all(&text);
                encoder.finish().unwrap_or_default()
            }
            Packing::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), self.level);
                let _ = encoder.write_all(&text);
                encoder.finish().unwrap_or_default()
            }
        }
    }

    fn datagrams(&self, message: &[u8], batch: &mut Batch) {
        if message.len() <= CHUNK {
            batch.bytes.extend_from_slice(message);
            return batch.end_message();
        }
        let pieces = message.chunks(CHUNK - CHUNK_HEADER);
        let count = pieces.len();
        if count > CHUNKS {
            // More than receivers take; lines are never that long.
            return;
        }
        let id = budu_spec::Id::random();
        let id = id.as_str().as_bytes();
        for (number, piece) in pieces.enumerate() {
            batch.bytes.extend_from_slice(&[0x1e, 0x0f]);
            batch.bytes.extend_from_slice(&id[..8]);
            batch.bytes.extend_from_slice(&[number as u8, count as u8]);
            batch.bytes.extend_from_slice(piece);
            batch.end_message();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::tests::record;
    use std::io::Read;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn refusals_are_dockers() {
        for (pairs, want) in [
            (&[][..], "gelf-address is a required parameter"),
            (&[("gelf-address", "http://x:1")], "gelf: endpoint needs to be TCP or UDP"),
            (&[("gelf-address", "udp://x")], "gelf: please provide gelf-address as proto://host:port"),
            (
                &[("gelf-address", "tcp://x:1"), ("gelf-compression-type", "gzip")],
                "compression is only supported on UDP",
            ),
            (
                &[("gelf-address", "udp://x:1"), ("gelf-compression-type", "lz")],
                "unknown value \"lz\" for log opt \"gelf-compression-type\" for gelf log driver",
            ),
            (
                &[("gelf-address", "udp://x:1"), ("gelf-tcp-max-reconnect", "1")],
                "\"gelf-tcp-max-reconnect\" is only valid for TCP",
            ),
            (&[("gelf-address", "udp://x:1"), ("nope", "1")], "unknown log opt \"nope\" for gelf log driver"),
            (&[("gelf-address", "udp://x:1"), ("tag", "t"), ("gelf-compression-level", "9")], ""),
        ] {
            let said = check(&options(pairs)).map_or_else(|e| e.to_string(), |()| String::new());
            assert_eq!(said, want);
        }
    }

    #[test]
    fn messages_and_chunks() {
        let about = About::new(&record("web"));
        for kind in ["none", "gzip", "zlib"] {
            let options = options(&[("gelf-address", "udp://x:1"), ("gelf-compression-type", kind)]);
            let (gelf, ..) = Gelf::new(&options, &about).unwrap();
            // Random, so that it does not become small.
            let line: String = (0..60).map(|_| budu_spec::Id::random().to_string()).collect();
            let entry = Entry {
                stream: STDERR,
                time: 1_700_000_000_123_456_789,
                line: line.clone().into_bytes().into(),
                partial: None,
                attributes: Vec::new(),
            };
            let mut batch = Batch::default();
            gelf.print(&entry, &mut batch);
            let (mut whole, mut from) = (Vec::new(), 0);
            assert!(batch.ends.len() > 1);
            for (number, &end) in batch.ends.iter().enumerate() {
                let chunk = &batch.bytes[from..end];
                assert!(chunk.len() <= CHUNK);
                assert_eq!(
                    (&chunk[..2], chunk[10], usize::from(chunk[11])),
                    (&[0x1e, 0x0f][..], number as u8, batch.ends.len())
                );
                whole.extend_from_slice(&chunk[CHUNK_HEADER..]);
                from = end;
            }
            let mut text = String::new();
            match kind {
                "gzip" => _ = flate2::read::GzDecoder::new(&whole[..]).read_to_string(&mut text).unwrap(),
                "zlib" => _ = flate2::read::ZlibDecoder::new(&whole[..]).read_to_string(&mut text).unwrap(),
                _ => text = String::from_utf8(whole).unwrap(),
            }
            let message: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(message["short_message"], line);
            assert_eq!((&message["level"], &message["_container_name"]), (&json!(3), &json!("web")));
            assert_eq!(message["timestamp"], json!(1_700_000_000.123));
        }
    }
}
