//! Image references: `[registry/]repository[:tag][@digest]`, with Docker's shorthand rules.
//!
//! `nginx` means `docker.io/library/nginx`; the first component is a registry only when it has
//! a dot, a colon or a capital letter, or is `localhost`. Grammar: distribution reference
//! grammar; names are at most 255 bytes, tags at most 128.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Classified, Digest, ErrorClass};

const DEFAULT_REGISTRY: &str = "docker.io";
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";

/// A parsed and normalised image reference. `Display` prints the full form.
///
/// ```
/// use budu_spec::Reference;
/// let short = Reference::parse("nginx").expect("valid");
/// assert_eq!(short.with_default_tag().to_string(), "docker.io/library/nginx:latest");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference. The texts are the ones Docker's clients look for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The grammar does not match.
    #[error("invalid reference format")]
    Format,
    /// The repository holds capital letters.
    #[error("invalid reference format: repository name ({name}) must be lowercase")]
    Uppercase {
        /// The offending repository.
        name: String,
    },
    /// 64 hexadecimal digits would be taken for an image id.
    #[error("invalid repository name ({name}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId {
        /// The text given.
        name: String,
    },
    /// The name is longer than 255 bytes.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// The digest part has an algorithm other than sha256 or is malformed.
    #[error("invalid reference format: {source}")]
    Digest {
        /// What is wrong with it.
        #[from]
        source: crate::digest::DigestError,
    },
}

impl Classified for ReferenceError {
    fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

impl Reference {
    /// Parses and normalises; no tag is added (see [`Reference::with_default_tag`]).
    ///
    /// # Errors
    /// [`ReferenceError`] says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        if is_64_hex(text) {
            return Err(ReferenceError::LooksLikeId { name: text.to_owned() });
        }
        // Longest possible: name 255, tag 128, digest 71 and separators.
        if text.is_empty() || text.len() > 1024 {
            return Err(ReferenceError::Format);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        // A colon after the last slash starts the tag; one before it belongs to a port.
        let path_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[path_start..].find(':') {
            Some(colon) => {
                let colon = path_start + colon;
                (&rest[..colon], Some(&rest[colon + 1..]))
            }
            None => (rest, None),
        };
        let (registry, repository) = split_name(name)?;
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(ReferenceError::Format);
        }
        Ok(Reference { registry, repository, tag: tag.map(str::to_owned), digest })
    }

    /// The registry's host and optional port, `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The full repository path without the registry: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, when there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Adds `:latest` when there is neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository with this tag and no digest.
    ///
    /// # Errors
    /// [`ReferenceError::Format`] when `tag` is not a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Format);
        }
        Ok(Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository with this digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Registry and repository in full: `docker.io/library/nginx`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Registry and repository as people write them: `nginx`, `someone/app`, `localhost:5000/x`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        match self.repository.strip_prefix(OFFICIAL) {
            // `docker.io/library/library/x` would otherwise lose a component.
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.repository.clone(),
        }
    }

    /// The short form with tag and digest: `nginx:1.27`.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_suffix(&mut text);
        text
    }

    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
    }
}

/// Splits into registry and repository, applying the shorthand rules, and checks both.
fn split_name(name: &str) -> Result<(String, String), ReferenceError> {
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if names_a_registry(first) => (first, path),
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    let repository =
        if registry == DEFAULT_REGISTRY && !path.contains('/') { format!("{OFFICIAL}{path}") } else { path.to_owned() };
    if !is_registry(registry) {
        return Err(ReferenceError::Format);
    }
    if !is_repository(&repository) {
        if is_repository(&repository.to_ascii_lowercase()) {
            return Err(ReferenceError::Uppercase { name: repository });
        }
        return Err(ReferenceError::Format);
    }
    if repository.len() > 255 {
        return Err(ReferenceError::TooLong);
    }
    Ok((registry.to_owned(), repository))
}

fn names_a_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_64_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = tag.as_bytes();
    bytes.len() <= 128
        && bytes.first().is_some_and(|&first| word(first))
        && bytes.iter().all(|&byte| word(byte) || byte == b'.' || byte == b'-')
}

