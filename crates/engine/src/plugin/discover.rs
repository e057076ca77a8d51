//! Where plugins are: sockets and files of addresses in known directories.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use budu_dial::tls;
use serde::Deserialize;

use super::client::{Address, Tls};
use super::{PluginError, PluginPlaces};

/// A file `NAME.json`.
#[derive(Debug, Deserialize)]
struct Described {
    #[serde(rename = "Addr")]
    address: String,
    #[serde(rename = "TLSConfig", default)]
    tls: Option<Certificates>,
}

/// Its part about certificates.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Certificates {
    #[serde(rename = "CAFile")]
    ca: PathBuf,
    #[serde(rename = "CertFile")]
    cert: PathBuf,
    #[serde(rename = "KeyFile")]
    key: PathBuf,
    #[serde(rename = "InsecureSkipVerify")]
    skip_verify: bool,
}

/// Names of everything that looks like a plugin, sorted.
pub(super) fn names(places: &PluginPlaces) -> Vec<String> {
    let mut names = BTreeSet::new();
    collect(&places.sockets, &["sock"], &mut names);
    for dir in &places.specs {
        collect(dir, &["spec", "json"], &mut names);
    }
    names.into_iter().collect()
}

/// Looks for `NAME.EXT` and `NAME/NAME.EXT`.
fn collect(dir: &Path, extensions: &[&str], names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Some(name) = path.file_stem().and_then(|n| n.to_str()) else { continue };
        let plain = |path: &Path| {
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            extensions.contains(&extension) && is_description(path)
        };
        if plain(&path) {
            names.insert(name.to_owned());
        } else if let Some(name) = path.file_name().and_then(|n| n.to_str())
            && extensions.iter().any(|e| plain(&path.join(format!("{name}.{e}"))))
        {
            names.insert(name.to_owned());
        }
    }
}

/// A socket where sockets are wanted, else a file.
fn is_description(path: &Path) -> bool {
    let Ok(found) = fs::metadata(path) else { return false };
    match path.extension() {
        Some(extension) if extension == "sock" => found.file_type().is_socket(),
        _ => found.is_file(),
    }
}

/// Finds the address of the plugin `name`. A socket comes before files.
pub(super) fn find(places: &PluginPlaces, name: &str) -> Result<Address, PluginError> {
    let missing = || PluginError::NotFound { name: name.to_owned() };
    // A name is one component: it must not lead out of the directories.
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(missing());
    }
    let both = |dir: &Path, extension: &str| {
        let file = format!("{name}.{extension}");
        [dir.join(&file), dir.join(name).join(&file)]
    };
    if let Some(socket) = both(&places.sockets, "sock").into_iter().find(|path| is_description(path)) {
        return Ok(Address::Unix(socket));
    }
    let files = places.specs.iter().flat_map(|dir| both(dir, "spec").into_iter().chain(both(dir, "json")));
    let path = files.into_iter().find(|path| is_description(path)).ok_or_else(missing)?;
    read(&path).map_err(|reason| PluginError::Description { name: name.to_owned(), path, reason })
}

fn read(path: &Path) -> Result<Address, String> {
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    if path.extension().is_none_or(|extension| extension != "json") {
        return parse(text.trim(), None);
    }
    let described: Described = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let tls = described.tls.map(|wish| {
        let named = |path: PathBuf| Some(path).filter(|path| !path.as_os_str().is_empty());
        // Without an authority nothing could be checked: Docker trusts anybody then.
        let verify = !wish.skip_verify && !wish.ca.as_os_str().is_empty();
        Tls { files: tls::Files { ca: named(wish.ca), cert: named(wish.cert), key: named(wish.key) }, verify }
    });
    parse(&described.address, tls)
}

/// Parses `unix:///PATH`, `tcp://HOST:PORT`, `http://…` and `https://…`.
fn parse(text: &str, tls: Option<Tls>) -> Result<Address, String> {
    let Some((scheme, rest)) = text.split_once("://") else { return Err("Unknown protocol".to_owned()) };
    if scheme == "unix" {
        return match rest.starts_with('/') {
            true => Ok(Address::Unix(rest.into())),
            false => Err(format!("{text} has no absolute path")),
        };
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| format!("{text} has a bad port"))?),
        None => (authority, if scheme == "https" { 443 } else { 80 }),
    };
    let host = host.trim_matches(['[', ']']).to_owned();
    match scheme {
        _ if host.is_empty() => Err(format!("{text} has no host")),
        "tcp" | "http" => Ok(Address::Tcp { host, port, tls: None }),
        "https" => Ok(Address::Tcp { host, port, tls: Some(tls.unwrap_or_default()) }),
        _ => Err(format!("protocol {scheme} of {text} is not known")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn sockets_come_before_files_and_names_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for path in ["run/b", "etc/c"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        let places = PluginPlaces { sockets: at("run"), specs: vec![at("etc"), at("none")] };
        let _sockets = [UnixListener::bind(at("run/a.sock")), UnixListener::bind(at("run/b/b.sock"))];
        fs::write(at("run/no.sock"), "").unwrap();
        fs::write(at("etc/a.spec"), "unix:///other").unwrap();
        fs::write(at("etc/c/c.spec"), " tcp://localhost:8080\n").unwrap();
        fs::write(at("etc/d.json"), r#"{"Name":"d","Addr":"https://h:1","TLSConfig":{"CAFile":"/ca"}}"#).unwrap();
        fs::write(at("etc/e.spec"), "nothing").unwrap();
        fs::write(at("etc/README"), "").unwrap();
        assert_eq!(names(&places), ["a", "b", "c", "d", "e"]);
        assert_eq!(find(&places, "a").unwrap(), Address::Unix(at("run/a.sock")));
        assert_eq!(find(&places, "b").unwrap(), Address::Unix(at("run/b/b.sock")));
        assert_eq!(find(&places, "c").unwrap(), Address::Tcp { host: "localhost".into(), port: 8080, tls: None });
        let tls = Tls { files: tls::Files { ca: Some("/ca".into()), ..Default::default() }, verify: true };
        assert_eq!(find(&places, "d").unwrap(), Address::Tcp { host: "h".into(), port: 1, tls: Some(tls) });
        assert!(find(&places, "e").unwrap_err().to_string().ends_with("e.spec: Unknown protocol"));
        for missing in ["no", "../run/a", "", ".", "x"] {
            assert_eq!(find(&places, missing).unwrap_err().to_string(), format!("plugin \"{missing}\" not found"));
        }
    }
}
