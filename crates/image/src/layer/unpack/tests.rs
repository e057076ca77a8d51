//! Archives as attackers and as honest tools write them, unpacked next to a canary.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tar::{Builder, EntryType, Header};

use super::super::archive::Archive;
use super::super::inherit::finish;
use super::*;

/// Writes archives that `tar` itself refuses to write.
struct Forge {
    bytes: Builder<Vec<u8>>,
}

impl Forge {
    fn new() -> Forge {
        Forge { bytes: Builder::new(Vec::new()) }
    }

    fn add(mut self, kind: EntryType, name: &str, link: &str, mode: u32, data: &[u8]) -> Forge {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        header.set_size(data.len() as u64);
        if kind == EntryType::Char {
            header.set_device_major(1).expect("ustar");
            header.set_device_minor(3).expect("ustar");
        }
        header.set_cksum();
        self.bytes.append(&header, data).expect("in memory");
        self
    }

    fn file(self, name: &str, data: &str) -> Forge {
        self.add(EntryType::Regular, name, "", 0o644, data.as_bytes())
    }

    fn directory(self, name: &str) -> Forge {
        self.add(EntryType::Directory, name, "", 0o755, b"")
    }

    fn link(self, name: &str, target: &str) -> Forge {
        self.add(EntryType::Symlink, name, target, 0o777, b"")
    }

    fn hard(self, name: &str, target: &str) -> Forge {
        self.add(EntryType::Link, name, target, 0o644, b"")
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Forge {
        self.bytes.append_pax_extensions(records.iter().copied()).expect("in memory");
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.bytes.into_inner().expect("in memory")
    }
}

/// A layer directory with a canary beside it that must never change.
struct Place {
    directory: tempfile::TempDir,
    before: BTreeMap<PathBuf, String>,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().expect("temporary directory");
        let canary = directory.path().join("canary");
        fs::create_dir_all(canary.join("sub")).expect("made");
        fs::write(canary.join("secret"), "untouched").expect("written");
        fs::set_permissions(canary.join("secret"), fs::Permissions::from_mode(0o600)).expect("set");
        symlink("secret", canary.join("link")).expect("made");
        fs::create_dir(directory.path().join("fs")).expect("made");
        let before = fingerprint(&canary);
        Place { directory, before }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("fs")
    }

    fn canary(&self) -> String {
        self.directory.path().join("canary").to_str().expect("utf-8").to_owned()
    }

    fn unpack(&self, archive: &[u8]) -> Result<Unpacked, Fault> {
        let result = unpack(archive, &self.root()).map(|(unpacked, _)| unpacked);
        assert_eq!(fingerprint(Path::new(&self.canary())), self.before, "the canary was touched");
        let beside: Vec<_> = fs::read_dir(self.directory.path()).expect("listed").collect();
        assert_eq!(beside.len(), 2, "something was made outside of the layer");
        result
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).expect(path)
    }

    fn stat(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.root().join(path)).expect(path)
    }

    fn exists(&self, path: &str) -> bool {
        self.root().join(path).symlink_metadata().is_ok()
    }

    fn is_whiteout(&self, path: &str) -> bool {
        self.exists(path) && self.stat(path).file_type().is_char_device() && self.stat(path).rdev() == 0
    }

    fn is_opaque(&self, path: &str) -> bool {
        let mut value = [0u8; 4];
        let found = rustix::fs::getxattr(self.root().join(path), super::super::tree::OPAQUE, &mut value);
        found == Ok(1) && value[0] == b'y'
    }
}

/// Everything one can see of a tree without its access times.
fn fingerprint(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let stat = fs::symlink_metadata(&path).expect("stat");
        let content = if stat.is_dir() {
            pending.extend(fs::read_dir(&path).expect("listed").map(|entry| entry.expect("entry").path()));
            String::new()
        } else if stat.is_symlink() {
            format!("{:?}", fs::read_link(&path).expect("link"))
        } else if stat.is_file() {
            format!("{:?}", fs::read(&path).expect("read"))
        } else {
            format!("device {}", stat.rdev())
        };
        let links = if stat.is_dir() { 0 } else { stat.nlink() };
        let facts = format!(
            "{:o} {}:{} {}.{} {links} {content}",
            stat.mode(),
            stat.uid(),
            stat.gid(),
            stat.mtime(),
            stat.mtime_nsec()
        );
        seen.insert(path.strip_prefix(root).expect("below").to_owned(), facts);
    }
    seen
}

