//! The driver `syslog`: RFC 3164 and RFC 5424, to this machine's logger or one
//! reached over UDP, TCP or TLS (RFC 5425 framing).

use std::io::Write;
use std::path::PathBuf;

use budu_dial::tls;
use budu_runtime::log::Entry;
use budu_runtime::protocol::STDERR;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::about::About;
use super::options::{Options, text};
use super::wire::{Address, Url};
use crate::Error;

const FACILITIES: &[&str] = &[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "", "", "",
    "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const DAEMON: u8 = 3;
const ERROR: u8 = 3;
const INFO: u8 = 6;
const PORT: u16 = 514;

/// How a message looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// As the local logger wants it: no host.
    Unix,
    Rfc3164,
    Rfc5424 {
        micro: bool,
    },
}

/// Where messages go, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Local,
    Unix(PathBuf),
    UnixDatagram(PathBuf),
    Udp(String, u16),
    Tcp(String, u16),
    Tls(String, u16),
}

/// Prints messages.
#[derive(Debug)]
pub(super) struct Syslog {
    shape: Shape,
    /// Length before each message, as TLS transport has it.
    counted: bool,
    facility: u8,
    host: String,
    tag: String,
    zone: TimeZone,
}

/// Checks what Docker checks when a container is made.
pub(super) fn check(options: &Options) -> Result<(), Error> {
    target(text(options, "syslog-address"))?;
    facility(text(options, "syslog-facility"))?;
    shape(text(options, "syslog-format")).map(drop)
}

fn target(address: &str) -> Result<Target, Error> {
    if address.is_empty() {
        return Ok(Target::Local);
    }
    let url = Url::parse(address);
    if matches!(url.scheme, "unix" | "unixgram") {
        let path = PathBuf::from(url.path);
        if let Err(error) = std::fs::metadata(&path) {
            let why =
                if error.kind() == std::io::ErrorKind::NotFound { "no such file or directory" } else { "not usable" };
            return Err(Error::invalid(format!("stat {}: {why}", url.path)));
        }
        return Ok(if url.scheme == "unix" { Target::Unix(path) } else { Target::UnixDatagram(path) });
    }
    let (host, port) = url.host_port();
    let port = match port {
        None | Some("") => PORT,
        Some(text) => text
            .parse()
            .map_err(|_| Error::invalid(format!("parse {address:?}: invalid port \":{text}\" after host")))?,
    };
    let host = host.to_owned();
    match url.scheme {
        "udp" => Ok(Target::Udp(host, port)),
        "tcp" => Ok(Target::Tcp(host, port)),
        "tcp+tls" => Ok(Target::Tls(host, port)),
        other => Err(Error::invalid(format!("unsupported scheme: '{other}'"))),
    }
}

fn facility(name: &str) -> Result<u8, Error> {
    let known = FACILITIES.iter().position(|known| !known.is_empty() && *known == name);
    match (name, known) {
        ("", _) => Ok(DAEMON),
        (_, Some(number)) => Ok(number as u8),
        _ => match name.parse::<u8>() {
            Ok(number) if number <= 23 => Ok(number),
            _ => Err(Error::invalid("invalid syslog facility")),
        },
    }
}

fn shape(format: &str) -> Result<Shape, Error> {
    match format {
        "" => Ok(Shape::Unix),
        "rfc3164" => Ok(Shape::Rfc3164),
        "rfc5424" => Ok(Shape::Rfc5424 { micro: false }),
        "rfc5424micro" => Ok(Shape::Rfc5424 { micro: true }),
        _ => Err(Error::invalid("Invalid syslog format")),
    }
}

impl Syslog {
    /// The printer, and where to send what it prints.
    pub(super) fn new(options: &Options, about: &About) -> Result<(Syslog, Address), Error> {
        let target = target(text(options, "syslog-address"))?;
        let shape = shape(text(options, "syslog-format"))?;
        let counted = matches!((&target, shape), (Target::Tls(..), Shape::Rfc5424 { .. }));
        let syslog = Syslog {
            shape,
            counted,
            facility: facility(text(options, "syslog-facility"))?,
            host: about.hostname.clone(),
            tag: about.tag("{{.ID}}")?,
            zone: zone(),
        };
        Ok((syslog, address(target, options)?))
    }

