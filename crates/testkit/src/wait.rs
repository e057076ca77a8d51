//! Waiting for something that announces itself only by being there.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `probe` until it returns a value; fails with `what` after `limit`.
///
/// For conditions with no event to wait on (a socket appears, a process is gone); looks every 5 ms.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if start.elapsed() > limit {
            bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
