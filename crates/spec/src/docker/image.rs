//! Images as the Engine API shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ContainerConfig, GraphDriver, nullable};

/// One row of `GET /images/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageSummary {
    /// Containers using it; -1 when not counted.
    pub containers: i64,
    /// Unix time of creation, seconds.
    pub created: i64,
    /// Image id.
    pub id: String,
    /// Labels; `null` when none.
    pub labels: Option<BTreeMap<String, String>>,
    /// Parent image of classic builds.
    pub parent_id: String,
    /// Target descriptor, from API 1.48.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Value>,
    /// `repository@digest`; never `null`.
    #[serde(deserialize_with = "nullable")]
    pub repo_digests: Vec<String>,
    /// `repository:tag`; never `null`.
    #[serde(deserialize_with = "nullable")]
    pub repo_tags: Vec<String>,
    /// Bytes shared with other images; -1 when not computed.
    pub shared_size: i64,
    /// Bytes.
    pub size: i64,
    /// Same as size, below API 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
}

/// Answer to `GET /images/{name}/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageInspect {
    /// Image id.
    pub id: String,
    /// `repository:tag`.
    pub repo_tags: Vec<String>,
    /// `repository@digest`.
    pub repo_digests: Vec<String>,
    /// Parent image of classic builds.
    pub parent: String,
    /// Commit message.
    pub comment: String,
    /// RFC 3339 instant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created: String,
    /// Engine that built it.
    pub docker_version: String,
    /// Author.
    pub author: String,
    /// The configuration containers start from.
    pub config: Option<ContainerConfig>,
    /// CPU architecture.
    pub architecture: String,
    /// CPU variant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Operating system.
    pub os: String,
    /// Bytes.
    pub size: i64,
    /// Same as size, below API 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
    /// Where the layers lie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<GraphDriver>,
    /// Layers.
    #[serde(rename = "RootFS")]
    pub root_fs: ImageRootFs,
    /// Bookkeeping.
    pub metadata: ImageMetadata,
    /// Target descriptor, from API 1.48.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Value>,
}

/// Layers of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageRootFs {
    /// `layers`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Digests of the uncompressed layers, base first.
    #[serde(rename = "Layers", skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// Bookkeeping of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageMetadata {
    /// RFC 3339 instant of the last tagging.
    pub last_tag_time: String,
}

/// One step of `DELETE /images/{name}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageDeleted {
    /// Name that was taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untagged: Option<String>,
    /// Content that was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<String>,
}

/// One row of `GET /images/{name}/history`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HistoryItem {
    /// Image id or `<missing>`.
    pub id: String,
    /// Unix time, seconds.
    pub created: i64,
    /// Instruction.
    pub created_by: String,
    /// Tags of this image.
    pub tags: Option<Vec<String>>,
    /// Bytes of the layer.
    pub size: i64,
    /// Comment.
    pub comment: String,
}

/// Contents of `X-Registry-Auth`, base64url JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// User.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Password.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// Registry.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub serveraddress: String,
    /// Refresh token.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub identitytoken: String,
    /// Bearer token.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub registrytoken: String,
}
