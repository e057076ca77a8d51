//! A container's wishes for its networks, checked and in the network's words.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use budu_network::{AttachRequest, Definition, Dns, Join, Mac, files};
use budu_spec::docker::{ApiVersion, ContainerCreate, EndpointSettings};

use super::ports;
use super::record::Record;
use crate::{Engine, Error};

const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
const INSIDE_NAME: &str = "com.docker.network.endpoint.ifname";

/// Whether containers on a network are found by name.
pub(super) fn is_user_defined(network: &str) -> bool {
    !matches!(network, "default" | "bridge" | "host" | "none") && !network.starts_with("container:")
}

/// The container whose network another one shares.
pub(super) fn donor(mode: &str) -> Option<&str> {
    mode.strip_prefix("container:")
}

impl Engine {
    /// Brings the endpoints of a create request into the form that is kept:
    /// by name of the network, with one for the network mode.
    pub(super) fn settle_endpoints(&self, wish: &mut ContainerCreate, version: ApiVersion) -> Result<(), Error> {
        let mode = wish.host_config.network_mode.clone();
        let config = &mut wish.networking_config.endpoints_config;
        if version < ApiVersion::new(44) && config.len() > 1 {
            let names: Vec<&str> = config.keys().map(String::as_str).collect();
            let names = names.join(", ");
            return Err(Error::invalid(format!("Container cannot be connected to network endpoints: {names}")));
        }
        if let Some(name) = donor(&mode) {
            if let Ok(donor) = self.find(name) {
                wish.host_config.network_mode = format!("container:{}", donor.id);
            }
            config.clear();
            return Ok(());
        }
        if wish.config.network_disabled == Some(true) {
            config.clear();
            return Ok(());
        }
        if let Some(default) = config.remove("default") {
            config.insert(mode.clone(), default);
        }
        let mut settled = BTreeMap::new();
        for (name, settings) in std::mem::take(config) {
            let mut settings = settings.unwrap_or_default();
            let found = self.networks().definition(&name).ok();
            let definition = found.as_deref();
            check(&name, &settings, definition)
                .map_err(|e| Error::invalid(format!("invalid config for network {name}: {e}")))?;
            operational(&mut settings);
            let name = definition.map_or(name, |definition| definition.name.clone());
            settled.insert(name, Some(settings));
        }
        if settled.is_empty() {
            let name = self.networks().definition(&mode).map_or(mode.clone(), |network| network.name.clone());
            settled.insert(name, Some(EndpointSettings::default()));
        }
        *config = settled;
        Ok(())
    }

    /// What is asked of the network when a container starts.
    pub(super) fn attach_request(&self, record: &Record) -> Result<AttachRequest, Error> {
        let host = &record.host_config;
        let net = |(key, _): &(&String, &String)| key.starts_with("net.");
        let mut joins = Vec::new();
        for (name, settings) in ordered(record) {
            let network = self.networks().definition(&name)?;
            check(&network.name, &settings, Some(&network))?;
            joins.push(join(record, &network.name, &settings)?);
        }
        let bridged = joins.iter().any(|join| !matches!(join.network.as_str(), "host" | "none"));
        Ok(AttachRequest {
            container: record.id.to_string(),
            name: record.name.clone(),
            joins,
            ports: if bridged { ports::requests(&record.config, host)? } else { Vec::new() },
            sysctls: host.sysctls.iter().flatten().filter(net).map(|(k, v)| (k.clone(), v.clone())).collect(),
            dns: self.upstreams(record),
        })
    }

    /// Whom a container's name server asks.
    pub(super) fn upstreams(&self, record: &Record) -> Dns {
        let host = &record.host_config;
        let or = |wish: &[String], default: &[String]| if wish.is_empty() { default.to_vec() } else { wish.to_vec() };
        let options = or(&host.dns_options, &self.options().dns_options);
        let ndots = |option: &String| option.starts_with("ndots:");
        Dns {
            servers: files::upstreams(&files::host_resolv_conf(), &or(&host.dns, &self.options().dns)),
            ndots: options.iter().any(ndots),
        }
    }
}

