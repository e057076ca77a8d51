//! Which daemon: `-H`, `DOCKER_HOST`, a context, or the default sockets.

use std::fmt;
use std::path::PathBuf;

use budu_dial::tls;

use crate::config::Config;
use crate::context;
use crate::error::Error;

/// Where Budu's own daemon listens.
pub(crate) const BUDU_SOCKET: &str = "/run/budu/budu.sock";
/// Where everybody else's does.
pub(crate) const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// The address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// `unix://PATH`.
    Unix(PathBuf),
    /// `tcp://HOST:PORT`.
    Tcp(String),
    /// The same, encrypted.
    Tls(String, Tls),
    /// `ssh://[USER@]HOST[:PORT][/SOCKET]`.
    Ssh(Ssh),
}

/// How to trust a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Certificates.
    pub(crate) files: tls::Files,
    /// Whether its certificate is looked at.
    pub(crate) verify: bool,
}

/// A machine that `ssh` leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ssh {
    /// User there.
    pub(crate) user: Option<String>,
    /// Its name.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: Option<String>,
    /// The daemon's socket there, when it is not the usual one.
    pub(crate) socket: Option<String>,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Unix(path) => write!(f, "unix://{}", path.display()),
            Host::Tcp(address) | Host::Tls(address, _) => write!(f, "tcp://{address}"),
            Host::Ssh(ssh) => {
                let user = ssh.user.iter().map(|user| format!("{user}@")).collect::<String>();
                let port = ssh.port.iter().map(|port| format!(":{port}")).collect::<String>();
                write!(f, "ssh://{user}{}{port}{}", ssh.host, ssh.socket.as_deref().unwrap_or_default())
            }
        }
    }
}

/// An address and how it was come by.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    /// The address.
    pub(crate) host: Host,
    /// Nobody named it: Docker's socket may stand in, and a daemon may be started.
    pub(crate) by_default: bool,
}

/// The flags that choose.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    /// `-H`.
    pub(crate) host: Option<String>,
    /// `-c`.
    pub(crate) context: Option<String>,
    /// `--tls` and its kin, with their variables.
    pub(crate) tls: Option<Tls>,
}

impl Host {
    /// Parses what `-H` and `DOCKER_HOST` take. `tls` holds for TCP.
    pub(crate) fn parse(text: &str, tls: Option<&Tls>) -> Result<Host, Error> {
        let text = text.trim();
        let tcp = |address: &str| {
            let address = with_port(address, if tls.is_some() { "2376" } else { "2375" });
            match tls {
                Some(tls) => Host::Tls(address, tls.clone()),
                None => Host::Tcp(address),
            }
        };
        match text.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => Ok(Host::Unix(path.into())),
            Some(("unix", _)) => Ok(Host::Unix(DOCKER_SOCKET.into())),
            Some(("tcp" | "http", address)) => Ok(tcp(address.trim_end_matches('/'))),
            Some(("https", address)) => {
                let trusting = Tls { files: tls::Files::default(), verify: true };
                let address = with_port(address.trim_end_matches('/'), "443");
                Ok(Host::Tls(address, tls.cloned().unwrap_or(trusting)))
            }
            Some(("ssh", rest)) => ssh(rest),
            Some((scheme @ ("npipe" | "fd"), _)) => {
                Err(Error::new(format_args!("{scheme}:// addresses do not exist here: use unix://, tcp:// or ssh://")))
            }
            Some(_) => Err(Error::new(format_args!("invalid bind address format: {text}"))),
            None if text.is_empty() => Ok(Host::Unix(DOCKER_SOCKET.into())),
            None if text.starts_with('/') => {
                Err(Error::new(format_args!("unable to parse docker host `{text}`: did you mean unix://{text}?")))
            }
            None => Ok(tcp(text)),
        }
    }
}

