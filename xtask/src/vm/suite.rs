//! What can be run in the guest.

use anyhow::{Result, bail};

/// A group of tests that is asked for by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Suite {
    /// The test programs of one package of the workspace.
    Package {
        /// As the user names it.
        name: &'static str,
        /// As cargo names it.
        package: &'static str,
    },
    /// The script `engine.sh` with the released binary.
    Engine,
    /// The end-to-end tests whose names contain the filter.
    EndToEnd(String),
}

const PACKAGES: [Suite; 3] = [
    Suite::Package { name: "sys", package: "budu-sys" },
    Suite::Package { name: "runtime", package: "budu-runtime" },
    Suite::Package { name: "network", package: "budu-network" },
];

impl Suite {
    /// What runs when nothing is named.
    pub(super) fn usual() -> Vec<Suite> {
        PACKAGES.into_iter().chain([Suite::Engine]).collect()
    }

    /// By the user's name.
    pub(super) fn parse(text: &str) -> Result<Suite> {
        let (name, filter) = text.split_once(':').unwrap_or((text, ""));
        if name == "e2e" {
            return Ok(Suite::EndToEnd(filter.to_owned()));
        }
        let Some(suite) = Suite::usual().into_iter().find(|suite| suite.name() == text) else {
            bail!("there is no suite {text:?}: want sys, runtime, network, engine or e2e[:FILTER]");
        };
        Ok(suite)
    }

    /// The user's name, and the first part of the names of its programs in the guest.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Suite::Package { name, .. } => name,
            Suite::Engine => "engine",
            Suite::EndToEnd(_) => "e2e",
        }
    }

    /// Whether it needs the product's own binary.
    pub(super) fn needs_binary(&self) -> bool {
        !matches!(self, Suite::Package { .. })
    }
}
