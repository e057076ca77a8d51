//! What the suite needs, made once and kept in the cache: its source, its programs, its images.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use budu_testkit::oci::Tar;
use budu_testkit::{cache_dir, images, program};

use crate::{packages, run};

/// The release whose suite it is, and which sets the standard.
pub(super) const VERSION: &str = "1.3.6";
/// Where it comes from.
const ORIGIN: &str = "https://github.com/opencontainers/runc";

/// Debian packages beyond those of our own tests, and a program of each.
const PACKAGES: [(&str, &str); 5] =
    [("bats", "bats"), ("jq", "jq"), ("gawk", "gawk"), ("gcc", "gcc"), ("criu", "criu")];

/// Without a standard library, `gcc -static` is of no use.
const LIBC: (&str, &str) = ("/usr/include/stdio.h", "libc6-dev");

/// Programs that the tests call, from `tests/cmd` of the source.
const PROGRAMS: [&str; 6] = ["recvtty", "sd-helper", "seccompagent", "fs-idmap", "pidfd-kill", "remap-rootfs"];

/// What Debian needs to build them. The suite's Go modules are in its own `vendor` directory.
const TOOLS: &str = "golang-go,gcc,libc6-dev,libseccomp-dev,pkgconf,make,ca-certificates";

/// Builds runc and the programs, without any network, linked statically: they run on the machine itself.
const BUILD: &str = r#"set -e
export HOME=/root GOFLAGS=-mod=vendor GOPROXY=off GOTOOLCHAIN=local
cd /src
make static COMMIT=release
mkdir /out
cp runc /out
for name in $PROGRAMS; do
    go build -trimpath -tags "seccomp netgo osusergo urfave_cli_no_docs" \
        -ldflags "-linkmode external -extldflags -static" -o /out "./tests/cmd/$name"
done
"#;

/// The suite in the cache.
#[derive(Debug, Clone)]
pub(super) struct Suite {
    dir: PathBuf,
}

impl Suite {
    /// The suite, made where it is missing: the first time takes some minutes.
    pub(super) fn ensure() -> Result<Suite> {
        let suite = Suite { dir: cache_dir().join("suites/runc").join(VERSION) };
        packages::ensure()?;
        install_packages()?;
        fs::create_dir_all(&suite.dir)?;
        suite.fetch()?;
        suite.build()?;
        suite.busybox()?;
        suite.debian()?;
        suite.adapt()?;
        Ok(suite)
    }

    /// Where the results of runc and all logs are.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// runc itself, of the very version the suite belongs to.
    pub(super) fn reference(&self) -> PathBuf {
        self.dir.join("bin/runc")
    }

    /// The directory with the `.bats` files.
    pub(super) fn tests(&self) -> PathBuf {
        self.dir.join("source/tests/integration")
    }

    fn fetch(&self) -> Result<()> {
        let source = self.path("source");
        if !source.join("VERSION").exists() {
            let branch = format!("v{VERSION}");
            let target = source.display().to_string();
            run("git", &["clone", "--quiet", "--depth", "1", "--branch", &branch, ORIGIN, &target])?;
        }
        let version = fs::read_to_string(source.join("VERSION"))?;
        ensure!(version.trim() == VERSION, "{} holds runc {}", source.display(), version.trim());
        Ok(())
    }

    fn build(&self) -> Result<()> {
        if self.reference().exists() && PROGRAMS.iter().all(|name| self.path("bin").join(name).exists()) {
            return Ok(());
        }
        println!("building runc {VERSION} and the programs of its suite");
        let script = self.path("build.sh");
        fs::write(&script, format!("PROGRAMS=\"{}\"\n{BUILD}", PROGRAMS.join(" ")))?;
        let out = self.path("bin");
        fs::create_dir_all(&out)?;
        let hooks = [
            "mkdir \"$1/src\"".to_owned(),
            format!("sync-in {} /src", self.path("source").display()),
            format!("copy-in {} /", script.display()),
            "chroot \"$1\" sh /build.sh".to_owned(),
            format!("sync-out /out {}", out.display()),
        ];
        let hooks: Vec<String> = hooks.iter().map(|hook| format!("--customize-hook={hook}")).collect();
        let include = format!("--include={TOOLS}");
        // A mirror that lags behind serves an expired index; its signature is checked all the same.
        let expired = "--aptopt=Acquire::Check-Valid-Until \"false\"";
        let mirror = images::mirror()?;
        let mut args = vec!["--quiet", "--variant=minbase", expired, &include];
        args.extend(hooks.iter().map(String::as_str));
        // Nothing of that system is kept: what was built is copied out of it.
        args.extend(["forky", "/dev/null", &mirror]);
        run("mmdebstrap", &args)
    }

