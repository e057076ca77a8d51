//! `--network` and the flags that describe the first network's endpoint.

use budu_spec::docker::{EndpointIpam, EndpointSettings, NetworkingConfig};

use super::flags::ContainerFlags;
use super::parse::csv;
use crate::error::Error;

/// The network mode and the endpoints.
pub(super) fn plan(flags: &ContainerFlags) -> Result<(String, NetworkingConfig), Error> {
    let mut config = NetworkingConfig::default();
    let mut mode = None;
    for text in &flags.network {
        let (name, mut endpoint) = parse(text)?;
        if name.is_empty() {
            return Err(Error::new("no name set for network"));
        }
        if mode.is_none() {
            describe(&name, &mut endpoint, flags)?;
            mode = Some(name.clone());
        } else if !is_user_defined(&name) || mode.as_deref().is_some_and(|mode| !is_user_defined(mode)) {
            return Err(Error::new(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ));
        }
        if endpoint.aliases.is_some() && !is_user_defined(&name) {
            return Err(Error::new("network-scoped aliases are only supported for user-defined networks"));
        }
        // A predefined network has an endpoint of its own only when there is something to say about it.
        if !is_user_defined(&name) && endpoint == EndpointSettings::default() {
            continue;
        }
        if config.endpoints_config.insert(name.clone(), Some(endpoint)).is_some() {
            return Err(Error::new(format_args!("network {name:?} is specified multiple times")));
        }
    }
    let mode = match mode {
        Some(mode) => mode,
        None => {
            let mut endpoint = EndpointSettings::default();
            describe("default", &mut endpoint, flags)?;
            config.endpoints_config.insert("default".to_owned(), Some(endpoint));
            "default".to_owned()
        }
    };
    Ok((mode, config))
}

fn is_user_defined(mode: &str) -> bool {
    !matches!(mode, "default" | "bridge" | "host" | "none") && !mode.starts_with("container:")
}

/// A plain name, or `name=…,alias=…,…`.
fn parse(text: &str) -> Result<(String, EndpointSettings), Error> {
    let mut endpoint = EndpointSettings::default();
    if !text.contains('=') {
        return Ok((text.to_owned(), endpoint));
    }
    let mut name = String::new();
    for field in csv(text).map_err(Error::new)? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(Error::new(format_args!("invalid field {field}")));
        };
        let (key, value) = (key.trim().to_lowercase(), value.trim().to_lowercase());
        match key.as_str() {
            "name" => name = value,
            "alias" => endpoint.aliases.get_or_insert_default().push(value),
            "ip" => endpoint.ipam_config.get_or_insert_default().ipv4_address = address(&value)?,
            "ip6" => endpoint.ipam_config.get_or_insert_default().ipv6_address = address(&value)?,
            "link-local-ip" => endpoint
                .ipam_config
                .get_or_insert_default()
                .link_local_ips
                .get_or_insert_default()
                .push(address(&value)?),
            "mac-address" => endpoint.mac_address = mac(&value)?,
            "driver-opt" => {
                let Some((key, value)) = value.split_once('=') else {
                    return Err(Error::new("invalid key value pair format in driver options"));
                };
                endpoint.driver_opts.get_or_insert_default().insert(key.to_owned(), value.to_owned());
            }
            "gw-priority" => {
                endpoint.gw_priority = value.parse().map_err(|_| {
                    Error::new(format_args!("invalid gw-priority: invalid syntax: value must be an integer: {value}"))
                })?;
            }
            _ => return Err(Error::new(format_args!("invalid field key {key}"))),
        }
    }
    Ok((name, endpoint))
}

fn address(text: &str) -> Result<String, Error> {
    match text.parse::<std::net::IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(Error::new(format_args!("invalid IP address: {text}"))),
    }
}

/// Checks a MAC address of six bytes.
pub(super) fn mac(text: &str) -> Result<String, Error> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let hex = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    if matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(|part| hex(part)) {
        return Ok(text.to_owned());
    }
    Err(Error::new(format_args!("{text} is not a valid mac address")))
}

/// Applies `--ip`, `--network-alias` and their like.
fn describe(name: &str, endpoint: &mut EndpointSettings, flags: &ContainerFlags) -> Result<(), Error> {
    let twice = |flag: &str| {
        Error::new(format_args!("conflicting options: cannot specify both --{flag} and per-network {flag}"))
    };
    let aliases: Vec<String> = flags.network_alias.clone();
    if !aliases.is_empty() {
        if endpoint.aliases.is_some() {
            return Err(Error::new("conflicting options: cannot specify both --network-alias and per-network alias"));
        }
        endpoint.aliases = Some(aliases);
    }
    if !flags.link.is_empty() && is_user_defined(name) {
        endpoint.links = Some(flags.link.clone());
    }
    let text = |flag: &Option<String>| flag.clone().filter(|text| !text.is_empty());
    let wished = EndpointIpam {
        ipv4_address: text(&flags.ip).unwrap_or_default(),
        ipv6_address: text(&flags.ip6).unwrap_or_default(),
        link_local_ips: (!flags.link_local_ip.is_empty()).then(|| flags.link_local_ip.clone()),
    };
    if wished != EndpointIpam::default() {
        let ipam = endpoint.ipam_config.get_or_insert_default();
        for (own, wished, flag) in
            [(&mut ipam.ipv4_address, wished.ipv4_address, "ip"), (&mut ipam.ipv6_address, wished.ipv6_address, "ip6")]
        {
            if !wished.is_empty() {
                if !own.is_empty() {
                    return Err(twice(flag));
                }
                *own = wished;
            }
        }
        ipam.link_local_ips = wished.link_local_ips.or(ipam.link_local_ips.take());
    }
    if let Some(mac_address) = text(&flags.mac_address) {
        if !endpoint.mac_address.is_empty() {
            return Err(twice("mac-address"));
        }
        endpoint.mac_address = mac(&mac_address)?;
    }
    Ok(())
}
