//! The driver `fluentd`: the forward protocol, version 1, in message mode:
//! MessagePack arrays of tag, time, record and option.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use budu_dial::tls;
use budu_runtime::log::Entry;
use budu_runtime::protocol::STDERR;

use super::about::About;
use super::options::{self, Options, flag, text};
use super::wire::{Address, Url, Wire};
use crate::Error;

const PORT: u16 = 24224;
const HOST: &str = "127.0.0.1";

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    target: Target,
    /// A receiver that is not there does not keep a container from starting.
    pub(super) lazy: bool,
    pub(super) retries: u32,
    pub(super) wait: Duration,
    acknowledged: bool,
    precise: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Unix(PathBuf),
    Tcp(String, u16),
    Tls(String, u16),
}

/// Prints messages, and waits for their receipts.
#[derive(Debug)]
pub(super) struct Fluentd {
    tag: String,
    record: BTreeMap<String, String>,
    settings: Settings,
    /// Chunks whose receipt is awaited.
    open: Vec<String>,
}

/// Checks what Docker checks when a container is made.
pub(super) fn check(options: &Options) -> Result<(), Error> {
    settings(options).map(drop)
}

fn settings(options: &Options) -> Result<Settings, Error> {
    let address = text(options, "fluentd-address");
    let target = target(address).map_err(|e| Error::invalid(format!("invalid fluentd-address ({address}): {e}")))?;
    let given = |key: &str| Some(text(options, key)).filter(|value| !value.is_empty());
    if let Some(size) = given("fluentd-buffer-limit") {
        // The buffer is the log's own files.
        options::ram(size).map_err(Error::invalid)?;
    }
    let wait = given("fluentd-retry-wait").map(options::duration).transpose().map_err(Error::invalid)?;
    let retries = match given("fluentd-max-retries") {
        None => i32::MAX.cast_unsigned(),
        Some(number) => match number.parse::<u64>() {
            Ok(n) if n <= i32::MAX.cast_unsigned().into() => n as u32,
            Ok(n) if n <= u32::MAX.into() => {
                return Err(Error::invalid("invalid fluentd-max-retries: value out of range"));
            }
            Ok(_) => return Err(Error::invalid(format!("strconv.ParseUint: parsing {number:?}: value out of range"))),
            Err(_) => return Err(Error::invalid(format!("strconv.ParseUint: parsing {number:?}: invalid syntax"))),
        },
    };
    let lazy = flag(options, "fluentd-async")?;
    interval(given("fluentd-async-reconnect-interval"))?;
    let precise = flag(options, "fluentd-sub-second-precision")?;
    let acknowledged = flag(options, "fluentd-request-ack")?;
    for key in ["fluentd-write-timeout", "fluentd-read-timeout"] {
        let Some(value) = given(key) else { continue };
        let time = options::duration(value)
            .map_err(|why| Error::invalid(format!("invalid value for {key}: value must be a duration: {why}")))?;
        if time < 0 {
            let message = format!("invalid value for {key}: value must be a duration that is non-negative: {value}");
            return Err(Error::invalid(message));
        }
    }
    let wait = Duration::from_nanos(wait.unwrap_or(1_000_000_000).try_into().unwrap_or(0));
    Ok(Settings { target, lazy, retries, wait, acknowledged, precise })
}

fn interval(text: Option<&str>) -> Result<(), Error> {
    const KEY: &str = "fluentd-async-reconnect-interval";
    let Some(text) = text else { return Ok(()) };
    let interval = options::duration(text).map_err(|why| Error::invalid(format!("invalid value for {KEY}: {why}")))?;
    if interval != 0 && !(100_000_000..=10_000_000_000).contains(&interval) {
        return Err(Error::invalid(format!("invalid value for {KEY}: value ({text:?}) must be between 100ms and 10s")));
    }
    Ok(())
}

fn target(address: &str) -> Result<Target, String> {
    let whole = if address.contains("://") { address.to_owned() } else { format!("tcp://{address}") };
    let url = Url::parse(&whole);
    if url.scheme == "unix" {
        if url.path.trim_start_matches('/').is_empty() {
            return Err("path is empty".to_owned());
        }
        return Ok(Target::Unix(url.path.into()));
    }
    if !matches!(url.scheme, "tcp" | "tls") {
        return Err(format!("unsupported scheme: '{}'", url.scheme));
    }
    if !url.path.is_empty() {
        return Err("should not contain a path element".to_owned());
    }
    let (host, port) = url.host_port();
    let port = match port {
        None | Some("") => PORT,
        Some(port) if port.chars().all(|c| c.is_ascii_digit()) => port
            .parse()
            .map_err(|_| format!("invalid port: strconv.ParseUint: parsing {port:?}: value out of range"))?,
        Some(port) => return Err(format!("parse {whole:?}: invalid port {:?} after host", format!(":{port}"))),
    };
    let host = if host.is_empty() { HOST } else { host }.to_owned();
    Ok(if url.scheme == "tls" { Target::Tls(host, port) } else { Target::Tcp(host, port) })
}

impl Fluentd {
    /// The printer, and where to send what it prints.
    pub(super) fn new(options: &Options, about: &About) -> Result<(Fluentd, Address, Settings), Error> {
        let settings = settings(options)?;
        let address = match settings.target.clone() {
            Target::Unix(path) => Address::Unix(path),
            Target::Tcp(host, port) => Address::Tcp(host, port),
            Target::Tls(host, port) => {
                Address::Tls(host, port, tls::of_the_system().map_err(|e| Error::invalid(e.to_string()))?)
            }
        };
        let mut record = BTreeMap::from([
            ("container_id".to_owned(), about.id.clone()),
            ("container_name".to_owned(), format!("/{}", about.name)),
        ]);
        record.extend(about.extra()?);
        let tag = about.tag("{{.ID}}")?;
        let printer = Fluentd { tag, record, settings: settings.clone(), open: Vec::new() };
        Ok((printer, address, settings))
    }

