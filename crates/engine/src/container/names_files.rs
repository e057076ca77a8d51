//! resolv.conf, hostname and hosts of one container.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use budu_network::{Endpoint, Sandbox, files};

use super::links::Linked;
use super::record::Record;
use super::validate::extra_host;
use crate::{Error, Options};

/// What resolv.conf was when we wrote it last: if it is something else, the
/// container's owner edited it, and it is left alone.
const OWN_RESOLV_CONF: &str = "resolv.conf.own";

/// Writes the three files into `dir`. `host_gateway` is where a container
/// finds the host.
pub(super) fn write(
    record: &Record,
    sandbox: &Sandbox,
    linked: &[Linked],
    host_gateway: Option<IpAddr>,
    options: &Options,
    dir: &Path,
) -> Result<(), Error> {
    let (config, host) = (&record.config, &record.host_config);
    let shared = host.network_mode == "host";
    put(dir, "hostname", &format!("{}\n", config.hostname))?;
    write_resolv_conf(record, sandbox, options, dir)?;
    let mut extra = extra_hosts(record, host_gateway)?;
    extra.extend(linked.iter().map(|link| (link.names.clone(), link.ip)));
    if shared && extra.is_empty() {
        return put(dir, "hosts", &fs::read_to_string("/etc/hosts").unwrap_or_default());
    }
    let mut text = files::hosts(&extra, files::ipv6_loopback());
    for endpoint in &sandbox.endpoints {
        text.extend(own_lines(record, endpoint));
    }
    put(dir, "hosts", &text)
}

/// Brings the files of a running container up to date. They are mounted into
/// it, so they are changed and never replaced.
pub(crate) fn refresh(
    record: &Record,
    before: &Sandbox,
    after: &Sandbox,
    options: &Options,
    dir: &Path,
) -> Result<(), Error> {
    let lines = |from: &Sandbox, other: &Sandbox| -> Vec<String> {
        let only = from.endpoints.iter().filter(|e| other.endpoint(&e.network_id).is_none());
        only.flat_map(|e| own_lines(record, e)).collect()
    };
    let (gone, come) = (lines(before, after), lines(after, before));
    let path = dir.join("hosts");
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let kept = text.split_inclusive('\n').filter(|line| !gone.iter().any(|gone| gone == line));
    let text: String = kept.chain(come.iter().map(String::as_str)).collect();
    put(dir, "hosts", &text)?;
    let own = fs::read(dir.join(OWN_RESOLV_CONF)).ok();
    if before.resolves() != after.resolves() && own.is_some() && own == fs::read(dir.join("resolv.conf")).ok() {
        write_resolv_conf(record, after, options, dir)?;
    }
    Ok(())
}

/// Lets a linked container's line lead to where it is now.
pub(super) fn move_name(link: &Linked, dir: &Path) -> Result<(), Error> {
    let path = dir.join("hosts");
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let moved = |line: &str| match line.trim_end().split_once('\t') {
        Some((_, names)) if names == link.names => format!("{}\t{names}\n", link.ip),
        _ => line.to_owned(),
    };
    let moved: String = text.split_inclusive('\n').map(moved).collect();
    if moved == text { Ok(()) } else { put(dir, "hosts", &moved) }
}

fn put(dir: &Path, name: &str, text: &str) -> Result<(), Error> {
    let path = dir.join(name);
    // The container has this very file mounted. Cut off after it is written: where there is no room, the old one stays.
    let write = || {
        let mut file = fs::File::options().write(true).create(true).truncate(false).open(&path)?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)
    };
    write().map_err(Error::io("write", &path))
}

fn write_resolv_conf(record: &Record, sandbox: &Sandbox, options: &Options, dir: &Path) -> Result<(), Error> {
    let host = &record.host_config;
    let or = |wish: &[String], default: &[String]| if wish.is_empty() { default.to_vec() } else { wish.to_vec() };
    let dns = or(&host.dns, &options.dns);
    let search = or(&host.dns_search, &options.dns_search);
    let dns_options = or(&host.dns_options, &options.dns_options);
    let hosts_own = files::host_resolv_conf();
    let untouched = dns.is_empty() && search.is_empty() && dns_options.is_empty();
    let text = if host.network_mode == "host" && untouched {
        hosts_own
    } else if sandbox.resolves() {
        files::resolv_conf_inside(&hosts_own, &sandbox.dns, &search, &dns_options)
    } else {
        files::resolv_conf(&hosts_own, &dns, &search, &dns_options)
    };
    put(dir, "resolv.conf", &text)?;
    put(dir, OWN_RESOLV_CONF, &text)
}

/// The lines of `hosts` with the addresses on one network.
fn own_lines(record: &Record, endpoint: &Endpoint) -> Vec<String> {
    let line = |ip| files::own_line(&record.config.hostname, &record.config.domainname, ip);
    endpoint.addresses().map(line).filter(|line| !line.is_empty()).collect()
}

fn extra_hosts(record: &Record, host_gateway: Option<IpAddr>) -> Result<Vec<(String, IpAddr)>, Error> {
    let mut list = Vec::new();
    for text in record.host_config.extra_hosts.iter().flatten() {
        let (host, address) = extra_host(text)?;
        let address = match address {
            "host-gateway" => host_gateway,
            address => address.parse().ok(),
        };
        let missing =
            || Error::invalid(format!("unable to derive the IP value for host-gateway in add-host: \"{text}\""));
        list.push((host.to_owned(), address.ok_or_else(missing)?));
    }
    Ok(list)
}
