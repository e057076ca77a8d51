//! resolv.conf, hostname and hosts of one container.

use std::net::IpAddr;
use std::path::Path;

use budu_network::{Endpoint, files};

use super::record::Record;
use super::validate::extra_host;
use crate::{Error, Options};

/// Writes the three files into `dir`.
pub(crate) fn write(record: &Record, endpoint: &Endpoint, options: &Options, dir: &Path) -> Result<(), Error> {
    let (config, host) = (&record.config, &record.host_config);
    let shared = host.network_mode == "host";
    let put = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(Error::io("write", &path))
    };
    put("hostname", &format!("{}\n", config.hostname))?;
    let or = |wish: &[String], default: &[String]| if wish.is_empty() { default.to_vec() } else { wish.to_vec() };
    let dns = or(&host.dns, &options.dns);
    let search = or(&host.dns_search, &options.dns_search);
    let dns_options = or(&host.dns_options, &options.dns_options);
    let hosts_own = files::host_resolv_conf();
    let untouched = dns.is_empty() && search.is_empty() && dns_options.is_empty();
    if shared && untouched {
        put("resolv.conf", &hosts_own)?;
    } else {
        put("resolv.conf", &files::resolv_conf(&hosts_own, &dns, &search, &dns_options))?;
    }
    let extra = extra_hosts(record, endpoint)?;
    if shared && extra.is_empty() {
        return put("hosts", &std::fs::read_to_string("/etc/hosts").unwrap_or_default());
    }
    let ip = endpoint.ip.map(IpAddr::V4);
    put("hosts", &files::hosts(&config.hostname, &config.domainname, ip, &extra, files::ipv6_loopback()))
}

fn extra_hosts(record: &Record, endpoint: &Endpoint) -> Result<Vec<(String, IpAddr)>, Error> {
    let mut list = Vec::new();
    for text in record.host_config.extra_hosts.iter().flatten() {
        let (host, address) = extra_host(text)?;
        let address = match address {
            "host-gateway" => endpoint.gateway.map(IpAddr::V4),
            address => address.parse().ok(),
        };
        let missing =
            || Error::invalid(format!("unable to derive the IP value for host-gateway in add-host: \"{text}\""));
        list.push((host.to_owned(), address.ok_or_else(missing)?));
    }
    Ok(list)
}
