//! Top: the processes of a container, read from /proc. No program is run.

mod options;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use budu_spec::docker::TopAnswer;
use budu_sys::cgroup::{Cgroup, CgroupPath, Layout};
use jiff::Timestamp;
use jiff::tz::Offset;

use super::spec;
use crate::{Engine, Error};

/// Clock ticks per second, which Linux shows user space as 100 everywhere.
const TICKS: u64 = 100;

/// What /proc says about one process.
#[derive(Debug, Default, Clone)]
struct Process {
    pid: u32,
    parent: u32,
    group: u32,
    session: u32,
    state: char,
    uid: u32,
    gid: u32,
    threads: u64,
    terminal: u32,
    nice: i64,
    priority: i64,
    /// Ticks of processor time.
    time: u64,
    /// Ticks after boot.
    start: u64,
    virtual_bytes: u64,
    resident_pages: u64,
    /// Kernel flags, PF_*.
    flags: u64,
    /// Foreground process group of its terminal.
    foreground: i64,
    /// Processor it ran on last.
    processor: u64,
    /// Where in the kernel it sleeps.
    channel: String,
    name: String,
    command: String,
}

impl Engine {
    /// Lists the processes of a container as `ps` would; `-ef` by default.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it does not run, [`Error::Unsupported`] for
    /// options of `ps` that are not understood.
    pub async fn top(&self, name: &str, arguments: &str) -> Result<TopAnswer, Error> {
        let container = self.find(name)?;
        if !container.state().status.is_running() {
            return Err(Error::not_running(container.id.as_str()));
        }
        container.require_running("top")?;
        let columns = options::columns(if arguments.trim().is_empty() { "-ef" } else { arguments })?;
        let path = spec::cgroup_path(&container.record(), &self.0.options.cgroup_parent);
        let first = container.state().pid;
        let host = Host::read();
        let mut pids = members(&path);
        pids.insert(first);
        let processes = pids.into_iter().filter_map(|pid| Process::read(&PathBuf::from(format!("/proc/{pid}"))));
        let rows = processes.map(|p| columns.iter().map(|c| (c.show)(&p, &host)).collect()).collect();
        self.tell(&container, "top", &[]);
        Ok(TopAnswer { titles: columns.iter().map(|c| c.title.clone()).collect(), processes: rows })
    }
}

fn members(path: &str) -> BTreeSet<u32> {
    let list = || {
        let layout = Layout::detect().ok()?;
        let cgroup = Cgroup::open(&layout, &CgroupPath::parse(path).ok()?).ok()?.keep();
        cgroup.procs().ok()
    };
    list().into_iter().flatten().filter_map(|pid| u32::try_from(pid.as_raw_pid()).ok()).collect()
}

/// What is the same for all processes.
struct Host {
    boot: i64,
    now: i64,
    memory: u64,
    users: HashMap<u32, String>,
}

impl Host {
    fn read() -> Host {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = stat.lines().find_map(|l| l.strip_prefix("btime ")).and_then(|t| t.trim().parse().ok()).unwrap_or(0);
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = memory.lines().find_map(|l| l.strip_prefix("MemTotal:"));
        let memory = total.and_then(|t| t.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(1);
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((fields.nth(1)?.parse().ok()?, name))
        };
        Host { boot, now: Timestamp::now().as_second(), memory, users: passwd.lines().filter_map(user).collect() }
    }

    /// As ps prints users: the name, or the number when it is unknown or too long.
    fn user(&self, uid: u32) -> String {
        self.users.get(&uid).filter(|n| n.len() <= 8).cloned().unwrap_or_else(|| uid.to_string())
    }

    fn started(&self, ticks: u64) -> i64 {
        self.boot + i64::try_from(ticks / TICKS).unwrap_or(0)
    }
}

