//! What a request asks for in its three spellings, checked; Docker's texts.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use budu_spec::docker::{HostConfig, Mount};

use super::{Below, Kind, Point, clean, id_map, tmpfs};
use crate::Error;
use crate::volume;

const PROPAGATIONS: &[&str] = &["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// One mount a user asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// The mount; of a volume that is still to be made, without driver and source.
    pub(super) point: Point,
    /// The volume that may have to be made.
    pub(super) volume: volume::Wish,
    /// Fill the volume when it is empty.
    pub(super) copy: bool,
    /// A volume keeps the mode as it was given; others get Docker's default.
    pub(super) propagation_given: bool,
}

/// Refuses what cannot be mounted. Sources of bind mounts that may not be made must exist.
pub(crate) fn check(host: &HostConfig) -> Result<(), Error> {
    for wish in wishes(host)? {
        let point = &wish.point;
        if point.kind == Kind::Bind && !point.create_source && !Path::new(&point.source).exists() {
            return Err(missing_source(&point.source));
        }
    }
    for from in host.volumes_from.iter().flatten() {
        volumes_from(from)?;
    }
    Ok(())
}

pub(super) fn missing_source(source: &str) -> Error {
    Error::invalid(format!("invalid mount config for type \"bind\": bind source path does not exist: {source}"))
}

/// Lists the mounts of a request, those of `--tmpfs` last.
pub(super) fn wishes(host: &HostConfig) -> Result<Vec<Wish>, Error> {
    let mut list = Vec::new();
    let mut seen = BTreeSet::new();
    let tmpfs: Vec<Wish> = host.tmpfs.iter().flatten().map(|(t, o)| tmpfs_wish(t, o)).collect::<Result<_, _>>()?;
    let twice = |target: &str| Err(Error::invalid(format!("Duplicate mount point: {target}")));
    for bind in host.binds.iter().flatten() {
        let wish = bind_wish(bind, &host.volume_driver)?;
        let target = &wish.point.target;
        if tmpfs.iter().any(|other| other.point.target == *target) || !seen.insert(target.clone()) {
            return twice(target);
        }
        list.push(wish);
    }
    for mount in host.mounts.iter().flatten() {
        let wish = mount_wish(mount)?;
        if !seen.insert(wish.point.target.clone()) {
            return twice(&mount.target);
        }
        list.push(wish);
    }
    list.extend(tmpfs);
    Ok(list)
}

/// Whose mounts to take over, and whether writable.
pub(super) fn volumes_from(text: &str) -> Result<(&str, bool), Error> {
    if text.is_empty() {
        return Err(Error::invalid("volumes-from specification cannot be an empty string"));
    }
    let (name, mode) = text.split_once(':').unwrap_or((text, ""));
    let words = Words::parse(mode).filter(|words| words.propagation.is_empty() && !words.no_copy);
    match words {
        Some(words) => Ok((name, !words.read_only)),
        None => Err(Error::invalid(format!("invalid mode: {mode}"))),
    }
}

/// The mode of a bind, sorted.
#[derive(Debug, Default)]
struct Words<'a> {
    read_only: bool,
    propagation: &'a str,
    no_copy: bool,
    id_map: &'a str,
}

impl Words<'_> {
    /// `None` for a mode with an unknown word, or with two of a kind.
    fn parse(mode: &str) -> Option<Words<'_>> {
        let mut words = Words::default();
        if mode.is_empty() {
            return Some(words);
        }
        let mut kinds = BTreeSet::new();
        for word in mode.split(',') {
            let kind = match word {
                "ro" | "rw" => {
                    words.read_only = word == "ro";
                    "access"
                }
                "z" | "Z" => "label",
                "nocopy" => {
                    words.no_copy = true;
                    "copy"
                }
                "consistent" | "cached" | "delegated" => "consistency",
                word if PROPAGATIONS.contains(&word) => {
                    words.propagation = word;
                    "propagation"
                }
                word => {
                    words.id_map = id_map::word(word)?;
                    "idmap"
                }
            };
            if !kinds.insert(kind) {
                return None;
            }
        }
        Some(words)
    }
}

