//! The floor: what the kernel alone needs to run a program in a container's namespaces.
//!
//! `floor LOWERDIR[:LOWERDIR…] SCRATCH PROGRAM [ARGUMENT…]`: one `clone3` with all the namespaces a container has,
//! an overlay mount, `pivot_root`, `execve`, wait. No /proc, no devices, no limits, no network: a container engine
//! can come near this figure but not below it. SCRATCH is a directory on the file system to be measured; what is
//! written there stays, since deleting is no part of running.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::ptr;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, unmount,
};
use rustix::process::{Pid, WaitOptions, WaitStatus, chdir, pivot_root, waitpid};

fn main() {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [lower, scratch, command @ ..] = args.as_slice() else { usage() };
    let argv: Vec<CString> = command.iter().filter_map(|arg| CString::new(arg.clone().into_vec()).ok()).collect();
    if argv.is_empty() {
        usage();
    }
    let lower = lower.to_string_lossy();
    let dir = format!("{}/floor-{}", scratch.to_string_lossy(), std::process::id());
    for part in ["", "/upper", "/work", "/root"] {
        check("mkdir", std::fs::create_dir(format!("{dir}{part}")));
    }
    let child = check("clone3", clone3());
    if child == 0 {
        run(&lower, &dir, &argv);
    }
    let pid = Pid::from_raw(child).unwrap_or_else(|| usage());
    let status = check("wait", waitpid(Some(pid), WaitOptions::empty()).map_err(Into::into));
    std::process::exit(status.and_then(|(_, status): (Pid, WaitStatus)| status.exit_status()).unwrap_or(125));
}

fn usage() -> ! {
    eprintln!("usage: floor LOWERDIR[:LOWERDIR...] SCRATCH PROGRAM [ARGUMENT...]");
    std::process::exit(125);
}

fn check<T>(what: &str, result: std::io::Result<T>) -> T {
    result.unwrap_or_else(|error| {
        eprintln!("floor: {what}: {error}");
        std::process::exit(125)
    })
}

/// `fork` into new namespaces: 0 in the child, its process id in the parent.
fn clone3() -> std::io::Result<i32> {
    let flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWCGROUP;
    // SAFETY: all-zero is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags.unsigned_abs());
    args.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    // SAFETY: without CLONE_VM this is a fork; the process is single-threaded.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if pid < 0 { Err(std::io::Error::last_os_error()) } else { Ok(i32::try_from(pid).unwrap_or(0)) }
}

fn run(lower: &str, dir: &str, argv: &[CString]) -> ! {
    check("isolate mounts", enter(lower, dir).map_err(Into::into));
    let mut pointers: Vec<_> = argv.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(ptr::null());
    let environment = [ptr::null()];
    // SAFETY: both arrays end with a null pointer and their strings live until the call replaces this program.
    unsafe { libc::execve(pointers[0], pointers.as_ptr(), environment.as_ptr()) };
    check("exec", Err(std::io::Error::last_os_error()))
}

fn enter(lower: &str, dir: &str) -> rustix::io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in lower.split(':') {
        fsconfig_set_string(&overlay, "lowerdir+", layer)?;
    }
    fsconfig_set_string(&overlay, "upperdir", format!("{dir}/upper"))?;
    fsconfig_set_string(&overlay, "workdir", format!("{dir}/work"))?;
    fsconfig_create(&overlay)?;
    let tree = fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let root = format!("{dir}/root");
    move_mount(&tree, "", CWD, &root, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    chdir(&root)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)
}
