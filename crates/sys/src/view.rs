//! The files of a container as it sees them, for somebody outside.
//!
//! A [`View`] is a root file system with mounts in it, put together in a mount namespace that nobody else has. It is
//! held by descriptors: paths are resolved inside its [`Root`], no process ever lives in it, and it is gone when the
//! view is dropped. A thread that ends with the work enters the namespaces; the caller's are left alone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::mount::{self, Detached, Parameter, attr};
use crate::rooted::{Missing, Root};

/// The thread talks to the kernel and ends.
const STACK: usize = 256 * 1024;

/// What a view begins with.
#[derive(Debug)]
pub enum Base<'a> {
    /// Layers of files that nobody has mounted, topmost first.
    Layers {
        /// Read-only directories.
        lower: &'a [PathBuf],
        /// Where changes go. Without, the view is read-only.
        upper: Option<(&'a Path, &'a Path)>,
    },
    /// The root of a process that lives in another mount namespace; what is mounted below it is left out.
    Process {
        /// Its mount namespace.
        namespace: BorrowedFd<'a>,
        /// Its root directory.
        root: BorrowedFd<'a>,
    },
}

/// Something mounted in a view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// Where, as a path in the container.
    pub target: PathBuf,
    /// A trusted path on the host; without, what the process of [`Base::Process`] has there.
    pub source: Option<PathBuf>,
    /// What is shown of the source, which somebody else may be changing: links lead nowhere out of it. Empty for all.
    pub inside: PathBuf,
    /// Nothing may be written to it.
    pub read_only: bool,
}

/// A container's files.
#[derive(Debug)]
pub struct View {
    root: Root,
    /// Keeps the mounts together.
    _namespace: OwnedFd,
    missing: bool,
}

impl View {
    /// Puts a view together. Mount points that are missing are made where the base can be written to; elsewhere the
    /// part is left out, see [`View::is_partial`].
    ///
    /// # Errors
    /// What the kernel says about one of the mounts. `ENOENT` when a source is gone.
    pub fn open(base: &Base<'_>, parts: &[Part]) -> io::Result<View> {
        thread::scope(|scope| {
            let builder = thread::Builder::new().name("view".to_owned()).stack_size(STACK);
            let work = builder.spawn_scoped(scope, || build(base, parts))?;
            work.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes a view panicked")))
        })
    }

    /// Where its paths are resolved.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Whether a part was left out, because its mount point is missing and could not be made.
    pub fn is_partial(&self) -> bool {
        self.missing
    }
}

/// The calling thread's mount namespace.
fn namespace() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(open("/proc/thread-self/ns/mnt", flags, Mode::empty())?)
}

fn directory(path: &str) -> io::Result<OwnedFd> {
    Ok(open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Runs on a thread of its own, which ends afterwards.
fn build(base: &Base<'_>, parts: &[Part]) -> io::Result<View> {
    const MS_SLAVE: u64 = 1 << 19;
    // SAFETY: CLONE_NEWNS and CLONE_FS change only what the calling thread sees of the file system. No table of
    // descriptors, signals or memory is taken apart, which is the reason this call is unsafe.
    unsafe { unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS) }?;
    // Unmounting on the host goes on to work; nothing mounted here gets there.
    mount::set_attributes(CWD, c"/", 0, 0, MS_SLAVE, true)?;
    let own = namespace()?;
    let top = directory("/")?;
    let clones = parts.iter().map(|part| clone(base, part, own.as_fd())).collect::<io::Result<Vec<_>>>()?;
    let (root, writable) = match base {
        Base::Process { namespace, root } => {
            move_into_link_name_space(*namespace, Some(LinkNameSpaceType::Mount))?;
            let cloned = Detached::clone_of(*root, Path::new(""), false);
            move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Mount))?;
            (cloned?.attach(top.as_fd())?, true)
        }
        Base::Layers { lower, upper } => (layers(lower, *upper, top.as_fd())?, upper.is_some()),
    };
    let mut missing = false;
    let inside = Root::new(root);
    for (part, clone) in parts.iter().zip(clones) {
        let Some(clone) = clone else { continue };
        match place(&inside, part, &clone, writable) {
            Ok(target) => drop(clone.attach(target.as_fd())?),
            Err(error) if absent(&error) => missing = true,
            Err(error) => return Err(error),
        }
    }
    leave_host(&inside);
    Ok(View { root: inside, _namespace: own, missing })
}

/// What a part shows; `None` when the process has nothing there.
fn clone(base: &Base<'_>, part: &Part, own: BorrowedFd<'_>) -> io::Result<Option<Detached>> {
    let clone = match (&part.source, base) {
        (Some(source), _) => {
            let mut source = open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            if !part.inside.as_os_str().is_empty() {
                source = Root::new(source).open(&part.inside, OFlags::PATH)?;
            }
            Detached::clone_of(source.as_fd(), Path::new(""), true)?
        }
        (None, Base::Process { namespace, root }) => {
            let root = Root::new(root.try_clone_to_owned()?);
            move_into_link_name_space(*namespace, Some(LinkNameSpaceType::Mount))?;
            let found = root.open(&part.target, OFlags::PATH);
            let clone = found.and_then(|found| Detached::clone_of(found.as_fd(), Path::new(""), true));
            move_into_link_name_space(own, Some(LinkNameSpaceType::Mount))?;
            match clone {
                Err(error) if absent(&error) => return Ok(None),
                other => other?,
            }
        }
        (None, Base::Layers { .. }) => return Ok(None),
    };
    if part.read_only {
        clone.set_attributes(attr::RDONLY, 0, 0, true)?;
    }
    Ok(Some(clone))
}

