//! Progress messages of pull, push, load and build.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One message of a progress stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JsonMessage {
    /// Text of a build or load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// What is being done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// How far it is.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// Rendered bar, for clients without their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Layer or tag it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The failure that ended the stream.
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// Same text as `errorDetail.message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Machine-readable results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Value>,
}

/// How far a transfer is, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    /// Done so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    /// All there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// The failure that ended a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// Exit code of a build step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// Text.
    pub message: String,
}

/// Body of every error answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorAnswer {
    /// Text.
    pub message: String,
}