fn bind_wish(text: &str, driver: &str) -> Result<Wish, Error> {
    let bad = |why: &str| {
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        Error::invalid(format!("invalid volume specification: '{text}'{why}"))
    };
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    let (source, target, mode) = match parts[..] {
        ["", ..] => return Err(bad("")),
        [target] => ("", target, ""),
        // A place and a mode are no volume.
        [_, mode] if Words::parse(mode).is_some() => return Err(bad("")),
        [source, target] => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => return Err(bad("")),
    };
    let words = Words::parse(mode).ok_or_else(|| Error::invalid(format!("invalid mode: {mode}")))?;
    let kind = if source.starts_with('/') { Kind::Bind } else { Kind::Volume };
    let config = |why: &str| bad(&format!("invalid mount config for type \"{}\": {why}", kind.word()));
    let extra = match kind {
        Kind::Bind if words.no_copy => "VolumeOptions",
        Kind::Volume if !words.propagation.is_empty() || !words.id_map.is_empty() => "BindOptions",
        _ => "",
    };
    if !extra.is_empty() {
        return Err(config(&format!("field {extra} must not be specified")));
    }
    let target = target_path(target).map_err(|why| config(&why))?;
    let point = Point { kind, target, mode: mode.to_owned(), rw: !words.read_only, ..Point::default() };
    if kind == Kind::Volume {
        let point = Point { name: source.to_owned(), anonymous: source.is_empty(), ..point };
        let volume = volume::Wish { name: source.to_owned(), driver: driver.to_owned(), ..volume::Wish::default() };
        return Ok(Wish { point, volume, copy: !words.no_copy, propagation_given: false });
    }
    let point = Point {
        source: clean(source),
        propagation: or_private(words.propagation),
        create_source: true,
        id_map: words.id_map.to_owned(),
        ..point
    };
    Ok(Wish { point, propagation_given: !words.propagation.is_empty(), ..Wish::default() })
}

fn or_private(propagation: &str) -> String {
    if propagation.is_empty() { "rprivate" } else { propagation }.to_owned()
}

fn mount_wish(mount: &Mount) -> Result<Wish, Error> {
    let bad = |why: String| Error::invalid(format!("invalid mount config for type \"{}\": {why}", mount.kind));
    for (options, kind, given) in [
        ("BindOptions", "bind", mount.bind_options.is_some()),
        ("VolumeOptions", "volume", mount.volume_options.is_some()),
        ("ImageOptions", "image", mount.image_options.is_some()),
        ("TmpfsOptions", "tmpfs", mount.tmpfs_options.is_some()),
    ] {
        if given && mount.kind != kind {
            return Err(bad(format!("field {options} must not be specified")));
        }
    }
    if mount.target.is_empty() {
        return Err(bad("field Target must not be empty".to_owned()));
    }
    let target = target_path(&mount.target).map_err(bad)?;
    let point = Point { target, rw: !mount.read_only, ..Point::default() };
    match mount.kind.as_str() {
        "bind" => bind_mount(mount, point).map_err(bad),
        "volume" => volume_mount(mount, point).map_err(bad),
        "image" => image_mount(mount, point).map_err(bad),
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(bad("field Source must not be specified".to_owned()));
            }
            let options = tmpfs::structured(mount.tmpfs_options.as_ref(), mount.read_only).map_err(bad)?;
            Ok(Wish { point: Point { kind: Kind::Tmpfs, options, ..point }, ..Wish::default() })
        }
        "npipe" | "cluster" => Err(Error::unsupported(format!("mounts of type {}", mount.kind))),
        _ => Err(bad("mount type unknown".to_owned())),
    }
}

