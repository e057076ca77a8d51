//! Scheme, host and port: what decides who may see credentials.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) tls: bool,
    /// Lower case, IPv6 addresses without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// The origin of an absolute `http` or `https` address; `None` for anything else,
    /// also when it carries a user name.
    pub(crate) fn of(uri: &Uri) -> Option<Origin> {
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        if uri.authority()?.as_str().contains('@') {
            return None;
        }
        Some(Origin::new(tls, uri.authority()?.as_str()))
    }

    /// The origin of `host[:port]`.
    pub(crate) fn new(tls: bool, authority: &str) -> Origin {
        let (host, port) = match authority.rsplit_once(':') {
            // The last colon of a bare IPv6 address is inside brackets.
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
            _ => (authority, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Origin { tls, host, port: port.unwrap_or(if tls { 443 } else { 80 }) }
    }

    /// Whether it can only be this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }

    /// `host[:port]` for the `Host` header and for messages.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }

    /// Whether a token service at `self` may be given the credentials of `registry`: the same
    /// host, or over TLS a sibling or parent in the same registered domain
    /// (`registry-1.docker.io` and `auth.docker.io`). A clear-text registry can only trust
    /// its own host, where nothing is lost that the registry itself would not see.
    pub(crate) fn may_have_credentials_of(&self, registry: &Origin) -> bool {
        if self.host == registry.host {
            return self.tls || !registry.tls;
        }
        self.tls && registry.tls && site(&self.host).is_some_and(|site| Some(site) == self::site(&registry.host))
    }
}

/// The registered domain, guessed without a list: the last two labels, or three under
/// two-letter countries' second levels such as `co.uk`. `None` for addresses and short names.
fn site(host: &str) -> Option<&str> {
    if host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let labels: Vec<&str> = host.split('.').collect();
    let [.., second, top] = labels[..] else { return None };
    let keep = if top.len() == 2 && second.len() <= 3 { 3 } else { 2 };
    if labels.len() < keep || labels.iter().any(|label| label.is_empty()) {
        return None;
    }
    let length: usize = labels[labels.len() - keep..].iter().map(|label| label.len() + 1).sum();
    Some(&host[host.len() + 1 - length..])
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        for (text, printed, loopback) in [
            ("https://A.Example/x", "https://a.example", false),
            ("https://a.example:443/x", "https://a.example", false),
            ("http://localhost:5000/", "http://localhost:5000", true),
            ("http://[::1]:5000/", "http://[::1]:5000", true),
            ("https://[::1]/", "https://[::1]", true),
            ("http://127.8.9.1/", "http://127.8.9.1", true),
            ("http://localhost.evil/", "http://localhost.evil", false),
        ] {
            let origin = Origin::of(&text.parse().expect(text)).expect(text);
            assert_eq!(origin.to_string(), printed);
            assert_eq!(origin.is_loopback(), loopback, "{text}");
        }
        for text in ["ftp://x/", "/x", "https://u:p@x/"] {
            assert_eq!(Origin::of(&text.parse().expect(text)), None, "{text}");
        }
    }

    #[test]
    fn credentials_stay_on_the_site() {
        for (realm, registry, may) in [
            ("https://auth.docker.io", "https://registry-1.docker.io", true),
            ("https://gitlab.example.com", "https://registry.example.com", true),
            ("https://example.com", "https://registry.example.com", true),
            ("https://example.com:8443", "https://example.com", true),
            ("http://example.com", "https://example.com", false),
            ("https://evil.com", "https://example.com", false),
            ("https://example.com.evil.com", "https://example.com", false),
            ("https://evil.co.uk", "https://shop.co.uk", false),
            ("https://auth.shop.co.uk", "https://reg.shop.co.uk", true),
            ("https://10.0.0.2", "https://10.0.0.1", false),
            ("http://127.0.0.1:5001", "http://127.0.0.1:5000", true),
            ("http://127.0.0.2:5000", "http://127.0.0.1:5000", false),
            ("https://com", "https://com2", false),
        ] {
            let origin = |text: &str| Origin::of(&text.parse().expect(text)).expect(text);
            assert_eq!(origin(realm).may_have_credentials_of(&origin(registry)), may, "{realm} {registry}");
        }
    }
}
