//! What the engine and a shim say to each other.
//!
//! Both directions carry frames: the eight-byte header of Docker's multiplexed
//! streams (`kind, 0, 0, 0, length` big-endian) and a payload. Standard output
//! and error therefore reach a Docker client without being framed again.
//! Everything that is not stream data is one [`Request`] or [`Event`] in a
//! [`MESSAGE`] frame, in postcard encoding.
//!
//! A shim has one control connection (it came with [`crate::Launcher::new_shim`])
//! and listens on `shim.sock` in its run directory for more. The first message
//! on such a connection says what it is for: [`Request::Watch`],
//! [`Request::Attach`] or [`Request::Exec`].

use std::io::{self, Read, Write};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::plan::{ExecPlan, Plan};

/// Bytes for the process's standard input.
pub const STDIN: u8 = 0;
/// Bytes of the process's standard output; of its terminal, if it has one.
pub const STDOUT: u8 = 1;
/// Bytes of the process's standard error.
pub const STDERR: u8 = 2;
/// The client will send no more standard input.
pub const STDIN_EOF: u8 = 4;
/// A [`Request`] or [`Event`].
pub const MESSAGE: u8 = 16;

/// Length of a frame header.
pub const HEADER: usize = 8;

/// Largest payload either side accepts; environments and mount lists are the
/// only large things said, and the kernel refuses larger argument lists anyway.
pub const MAX_PAYLOAD: usize = 16 << 20;

/// Name of the socket in a container's run directory.
pub const SOCKET: &str = "shim.sock";
/// Name of the exit record in a container's run directory.
pub const EXIT_FILE: &str = "exit.json";
/// Name of the [`MemoryRecord`] in a container's run directory.
pub const MEMORY_FILE: &str = "memory.json";

/// What the engine asks of a shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Control connection, once: make the container. Answer: `Created` or `Failed`.
    Create(Box<Plan>),
    /// Control connection, once: let the program run, as soon as the container
    /// stands if it does not yet. Answer: `Started` or `Failed`.
    Start,
    /// Control and watch: send a signal to the first process, or to all. Answer: `Done` or `Failed`.
    /// Exec: to the exec'd process; no answer.
    Signal {
        /// signal(7) number.
        signal: i32,
        /// Every process of the container instead of the first.
        all: bool,
    },
    /// Any connection: set the terminal's size. Answer on control and watch
    /// connections only: `Done` or `Failed`.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// Control and watch: freeze all processes. Answer: `Done` or `Failed`.
    Pause,
    /// Control and watch: thaw. Answer: `Done` or `Failed`.
    Resume,
    /// First on a new connection: be a control connection like the first one
    /// (for a daemon that came back). Answer: `Created`, later `Exited`.
    Watch,
    /// First on a new connection: join the container's streams. Answer:
    /// `Attached`, then stream frames until end of file.
    Attach {
        /// Send standard input.
        stdin: bool,
        /// Receive standard output.
        stdout: bool,
        /// Receive standard error.
        stderr: bool,
    },
    /// First on a new connection: run a further process. Answer: `Started` or
    /// `Failed`, then stream frames, then `Exited`, then end of file.
    Exec(Box<ExecPlan>),
}

/// What a shim tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Event {
    /// From a first process to its parent: the tree stands, and the hooks of
    /// the host are to run now. A shim never sends it on.
    Hooks,
    /// The container stands; its first process waits to be let go.
    Created {
        /// Process id on the host.
        pid: u32,
    },
    /// The program was executed.
    Started {
        /// Process id on the host.
        pid: u32,
    },
    /// An attach connection receives everything from here on.
    Attached,
    /// A request was carried out.
    Done,
    /// A request failed. After `Create` or `Start` nothing is left and the shim ends.
    Failed(Failure),
    /// The first process (control, watch) or the exec'd process ended.
    Exited(ExitRecord),
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure; decides exit status and HTTP status.
    pub class: FailureClass,
    /// Text for the user.
    pub message: String,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureClass {
    /// The command is not there (exit status 127).
    CommandNotFound,
    /// The command cannot be executed (exit status 126).
    CommandNotExecutable,
    /// The request was wrong: unknown user, bad mount, bad value.
    Invalid,
    /// The container is in no state for this.
    State,
    /// The kernel or the host refused something.
    Internal,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Exit status, or 128 + signal.
    pub code: i32,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// The kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
    /// Unix time, nanoseconds.
    pub finished_at: i64,
}

/// What the kernel counted of a container's memory, when it killed for want of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryRecord {
    /// The limit, bytes; `None` when there was none.
    pub limit: Option<u64>,
    /// Most that was in use, bytes.
    pub peak: u64,
    /// Processes killed.
    pub kills: u64,
}

/// Makes the header of a frame.
///
/// # Panics
/// If `length` exceeds `u32`, which [`MAX_PAYLOAD`] rules out.
pub fn header(kind: u8, length: usize) -> [u8; HEADER] {
    let length = u32::try_from(length).expect("payloads are bounded by MAX_PAYLOAD");
    let [a, b, c, d] = length.to_be_bytes();
    [kind, 0, 0, 0, a, b, c, d]
}

/// Reads a header: kind and payload length. `None` when the length is over
/// [`MAX_PAYLOAD`]: the peer is not speaking this protocol.
pub fn parse_header(header: [u8; HEADER]) -> Option<(u8, usize)> {
    let [kind, _, _, _, a, b, c, d] = header;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    (length <= MAX_PAYLOAD).then_some((kind, length))
}

/// Encodes a message into a whole frame.
pub fn encode<M: Serialize>(message: &M) -> Vec<u8> {
    let mut frame = postcard::to_extend(message, vec![0u8; HEADER]).expect("plain data always encodes");
    let head = header(MESSAGE, frame.len() - HEADER);
    frame[..HEADER].copy_from_slice(&head);
    frame
}

/// Decodes the payload of a message frame.
pub fn decode<M: DeserializeOwned>(payload: &[u8]) -> io::Result<M> {
    postcard::from_bytes(payload)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("malformed shim message: {e}")))
}

/// Writes one message to a blocking connection.
pub fn send<M: Serialize>(mut to: impl Write, message: &M) -> io::Result<()> {
    to.write_all(&encode(message))
}

/// Reads one message from a blocking connection; `None` at end of file.
pub fn receive<M: DeserializeOwned>(mut from: impl Read) -> io::Result<Option<M>> {
    let mut head = [0u8; HEADER];
    match from.read_exact(&mut head) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let Some((MESSAGE, length)) = parse_header(head) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "malformed shim message: bad frame header"));
    };
    let mut payload = vec![0u8; length];
    from.read_exact(&mut payload)?;
    decode(&payload).map(Some)
}

/// Reads the exit record of a container whose shim has ended; `None` when the
/// shim left none, which means that it was killed.
pub fn read_exit(run_dir: &Path) -> io::Result<Option<ExitRecord>> {
    match std::fs::read(run_dir.join(EXIT_FILE)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Reads what the kernel counted of the memory of a container that has ended; `None` when nothing was killed for want
/// of it.
pub fn read_memory(run_dir: &Path) -> Option<MemoryRecord> {
    serde_json::from_slice(&std::fs::read(run_dir.join(MEMORY_FILE)).ok()?).ok()
}
