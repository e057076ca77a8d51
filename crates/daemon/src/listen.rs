//! Sockets to listen on.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use tokio::net::UnixListener;

use crate::config::Config;
use crate::life::Fatal;

/// Where we listen when nobody says otherwise: ours, and Docker's unless
/// somebody else is there.
const OURS: &str = "/run/budu/budu.sock";
const DOCKERS: &str = "/var/run/docker.sock";

/// Binds all sockets. Needs the runtime.
pub(crate) fn bind(config: &Config, group: Option<u32>) -> Result<Vec<(PathBuf, UnixListener)>, Fatal> {
    if config.hosts.is_empty() {
        let mut list = vec![one(Path::new(OURS), group)?];
        match one(Path::new(DOCKERS), group) {
            Ok(listener) => list.push(listener),
            Err(error) => tracing::info!("not listening on {DOCKERS}: {error}"),
        }
        return Ok(list);
    }
    config.hosts.iter().map(|host| one(path_of(host)?, group)).collect()
}

fn path_of(host: &str) -> Result<&Path, Fatal> {
    match host.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') => Ok(Path::new(path)),
        _ if host.starts_with('/') => Ok(Path::new(host)),
        _ => Err(Fatal(format!("cannot listen on {host}: only unix:///ABSOLUTE/PATH is implemented"))),
    }
}

/// Binds one socket. A dead one of an earlier daemon is replaced, a live one never.
fn one(path: &Path, group: Option<u32>) -> Result<(PathBuf, UnixListener), Fatal> {
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
    Ok((path.to_owned(), listener))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stale_sockets_are_replaced_and_live_ones_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        drop(one(&path, None).unwrap());
        let (_, live) = one(&path, None).unwrap();
        assert!(one(&path, None).unwrap_err().to_string().contains("another daemon listens there"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        drop(live);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(one(&path, None).unwrap_err().to_string().contains("no socket"));
        assert!(path_of("tcp://1.2.3.4:5").is_err());
    }
}
