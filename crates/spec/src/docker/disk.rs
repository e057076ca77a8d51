//! What takes room on the disk, as `GET /system/df` says it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ContainerSummary, ImageSummary};

/// The whole answer: the shape of API 1.52, and the lists that all versions have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiskUsage {
    /// Images, from 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_usage: Option<Usage>,
    /// Containers, from 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_usage: Option<Usage>,
    /// Volumes, from 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_usage: Option<Usage>,
    /// Build cache, from 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_cache_usage: Option<Usage>,
    /// The lists.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub lists: Option<DiskLists>,
}

/// One kind of thing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Usage {
    /// In use.
    pub active_count: i64,
    /// All.
    pub total_count: i64,
    /// Bytes that removing what is not in use would free.
    pub reclaimable: i64,
    /// Bytes.
    pub total_size: i64,
    /// Each of them, when that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<Value>>,
}

/// Everything there is, one by one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiskLists {
    /// Bytes of all images' content.
    pub layers_size: i64,
    /// Images; `null` when they were not asked for.
    pub images: Option<Vec<ImageSummary>>,
    /// Containers.
    pub containers: Option<Vec<ContainerSummary>>,
    /// Volumes.
    pub volumes: Option<Vec<Value>>,
    /// Build cache.
    pub build_cache: Option<Vec<Value>>,
}