#[test]
fn names_that_leave_the_layer() {
    for name in ["../x", "..", "a/../../x", "./../x", "/../x", "a/b/../../../x"] {
        for kind in [EntryType::Regular, EntryType::Directory, EntryType::Symlink, EntryType::Fifo] {
            let place = Place::new();
            let error = place.unpack(&Forge::new().add(kind, name, "target", 0o777, b"").bytes());
            assert!(matches!(error, Err(Fault::Refused { .. })), "{name} {kind:?}: {error:?}");
        }
    }
    // Absolute names mean the layer's root, `..` inside is worked out.
    let place = Place::new();
    let archive = Forge::new().file("/etc/passwd", "ours").file("a/../b", "b").file("//c", "c").bytes();
    place.unpack(&archive).expect("unpacked");
    assert_eq!((place.read("etc/passwd"), place.read("b"), place.read("c")), ("ours".into(), "b".into(), "c".into()));
}

#[test]
fn files_through_links_stay_inside() {
    for depth in ["", "../", "../../../../../../../../"] {
        let place = Place::new();
        let target = if depth.is_empty() { place.canary() } else { format!("{depth}canary") };
        let archive = Forge::new()
            .link("out", &target)
            .file("out/secret", "overwritten")
            .directory("out/sub")
            .add(EntryType::Regular, "out/sub/new", "", 0o4777, b"x")
            .hard("hard", "out/secret")
            .link("chain", "out")
            .file("chain/deeper/file", "y")
            .bytes();
        place.unpack(&archive).expect("links are followed inside the layer");
        assert_eq!(place.read("hard"), "overwritten");
    }
}

#[test]
fn final_links_are_replaced_not_followed() {
    let place = Place::new();
    let secret = format!("{}/secret", place.canary());
    let archive = Forge::new()
        .link("a", &secret)
        .file("a", "file")
        .link("b", &place.canary())
        .add(EntryType::Directory, "b", "", 0o777, b"")
        .link("c", &secret)
        .add(EntryType::Char, "c", "", 0o666, b"")
        .link("d", &secret)
        .hard("e", "d")
        .link("f", &secret)
        .add(EntryType::Fifo, "f", "", 0o666, b"")
        .bytes();
    place.unpack(&archive).expect("unpacked");
    assert_eq!(place.read("a"), "file");
    assert!(place.stat("b").is_dir());
    assert_eq!(place.stat("b").mode() & 0o7777, 0o777);
    assert!(place.stat("c").file_type().is_char_device());
    assert_eq!(place.stat("c").rdev(), makedev(1, 3));
    assert!(place.stat("e").is_symlink(), "a hard link to a link links the link");
    assert!(place.stat("f").file_type().is_fifo());
}

#[test]
fn hard_links_reach_nothing_outside() {
    for target in ["../canary/secret", "/../canary/secret", "a/../../canary/secret"] {
        let place = Place::new();
        assert!(matches!(place.unpack(&Forge::new().hard("x", target).bytes()), Err(Fault::Refused { .. })));
    }
    let place = Place::new();
    let secret = format!("{}/secret", place.canary());
    // Absolute, and through a link: both mean places inside the layer, where there is nothing.
    let archive = Forge::new().hard("x", &secret).link("out", &place.canary()).hard("y", "out/secret").bytes();
    let unpacked = place.unpack(&archive).expect("left for the layers below");
    assert_eq!(unpacked.missing.links.len(), 2);
    let error = finish(&place.root(), &unpacked.missing, &[]).expect_err("nothing below either");
    assert!(error.to_string().contains("does not exist"), "{error}");
    assert!(!place.exists("x") && !place.exists("y"));
}

#[test]
fn the_root_stays() {
    for kind in [EntryType::Symlink, EntryType::Regular, EntryType::Link, EntryType::Char] {
        for name in ["./", ".", "/", "a/.."] {
            let place = Place::new();
            assert!(matches!(
                place.unpack(&Forge::new().add(kind, name, "/", 0o777, b"").bytes()),
                Err(Fault::Refused { .. })
            ));
        }
    }
    let place = Place::new();
    let unpacked =
        place.unpack(&Forge::new().add(EntryType::Directory, "./", "", 0o711, b"").bytes()).expect("described");
    assert_eq!(place.stat("").mode() & 0o7777, 0o711);
    assert_eq!(place.stat("").mtime(), 1_000_000);
    assert!(!unpacked.missing.root);
}

