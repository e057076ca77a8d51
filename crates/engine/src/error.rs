//! What can go wrong with a container.

use std::io;
use std::path::{Path, PathBuf};

use budu_spec::{Classified, ErrorClass};

/// Why the engine refused or failed. Texts that scripts are known to match
/// are those of Docker's engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No container has this name, id or id prefix.
    #[error("No such container: {name}")]
    NoSuchContainer {
        /// What was asked for.
        name: String,
    },
    /// Several containers have ids that start like this.
    #[error("multiple IDs found with provided prefix: {name}")]
    Ambiguous {
        /// What was asked for.
        name: String,
    },
    /// No volume has this name.
    #[error("get {name}: no such volume")]
    NoSuchVolume {
        /// What was asked for.
        name: String,
    },
    /// A driver, a snapshot or the like is not there.
    #[error("{message}")]
    Absent {
        /// Docker's text.
        message: String,
    },
    /// No exec instance has this id.
    #[error("No such exec instance: {id}")]
    NoSuchExec {
        /// What was asked for.
        id: String,
    },
    /// Nothing is at a path of a container.
    #[error("Could not find the file {path} in container {container}")]
    NoSuchFile {
        /// The path, as it was given.
        path: String,
        /// The container, as it was given.
        container: String,
    },
    /// The name belongs to another container.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// The wished name.
        name: String,
        /// Id of the container that has it.
        holder: String,
    },
    /// A value of the request is wrong.
    #[error("{message}")]
    Invalid {
        /// Which value, and what would be right.
        message: String,
    },
    /// The container is in a state that forbids the request.
    #[error("{message}")]
    Conflict {
        /// Which state.
        message: String,
    },
    /// The container already is as wished.
    #[error("container {id} is already in the requested state")]
    NotModified {
        /// Its id.
        id: String,
    },
    /// A feature of Docker that is not built yet.
    #[error("{feature} is not implemented")]
    Unsupported {
        /// Its name.
        feature: String,
    },
    /// The container's log driver keeps nothing to read.
    #[error("configured logging driver does not support reading")]
    UnreadableLog,
    /// The command of a container or exec cannot be executed.
    #[error("{message}")]
    Command {
        /// 127 when it is missing, 126 when it cannot be executed.
        code: i32,
        /// Docker's text.
        message: String,
    },
    /// The runtime failed.
    #[error("{message}")]
    Runtime {
        /// What the shim said.
        message: String,
    },
    /// The image store refused.
    #[error(transparent)]
    Image {
        /// Why.
        #[from]
        source: budu_image::Error,
    },
    /// A container's networks could not be set up.
    #[error("failed to set up container networking: {source}")]
    Networking {
        /// Why.
        source: Box<Error>,
    },
    /// The network refused.
    #[error(transparent)]
    Network {
        /// Why.
        #[from]
        source: budu_network::Error,
    },
    /// A plugin refused, or could not be used.
    #[error(transparent)]
    Plugin {
        /// Why.
        #[from]
        source: crate::PluginError,
    },
    /// The plan could not be made.
    #[error(transparent)]
    Compile {
        /// Why.
        #[from]
        source: budu_runtime::compile::CompileError,
    },
    /// A filter is wrong.
    #[error(transparent)]
    Filter {
        /// Why.
        #[from]
        source: budu_spec::filter::FilterError,
    },
    /// A file or socket of the engine failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::Invalid { message: message.into() }
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Error {
        Error::Conflict { message: message.into() }
    }

    pub(crate) fn unsupported(feature: impl Into<String>) -> Error {
        Error::Unsupported { feature: feature.into() }
    }

    /// Says what was being done when a request was refused.
    pub(crate) fn about(self, doing: &str) -> Error {
        let said = |message: String| format!("{doing}: {message}");
        match self {
            Error::Invalid { message } => Error::Invalid { message: said(message) },
            Error::Conflict { message } => Error::Conflict { message: said(message) },
            Error::Runtime { message } => Error::Runtime { message: said(message) },
            Error::Absent { message } => Error::Absent { message: said(message) },
            other => other,
        }
    }

    pub(crate) fn not_running(id: &str) -> Error {
        Error::conflict(format!("container {id} is not running"))
    }

    /// The same error, said of something.
    pub(crate) fn prefixed(self, prefix: &str) -> Error {
        let message = format!("{prefix}: {self}");
        match self.class() {
            ErrorClass::Conflict => Error::Conflict { message },
            ErrorClass::InvalidArgument => Error::Invalid { message },
            ErrorClass::NotFound => Error::Absent { message },
            _ => Error::Runtime { message },
        }
    }

    /// Names file and action of an IO error.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }
}

impl Classified for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Error::NoSuchContainer { .. }
            | Error::NoSuchVolume { .. }
            | Error::Absent { .. }
            | Error::NoSuchExec { .. }
            | Error::NoSuchFile { .. } => ErrorClass::NotFound,
            Error::Ambiguous { .. } | Error::Invalid { .. } | Error::Command { .. } => ErrorClass::InvalidArgument,
            Error::NameInUse { .. } | Error::Conflict { .. } => ErrorClass::Conflict,
            Error::NotModified { .. } => ErrorClass::NotModified,
            Error::Unsupported { .. } | Error::UnreadableLog => ErrorClass::NotImplemented,
            Error::Runtime { .. } | Error::Io { .. } => ErrorClass::Internal,
            Error::Image { source } => source.class(),
            Error::Networking { source } => source.class(),
            Error::Network { source } => source.class(),
            Error::Plugin { source } => source.class(),
            Error::Compile { source } => source.class(),
            Error::Filter { source } => source.class(),
        }
    }
}
