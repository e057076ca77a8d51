//! Our own binary as a container may see it.
//!
//! A process on its way into a container still runs our binary: whoever gets
//! hold of its `/proc/PID/exe` could write to the file on the host
//! (CVE-2019-5736). Such commands therefore execute themselves once more,
//! from a read-only mount that is attached nowhere, or from a sealed copy in
//! memory where a mount is not allowed.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use budu_sys::process;
use rustix::fs::{MemfdFlags, SealFlags, StatVfsMountFlags};

use crate::init::{Failing, failed};
use crate::launcher;

/// Makes sure that this process runs a binary that cannot be written to.
/// Returns when it does; else the process starts anew, under the same `name`.
pub(super) fn reexecute(name: &str, args: &[OsString]) -> Failing<()> {
    let what = failed("protect the runtime's binary");
    let own = File::open("/proc/self/exe").map_err(&what)?;
    if is_protected(&own) {
        let _ = rustix::thread::set_name(c"budu-oci");
        return Ok(());
    }
    let binary = match launcher::readonly_binary() {
        Ok(mounted) => mounted,
        Err(_) => sealed_copy(own).map_err(&what)?,
    };
    let c_string = |s: &[u8]| CString::new(s).expect("arguments of a process have no zero bytes");
    let mut words = vec![c_string(name.as_bytes())];
    words.extend(args.iter().map(|arg| c_string(arg.as_bytes())));
    let environment: Vec<CString> =
        std::env::vars_os().map(|(key, value)| c_string(&[key.as_bytes(), b"=", value.as_bytes()].concat())).collect();
    Err(what(process::exec_fd(binary.as_fd(), &words, &environment)))
}

fn is_protected(own: &File) -> bool {
    let readonly = rustix::fs::fstatvfs(own).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY));
    readonly || rustix::fs::fcntl_get_seals(own).is_ok_and(|seals| seals.contains(SealFlags::WRITE))
}

fn sealed_copy(mut own: File) -> std::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = rustix::fs::memfd_create("budu-oci", flags)?;
    let mut file = File::from(copy);
    std::io::copy(&mut own, &mut file)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file.into())
}
