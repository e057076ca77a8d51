//! Docker's rules about paths of `cp`: what a slash or `/.` at the end says, and what a copy is called.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// Takes `.` and `..` out of a path as text.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// Whether a path means what is in a directory: `.` or `…/.`.
pub(crate) fn is_contents(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

/// Whether a path can only mean a directory.
pub(crate) fn asserts_directory(path: &str) -> bool {
    path.ends_with('/') || is_contents(path)
}

/// Directory and name; the name is `.` when the contents are meant.
pub(crate) fn split(path: &str) -> (String, String) {
    let cleaned = clean(path);
    if is_contents(path) {
        return (cleaned, ".".to_owned());
    }
    match cleaned.rsplit_once('/') {
        Some((_, "")) => ("/".to_owned(), "/".to_owned()),
        Some(("", name)) => ("/".to_owned(), name.to_owned()),
        Some((parent, name)) => (parent.to_owned(), name.to_owned()),
        None => (".".to_owned(), cleaned),
    }
}

/// The last component of a path.
pub(crate) fn base(path: &str) -> String {
    let trimmed = path.trim_end_matches('/');
    match (path.is_empty(), trimmed.is_empty()) {
        (true, _) => ".".to_owned(),
        (_, true) => "/".to_owned(),
        _ => trimmed.rsplit('/').next().unwrap_or(trimmed).to_owned(),
    }
}

/// Puts back what `original` said at its end.
pub(crate) fn keep_end(cleaned: &str, original: &str) -> String {
    let mut path = cleaned.to_owned();
    if is_contents(original) && !is_contents(&path) {
        if !path.ends_with('/') {
            path.push('/');
        }
        path.push('.');
    }
    if original.ends_with('/') && !path.ends_with('/') {
        path.push('/');
    }
    path
}

/// A path from the root of the file system, its end kept.
pub(crate) fn absolute(path: &str) -> Result<String, Error> {
    let here = std::env::current_dir()?;
    let full: PathBuf = here.join(path);
    let text = full.to_str().ok_or_else(|| Error::new("paths that are no text are not supported"))?;
    Ok(keep_end(&clean(text), path))
}

/// One side of a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its path.
    pub(crate) path: String,
    /// Something is there.
    pub(crate) exists: bool,
    /// It is a directory.
    pub(crate) is_dir: bool,
    /// What the source shall be called instead of its own name, after links were followed.
    pub(crate) rename: Option<String>,
}

/// Where an archive goes, and what its first name is changed to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// An existing directory.
    pub(crate) directory: String,
    /// New first name; the source's own without.
    pub(crate) name: Option<String>,
}

/// Decides what a copy is called.
pub(crate) fn plan(source: &Place, target: &Place) -> Result<Plan, Error> {
    if target.exists && target.is_dir {
        return Ok(Plan { directory: target.path.clone(), name: None });
    }
    if target.exists && source.is_dir {
        return Err(Error::new("cannot copy directory"));
    }
    if !target.exists && !source.is_dir && asserts_directory(&target.path) {
        return Err(Error::new("no such directory"));
    }
    let (directory, name) = split(&target.path);
    Ok(Plan { directory, name: Some(name) })
}

/// Looks at a local source. With `follow` a link at its end is followed; it keeps its name.
pub(crate) fn source(path: &str, follow: bool) -> Result<Place, Error> {
    let failed = |error: std::io::Error| Error::new(format_args!("lstat {path}: {}", crate::error::os_text(&error)));
    let text = |path: PathBuf| {
        path.into_os_string().into_string().map_err(|_| Error::new("paths that are no text are not supported"))
    };
    let (resolved, rename) = if follow {
        let real = text(std::fs::canonicalize(path).map_err(failed)?)?;
        let real = keep_end(&real, path);
        let rename = (base(path) != base(&real)).then(|| base(path));
        (real, rename)
    } else {
        let (parent, name) = split(path);
        let parent = text(std::fs::canonicalize(parent).map_err(failed)?)?;
        let joined = if name == "/" { parent } else { format!("{}/{name}", parent.trim_end_matches('/')) };
        (keep_end(&joined, path), None)
    };
    let state = std::fs::symlink_metadata(&resolved).map_err(failed)?;
    Ok(Place { path: resolved, exists: true, is_dir: state.is_dir(), rename })
}

/// Looks at a local destination; a link is followed, also to what is not there yet.
pub(crate) fn destination(path: &str) -> Result<Place, Error> {
    let mut path = path.to_owned();
    for _ in 0..10 {
        match std::fs::symlink_metadata(&path) {
            Ok(state) if state.is_symlink() => {
                let target = std::fs::read_link(&path)?;
                let parent = Path::new(&path).parent().unwrap_or(Path::new("/")).join(target);
                let text = parent.to_str().ok_or_else(|| Error::new("paths that are no text are not supported"))?;
                path = keep_end(&clean(text), &path);
            }
            Ok(state) => return Ok(Place { path, exists: true, is_dir: state.is_dir(), rename: None }),
            Err(_) => {
                let (parent, _) = split(&path);
                if !Path::new(&parent).is_dir() {
                    return Err(Error::new(format_args!("invalid output path: directory \"{parent}\" does not exist")));
                }
                return Ok(Place { path, exists: false, is_dir: false, rename: None });
            }
        }
    }
    Err(Error::new(format_args!("too many symlinks in {path:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, parent, name) in [
            ("/a/b", "/a", "b"),
            ("/a/b/", "/a", "b"),
            ("/a/.", "/a", "."),
            ("/", "/", "/"),
            ("x", ".", "x"),
            (".", ".", "."),
            ("a/../b/c", "b", "c"),
        ] {
            assert_eq!(split(path), (parent.to_owned(), name.to_owned()), "{path}");
        }
        assert_eq!(keep_end("/a", "x/."), "/a/.");
        assert_eq!(keep_end("/a", "x/"), "/a/");
    }

    #[test]
    fn names_of_copies() {
        let place = |path: &str, exists, is_dir| Place { path: path.to_owned(), exists, is_dir, rename: None };
        let (dir, file) = (place("/s", true, true), place("/s", true, false));
        let there = |name: Option<&str>, directory: &str| {
            Ok::<_, String>(Plan { directory: directory.to_owned(), name: name.map(str::to_owned) })
        };
        for (source, target, want) in [
            (&dir, place("/d", true, true), there(None, "/d")),
            (&dir, place("/d", true, false), Err("cannot copy directory".to_owned())),
            (&file, place("/d/f", true, false), there(Some("f"), "/d")),
            (&dir, place("/d/new/", false, false), there(Some("new"), "/d")),
            (&file, place("/d/new/", false, false), Err("no such directory".to_owned())),
            (&file, place("/d/new", false, false), there(Some("new"), "/d")),
        ] {
            assert_eq!(plan(source, &target).map_err(|error| error.to_string()), want, "{target:?}");
        }
    }
}
