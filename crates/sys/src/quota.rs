//! Project quotas: a limit on what lies below a directory, quotactl(2), ioctl_xfs(2).
//!
//! Files belong to a project by number; what is made in a directory with
//! [`set_project`] belongs to its project. The file system enforces the limit
//! where it is mounted with `prjquota` (ext4, f2fs) or `pquota` (XFS).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const FSGETXATTR: libc::c_ulong = 0x801c_581f;
const FSSETXATTR: libc::c_ulong = 0x401c_5820;
/// FS_XFLAG_PROJINHERIT.
const INHERIT: u32 = 0x200;

const PROJECT: libc::c_long = 2;
const GET_QUOTA: libc::c_long = 0x80_0007;
const SET_QUOTA: libc::c_long = 0x80_0008;
const GET_STATE: libc::c_long = 0x5805;
/// QIF_BLIMITS.
const BLOCK_LIMITS: u32 = 1;
/// FS_QUOTA_PDQ_ENFD.
const ENFORCED: u16 = 1 << 5;

/// struct fsxattr, linux/fs.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    pad: [u8; 8],
}

/// struct if_dqblk, linux/quota.h. Limits are in KiB, space in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Quota {
    block_hard: u64,
    block_soft: u64,
    space: u64,
    inode_hard: u64,
    inode_soft: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// struct fs_quota_stat, linux/dqblk_xfs.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct State {
    version: i8,
    flags: u16,
    pad: i8,
    files: [[u64; 3]; 2],
    rest: [u32; 8],
}

/// Gives a directory, and what will be made in it, to a project.
///
/// # Errors
/// When the file system knows no projects.
pub fn set_project(directory: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = attributes(directory)?;
    attributes.project = project;
    attributes.flags |= INHERIT;
    // SAFETY: the kernel reads a whole struct fsxattr, which is what it is given.
    check(unsafe { libc::ioctl(directory.as_raw_fd(), FSSETXATTR, &raw const attributes) }.into())
}

/// The project of a file; 0 is none.
///
/// # Errors
/// When the file system knows no projects.
pub fn project(file: BorrowedFd<'_>) -> io::Result<u32> {
    attributes(file).map(|attributes| attributes.project)
}

fn attributes(file: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the kernel writes a whole struct fsxattr, for which there is room.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FSGETXATTR, &raw mut attributes) }.into())?;
    Ok(attributes)
}

/// Whether limits of projects are enforced on the file system of a file.
pub fn is_enforced(file: BorrowedFd<'_>) -> bool {
    let mut state = State::default();
    // SAFETY: the kernel writes a struct fs_quota_stat, for which there is room and more.
    let done = unsafe { control(file, GET_STATE, 0, (&raw mut state).cast()) };
    done.is_ok() && state.flags & ENFORCED != 0
}

/// Limits a project to `bytes`, rounded up to KiB; 0 takes the limit away.
///
/// # Errors
/// When the file system has no project quotas.
pub fn limit_project(file: BorrowedFd<'_>, project: u32, bytes: u64) -> io::Result<()> {
    let blocks = bytes.div_ceil(1024);
    let mut quota = Quota { block_hard: blocks, block_soft: blocks, valid: BLOCK_LIMITS, ..Quota::default() };
    // SAFETY: the kernel reads a whole struct if_dqblk, which is what it is given.
    unsafe { control(file, SET_QUOTA, project, (&raw mut quota).cast()) }
}

/// Limit and use of a project, bytes.
///
/// # Errors
/// When the file system has no project quotas.
pub fn project_use(file: BorrowedFd<'_>, project: u32) -> io::Result<(u64, u64)> {
    let mut quota = Quota::default();
    // SAFETY: the kernel writes a whole struct if_dqblk, for which there is room.
    unsafe { control(file, GET_QUOTA, project, (&raw mut quota).cast()) }?;
    Ok((quota.block_hard.saturating_mul(1024), quota.space))
}

/// quotactl_fd(2) for projects.
///
/// # Safety
/// `data` must be what the kernel reads or writes for `command`.
unsafe fn control(file: BorrowedFd<'_>, command: libc::c_long, id: u32, data: *mut libc::c_void) -> io::Result<()> {
    // SAFETY: by the caller's promise.
    check(unsafe { libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), command << 8 | PROJECT, id, data) })
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn shapes_are_the_kernels() {
        assert_eq!((size_of::<Attributes>(), size_of::<Quota>()), (28, 72));
        assert!(size_of::<State>() >= 80);
    }

    #[test]
    fn a_file_system_without_projects_says_so() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert!(!is_enforced(proc.as_fd()));
        assert!(set_project(proc.as_fd(), 5).is_err());
        assert!(limit_project(proc.as_fd(), 5, 1024).is_err());
    }
}
