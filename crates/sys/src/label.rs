//! Labels that security modules give to the calling thread: the files below
//! /proc/thread-self/attr, apparmor(7), selinux(8).
//!
//! A label written to a file that only looks like these protects nothing. So
//! the file is opened while the /proc at hand is still the host's, verified to
//! be procfs without any mount or link on the way, and written later through
//! the descriptor. The kernel takes it only from the thread that opened it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstatfs, openat2, statfs};

/// SELINUX_MAGIC, statfs(2).
const SELINUX_MAGIC: rustix::fs::FsWord = 0xf97c_ff8c_u32 as rustix::fs::FsWord;

/// Which label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The AppArmor profile of the program executed next.
    AppArmorExec,
    /// The SELinux context of the program executed next.
    SelinuxExec,
    /// The SELinux context of keys made from now on.
    SelinuxKeys,
}

/// An open label file of the calling thread.
#[derive(Debug)]
pub struct Label {
    file: OwnedFd,
    kind: Kind,
}

impl Label {
    /// Opens the file; `None` when the security module is not there.
    ///
    /// # Errors
    /// When /proc is not the kernel's.
    pub fn open(kind: Kind) -> io::Result<Option<Label>> {
        let names: &[&str] = match kind {
            Kind::AppArmorExec if !apparmor_enabled() => return Ok(None),
            Kind::SelinuxExec | Kind::SelinuxKeys if !selinux_enabled() => return Ok(None),
            // The file of its own came with Linux 5.8; before, modules shared one.
            Kind::AppArmorExec => &["apparmor/exec", "exec"],
            Kind::SelinuxExec => &["exec"],
            Kind::SelinuxKeys => &["keycreate"],
        };
        for name in names {
            match open_attribute(name) {
                Ok(file) => return Ok(Some(Label { file, kind })),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// Sets the label.
    ///
    /// # Errors
    /// `EINVAL` or `ENOENT` when the module does not know it, `EACCES` when its policy forbids the change.
    pub fn set(&self, label: &str) -> io::Result<()> {
        let text = match self.kind {
            Kind::AppArmorExec => format!("exec {label}"),
            Kind::SelinuxExec | Kind::SelinuxKeys => label.to_owned(),
        };
        // One write: the kernel takes a label only whole.
        let written = rustix::io::write(&self.file, text.as_bytes())?;
        if written == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

fn open_attribute(name: &str) -> io::Result<OwnedFd> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", directory, Mode::empty())?;
    if fstatfs(&proc)?.f_type != PROC_SUPER_MAGIC {
        return Err(io::Error::other("/proc is not a proc file system"));
    }
    let way = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(openat2(&proc, format!("thread-self/attr/{name}"), flags, Mode::empty(), way)?)
}

fn apparmor_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.first() == Some(&b'Y'))
}

fn selinux_enabled() -> bool {
    let place = Path::new("/sys/fs/selinux");
    rustix::fs::accessat(CWD, place, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty()).is_ok()
        && statfs(place).is_ok_and(|about| about.f_type == SELINUX_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_none_and_what_is_there_is_the_kernels() {
        for (kind, there) in [(Kind::AppArmorExec, apparmor_enabled()), (Kind::SelinuxExec, selinux_enabled())] {
            assert_eq!(Label::open(kind).unwrap().is_some(), there, "{kind:?}");
        }
        // This file is there in every kernel with security modules.
        match open_attribute("exec") {
            Ok(file) => assert_eq!(fstatfs(&file).unwrap().f_type, PROC_SUPER_MAGIC),
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::NotFound),
        }
        assert!(open_attribute("../../../sys/kernel/ostype").is_err());
    }
}