fn bind_mount(mount: &Mount, point: Point) -> Result<Wish, String> {
    if mount.source.is_empty() {
        return Err("field Source must not be empty".to_owned());
    }
    let options = mount.bind_options.clone().unwrap_or_default();
    if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
        return Err(format!("invalid propagation mode: {}", options.propagation));
    }
    if !mount.source.starts_with('/') {
        return Err(format!("invalid mount path: '{}' mount path must be absolute", mount.source));
    }
    let (no, yes) = (options.read_only_non_recursive, options.read_only_force_recursive);
    let conflict = |what: &str| Err(format!("mount options conflict: {what}"));
    if !mount.read_only && no {
        return conflict("!ReadOnly && BindOptions.ReadOnlyNonRecursive");
    }
    if !mount.read_only && yes {
        return conflict("!ReadOnly && BindOptions.ReadOnlyForceRecursive");
    }
    if no && yes {
        return conflict("ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive");
    }
    let point = Point {
        kind: Kind::Bind,
        source: clean(&mount.source),
        propagation: or_private(&options.propagation),
        flat: options.non_recursive,
        below: if no { Below::AsIs } else { Below::ReadOnly },
        create_source: options.create_mountpoint,
        id_map: id_map::value(&options.id_map).ok_or_else(|| format!("invalid id map: {}", options.id_map))?.to_owned(),
        ..point
    };
    Ok(Wish { point, propagation_given: !options.propagation.is_empty(), ..Wish::default() })
}

fn volume_mount(mount: &Mount, point: Point) -> Result<Wish, String> {
    let options = mount.volume_options.clone().unwrap_or_default();
    let anonymous = mount.source.is_empty();
    if !options.subpath.is_empty() {
        if anonymous {
            return Err("must not set Subpath when using anonymous volumes".to_owned());
        }
        inside(&options.subpath)?;
    }
    let driver = options.driver_config.unwrap_or_default();
    let volume = volume::Wish {
        name: mount.source.clone(),
        driver: driver.name,
        options: driver.options,
        labels: options.labels,
    };
    let point = Point { kind: Kind::Volume, name: mount.source.clone(), anonymous, subpath: options.subpath, ..point };
    Ok(Wish { point, volume, copy: !options.no_copy, propagation_given: false })
}

fn image_mount(mount: &Mount, point: Point) -> Result<Wish, String> {
    if mount.source.is_empty() {
        return Err("field Source must not be empty".to_owned());
    }
    let subpath = mount.image_options.clone().unwrap_or_default().subpath;
    inside(&subpath)?;
    let propagation = or_private("");
    let name = mount.source.clone();
    let point = Point { kind: Kind::Image, name, subpath, propagation, rw: false, ..point };
    Ok(Wish { point, ..Wish::default() })
}

/// Refuses a path that leads out by its text alone; links are seen to when it is mounted.
fn inside(subpath: &str) -> Result<(), String> {
    let mut depth = 0;
    for part in Path::new(subpath).components() {
        depth += match part {
            Component::Normal(_) => 1,
            Component::CurDir => 0,
            Component::ParentDir if depth > 0 => -1,
            _ => return Err("subpath must be a relative path within the volume".to_owned()),
        };
    }
    Ok(())
}

fn tmpfs_wish(target: &str, text: &str) -> Result<Wish, Error> {
    let path = target_path(target).map_err(Error::invalid)?;
    let options = tmpfs::plain(text).map_err(Error::invalid)?;
    let rw = !options.iter().any(|o| o == "ro");
    let mode = text.to_owned();
    let point = Point { kind: Kind::Tmpfs, target: path, rw, options, mode, hidden: true, ..Point::default() };
    Ok(Wish { point, ..Wish::default() })
}

