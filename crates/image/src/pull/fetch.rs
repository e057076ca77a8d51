//! One layer of one pull: asynchronous bytes on this side, blocking work on the other, a bounded
//! channel between.

use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use budu_spec::Digest;
use tokio::sync::Semaphore;

use super::{Report, blocking};
use crate::collect::Hold;
use crate::error::Error;
use crate::ingest::{Staged, receive, unpack_stored};
use crate::progress::LayerStep;
use crate::registry::client::Client;
use crate::registry::download::{Watch, download};
use crate::state::LayerUse;
use crate::store::Inner;

/// Pieces waiting between network and disk; a piece is at most some 100 KiB.
const PIECES: usize = 16;
/// Byte counts are shown no more often than this.
const HINT: Duration = Duration::from_millis(100);

pub(super) struct Fetch {
    pub(super) inner: Arc<Inner>,
    pub(super) client: Arc<Client>,
    pub(super) report: Report,
    pub(super) permits: Arc<Semaphore>,
    pub(super) layer: LayerUse,
    /// False when only the blob is missing.
    pub(super) unpack: bool,
    pub(super) hold: Arc<Hold>,
}

impl Fetch {
    pub(super) async fn run(self) -> Result<Option<Staged>, Error> {
        // Whoever wants the same blob waits, and then finds it in the store.
        let transfer = self.inner.transfer(&self.layer.blob.digest);
        let _alone = transfer.lock().await;
        let _permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                self.report.layer(&self.layer, LayerStep::Waiting).await;
                let what = || format!("layer {}", self.layer.blob.digest);
                self.permits.acquire().await.map_err(|_| Error::Canceled { what: what() })?
            }
        };
        let stored = self.inner.state().blobs.contains(&self.layer.blob.digest);
        let staged = match (stored, self.unpack) {
            (false, _) => self.transfer().await?,
            (true, true) => {
                let (inner, layer, hold) = self.shared();
                let work = move || {
                    let _hold = hold;
                    unpack_stored(&inner, &layer)
                };
                Some(blocking(work).await??)
            }
            (true, false) => None,
        };
        self.report.layer(&self.layer, LayerStep::DownloadComplete).await;
        if staged.is_none() {
            self.report.layer(&self.layer, LayerStep::PullComplete).await;
        }
        Ok(staged)
    }

    fn shared(&self) -> (Arc<Inner>, LayerUse, Arc<Hold>) {
        (Arc::clone(&self.inner), self.layer.clone(), Arc::clone(&self.hold))
    }

    async fn transfer(&self) -> Result<Option<Staged>, Error> {
        let (sink, source) = tokio::sync::mpsc::channel(PIECES);
        let (inner, layer, hold) = self.shared();
        let unpack = self.unpack;
        // The hold goes along: a pull that is given up leaves this thread running to its end.
        let work = tokio::task::spawn_blocking(move || {
            let _hold = hold;
            receive(&inner, &layer, source, unpack)
        });
        let options = &self.inner.options();
        let mut watch = Watcher { fetch: self, last: Instant::now() };
        let (attempts, pause) = (options.max_download_attempts.max(1), options.retry_pause);
        let downloaded = download(&self.client, &self.layer.blob, attempts, pause, sink, &mut watch).await;
        if matches!(downloaded, Ok(true)) {
            self.report.layer(&self.layer, LayerStep::VerifyingChecksum).await;
        }
        let received = work.await.map_err(|error| Error::Canceled { what: error.to_string() })?;
        match (downloaded, received) {
            // The network's error comes first: the other side only saw the bytes end.
            (Err(error), _) => Err(error),
            (Ok(_), received) => received,
        }
    }
}

struct Watcher<'a> {
    fetch: &'a Fetch,
    last: Instant,
}

impl Watch for Watcher<'_> {
    fn received(&mut self, bytes: u64) {
        let total = self.fetch.layer.blob.size;
        if bytes < total && self.last.elapsed() < HINT {
            return;
        }
        self.last = Instant::now();
        self.fetch.report.hint(&self.fetch.layer, LayerStep::Downloading { current: bytes, total });
    }

    fn retrying(&mut self, pause: Duration) {
        let step = LayerStep::Retrying { seconds: pause.as_secs() };
        self.fetch.report.hint(&self.fetch.layer, step);
    }
}

impl Inner {
    /// The lock of one blob's transfer.
    fn transfer(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut transfers = self.transfers.lock().unwrap_or_else(PoisonError::into_inner);
        transfers.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = transfers.get(digest).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        transfers.insert(*digest, Arc::downgrade(&lock));
        lock
    }
}
