//! Mounts as descriptors: made detached, configured, attached where they belong.
//!
//! The calls are those of the new mount API (fsopen(2), fsmount(2),
//! open_tree(2), mount_setattr(2), move_mount(2)). A mount that is dropped
//! before it is attached is gone; nothing is left on the host.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick, move_mount, open_tree,
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
        set_parameters(&context, kind, parameters)?;
        fsconfig_create(&context).map_err(|e| named(e, &format!("{kind}{}", kernel_log(&context))))?;
        let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(|e| named(e, kind))?;
        Ok(Detached(mount))
    }

    /// Takes a descriptor of a detached mount that another process made.
    pub fn received(mount: OwnedFd) -> Detached {
        Detached(mount)
    }

    /// Lets go of the guard: the mount lives as long as the descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.0
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

    /// Shows owners through the id maps of a user namespace (id-mapped mount),
    /// on everything below as well when `recursive`.
    pub fn map_owners(&self, userns: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
        let raw = RawMountAttr { set: attr::IDMAP, userns: userns.as_raw_fd() as u64, ..RawMountAttr::default() };
        setattr(self.0.as_fd(), c"", &raw, recursive)
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
#[derive(Default)]
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
    setattr(base, path, &RawMountAttr { set, clear, propagation, userns: 0 }, recursive)
}

fn setattr(base: BorrowedFd<'_>, path: &CStr, raw: &RawMountAttr, recursive: bool) -> io::Result<()> {
    const AT_RECURSIVE: libc::c_int = 0x8000;
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: path is a C string, raw a structure of the size given; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            base.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(raw),
            size_of::<RawMountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The [`attr`] bits of the mount that `file` is on. Read-only is reported
/// for a mount whose file system is, too.
pub fn attributes(file: BorrowedFd<'_>) -> io::Result<u64> {
    const NOSYMFOLLOW: u64 = 0x2000;
    let flags = fstatvfs(file)?.f_flag;
    let mut bits = [
        (StatVfsMountFlags::RDONLY, attr::RDONLY),
        (StatVfsMountFlags::NOSUID, attr::NOSUID),
        (StatVfsMountFlags::NODEV, attr::NODEV),
        (StatVfsMountFlags::NOEXEC, attr::NOEXEC),
        (StatVfsMountFlags::NODIRATIME, attr::NODIRATIME),
        (StatVfsMountFlags::from_bits_retain(NOSYMFOLLOW), attr::NOSYMFOLLOW),
    ]
    .into_iter()
    .filter(|(flag, _)| flags.contains(*flag))
    .fold(0, |bits, (_, bit)| bits | bit);
    if flags.contains(StatVfsMountFlags::NOATIME) {
        bits |= attr::NOATIME;
    } else if !flags.contains(StatVfsMountFlags::RELATIME) {
        bits |= attr::STRICTATIME;
    }
    Ok(bits)
}

/// Gives the file system mounted at `mount` other parameters.
pub fn reconfigure(mount: BorrowedFd<'_>, parameters: &[Parameter<'_>]) -> io::Result<()> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    let context = fspick(mount, "", flags)?;
    set_parameters(&context, "file system", parameters)?;
    fsconfig_reconfigure(&context).map_err(|e| named(e, &format!("reconfigure{}", kernel_log(&context))))
}

/// The table of mounts of the caller's mount namespace, proc_pid_mountinfo(5). Read in few pieces: the kernel makes its
/// lines anew for every read(2), and the standard library begins with 32 bytes.
pub fn table() -> io::Result<Vec<u8>> {
    let mut table = Vec::with_capacity(32 << 10);
    File::open("/proc/self/mountinfo")?.read_to_end(&mut table)?;
    Ok(table)
}

/// Moves an attached mount, move_mount(2).
pub fn relocate(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

fn set_parameters(context: &OwnedFd, kind: &str, parameters: &[Parameter<'_>]) -> io::Result<()> {
    for (key, value) in parameters {
        match value {
            Some(value) => fsconfig_set_string(context, *key, *value),
            None => fsconfig_set_flag(context, *key),
        }
        .map_err(|e| named(e, &format!("{kind} option {key}{}", kernel_log(context))))?;
    }
    Ok(())
}

/// An errno and what the kernel refused.
#[derive(Debug)]
struct Refused {
    errno: Errno,
    what: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, reason(&self.errno.into()))
    }
}

impl std::error::Error for Refused {}

/// Adds what was being done to an errno; [`errno`] finds the number again.
fn named(errno: Errno, what: &str) -> io::Error {
    io::Error::new(io::Error::from(errno).kind(), Refused { errno, what: what.to_owned() })
}

/// The number in an error of this module; 0 when the kernel gave none.
pub fn errno(error: &io::Error) -> i32 {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>());
    error.raw_os_error().or(inner.map(|refused| refused.errno.raw_os_error())).unwrap_or(0)
}

/// What an error says: in lower case and without its number, as it is worded everywhere else.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let Some(number) = error.raw_os_error() else { return text };
    let text = text.strip_suffix(&format!(" (os error {number})")).unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
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
