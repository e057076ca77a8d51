//! Mounts as descriptors: made detached, configured, attached where they belong.
//!
//! The calls are those of the new mount API (fsopen(2), fsmount(2),
//! open_tree(2), mount_setattr(2), move_mount(2)). A mount that is dropped
//! before it is attached is gone; nothing is left on the host.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// MOUNT_ATTR_* bits, mount_setattr(2).
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Ignore set-user-ID and set-group-ID bits.
    pub const NOSUID: u64 = 0x2;
    /// No device access.
    pub const NODEV: u64 = 0x4;
    /// No execution.
    pub const NOEXEC: u64 = 0x8;
    /// All bits that choose the access time rule.
    pub const ATIME: u64 = 0x70;
    /// Never update access times.
    pub const NOATIME: u64 = 0x10;
    /// Always update access times.
    pub const STRICTATIME: u64 = 0x20;
    /// Never update access times of directories.
    pub const NODIRATIME: u64 = 0x80;
    /// Map owners.
    pub const IDMAP: u64 = 0x10_0000;
    /// Do not follow symbolic links.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// A mount that is attached nowhere yet.
#[derive(Debug)]
pub struct Detached(OwnedFd);

/// One parameter of a new file system instance: key and value, or a flag.
pub type Parameter<'a> = (&'a str, Option<&'a [u8]>);

impl Detached {
    /// Makes a new instance of file system `kind`.
    ///
    /// # Errors
    /// What the kernel says, naming the parameter it refused.
    pub fn new(kind: &str, parameters: &[Parameter<'_>], attributes: u64) -> io::Result<Detached> {
        let context =
            fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| named(e, &format!("file system {kind}")))?;
        for (key, value) in parameters {
            match value {
                Some(value) => fsconfig_set_string(&context, *key, *value),
                None => fsconfig_set_flag(&context, *key),
            }
            .map_err(|e| named(e, &format!("{kind} option {key}{}", kernel_log(&context))))?;
        }
        fsconfig_create(&context).map_err(|e| named(e, &format!("{kind}{}", kernel_log(&context))))?;
        let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
        Ok(Detached(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?))
    }

    /// Clones the mount that holds `path` (relative to `base`), as a bind mount
    /// does; with everything mounted below it when `recursive`. An empty path
    /// names `base` itself. Linux before 6.15 wants the mount attached in the
    /// caller's mount namespace, and answers EINVAL for a detached one.
    pub fn clone_of(base: BorrowedFd<'_>, path: &Path, recursive: bool) -> io::Result<Detached> {
        let mut flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_NO_AUTOMOUNT;
        if path.as_os_str().is_empty() {
            flags |= OpenTreeFlags::AT_EMPTY_PATH;
        }
        if recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        Ok(Detached(open_tree(base, path, flags)?))
    }

    /// Changes attributes (bits of [`attr`]) and propagation (MS_SHARED and
    /// friends, 0 for none), on everything below as well when `recursive`.
    pub fn set_attributes(&self, set: u64, clear: u64, propagation: u64, recursive: bool) -> io::Result<()> {
        set_attributes(self.0.as_fd(), c"", set, clear, propagation, recursive)
    }

    /// Attaches the mount on the directory or file that `target` refers to.
    pub fn attach(self, target: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&self.0, "", target, "", flags)?;
        Ok(self.0)
    }
}

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[repr(C)]
struct RawMountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// mount_setattr(2) on `path` below `base`.
pub fn set_attributes(
    base: BorrowedFd<'_>,
    path: &CStr,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
) -> io::Result<()> {
    const AT_RECURSIVE: libc::c_int = 0x8000;
    let raw = RawMountAttr { set, clear, propagation, userns: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: path is a C string, raw a structure of the size given; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            base.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const raw,
            size_of::<RawMountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Adds what was being done to an errno; the number stays readable.
fn named(errno: rustix::io::Errno, what: &str) -> io::Error {
    let error = io::Error::from(errno);
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Reads what the kernel wrote about a refused parameter, fsopen(2).
fn kernel_log(context: &OwnedFd) -> String {
    let mut text = String::new();
    let mut line = [0u8; 512];
    while let Ok(n) = rustix::io::read(context, &mut line) {
        // Lines start with a level letter and a blank.
        let said = String::from_utf8_lossy(&line[..n]);
        text.push_str(": ");
        text.push_str(said.trim_end().get(2..).unwrap_or_default());
    }
    text
}
