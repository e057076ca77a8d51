//! Why a container ended: what Budu says beyond Docker. Clients of Docker ignore the member.

use serde::{Deserialize, Serialize};

/// Why a container ended, failed to start or is unwell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Why {
    /// `out-of-memory`, `unhealthy`, `denied-syscall`, `stopped`, `killed`, `crash`, `signal`, `denied`, `exit` or
    /// `start-failed`.
    pub kind: String,
    /// One line.
    pub summary: String,
    /// What is known about it, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// What may help, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<String>,
}
