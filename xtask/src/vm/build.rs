//! The second disk: programs under test, and the script that runs them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use budu_testkit::{cache_dir, images};
use serde_json::Value;

use super::image;
use super::suite::Suite;
use crate::top;

const RUN: &str = include_str!("guest/run.sh");
const ENGINE: &str = include_str!("guest/engine.sh");

/// A disk image, deleted with the value.
#[derive(Debug)]
pub(super) struct Payload(PathBuf);

impl Payload {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// One line of the guest's list: a name, a time limit in seconds, a command in shell syntax.
fn step(name: &str, seconds: u32, command: &str) -> String {
    format!("{name} {seconds} {command}\n")
}

/// Builds what the suites need and puts it on a disk.
pub(super) fn payload(suites: &[Suite]) -> Result<Payload> {
    let tree = cache_dir().join(format!("vm/payload-{}", std::process::id()));
    fs::create_dir_all(tree.join("bin"))?;
    let made = fill(&tree, suites).and_then(|list| {
        fs::write(tree.join("list"), list)?;
        fs::create_dir_all(tree.join("source"))?;
        fs::write(tree.join("top"), format!("{}\n", top().display()))?;
        script(&tree.join("run.sh"), RUN)?;
        let payload = Payload(tree.with_extension("img"));
        image::disk(&tree, &payload.0, size(&tree)? * 5 / 4 + (32 << 20))?;
        Ok(payload)
    });
    let _ = fs::remove_dir_all(&tree);
    made
}

fn fill(tree: &Path, suites: &[Suite]) -> Result<String> {
    let mut list = String::new();
    if suites.iter().any(Suite::needs_binary) {
        let binary = match std::env::var_os("BUDU_BIN") {
            Some(binary) => PathBuf::from(binary),
            // Released, as users have it.
            None => last(cargo(&["build", "--release", "--package", "budu", "--bin", "budu"])?)?,
        };
        fs::copy(binary, tree.join("bin/budu"))?;
    }
    for suite in suites {
        match suite {
            Suite::Package { name, package } => {
                // Some tests read files beside their source.
                let tests = Path::new("crates").join(name).join("tests");
                if top().join(&tests).exists() {
                    copy_tree(&top().join(&tests), &tree.join("source").join(&tests))?;
                }
                for (target, file) in cargo(&["test", "--no-run", "--package", package])? {
                    let program = format!("{name}.{target}");
                    fs::copy(file, tree.join("bin").join(&program))?;
                    // Skips are told of on standard output, which is else dropped.
                    list +=
                        &step(&program, 300, &format!("bin/{program} --show-output --color never --test-threads 2"));
                }
            }
            Suite::Engine => {
                images::ensure()?;
                copy_tree(&images::busybox_layout(), &tree.join("busybox"))?;
                script(&tree.join("bin/engine.sh"), ENGINE)?;
                list += &step("engine.smoke", 300, "bin/engine.sh");
            }
            Suite::EndToEnd(filter) => list += &end_to_end(tree, filter)?,
        }
    }
    Ok(list)
}

fn end_to_end(tree: &Path, filter: &str) -> Result<String> {
    images::ensure()?;
    let binary = last(cargo(&["test", "--no-run", "--package", "budu", "--test", "e2e"])?)?;
    fs::copy(binary, tree.join("bin/e2e"))?;
    let docker = budu_testkit::program("sh", ["-c", "command -v docker"])?;
    fs::copy(docker.ok(), tree.join("bin/docker")).context("the docker command is needed")?;
    let images = images::storage();
    let images = images.parent().context("images are kept in a directory of their own")?;
    let name = images.file_name().context("which has a name")?;
    copy_tree(images, &tree.join("cache").join(name))?;
    let command = format!("bin/e2e --color never --test-threads 2 {filter:?}");
    Ok(step("e2e.e2e", 3000, &format!("BUDU_CACHE=/tmp/cache {command}")))
}

/// Runs cargo and returns name and path of each program it made, tests or not.
fn cargo(args: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let mut cargo = Command::new("cargo");
    cargo.args(args).args(["--quiet", "--message-format=json-render-diagnostics"]).current_dir(top());
    let output = cargo.stderr(Stdio::inherit()).output().context("start cargo")?;
    ensure!(output.status.success(), "`cargo {}`: {}", args.join(" "), output.status);
    let mut programs = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line).context("read what cargo says")?;
        let name = message["target"]["name"].as_str();
        if let (Some(path), Some(name)) = (message["executable"].as_str(), name) {
            programs.push((name.to_owned(), PathBuf::from(path)));
        }
    }
    if programs.is_empty() {
        bail!("`cargo {}` made no program", args.join(" "));
    }
    Ok(programs)
}

/// The program that was asked for, where cargo also tells of those it needed.
fn last(programs: Vec<(String, PathBuf)>) -> Result<PathBuf> {
    programs.into_iter().next_back().map(|(_, path)| path).context("cargo made no program")
}

fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Bytes in all files below a directory.
fn size(dir: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        total += if entry.file_type()?.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(total)
}
