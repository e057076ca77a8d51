//! The images that tests pull: made once, kept in the cache as a registry's storage.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::oci::{Compression, Image, Tar, write_layout};
use crate::{Cage, Registry, World, cache_dir, program};

/// busybox, one gzip layer.
pub const BUSYBOX: &str = "127.0.0.1:5000/busybox:1";
/// Debian minbase in three layers: gzip, zstd, and a gzip one with whiteouts.
pub const DEBIAN: &str = "127.0.0.1:5000/debian:12";
/// busybox with everything an image configuration can say.
pub const CONFIGURED: &str = "127.0.0.1:5000/configured:1";
/// An index of this machine's busybox and an image of another architecture.
pub const MULTI: &str = "127.0.0.1:5000/multi:1";
/// One layer with 48 MB that no compressor makes smaller.
pub const BIG: &str = "127.0.0.1:5000/big:1";
/// Names of the images whose layers attack the host; see [`hostile`]. Tag `1` each.
pub const HOSTILE: [&str; 6] = ["dotdot", "absolute", "symlink", "hardlink", "device", "whiteout"];
/// What hostile layers try to create or delete on the host.
pub const HOSTILE_TARGET: &str = "/tmp/budu-hostile";

/// busybox in which everything an engine writes to or mounts on is a link to [`TRAP`].
pub const LINKED: &str = "127.0.0.1:5000/linked:1";
/// The directory of the host that the links of [`LINKED`] lead to when they are followed wrongly.
pub const TRAP: &str = "/tmp/budu-trap";

/// Changes whenever the images below change, so that old ones are not used.
const EDITION: &str = "4";

/// The registry storage directory that holds all images.
pub fn storage() -> PathBuf {
    cache_dir().join(format!("images-{EDITION}/registry"))
}

/// The OCI layout of the busybox image.
pub fn busybox_layout() -> PathBuf {
    cache_dir().join(format!("images-{EDITION}/layouts/busybox"))
}

/// The digest that a tag of ours points at, as known when it was made.
pub fn digest_of(image: &str) -> Result<String> {
    let file = cache_dir().join(format!("images-{EDITION}/digests.json"));
    let digests: Value = serde_json::from_slice(&fs::read(&file)?)?;
    Ok(digests[image].as_str().with_context(|| format!("no image {image}"))?.to_owned())
}

/// Makes all images unless they exist. Needs busybox-static, mmdebstrap, skopeo, docker-registry.
pub fn ensure() -> Result<()> {
    let dir = cache_dir().join(format!("images-{EDITION}"));
    if dir.join("digests.json").exists() {
        return Ok(());
    }
    let work = cache_dir().join(format!("images-{EDITION}.making-{}", std::process::id()));
    fs::create_dir_all(work.join("layouts"))?;
    let cage = Cage::new(&World::default())?;
    Registry::start(&cage, &work.join("registry"), &work.join("registry.log"))?;
    let mut digests = serde_json::Map::new();
    for (name, images) in recipes(&work)? {
        let layout = work.join("layouts").join(&name);
        let tag = if name == "debian" { "12" } else { "1" };
        let digest = write_layout(&layout, tag, &images)?;
        let target = format!("{}/{name}:{tag}", Registry::ADDRESS);
        let source = format!("oci:{}:{tag}", layout.display());
        let target_url = format!("docker://{target}");
        let args = ["copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false"];
        cage.run("skopeo", &[&args[..], &[&source, &target_url]].concat())?;
        digests.insert(target, digest.into());
        if name != "busybox" {
            fs::remove_dir_all(layout)?;
        }
    }
    drop(cage);
    fs::write(work.join("digests.json"), Value::Object(digests).to_string())?;
    fs::rename(&work, &dir).or_else(|error| {
        // Another process was faster: its images are as good.
        if dir.exists() { fs::remove_dir_all(&work) } else { Err(error) }
    })?;
    Ok(())
}

fn recipes(work: &Path) -> Result<Vec<(String, Vec<Image>)>> {
    let shell = json!({"Env": [ENV_PATH], "Cmd": ["sh"]});
    let busybox = single(busybox_tar()?, shell.clone());
    let mut foreign = busybox.clone();
    foreign.architecture = "s390x";
    let mut noise = vec![0; 48 << 20];
    fs::File::open("/dev/urandom")?.read_exact(&mut noise)?;
    let big = Tar::default().file("noise", 0o644, &noise)?.finish()?;
    let mut list = vec![
        ("multi".to_owned(), vec![foreign, busybox.clone()]),
        ("busybox".to_owned(), vec![busybox]),
        ("configured".to_owned(), vec![single(configured_tar()?, configuration())]),
        ("debian".to_owned(), vec![debian(work)?]),
        ("linked".to_owned(), vec![single(linked_tar()?, shell.clone())]),
        ("big".to_owned(), vec![single(big, shell.clone())]),
    ];
    for name in HOSTILE {
        list.push((format!("hostile-{name}"), vec![hostile(name, &shell)?]));
    }
    Ok(list)
}

const ENV_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn single(tar: Vec<u8>, config: Value) -> Image {
    Image { layers: vec![(tar, Compression::Gzip)], config, architecture: architecture() }
}

