//! Contents of the two files a resolver reads.

use std::net::IpAddr;

use crate::{Dns, Upstream};

/// Public servers, for hosts that have none.
const FALLBACK: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// Where a container of a user-defined network asks for names.
const INSIDE: &str = "127.0.0.11";

/// Text of `/etc/hosts`: the fixed lines, then `extra` (`--add-host`). A line
/// for each own address follows: see [`own_line`].
///
/// `ipv6`: whether loopback has `::1`, which adds the IPv6 lines.
pub fn hosts(extra: &[(String, IpAddr)], ipv6: bool) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n");
    if ipv6 {
        text.push_str(
            "::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\n\
             ff02::1\tip6-allnodes\n\
             ff02::2\tip6-allrouters\n",
        );
    }
    for (host, ip) in extra {
        text.push_str(&format!("{ip}\t{host}\n"));
    }
    text
}

/// The line of `/etc/hosts` for an address of the container itself; empty
/// without a name.
pub fn own_line(hostname: &str, domainname: &str, ip: IpAddr) -> String {
    match (hostname, domainname) {
        ("", _) => String::new(),
        (host, "") => format!("{ip}\t{host}\n"),
        (host, domain) => format!("{ip}\t{host}.{domain} {host}\n"),
    }
}

/// Whether the kernel gives loopback interfaces of new namespaces `::1`.
pub fn ipv6_loopback() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6").is_ok_and(|value| value.trim() == "0")
}

/// The host file a container's `resolv.conf` is derived from: the one systemd
/// keeps for its upstreams when `/etc/resolv.conf` names only its local stub.
/// Missing files read as empty.
pub fn host_resolv_conf() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let text = read("/etc/resolv.conf");
    let servers: Vec<&str> = nameservers(&text).collect();
    if servers == ["127.0.0.53"] {
        let upstream = read("/run/systemd/resolve/resolv.conf");
        if !upstream.is_empty() {
            return upstream;
        }
    }
    text
}

/// Text of a container's `/etc/resolv.conf` on the default bridge, from the
/// host's text and the overrides (`--dns`, `--dns-search`, `--dns-option`).
///
/// Loopback servers of the host are dropped, since they cannot be reached from
/// another namespace; if none remains, the public fallback servers are used.
/// An override replaces the host's setting of that kind; the search list `.`
/// means no search list.
pub fn resolv_conf(host: &str, dns: &[String], search: &[String], options: &[String]) -> String {
    let mut servers: Vec<String> = if dns.is_empty() {
        nameservers(host).filter(|server| !is_loopback(server) && !server.contains('%')).map(str::to_owned).collect()
    } else {
        dns.to_vec()
    };
    if servers.is_empty() {
        servers = FALLBACK.map(str::to_owned).into();
    }
    let search = if search.is_empty() { setting(host, &["search", "domain"]) } else { search.to_vec() };
    let options = if options.is_empty() { setting(host, &["options"]) } else { options.to_vec() };

    let mut text = String::new();
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !search.is_empty() && search != ["."] {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

fn nameservers(text: &str) -> impl Iterator<Item = &str> {
    lines(text).filter_map(|line| line.strip_prefix("nameserver")).filter_map(|rest| rest.split_whitespace().next())
}

/// The words after the last line that starts with one of `keys`: later lines
/// override earlier ones, as resolvers read the file. Options accumulate.
fn setting(text: &str, keys: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for line in lines(text) {
        let mut parts = line.split_whitespace();
        let Some(key) = parts.next().filter(|key| keys.contains(key)) else {
            continue;
        };
        if key != "options" {
            words.clear();
        }
        words.extend(parts.map(str::to_owned));
    }
    words
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']))
}

/// The servers that a container's own name server asks: those given, or the
/// host's. Servers on the host's loopback are asked from the host.
pub fn upstreams(host: &str, dns: &[String]) -> Vec<Upstream> {
    let server = |from_host: fn(IpAddr) -> bool| {
        move |text: &str| text.parse().ok().map(|ip: IpAddr| Upstream { ip, from_host: from_host(ip) })
    };
    if !dns.is_empty() {
        return dns.iter().map(String::as_str).filter_map(server(|_| false)).collect();
    }
    // Containers have no IPv6, the host may.
    let own: Vec<Upstream> = nameservers(host).filter_map(server(|ip| ip.is_loopback() || ip.is_ipv6())).collect();
    if !own.is_empty() {
        return own;
    }
    FALLBACK.into_iter().filter_map(server(|_| false)).collect()
}

/// Text of a container's `/etc/resolv.conf` on user-defined networks: its only
/// server is the one inside.
pub fn resolv_conf_inside(host: &str, dns: &Dns, search: &[String], options: &[String]) -> String {
    let inside = [INSIDE.to_owned()];
    let mut options = if options.is_empty() { setting(host, &["options"]) } else { options.to_vec() };
    // A name of a container has no dots; it is asked for as it is.
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0".into());
    }
    let mut text = resolv_conf(host, &inside, search, &options);
    let server = |server: &Upstream| match server.from_host {
        true => format!("host({})", server.ip),
        false => server.ip.to_string(),
    };
    let servers: Vec<String> = dns.servers.iter().map(server).collect();
    text.push_str(&format!("\n# ExtServers: [{}]\n", servers.join(" ")));
    text
}

fn is_loopback(server: &str) -> bool {
    server.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| word.to_string()).collect()
    }

    #[test]
    fn loopback_servers_are_dropped_and_settings_kept() {
        let host =
            "# c\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver ::1\nsearch a b\noptions edns0 trust-ad\n";
        assert_eq!(resolv_conf(host, &[], &[], &[]), "nameserver 10.0.0.1\nsearch a b\noptions edns0 trust-ad\n");
    }

    #[test]
    fn without_usable_server_the_public_ones_are_used() {
        assert_eq!(resolv_conf("nameserver 127.0.0.1\n", &[], &[], &[]), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
        assert_eq!(resolv_conf("", &[], &[], &[]), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
    }

    #[test]
    fn overrides_replace_the_hosts_settings() {
        let host = "nameserver 10.0.0.1\nsearch a\noptions x\n";
        assert_eq!(
            resolv_conf(host, &strings(&["127.0.0.1"]), &strings(&["."]), &strings(&["ndots:2"])),
            "nameserver 127.0.0.1\noptions ndots:2\n"
        );
    }

    #[test]
    fn hosts_lists_loopback_then_extra_then_own_names() {
        let extra = [("db".to_string(), "10.1.1.1".parse().unwrap())];
        assert_eq!(hosts(&extra, false), "127.0.0.1\tlocalhost\n10.1.1.1\tdb\n");
        assert!(hosts(&[], true).ends_with("ff02::2\tip6-allrouters\n"));
        let own = "172.17.0.2".parse().unwrap();
        assert_eq!(own_line("h", "", own), "172.17.0.2\th\n");
        assert_eq!(own_line("h", "d.e", own), "172.17.0.2\th.d.e h\n");
    }

    #[test]
    fn the_server_inside_asks_the_others() {
        let host = "nameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch a\noptions edns0\n";
        let dns = Dns { servers: upstreams(host, &[]), ndots: false };
        assert_eq!(
            resolv_conf_inside(host, &dns, &[], &[]),
            "nameserver 127.0.0.11\nsearch a\noptions edns0 ndots:0\n\n# ExtServers: [host(127.0.0.53) 10.0.0.1]\n"
        );
        let given = upstreams(host, &strings(&["127.0.0.1"]));
        assert!(!given[0].from_host, "the container's own loopback");
        assert_eq!(upstreams("", &[])[0].ip.to_string(), "8.8.8.8");
    }
}
