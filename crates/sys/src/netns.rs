//! Network namespaces without a privileged detour: made, entered and held by
//! descriptor, never by a path that could be left behind.
//!
//! A thread that changed its namespace is never reused: work runs on a thread
//! of its own that ends with the work, so that a multi-threaded process stays
//! whole whatever happens on the way.
//!
//! ```no_run
//! use std::os::fd::AsFd;
//! let (netns, ()) = budu_sys::netns::create(|| Ok(()))?;
//! let answer = budu_sys::netns::inside(netns.as_fd(), || 42)?;
//! assert_eq!(answer, 42);
//! # std::io::Result::Ok(())
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread;

use rustix::fs::{PROC_SUPER_MAGIC, fstatfs};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Small: these threads talk to the kernel and end.
const STACK: usize = 128 * 1024;

/// Makes a network namespace, runs `setup` inside it and returns a descriptor
/// that keeps it alive. If `setup` fails, the namespace is gone.
pub fn create<T: Send>(setup: impl FnOnce() -> io::Result<T> + Send) -> io::Result<(OwnedFd, T)> {
    on_thread(|| {
        unshare()?;
        let netns = current()?;
        Ok((netns, setup()?))
    })?
}

/// Runs `work` inside a network namespace. Threads and sockets it makes stay
/// in that namespace.
pub fn inside<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_thread(|| {
        move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
        Ok(work())
    })?
}

/// Returns a descriptor of the calling thread's network namespace.
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Moves the calling thread alone into a new, empty network namespace; threads
/// it starts later inherit it. For processes and test threads that want to
/// live apart; everything else uses [`create`].
pub fn unshare() -> io::Result<()> {
    // SAFETY: CLONE_NEWNET changes only which network the calling thread sees.
    // It shares no table of descriptors, signals or memory, so nothing that
    // safe code relies on (the reason this call is unsafe) is taken apart.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

/// Writes a `net.*` sysctl of the calling thread's network namespace, given
/// with dots (`net.ipv4.ip_forward`). Verifies that what is written to is
/// procfs. A dot inside a link's name is written `/`.
pub fn write_sysctl(name: &str, value: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(sysctl_path(name)?)?;
    if fstatfs(&file)?.f_type != PROC_SUPER_MAGIC {
        return Err(io::Error::other("/proc/sys is not a proc file system"));
    }
    // One write: the kernel takes a sysctl only whole.
    file.write_all(value.as_bytes())
}

/// Reads a `net.*` sysctl of the calling thread's network namespace, without
/// the line end.
pub fn read_sysctl(name: &str) -> io::Result<String> {
    let text = std::fs::read_to_string(sysctl_path(name)?)?;
    Ok(text.trim_end().to_owned())
}

fn sysctl_path(name: &str) -> io::Result<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/@".contains(&byte);
    let parts = || name.split('.');
    if !name.starts_with("net.") || !name.bytes().all(allowed) || parts().any(str::is_empty) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} is no sysctl of a network namespace"),
        ));
    }
    // As sysctl(8) does: dots separate, a slash stands for a dot in a name.
    let path: String = name
        .chars()
        .map(|letter| match letter {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect();
    if path.split('/').any(|part| part == ".." || part == ".") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} leaves the directory of sysctls")));
    }
    Ok(format!("/proc/sys/{path}"))
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("netns".into())
            .stack_size(STACK)
            .spawn_scoped(scope, work)?
            .join()
            .map_err(|_| io::Error::other("the thread inside a network namespace panicked"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    fn inode(netns: &OwnedFd) -> u64 {
        File::from(netns.try_clone().unwrap()).metadata().unwrap().ino()
    }

    #[test]
    fn a_namespace_is_apart_and_the_caller_stays_where_it_was() {
        let before = inode(&current().unwrap());
        let (netns, port_start) = match create(|| {
            write_sysctl("net.ipv4.ip_unprivileged_port_start", "7")?;
            read_sysctl("net.ipv4.ip_unprivileged_port_start")
        }) {
            Ok(made) => made,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                println!("skipped: no permission to make network namespaces");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(port_start, "7");
        assert_ne!(inode(&netns), before);
        let within = inside(netns.as_fd(), || inode(&current().unwrap())).unwrap();
        assert_eq!(within, inode(&netns));
        assert_eq!(inode(&current().unwrap()), before);
        assert_ne!(read_sysctl("net.ipv4.ip_unprivileged_port_start").unwrap(), "7");
    }

    #[test]
    fn only_net_sysctls_are_written() {
        for name in [
            "kernel.core_pattern",
            "net",
            "net..ipv4",
            "net.ipv4.//.x",
            "net./../kernel",
            "net.ipv4.ip forward",
            "../net.ipv4.x",
            "net.//.kernel.core_pattern",
        ] {
            let error = sysctl_path(name).map(|path| panic!("{name} gave {path}"));
            assert_eq!(error.map_err(|e: io::Error| e.kind()), Err::<(), _>(io::ErrorKind::InvalidInput), "{name}");
        }
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.x").unwrap(), "/proc/sys/net/ipv4/conf/eth0.1/x");
    }
}
