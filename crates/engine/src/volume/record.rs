//! What is remembered about a volume.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::size::Limit;

/// Name of the file with a [`Record`], in the volume's directory.
pub(super) const RECORD_FILE: &str = "volume.json";

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// Name; that of the directory, whatever the file says.
    #[serde(skip)]
    pub(crate) name: String,
    /// `local`, or the name of a plugin.
    pub(crate) driver: String,
    /// Unix time of creation, nanoseconds.
    pub(crate) created: i64,
    /// `None` when none were given.
    pub(crate) labels: Option<BTreeMap<String, String>>,
    /// Options of the driver; `None` when none were given.
    pub(crate) options: Option<BTreeMap<String, String>>,
    /// What keeps it to its size.
    pub(crate) limit: Limit,
    /// `local` or `global`, of a plugin's volume; empty for `local`.
    pub(crate) scope: String,
    /// Its name until now, while containers are being told the new one.
    pub(crate) was: Option<String>,
}

impl Record {
    /// An option of the driver; empty when it was not given.
    pub(crate) fn option(&self, key: &str) -> &str {
        self.options.as_ref().and_then(|options| options.get(key)).map_or("", String::as_str)
    }
}