/// `host[:port]`, where host is dotted labels or an IPv6 address in brackets.
fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
                return port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            }
            _ => return false,
        },
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.len() <= 253 && host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// Components of `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, joined by slashes.
fn is_repository(repository: &str) -> bool {
    repository.split('/').all(is_component)
}

fn is_component(component: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
        return false;
    }
    bytes.split(alphanumeric).all(|run| matches!(run, b"" | b"." | b"_" | b"__") || run.iter().all(|&b| b == b'-'))
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        Reference::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name();
        self.push_suffix(&mut text);
        out.write_str(&text)
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_and_shortens() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let with_digest = format!("docker.io/library/nginx@{digest}");
        let both = format!("localhost:5000/a/b:v1@{digest}");
        for (text, full, familiar) in [
            ("nginx", "docker.io/library/nginx", "nginx"),
            ("nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27"),
            ("someone/app", "docker.io/someone/app", "someone/app"),
            ("docker.io/nginx", "docker.io/library/nginx", "nginx"),
            ("index.docker.io/nginx", "docker.io/library/nginx", "nginx"),
            ("docker.io/library/nginx:x", "docker.io/library/nginx:x", "nginx:x"),
            ("library/nginx", "docker.io/library/nginx", "nginx"),
            ("localhost/x", "localhost/x", "localhost/x"),
            ("localhost:5000/x", "localhost:5000/x", "localhost:5000/x"),
            ("127.0.0.1:5000/x/y:T_1.a-b", "127.0.0.1:5000/x/y:T_1.a-b", "127.0.0.1:5000/x/y:T_1.a-b"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
            ("Registry/x", "Registry/x", "Registry/x"),
            ("a.b/c__d/e-----f.g", "a.b/c__d/e-----f.g", "a.b/c__d/e-----f.g"),
            (&format!("nginx@{digest}"), &with_digest, &format!("nginx@{digest}")),
            (&both, &both, &both),
        ] {
            let reference = Reference::parse(text).expect(text);
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(Reference::parse(full).expect(full), reference, "{text} full form");
            assert_eq!(Reference::parse(familiar).expect(familiar), reference, "{text} short form");
        }
    }

    #[test]
    fn adds_latest_only_when_nothing_selects() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let tagged = |text: &str| Reference::parse(text).expect(text).with_default_tag().to_string();
        assert_eq!(tagged("x"), "docker.io/library/x:latest");
        assert_eq!(tagged("x:y"), "docker.io/library/x:y");
        assert_eq!(tagged(&format!("x@{digest}")), format!("docker.io/library/x@{digest}"));
    }

    #[test]
    fn refuses() {
        let long_tag = format!("x:{}", "a".repeat(129));
        for text in [
            "",
            ":",
            ":tag",
            "@",
            "x:",
            "x@",
            "x:a b",
            "-x",
            "x-",
            "x..y",
            "x___y",
            "/x",
            "x/",
            "a//b",
            "../x",
            "x/../y",
            "x:.tag",
            "x:-tag",
            long_tag.as_str(),
            "x@sha256:abc",
            "host:port/x",
            "a.b:/x y",
            "host.:80/x",
            "[::g]/x",
            "[::1/x",
            "ho_st.x/y",
            "x\0",
            "x\n",
            "é",
            "localhost:99999/x",
            "http://x/y",
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?} must be refused");
        }
        let error = |text: &str| Reference::parse(text).expect_err(text).to_string();
        assert_eq!(error("Foo"), "invalid reference format: repository name (library/Foo) must be lowercase");
        assert_eq!(error("x:a b"), "invalid reference format");
        let hex = "a".repeat(64);
        assert_eq!(error(&hex), format!("invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings"));
        assert_eq!(error(&format!("a.b/{}", "x".repeat(256))), "repository name must not be more than 255 characters");
        assert!(Reference::parse("Foo/x").is_ok(), "a capital letter before a slash makes a registry");
    }
}
