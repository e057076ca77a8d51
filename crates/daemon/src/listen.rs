//! Where to listen: unix sockets, TCP with and without TLS, and sockets that
//! the service manager opened.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use budu_dial::{Resolver, tls};
use rustix::fs::Mode;
use tokio::net::{TcpListener, UnixListener};

use crate::config::Config;
use crate::life::Fatal;

/// Where we listen when nobody says otherwise: ours, and Docker's unless
/// somebody else is there.
const OURS: &str = "/run/budu/budu.sock";
const DOCKERS: &str = "/var/run/docker.sock";

/// One place to listen.
pub(crate) struct Listener {
    /// As the log names it.
    pub(crate) address: String,
    /// A socket file of ours, to be removed at the end.
    pub(crate) path: Option<PathBuf>,
    pub(crate) socket: Socket,
}

/// What is accepted on.
pub(crate) enum Socket {
    /// Whoever may open the file.
    Unix(UnixListener),
    /// Whoever reaches the port.
    Tcp(TcpListener, Guard),
}

/// What stands between a TCP client and the API.
#[derive(Clone)]
pub(crate) struct Guard {
    /// Encryption.
    pub(crate) tls: Option<tls::Acceptor>,
    /// Clients show a certificate.
    pub(crate) verified: bool,
}

/// Binds all sockets. Needs the runtime. `inherited` are the service
/// manager's, by name.
pub(crate) async fn bind(
    config: &Config,
    group: Option<u32>,
    inherited: Vec<(String, OwnedFd)>,
) -> Result<Vec<Listener>, Fatal> {
    if config.hosts.is_empty() {
        let mut list = vec![unix(Path::new(OURS), group)?];
        match unix(Path::new(DOCKERS), group) {
            Ok(listener) => list.push(listener),
            Err(error) => tracing::info!("not listening on {DOCKERS}: {error}"),
        }
        return Ok(list);
    }
    let mut guard = None;
    let mut inherited = inherited;
    let mut list = Vec::new();
    for host in &config.hosts {
        match parse(host, config.tls)? {
            Host::Unix(path) => list.push(unix(path, group)?),
            Host::Tcp(name, port) => list.push(tcp(&name, port, self::guard(config, &mut guard, host)?).await?),
            Host::Inherited(wish) => {
                let (taken, left): (Vec<_>, Vec<_>) =
                    inherited.into_iter().partition(|(name, _)| wish.is_empty() || *name == wish);
                inherited = left;
                if taken.is_empty() {
                    return Err(Fatal(format!("cannot listen on {host}: no sockets found via socket activation")));
                }
                for (name, fd) in taken {
                    list.push(adopt(&name, fd, |address| self::guard(config, &mut guard, address))?);
                }
            }
        }
    }
    Ok(list)
}

/// A host that was understood.
#[derive(Debug, PartialEq, Eq)]
enum Host<'a> {
    Unix(&'a Path),
    Tcp(String, u16),
    Inherited(String),
}

fn parse(host: &str, tls: bool) -> Result<Host<'_>, Fatal> {
    let bad = |why: &str| Fatal(format!("cannot listen on {host}: {why}"));
    let (scheme, rest) = match host.split_once("://") {
        Some(parts) => parts,
        None if host.starts_with('/') => ("unix", host),
        // As Docker reads it.
        None => ("tcp", host),
    };
    match scheme {
        "unix" if rest.starts_with('/') => Ok(Host::Unix(Path::new(rest))),
        "unix" => Err(bad("the path must be absolute, as in unix:///run/budu.sock")),
        "fd" => Ok(Host::Inherited(if rest == "*" { String::new() } else { rest.to_owned() })),
        "tcp" => {
            let normal = if tls { 2376 } else { 2375 };
            let rest = rest.trim_end_matches('/');
            let bracket = rest.rfind(']').unwrap_or(0);
            let (name, port) = match rest.rfind(':').filter(|at| *at >= bracket) {
                Some(at) => (&rest[..at], rest[at + 1..].parse().map_err(|_| bad("invalid bind address format"))?),
                None => (rest, normal),
            };
            let name = name.trim_matches(['[', ']']);
            Ok(Host::Tcp(if name.is_empty() { "127.0.0.1" } else { name }.to_owned(), port))
        }
        _ => Err(bad("want unix://PATH, tcp://HOST:PORT or fd://")),
    }
}

/// What guards TCP; made once. Without clients' certificates the port makes
/// root of anybody who reaches it: somebody must have said that this is meant.
fn guard(config: &Config, made: &mut Option<Guard>, host: &str) -> Result<Guard, Fatal> {
    if let Some(guard) = made {
        return Ok(guard.clone());
    }
    if !config.tls_verify && !config.unauthenticated_tcp {
        return Err(Fatal(format!(
            "refusing to listen on {host}: whoever reaches this port would be root on this machine. Use --tlsverify with --tlscacert, --tlscert and --tlskey so that only clients with a certificate get in, or --unauthenticated-tcp if this is really meant"
        )));
    }
    let tls = match config.tls {
        true => {
            let server = tls::server(&config.tls_files, config.tls_verify)
                .map_err(|e| Fatal(format!("cannot listen on {host}: {e}")))?;
            Some(tls::Acceptor::from(server))
        }
        false => None,
    };
    Ok(made.insert(Guard { tls, verified: config.tls_verify }).clone())
}

