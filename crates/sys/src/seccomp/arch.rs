//! Architectures and the way they show in `struct seccomp_data`.

use super::tables;

/// An architecture (more exactly: a system call convention) that the kernel can report to a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// 64-bit x86 with 32-bit pointers: the same audit value as x86_64, numbers with bit 30 set.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM, EABI.
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit little-endian POWER.
    Ppc64le,
    /// 64-bit IBM Z.
    S390x,
    /// 64-bit LoongArch.
    Loongarch64,
}

/// Bit 30 of a system call number marks the x32 convention.
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// All that this compiler knows.
    pub const ALL: [Arch; 9] = [
        Arch::X86_64,
        Arch::X86,
        Arch::X32,
        Arch::Aarch64,
        Arch::Arm,
        Arch::Riscv64,
        Arch::Ppc64le,
        Arch::S390x,
        Arch::Loongarch64,
    ];

    /// The architecture this program was built for, if this compiler knows it.
    pub fn native() -> Option<Arch> {
        if cfg!(target_arch = "x86_64") {
            Some(if cfg!(target_pointer_width = "32") { Arch::X32 } else { Arch::X86_64 })
        } else if cfg!(target_arch = "x86") {
            Some(Arch::X86)
        } else if cfg!(target_arch = "aarch64") {
            Some(Arch::Aarch64)
        } else if cfg!(target_arch = "arm") {
            Some(Arch::Arm)
        } else if cfg!(target_arch = "riscv64") {
            Some(Arch::Riscv64)
        } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
            Some(Arch::Ppc64le)
        } else if cfg!(target_arch = "s390x") {
            Some(Arch::S390x)
        } else if cfg!(target_arch = "loongarch64") {
            Some(Arch::Loongarch64)
        } else {
            None
        }
    }

    /// The name in OCI and Docker profiles.
    pub fn oci_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "SCMP_ARCH_X86_64",
            Arch::X86 => "SCMP_ARCH_X86",
            Arch::X32 => "SCMP_ARCH_X32",
            Arch::Aarch64 => "SCMP_ARCH_AARCH64",
            Arch::Arm => "SCMP_ARCH_ARM",
            Arch::Riscv64 => "SCMP_ARCH_RISCV64",
            Arch::Ppc64le => "SCMP_ARCH_PPC64LE",
            Arch::S390x => "SCMP_ARCH_S390X",
            Arch::Loongarch64 => "SCMP_ARCH_LOONGARCH64",
        }
    }

    /// From the name in OCI and Docker profiles. `None` for one this compiler does not know, which no host that this
    /// program runs on can report.
    pub fn from_oci_name(name: &str) -> Option<Arch> {
        Arch::ALL.into_iter().find(|arch| arch.oci_name() == name)
    }

    /// `AUDIT_ARCH_*`, as it stands in `seccomp_data.arch`.
    pub fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
            Arch::Riscv64 => 0xc000_00f3,
            Arch::Ppc64le => 0xc000_0015,
            Arch::S390x => 0x8000_0016,
            Arch::Loongarch64 => 0xc000_0102,
        }
    }

    /// Whether arguments are 64 bits wide.
    pub(super) fn is_64_bit(self) -> bool {
        !matches!(self, Arch::X86 | Arch::Arm)
    }

    /// Whether the upper half of an argument lies at the lower address.
    pub(super) fn is_big_endian(self) -> bool {
        matches!(self, Arch::S390x)
    }

    /// The number of a call, `None` when this architecture has no such call.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        tables::number(self, name)
    }
}
