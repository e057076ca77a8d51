//! Requests on a TCP port that anybody may reach: those that a web page makes
//! in somebody's browser are refused, whether they say so or pretend to come
//! from this machine.

use std::net::IpAddr;

use hyper::StatusCode;
use hyper::header::{HOST, HeaderMap, ORIGIN};

use super::Failure;

/// Refuses requests of web pages: those with an `Origin` or from another site,
/// and those for a host name that is not known to be ours (a page whose name
/// was pointed at our address after it was loaded). `ours` are names that are.
pub(crate) fn refuse(headers: &HeaderMap, ours: &[&str]) -> Result<(), Failure> {
    let forbidden = |message: String| Err(Failure { status: StatusCode::FORBIDDEN, message });
    if headers.contains_key(ORIGIN) {
        return forbidden("requests of web pages are refused".to_owned());
    }
    let site = headers.get("sec-fetch-site").and_then(|v| v.to_str().ok()).unwrap_or("none");
    if !matches!(site, "none" | "same-origin") {
        return forbidden("requests of web pages are refused".to_owned());
    }
    let mut hosts = headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let host = host.and_then(|v| v.to_str().ok()).unwrap_or_default();
    if second.is_some() || !known(host, ours) {
        return forbidden(format!(
            "host \"{host}\" is not known to be this daemon: use its address, or a name given with --host"
        ));
    }
    Ok(())
}

fn known(host: &str, ours: &[&str]) -> bool {
    let bracket = host.rfind(']').unwrap_or(0);
    let name = match host.rfind(':').filter(|at| *at >= bracket) {
        Some(at) => &host[..at],
        None => host,
    };
    let name = name.trim_matches(['[', ']']);
    // What Docker's clients send when there is no name.
    let plain = matches!(name, "" | "localhost" | "docker" | "api.moby.localhost");
    plain || name.parse::<IpAddr>().is_ok() || ours.iter().any(|own| own.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_pages_are_refused() {
        let headers = |pairs: &[(&'static str, &str)]| {
            pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect::<HeaderMap>()
        };
        let ours = ["dock.example"];
        for fine in ["127.0.0.1:2375", "[::1]:2375", "localhost", "Dock.Example:1", "api.moby.localhost"] {
            assert!(refuse(&headers(&[("host", fine)]), &ours).is_ok(), "{fine}");
        }
        for bad in [
            &[("host", "evil.example:2375")][..],
            &[("host", "localhost"), ("origin", "null")],
            &[("host", "localhost"), ("sec-fetch-site", "cross-site")],
        ] {
            assert_eq!(refuse(&headers(bad), &ours).unwrap_err().status, 403, "{bad:?}");
        }
    }
}
