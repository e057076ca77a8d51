//! `--publish` and `--expose`.

use std::collections::BTreeMap;

use budu_spec::docker::{Empty, PortBinding};

use crate::error::Error;

/// Exposed ports and their bindings, by `port/protocol`.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// All ports.
    pub(super) exposed: BTreeMap<String, Empty>,
    /// The published ones.
    pub(super) bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
}

/// Reads all `--publish` and `--expose` values.
pub(super) fn plan(publish: &[String], expose: &[String]) -> Result<Ports, Error> {
    let mut ports = Ports::default();
    for text in publish {
        let short = if text.contains('=') { long_form(text)? } else { text.clone() };
        published(&mut ports, &short)?;
    }
    for text in expose {
        if text.contains(':') {
            return Err(Error::new(format_args!("invalid port format for --expose: {text}")));
        }
        let (range, protocol) = protocol_of(text)?;
        let (start, end) = port_range(range)
            .map_err(|why| Error::new(format_args!("invalid range format for --expose: {text}, error: {why}")))?;
        for port in start..=end {
            ports.exposed.insert(format!("{port}/{protocol}"), Empty {});
        }
    }
    Ok(ports)
}

/// `target=80,published=8080,protocol=tcp` to `8080:80/tcp`.
fn long_form(text: &str) -> Result<String, Error> {
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("target", value)) => target = value,
            Some(("published", value)) => published = value,
            Some(("protocol", value)) => protocol = value,
            Some(("mode", _)) => {}
            _ => return Err(Error::new(format_args!("invalid field {field}"))),
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn protocol_of(text: &str) -> Result<(&str, String), Error> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_lowercase() };
    match protocol.as_str() {
        "tcp" | "udp" | "sctp" => Ok((ports, protocol)),
        _ => Err(Error::new(format_args!("invalid proto: {protocol}"))),
    }
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let (start, end) = (crate::flags::parse_u16(start)?, crate::flags::parse_u16(end)?);
    if end < start { Err(format!("invalid range specified for port: {text}")) } else { Ok((start, end)) }
}

/// `[ip:][host[-end]:]container[-end][/protocol]`
fn published(ports: &mut Ports, text: &str) -> Result<(), Error> {
    let (rest, protocol) = protocol_of(text)?;
    let (rest, container) = rest.rsplit_once(':').map_or(("", rest), |(rest, last)| (rest, last));
    let (address, host) = rest.rsplit_once(':').map_or(("", rest), |(address, host)| (address, host));
    let bare = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    if !bare.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(Error::new(format_args!("invalid IP address: {address}")));
    }
    if container.is_empty() {
        return Err(Error::new(format_args!("no port specified: {text}<empty>")));
    }
    let (start, end) =
        port_range(container).map_err(|_| Error::new(format_args!("invalid containerPort: {container}")))?;
    let host_range = match host {
        "" => None,
        host => Some(port_range(host).map_err(|_| Error::new(format_args!("invalid hostPort: {host}")))?),
    };
    let count = end - start;
    if let Some((host_start, host_end)) = host_range
        && host_end - host_start != count
        && count != 0
    {
        return Err(Error::new(format_args!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        )));
    }
    for step in 0..=count {
        let host_port = match host_range {
            None => String::new(),
            // A range for one port: the daemon picks a free one of it.
            Some((first, last)) if count == 0 && first != last => format!("{first}-{last}"),
            Some((first, _)) => (first + step).to_string(),
        };
        let port = format!("{}/{protocol}", start + step);
        ports.exposed.insert(port.clone(), Empty {});
        let binding = PortBinding { host_ip: bare.to_owned(), host_port };
        ports.bindings.entry(port).or_default().get_or_insert_default().push(binding);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        match plan(&[text.to_owned()], &[]) {
            Err(error) => error.to_string(),
            Ok(ports) => ports
                .bindings
                .iter()
                .flat_map(|(port, list)| {
                    list.iter().flatten().map(move |b| format!("{port}={}:{}", b.host_ip, b.host_port))
                })
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    #[test]
    fn golden() {
        for (text, want) in [
            ("80", "80/tcp=:"),
            ("8080:80/UDP", "80/udp=:8080"),
            ("127.0.0.1:8080:80", "80/tcp=127.0.0.1:8080"),
            ("127.0.0.1::80", "80/tcp=127.0.0.1:"),
            ("[::1]:8080:80", "80/tcp=::1:8080"),
            ("8000-8001:80-81", "80/tcp=:8000 81/tcp=:8001"),
            ("8000-8009:80", "80/tcp=:8000-8009"),
            ("target=80,published=90,protocol=udp", "80/udp=:90"),
            ("8000-8009:80-81", "invalid ranges specified for container and host Ports: 80-81 and 8000-8009"),
            ("99999:1", "invalid hostPort: 99999"),
            ("a:b", "invalid containerPort: b"),
            ("1/x", "invalid proto: x"),
            ("x:1:1", "invalid IP address: x"),
        ] {
            assert_eq!(show(text), want, "{text}");
        }
    }
}
