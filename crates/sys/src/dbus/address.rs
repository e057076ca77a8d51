//! Where a bus listens ("Server Addresses").

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;

/// The system's bus.
pub fn system_bus() -> String {
    let own = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_default();
    if own.is_empty() { "unix:path=/run/dbus/system_bus_socket".to_owned() } else { own }
}

/// The bus of the user's session, if there is one.
pub fn user_bus() -> Option<String> {
    let own = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    if !own.is_empty() {
        return Some(own);
    }
    let path = std::path::PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?).join("bus");
    path.exists().then(|| format!("unix:path={}", escape(path.as_os_str())))
}

/// The sockets an address names, in order; what is no Unix socket is left out.
pub(super) fn sockets(address: &str) -> Vec<SocketAddr> {
    let one = |part: &str| {
        let options = part.strip_prefix("unix:")?;
        options.split(',').find_map(|option| {
            use std::os::linux::net::SocketAddrExt;
            let (key, value) = option.split_once('=')?;
            let value = unescape(value)?;
            match key {
                "path" => SocketAddr::from_pathname(OsStr::from_bytes(&value)).ok(),
                "abstract" => SocketAddr::from_abstract_name(&value).ok(),
                _ => None,
            }
        })
    };
    address.split(';').filter_map(one).collect()
}

fn escape(text: &OsStr) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/.\\*".contains(&byte);
    let one = |byte: &u8| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02x}") };
    text.as_bytes().iter().map(one).collect()
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = if *first == b'%' {
            let digits = str::from_utf8(tail.get(..2)?).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            &tail[2..]
        } else {
            out.push(*first);
            tail
        };
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let found = sockets("tcp:host=x;unix:path=/run/a%20b,guid=1;unix:abstract=/tmp/c;unix:path=%z");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].as_pathname(), Some(std::path::Path::new("/run/a b")));
        assert_eq!(escape(OsStr::new("/run/a b")), "/run/a%20b");
    }
}
