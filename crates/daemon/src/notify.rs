//! The service manager: sockets it opened for us, and words it waits for;
//! sd_listen_fds(3) and sd_notify(3).

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// First descriptor that a service manager passes.
const FIRST: i32 = 3;

/// Takes the sockets that were opened for us, with their names. To be called
/// before anything else is started, so that nobody inherits them from us.
pub(crate) fn sockets() -> Vec<(String, OwnedFd)> {
    let variable = |name: &str| std::env::var(name).ok();
    let ours = variable("LISTEN_PID").and_then(|pid| pid.parse().ok()) == Some(std::process::id());
    let count: i32 = variable("LISTEN_FDS").and_then(|n| n.parse().ok()).filter(|_| ours).unwrap_or(0);
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    (0..count.clamp(0, 64))
        .filter_map(|offset| {
            let name = names.next().filter(|name| !name.is_empty()).map(str::to_owned);
            let fd = budu_engine::inherited_descriptor(FIRST + offset).ok()?;
            Some((name.unwrap_or_else(|| (FIRST + offset).to_string()), fd))
        })
        .collect()
}

/// Tells the service manager, if there is one, such as `READY=1`.
pub(crate) fn tell(words: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&address, words) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

fn send(address: &OsStr, words: &str) -> std::io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    socket.send_to_addr(words.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        let mut buffer = [0u8; 16];
        let count = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"READY=1");
        assert!(send(dir.path().join("none").as_os_str(), "READY=1").is_err());
    }
}
