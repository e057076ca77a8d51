//! System call numbers of the architectures in [`Arch::ALL`].

mod generated;

use super::Arch;
use generated::{NAMES, NUMBERS};

/// The number of a call, `None` when the architecture has no such call.
pub fn number(arch: Arch, name: &str) -> Option<u32> {
    let row = NAMES.binary_search(&name).ok()?;
    u32::try_from(NUMBERS[row][column(arch)]).ok()
}

/// A name of a call by number.
pub fn name(arch: Arch, number: u32) -> Option<&'static str> {
    let number = i32::try_from(number).ok()?;
    let row = NUMBERS.iter().position(|row| row[column(arch)] == number)?;
    Some(NAMES[row])
}

fn column(arch: Arch) -> usize {
    arch as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_everybody_knows() {
        assert_eq!(number(Arch::X86_64, "read"), Some(0));
        assert_eq!(number(Arch::X86, "read"), Some(3));
        assert_eq!(number(Arch::X32, "read"), Some(0x4000_0000));
        assert_eq!(number(Arch::X32, "ioctl"), Some(0x4000_0202));
        assert_eq!(number(Arch::Aarch64, "read"), Some(63));
        assert_eq!(number(Arch::Aarch64, "open"), None);
        assert_eq!(number(Arch::Arm, "cacheflush"), Some(0xf_0002));
        assert_eq!(number(Arch::X86_64, "nonsense"), None);
        assert_eq!(name(Arch::X86_64, 59), Some("execve"));
        assert_eq!(number(Arch::X86_64, "clone3"), u32::try_from(libc::SYS_clone3).ok());
    }
}
