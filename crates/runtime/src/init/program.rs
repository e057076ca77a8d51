//! The last steps before the program runs: who it is, what it may, what it is.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use budu_sys::capability::{self, CapSet, Capability};
use budu_sys::process::{self, Image};
use budu_sys::rooted::{Missing, Root};
use budu_sys::seccomp;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, fstat, major, minor};

use super::line::Line;
use super::notify::Agent;
use super::terminal::Terminal;
use super::user::{self, User};
use super::{Failing, attributes, environment, failed, invalid, words};
use crate::plan::ProcessPlan;
use crate::protocol::{Failure, FailureClass};

/// CAP_SYS_ADMIN, which installing a filter needs without no_new_privs.
const SYS_ADMIN: u8 = 21;

/// A program with everything it gets.
pub(super) struct Program {
    args: Vec<String>,
    env: Vec<String>,
    user: User,
    /// The working directory, when only the program's user may enter it.
    late_cwd: Option<String>,
    image: Option<Image>,
}

/// Looks up user, environment and working directory inside the container's
/// root, which must be this process's root already.
pub(super) fn find(plan: &ProcessPlan) -> Failing<Program> {
    let user = user::find(&plan.user)?;
    let late_cwd = enter_directory(&plan.cwd, plan.make_cwd)?;
    let env = environment::prepare(&plan.env, &user.home)?;
    if plan.args.first().is_none_or(String::is_empty) {
        return Err(invalid("no command specified".to_owned()));
    }
    Ok(Program { args: plan.args.clone(), env, user, late_cwd, image: None })
}

fn chdir_failed(cwd: &str, error: &io::Error) -> Failure {
    invalid(format!("chdir to cwd ({cwd:?}) set in config.json failed: {}", words(error)))
}

/// Goes to the working directory, made (as root) when it is missing. Returns
/// it when this process may not enter it, though perhaps the program's user may.
fn enter_directory(cwd: &str, make: bool) -> Failing<Option<String>> {
    let cwd = if cwd.is_empty() { "/" } else { cwd };
    let root = Root::open_at(Path::new("/")).map_err(failed("open the root"))?;
    let missing = if make { Missing::MakeDirectory } else { Missing::Refuse };
    let entered = root.reach(cwd, missing).and_then(|directory| Ok(rustix::process::fchdir(&directory)?));
    match entered {
        Ok(()) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(Some(cwd.to_owned())),
        Err(e) => Err(chdir_failed(cwd, &e)),
    }
}

/// Makes sure that the working directory lies inside the root, whatever led
/// to it (CVE-2024-21626): the kernel marks paths that do not.
fn verify_directory() -> Failing<()> {
    const OUTSIDE: &str = "current working directory is outside of container mount namespace root -- \
                           possible container breakout detected";
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.to_bytes().first() == Some(&b'/') => Ok(()),
        Ok(_) | Err(rustix::io::Errno::NOENT) => Err(invalid(OUTSIDE.to_owned())),
        Err(e) => Err(failed("failed to verify if current working directory is safe")(e.into())),
    }
}

/// Finds the file a command name means, as execvp(3) does.
fn search(name: &str, env: &[String]) -> Failing<PathBuf> {
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(e) => Err(exec_failure(name, &e, Some(name))),
        };
    }
    environment::search_path(env)
        .map(|directory| directory.join(name))
        .find(|candidate| executable(candidate).is_ok())
        .ok_or_else(|| Failure {
            class: FailureClass::CommandNotFound,
            message: format!("exec: {name:?}: executable file not found in $PATH"),
        })
}

fn executable(path: &Path) -> io::Result<()> {
    use rustix::fs::{Access, CWD, accessat};
    use rustix::io::Errno;
    use std::os::unix::fs::PermissionsExt;
    let meta = std::fs::metadata(path)?;
    if meta.is_dir() {
        return Err(Errno::ISDIR.into());
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // Linux before 5.8.
        Err(Errno::NOSYS | Errno::PERM) if meta.permissions().mode() & 0o111 == 0 => Err(Errno::ACCESS.into()),
        Err(Errno::NOSYS | Errno::PERM) => Ok(()),
        other => Ok(other?),
    }
}

