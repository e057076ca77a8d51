//! Where the kernel enters the binary, before the C library's own start.
//!
//! A position-independent static binary relocates its constants when it
//! starts: some 70 pages, each a fault of its own and each copied. Asking the
//! kernel for all of them at once (madvise(2), `MADV_POPULATE_WRITE`, Linux
//! 5.14) takes a third of that time off; where it is refused nothing is lost.
//! This must happen before the relocations, thus in code that needs none.
//!
//! `build.rs` of the binary makes `budu_start` the entry point.

// elf(5): `e_phoff` at 32, `e_phnum` at 56 of the header; of a program header `p_type` at 0, `p_vaddr` at 16,
// `p_memsz` at 40. The image is linked at address 0, so that an address in it is an offset from the header. The C
// library's start wants the stack and rdx as the kernel left them (System V ABI, AMD64, section 3.4.1).
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .text.budu_start, \"ax\", @progbits",
    ".globl budu_start",
    ".type budu_start, @function",
    "budu_start:",
    "mov r12, rdx",
    "lea r8, [rip + __ehdr_start]",
    "mov r10, [r8 + 32]",
    "add r10, r8",
    "movzx r9d, word ptr [r8 + 56]",
    "2:",
    "sub r9d, 1",
    "js 4f",
    "cmp dword ptr [r10], {relro}",
    "je 3f",
    "add r10, {header}",
    "jmp 2b",
    "3:",
    "mov rdi, [r10 + 16]",
    "add rdi, r8",
    "mov rsi, [r10 + 40]",
    "add rsi, rdi",
    "and rdi, -4096",
    "sub rsi, rdi",
    "mov edx, {populate}",
    "mov eax, {madvise}",
    "syscall",
    "4:",
    "mov rdx, r12",
    "jmp _start",
    ".size budu_start, . - budu_start",
    ".popsection",
    relro = const libc::PT_GNU_RELRO,
    header = const size_of::<libc::Elf64_Phdr>(),
    populate = const libc::MADV_POPULATE_WRITE,
    madvise = const libc::SYS_madvise,
);
