//! A new ext4 file system in a file, ext4(5): what mkfs.ext4 does, for images that are mounted through a loop device.
//!
//! One journal, extents, no checksums, nothing reserved, and nothing in it: not even `lost+found`. Only what differs
//! from zero is written, so that a sparse file stays sparse. Layout: the kernel's
//! `Documentation/filesystems/ext4`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a block.
const BLOCK: u64 = 4096;
const PER_GROUP: u64 = 32768;
const INODE: u64 = 256;
/// Bytes of a group descriptor.
const DESCRIPTOR: u64 = 32;
const ROOT: u64 = 2;
const JOURNAL: u64 = 8;
/// Inodes below it are the file system's own.
const FIRST_INODE: u64 = 11;
/// Blocks of the smallest journal.
const LEAST_JOURNAL: u64 = 1024;

/// Where everything is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layout {
    blocks: u64,
    groups: u64,
    inodes_per_group: u64,
    /// Blocks of the table of descriptors.
    descriptors: u64,
    journal: u64,
}

impl Layout {
    /// Lays out a file system in which about `size` bytes of files fit.
    fn plan(size: u64) -> Layout {
        let data = size.div_ceil(BLOCK);
        let journal = match data {
            0..32_768 => LEAST_JOURNAL,
            32_768..262_144 => 4096,
            _ => 8192,
        };
        // One inode for every 16 KiB, in whole blocks of the table.
        let inodes_per_group = (data / 4).clamp(64, PER_GROUP / 4) / 16 * 16;
        let table = inodes_per_group * INODE / BLOCK;
        let mut layout = Layout { blocks: 0, groups: 1, inodes_per_group, descriptors: 1, journal };
        loop {
            let overhead: u64 = (0..layout.groups).map(|group| layout.head(group) + 2 + table).sum();
            // The root directory, and room for maps of the files' blocks.
            let blocks = data + overhead + journal + 1 + data / 256;
            let groups = blocks.div_ceil(PER_GROUP);
            let descriptors = (groups * DESCRIPTOR).div_ceil(BLOCK);
            if groups <= layout.groups && descriptors <= layout.descriptors {
                // The last group needs room for more than its own tables.
                let last = layout.groups - 1;
                let least = layout.start(last) + layout.head(last) + 2 + table + 64;
                return Layout { blocks: blocks.max(least), ..layout };
            }
            layout = Layout { groups, descriptors, ..layout };
        }
    }

    /// Blocks of the copies of superblock and descriptors that a group begins with.
    fn head(&self, group: u64) -> u64 {
        if has_copy(group) { 1 + self.descriptors } else { 0 }
    }

    fn table(&self) -> u64 {
        self.inodes_per_group * INODE / BLOCK
    }

    fn start(&self, group: u64) -> u64 {
        group * PER_GROUP
    }

    /// Blocks of a group; the last one may have fewer than the others.
    fn length(&self, group: u64) -> u64 {
        PER_GROUP.min(self.blocks - self.start(group))
    }

    /// Blocks in use at the start of a group.
    fn used(&self, group: u64) -> u64 {
        let own = if group == 0 { 1 + self.journal } else { 0 };
        self.head(group) + 2 + self.table() + own
    }

    /// The block of the root directory; the journal follows it.
    fn root_block(&self) -> u64 {
        self.head(0) + 2 + self.table()
    }

    fn free_blocks(&self) -> u64 {
        (0..self.groups).map(|group| self.length(group) - self.used(group)).sum()
    }
}

/// The sparse copies: groups 0, 1 and powers of 3, 5 and 7.
fn has_copy(group: u64) -> bool {
    let power = |base: u64| {
        let mut value = base;
        while value < group {
            value *= base;
        }
        value == group
    };
    group < 2 || power(3) || power(5) || power(7)
}

/// Fields at their places in a buffer.
struct Fields(Vec<u8>);

impl Fields {
    fn new(length: u64) -> Fields {
        Fields(vec![0; usize::try_from(length).unwrap_or(0)])
    }

