//! Which handler answers which path.
//!
//! Names of images may contain slashes, so a `{name}` in the middle of a
//! pattern takes as many path segments as fit; the first pattern that fits
//! wins.

use hyper::Method;

use crate::routes::Handler;

/// One line of the route table.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: Method,
    /// `/containers/{id}/json`; at most one name.
    pub(crate) pattern: &'static str,
    pub(crate) handler: Handler,
}

/// Finds the route of a path (without version) and its name, still percent-encoded.
pub(crate) fn find<'r, 'p>(
    routes: &'r [Route],
    method: &Method,
    path: &'p str,
) -> Option<(&'r Route, Option<&'p str>)> {
    routes.iter().filter(|r| r.method == *method).find_map(|r| Some((r, fit(r.pattern, path)?)))
}

/// `Some(name)` when the path fits.
fn fit<'p>(pattern: &str, path: &'p str) -> Option<Option<&'p str>> {
    let Some((before, rest)) = pattern.split_once('{') else {
        return (pattern == path).then_some(None);
    };
    let after = rest.split_once('}').map_or("", |(_, after)| after);
    let name = path.strip_prefix(before)?.strip_suffix(after)?;
    let whole = !name.is_empty() && !name.starts_with('/') && !name.ends_with('/');
    whole.then_some(Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path, want) in [
            ("/info", "/info", Some(None)),
            ("/info", "/info/", None),
            ("/containers/{id}/json", "/containers/web/json", Some(Some("web"))),
            ("/containers/{id}/json", "/containers/json", None),
            ("/images/{name}/json", "/images/localhost:5000/a/b:1/json", Some(Some("localhost:5000/a/b:1"))),
            ("/images/{name}", "/images/a/b", Some(Some("a/b"))),
            ("/images/{name}", "/images/", None),
            ("/images/{name}/json", "/images//json", None),
        ] {
            assert_eq!(fit(pattern, path), want, "{pattern} {path}");
        }
    }
}
