//! The descriptors of this process: which stay, which go, and when.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Marks every descriptor from `first` on close-on-exec, close_range(2).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: CLOSE_RANGE_CLOEXEC closes nothing; it only sets flags.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Duplicates `from` onto the descriptor number `to` (0, 1 or 2), dup3(2).
///
/// # Panics
/// If `to` is not a standard stream: any other number may belong to somebody.
pub fn replace_standard_stream(from: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
    assert!((0..=2).contains(&to), "only standard streams may be replaced");
    // SAFETY: numbers 0 to 2 are owned by no Rust object in our processes.
    if unsafe { libc::dup2(from.as_raw_fd(), to) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes every descriptor from `first` on that this process inherited. For
/// the first moments of a program, before it has opened anything itself.
///
/// # Panics
/// If `first` is below 3.
pub fn close_inherited_from(first: u32) -> io::Result<()> {
    assert!(first > 2, "standard streams are not to be closed");
    // SAFETY: called before any descriptor of this range has an owner.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes a descriptor that a copied process holds on behalf of its parent's
/// code, which will never run here. The owner must not be dropped afterwards:
/// for processes that end by [`exit_now`] or [`exec`].
pub fn close_borrowed(fd: BorrowedFd<'_>) {
    // SAFETY: the owning object lives in a frame this process never returns to.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// Closes every descriptor from `first` on except `keep`, as
/// [`close_borrowed`] does: whoever owns the others must not be dropped here.
///
/// # Errors
/// None expected.
///
/// # Panics
/// If `first` is below 3.
pub fn close_borrowed_from(first: u32, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    assert!(first > 2, "standard streams are not to be closed");
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).filter(|fd| *fd >= first).collect();
    kept.sort_unstable();
    let close = |from: u32, to: u32| {
        // SAFETY: the owning objects live in frames this process never returns to.
        let result = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    let mut from = first;
    for fd in kept {
        if fd > from {
            close(from, fd - 1)?;
        }
        from = fd.saturating_add(1);
    }
    close(from, u32::MAX)
}

/// Makes a descriptor this process inherited under a known number our own.
///
/// # Errors
/// `EBADF` when there is no such descriptor.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD changes nothing.
    if number <= 2 || unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, above the standard streams, and called once at start
    // for a number that the parent process announced as ours.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
