//! `mounts`: words become attributes, parameters and what is mounted.

use std::path::{Path, PathBuf};

use budu_spec::oci;

use super::{Bundle, CompileError, namespaces, wrong};
use crate::mount_options::{self, Options};
use crate::plan::{IdmapPlan, MountPlan, MountSource};

/// Plans one mount of a container with these namespaces of its own.
pub(super) fn mount(
    n: usize,
    config: &oci::Mount,
    own: u64,
    bundle: Option<&Bundle>,
) -> Result<MountPlan, CompileError> {
    let parsed = mount_options::parse(&config.options);
    if config.destination.is_empty() {
        return Err(wrong(format!("mounts[{n}].destination"), "missing"));
    }
    if [&config.destination, &config.source, &config.kind].iter().any(|text| text.contains('\0')) {
        return Err(wrong(format!("mounts[{n}]"), "mount field contains null byte"));
    }
    let idmap = idmap(n, config, &parsed, own)?;
    let (set, clear) = (parsed.set, parsed.clear);
    let (set_recursive, clear_recursive, propagation) =
        (parsed.set_recursive, parsed.clear_recursive, parsed.propagation);
    let source = source(n, config, parsed, bundle)?;
    let target = if config.destination.starts_with('/') {
        config.destination.clone()
    } else {
        format!("/{}", config.destination)
    };
    Ok(MountPlan { target, source, set, clear, set_recursive, clear_recursive, propagation, idmap })
}

/// Whether this puts something of the host at a place instead of a new file system.
pub(super) fn binds(config: &oci::Mount) -> bool {
    config.kind == "bind" || config.options.iter().any(|word| word == "bind" || word == "rbind")
}

fn source(
    n: usize,
    config: &oci::Mount,
    parsed: Options,
    bundle: Option<&Bundle>,
) -> Result<MountSource, CompileError> {
    let bind = parsed.bind.or((config.kind == "bind").then_some(false));
    if bind.is_some() && bundle.is_some() && !parsed.data.is_empty() {
        let reason = "bind mounts cannot have any filesystem-specific options applied";
        return Err(wrong(format!("mounts[{n}].options"), format!("{reason}: {:?}", parsed.data[0].0)));
    }
    if parsed.remount {
        // With `bind`, only the attributes of the mount change, not the file system's instance.
        return Ok(MountSource::Remount { options: if bind.is_some() { Vec::new() } else { remount(parsed) } });
    }
    match (bind, config.kind.as_str()) {
        (Some(recursive), _) => {
            let path = bundle.map_or_else(PathBuf::new, |bundle| bundle.path.clone()).join(&config.source);
            if config.source.is_empty() || !path.is_absolute() {
                return Err(wrong(format!("mounts[{n}].source"), format!("{:?} is not absolute", config.source)));
            }
            Ok(MountSource::Bind { path, recursive })
        }
        (None, "cgroup" | "cgroup2") => Ok(MountSource::Cgroup),
        (None, "") => Err(wrong(format!("mounts[{n}].type"), "missing")),
        (None, kind) => Ok(MountSource::New {
            kind: kind.to_owned(),
            source: config.source.clone(),
            options: instance(&parsed).chain(parsed.data.iter().cloned()).collect(),
            copy_up: parsed.copy_up && kind == "tmpfs",
        }),
    }
}

fn instance(parsed: &Options) -> impl Iterator<Item = (String, Option<String>)> {
    parsed.instance.iter().map(|word| ((*word).to_owned(), None))
}

/// mount(2) changes both the mount and the instance below it when it is made read-only or writable again.
fn remount(parsed: Options) -> Vec<(String, Option<String>)> {
    use budu_sys::mount::attr::RDONLY;
    let word = match (parsed.set & RDONLY != 0, parsed.clear & RDONLY != 0) {
        (true, _) => Some("ro"),
        (false, true) => Some("rw"),
        (false, false) => None,
    };
    let first = word.map(|word| (word.to_owned(), None)).into_iter();
    first.chain(instance(&parsed)).chain(parsed.data.iter().cloned()).collect()
}

/// Maps without the word mean `idmap`; the word without maps means those of the container.
fn idmap(n: usize, config: &oci::Mount, parsed: &Options, own: u64) -> Result<Option<IdmapPlan>, CompileError> {
    let mapped = !config.uid_mappings.is_empty() || !config.gid_mappings.is_empty();
    let Some(recursive) = parsed.idmap.or(mapped.then_some(false)) else { return Ok(None) };
    let reason = if !binds(config) {
        "id-mapped mounts are only supported for bind-mounts"
    } else if config.uid_mappings.is_empty() != config.gid_mappings.is_empty() || !mapped && own & namespaces::USER == 0
    {
        "id-mapped mounts must have both uid and gid mappings specified"
    } else {
        let uid_map = namespaces::map(&format!("mounts[{n}].uidMappings"), &config.uid_mappings)?;
        let gid_map = namespaces::map(&format!("mounts[{n}].gidMappings"), &config.gid_mappings)?;
        return Ok(Some(IdmapPlan { uid_map, gid_map, recursive }));
    };
    Err(wrong(format!("mounts[{n}]"), reason))
}

/// Whether `path` is `place`, once superfluous slashes and dots are gone.
pub(super) fn is(path: &str, place: &str) -> bool {
    Path::new("/").join(path).components().eq(Path::new(place).components())
}
