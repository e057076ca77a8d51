//! The process in between: enters the namespaces that only children are born
//! into, or that must own the others, and then makes the first process as its
//! sibling (CLONE_PARENT), so that this one's parent can wait for it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use budu_sys::process::{self, CloneArgs, Side, SingleThreaded};
use rustix::process::Pid;

use super::{CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER, maps};
use crate::init::{self, Failing, failed};
use crate::plan::Plan;
use crate::protocol::{self, Event};

/// In this order: the user namespace grants the privilege over the others.
const ENTERED: [u64; 3] = [CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWTIME];

/// Byte from the stage: its id maps may be written; and back: they are.
const MAPS: u8 = b'm';

/// Whether a plan cannot be born by one clone3.
pub(super) fn is_needed(plan: &Plan) -> bool {
    plan.namespaces.new & CLONE_NEWTIME != 0 || plan.namespaces.join.iter().any(|(bit, _)| ENTERED.contains(bit))
}

/// As [`process::clone3`], through a process in between. `theirs` and `ours`
/// are the two ends of the report socket, not used by anybody else yet.
pub(super) fn clone(
    token: &SingleThreaded,
    plan: &Plan,
    args: CloneArgs<'_>,
    theirs: BorrowedFd<'_>,
    ours: BorrowedFd<'_>,
) -> Failing<Side> {
    let at_once = args.namespaces & CLONE_NEWUSER;
    // Into the cgroup with the host's privileges: the copy may have none over it.
    let first = CloneArgs { namespaces: at_once, cgroup: args.cgroup, ..CloneArgs::default() };
    let args = CloneArgs { cgroup: None, ..args };
    match process::clone3(token, first).map_err(failed("create the user namespace"))? {
        Side::Child => match enter_and_clone(token, plan, args, theirs) {
            Ok(side) => Ok(side),
            Err(failure) => {
                let _ = budu_sys::socket::send_with_fds(theirs, &protocol::encode(&Event::Failed(failure)), &[]);
                process::exit_now(1)
            }
        },
        Side::Parent { pid, pidfd } => {
            let outcome = attend(plan, pid, ours, at_once != 0);
            if outcome.is_err() {
                let _ = process::signal(pidfd.as_fd(), 9);
            }
            // It ends by itself, once its sibling knows what it waits for.
            let _ = process::reap(pidfd.as_fd(), true);
            outcome
        }
    }
}

/// The parent's part: maps, and taking over the sibling.
fn attend(plan: &Plan, stage: Pid, ours: BorrowedFd<'_>, new_user: bool) -> Failing<Side> {
    if new_user {
        maps::write(&plan.namespaces, stage).map_err(failed("map the user namespace's ids"))?;
        budu_sys::socket::send_with_fds(ours, &[MAPS], &[]).map_err(failed("tell of the id maps"))?;
    }
    let (pid, pidfd) = init::adopt(ours)?;
    Ok(Side::Parent { pid, pidfd })
}

/// The stage's part. Returns in the first process only.
fn enter_and_clone(token: &SingleThreaded, plan: &Plan, args: CloneArgs<'_>, report: BorrowedFd<'_>) -> Failing<Side> {
    let mut namespaces = args.namespaces;
    let joined = open_joined(plan)?;
    // Opened with the rights of now: those of the user namespace do not reach a hidden process's own files.
    let clocks = (namespaces & CLONE_NEWTIME != 0)
        .then(|| File::options().write(true).open("/proc/self/timens_offsets"))
        .transpose()
        .map_err(failed("open the time namespace's offsets"))?;
    if namespaces & CLONE_NEWUSER != 0 {
        namespaces &= !CLONE_NEWUSER;
        let mut byte = [0u8];
        match budu_sys::socket::receive_with_fds(report, &mut byte) {
            Ok((1, _)) if byte[0] == MAPS => {}
            _ => process::exit_now(1),
        }
        init::become_inner_root()?;
    }
    for (bit, path, file) in &joined {
        process::setns(file.as_fd(), *bit as i32).map_err(failed(&format!("join namespace {path}")))?;
        if *bit == CLONE_NEWUSER {
            init::become_inner_root()?;
        }
    }
    process::hide();
    if let Some(clocks) = clocks {
        namespaces &= !CLONE_NEWTIME;
        process::unshare(token, CLONE_NEWTIME as i32).map_err(failed("create the time namespace"))?;
        set_offsets(plan, &clocks).map_err(failed("set the time namespace's offsets"))?;
    }
    init::bear(token, CloneArgs { namespaces, ..args }, report)?;
    Ok(Side::Child)
}

/// Opens the namespaces to enter, while their paths are still within reach.
fn open_joined(plan: &Plan) -> Failing<Vec<(u64, String, File)>> {
    let mut joined = Vec::new();
    for bit in ENTERED {
        for (_, path) in plan.namespaces.join.iter().filter(|(kind, _)| *kind == bit) {
            let name = path.display().to_string();
            let file = File::open(path).map_err(failed(&format!("join namespace {name}")))?;
            joined.push((bit, name, file));
        }
    }
    Ok(joined)
}

/// Sets the clocks of the time namespace that children will be born into,
/// time_namespaces(7): one write for all.
fn set_offsets(plan: &Plan, mut clocks: &File) -> io::Result<()> {
    let offsets = &plan.namespaces.time_offsets;
    let text: String = offsets.iter().map(|(clock, secs, nanos)| format!("{clock} {secs} {nanos}\n")).collect();
    if text.is_empty() { Ok(()) } else { clocks.write_all(text.as_bytes()) }
}
