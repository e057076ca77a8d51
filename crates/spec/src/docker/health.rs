//! Health checks and what they came to.

use serde::{Deserialize, Serialize};

/// Health check; durations in nanoseconds, zero means inherit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `[]`, `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    /// Time between probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// Time a probe may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// Time in which failures do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<i64>,
    /// Time between probes in the start period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<i64>,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<i64>,
}

/// Health of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `none starting healthy unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// Last five results.
    pub log: Option<Vec<HealthResult>>,
}

/// What one probe came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthResult {
    /// RFC 3339 instant.
    pub start: String,
    /// RFC 3339 instant.
    pub end: String,
    /// 0 healthy, -1 the probe could not be run or took too long, else unhealthy.
    pub exit_code: i64,
    /// First 4096 bytes of its output.
    pub output: String,
}

/// Health of a container in a list, from API 1.52.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthSummary {
    /// `none starting healthy unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
}
