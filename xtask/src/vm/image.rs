//! The guest's root file system, kernel and initial file system, from Debian packages, kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use budu_testkit::{cache_dir, images};

use crate::{packages, run};

/// Changes whenever what is below makes a different system, so that an old one is not used.
const EDITION: &str = "1";

/// minbase and: an init, a kernel with what starts it, and the programs that tests call.
const PACKAGES: &str = "systemd-sysv,dbus,linux-image-cloud-amd64,initramfs-tools,kmod,\
    busybox-static,iproute2,nftables,procps,ca-certificates,docker-registry,skopeo";

/// Modules without which the kernel finds no root file system; nothing else goes into the initial one.
const MODULES: &str = "virtio_pci\nvirtio_blk\next4\n";

/// Started instead of the usual targets, after what makes a system: mounts, devices, journal, D-Bus.
const UNIT: &str = include_str!("guest/budu-vm.service");

/// Units that only cost time in a machine that lives for a minute.
const MASKED: [&str; 6] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "docker-registry.service",
];

/// A bootable system in the cache.
#[derive(Debug)]
pub(super) struct Image {
    dir: PathBuf,
}

impl Image {
    pub(super) fn kernel(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    pub(super) fn initrd(&self) -> PathBuf {
        self.dir.join("initrd")
    }

    pub(super) fn disk(&self) -> PathBuf {
        self.dir.join("root.img")
    }

    /// Where the last run's system console is kept.
    pub(super) fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }
}

/// Installs the Debian packages that this command needs beyond those of the tests.
pub(super) fn install_programs() -> Result<()> {
    let there = |program: &str| {
        let dirs = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
        dirs.iter().any(|dir| Path::new(dir).join(program).exists())
    };
    let needed = [("qemu-system-x86_64", "qemu-system-x86"), ("mkfs.ext4", "e2fsprogs"), ("mmdebstrap", "mmdebstrap")];
    let missing: Vec<&str> =
        needed.iter().filter(|(program, _)| !there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    run("apt-get", &["update", "-q"])?;
    let install = ["install", "-y", "-q", "--no-install-recommends"];
    run("apt-get", &[&install[..], &missing].concat()).context("root is needed")
}

/// The image; made first where it is missing, which takes a minute or two.
pub(super) fn ensure(rebuild: bool) -> Result<Image> {
    let dir = cache_dir().join(format!("vm/{EDITION}"));
    if rebuild && dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let image = Image { dir };
    if image.disk().exists() {
        return Ok(image);
    }
    packages::ensure()?;
    let work = cache_dir().join(format!("vm/making-{}", std::process::id()));
    fs::create_dir_all(&work)?;
    let made = make(&work).and_then(|()| {
        let _ = fs::remove_dir_all(&image.dir);
        Ok(fs::rename(&work, &image.dir)?)
    });
    if made.is_err() {
        let _ = fs::remove_dir_all(&work);
    }
    made.map(|()| image)
}

fn make(work: &Path) -> Result<()> {
    println!("vm-test: making a Debian 12 for the guest");
    let tree = work.join("tree");
    fs::write(work.join("modules"), MODULES)?;
    fs::write(work.join("unit"), UNIT)?;
    let setup = format!(
        "mkdir -p \"$1/etc/initramfs-tools/conf.d\" && echo MODULES=list >\"$1/etc/initramfs-tools/conf.d/budu\" && \
         cp {}/modules \"$1/etc/initramfs-tools/modules\"",
        work.display()
    );
    let finish = format!(
        "cp {}/unit \"$1/etc/systemd/system/budu-vm.service\" && echo budu-vm >\"$1/etc/hostname\" && \
         chroot \"$1\" systemctl --quiet mask {}",
        work.display(),
        MASKED.join(" ")
    );
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap
        .args(["--quiet", "--variant=minbase", "--aptopt=Acquire::Check-Valid-Until \"false\""])
        .args(["doc", "man", "locale"].map(|dir| format!("--dpkgopt=path-exclude=/usr/share/{dir}/*")))
        .arg(format!("--include={PACKAGES}"))
        .arg(format!("--setup-hook={setup}"))
        .arg(format!("--customize-hook={finish}"))
        .arg("bookworm")
        .arg(&tree)
        .arg(images::mirror()?);
    let status = mmdebstrap.status().context("start mmdebstrap")?;
    ensure!(status.success(), "mmdebstrap: {status}");
    for (from, to) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd")] {
        fs::copy(starting_with(&tree.join("boot"), from)?, work.join(to))?;
    }
    // Room for images and containers; the file has holes where nothing was written.
    disk(&tree, &work.join("root.img"), 3 << 30)?;
    fs::remove_dir_all(&tree)?;
    Ok(())
}

fn starting_with(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
    let mut found = entries.into_iter().filter(|one| one.file_name().to_string_lossy().starts_with(prefix));
    found.next().map(|one| one.path()).with_context(|| format!("no {prefix}* in {}", dir.display()))
}

/// Puts a directory tree into a file with an ext4 file system of at most `size` bytes, without mounting anything.
pub(super) fn disk(tree: &Path, file: &Path, size: u64) -> Result<()> {
    let mut mkfs = Command::new("/sbin/mkfs.ext4");
    mkfs.args(["-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1,root_owner=0:0", "-m", "0", "-d"]);
    mkfs.arg(tree).arg(file).arg(format!("{}k", size / 1024));
    let status = mkfs.stdout(Stdio::null()).status().context("start mkfs.ext4")?;
    ensure!(status.success(), "mkfs.ext4 -d {}: {status}", tree.display());
    Ok(())
}