#[test]
fn kinds_replace_each_other() {
    let place = Place::new();
    let archive = Forge::new()
        .directory("d")
        .file("d/inside", "x")
        .link("d", &place.canary())
        .file("d/secret", "inside the layer")
        .link("l", "d2")
        .directory("l")
        .file("l/x", "x")
        .file("twice", "one")
        .file("twice", "two")
        .directory("full")
        .file("full/x", "x")
        .file("full", "now a file")
        .bytes();
    place.unpack(&archive).expect("unpacked");
    assert!(place.stat("d").is_symlink());
    assert!(place.stat("l").is_dir());
    assert_eq!(place.read("twice"), "two");
    assert_eq!(place.read("full"), "now a file");
    // A file is not a directory, and is not turned into one silently.
    assert!(place.unpack(&Forge::new().file("f", "").file("f/x", "").bytes()).is_err());
}

#[test]
fn link_loops_end() {
    let place = Place::new();
    let archive = Forge::new().link("a", "b").link("b", "a").file("a/x", "").bytes();
    assert!(place.unpack(&archive).expect_err("refused").to_string().contains("symbolic links"));
    let place = Place::new();
    let mut forge = Forge::new();
    // Each link multiplies the depth of the one before.
    forge = forge.link("l0", "d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d");
    for level in 1..20 {
        forge = forge.link(&format!("l{level}"), &format!("l{}/l0", level - 1)).file(&format!("l{level}/x"), "");
        forge = forge.link(&format!("l{}/l0", level), "/d");
    }
    let _ = place.unpack(&forge.bytes());
}

#[test]
fn whiteouts() {
    for (order, archive) in [
        (
            "first",
            Forge::new()
                .file("dir/.wh.gone", "")
                .file(".wh.empty", "")
                .file("dir/.wh..wh..opq", "")
                .file("dir/new", "n"),
        ),
        (
            "last",
            Forge::new()
                .file("dir/new", "n")
                .file("dir/.wh.gone", "")
                .file("dir/.wh..wh..opq", "")
                .file(".wh.empty", ""),
        ),
    ] {
        let place = Place::new();
        place.unpack(&archive.bytes()).expect(order);
        assert!(place.is_whiteout("dir/gone") && place.is_whiteout("empty"), "{order}");
        assert!(place.is_opaque("dir"), "{order}");
        assert_eq!(place.read("dir/new"), "n", "{order}: only layers below are hidden");
    }
    // Deleted and made again in one layer: directories hide what was below, files do so anyway.
    for archive in [
        Forge::new().file(".wh.d", "").directory("d").file("d/x", "").file(".wh.f", "").file("f", "f"),
        Forge::new().directory("d").file("d/x", "").file(".wh.d", "").file("f", "f").file(".wh.f", ""),
        Forge::new().file(".wh.d", "").file("d/x", "").file(".wh.f", "").file("f", "f"),
    ] {
        let place = Place::new();
        place.unpack(&archive.bytes()).expect("unpacked");
        assert!(place.is_opaque("d"));
        assert!(place.exists("d/x"));
        assert_eq!(place.read("f"), "f");
    }
    let place = Place::new();
    let unpacked = place.unpack(&Forge::new().file(".wh..wh..opq", "").bytes()).expect("unpacked");
    assert!(unpacked.opaque && place.is_opaque(""));
}

#[test]
fn whiteouts_of_nothing_or_of_parents() {
    for name in [".wh.", "a/.wh.", ".wh..", ".wh...", "a/.wh...", ".wh..wh.x", ".wh.x/y", "a/.wh.b/c"] {
        let place = Place::new();
        let result = place.unpack(&Forge::new().file(name, "").bytes());
        assert!(matches!(result, Err(Fault::Refused { .. })), "{name}: {result:?}");
    }
    // Through a link: resolved inside the layer.
    let place = Place::new();
    let archive = Forge::new().link("out", &place.canary()).file("out/.wh.secret", "").file("out/.wh..wh..opq", "");
    place.unpack(&archive.bytes()).expect("unpacked inside");
    // What aufs left behind is skipped.
    let place = Place::new();
    place
        .unpack(&Forge::new().directory(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "").file(".wh..wh.aufs", "").bytes())
        .expect("skipped");
    assert_eq!(fs::read_dir(place.root()).expect("listed").count(), 0);
}

#[test]
fn links_that_images_really_have() {
    let place = Place::new();
    let archive = Forge::new()
        .directory("run")
        .link("var/run", "/run")
        .file("var/run/pid", "1")
        .link("lib", "usr/lib")
        .file("lib/x86/libc.so", "elf")
        .hard("usr/lib/x86/libc.so.6", "/lib/x86/libc.so")
        .link("up", "a/b")
        .link("a/b/back", "../../run")
        .file("up/back/deep", "2")
        .bytes();
    place.unpack(&archive).expect("unpacked");
    assert_eq!(place.read("run/pid"), "1");
    assert_eq!(place.read("usr/lib/x86/libc.so"), "elf");
    assert_eq!(place.stat("usr/lib/x86/libc.so").nlink(), 2);
    assert_eq!(place.read("run/deep"), "2");
    assert_eq!(fs::read_link(place.root().join("var/run")).expect("link"), Path::new("/run"));
}