fn absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

/// The mount point of a part.
fn place(root: &Root, part: &Part, clone: &Detached, writable: bool) -> io::Result<OwnedFd> {
    let kind = FileType::from_raw_mode(fstat(clone)?.st_mode);
    let missing = match (writable, kind) {
        (false, _) => Missing::Refuse,
        (true, FileType::Directory) => Missing::MakeDirectory,
        (true, _) => Missing::MakeFile,
    };
    root.reach(&part.target, missing)
}

/// Stacks layers and attaches them on `top`.
fn layers(lower: &[PathBuf], upper: Option<(&Path, &Path)>, top: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // overlayfs wants two directories at least; one alone is shown as it is.
    if let ([single], None) = (lower, upper) {
        let single = open(single, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let clone = Detached::clone_of(single.as_fd(), Path::new(""), false)?;
        clone.set_attributes(attr::RDONLY, 0, 0, false)?;
        return clone.attach(top);
    }
    match overlay(lower, upper) {
        Ok(detached) => detached.attach(top),
        // Linux 6.5 learned to take layers one by one.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => classic(lower, upper),
        Err(error) => Err(error),
    }
}

fn overlay(lower: &[PathBuf], upper: Option<(&Path, &Path)>) -> io::Result<Detached> {
    let bytes = |path: &'_ Path| path.as_os_str().as_encoded_bytes().to_vec();
    let lower: Vec<Vec<u8>> = lower.iter().map(|path| bytes(path)).collect();
    let upper = upper.map(|(upper, work)| (bytes(upper), bytes(work)));
    let mut parameters: Vec<Parameter<'_>> = vec![("source", Some(b"overlay"))];
    parameters.extend(lower.iter().map(|path| ("lowerdir+", Some(path.as_slice()))));
    if let Some((upper, work)) = &upper {
        parameters.push(("upperdir", Some(upper)));
        parameters.push(("workdir", Some(work)));
    }
    Detached::new("overlay", &parameters, 0)
}

/// The same through mount(2), whose options must fit one page: directories are named by descriptor.
fn classic(lower: &[PathBuf], upper: Option<(&Path, &Path)>) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let hold = |path: &Path| open(path, flags, Mode::empty());
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let held = lower.iter().map(|path| hold(path)).collect::<Result<Vec<_>, _>>()?;
    let mut options = format!("lowerdir={}", held.iter().map(name).collect::<Vec<_>>().join(":"));
    let changes = upper.map(|(upper, work)| Ok::<_, Errno>((hold(upper)?, hold(work)?))).transpose()?;
    if let Some((upper, work)) = &changes {
        options.push_str(&format!(",upperdir={},workdir={}", name(upper), name(work)));
    }
    let options = std::ffi::CString::new(options)?;
    // Any directory below the root will do: nobody else sees this namespace.
    rustix::mount::mount("overlay", "/proc", "overlay", MountFlags::empty(), Some(options.as_c_str()))?;
    directory("/proc")
}

/// Lets go of the host's mounts, so that a view that is held for long pins none of them. Impossible where the host's
/// root is the initial ramfs; the mounts go with the view then.
fn leave_host(root: &Root) {
    let left = rustix::process::fchdir(root).and_then(|()| rustix::process::pivot_root(".", "."));
    if left.is_ok() {
        let _ = rustix::mount::unmount(".", UnmountFlags::DETACH);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn list(view: &View, path: &str) -> Vec<String> {
        let found = view.root().open(path, OFlags::DIRECTORY).expect("opened");
        let readable = rustix::fs::openat(&found, ".", OFlags::RDONLY, Mode::empty()).expect("opened again");
        let names = rustix::fs::Dir::new(readable).expect("listed").map(|e| e.expect("entry"));
        let mut names: Vec<String> = names.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name != "." && name != "..");
        names.sort();
        names
    }

    #[test]
    fn layers_and_parts_are_seen_together_and_nowhere_else() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = std::env::temp_dir().join(format!("budu-view-{}", std::process::id()));
        for sub in ["upper/data", "lower/etc", "volume", "work", "up2"] {
            fs::create_dir_all(dir.join(sub)).expect("made");
        }
        fs::write(dir.join("lower/etc/passwd"), "").expect("written");
        fs::write(dir.join("volume/inside"), "").expect("written");
        let part = |target: &str| Part {
            target: target.into(),
            source: Some(dir.join("volume")),
            read_only: true,
            ..Part::default()
        };
        let stack = [dir.join("upper"), dir.join("lower")];
        let read_only = Base::Layers { lower: &stack, upper: None };
        let view = View::open(&read_only, &[part("/data")]).expect("made");
        assert_eq!(list(&view, "/"), ["data", "etc"]);
        assert_eq!(list(&view, "/data"), ["inside"]);
        assert_eq!(list(&view, "/../data/.."), ["data", "etc"]);
        assert!(!view.is_partial());
        assert!(View::open(&read_only, &[part("/new/data")]).expect("made").is_partial());
        let (upper, work) = (dir.join("up2"), dir.join("work"));
        let writable = Base::Layers { lower: &stack, upper: Some((&upper, &work)) };
        let made = View::open(&writable, &[part("/new/data")]).expect("made");
        assert_eq!(list(&made, "/new/data"), ["inside"]);
        drop((view, made));
        assert!(dir.join("up2/new/data").is_dir());
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read");
        assert!(!mounts.contains("budu-view-"), "{mounts}");
        fs::remove_dir_all(dir).expect("nothing is mounted there");
    }
}
