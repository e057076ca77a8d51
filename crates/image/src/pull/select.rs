//! Which manifest of what the registry served is the image for a platform.

use budu_spec::Reference;
use budu_spec::image::{Descriptor, Index, Manifest, Platform, media_type};

use crate::document::{Document, parse};
use crate::error::Error;
use crate::registry::client::{Client, Served};

/// Indexes may point at indexes; nobody needs more levels than this.
const MAX_LEVELS: usize = 3;

/// An image chosen for a platform.
#[derive(Debug, Clone)]
pub(super) struct Selected {
    /// What the name points at.
    pub(super) target: Descriptor,
    /// The manifest's own descriptor; the target unless that is an index.
    pub(super) descriptor: Descriptor,
    pub(super) manifest: Manifest,
    /// Every index and manifest on the way, verbatim.
    pub(super) documents: Vec<(Descriptor, Vec<u8>)>,
}

/// Goes from what was served to a manifest, fetching what an index points at.
pub(super) async fn select(
    client: &Client,
    reference: &Reference,
    served: Served,
    platform: Option<&Platform>,
) -> Result<Selected, Error> {
    let mut documents: Vec<(Descriptor, Vec<u8>)> = Vec::new();
    let mut served = served;
    let mut known_as: Option<Descriptor> = None;
    for _ in 0..=MAX_LEVELS {
        let announced = known_as.as_ref().map_or(served.media_type.as_str(), |known| &known.media_type);
        let (document, kind) = parse(served.digest, &served.bytes, announced)?;
        let mut descriptor = Descriptor::new(&kind, served.digest, served.bytes.len() as u64);
        descriptor.platform = known_as.and_then(|known| known.platform);
        documents.push((descriptor.clone(), served.bytes));
        let index = match document {
            Document::Index(index) => index,
            Document::Manifest(manifest) => {
                check_manifest(&descriptor, &manifest)?;
                let target = documents[0].0.clone();
                return Ok(Selected { target, descriptor, manifest: *manifest, documents });
            }
        };
        let chosen = choose(&index, reference, platform)?;
        served = client.manifest(&chosen.digest.to_string()).await?;
        let actual = served.bytes.len() as u64;
        if actual != chosen.size {
            let (digest, expected) = (chosen.digest, chosen.size);
            return Err(Error::SizeMismatch { what: "manifest", digest, expected, actual });
        }
        known_as = Some(chosen);
    }
    Err(Error::Document { what: "index", digest: served.digest, detail: "indexes are nested too deeply".into() })
}

fn check_manifest(descriptor: &Descriptor, manifest: &Manifest) -> Result<(), Error> {
    let kind = manifest.config.media_type.as_str();
    if !kind.is_empty() && !media_type::is_config(kind) {
        return Err(Error::Document {
            what: "manifest",
            digest: descriptor.digest,
            detail: format!("it is not of a container image: its configuration is {kind}"),
        });
    }
    Ok(())
}

/// The entry that serves the platform best; the first of equals.
fn choose(index: &Index, reference: &Reference, platform: Option<&Platform>) -> Result<Descriptor, Error> {
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let usable = |entry: &&Descriptor| {
        entry.media_type.is_empty()
            || media_type::is_manifest(&entry.media_type)
            || media_type::is_index(&entry.media_type)
    };
    // An entry that does not say its platform is taken at its word when nothing says better.
    let distance = |entry: &Descriptor| match &entry.platform {
        Some(platform) => platform.distance(&wanted),
        None => Some(u32::MAX),
    };
    let candidates = index.manifests.iter().filter(usable);
    let best = candidates.filter_map(|entry| Some((distance(entry)?, entry))).min_by_key(|(distance, _)| *distance);
    match best {
        Some((_, entry)) => Ok(entry.clone()),
        None => {
            let platforms = index.manifests.iter().filter_map(|entry| entry.platform.as_ref());
            let known = platforms.filter(|platform| platform.os != "unknown").map(Platform::to_string);
            let mut available: Vec<String> = known.collect();
            available.sort();
            available.dedup();
            Err(Error::NoPlatform {
                platform: wanted.to_string(),
                reference: reference.familiar(),
                available: if available.is_empty() { "nothing".into() } else { available.join(", ") },
            })
        }
    }
}

/// A single manifest has no choice of platform: one asked for by name must be the one it is for;
/// without a wish, a foreign architecture is let through as in Docker (it may be emulated).
pub(super) fn check_platform(reference: &Reference, found: &Platform, wanted: Option<&Platform>) -> Result<(), Error> {
    let host = Platform::host();
    let says_nothing = found.os.is_empty() && found.architecture.is_empty();
    let fits = match wanted {
        Some(wanted) => says_nothing || found.distance(wanted).is_some(),
        None => found.os.is_empty() || found.os == host.os,
    };
    if fits {
        return Ok(());
    }
    Err(Error::PlatformMismatch {
        reference: reference.familiar(),
        found: found.to_string(),
        wanted: wanted.unwrap_or(&host).to_string(),
    })
}
