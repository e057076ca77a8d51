//! Ports to publish.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use budu_network::{HostPort, PortRequest, Protocol, PublishedPort};
use budu_spec::docker::{ContainerConfig, HostConfig, PortBinding, PortSummary};

use crate::Error;

/// Parses `80`, `80/tcp`, `53/udp`.
pub(crate) fn port(text: &str) -> Result<(u16, Protocol), Error> {
    let bad = || Error::invalid(format!("invalid port specification: \"{text}\""));
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.parse().map_err(|_| bad())?;
    let number: u16 = number.parse().map_err(|_| bad())?;
    if number == 0 { Err(bad()) } else { Ok((number, protocol)) }
}

/// Lists what the network has to publish.
pub(crate) fn requests(config: &ContainerConfig, host: &HostConfig) -> Result<Vec<PortRequest>, Error> {
    let mut list = Vec::new();
    let mut bound = BTreeSet::new();
    for (text, bindings) in &host.port_bindings {
        let (container_port, protocol) = port(text)?;
        let bindings = bindings.as_deref().unwrap_or_default();
        if !bindings.is_empty() {
            bound.insert((container_port, protocol));
        }
        for binding in bindings {
            list.push(PortRequest {
                host_ip: host_ip(binding)?,
                host_port: host_port(&binding.host_port)?,
                container_port,
                protocol,
            });
        }
    }
    for text in config.exposed_ports.iter().flatten().map(|(text, _)| text) {
        let (container_port, protocol) = port(text)?;
        if host.publish_all_ports && bound.insert((container_port, protocol)) {
            list.push(PortRequest { host_ip: None, host_port: HostPort::Ephemeral, container_port, protocol });
        }
    }
    Ok(list)
}

fn host_ip(binding: &PortBinding) -> Result<Option<IpAddr>, Error> {
    match binding.host_ip.as_str() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Error::invalid(format!("invalid IP address: {text}"))),
    }
}

fn host_port(text: &str) -> Result<HostPort, Error> {
    let bad = || Error::invalid(format!("invalid port specification: \"{text}\""));
    match text.split_once('-') {
        _ if text.is_empty() || text == "0" => Ok(HostPort::Ephemeral),
        None => text.parse().map(HostPort::Fixed).map_err(|_| bad()),
        Some((first, last)) => {
            let (first, last) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
            if first <= last { Ok(HostPort::Range(first, last)) } else { Err(bad()) }
        }
    }
}

/// `NetworkSettings.Ports` of a running container: exposed ports are there
/// with `null`, published ones with their bindings.
pub(crate) fn settings(
    config: &ContainerConfig,
    published: &[PublishedPort],
) -> BTreeMap<String, Option<Vec<PortBinding>>> {
    let exposed = config.exposed_ports.iter().flatten().filter_map(|(text, _)| port(text).ok());
    let mut map: BTreeMap<String, Option<Vec<PortBinding>>> =
        exposed.map(|(number, protocol)| (format!("{number}/{protocol}"), None)).collect();
    for p in published {
        let binding = PortBinding { host_ip: p.host_ip.to_string(), host_port: p.host_port.to_string() };
        map.entry(format!("{}/{}", p.container_port, p.protocol)).or_default().get_or_insert_default().push(binding);
    }
    map
}

/// `Ports` of a list row.
pub(crate) fn summary(config: &ContainerConfig, published: &[PublishedPort]) -> Vec<PortSummary> {
    let mut list = Vec::new();
    for (text, bindings) in settings(config, published) {
        let Ok((private_port, protocol)) = port(&text) else { continue };
        let row = PortSummary { private_port, kind: protocol.to_string(), ..PortSummary::default() };
        match bindings {
            None => list.push(row),
            Some(bindings) => list.extend(bindings.into_iter().map(|b| PortSummary {
                ip: Some(b.host_ip),
                public_port: b.host_port.parse().ok(),
                ..row.clone()
            })),
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use budu_spec::docker::Empty;

    fn host(port: &str, ip: &str, host_port: &str) -> HostConfig {
        let binding = PortBinding { host_ip: ip.into(), host_port: host_port.into() };
        HostConfig { port_bindings: [(port.to_owned(), Some(vec![binding]))].into(), ..HostConfig::default() }
    }

    #[test]
    fn bindings() {
        let config = ContainerConfig::default();
        let one = requests(&config, &host("53/udp", "127.0.0.1", "8000-8010")).unwrap();
        assert_eq!(one[0].host_port, HostPort::Range(8000, 8010));
        assert_eq!((one[0].container_port, one[0].protocol), (53, Protocol::Udp));
        for (port, ip, host_port) in
            [("x/tcp", "", ""), ("80/xyz", "", ""), ("80", "nope", ""), ("80", "", "9-8"), ("80", "", "70000")]
        {
            assert!(requests(&config, &host(port, ip, host_port)).is_err(), "{port} {ip} {host_port}");
        }
    }

    #[test]
    fn publish_all_covers_exposed_ports_without_binding() {
        let config = ContainerConfig {
            exposed_ports: Some([("80/tcp".to_owned(), Empty {}), ("81".to_owned(), Empty {})].into()),
            ..ContainerConfig::default()
        };
        let host = HostConfig { publish_all_ports: true, ..host("80/tcp", "", "8080") };
        let list = requests(&config, &host).unwrap();
        assert_eq!(list.iter().map(|r| r.container_port).collect::<Vec<_>>(), [80, 81]);
        assert_eq!(list[1].host_port, HostPort::Ephemeral);
        assert!(settings(&config, &[])["81/tcp"].is_none());
    }
}
