//! The state of a container, as hooks, seccomp agents and callers of `state` read it (runtime.md "State").

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where in its life a container is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made.
    #[default]
    Creating,
    /// Made; its program was not executed yet.
    Created,
    /// Its program runs.
    Running,
    /// Its program has ended.
    Stopped,
    /// Frozen: not of the specification, which allows more.
    Paused,
}

impl Status {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Stopped => "stopped",
            Status::Paused => "paused",
        }
    }
}

/// The state of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// Version of the specification this follows.
    pub oci_version: String,
    /// Identifier.
    pub id: String,
    /// Where in its life it is.
    pub status: Status,
    /// Its first process, in the reader's pid namespace; 0 when there is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub pid: i32,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Annotations of the configuration.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Name of the descriptor in [`ProcessState::fds`] that listens to a system call filter.
pub const SECCOMP_FD: &str = "seccompFd";

/// What a seccomp agent is sent (config-linux.md "The Container Process State").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProcessState {
    /// Version of the specification this follows.
    pub oci_version: String,
    /// Names of the descriptors that come along, in order.
    pub fds: Vec<String>,
    /// The process that installed the filter.
    pub pid: i32,
    /// `listenerMetadata` of the configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// The container.
    pub state: State,
}

fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_agents_and_hooks_read_it() {
        let state =
            State { oci_version: "1.3.0".into(), id: "c".into(), pid: 7, bundle: "/b".into(), ..State::default() };
        let message = ProcessState { fds: vec![SECCOMP_FD.into()], pid: 7, state, ..ProcessState::default() };
        let expected = r#"{"ociVersion":"","fds":["seccompFd"],"pid":7,"state":{"ociVersion":"1.3.0","id":"c","status":"creating","pid":7,"bundle":"/b"}}"#;
        assert_eq!(serde_json::to_string(&message).unwrap(), expected);
    }
}
