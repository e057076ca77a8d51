//! Exec instances.

use serde::{Deserialize, Serialize};

use super::nullable;

/// Body of `POST /containers/{id}/exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecCreate {
    /// `user[:group]`; empty means the container's.
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    /// All capabilities.
    #[serde(deserialize_with = "nullable")]
    pub privileged: bool,
    /// Give it a terminal.
    #[serde(deserialize_with = "nullable")]
    pub tty: bool,
    /// Rows and columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u32; 2]>,
    /// Attach standard input.
    #[serde(deserialize_with = "nullable")]
    pub attach_stdin: bool,
    /// Attach standard error.
    #[serde(deserialize_with = "nullable")]
    pub attach_stderr: bool,
    /// Attach standard output.
    #[serde(deserialize_with = "nullable")]
    pub attach_stdout: bool,
    /// Detach key sequence. docker-py writes the name as in the client's configuration file.
    #[serde(deserialize_with = "nullable", alias = "detachKeys")]
    pub detach_keys: String,
    /// `KEY=value` entries added to the container's.
    pub env: Option<Vec<String>>,
    /// Working directory; empty means the container's.
    #[serde(deserialize_with = "nullable")]
    pub working_dir: String,
    /// The command.
    #[serde(deserialize_with = "nullable")]
    pub cmd: Vec<String>,
}

/// Answer of exec create and commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IdAnswer {
    /// The new object's id.
    pub id: String,
}

/// Body of `POST /exec/{id}/start`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecStart {
    /// Do not attach.
    #[serde(deserialize_with = "nullable")]
    pub detach: bool,
    /// The stream is plain bytes, not frames. Clients say here what they said at create.
    #[serde(deserialize_with = "nullable")]
    pub tty: bool,
    /// Rows and columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u32; 2]>,
}

/// Answer to `GET /exec/{id}/json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecInspect {
    /// Exec id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Still running.
    pub running: bool,
    /// `null` until it ended.
    pub exit_code: Option<i64>,
    /// What runs.
    pub process_config: ExecProcess,
    /// Standard input is open.
    pub open_stdin: bool,
    /// Standard error is attached.
    pub open_stderr: bool,
    /// Standard output is attached.
    pub open_stdout: bool,
    /// No longer usable.
    pub can_remove: bool,
    /// Container id.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// Detach keys, base64.
    pub detach_keys: String,
    /// Process id on the host.
    pub pid: u32,
}

/// What an exec instance runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecProcess {
    /// Has a terminal.
    pub tty: bool,
    /// Program.
    pub entrypoint: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// All capabilities.
    pub privileged: bool,
    /// `user[:group]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}
