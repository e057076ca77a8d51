//! Everything that can end a command, and the exit status it ends with.

use std::fmt;

/// Why a command ended without success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The daemon refused.
    #[error("Error response from daemon: {message}")]
    Api {
        /// HTTP status.
        status: u16,
        /// The daemon's text.
        message: String,
    },
    /// Nobody listens where the daemon should.
    #[error("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?")]
    Connect {
        /// The address as a URL.
        host: String,
    },
    /// The socket is there but the user may not use it.
    #[error(
        "permission denied while trying to connect to the Docker daemon socket at {host}: add the user to the socket's group or run as root"
    )]
    Denied {
        /// The address as a URL.
        host: String,
    },
    /// The connection broke or the peer does not speak HTTP.
    #[error("error during connect: {reason}")]
    Transport {
        /// What happened.
        reason: String,
    },
    /// A flag or argument is wrong; the text is complete.
    #[error("{text}")]
    Usage {
        /// Text with usage lines.
        text: String,
        /// Exit status.
        code: i32,
    },
    /// Any other failure of the command itself.
    #[error("{message}")]
    Message {
        /// What, where, what to do.
        message: String,
    },
    /// A text that ends with a status of its own.
    #[error("{message}")]
    Status {
        /// Text, may be empty.
        message: String,
        /// Exit status.
        code: i32,
    },
    /// Standard output cannot be written.
    #[error("write to standard output: {source}")]
    Output {
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Makes a plain failure.
    pub(crate) fn new(message: impl fmt::Display) -> Error {
        Error::Message { message: message.to_string() }
    }

    /// The exit status of the process.
    pub(crate) fn code(&self) -> i32 {
        match self {
            Error::Usage { code, .. } | Error::Status { code, .. } => *code,
            _ => 1,
        }
    }

    /// Tells whether the daemon answered `status`.
    pub(crate) fn is_status(&self, wanted: u16) -> bool {
        matches!(self, Error::Api { status, .. } if *status == wanted)
    }

    /// Tells whether the reader of our output went away, which is nobody's fault.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Error::Output { source } if source.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

impl From<std::io::Error> for Error {
    fn from(source: std::io::Error) -> Error {
        Error::Output { source }
    }
}

/// Spells an operating system error as Go programs do: `no such file or directory`.
pub(crate) fn os_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// Makes the error of a file that could not be opened, as Docker words it.
pub(crate) fn open_failed(path: &str, error: &std::io::Error) -> Error {
    Error::new(format_args!("open {path}: {}", os_text(error)))
}
