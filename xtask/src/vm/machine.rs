//! The virtual machine.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::image::Image;

const QEMU: &str = "qemu-system-x86_64";

/// Who executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accel {
    /// The processor.
    Kvm,
    /// QEMU, in software.
    Tcg,
}

impl Accel {
    /// QEMU's name for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
        }
    }

    /// By QEMU's name.
    pub(super) fn parse(text: &str) -> Result<Accel> {
        let known = [Accel::Kvm, Accel::Tcg].into_iter().find(|accel| accel.name() == text);
        known.with_context(|| format!("--accel {text}: want kvm or tcg"))
    }
}

/// KVM if it works. That the device can be opened says little: some machines have it and then no guest comes up.
/// So a kernel is booted that finds no root file system and ends in a panic, which must happen in a moment.
pub(super) fn best_accel(image: &Image) -> Result<Accel> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(Accel::Tcg);
    }
    let mut qemu = command(Accel::Kvm, image);
    qemu.args(["-append", "console=ttyS1 panic=-1", "-serial", "null", "-serial", "stdio"]);
    qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut heard = false;
    let end = follow(&mut qemu, Duration::from_secs(8), |line| heard |= line.contains("Kernel panic"))?;
    if heard && end.is_none() {
        return Ok(Accel::Kvm);
    }
    println!("vm-test: /dev/kvm is there but no guest comes up with it; software emulation instead");
    Ok(Accel::Tcg)
}

/// Boots the guest with a disk of tests and hands over what it says, line by line, until it powers off. Returns what
/// went wrong with the machine, if anything did.
pub(super) fn run(
    image: &Image,
    payload: &Path,
    accel: Accel,
    timeout: Duration,
    heard: impl FnMut(&str),
) -> Result<Option<String>> {
    let mut qemu = command(accel, image);
    let disk = |path: &Path, more: &str| format!("file={},format=raw,if=virtio,{more}", path.display());
    qemu.arg("-initrd").arg(image.initrd());
    // Nothing is written back: each run starts from the same system.
    qemu.arg("-drive").arg(disk(&image.disk(), "snapshot=on"));
    qemu.arg("-drive").arg(disk(payload, "readonly=on"));
    qemu.arg("-serial").arg(format!("file:{}", image.console().display()));
    qemu.args(["-serial", "stdio", "-append", &kernel_arguments()]);
    qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let _ = fs::remove_file(image.console());
    follow(&mut qemu, timeout, heard)
}

fn kernel_arguments() -> String {
    [
        "root=/dev/vda rw console=ttyS0 quiet loglevel=4 panic=-1 random.trust_cpu=on",
        "systemd.unified_cgroup_hierarchy=1 systemd.unit=budu-vm.service systemd.show_status=no",
        // Measures against flaws of real processors only cost time here.
        "mitigations=off",
    ]
    .join(" ")
}

/// What every guest has. No network card: nothing in there can reach the machine's own.
fn command(accel: Accel, image: &Image) -> Command {
    let mut qemu = Command::new(QEMU);
    let smp = thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 4));
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-nic", "none"]);
    qemu.args(["-no-reboot", "-accel", accel.name(), "-cpu", "max", "-m", "1536", "-smp", &smp.to_string()]);
    qemu.args(["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"]);
    qemu.arg("-kernel").arg(image.kernel());
    qemu
}

/// A running QEMU, ended with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn follow(qemu: &mut Command, timeout: Duration, mut heard: impl FnMut(&str)) -> Result<Option<String>> {
    let deadline = Instant::now() + timeout;
    let mut running = Running(qemu.spawn().with_context(|| format!("start {QEMU}"))?);
    let Some(output) = running.0.stdout.take() else { bail!("{QEMU} has no output") };
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in lossy_lines(output) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => heard(&line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                return Ok(Some(format!("the guest did not end within {} s", timeout.as_secs())));
            }
        }
    }
    let status = running.0.wait()?;
    Ok((!status.success()).then(|| format!("{QEMU}: {status}")))
}

/// Lines of whatever a serial port brings.
fn lossy_lines(from: impl Read) -> impl Iterator<Item = String> {
    let lines = BufReader::new(from).split(b'\n').map_while(std::result::Result::ok);
    lines.map(|line| String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
}
