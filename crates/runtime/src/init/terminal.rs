//! The terminal of a container's process, pty(7), and its standard streams.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use budu_sys::process;
use rustix::fs::{Mode, OFlags, fstat, fstatfs, major, minor, openat};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, OutputModes};

use super::{Failing, failed, invalid, rootfs};

/// DEVPTS_SUPER_MAGIC, statfs(2).
const DEVPTS_MAGIC: rustix::fs::FsWord = 0x1cd1;

/// A pseudo-terminal.
pub(super) struct Terminal {
    pub(super) master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    /// Both ends.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.master.as_fd(), self.slave.as_fd()]
    }

    /// Opens one of the devpts that was just mounted in the new root.
    pub(super) fn in_root(root: &rootfs::NewRoot, size: (u16, u16)) -> Failing<Terminal> {
        let devpts =
            root.devpts.as_ref().ok_or_else(|| invalid("a terminal needs devpts mounted on /dev/pts".to_owned()))?;
        let terminal = pair(devpts.as_fd(), size).map_err(failed("open a terminal"))?;
        root.bind_console(terminal.slave.as_fd())?;
        Ok(terminal)
    }

    /// Opens one of a running container's devpts, which must be one: the
    /// container may have put anything at that path.
    pub(super) fn in_container(size: (u16, u16), plain_lines: bool) -> Failing<Terminal> {
        let what = failed("open a terminal in /dev/pts");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let devpts = rustix::fs::open("/dev/pts", flags, Mode::empty()).map_err(|e| what(e.into()))?;
        let magic = fstatfs(&devpts).map_err(|e| what(e.into()))?.f_type;
        if magic != DEVPTS_MAGIC {
            return Err(invalid("cannot open a terminal: /dev/pts in the container is no devpts".to_owned()));
        }
        let terminal = pair(devpts.as_fd(), size).map_err(&what)?;
        let device = fstat(&terminal.master).map_err(|e| what(e.into()))?.st_rdev;
        if (major(device), minor(device)) != (5, 2) {
            return Err(invalid("cannot open a terminal: /dev/pts/ptmx in the container is no terminal".to_owned()));
        }
        if plain_lines {
            leave_lines(terminal.slave.as_fd()).map_err(&what)?;
        }
        Ok(terminal)
    }
}

/// Has a terminal leave line ends as they are: no ONLCR, termios(3).
pub(crate) fn leave_lines(terminal: BorrowedFd<'_>) -> io::Result<()> {
    let mut modes = rustix::termios::tcgetattr(terminal)?;
    modes.output_modes.remove(OutputModes::ONLCR);
    Ok(rustix::termios::tcsetattr(terminal, OptionalActions::Now, &modes)?)
}

/// Opens a new terminal pair in an open devpts directory.
fn pair(devpts: BorrowedFd<'_>, (rows, cols): (u16, u16)) -> io::Result<Terminal> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let master = openat(devpts, "ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let slave =
        rustix::pty::ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    if (rows, cols) != (0, 0) {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&slave, size)?;
    }
    Ok(Terminal { master, slave })
}

/// Puts the terminal, or these streams, on standard input, output and error;
/// with neither the inherited ones stay.
pub(super) fn use_streams(pipes: Option<[BorrowedFd<'_>; 3]>, terminal: Option<&Terminal>) -> Failing<()> {
    let streams = match (pipes, terminal) {
        (_, Some(terminal)) => [terminal.slave.as_fd(); 3],
        (Some(pipes), None) => pipes,
        (None, None) => return Ok(()),
    };
    for (number, stream) in (0..).zip(streams) {
        process::replace_standard_stream(stream, number).map_err(failed("set up standard streams"))?;
    }
    Ok(())
}

/// Makes the terminal on standard input the controlling one of this session.
pub(super) fn take_terminal() -> Failing<()> {
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).map_err(|e| failed("take the terminal")(e.into()))
}
