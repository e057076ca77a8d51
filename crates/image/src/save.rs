//! Images to one archive that both Docker's and OCI's readers understand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};

use budu_spec::image::{Descriptor, Platform};
use budu_spec::{Digest, Reference};
use serde_json::{Value, json};

use crate::collect::Hold;
use crate::error::Error;
use crate::image::ImageId;
use crate::layer::archive::Kind;
use crate::layer::write::{Writer, blank};
use crate::state::{ImageRecord, State, Variant};
use crate::store::{Store, choose_variant, find};

/// Annotation with an image's full name.
pub(crate) const NAME: &str = "io.containerd.image.name";
/// Annotation with an image's tag.
pub(crate) const TAG: &str = "org.opencontainers.image.ref.name";

/// Images about to be written. What they need is kept until this is dropped.
#[derive(Debug)]
pub struct Save {
    store: Store,
    images: Vec<ImageId>,
    documents: Vec<(&'static str, Vec<u8>)>,
    blobs: BTreeSet<Digest>,
    _hold: Hold,
}

impl Store {
    /// Collects images by name or id. A name without tag means all tags of the repository.
    ///
    /// # Errors
    /// [`Error::NotFound`] and the other errors of looking images up; [`Error::NoPlatform`].
    pub fn save(&self, names: &[String], platform: Option<&Platform>) -> Result<Save, Error> {
        let mut hold = Hold::new(&self.inner);
        let (documents, blobs, images) = {
            let mut state = self.inner.state();
            let mut chosen: BTreeMap<Digest, BTreeSet<Reference>> = BTreeMap::new();
            for name in names {
                for (image, reference) in select(&state, name)? {
                    chosen.entry(image).or_default().extend(reference);
                }
            }
            let mut plan = Plan::default();
            for (image, names) in &chosen {
                let record = state.images.get(image).ok_or(Error::NotFound { name: image.to_string() })?;
                plan.add(&state, record, names, platform)?;
            }
            // Before anybody else can remove an image, and its content be collected.
            for digest in &plan.blobs {
                hold.add_in(&mut state, *digest);
            }
            (plan.documents(), plan.blobs, chosen.into_keys().map(ImageId).collect())
        };
        Ok(Save { store: self.clone(), images, documents, blobs, _hold: hold })
    }
}

/// The images that a name means, each with the name it goes by.
fn select(state: &State, name: &str) -> Result<Vec<(Digest, Option<Reference>)>, Error> {
    if let Ok(wish) = Reference::parse(name)
        && wish.tag().is_none()
        && wish.digest().is_none()
    {
        let same = state.names.iter().filter(|(known, _)| known.name() == wish.name() && known.tag().is_some());
        let all: Vec<_> = same.map(|(known, image)| (*image, Some(known.clone()))).collect();
        if !all.is_empty() {
            return Ok(all);
        }
    }
    let found = find(state, name).map_err(|error| match error {
        // Docker says the name as it was given here.
        Error::NotFound { .. } => Error::NotFound { name: name.to_owned() },
        error => error,
    })?;
    Ok(vec![(found.image, found.name.filter(|name| name.tag().is_some()))])
}

#[derive(Default)]
struct Plan {
    /// Entries of `index.json`.
    index: Vec<Value>,
    /// Entries of `manifest.json`.
    manifest: Vec<Value>,
    blobs: BTreeSet<Digest>,
}

impl Plan {
    fn add(
        &mut self,
        state: &State,
        record: &ImageRecord,
        names: &BTreeSet<Reference>,
        platform: Option<&Platform>,
    ) -> Result<(), Error> {
        let chosen = choose_variant(record, platform)?;
        let (target, variants): (&Descriptor, Vec<&Variant>) = match platform {
            Some(_) => (&chosen.manifest, vec![chosen]),
            None => (&record.target, record.variants.iter().collect()),
        };
        self.blobs.insert(target.digest);
        for variant in variants {
            self.blobs.extend([variant.manifest.digest, variant.config.digest]);
            self.blobs.extend(variant.layers.iter().map(|layer| layer.blob.digest));
        }
        self.blobs.retain(|digest| state.blobs.contains(digest));
        let describe = |annotations: Value| {
            let mut entry =
                json!({"mediaType": target.media_type, "digest": target.digest.to_string(), "size": target.size});
            if !annotations.is_null() {
                entry["annotations"] = annotations;
            }
            entry
        };
        if names.is_empty() {
            self.index.push(describe(Value::Null));
        }
        for name in names {
            let tag = name.tag().unwrap_or_default();
            self.index.push(describe(json!({NAME: name.to_string(), TAG: tag})));
        }
        let tags: Vec<String> = names.iter().map(Reference::familiar).collect();
        self.manifest.push(json!({
            "Config": blob_path(&chosen.config.digest),
            "RepoTags": if tags.is_empty() { Value::Null } else { json!(tags) },
            "Layers": chosen.layers.iter().map(|layer| blob_path(&layer.blob.digest)).collect::<Vec<_>>(),
        }));
        Ok(())
    }

    fn documents(&self) -> Vec<(&'static str, Vec<u8>)> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": budu_spec::image::media_type::OCI_INDEX,
            "manifests": self.index,
        });
        let text = |value: &Value| value.to_string().into_bytes();
        vec![
            ("index.json", text(&index)),
            ("manifest.json", text(&Value::Array(self.manifest.clone()))),
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ]
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl Save {
    /// The images that are saved.
    pub fn images(&self) -> &[ImageId] {
        &self.images
    }

    /// Writes the archive. Blocks.
    ///
    /// # Errors
    /// What reading the store or writing to `output` fails with.
    pub fn write<W: Write>(&self, output: W) -> io::Result<W> {
        let mut writer = Writer::new(output);
        for directory in [&b"blobs/"[..], b"blobs/sha256/"] {
            writer.entry(&blank(Kind::Directory, directory, 0o755))?;
        }
        for digest in &self.blobs {
            let file = File::open(self.store.inner.layout.blob(digest))?;
            let mut entry = blank(Kind::File, blob_path(digest).as_bytes(), 0o644);
            entry.size = file.metadata()?.len();
            writer.entry(&entry)?;
            writer.data(file, entry.size)?;
        }
        for (name, bytes) in &self.documents {
            let mut entry = blank(Kind::File, name.as_bytes(), 0o644);
            entry.size = bytes.len() as u64;
            writer.entry(&entry)?;
            writer.data(bytes.as_slice(), entry.size)?;
        }
        writer.finish()
    }
}