/// The wishes in the order in which links are made: the network mode's first.
fn ordered(record: &Record) -> Vec<(String, EndpointSettings)> {
    let mode = match record.config.network_disabled {
        Some(true) => "none",
        _ => record.host_config.network_mode.as_str(),
    };
    let wishes = &record.networking.endpoints_config;
    let mut list: Vec<(String, EndpointSettings)> =
        wishes.iter().map(|(name, settings)| (name.clone(), settings.clone().unwrap_or_default())).collect();
    if list.is_empty() && record.config.network_disabled == Some(true) {
        list.push((mode.to_owned(), EndpointSettings::default()));
    }
    list.sort_by_key(|(name, _)| name != mode);
    list
}

/// One wish in the network's words.
pub(super) fn join(record: &Record, network: &str, settings: &EndpointSettings) -> Result<Join, Error> {
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    let ip = Some(ipam.ipv4_address).filter(|ip| !ip.is_empty());
    let ip6 = Some(ipam.ipv6_address).filter(|ip| !ip.is_empty());
    let options = settings.driver_opts.clone().unwrap_or_default();
    // The container's own address is that of its main network.
    let main = record.host_config.network_mode == network;
    let wished = Some(settings.mac_address.as_str()).filter(|mac| !mac.is_empty());
    let mac = wished.or(record.config.mac_address.as_deref().filter(|mac| main && !mac.is_empty()));
    let user_defined = is_user_defined(network);
    let invalid = |ip: &str| Error::invalid(format!("invalid IPv4 address: {ip}"));
    let link_local = ipam.link_local_ips.unwrap_or_default();
    Ok(Join {
        network: network.to_owned(),
        ip: ip.map(|ip| ip.parse().map_err(|_| invalid(&ip))).transpose()?,
        ip6: ip6.and_then(|ip| ip.parse().ok()),
        link_local: link_local.iter().filter_map(|ip| ip.parse().ok()).collect(),
        mac: mac.map(str::parse::<Mac>).transpose()?,
        names: if user_defined { names(record, settings) } else { Vec::new() },
        links: settings
            .links
            .iter()
            .flatten()
            .map(|link| parse_link(link))
            .map(|(name, alias)| (alias, name))
            .collect(),
        gw_priority: settings.gw_priority,
        inside: options.get(INSIDE_NAME).cloned(),
        sysctls: options.get(SYSCTLS).map(|text| sysctls(text)).unwrap_or_default(),
    })
}

/// `name:alias`, or a name that is its own alias.
pub(super) fn parse_link(link: &str) -> (String, String) {
    let (name, alias) = link.split_once(':').unwrap_or((link, link));
    let plain = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
    (plain(name), plain(alias))
}

