//! How the kernel shares processors and memory nodes out to the calling
//! thread: scheduling, I/O priority, affinity, memory policy; and the
//! execution domain, personality(2).

use std::io;

/// What sched_setattr(2) sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduler {
    /// SCHED_* number.
    pub policy: u32,
    /// SCHED_FLAG_* bits.
    pub flags: u64,
    /// Nice value, for the ordinary policies.
    pub nice: i32,
    /// Static priority, for the real-time policies.
    pub priority: u32,
    /// Nanoseconds, SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, SCHED_DEADLINE.
    pub period: u64,
}

/// `struct sched_attr` in its first published size, 48 bytes.
#[repr(C)]
struct RawScheduler {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets policy and parameters of the calling thread, sched_setattr(2).
///
/// # Errors
/// `EPERM` without CAP_SYS_NICE for what raises priority, `EINVAL` for values the policy does not take.
pub fn set_scheduler(wish: &Scheduler) -> io::Result<()> {
    let raw = RawScheduler {
        size: size_of::<RawScheduler>() as u32,
        policy: wish.policy,
        flags: wish.flags,
        nice: wish.nice,
        priority: wish.priority,
        runtime: wish.runtime,
        deadline: wish.deadline,
        period: wish.period,
    };
    // SAFETY: the structure carries its own size and outlives the call.
    outcome(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const raw, 0) })
}

/// Sets the I/O priority of the calling thread, ioprio_set(2): class in the
/// upper three of sixteen bits, level below.
///
/// # Errors
/// `EPERM` for the real-time class without privilege.
pub fn set_io_priority(priority: u16) -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    // SAFETY: no pointer is passed.
    outcome(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, libc::c_int::from(priority)) })
}

/// Largest processor number that can be asked for, as in the kernel's largest configuration.
const MAX_CPUS: usize = 8192;
const WORD: usize = usize::BITS as usize;

/// Lets the calling thread run on these processors only, sched_setaffinity(2).
///
/// # Errors
/// `EINVAL` when its cgroup allows none of them, or a number is out of range.
pub fn set_affinity(cpus: &[u32]) -> io::Result<()> {
    let mut mask = [0usize; MAX_CPUS / WORD];
    for &cpu in cpus {
        let cpu = cpu as usize;
        *mask.get_mut(cpu / WORD).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))? |= 1 << (cpu % WORD);
    }
    affinity(&mask)
}

/// Lets the calling thread run wherever its cgroup does.
///
/// # Errors
/// None expected.
pub fn reset_affinity() -> io::Result<()> {
    affinity(&[usize::MAX; MAX_CPUS / WORD])
}

fn affinity(mask: &[usize]) -> io::Result<()> {
    // SAFETY: pointer and size describe one slice, which the kernel only reads.
    outcome(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(mask), mask.as_ptr()) })
}

/// Sets the execution domain of this process, personality(2).
///
/// # Errors
/// `EINVAL` when the kernel cannot.
pub fn set_personality(persona: u64) -> io::Result<()> {
    // SAFETY: no pointer is passed; a domain changes what new programs see, not this one's memory.
    outcome(unsafe { libc::syscall(libc::SYS_personality, persona) })
}

/// Sets where the calling thread's memory comes from, set_mempolicy(2): MPOL_*
/// mode, MPOL_F_* bits, nodes.
///
/// # Errors
/// `EINVAL` for nodes that the mode cannot have or the machine lacks.
pub fn set_memory_policy(mode: u32, flags: u32, nodes: &[u32]) -> io::Result<()> {
    let mode = (mode | flags) as libc::c_int;
    let mut mask: Vec<libc::c_ulong> = Vec::new();
    for &node in nodes {
        let word = node as usize / WORD;
        if word >= MAX_CPUS / WORD {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        mask.resize(mask.len().max(word + 1), 0);
        mask[word] |= 1 << (node as usize % WORD);
    }
    // The kernel reads one bit less than it is told.
    let bits = if mask.is_empty() { 0 } else { mask.len() * WORD + 1 };
    let pointer = if mask.is_empty() { std::ptr::null() } else { mask.as_ptr() };
    // SAFETY: the mask has at least as many bits as the kernel reads, or is null with a count of zero.
    outcome(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) })
}

fn outcome(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_of_a_thread() {
        std::thread::spawn(|| {
            let allowed = || {
                let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
                status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:\t").map(str::to_owned)).unwrap()
            };
            let before = allowed();
            let one: u32 = before.split([',', '-']).next().unwrap().parse().unwrap();
            set_affinity(&[one]).unwrap();
            assert_eq!(allowed(), one.to_string());
            reset_affinity().unwrap();
            assert!(allowed().len() >= before.len());
            assert_eq!(set_affinity(&[1 << 20]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn priorities_of_a_thread() {
        std::thread::spawn(|| {
            set_scheduler(&Scheduler { policy: libc::SCHED_BATCH as u32, nice: 3, ..Scheduler::default() }).unwrap();
            // SAFETY: nothing is passed by pointer.
            assert_eq!(unsafe { libc::sched_getscheduler(0) }, libc::SCHED_BATCH);
            set_io_priority(3 << 13 | 3).unwrap();
            // SAFETY: nothing is passed by pointer.
            assert_eq!(unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) }, 3 << 13 | 3);
            match set_memory_policy(2, 0, &[0]) {
                Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => println!("skipped: no NUMA in this kernel"),
                outcome => outcome.unwrap(),
            }
            assert!(set_memory_policy(2, 0, &[]).is_err());
        })
        .join()
        .unwrap();
    }
}
