//! Binds and tmpfs mounts: from the request's three spellings to one list.

use std::collections::BTreeSet;
use std::path::Path;

use budu_spec::docker::{HostConfig, Mount, MountPoint, TmpfsOptions};
use budu_spec::oci;

use crate::Error;

const PROPAGATIONS: &[&str] = &["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// One mount a user asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// `bind` or `tmpfs`.
    pub(crate) kind: &'static str,
    /// Path on the host; empty for tmpfs.
    pub(crate) source: String,
    /// Path in the container, cleaned.
    pub(crate) target: String,
    /// Options as given with `-v`.
    mode: String,
    /// Writable.
    rw: bool,
    propagation: String,
    /// Bind the mounts below the source too.
    recursive: bool,
    /// Make the mounts below read-only too.
    recursive_read_only: bool,
    /// Make the source directory when it is missing.
    create_source: bool,
    /// Mount options of a tmpfs.
    options: Vec<String>,
}

/// Lists the mounts of a request, sorted so that parents come first.
pub(crate) fn wishes(host: &HostConfig) -> Result<Vec<Wish>, Error> {
    let mut list = Vec::new();
    for bind in host.binds.iter().flatten() {
        list.push(bind_wish(bind)?);
    }
    for mount in host.mounts.iter().flatten() {
        list.push(mount_wish(mount)?);
    }
    for (target, options) in host.tmpfs.iter().flatten() {
        list.push(tmpfs_wish(target, options)?);
    }
    let mut seen = BTreeSet::new();
    for wish in &list {
        if !seen.insert(wish.target.as_str()) {
            return Err(Error::invalid(format!("Duplicate mount point: {}", wish.target)));
        }
    }
    drop(seen);
    list.sort_by_key(|wish| wish.target.split('/').count());
    Ok(list)
}

fn bind_wish(text: &str) -> Result<Wish, Error> {
    let bad = |why: &str| {
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        Error::invalid(format!("invalid volume specification: '{text}'{why}"))
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [source, target] if target.starts_with('/') => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        [single] if single.starts_with('/') => return Err(Error::unsupported(format!("anonymous volumes ({text})"))),
        [target, mode] if target.starts_with('/') && !mode.is_empty() => {
            return Err(bad(&format!(
                "invalid mount config for type \"volume\": invalid mount path: '{mode}' mount path must be absolute"
            )));
        }
        _ => return Err(bad("")),
    };
    if source.is_empty() || target.is_empty() {
        return Err(bad(""));
    }
    if !source.starts_with('/') {
        if source.contains('/') || source.starts_with('.') {
            return Err(Error::invalid(format!(
                "create {source}: \"{source}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
            )));
        }
        return Err(Error::unsupported(format!("named volumes ({source})")));
    }
    let target = target_path(target).map_err(|why| bad(&format!("invalid mount config for type \"bind\": {why}")))?;
    let mut wish = Wish {
        kind: "bind",
        source: clean(source),
        target,
        mode: mode.to_owned(),
        rw: true,
        recursive: true,
        recursive_read_only: true,
        create_source: true,
        ..Wish::default()
    };
    for option in mode.split(',').filter(|o| !o.is_empty()) {
        match option {
            "ro" => wish.rw = false,
            "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" | "rbind" => {}
            "bind" => wish.recursive = false,
            _ if PROPAGATIONS.contains(&option) => wish.propagation = option.to_owned(),
            _ => return Err(Error::invalid(format!("invalid mode: {option}"))),
        }
    }
    Ok(wish)
}

