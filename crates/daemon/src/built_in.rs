//! The image `hello`, part of the binary: something to run without a network.

use budu_engine::Engine;
use budu_spec::Reference;
use budu_spec::image::{History, ImageConfig, Platform, RunConfig};

/// Its name.
const NAME: &str = "hello";
/// Where its program lies.
const PATH: &str = "/hello";
/// Executable by everybody.
const MODE: u32 = 0o755;

/// The program of the embedded image.
pub(crate) struct BuiltIn(&'static [u8]);

impl std::fmt::Debug for BuiltIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BuiltIn({} bytes)", self.0.len())
    }
}

impl BuiltIn {
    pub(crate) fn new(program: &'static [u8]) -> BuiltIn {
        BuiltIn(program)
    }

    /// Whether `name` means the embedded image.
    pub(crate) fn is(&self, name: &str) -> bool {
        !self.0.is_empty() && (name == NAME || name == "hello:latest")
    }

    /// Puts the image into the store when `name` means it and it is not
    /// there. It is a real image then: listed, inspected, removed like others.
    pub(crate) fn provide(&self, engine: &Engine, name: &str) -> Result<(), budu_image::Error> {
        if !self.is(name) || engine.images().resolve(name).is_ok() {
            return Ok(());
        }
        let reference: Reference = NAME.parse()?;
        let image =
            engine.images().import_built_in(&reference.with_default_tag(), config(), &[(PATH, MODE, self.0)])?;
        let attributes = [("name".to_owned(), "hello:latest".to_owned())].into();
        engine.events().publish("image", "import", &image.id.to_string(), attributes);
        Ok(())
    }
}

fn config() -> ImageConfig {
    let platform = Platform::host();
    ImageConfig {
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        config: RunConfig {
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            cmd: Some(vec![PATH.to_owned()]),
            working_dir: "/".to_owned(),
            ..RunConfig::default()
        },
        history: vec![History { created_by: "built into budu".to_owned(), ..History::default() }],
        ..ImageConfig::default()
    }
}