impl Process {
    fn read(dir: &Path) -> Option<Process> {
        let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
        let mut process = Process::parse(&stat)?;
        let status = std::fs::read_to_string(dir.join("status")).unwrap_or_default();
        let id = |key: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(key))?;
            // Real, effective, saved, file system; ps shows the effective one.
            line.split_whitespace().nth(1)?.parse().ok()
        };
        process.uid = id("Uid:").unwrap_or(0);
        process.gid = id("Gid:").unwrap_or(0);
        let command = std::fs::read(dir.join("cmdline")).unwrap_or_default();
        let words: Vec<_> = command.split(|b| *b == 0).filter(|w| !w.is_empty()).map(String::from_utf8_lossy).collect();
        let channel = std::fs::read_to_string(dir.join("wchan")).unwrap_or_default();
        process.channel = if matches!(channel.as_str(), "" | "0") { "-".to_owned() } else { channel };
        process.command = if words.is_empty() { format!("[{}]", process.name) } else { words.join(" ") };
        Some(process)
    }

    /// Parses /proc/PID/stat, proc_pid_stat(5).
    fn parse(stat: &str) -> Option<Process> {
        let (head, tail) = stat.rsplit_once(')')?;
        let (pid, name) = head.split_once('(')?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let number = |i: usize| fields.get(i).and_then(|f| f.parse::<i64>().ok()).unwrap_or(0);
        let natural = |i: usize| u64::try_from(number(i)).unwrap_or(0);
        Some(Process {
            pid: pid.trim().parse().ok()?,
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: natural(1) as u32,
            group: natural(2) as u32,
            session: natural(3) as u32,
            terminal: natural(4) as u32,
            time: natural(11) + natural(12),
            priority: number(15),
            nice: number(16),
            threads: natural(17),
            start: natural(19),
            virtual_bytes: natural(20),
            resident_pages: natural(21),
            foreground: number(5),
            flags: natural(6),
            processor: natural(36),
            ..Process::default()
        })
    }

    fn terminal(&self) -> String {
        let (major, minor) = (self.terminal >> 8 & 0xfff, self.terminal & 0xff | self.terminal >> 12 & 0xfff00);
        match major {
            136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
            4 => format!("tty{minor}"),
            _ => "?".to_owned(),
        }
    }
}

/// One column.
struct Column {
    title: String,
    show: fn(&Process, &Host) -> String,
}

type Show = fn(&Process, &Host) -> String;

/// Columns by their `-o` names.
const COLUMNS: &[(&[&str], &str, Show)] = &[
    (&["pid"], "PID", |p, _| p.pid.to_string()),
    (&["ppid"], "PPID", |p, _| p.parent.to_string()),
    (&["pgid", "pgrp"], "PGID", |p, _| p.group.to_string()),
    (&["sid", "sess"], "SID", |p, _| p.session.to_string()),
    (&["user", "euser", "uname"], "USER", |p, h| h.user(p.uid)),
    (&["uid", "euid"], "UID", |p, _| p.uid.to_string()),
    (&["gid", "egid"], "GID", |p, _| p.gid.to_string()),
    (&["c"], "C", |p, h| format!("{:.0}", cpu(p, h))),
    (&["pcpu", "%cpu"], "%CPU", |p, h| format!("{:.1}", cpu(p, h))),
    (&["pmem", "%mem"], "%MEM", |p, h| format!("{:.1}", p.resident_pages as f64 * 400.0 / h.memory as f64)),
    (&["vsz", "vsize"], "VSZ", |p, _| (p.virtual_bytes / 1024).to_string()),
    (&["rss", "rssize", "rsz"], "RSS", |p, _| (p.resident_pages * 4).to_string()),
    (&["tty", "tt", "tname"], "TT", |p, _| p.terminal()),
    (&["stat"], "STAT", |p, _| stat(p)),
    (&["s", "state"], "S", |p, _| p.state.to_string()),
    (&["stime", "start_time"], "STIME", |p, h| clock_time(h.started(p.start), h.now)),
    (&["start"], "STARTED", |p, h| clock_time(h.started(p.start), h.now)),
    (&["lstart"], "STARTED", |p, h| long_time(h.started(p.start))),
    (&["bsdtime"], "TIME", |p, _| bsd_time(p.time)),
    (&["f", "flag", "flags"], "F", |p, _| (p.flags >> 6 & 7).to_string()),
    (&["sz"], "SZ", |p, _| (p.virtual_bytes / 4096).to_string()),
    (&["psr", "cpuid"], "PSR", |p, _| p.processor.to_string()),
    (&["tpgid"], "TPGID", |p, _| p.foreground.to_string()),
    (&["wchan"], "WCHAN", |p, _| p.channel.clone()),
    (&["addr"], "ADDR", |_, _| "-".to_owned()),
    (&["lwp", "spid", "tid"], "LWP", |p, _| p.pid.to_string()),
    (&["opri"], "PRI", |p, _| (60 + p.priority).to_string()),
    (&["priority"], "PRI", |p, _| p.priority.to_string()),
    (&["time", "cputime"], "TIME", |p, _| cpu_time(p.time)),
    (&["etime"], "ELAPSED", |p, h| elapsed(h.now - h.started(p.start))),
    (&["etimes"], "ELAPSED", |p, h| (h.now - h.started(p.start)).to_string()),
    (&["ni", "nice"], "NI", |p, _| p.nice.to_string()),
    (&["pri"], "PRI", |p, _| (39 - p.priority).to_string()),
    (&["nlwp", "thcount"], "NLWP", |p, _| p.threads.to_string()),
    (&["comm", "ucmd", "ucomm"], "COMMAND", |p, _| p.name.clone()),
    (&["args", "cmd", "command"], "COMMAND", |p, _| p.command.clone()),
];