fn mount_wish(mount: &Mount) -> Result<Wish, Error> {
    let bad = |why: String| Error::invalid(format!("invalid mount config for type \"{}\": {why}", mount.kind));
    if mount.target.is_empty() {
        return Err(bad("field Target must not be empty".to_owned()));
    }
    let target = target_path(&mount.target).map_err(|why| bad(why.to_owned()))?;
    match mount.kind.as_str() {
        "bind" => {
            if mount.source.is_empty() {
                return Err(bad("field Source must not be empty".to_owned()));
            }
            if !mount.source.starts_with('/') {
                return Err(bad(format!("invalid mount path: '{}' mount path must be absolute", mount.source)));
            }
            let options = mount.bind_options.clone().unwrap_or_default();
            if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
                return Err(bad(format!("invalid propagation mode: {}", options.propagation)));
            }
            Ok(Wish {
                kind: "bind",
                source: clean(&mount.source),
                target,
                rw: !mount.read_only,
                propagation: options.propagation,
                recursive: !options.non_recursive,
                recursive_read_only: !options.read_only_non_recursive,
                create_source: options.create_mountpoint,
                ..Wish::default()
            })
        }
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(bad("field Source must not be specified".to_owned()));
            }
            let mut options = tmpfs_defaults();
            structured_tmpfs(&mut options, mount.tmpfs_options.as_ref());
            if mount.read_only {
                options.push("ro".to_owned());
            }
            Ok(Wish { kind: "tmpfs", target, rw: !mount.read_only, options, ..Wish::default() })
        }
        "volume" => Err(Error::unsupported("named volumes")),
        "image" => Err(Error::unsupported("image mounts")),
        "npipe" | "cluster" => Err(Error::unsupported(format!("mounts of type {}", mount.kind))),
        other => Err(Error::invalid(format!("mount type unknown: \"{other}\""))),
    }
}

fn structured_tmpfs(options: &mut Vec<String>, wish: Option<&TmpfsOptions>) {
    let Some(wish) = wish else { return };
    if wish.size_bytes > 0 {
        options.push(format!("size={}", wish.size_bytes));
    }
    if wish.mode != 0 {
        options.push(format!("mode={:o}", wish.mode));
    }
    for pair in wish.options.iter().flatten() {
        override_option(options, &pair.join("="));
    }
}

fn tmpfs_wish(target: &str, text: &str) -> Result<Wish, Error> {
    let path =
        target_path(target).map_err(|why| Error::invalid(format!("invalid mount config for type \"tmpfs\": {why}")))?;
    let mut options = tmpfs_defaults();
    for option in text.split(',').filter(|o| !o.is_empty()) {
        let name = option.split('=').next().unwrap_or_default();
        let known = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"].contains(&name)
            || TOGGLES.iter().any(|pair| pair.contains(&option));
        if !known {
            return Err(Error::invalid(format!("invalid tmpfs option [\"{option}\"]")));
        }
        override_option(&mut options, option);
    }
    let rw = !options.iter().any(|o| o == "ro");
    Ok(Wish { kind: "tmpfs", target: path, rw, options, mode: text.to_owned(), ..Wish::default() })
}

fn tmpfs_defaults() -> Vec<String> {
    ["noexec", "nosuid", "nodev"].map(str::to_owned).to_vec()
}

/// Options that take each other's place.
const TOGGLES: &[[&str; 2]] = &[
    ["exec", "noexec"],
    ["suid", "nosuid"],
    ["dev", "nodev"],
    ["ro", "rw"],
    ["sync", "async"],
    ["atime", "noatime"],
    ["diratime", "nodiratime"],
    ["relatime", "norelatime"],
    ["strictatime", "nostrictatime"],
];

fn override_option(options: &mut Vec<String>, option: &str) {
    if let Some(pair) = TOGGLES.iter().find(|pair| pair.contains(&option)) {
        options.retain(|o| !pair.contains(&o.as_str()));
    }
    options.push(option.to_owned());
}

fn target_path(target: &str) -> Result<String, &'static str> {
    if !target.starts_with('/') {
        return Err("invalid mount path: mount path must be absolute");
    }
    match clean(target) {
        path if path == "/" => Err("invalid specification: destination can't be '/'"),
        path => Ok(path),
    }
}

/// Resolves `.` and `..` in the text of an absolute path.
pub(crate) fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

impl Wish {
    /// As inspect and lists show it; tmpfs of `--tmpfs` is not shown there.
    pub(crate) fn point(&self) -> MountPoint {
        let propagation =
            if self.kind == "bind" && self.propagation.is_empty() { "rprivate" } else { &self.propagation };
        MountPoint {
            kind: self.kind.to_owned(),
            source: self.source.clone(),
            destination: self.target.clone(),
            mode: self.mode.clone(),
            rw: self.rw,
            propagation: propagation.to_owned(),
            ..MountPoint::default()
        }
    }