async fn tcp(name: &str, port: u16, guard: Guard) -> Result<Listener, Fatal> {
    let failed = |why: String| Fatal(format!("cannot listen on tcp://{name}:{port}: {why}"));
    let found = Resolver::system().lookup(name).await.map_err(failed)?;
    let address = found.first().ok_or_else(|| failed("it has no address".to_owned()))?;
    let listener = TcpListener::bind(SocketAddr::new(*address, port)).await.map_err(|e| failed(e.to_string()))?;
    let bound = listener.local_addr().map_err(|e| failed(e.to_string()))?;
    Ok(Listener { address: format!("tcp://{bound}"), path: None, socket: Socket::Tcp(listener, guard) })
}

/// Takes over a socket that listens already.
fn adopt(name: &str, fd: OwnedFd, guard: impl FnOnce(&str) -> Result<Guard, Fatal>) -> Result<Listener, Fatal> {
    let failed = |error: io::Error| Fatal(format!("cannot listen on the inherited socket {name}: {error}"));
    rustix::io::ioctl_fionbio(&fd, true).map_err(|e| failed(e.into()))?;
    let own = rustix::net::getsockname(&fd).map_err(|e| failed(e.into()))?;
    let address = format!("fd://{name}");
    let socket = match own.address_family() {
        rustix::net::AddressFamily::UNIX => {
            Socket::Unix(UnixListener::from_std(std::os::unix::net::UnixListener::from(fd)).map_err(failed)?)
        }
        _ => Socket::Tcp(TcpListener::from_std(std::net::TcpListener::from(fd)).map_err(failed)?, guard(&address)?),
    };
    Ok(Listener { address, path: None, socket })
}

/// Binds one socket. A dead one of an earlier daemon is replaced, a live one never.
fn unix(path: &Path, group: Option<u32>) -> Result<Listener, Fatal> {
    let failed = |error: io::Error| Fatal(format!("cannot listen on {}: {error}", path.display()));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(Fatal(format!("cannot listen on {}: it exists and is no socket", path.display())));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(Fatal(format!("cannot listen on {}: another daemon listens there", path.display())));
        }
        fs::remove_file(path).map_err(failed)?;
    }
    // Nobody may connect before owner and mode are right.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound.map_err(failed)?;
    if let Some(gid) = group {
        chown(path, None, Some(gid)).map_err(failed)?;
    }
    fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(Listener {
        address: format!("unix://{}", path.display()),
        path: Some(path.to_owned()),
        socket: Socket::Unix(listener),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stale_sockets_are_replaced_and_live_ones_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let text = |result: Result<Listener, Fatal>| result.err().unwrap().to_string();
        drop(unix(&path, None).unwrap());
        let live = unix(&path, None).unwrap();
        assert!(text(unix(&path, None)).contains("another daemon listens there"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        drop(live);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(text(unix(&path, None)).contains("no socket"));
    }

    #[test]
    fn hosts() {
        let tcp = |name: &str, port| Host::Tcp(name.to_owned(), port);
        for (text, tls, want) in [
            ("unix:///a", false, Host::Unix(Path::new("/a"))),
            ("/a", false, Host::Unix(Path::new("/a"))),
            ("tcp://0.0.0.0:5", false, tcp("0.0.0.0", 5)),
            ("tcp://", false, tcp("127.0.0.1", 2375)),
            ("tcp://[::1]", true, tcp("::1", 2376)),
            ("tcp://[::1]:7", true, tcp("::1", 7)),
            (":7", false, tcp("127.0.0.1", 7)),
            ("fd://", false, Host::Inherited(String::new())),
            ("fd://api", false, Host::Inherited("api".to_owned())),
        ] {
            assert_eq!(parse(text, tls).unwrap(), want, "{text}");
        }
        assert!(parse("ftp://x", false).is_err() && parse("unix://x", false).is_err());
        assert!(parse("tcp://x:y", false).is_err());
    }

    #[tokio::test]
    async fn an_open_port_must_be_asked_for_in_words() {
        let config = Config { hosts: vec!["tcp://127.0.0.1:0".into()], ..Config::default() };
        let refused = bind(&config, None, Vec::new()).await.err().unwrap().to_string();
        assert!(refused.contains("--unauthenticated-tcp") && refused.contains("--tlsverify"), "{refused}");
        let encrypted = Config { tls: true, ..config.clone() };
        assert!(bind(&encrypted, None, Vec::new()).await.err().unwrap().to_string().contains("refusing"));
        let meant = Config { unauthenticated_tcp: true, ..config.clone() };
        assert!(bind(&meant, None, Vec::new()).await.is_ok());
        let nobody = Config { tls: true, tls_verify: true, ..config };
        assert!(bind(&nobody, None, Vec::new()).await.err().unwrap().to_string().contains("certificate"));
    }
}