/// This machine's architecture in Go's spelling.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn busybox_tree() -> Result<Tar> {
    let binary = fs::read("/bin/busybox").context("busybox-static is needed")?;
    let applets = program("/bin/busybox", ["--list"])?;
    let mut tar = Tar::default();
    for dir in ["bin/", "etc/", "home/", "root/", "tmp/", "usr/", "usr/bin/", "var/"] {
        tar = tar.dir(dir, if dir == "tmp/" { 0o1777 } else { 0o755 })?;
    }
    tar = tar.file("bin/busybox", 0o755, &binary)?;
    for applet in applets.stdout.lines().filter(|name| *name != "busybox") {
        tar = tar.symlink(&format!("bin/{applet}"), "busybox")?;
    }
    tar.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\ndock:x:1000:1001::/home:/bin/sh\n")?
        .file("etc/group", 0o644, b"root:x:0:\ndock:x:1001:\nextra:x:2000:dock\n")?
        .file("etc/plain", 0o644, b"not a program\n")
}

fn busybox_tar() -> Result<Vec<u8>> {
    busybox_tree()?.finish()
}

fn configured_tar() -> Result<Vec<u8>> {
    busybox_tree()?.dir("data/", 0o755)?.file("data/seed", 0o644, b"seed\n")?.finish()
}

fn linked_tar() -> Result<Vec<u8>> {
    let up = format!("../../../../../../../../..{TRAP}");
    let mut tar = busybox_tree()?;
    for name in ["hosts", "hostname", "resolv.conf"] {
        tar = tar.symlink(&format!("etc/{name}"), &format!("{up}/{name}"))?;
    }
    for name in ["work", "scratch", "volume"] {
        tar = tar.symlink(name, &format!("{up}/{name}"))?;
    }
    tar.symlink(".dockerenv", &format!("{up}/dockerenv"))?.finish()
}

fn configuration() -> Value {
    json!({
        "Env": [ENV_PATH, "FROM_IMAGE=yes"],
        "Entrypoint": ["/bin/echo", "entry"],
        "Cmd": ["default"],
        "User": "dock",
        "WorkingDir": "/work/deep",
        "Labels": {"from": "image"},
        "ExposedPorts": {"80/tcp": {}},
        "StopSignal": "SIGUSR1",
    })
}

/// Debian as mmdebstrap makes it, cut in three.
fn debian(work: &Path) -> Result<Image> {
    let whole = work.join("debian.tar");
    let run = crate::program::finish(
        std::process::Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--aptopt=Acquire::Check-Valid-Until \"false\""])
            .args(["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*"])
            .args(["bookworm", &whole.display().to_string(), &mirror()?]),
        b"",
        std::time::Duration::from_secs(600),
    )?;
    ensure!(run.success(), "{run}");
    let mut programs = tar::Builder::new(Vec::new());
    let mut rest = tar::Builder::new(Vec::new());
    let mut archive = tar::Archive::new(fs::File::open(&whole)?);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let mut header = entry.header().clone();
        // /dev is the container's, and a layer with device nodes needs a rootful unpack.
        if path.starts_with("./dev") || path.starts_with("dev") {
            continue;
        }
        let usr = path.starts_with("./usr") || path.starts_with("usr");
        let target = if usr { &mut programs } else { &mut rest };
        match entry.link_name()? {
            Some(link) => target.append_link(&mut header, &path, link)?,
            None => target.append_data(&mut header, &path, &mut entry)?,
        }
    }
    fs::remove_file(whole)?;
    let last = Tar::default()
        .dir("etc/", 0o755)?
        .file("etc/third-layer", 0o644, b"three\n")?
        .file("etc/.wh.issue", 0o644, b"")?
        .dir("usr/share/", 0o755)?
        .dir("usr/share/zoneinfo/", 0o755)?
        .file("usr/share/zoneinfo/.wh..wh..opq", 0o644, b"")?
        .file("usr/share/zoneinfo/only", 0o644, b"")?
        .finish()?;
    Ok(Image {
        layers: vec![
            (programs.into_inner()?, Compression::Gzip),
            (rest.into_inner()?, Compression::Zstd),
            (last, Compression::Gzip),
        ],
        config: json!({"Env": [ENV_PATH], "Cmd": ["bash"]}),
        architecture: architecture(),
    })
}

/// The package mirror this machine uses for its own release, as apt knows it.
pub fn mirror() -> Result<String> {
    let known = program("apt-get", ["indextargets", "--format", "$(CODENAME) $(REPO_URI)"])?;
    let lines = known.stdout.lines().filter_map(|line| line.split_once(' '));
    // Release names carry suffixes for updates and security; the plain one has the whole distribution.
    let plain = ["bookworm", "trixie", "forky", "sid"];
    let mut found = lines.filter(|(name, _)| plain.contains(name)).map(|(_, uri)| uri.to_owned());
    found.next().context("apt knows no Debian mirror")
}

/// A layer that tries to reach outside its own directory.
fn hostile(name: &str, shell: &Value) -> Result<Image> {
    let up = format!("../../../../../../../../../../..{HOSTILE_TARGET}");
    let tar = busybox_tree()?;
    let tar = match name {
        "dotdot" => tar.file(&up, 0o644, b"escaped")?,
        "absolute" => tar.file(HOSTILE_TARGET, 0o644, b"escaped")?,
        "symlink" => tar.symlink("way-out", "/tmp")?.file("way-out/budu-hostile", 0o644, b"escaped")?,
        "hardlink" => tar.hardlink("passwords", "../../../../../../../../../../../etc/shadow")?,
        "device" => tar.device("dev-mem")?,
        _ => tar.file(".wh...", 0o644, b"")?.file("tmp/.wh...", 0o644, b"")?,
    };
    Ok(single(tar.finish()?, shell.clone()))
}