    /// Appends a message; none for an empty line.
    pub(super) fn print(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        let line = entry.text();
        if line.is_empty() {
            return;
        }
        let severity = if entry.stream == STDERR { ERROR } else { INFO };
        let priority = self.facility << 3 | severity;
        let time = Timestamp::from_nanosecond(entry.time.into()).unwrap_or_default().to_zoned(self.zone.clone());
        let (host, tag, pid) = (&self.host, &self.tag, std::process::id());
        let mut head = Vec::with_capacity(128);
        // Writing to memory cannot fail.
        let _ = match self.shape {
            Shape::Unix => write!(head, "<{priority}>{} {tag}[{pid}]: ", time.strftime("%b %e %H:%M:%S")),
            Shape::Rfc3164 => write!(head, "<{priority}>{} {host} {tag}[{pid}]: ", time.strftime("%b %e %H:%M:%S")),
            Shape::Rfc5424 { micro } => {
                let clock = time.strftime(if micro { "%Y-%m-%dT%H:%M:%S.%6f" } else { "%Y-%m-%dT%H:%M:%S" });
                let zone = match time.offset().is_zero() {
                    true => "Z".to_owned(),
                    false => time.strftime("%:z").to_string(),
                };
                write!(head, "<{priority}>1 {clock}{zone} {host} {tag} {pid} {tag} - ")
            }
        };
        if self.counted {
            let _ = write!(out, "{} ", head.len() + line.len() + 1);
        }
        out.extend_from_slice(&head);
        out.extend_from_slice(line);
        out.push(b'\n');
    }
}

fn address(target: Target, options: &Options) -> Result<Address, Error> {
    Ok(match target {
        Target::Local => {
            let paths = ["/dev/log", "/var/run/syslog", "/var/run/log"].map(PathBuf::from);
            let datagrams = paths.iter().cloned().map(Address::UnixDatagram);
            let streams = paths.iter().cloned().map(Address::Unix);
            Address::First(datagrams.chain(streams).collect())
        }
        Target::Unix(path) => Address::Unix(path),
        Target::UnixDatagram(path) => Address::UnixDatagram(path),
        Target::Udp(host, port) => Address::Udp(host, port),
        Target::Tcp(host, port) => Address::Tcp(host, port),
        Target::Tls(host, port) => {
            let file = |key: &str| Some(text(options, key)).filter(|p| !p.is_empty()).map(PathBuf::from);
            let files = tls::Files {
                ca: file("syslog-tls-ca-cert"),
                cert: file("syslog-tls-cert"),
                key: file("syslog-tls-key"),
            };
            let config = tls::client(&files, !options.contains_key("syslog-tls-skip-verify"));
            Address::Tls(host, port, config.map_err(|e| Error::invalid(e.to_string()))?)
        }
    })
}

/// The machine's time zone, which RFC 3164 assumes.
fn zone() -> TimeZone {
    let file = std::fs::read("/etc/localtime").ok();
    file.and_then(|bytes| TimeZone::tzif("Local", &bytes).ok()).unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(shape: Shape, counted: bool, stream: u8) -> String {
        let syslog = Syslog {
            shape,
            counted,
            facility: DAEMON,
            host: "host".to_owned(),
            tag: "tag".to_owned(),
            zone: TimeZone::UTC,
        };
        let entry = Entry {
            stream,
            time: 1_700_000_000_123_456_789,
            line: b"line\n".as_slice().into(),
            partial: None,
            attributes: Vec::new(),
        };
        let mut out = Vec::new();
        syslog.print(&entry, &mut out);
        String::from_utf8(out).unwrap().replace(&std::process::id().to_string(), "PID")
    }

    #[test]
    fn formats() {
        assert_eq!(printed(Shape::Unix, false, 1), "<30>Nov 14 22:13:20 tag[PID]: line\n");
        assert_eq!(printed(Shape::Rfc3164, false, STDERR), "<27>Nov 14 22:13:20 host tag[PID]: line\n");
        assert_eq!(
            printed(Shape::Rfc5424 { micro: false }, false, 1),
            "<30>1 2023-11-14T22:13:20Z host tag PID tag - line\n"
        );
        let micro = printed(Shape::Rfc5424 { micro: true }, true, 1);
        let (length, message) = micro.split_once(' ').unwrap();
        assert!(message.starts_with("<30>1 2023-11-14T22:13:20.123456Z host tag PID"), "{micro}");
        assert_eq!(length.parse::<usize>().unwrap(), message.replace("PID", &std::process::id().to_string()).len());
    }

    #[test]
    fn addresses_and_facilities() {
        assert_eq!(target("udp://h").unwrap(), Target::Udp("h".into(), 514));
        assert_eq!(target("tcp+tls://h:6514").unwrap(), Target::Tls("h".into(), 6514));
        assert_eq!(target("http://h").unwrap_err().to_string(), "unsupported scheme: 'http'");
        assert_eq!(target("unix:///no/such").unwrap_err().to_string(), "stat /no/such: no such file or directory");
        assert_eq!((facility("local7").unwrap(), facility("9").unwrap(), facility("").unwrap()), (23, 9, 3));
        assert_eq!(facility("24").unwrap_err().to_string(), "invalid syslog facility");
        assert_eq!(shape("rfc1").unwrap_err().to_string(), "Invalid syslog format");
    }
}