    /// Without `proc` and `sys`, as the image that the suite's authors use: runtimes have to make them.
    fn busybox(&self) -> Result<()> {
        let target = self.path("images/busybox.tar");
        if target.exists() {
            return Ok(());
        }
        let mut tar = Tar::default();
        for dir in ["bin/", "dev/", "etc/", "home/", "root/", "tmp/", "usr/", "usr/bin/", "usr/sbin/", "var/"] {
            tar = tar.dir(dir, if dir == "tmp/" { 0o1777 } else { 0o755 })?;
        }
        tar = tar.file("bin/busybox", 0o755, &fs::read("/bin/busybox").context("busybox-static is needed")?)?;
        for applet in program("/bin/busybox", ["--list"])?.stdout.lines().filter(|name| *name != "busybox") {
            // Tests change the mode of single applets, which must not follow a link out of the image.
            tar = tar.hardlink(&format!("bin/{applet}"), "bin/busybox")?;
        }
        let users = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n";
        tar = tar.file("etc/passwd", 0o644, users)?.file("etc/group", 0o644, b"root:x:0:\nnobody:x:65534:\n")?;
        fs::create_dir_all(self.path("images"))?;
        Ok(fs::write(target, tar.finish()?)?)
    }

    fn debian(&self) -> Result<()> {
        let target = self.path("images/debian.tar");
        if target.exists() {
            return Ok(());
        }
        println!("making the Debian image of runc's suite");
        fs::create_dir_all(self.path("images"))?;
        let making = self.path("images/making.tar");
        let expired = "--aptopt=Acquire::Check-Valid-Until \"false\"";
        let (archive, mirror) = (making.display().to_string(), images::mirror()?);
        // Every test unpacks it: the smaller, the faster.
        let paths = ["doc", "i18n", "info", "locale", "man", "zoneinfo"];
        let paths = paths.map(|path| format!("--dpkgopt=path-exclude=/usr/share/{path}/*"));
        let mut args = vec!["--quiet", "--variant=essential", expired];
        args.extend(paths.iter().map(String::as_str));
        args.extend(["--include=mount", "bookworm", &archive, &mirror]);
        run("mmdebstrap", &args)?;
        Ok(fs::rename(making, target)?)
    }

    /// The changes to the source: the images are those above rather than downloads (which also saves the tests from
    /// needing Go), the programs are where the tests look for them, and a limit of open files that is lower than what
    /// the tests want to start from is left where it is: not every root may raise it.
    fn adapt(&self) -> Result<()> {
        let images = self.path("images");
        let (busybox, debian) = (images.join("busybox.tar"), images.join("debian.tar"));
        let lines = format!("echo BUSYBOX_IMAGE={}\necho DEBIAN_IMAGE={}\n", busybox.display(), debian.display());
        replace(&self.tests().join("get-images.sh"), format!("#!/bin/sh\n{lines}").as_bytes())?;
        let limits = self.tests().join("rlimits.bats");
        let lower = "--nofile=1024:$(n=$(ulimit -H -n); echo $((n < 65536 ? n : 65536)))";
        replace(&limits, fs::read_to_string(&limits)?.replace("--nofile=1024:65536", lower).as_bytes())?;
        let bin = self.path("source/tests/cmd/_bin");
        fs::create_dir_all(&bin)?;
        for name in PROGRAMS {
            let target = bin.join(name);
            if !target.exists() {
                fs::copy(self.path("bin").join(name), &target).with_context(|| format!("copy {name}"))?;
            }
        }
        Ok(())
    }
}

/// Writes `text` where the file holds something else; its mode stays.
fn replace(path: &Path, text: &[u8]) -> Result<()> {
    if fs::read(path)? != text {
        fs::write(path, text)?;
    }
    Ok(())
}

fn install_packages() -> Result<()> {
    let there = |program: &str| {
        let dirs = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
        dirs.iter().any(|dir| Path::new(dir).join(program).exists())
    };
    let mut missing: Vec<&str> =
        PACKAGES.iter().filter(|(program, _)| !there(program)).map(|(_, package)| *package).collect();
    if !Path::new(LIBC.0).exists() {
        missing.push(LIBC.1);
    }
    // Not in every Debian: without it the tests of checkpoints are skipped.
    missing.retain(|package| *package != "criu" || program("apt-cache", ["show", "criu"]).is_ok());
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    run("apt-get", &["update", "-q"])?;
    let install = ["install", "-y", "-q", "--no-install-recommends"];
    run("apt-get", &[&install[..], &missing].concat()).context("root is needed")
}