fn target_path(target: &str) -> Result<String, String> {
    if !target.starts_with('/') {
        return Err(format!("invalid mount path: '{target}' mount path must be absolute"));
    }
    match clean(target) {
        path if path == "/" => Err("invalid specification: destination can't be '/'".to_owned()),
        path => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(text: &str) -> Result<Point, String> {
        bind_wish(text, "").map(|wish| wish.point).map_err(|e| e.to_string())
    }

    fn mount(json: &str) -> Result<Wish, String> {
        mount_wish(&serde_json::from_str(json).unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn binds() {
        let point = bind("/a/../b:/c/:ro,rslave").unwrap();
        assert_eq!((point.source.as_str(), point.target.as_str(), point.rw), ("/b", "/c", false));
        assert_eq!(point.propagation, "rslave");
        let point = bind("data:/c:ro,z").unwrap();
        assert_eq!((point.kind, point.name.as_str(), point.mode.as_str()), (Kind::Volume, "data", "ro,z"));
        assert!(bind("/c").unwrap().anonymous && !point.anonymous);
        assert!(!bind_wish("data:/c:nocopy", "").unwrap().copy);
        assert_eq!(bind_wish("data:/c", "ssh").unwrap().volume.driver, "ssh");
        for (text, want) in [
            (
                "/a:/",
                "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
            ),
            (
                "data:c",
                "invalid volume specification: 'data:c': invalid mount config for type \"volume\": invalid mount path: 'c' mount path must be absolute",
            ),
            ("/a:/b:nope", "invalid mode: nope"),
            ("/a:/b:ro,rw", "invalid mode: ro,rw"),
            ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
            (":/b", "invalid volume specification: ':/b'"),
            ("/b:ro", "invalid volume specification: '/b:ro'"),
            (
                "data:/b:shared",
                "invalid volume specification: 'data:/b:shared': invalid mount config for type \"volume\": field BindOptions must not be specified",
            ),
        ] {
            assert_eq!(bind(text).unwrap_err(), want);
        }
    }

    #[test]
    fn structured_mounts() {
        let wish = mount(
            r#"{"Type":"volume","Source":"data","Target":"/d","VolumeOptions":{"NoCopy":true,"Subpath":"a/../b","DriverConfig":{"Options":{"size":"1m"}}}}"#,
        )
        .unwrap();
        assert_eq!((wish.point.subpath.as_str(), wish.copy), ("a/../b", false));
        assert_eq!(wish.volume.options.unwrap()["size"], "1m");
        for (json, want) in [
            (r#"{"Type":"volume"}"#, "invalid mount config for type \"volume\": field Target must not be empty"),
            (
                r#"{"Type":"volume","Source":"a1","Target":"/x","VolumeOptions":{"Subpath":"../x"}}"#,
                "invalid mount config for type \"volume\": subpath must be a relative path within the volume",
            ),
            (
                r#"{"Type":"volume","Target":"/x","VolumeOptions":{"Subpath":"x"}}"#,
                "invalid mount config for type \"volume\": must not set Subpath when using anonymous volumes",
            ),
            (
                r#"{"Type":"bind","Source":"/x","Target":"/x","VolumeOptions":{}}"#,
                "invalid mount config for type \"bind\": field VolumeOptions must not be specified",
            ),
            (
                r#"{"Type":"tmpfs","Source":"/x","Target":"/x"}"#,
                "invalid mount config for type \"tmpfs\": field Source must not be specified",
            ),
            (r#"{"Type":"nope","Target":"/x"}"#, "invalid mount config for type \"nope\": mount type unknown"),
        ] {
            assert_eq!(mount(json).unwrap_err(), want, "{json}");
        }
    }

    #[test]
    fn no_two_mounts_at_one_place() {
        let host = HostConfig { binds: Some(vec!["/h:/a".into(), "/i:/a/".into()]), ..HostConfig::default() };
        assert_eq!(wishes(&host).unwrap_err().to_string(), "Duplicate mount point: /a");
    }

    #[test]
    fn whose_mounts() {
        assert_eq!(volumes_from("web").unwrap(), ("web", true));
        assert_eq!(volumes_from("web:ro").unwrap(), ("web", false));
        assert_eq!(volumes_from("web:nocopy").unwrap_err().to_string(), "invalid mode: nocopy");
    }
}
