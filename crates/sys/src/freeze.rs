//! File systems that stand still for a moment, ioctl_fs(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

const FIFREEZE: libc::Ioctl = 0xc004_5877;
const FITHAW: libc::Ioctl = 0xc004_5878;

/// A file system that stands still until this is dropped: everything is on disk, and writers wait.
#[derive(Debug)]
pub struct Frozen<F: AsFd>(F);

impl<F: AsFd> Frozen<F> {
    /// Freezes the file system that `file` is on.
    ///
    /// # Errors
    /// `EBUSY` when somebody else has frozen it, `EOPNOTSUPP` where that is impossible.
    pub fn freeze(file: F) -> io::Result<Frozen<F>> {
        // SAFETY: the argument is not used.
        match unsafe { libc::ioctl(file.as_fd().as_raw_fd(), FIFREEZE, 0) } {
            0 => Ok(Frozen(file)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl<F: AsFd> Drop for Frozen<F> {
    fn drop(&mut self) {
        // SAFETY: the argument is not used.
        let _ = unsafe { libc::ioctl(self.0.as_fd().as_raw_fd(), FITHAW, 0) };
    }
}
