//! The last steps before the program runs: who it is, what it may, what it is.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use budu_sys::capability::{self, CapSet};
use budu_sys::process;
use budu_sys::rooted::{Missing, Root};
use budu_sys::seccomp;
use rustix::fs::{Gid, Uid};

use super::user::{self, User};
use super::{Failing, failed, invalid};
use crate::plan::ProcessPlan;
use crate::protocol::{Failure, FailureClass};

/// A program that was found, with everything it gets.
pub(super) struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    user: User,
}

/// What PATH means when the environment has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Looks up user, working directory and program inside the container's root,
/// which must be this process's root already.
pub(super) fn find(plan: &ProcessPlan) -> Failing<Program> {
    let user = user::find(&plan.user)?;
    enter_directory(&plan.cwd, &user)?;
    let mut env = plan.env.clone();
    if !env.iter().any(|e| e.starts_with("HOME=") && e.len() > 5) {
        env.retain(|e| e != "HOME=");
        env.push(format!("HOME={}", user.home));
    }
    let name = plan.args.first().filter(|a| !a.is_empty()).ok_or_else(|| invalid("no command specified".to_owned()))?;
    let path = look_up(name, &env)?;
    let c_string = |s: &String| CString::new(s.as_bytes()).map_err(|_| invalid(format!("{s:?} contains a zero byte")));
    Ok(Program {
        path: CString::new(path.as_os_str().as_bytes())
            .map_err(|_| invalid("the command contains a zero byte".into()))?,
        args: plan.args.iter().map(c_string).collect::<Result<_, _>>()?,
        env: env.iter().map(c_string).collect::<Result<_, _>>()?,
        user,
    })
}

/// Goes to the working directory, made (as root) when it is missing.
fn enter_directory(cwd: &str, _user: &User) -> Failing<()> {
    let cwd = if cwd.is_empty() { "/" } else { cwd };
    let root = Root::open_at(Path::new("/")).map_err(failed("open the root"))?;
    let directory =
        root.reach(cwd, Missing::MakeDirectory).map_err(failed(&format!("make working directory {cwd}")))?;
    rustix::process::fchdir(&directory)
        .map_err(|e| invalid(format!("cannot enter working directory {cwd:?}: {}", io::Error::from(e))))
}

/// Finds the file a command name means, as execvp(3) does.
fn look_up(name: &str, env: &[String]) -> Failing<PathBuf> {
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(e) => Err(exec_failure(name, &e, Some(name))),
        };
    }
    let path = env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let found = path
        .split(':')
        .map(|directory| Path::new(if directory.is_empty() { "." } else { directory }).join(name))
        .find(|candidate| executable(candidate).is_ok());
    found.ok_or_else(|| Failure {
        class: FailureClass::CommandNotFound,
        message: format!("exec: {name:?}: executable file not found in $PATH"),
    })
}

fn executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let meta = std::fs::metadata(path)?;
    if meta.is_dir() {
        return Err(io::Error::from_raw_os_error(21)); // EISDIR
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::from_raw_os_error(13)); // EACCES
    }
    Ok(())
}

/// Words a failed exec as Docker clients expect: they derive 126 and 127 from it.
fn exec_failure(name: &str, error: &io::Error, stat: Option<&str>) -> Failure {
    let (class, reason) = match error.raw_os_error() {
        Some(2) => (FailureClass::CommandNotFound, "no such file or directory".to_owned()),
        Some(20) => (FailureClass::CommandNotFound, "not a directory".to_owned()),
        Some(13) => (FailureClass::CommandNotExecutable, "permission denied".to_owned()),
        Some(21) => (FailureClass::CommandNotExecutable, "is a directory".to_owned()),
        Some(8) => (FailureClass::CommandNotExecutable, "exec format error".to_owned()),
        _ => (FailureClass::Internal, error.to_string()),
    };
    let message = match (stat, class) {
        (Some(path), FailureClass::CommandNotFound) => format!("exec: {name:?}: stat {path}: {reason}"),
        _ => format!("exec: {name:?}: {reason}"),
    };
    Failure { class, message }
}

impl Program {
    /// Gives the standard streams to the program's user, so that it can open
    /// /dev/stdout and its like. Streams that cannot change hands are left.
    pub(super) fn own_streams(&self) {
        if self.user.uid == 0 {
            return;
        }
        let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        for stream in streams {
            let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(self.user.uid)), None);
        }
    }

    /// Becomes the user the program runs as and gives up what it may not have.
    pub(super) fn drop_privileges(&self, plan: &ProcessPlan) -> Failing<()> {
        for &(resource, soft, hard) in &plan.rlimits {
            process::set_rlimit(resource, soft, hard).map_err(failed("set a resource limit"))?;
        }
        if let Some(mask) = plan.umask {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask & 0o777));
        }
        // Without no_new_privs a filter needs CAP_SYS_ADMIN, which is about to go.
        if !plan.no_new_privileges {
            install_filter(plan)?;
        }
        self.become_user(plan)?;
        if plan.no_new_privileges {
            rustix::thread::set_no_new_privs(true).map_err(|e| failed("set no_new_privs")(e.into()))?;
            install_filter(plan)?;
        }
        // A change of user clears it.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .map_err(|e| failed("set the parent death signal")(e.into()))
    }

    fn become_user(&self, plan: &ProcessPlan) -> Failing<()> {
        let caps = &plan.capabilities;
        capability::limit_bounding(CapSet(caps.bounding)).map_err(|e| failed("limit the bounding set")(e.into()))?;
        let (uid, gid) = (Uid::from_raw(self.user.uid), Gid::from_raw(self.user.gid));
        let groups: Vec<Gid> = self.user.groups.iter().map(|&g| Gid::from_raw(g)).collect();
        let what = failed("change the user");
        rustix::thread::set_keep_capabilities(true).map_err(|e| what(e.into()))?;
        rustix::thread::set_thread_groups(&groups).map_err(|e| what(e.into()))?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(|e| what(e.into()))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|e| what(e.into()))?;
        rustix::thread::set_keep_capabilities(false).map_err(|e| what(e.into()))?;
        let sets = capability::Sets {
            effective: CapSet(caps.effective),
            permitted: CapSet(caps.permitted),
            inheritable: CapSet(caps.inheritable),
        };
        capability::set(sets).map_err(|e| failed("set the capabilities")(e.into()))?;
        if caps.ambient != 0 {
            capability::set_ambient(CapSet(caps.ambient))
                .map_err(|e| failed("set the ambient capabilities")(e.into()))?;
        }
        Ok(())
    }

    /// Runs the program in place of this one. Returns only its failure.
    pub(super) fn exec(&self) -> Failure {
        process::default_signals();
        let error = match process::close_on_exec_from(3) {
            Ok(()) => process::exec(&self.path, &self.args, &self.env),
            Err(e) => e,
        };
        let name = self.path.to_string_lossy();
        exec_failure(&name, &error, None)
    }
}

fn install_filter(plan: &ProcessPlan) -> Failing<()> {
    if plan.seccomp.is_empty() {
        return Ok(());
    }
    seccomp::install(&plan.seccomp, plan.seccomp_flags)
        .map(drop)
        .map_err(|e| failed("install the system call filter")(e.into()))
}
