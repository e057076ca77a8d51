//! A compiled program and how it reaches the kernel.

use super::Flags;
use rustix::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// One classic BPF instruction, laid out as `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions skipped when a test holds.
    pub jt: u8,
    /// Instructions skipped when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// A compiled filter. Compare, keep, send or install it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Program {
    /// The instructions.
    pub instructions: Vec<Instruction>,
    /// Flags to install it with.
    pub flags: Flags,
    /// Whether some call is answered by a listener: then [`Program::install`] returns the listener's descriptor.
    pub notifies: bool,
}

const SET_MODE_FILTER: libc::c_long = 1;
const FLAG_LOG: u32 = 1 << 1;
const FLAG_SPEC_ALLOW: u32 = 1 << 2;
const FLAG_NEW_LISTENER: u32 = 1 << 3;
const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

impl Program {
    /// The instructions as bytes in host order, for sending to another process of this host.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.instructions.len() * 8);
        for instruction in &self.instructions {
            bytes.extend_from_slice(&instruction.code.to_ne_bytes());
            bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
            bytes.extend_from_slice(&instruction.k.to_ne_bytes());
        }
        bytes
    }

    /// `SECCOMP_FILTER_FLAG_*` bits for [`install`], with the listener's when the program notifies.
    pub fn flag_bits(&self) -> u32 {
        let flags = [
            (self.flags.log, FLAG_LOG),
            (self.flags.spec_allow, FLAG_SPEC_ALLOW),
            // The kernel takes this one only together with a listener.
            (self.flags.wait_killable_recv && self.notifies, FLAG_WAIT_KILLABLE_RECV),
            (self.notifies, FLAG_NEW_LISTENER),
        ];
        flags.into_iter().filter(|(wanted, _)| *wanted).fold(0, |bits, (_, flag)| bits | flag)
    }

    /// See [`install`].
    ///
    /// # Errors
    /// As there.
    pub fn install(&self) -> io::Result<Option<OwnedFd>> {
        let length = self.instructions.len();
        install_at(self.instructions.as_ptr().cast(), length, self.flag_bits())
    }
}

/// Puts a filter on the calling thread and all it will fork or exec. `program` is what [`Program::to_bytes`] made, `flags`
/// what [`Program::flag_bits`] says. Needs `no_new_privs` or CAP_SYS_ADMIN in the thread's user namespace, and cannot
/// be undone. Allocates nothing.
///
/// Returns the listener's descriptor (close-on-exec) when the flags ask for one.
///
/// # Errors
/// `EACCES` without the right above, `EINVAL` for a broken program or a flag this kernel lacks, `EBUSY` for a second
/// listener.
pub fn install(program: &[u8], flags: u32) -> io::Result<Option<OwnedFd>> {
    if !program.len().is_multiple_of(size_of::<Instruction>()) {
        return Err(io::Errno::INVAL);
    }
    // The kernel copies the bytes: their alignment does not matter.
    install_at(program.as_ptr(), program.len() / size_of::<Instruction>(), flags)
}

/// `first` points to `count` instructions.
fn install_at(first: *const u8, count: usize, flags: u32) -> io::Result<Option<OwnedFd>> {
    let length = u16::try_from(count).map_err(|_| io::Errno::INVAL)?;
    // The kernel only reads; the C type lacks the const.
    let program = libc::sock_fprog { len: length, filter: first.cast_mut().cast::<libc::sock_filter>() };
    let bits = libc::c_ulong::from(flags);
    // SAFETY: both callers pass a pointer to `count` readable instructions that outlive this call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, bits, &raw const program) };
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(io::Errno::from_io_error(&error).unwrap_or(io::Errno::INVAL));
    }
    if flags & FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    let descriptor = i32::try_from(result).map_err(|_| io::Errno::BADF)?;
    // SAFETY: with NEW_LISTENER the kernel returns a descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}