/// Words a failed exec as Docker clients expect: they derive 126 and 127 from it.
fn exec_failure(name: &str, error: &io::Error, stat: Option<&str>) -> Failure {
    let class = match error.raw_os_error() {
        Some(2 | 20) => FailureClass::CommandNotFound,
        Some(8 | 13 | 21) => FailureClass::CommandNotExecutable,
        _ => FailureClass::Internal,
    };
    let reason = words(error);
    let message = match (stat, class) {
        (Some(path), FailureClass::CommandNotFound) => format!("exec: {name:?}: stat {path}: {reason}"),
        (Some(_), _) => format!("exec: {name:?}: {reason}"),
        // The kernel's own refusal.
        (None, _) => format!("exec {name}: {reason}"),
    };
    Failure { class, message }
}

impl Program {
    /// Its environment.
    pub(super) fn env(&self) -> &[String] {
        &self.env
    }

    /// Gives the standard streams to the program's user, so that it can open
    /// /dev/stdout and its like; those that cannot change hands are left. A
    /// host's /dev/null gives way to the container's: it is not for others to
    /// own, and no part of the container's mounts.
    pub(super) fn own_streams(&self) {
        let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        let mut null = None;
        for (number, stream) in (0..).zip(streams) {
            let Ok(stat) = fstat(stream) else { continue };
            if is_null(&stat) {
                if null.is_none() {
                    null = open_null();
                }
                if let Some(null) = &null {
                    let _ = process::replace_standard_stream(null.as_fd(), number);
                }
            } else if stat.st_uid != self.user.uid {
                let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(self.user.uid)), None);
            }
        }
    }

    /// Finds the program's file with the rights this process has now.
    pub(super) fn look_up(&mut self) -> Failing<()> {
        let path = search(&self.args[0], &self.env)?;
        let c_string = |bytes: &[u8]| {
            let shown = || String::from_utf8_lossy(bytes).into_owned();
            CString::new(bytes).map_err(|_| invalid(format!("{:?} contains a zero byte", shown())))
        };
        let strings = |list: &[String]| list.iter().map(|s| c_string(s.as_bytes())).collect::<Failing<Vec<_>>>();
        let path = c_string(path.as_os_str().as_encoded_bytes())?;
        self.image = Some(Image::new(path, strings(&self.args)?, strings(&self.env)?));
        Ok(())
    }

    /// Becomes the user the program runs as and gives up what it may not have,
    /// up to the system call filter. What that might forbid is done here.
    /// Every descriptor is closed but `keep` and those that the program gets:
    /// from now on whoever may look into this process sees nothing of the host
    /// in it (CVE-2016-9962).
    pub(super) fn settle(&mut self, plan: &ProcessPlan, die_with_parent: bool, keep: &[BorrowedFd<'_>]) -> Failing<()> {
        attributes::apply(plan)?;
        if plan.no_new_privileges {
            rustix::thread::set_no_new_privs(true).map_err(|e| failed("set no_new_privs")(e.into()))?;
        }
        let sets = if needs_admin(plan) { with_admin(last_sets(plan)) } else { last_sets(plan) };
        self.become_user(plan, sets)?;
        if let Some(cwd) = self.late_cwd.take() {
            rustix::process::chdir(&cwd).map_err(|e| chdir_failed(&cwd, &e.into()))?;
        }
        verify_directory()?;
        if self.image.is_none() {
            self.look_up()?;
        }
        // A change of user clears both.
        process::hide();
        if die_with_parent {
            super::die_with_parent()?;
        }
        let first = 3u32.saturating_add(plan.preserve_fds);
        process::close_borrowed_from(first, keep).map_err(failed("close descriptors"))?;
        process::close_on_exec_from(first).map_err(failed("mark descriptors close-on-exec"))
    }

    fn become_user(&self, plan: &ProcessPlan, sets: capability::Sets) -> Failing<()> {
        capability::limit_bounding(CapSet(plan.capabilities.bounding))
            .map_err(|e| failed("unable to apply bounding set")(e.into()))?;
        let what = failed("unable to setup user");
        rustix::thread::set_keep_capabilities(true).map_err(|e| what(e.into()))?;
        self.change_ids(&what)?;
        rustix::thread::set_keep_capabilities(false).map_err(|e| what(e.into()))?;
        let what = failed("unable to apply caps");
        capability::set(sets).map_err(|e| what(e.into()))?;
        match plan.capabilities.ambient {
            0 => Ok(()),
            ambient => capability::set_ambient(CapSet(ambient)).map_err(|e| what(e.into())),
        }
    }

    fn change_ids(&self, what: &impl Fn(io::Error) -> Failure) -> Failing<()> {
        use rustix::io::Errno;
        let User { uid, gid, .. } = self.user;
        let groups: Vec<Gid> = self.user.groups.iter().map(|&group| Gid::from_raw(group)).collect();
        match rustix::thread::set_thread_groups(&groups) {
            // In a user namespace made without privilege nobody may; whoever asked for no group misses none.
            Err(Errno::PERM) if self.user.groups.iter().all(|&group| group == gid) => {}
            other => other.map_err(|e| failed("unable to setup user: setgroups")(e.into()))?,
        }
        rustix::thread::set_thread_res_gid(Gid::from_raw(gid), Gid::from_raw(gid), Gid::from_raw(gid)).map_err(
            |e| match e {
                Errno::INVAL => invalid(format!("cannot setgid to unmapped gid {gid} in user namespace")),
                e => what(e.into()),
            },
        )?;
        rustix::thread::set_thread_res_uid(Uid::from_raw(uid), Uid::from_raw(uid), Uid::from_raw(uid)).map_err(|e| {
            match e {
                Errno::INVAL => invalid(format!("cannot setuid to unmapped uid {uid} in user namespace")),
                e => what(e.into()),
            }
        })
    }

    /// Installs the system call filter, and gives up what only that needed.
    pub(super) fn restrict(&self, plan: &ProcessPlan, agent: Option<&Agent>) -> Failing<()> {
        if plan.seccomp.is_empty() {
            return Ok(());
        }
        let listener = seccomp::install(&plan.seccomp, plan.seccomp_flags)
            .map_err(|e| failed("install the system call filter")(e.into()))?;
        if let (Some(listener), Some(agent)) = (&listener, agent) {
            agent.deliver(listener)?;
        }
        drop(listener);
        if needs_admin(plan) && with_admin(last_sets(plan)) != last_sets(plan) {
            capability::set(last_sets(plan)).map_err(|e| failed("unable to apply caps")(e.into()))?;
        }
        Ok(())
    }

    /// Installs the filter and reports that everything stands: in this order,
    /// except that a terminal is sent before, since afterwards sending
    /// descriptors may be forbidden.
    pub(super) fn restrict_and_report(
        &self,
        plan: &ProcessPlan,
        agent: Option<Agent>,
        terminal: Option<Terminal>,
        line: &Line<'_>,
    ) -> Failing<()> {
        process::default_signals();
        process::end_on_signals();
        match terminal {
            Some(terminal) => {
                line.report_created(Some(terminal.master.as_fd()))?;
                drop(terminal);
                self.restrict(plan, agent.as_ref())
            }
            None => {
                self.restrict(plan, agent.as_ref())?;
                line.report_created(None)
            }
        }
    }

    /// What [`Program::settle`] leaves open for [`Program::restrict_and_report`].
    pub(super) fn needed<'a>(
        line: &Line<'a>,
        agent: Option<&'a Agent>,
        terminal: Option<&'a Terminal>,
    ) -> Vec<BorrowedFd<'a>> {
        let mut needed = line.descriptors();
        needed.extend(agent.map(Agent::socket));
        needed.extend(terminal.into_iter().flat_map(Terminal::descriptors));
        needed
    }

    /// Runs the program in place of this one. Returns only its failure.
    pub(super) fn exec(&self) -> Failure {
        let Some(image) = &self.image else { return invalid("no command specified".to_owned()) };
        let error = image.exec();
        exec_failure(&image.path().to_string_lossy(), &error, None)
    }
}

fn is_null(stat: &rustix::fs::Stat) -> bool {
    let character = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    character && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3)
}

/// The container's own /dev/null, if it is one.
fn open_null() -> Option<OwnedFd> {
    // Looked at first: opening something else in its place might wait.
    if !rustix::fs::lstat("/dev/null").is_ok_and(|stat| is_null(&stat)) {
        return None;
    }
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty()).ok()?;
    fstat(&null).is_ok_and(|stat| is_null(&stat)).then_some(null)
}

/// Whether the filter is installed by privilege instead of no_new_privs.
fn needs_admin(plan: &ProcessPlan) -> bool {
    !plan.seccomp.is_empty() && !plan.no_new_privileges
}

fn last_sets(plan: &ProcessPlan) -> capability::Sets {
    let caps = &plan.capabilities;
    capability::Sets {
        effective: CapSet(caps.effective),
        permitted: CapSet(caps.permitted),
        inheritable: CapSet(caps.inheritable),
    }
}

fn with_admin(sets: capability::Sets) -> capability::Sets {
    let Some(admin) = Capability::from_number(SYS_ADMIN) else { return sets };
    capability::Sets { effective: sets.effective.with(admin), permitted: sets.permitted.with(admin), ..sets }
}
