//! What the allocator does with memory that was given back.

/// Makes the allocator return freed blocks of 32 KB and more to the kernel at
/// once, for processes whose idle size counts. mallopt(3); by default it
/// learns from the first large block to keep all later ones.
pub fn return_large_blocks() {
    const LARGE: libc::c_int = 32 << 10;
    // SAFETY: both only set numbers that the allocator reads.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 4 * LARGE);
    }
}
