//! Kernel parameters, written through a procfs that is one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use budu_sys::mount::Detached;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::{NewRoot, PROC_MAGIC, failed, kind_of};
use crate::init::Failing;

impl NewRoot {
    /// Writes kernel parameters: path below /proc/sys, value.
    pub(in crate::init) fn write_sysctls(&self, sysctls: &[(String, String)]) -> Failing<()> {
        let mut private: Option<OwnedFd> = None;
        for (path, value) in sysctls {
            let what = failed(&format!("set sysctl {}", path.replace('/', ".")));
            let first = match &self.proc {
                Some(proc) => write(proc, path, value),
                None => Err(io::ErrorKind::NotFound.into()),
            };
            match first {
                Ok(()) => continue,
                // The container's own is missing, read-only, or covered there.
                Err(_) if private.is_none() => private = private_proc().ok(),
                Err(_) => {}
            }
            match &private {
                Some(proc) => write(proc, path, value).map_err(&what)?,
                None => first.map_err(&what)?,
            }
        }
        Ok(())
    }
}

/// A procfs that is mounted nowhere; else the host's, which answers for the
/// caller's namespaces too.
fn private_proc() -> io::Result<OwnedFd> {
    if let Ok(detached) = Detached::new("proc", &[("source", Some(b"proc"))], 0) {
        return Ok(detached.into_fd());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let host = rustix::fs::open("/proc", flags, Mode::empty())?;
    if kind_of(&host)? == PROC_MAGIC { Ok(host) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn write(proc: &OwnedFd, path: &str, value: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let file = openat2(proc, format!("sys/{path}"), flags, Mode::empty(), resolve)?;
    if kind_of(file.as_fd())? != PROC_MAGIC {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    rustix::io::write(&file, value.as_bytes())?;
    Ok(())
}
