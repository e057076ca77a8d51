//! How processes, containers and shims end.

use std::io;
use std::os::fd::AsFd;

use budu_sys::process::{self, Ended};
use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};

use super::connection::Role;
use super::process::Phase;
use super::serve::Shim;
use crate::protocol::{EXIT_FILE, Event, ExitRecord, Failure, MEMORY_FILE, MemoryRecord, SOCKET};

impl Shim {
    /// Takes the exit status of a process that has ended.
    pub(super) fn reap(&mut self, at: usize) {
        let Ok(Some(ended)) = process::reap(self.processes[at].pidfd.as_fd(), false) else { return };
        if self.processes[at].report.is_some() {
            // Its last word may still be on the way.
            self.read_report(at);
        }
        self.processes[at].report = None;
        let before = std::mem::replace(&mut self.processes[at].phase, Phase::Ended(ended));
        if self.processes[at].key == 0 {
            self.container_ended(ended, before);
        } else {
            self.drain_output(at);
            let exit = self.record(ended, false);
            self.tell_owner(at, &Event::Exited(exit));
            self.hang_up(Role::Exec(self.processes[at].key));
        }
    }

    /// The first process has ended, and with its pid namespace every other one.
    fn container_ended(&mut self, ended: Ended, before: Phase) {
        if !self.own_pids
            && let Some(cgroup) = &self.cgroup
        {
            // Without a pid namespace that ends with it the rest has to be told.
            let _ = cgroup.kill_all();
        }
        self.drain_output(0);
        if let Some(log) = &mut self.log {
            log.finish();
        }
        let kills = self.cgroup.as_ref().and_then(|c| c.oom_kills().ok()).unwrap_or(0);
        let oom_killed = kills > 0;
        if oom_killed {
            let _ = self.write_memory(kills);
        }
        self.remove_cgroup();
        self.run_last_hooks();
        let exit = self.record(ended, oom_killed);
        self.exit = Some(exit);
        if before == Phase::Running {
            // The record first, then no more connections, then the news:
            // whoever finds the socket gone finds the record.
            let _ = self.write_exit(&exit);
        }
        self.close_socket();
        self.tell_control(&Event::Exited(exit));
        for connection in self.connections.iter_mut().filter(|c| !matches!(c.role, Role::Exec(_))) {
            connection.close();
        }
    }

    /// A container that could not be made: nothing may be left of it by the
    /// time the engine hears of it.
    pub(super) fn give_up(&mut self, failure: Failure) -> ! {
        let first = &self.processes[0];
        let _ = process::signal(first.pidfd.as_fd(), 9);
        let _ = process::reap(first.pidfd.as_fd(), true);
        self.remove_cgroup();
        self.run_last_hooks();
        self.close_socket();
        self.tell_control(&Event::Failed(failure));
        for connection in &mut self.connections {
            let _ = rustix::io::ioctl_fionbio(&connection.fd, false);
            connection.close();
        }
        process::exit_now(1)
    }

    fn hang_up(&mut self, role: Role) {
        self.connections.iter_mut().filter(|c| c.role == role).for_each(|c| c.close());
    }

    fn remove_cgroup(&mut self) {
        if let Some(mut cgroup) = self.cgroup.take() {
            // What cannot be removed now (a stray process in it) the engine's clean-up finds.
            let _ = cgroup.remove();
        }
    }

    fn close_socket(&mut self) {
        self.listener = None;
        let _ = unlinkat(&self.run_dir, SOCKET, AtFlags::empty());
    }

    fn record(&self, ended: Ended, oom_killed: bool) -> ExitRecord {
        let signal = match ended {
            Ended::Signaled(signal) => Some(signal),
            Ended::Exited(_) => None,
        };
        let finished_at = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        ExitRecord { code: ended.code(), signal, oom_killed, finished_at }
    }

    /// Leaves what was counted of the memory, as long as there is a group that counts.
    fn write_memory(&self, kills: u64) -> io::Result<()> {
        let Some(Ok(stats)) = self.cgroup.as_ref().map(|cgroup| cgroup.stats()) else { return Ok(()) };
        // Version 1 says so of no limit: the largest number that is a multiple of the page size.
        let limit = Some(stats.memory.limit).filter(|limit| *limit < i64::MAX.cast_unsigned() >> 1);
        let record = MemoryRecord { limit, peak: stats.memory.max_usage, kills };
        self.write_whole(MEMORY_FILE, &serde_json::to_vec(&record)?)
    }

    /// Leaves the exit record.
    fn write_exit(&self, exit: &ExitRecord) -> io::Result<()> {
        self.write_whole(EXIT_FILE, &serde_json::to_vec(exit)?)
    }

    /// Leaves a file: written whole or not at all.
    fn write_whole(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        const TEMPORARY: &str = "exit.json.new";
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.run_dir, TEMPORARY, flags, Mode::from_raw_mode(0o600))?;
        rustix::io::write(&file, bytes)?;
        Ok(renameat(&self.run_dir, TEMPORARY, &self.run_dir, name)?)
    }
}
