//! Events.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One happening, as `GET /events` streams it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// Legacy name of `Action` for containers and images, below API 1.52.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// Legacy name of the actor's id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Legacy name of the actor's image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// `container`, `image`, `network`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// `start`, `die`, …
    #[serde(rename = "Action")]
    pub action: String,
    /// What it happened to.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local` or `swarm`.
    pub scope: String,
    /// Unix time, seconds.
    pub time: i64,
    /// Unix time, nanoseconds.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// What an event happened to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    /// Id of the object.
    #[serde(rename = "ID")]
    pub id: String,
    /// Labels and particulars.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}