/// Parses the rest of an `ssh://` address.
fn ssh(rest: &str) -> Result<Host, Error> {
    let bad = |why: &str| Err(Error::new(format_args!("invalid ssh host ssh://{rest}: {why}")));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    if user.is_some_and(|user| user.contains(':')) {
        return bad("plain-text password is not supported");
    }
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port)),
        _ => (place, None),
    };
    let host = host.trim_matches(['[', ']']);
    // What begins with a dash would be an option of ssh.
    if host.is_empty() || host.starts_with('-') || user.is_some_and(|user| user.starts_with('-')) {
        return bad("no host specified");
    }
    let owned = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Ok(Host::Ssh(Ssh {
        user: user.and_then(owned),
        host: host.to_owned(),
        port: port.and_then(owned),
        socket: owned(path.trim_end_matches('/')),
    }))
}

fn with_port(address: &str, port: &str) -> String {
    let address = if address.is_empty() { "localhost" } else { address };
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    if has_port && !address.ends_with(']') { address.to_owned() } else { format!("{address}:{port}") }
}

/// A variable that says something.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Chooses by precedence: `-H`, `-c`, `DOCKER_HOST`, `DOCKER_CONTEXT`, the configured context, the default.
pub(crate) fn choose(flags: &Flags, config: &Config) -> Result<Choice, Error> {
    if flags.host.is_some() && flags.context.is_some() {
        return Err(Error::new("conflicting options: cannot specify both --host and --context"));
    }
    let name = context_name(flags, config);
    if name != "default" {
        let host = context::Store::of(config).host(&name)?;
        return Ok(Choice { host, by_default: false });
    }
    let named = flags.host.clone().or_else(|| variable("DOCKER_HOST").filter(|_| flags.context.is_none()));
    match named {
        Some(host) => Ok(Choice { host: Host::parse(&host, flags.tls.as_ref())?, by_default: false }),
        None => Ok(Choice { host: Host::Unix(BUDU_SOCKET.into()), by_default: true }),
    }
}

/// Name of the context in use; it need not exist.
pub(crate) fn context_name(flags: &Flags, config: &Config) -> String {
    let default = || "default".to_owned();
    if let Some(name) = &flags.context {
        return name.clone();
    }
    if flags.host.is_some() || variable("DOCKER_HOST").is_some() {
        return default();
    }
    let configured = Some(config.current_context.clone()).filter(|name| !name.is_empty());
    variable("DOCKER_CONTEXT").or(configured).unwrap_or_else(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, want) in [
            ("unix:///x/y.sock", "unix:///x/y.sock"),
            ("tcp://1.2.3.4:99", "tcp://1.2.3.4:99"),
            ("tcp://name", "tcp://name:2375"),
            ("tcp://[::1]:5", "tcp://[::1]:5"),
            ("name", "tcp://name:2375"),
            ("ssh://me@far:22/run/x.sock", "ssh://me@far:22/run/x.sock"),
            ("ssh://far", "ssh://far"),
        ] {
            assert_eq!(Host::parse(text, None).unwrap().to_string(), want);
        }
        for bad in ["foo://x", "/x/y.sock", "ssh://", "ssh://-oProxyCommand=x", "ssh://a:b@far"] {
            assert!(Host::parse(bad, None).is_err(), "{bad}");
        }
        let tls = Tls { files: tls::Files::default(), verify: true };
        assert_eq!(Host::parse("tcp://far", Some(&tls)).unwrap(), Host::Tls("far:2376".into(), tls));
    }

    #[test]
    fn contexts_are_looked_up_by_the_hash_of_their_name() {
        let directory = tempfile::tempdir().unwrap();
        let meta = directory.path().join("contexts/meta").join(context::Store::at(directory.path()).id("far"));
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(meta.join("meta.json"), r#"{"Name":"far","Endpoints":{"docker":{"Host":"tcp://far:1"}}}"#)
            .unwrap();
        let config = Config::load(directory.path()).unwrap();
        let flags = |name: &str| Flags { context: Some(name.to_owned()), ..Flags::default() };
        let choice = choose(&flags("far"), &config).unwrap();
        assert_eq!((choice.host, choice.by_default), (Host::Tcp("far:1".to_owned()), false));
        let error = choose(&flags("near"), &config).unwrap_err().to_string();
        assert!(error.contains("context \"near\": context not found"), "{error}");
    }
}