    fn bytes(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn u16(&mut self, at: usize, value: u64) {
        self.bytes(at, &(value as u16).to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: u64) {
        self.bytes(at, &(value as u32).to_le_bytes());
    }
}

/// Makes `file` an empty file system in which about `size` bytes of files fit; the file grows to what that takes.
/// `id` tells it from others, `now` is seconds of Unix time.
///
/// # Errors
/// What writing says; `EFBIG` for more than 8 TiB.
pub fn format(file: &File, size: u64, id: [u8; 16], now: u64) -> io::Result<()> {
    if size > 8 << 40 {
        return Err(rustix::io::Errno::FBIG.into());
    }
    let layout = Layout::plan(size);
    file.set_len(0)?;
    file.set_len(layout.blocks * BLOCK)?;
    let put = |block: u64, fields: &Fields| file.write_all_at(&fields.0, block * BLOCK);
    let descriptors = descriptors(&layout);
    for group in 0..layout.groups {
        let start = layout.start(group);
        if has_copy(group) {
            let at = start * BLOCK + if group == 0 { 1024 } else { 0 };
            file.write_all_at(&superblock(&layout, group, id, now).0, at)?;
            put(start + 1, &descriptors)?;
        }
        let bitmap = start + layout.head(group);
        put(bitmap, &bits(layout.used(group), layout.length(group)))?;
        let inodes = if group == 0 { FIRST_INODE - 1 } else { 0 };
        put(bitmap + 1, &bits(inodes, layout.inodes_per_group))?;
    }
    let table = (layout.head(0) + 2) * BLOCK;
    let root = inode(0o040_755, 2, 1, layout.root_block(), now);
    let journal = inode(0o100_600, 1, layout.journal, layout.root_block() + 1, now);
    file.write_all_at(&root.0, table + (ROOT - 1) * INODE)?;
    file.write_all_at(&journal.0, table + (JOURNAL - 1) * INODE)?;
    put(layout.root_block(), &root_directory())?;
    put(layout.root_block() + 1, &journal_head(&layout, id))?;
    file.sync_all()
}

/// A bitmap: the first `used` bits of `length` are taken, and so is what lies behind.
fn bits(used: u64, length: u64) -> Fields {
    let mut fields = Fields::new(BLOCK);
    for (n, byte) in (0u64..).zip(fields.0.iter_mut()) {
        for bit in 0..8 {
            let at = n * 8 + bit;
            if at < used || at >= length {
                *byte |= 1 << bit;
            }
        }
    }
    fields
}

fn superblock(layout: &Layout, group: u64, id: [u8; 16], now: u64) -> Fields {
    const HAS_JOURNAL_EXT_ATTR_DIR_INDEX: u64 = 0x4 | 0x8 | 0x20;
    const FILETYPE_EXTENTS: u64 = 0x2 | 0x40;
    const SPARSE_LARGE_HUGE_NLINK_EXTRA: u64 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40;
    let inodes = layout.inodes_per_group * layout.groups;
    let mut fields = Fields::new(1024);
    for (at, value) in [
        (0, inodes),
        (4, layout.blocks),
        (12, layout.free_blocks()),
        (16, inodes - (FIRST_INODE - 1)),
        (24, 2), // log2 of the block size, less 10
        (28, 2),
        (32, PER_GROUP),
        (36, PER_GROUP),
        (40, layout.inodes_per_group),
        (48, now),
        (64, now),
        (76, 1), // revision
        (84, FIRST_INODE),
        (92, HAS_JOURNAL_EXT_ATTR_DIR_INDEX),
        (96, FILETYPE_EXTENTS),
        (100, SPARSE_LARGE_HUGE_NLINK_EXTRA),
        (224, JOURNAL),
        (264, now),
        (352, 1), // directory hashes of signed characters
    ] {
        fields.u32(at, value);
    }
    for (at, value) in [
        (54, 0xffff), // never checked for having been mounted often
        (56, 0xef53),
        (58, 1), // clean
        (60, 1), // go on after errors
        (88, INODE),
        (90, group),
        (348, 32),
        (350, 32),
    ] {
        fields.u16(at, value);
    }
    fields.bytes(104, &id);
    fields.bytes(236, &id);
    fields.bytes(252, &[1]); // half MD4
    fields
}

fn descriptors(layout: &Layout) -> Fields {
    let mut fields = Fields::new(layout.descriptors * BLOCK);
    for group in 0..layout.groups {
        let at = usize::try_from(group * DESCRIPTOR).unwrap_or(0);
        let bitmap = layout.start(group) + layout.head(group);
        fields.u32(at, bitmap);
        fields.u32(at + 4, bitmap + 1);
        fields.u32(at + 8, bitmap + 2);
        fields.u16(at + 12, layout.length(group) - layout.used(group));
        let taken = if group == 0 { FIRST_INODE - 1 } else { 0 };
        fields.u16(at + 14, layout.inodes_per_group - taken);
        fields.u16(at + 16, u64::from(group == 0));
    }
    fields
}

/// An inode whose blocks are one extent.
fn inode(mode: u64, links: u64, blocks: u64, start: u64, now: u64) -> Fields {
    let mut fields = Fields::new(INODE);
    fields.u16(0, mode);
    fields.u32(4, blocks * BLOCK);
    for at in [8, 12, 16] {
        fields.u32(at, now);
    }
    fields.u16(26, links);
    fields.u32(28, blocks * BLOCK / 512);
    fields.u32(32, 0x8_0000); // extents
    fields.u16(40, 0xf30a);
    fields.u16(42, 1);
    fields.u16(44, 4);
    fields.u16(56, blocks);
    fields.u32(60, start);
    fields.u16(128, 32);
    fields
}

fn root_directory() -> Fields {
    let mut fields = Fields::new(BLOCK);
    for (at, length, name) in [(0, 12, &b"."[..]), (12, BLOCK - 12, b"..")] {
        fields.u32(at, ROOT);
        fields.u16(at + 4, length);
        fields.bytes(at + 6, &[name.len() as u8, 2]);
        fields.bytes(at + 8, name);
    }
    fields
}

/// The journal's superblock: big-endian, as JBD2 has it.
fn journal_head(layout: &Layout, id: [u8; 16]) -> Fields {
    let mut fields = Fields::new(BLOCK);
    let words = [(0, 0xc03b_3998), (4, 4), (12, BLOCK as u32), (16, layout.journal as u32), (20, 1), (24, 1), (64, 1)];
    for (at, value) in words {
        fields.bytes(at, &u32::to_be_bytes(value));
    }
    fields.bytes(48, &id);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What e2fsck thinks of a file system, where it is installed.
    fn check(size: u64) {
        let path = std::env::temp_dir().join(format!("budu-ext4-{}-{size}", std::process::id()));
        let file = File::create(&path).expect("temporary files can be made");
        format(&file, size, [7; 16], 1_700_000_000).expect("formatted");
        let blocks = rustix::fs::fstat(&file).expect("there").st_blocks.unsigned_abs();
        let checked = std::process::Command::new("/sbin/e2fsck").arg("-fn").arg(&path).output();
        std::fs::remove_file(&path).expect("removed");
        assert!(blocks * 512 < (128 << 10) + size / 8192, "{blocks} blocks are written for {size} bytes");
        if let Ok(output) = checked {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{size}: {said}{}", String::from_utf8_lossy(&output.stderr));
        }
    }

    #[test]
    fn the_checker_finds_nothing_wrong() {
        for size in [0, 1 << 20, 20 << 20, 127 << 20, 128 << 20, 129 << 20, (1 << 30) + 4096] {
            check(size);
        }
    }

    #[test]
    fn what_was_asked_for_is_free() {
        for size in [1 << 20, 20 << 20, 127 << 20, 128 << 20, 1 << 30, 64 << 30, 4 << 40] {
            let free = Layout::plan(size).free_blocks() * BLOCK;
            assert!(free >= size && free <= size + size / 64 + (160 << 20), "{size}: {free}");
        }
    }
}