fn cpu(p: &Process, h: &Host) -> f64 {
    let lived = (h.now - h.started(p.start)).max(1) as f64;
    p.time as f64 / TICKS as f64 * 100.0 / lived
}

fn stat(p: &Process) -> String {
    let mut text = p.state.to_string();
    match p.nice {
        ..0 => text.push('<'),
        1.. => text.push('N'),
        0 => {}
    }
    if p.session == p.pid {
        text.push('s');
    }
    if p.threads > 1 {
        text.push('l');
    }
    text
}

/// The hour of today, else the day.
fn clock_time(seconds: i64, now: i64) -> String {
    let at = |s: i64| Offset::UTC.to_datetime(Timestamp::from_second(s).unwrap_or_default());
    let (time, today) = (at(seconds), at(now));
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    if time.date() == today.date() || now - seconds < 24 * 3600 {
        format!("{:02}:{:02}", time.hour(), time.minute())
    } else if time.year() == today.year() {
        let month = MONTHS[usize::try_from(time.month() - 1).unwrap_or(0)];
        format!("{month}{:02}", time.day())
    } else {
        time.year().to_string()
    }
}

fn cpu_time(ticks: u64) -> String {
    let s = ticks / TICKS;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// Minutes and seconds, as BSD's ps has them.
fn bsd_time(ticks: u64) -> String {
    let s = ticks / TICKS;
    format!("{}:{:02}", s / 60, s % 60)
}

/// The whole date, as ctime(3) prints it.
fn long_time(seconds: i64) -> String {
    let at = Offset::UTC.to_datetime(Timestamp::from_second(seconds).unwrap_or_default());
    at.strftime("%a %b %e %H:%M:%S %Y").to_string()
}

fn elapsed(s: i64) -> String {
    let (days, hours, minutes, seconds) = (s / 86400, s / 3600 % 24, s / 60 % 60, s % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes:02}:{seconds:02}"),
        (0, _) => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        _ => format!("{days}-{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// A column by name, `name=TITLE` renames it.
fn column(text: &str) -> Option<Column> {
    let (name, title) = text.split_once('=').map_or((text, None), |(n, t)| (n, Some(t)));
    let (_, default, show) = COLUMNS.iter().find(|(names, ..)| names.contains(&name))?;
    Some(Column { title: title.unwrap_or(default).to_owned(), show: *show })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_reads_itself() {
        let process = Process::read(Path::new("/proc/self")).unwrap();
        assert_eq!(process.pid, std::process::id());
        assert!(!process.command.is_empty());
        let odd = Process::parse("12 (a) (b) S 1 12 12 34816 0 0 0 0 0 0 150 50 0 0 20 0 3 0 999 4096 2").unwrap();
        assert_eq!((odd.pid, odd.name.as_str(), odd.parent, odd.time, odd.threads), (12, "a) (b", 1, 200, 3));
        assert_eq!(odd.terminal(), "pts/0");
        assert_eq!(cpu_time(odd.time), "00:00:02");
    }
}