#[test]
fn attributes() {
    let place = Place::new();
    let long = "n".repeat(120);
    let path = format!("{long}/{long}");
    let archive = Forge::new()
        .add(EntryType::Regular, "suid", "", 0o6755, b"s")
        .pax(&[
            ("path", path.as_bytes()),
            ("uid", b"3000000"),
            ("gid", b"7"),
            ("mtime", b"1500000000.123456789"),
            ("SCHILY.xattr.user.note", b"hello\0world"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.metacopy", b""),
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ])
        .add(EntryType::Regular, "short", "", 0o755, b"content")
        .bytes();
    place.unpack(&archive).expect("unpacked");
    assert_eq!(place.stat("suid").mode() & 0o7777, 0o6755);
    let stat = place.stat(&path);
    assert_eq!((stat.uid(), stat.gid(), stat.mtime(), stat.mtime_nsec()), (3_000_000, 7, 1_500_000_000, 123_456_789));
    let file = place.root().join(&path);
    let mut names = vec![0u8; 4096];
    let length = rustix::fs::listxattr(&file, names.as_mut_slice()).expect("listed");
    let names = String::from_utf8_lossy(&names[..length]).into_owned();
    assert!(names.contains("user.note") && names.contains("security.capability"), "{names}");
    assert!(!names.contains("overlay"), "{names}");
}

#[test]
fn names_are_bytes() {
    let place = Place::new();
    let archive = Forge::new().pax(&[("path", b"caf\xe9/\xff\xfe")]).file("x", "y").bytes();
    place.unpack(&archive).expect("unpacked");
    let name = OsString::from_vec(b"caf\xe9/\xff\xfe".to_vec());
    assert_eq!(fs::read_to_string(place.root().join(name)).expect("there"), "y");
}

#[test]
fn sizes_readers_could_disagree_about() {
    // The pax size counts: the hidden entry is data, not an entry.
    let hidden = Forge::new().file("hidden", "").bytes();
    let place = Place::new();
    let mut archive = Forge::new().pax(&[("size", b"512")]).bytes();
    archive.truncate(archive.len() - 1024);
    let mut header = Header::new_ustar();
    header.set_path("visible").expect("short");
    header.set_size(0);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(&hidden[..512]);
    archive.extend_from_slice(&[0; 1024]);
    place.unpack(&archive).expect("unpacked");
    assert_eq!(place.stat("visible").len(), 512);
    assert!(!place.exists("hidden"));
    for records in [&[("size", &b"-1"[..])][..], &[("size", b"x")], &[("path", b"a\0b")], &[("mtime", b"now")]] {
        assert!(Place::new().unpack(&Forge::new().pax(records).file("x", "").bytes()).is_err());
    }
    // Two headers for one entry, a header for none, a global one that moves the next.
    assert!(
        Place::new().unpack(&Forge::new().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("x", "").bytes()).is_err()
    );
    assert!(Place::new().unpack(&Forge::new().pax(&[("path", b"a")]).bytes()).is_err());
    let global = Forge::new().add(EntryType::XGlobalHeader, "g", "", 0, b"11 size=10\n").file("x", "").bytes();
    assert!(Place::new().unpack(&global).is_err());
}

#[test]
fn rubbish_is_an_error_and_costs_little() {
    let good = Forge::new().file("a", "some content").directory("b").bytes();
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    for _ in 0..2000 {
        let mut bytes = good.clone();
        for _ in 0..3 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = (seed as usize) % bytes.len();
            bytes[at] ^= (seed >> 32) as u8;
        }
        let mut archive = Archive::new(&bytes[..]);
        while let Ok(Some(_)) = archive.next() {}
    }
    for bytes in [&b"x"[..], &[1; 512], &[0xff; 5000], &good[..700], b"PK\x03\x04 not a tar"] {
        assert!(Place::new().unpack(bytes).is_err());
    }
    // A header that announces a terabyte, an extended header that announces a gigabyte.
    for (kind, size) in
        [(EntryType::Regular, 1u64 << 40), (EntryType::XHeader, 1 << 30), (EntryType::GNULongName, 1 << 30)]
    {
        let mut header = Header::new_gnu();
        header.set_path("x").expect("short");
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        assert!(Place::new().unpack(header.as_bytes()).is_err());
    }
    Place::new().unpack(b"").expect("nothing at all is an empty archive");
}

