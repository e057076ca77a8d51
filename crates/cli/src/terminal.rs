//! The user's terminal: is there one, how large is it, raw mode with a guard that restores it.

use std::io;

use rustix::termios::{self, OptionalActions, Termios};

/// Tells whether standard input is a terminal.
pub(crate) fn stdin_is_tty() -> bool {
    termios::isatty(rustix::stdio::stdin())
}

/// Tells whether standard output is a terminal.
pub(crate) fn stdout_is_tty() -> bool {
    termios::isatty(rustix::stdio::stdout())
}

/// Tells whether standard error is a terminal.
pub(crate) fn stderr_is_tty() -> bool {
    termios::isatty(rustix::stdio::stderr())
}

/// Rows and columns of the terminal on standard output, when there is one.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    (size.ws_row > 0 || size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Keeps the terminal on standard input raw; dropping it restores what was.
#[derive(Debug)]
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Switches to raw mode; `None` when standard input is no terminal.
    pub(crate) fn enter() -> io::Result<Option<RawMode>> {
        if !stdin_is_tty() {
            return Ok(None);
        }
        let before = termios::tcgetattr(rustix::stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(RawMode { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that went away.
        let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}