    /// Appends a message.
    pub(super) fn print(&mut self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        let mut pieces =
            vec![("source", if entry.stream == STDERR { "stderr".to_owned() } else { "stdout".to_owned() })];
        if let Some(partial) = &entry.partial {
            pieces.extend([
                ("partial_message", "true".to_owned()),
                ("partial_id", partial.id.clone()),
                ("partial_ordinal", partial.ordinal.to_string()),
                ("partial_last", partial.last.to_string()),
            ]);
        }
        out.push(0x94);
        string(out, self.tag.as_bytes());
        let (seconds, nanos) = (entry.time.div_euclid(1_000_000_000), entry.time.rem_euclid(1_000_000_000));
        if self.settings.precise {
            out.extend_from_slice(&[0xd7, 0x00]);
            out.extend_from_slice(&(seconds as u32).to_be_bytes());
            out.extend_from_slice(&(nanos as u32).to_be_bytes());
        } else {
            out.push(0xd3);
            out.extend_from_slice(&seconds.to_be_bytes());
        }
        map(out, self.record.len() + pieces.len() + 1);
        for (key, value) in &self.record {
            string(out, key.as_bytes());
            string(out, value.as_bytes());
        }
        for (key, value) in &pieces {
            string(out, key.as_bytes());
            string(out, value.as_bytes());
        }
        string(out, b"log");
        string(out, entry.text());
        if self.settings.acknowledged {
            let chunk = budu_spec::Id::random().to_string();
            out.push(0x81);
            string(out, b"chunk");
            string(out, chunk.as_bytes());
            self.open.push(chunk);
        } else {
            out.push(0x80);
        }
    }

    /// Waits until everything that was sent is acknowledged, if that was asked for.
    pub(super) async fn receipts(&mut self, wire: &mut Wire) -> std::io::Result<()> {
        let mut answers = Vec::new();
        while !self.open.is_empty() {
            wire.read(&mut answers).await?;
            if answers.len() > 1 << 20 {
                return Err(std::io::Error::other("the receiver sends no receipts"));
            }
            self.open.retain(|chunk| !answers.windows(chunk.len()).any(|w| w == chunk.as_bytes()));
        }
        Ok(())
    }

    /// Nothing of what was printed is awaited any more.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        length @ 0..32 => out.push(0xa0 | length as u8),
        length @ 32..256 => out.extend_from_slice(&[0xd9, length as u8]),
        length @ 256..65536 => {
            out.push(0xda);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0xdb);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

fn map(out: &mut Vec<u8>, length: usize) {
    if length < 16 {
        out.push(0x80 | length as u8);
    } else {
        out.push(0xde);
        out.extend_from_slice(&(length as u16).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::tests::record;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn refusals_are_dockers() {
        for (key, value, want) in [
            ("fluentd-address", "http://x", "invalid fluentd-address (http://x): unsupported scheme: 'http'"),
            ("fluentd-address", "unix://", "invalid fluentd-address (unix://): path is empty"),
            ("fluentd-address", "tcp://h/x", "invalid fluentd-address (tcp://h/x): should not contain a path element"),
            ("fluentd-buffer-limit", "x", "invalid size: 'x'"),
            ("fluentd-retry-wait", "x", "time: invalid duration \"x\""),
            ("fluentd-max-retries", "-1", "strconv.ParseUint: parsing \"-1\": invalid syntax"),
            ("fluentd-async", "x", "strconv.ParseBool: parsing \"x\": invalid syntax"),
            (
                "fluentd-async-reconnect-interval",
                "1ms",
                "invalid value for fluentd-async-reconnect-interval: value (\"1ms\") must be between 100ms and 10s",
            ),
        ] {
            assert_eq!(check(&options(&[(key, value)])).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn addresses() {
        let tcp = |host: &str, port| Ok(Target::Tcp(host.to_owned(), port));
        assert_eq!(target(""), tcp("127.0.0.1", 24224));
        assert_eq!(target("h"), tcp("h", 24224));
        assert_eq!(target("h:1"), tcp("h", 1));
        assert_eq!(target("tls://h:1"), Ok(Target::Tls("h".to_owned(), 1)));
        assert_eq!(target("unix:///a/b"), Ok(Target::Unix("/a/b".into())));
    }

    #[test]
    fn messages() {
        let options = options(&[("tag", "t"), ("fluentd-sub-second-precision", "true"), ("fluentd-request-ack", "1")]);
        let mut record = record("web");
        record.host_config.log_config.config = options.clone();
        let about = About::new(&record);
        let (mut fluentd, ..) = Fluentd::new(&options, &about).unwrap();
        let entry = Entry {
            stream: STDERR,
            time: 1_700_000_000_000_000_007,
            line: b"line\n".as_slice().into(),
            partial: None,
            attributes: Vec::new(),
        };
        let mut out = Vec::new();
        fluentd.print(&entry, &mut out);
        let time = [&[0xd7, 0][..], &1_700_000_000u32.to_be_bytes(), &7u32.to_be_bytes()].concat();
        assert!(out.starts_with(&[&[0x94, 0xa1, b't'][..], &time, &[0x84]].concat()), "{out:?}");
        assert_eq!(fluentd.open.len(), 1);
        assert!(out.ends_with(&[&b"\xa3log\xa4line\x81\xa5chunk\xd9\x40"[..], fluentd.open[0].as_bytes()].concat()));
    }
}