#[test]
fn what_is_below_fills_the_gaps() {
    let below = Place::new();
    let archive = Forge::new()
        .add(EntryType::Directory, "./", "", 0o751, b"")
        .add(EntryType::Directory, "tmp/", "", 0o1777, b"")
        .add(EntryType::Directory, "gone/", "", 0o700, b"")
        .directory("lib")
        .add(EntryType::Regular, "lib/tool", "", 0o4755, b"tool")
        .bytes();
    below.unpack(&archive).expect("unpacked");
    let middle = Place::new();
    middle.unpack(&Forge::new().file(".wh.gone", "").file("lib/other", "").bytes()).expect("unpacked");
    let above = Place::new();
    let archive = Forge::new().file("tmp/x", "").file("gone/x", "").hard("bin/tool", "lib/tool").bytes();
    let unpacked = above.unpack(&archive).expect("unpacked");
    finish(&above.root(), &unpacked.missing, &[&middle.root(), &below.root()]).expect("finished");
    assert_eq!(above.stat("tmp").mode() & 0o7777, 0o1777);
    assert_eq!(above.stat("gone").mode() & 0o7777, 0o755, "it was deleted in between");
    assert_eq!(above.read("bin/tool"), "tool");
    assert_eq!(above.stat("bin/tool").mode() & 0o7777, 0o4755);
    let missing = Missing { root: true, ..Missing::default() };
    finish(&above.root(), &missing, &[&below.root()]).expect("finished");
    assert_eq!(above.stat("").mode() & 0o7777, 0o751);
}

#[test]
fn unpacks_what_gnu_tar_unpacks() {
    if Command::new("tar").arg("--version").output().is_err() {
        println!("skipped: no tar program");
        return;
    }
    let work = tempfile::tempdir().expect("temporary directory");
    let source = work.path().join("source");
    fs::create_dir_all(source.join("a/b/c")).expect("made");
    fs::write(source.join("a/plain"), vec![7u8; 100_000]).expect("written");
    fs::write(source.join("a/b/empty"), "").expect("written");
    fs::hard_link(source.join("a/plain"), source.join("a/b/hard")).expect("linked");
    symlink("../plain", source.join("a/b/soft")).expect("linked");
    symlink("/nowhere", source.join("dangling")).expect("linked");
    fs::write(source.join(format!("{}-long", "x".repeat(150))), "long").expect("written");
    fs::set_permissions(source.join("a/b"), fs::Permissions::from_mode(0o2750)).expect("set");
    std::os::unix::fs::chown(source.join("a/b/empty"), Some(1234), Some(99)).expect("owned");
    let sparse = fs::File::create(source.join("holes")).expect("made");
    for index in 0..40u64 {
        use std::os::unix::fs::FileExt;
        sparse.write_all_at(b"data", index * 300_000).expect("written");
    }
    sparse.set_len(20_000_000).expect("sized");
    let fifo = Command::new("mkfifo").arg(source.join("fifo")).status().expect("ran");
    assert!(fifo.success());
    for format in ["gnu", "posix", "ustar"] {
        for sparse in [false, true] {
            if sparse && format == "ustar" {
                continue;
            }
            let archive = work.path().join("archive.tar");
            let mut tar = Command::new("tar");
            tar.arg(format!("--format={format}")).arg("-C").arg(&source).arg("-cf").arg(&archive);
            if sparse {
                tar.arg("-S");
            }
            if format == "ustar" {
                // That format has no room for it.
                tar.arg("--exclude=*-long");
            }
            assert!(tar.arg(".").status().expect("ran").success());
            let theirs = work.path().join("theirs");
            fs::create_dir(&theirs).expect("made");
            let extract = Command::new("tar")
                .args(["-p", "--numeric-owner", "-C"])
                .arg(&theirs)
                .arg("-xf")
                .arg(&archive)
                .status();
            assert!(extract.expect("ran").success());
            let place = Place::new();
            place.unpack(&fs::read(&archive).expect("read")).expect(format);
            let (ours, theirs_seen) = (fingerprint(&place.root()), fingerprint(&theirs));
            for (path, facts) in &theirs_seen {
                assert_eq!(ours.get(path), Some(facts), "{format} sparse={sparse} {}", path.display());
            }
            assert_eq!(ours.len(), theirs_seen.len());
            if sparse {
                assert!(place.stat("holes").blocks() < 2000, "holes stay holes");
            }
            fs::remove_dir_all(&theirs).expect("removed");
        }
    }
}
