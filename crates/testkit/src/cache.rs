//! Where things that are slow to make are kept between runs.

use std::path::PathBuf;

/// Directory for test images, peers and tools: `BUDU_CACHE`, else `~/.cache/budu`.
pub fn cache_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("BUDU_CACHE") {
        return PathBuf::from(dir);
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    home.join(".cache/budu")
}
