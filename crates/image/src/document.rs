//! Manifests, indexes and configurations: from bytes somebody sent to values that can be trusted
//! to be well formed.

use budu_spec::Digest;
use budu_spec::image::{ImageConfig, Index, Manifest, media_type};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::Error;

/// Longest manifest, index or configuration read, bytes. Registries commonly accept 4 MiB.
pub(crate) const MAX_DOCUMENT: u64 = 8 << 20;

/// A manifest or an index.
#[derive(Debug)]
pub(crate) enum Document {
    Manifest(Box<Manifest>),
    Index(Box<Index>),
}

/// The fields that tell one kind of document from the other.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

/// The SHA-256 of `bytes`.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

/// Reads a manifest or index that was announced as `announced` (a media type, or empty).
///
/// The same bytes must not be a manifest to one reader and an index to another, so a document
/// that could be both, or that contradicts its announcement, is refused.
pub(crate) fn parse(digest: Digest, bytes: &[u8], announced: &str) -> Result<(Document, String), Error> {
    let invalid = |what, detail: String| Error::Document { what, digest, detail };
    let shape: Shape = serde_json::from_slice(bytes).map_err(|error| invalid("manifest", error.to_string()))?;
    if shape.manifests.is_some() && (shape.layers.is_some() || shape.config.is_some()) {
        return Err(invalid("manifest", "it is both a manifest and an index".into()));
    }
    if shape.schema_version != Some(2)
        || matches!(announced, media_type::DOCKER_SCHEMA1 | media_type::DOCKER_SCHEMA1_SIGNED)
    {
        return Err(invalid("manifest", "its schema version is not 2; older schemas are no longer supported".into()));
    }
    let is_index = shape.manifests.is_some();
    let what = if is_index { "index" } else { "manifest" };
    let fits = |name: &str| {
        if is_index { media_type::is_index(name) } else { media_type::is_manifest(name) }
    };
    let embedded = shape.media_type.unwrap_or_default();
    let known = |name: &str| media_type::is_index(name) || media_type::is_manifest(name);
    for name in [embedded.as_str(), announced] {
        if known(name) && !fits(name) {
            return Err(invalid(what, format!("it is marked as {name}")));
        }
    }
    if known(&embedded) && known(announced) && embedded != announced {
        return Err(invalid(what, format!("it says {embedded} but was served as {announced}")));
    }
    let name = match (known(&embedded), known(announced)) {
        (true, _) => embedded,
        (_, true) => announced.to_owned(),
        _ if is_index => media_type::OCI_INDEX.to_owned(),
        _ => media_type::OCI_MANIFEST.to_owned(),
    };
    let error = |error: serde_json::Error| invalid(what, error.to_string());
    let document = if is_index {
        Document::Index(Box::new(serde_json::from_slice(bytes).map_err(error)?))
    } else {
        Document::Manifest(Box::new(serde_json::from_slice(bytes).map_err(error)?))
    };
    Ok((document, name))
}

/// Reads the configuration of `manifest`, checking that the two agree on the number of layers.
pub(crate) fn parse_config(digest: Digest, bytes: &[u8], layers: usize) -> Result<ImageConfig, Error> {
    let invalid = |detail: String| Error::Document { what: "configuration", digest, detail };
    let config: ImageConfig = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
    let diff_ids = config.rootfs.diff_ids.len();
    if diff_ids != layers {
        return Err(invalid(format!("it names {diff_ids} layers, the manifest {layers}")));
    }
    Ok(config)
}

/// The chain id of each layer: what it is on top of everything below (image-spec, config.md).
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            Some(below) => digest_of(format!("{below} {diff_id}").as_bytes()),
            None => *diff_id,
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, announced: &str) -> Result<bool, String> {
        parse(digest_of(text.as_bytes()), text.as_bytes(), announced)
            .map(|(document, _)| matches!(document, Document::Index(_)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn one_reading_only() {
        let config = format!(r#"{{"mediaType":"c","digest":"sha256:{}","size":1}}"#, "a".repeat(64));
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        let both = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#);
        assert_eq!(check(&manifest, media_type::OCI_MANIFEST), Ok(false));
        assert_eq!(check(&manifest, ""), Ok(false));
        assert_eq!(check(&manifest, "application/json"), Ok(false));
        assert_eq!(check(index, media_type::DOCKER_INDEX), Ok(true));
        assert!(check(&both, media_type::OCI_MANIFEST).is_err());
        assert!(check(&both, media_type::OCI_INDEX).is_err());
        assert!(check(&manifest, media_type::OCI_INDEX).is_err());
        assert!(check(index, media_type::OCI_MANIFEST).is_err());
        assert!(check(r#"{"schemaVersion":1,"fsLayers":[]}"#, "").expect_err("old").contains("schema"));
        for nonsense in ["", "null", "[]", "{}", "{\"schemaVersion\":2}", "\u{0}", &"[".repeat(100_000)] {
            assert!(check(nonsense, "").is_err());
        }
    }

    #[test]
    fn chains() {
        let a = digest_of(b"a");
        let b = digest_of(b"b");
        let chain = chain_ids(&[a, b]);
        assert_eq!(chain[0], a);
        assert_eq!(chain[1], digest_of(format!("{a} {b}").as_bytes()));
    }
}