fn sysctls(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

/// The names of a container on a network; the first is what its address is called.
pub(super) fn names(record: &Record, settings: &EndpointSettings) -> Vec<String> {
    let mut names = vec![record.name.clone()];
    names.extend(settings.aliases.iter().flatten().cloned());
    names.push(record.id.short().to_owned());
    names.push(record.config.hostname.clone());
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
    names
}

/// Forgets what only a running container has.
fn operational(settings: &mut EndpointSettings) {
    *settings = EndpointSettings {
        ipam_config: settings.ipam_config.take(),
        links: settings.links.take(),
        aliases: settings.aliases.take(),
        mac_address: std::mem::take(&mut settings.mac_address),
        driver_opts: settings.driver_opts.take(),
        gw_priority: settings.gw_priority,
        ..EndpointSettings::default()
    };
}

/// Refuses wishes that a network cannot fulfil, all at once.
pub(super) fn check(network: &str, settings: &EndpointSettings, definition: Option<&Definition>) -> Result<(), Error> {
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    let mut complaints = Vec::new();
    if !is_user_defined(network) {
        if !ipam.ipv4_address.is_empty() || !ipam.ipv6_address.is_empty() {
            complaints.push("user specified IP address is supported on user defined networks only".to_owned());
        }
        if settings.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) {
            let text = "network-scoped alias is supported only for containers in user defined networks";
            complaints.push(text.to_owned());
        }
    }
    let v4 = |text: &str| text.parse::<Ipv4Addr>().is_ok_and(|ip| !ip.is_unspecified());
    let v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok_and(|ip| !ip.is_unspecified());
    if !ipam.ipv4_address.is_empty() && !v4(&ipam.ipv4_address) {
        complaints.push(format!("invalid IPv4 address: {}", ipam.ipv4_address));
    }
    if !ipam.ipv6_address.is_empty() && !v6(&ipam.ipv6_address) {
        complaints.push(format!("invalid IPv6 address: {}", ipam.ipv6_address));
    }
    for ip in ipam.link_local_ips.iter().flatten().filter(|ip| !v4(ip) && !v6(ip)) {
        complaints.push(format!("invalid link-local IP address: {ip}"));
    }
    if let Some(definition) = definition {
        complaints
            .extend([&ipam.ipv4_address, &ipam.ipv6_address].into_iter().filter_map(|ip| out_of_range(ip, definition)));
    }
    if !settings.mac_address.is_empty() && settings.mac_address.parse::<Mac>().is_err() {
        return Err(Error::invalid(format!("invalid MAC address {}", settings.mac_address)));
    }
    let sysctls = settings.driver_opts.iter().flatten().filter(|(key, _)| *key == SYSCTLS);
    complaints.extend(sysctls.flat_map(|(_, text)| text.split(',')).filter_map(bad_sysctl));
    match complaints.as_slice() {
        [] => Ok(()),
        [one] => Err(Error::invalid(format!("invalid endpoint settings:\n{one}"))),
        many => Err(Error::invalid(format!("invalid endpoint settings:\n{}", many.join("\n")))),
    }
}

fn out_of_range(text: &str, definition: &Definition) -> Option<String> {
    let ip: IpAddr = text.parse().ok()?;
    let mut pools = definition.pools.iter().filter(|pool| pool.given && pool.subnet.addr().is_ipv4() == ip.is_ipv4());
    let Some(pool) = pools.next() else {
        return Some(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
                .into(),
        );
    };
    let inside = pool.subnet.contains(&ip);
    (!inside).then(|| format!("no configured subnet or ip-range contain the IP address {ip}"))
}

fn bad_sysctl(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.splitn(5, '.').collect();
    let good = matches!(parts.as_slice(), ["net", "ipv4" | "ipv6" | "mpls", _, "IFNAME" | "ifname", rest] if rest.contains('='));
    (!good).then(|| format!("unrecognised network interface sysctl '{text}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::tests::record;

    #[test]
    fn names_are_listed_once_and_the_own_name_first() {
        let mut record = record("web-1");
        record.config.hostname = "box".into();
        let settings =
            EndpointSettings { aliases: Some(vec!["web".into(), "box".into()]), ..EndpointSettings::default() };
        assert_eq!(names(&record, &settings), ["web-1", "web", "box", record.id.short()]);
    }

    #[test]
    fn wishes_that_cannot_be_fulfilled_are_named() {
        let settings = |json: &str| serde_json::from_str::<EndpointSettings>(json).unwrap();
        for (network, json, complaint) in [
            (
                "bridge",
                r#"{"Aliases":["a"]}"#,
                "network-scoped alias is supported only for containers in user defined networks",
            ),
            (
                "bridge",
                r#"{"IPAMConfig":{"IPv4Address":"10.0.0.2"}}"#,
                "user specified IP address is supported on user defined networks only",
            ),
            ("n", r#"{"IPAMConfig":{"IPv4Address":"10.0.0.256"}}"#, "invalid IPv4 address: 10.0.0.256"),
            ("n", r#"{"MacAddress":"zz"}"#, "invalid MAC address zz"),
            (
                "n",
                r#"{"DriverOpts":{"com.docker.network.endpoint.sysctls":"kernel.x=1"}}"#,
                "unrecognised network interface sysctl 'kernel.x=1'",
            ),
        ] {
            let error = check(network, &settings(json), None).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
        let good = r#"{"DriverOpts":{"com.docker.network.endpoint.sysctls":"net.ipv4.conf.IFNAME.log_martians=1"}}"#;
        check("n", &settings(good), None).unwrap();
    }
}