    /// Refuses a bind whose source is missing and may not be made.
    pub(crate) fn check_source(&self) -> Result<(), Error> {
        if self.kind != "bind" || self.create_source || Path::new(&self.source).exists() {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {}",
            self.source
        )))
    }

    /// Makes a missing source that `-v` promises to make.
    pub(crate) fn make_source(&self) -> Result<(), Error> {
        let source = Path::new(&self.source);
        if self.kind != "bind" || source.exists() {
            return Ok(());
        }
        self.check_source()?;
        std::fs::create_dir_all(source).map_err(Error::io("create bind source", source))
    }

    /// For the runtime.
    pub(crate) fn oci(&self) -> oci::Mount {
        if self.kind == "tmpfs" {
            return oci::Mount {
                destination: self.target.clone(),
                kind: "tmpfs".to_owned(),
                source: "tmpfs".to_owned(),
                options: self.options.clone(),
                ..oci::Mount::default()
            };
        }
        let mut options = vec![if self.recursive { "rbind" } else { "bind" }.to_owned()];
        if !self.rw {
            let recursive = self.recursive && self.recursive_read_only;
            options.push(if recursive { "rro" } else { "ro" }.to_owned());
        }
        options.push(if self.propagation.is_empty() { "rprivate" } else { &self.propagation }.to_owned());
        oci::Mount {
            destination: self.target.clone(),
            kind: "bind".to_owned(),
            source: self.source.clone(),
            options,
            ..oci::Mount::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(text: &str) -> Result<Wish, String> {
        bind_wish(text).map_err(|e| e.to_string())
    }

    #[test]
    fn binds() {
        let wish = bind("/a/../b:/c/:ro,rslave").unwrap();
        assert_eq!((wish.source.as_str(), wish.target.as_str(), wish.rw), ("/b", "/c", false));
        assert_eq!(wish.oci().options, ["rbind", "rro", "rslave"]);
        assert_eq!(bind("/a:/b").unwrap().oci().options, ["rbind", "rprivate"]);
        for (text, want) in [
            (
                "/a:/",
                "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
            ),
            ("/a:/b:nope", "invalid mode: nope"),
            ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
            (":/b", "invalid volume specification: ':/b'"),
            ("vol:/b", "named volumes (vol) is not implemented"),
        ] {
            assert_eq!(bind(text).unwrap_err(), want);
        }
    }

    #[test]
    fn a_missing_source_is_made_for_v_and_refused_for_mount() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").to_str().unwrap().to_owned();
        let mount = Mount { kind: "bind".into(), source: path.clone(), target: "/x".into(), ..Mount::default() };
        let error = mount_wish(&mount).unwrap().check_source().unwrap_err().to_string();
        assert_eq!(error, format!("invalid mount config for type \"bind\": bind source path does not exist: {path}"));
        bind(&format!("{path}:/x")).unwrap().make_source().unwrap();
        assert!(Path::new(&path).is_dir());
    }

    #[test]
    fn tmpfs_options_override_the_defaults() {
        let wish = tmpfs_wish("/run", "exec,size=64m").unwrap();
        assert_eq!(wish.options, ["nosuid", "nodev", "exec", "size=64m"]);
        assert!(tmpfs_wish("/run", "bogus").is_err());
        assert!(tmpfs_wish("run", "").is_err());
    }

    #[test]
    fn parents_first_and_no_duplicates() {
        let host = HostConfig { binds: Some(vec!["/h:/a/b/c".into(), "/h:/a".into()]), ..HostConfig::default() };
        let targets: Vec<String> = wishes(&host).unwrap().into_iter().map(|w| w.target).collect();
        assert_eq!(targets, ["/a", "/a/b/c"]);
        let host = HostConfig { binds: Some(vec!["/h:/a".into(), "/i:/a/".into()]), ..HostConfig::default() };
        assert_eq!(wishes(&host).unwrap_err().to_string(), "Duplicate mount point: /a");
    }
}
