//! `cargo xtask order`: writes `link/order.ld`, the linker script that puts together what `budu oci` runs.
//!
//! The kernel maps a binary's pages 16 at a time around every one that is touched. What a command of the runtime runs
//! is a twentieth of the binary; spread over it, it costs three times the memory and twice the faults (see
//! docs/decisions/0012-order-of-functions.md). Here the commands are run by `steps` (testkit), the addresses that ran
//! are looked up in the linker's map, and their input sections are listed. The names are without the hashes that
//! compilers and versions change; a name that is not there any more does no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// An input section of code, as the linker's map tells.
struct Section {
    at: u64,
    size: u64,
    /// Member of the C library's archive, if it is from there.
    libc: Option<String>,
    name: String,
}

pub(crate) fn command() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let map = dir.path().join("map");
    let binary = build(&map)?;
    let sections = sections(&fs::read_to_string(&map).context("read the linker's map")?);
    ensure!(!sections.is_empty(), "the linker's map names no code: it is read as LLD writes it");
    let ran = record(&binary, dir.path())?;
    let script = script(&sections, &ran);
    fs::write(crate::top().join("link/order.ld"), script)?;
    println!("link/order.ld: {} of {} sections", used(&sections, &ran).len(), sections.len());
    Ok(())
}

/// A release build with its symbols' map.
fn build(map: &Path) -> Result<PathBuf> {
    let link = format!("link-arg=-Wl,-Map={}", map.display());
    crate::run("cargo", &["rustc", "--release", "--package", "budu", "--bin", "budu", "--", "-C", &link])?;
    crate::run("cargo", &["build", "--quiet", "--release", "--package", "budu-testkit", "--bin", "steps"])?;
    let own = std::env::current_exe()?;
    Ok(own.with_file_name("budu"))
}

/// Lines of LLD's map: address, load address, size, alignment, and by indentation an output section, an input
/// section (`FILE:(NAME)`), or a symbol.
fn sections(map: &str) -> Vec<Section> {
    let mut code = false;
    let mut found = Vec::new();
    for line in map.lines() {
        let mut words = line.split_whitespace();
        let (Some(at), _, Some(size), _) = (words.next(), words.next(), words.next(), words.next()) else { continue };
        let (Ok(at), Ok(size)) = (u64::from_str_radix(at, 16), u64::from_str_radix(size, 16)) else { continue };
        let rest = words.collect::<Vec<_>>().join(" ");
        if rest.starts_with('.') {
            code = rest.starts_with(".text");
        } else if let (true, Some((file, name))) = (code, rest.split_once(":(.text")) {
            let libc = file.split_once("/libc.a(").map(|(_, member)| member.trim_end_matches(')').to_owned());
            let name = format!(".text{}", name.strip_suffix(')').unwrap_or(name));
            found.push(Section { at, size, libc, name });
        }
    }
    found.sort_by_key(|section| section.at);
    found
}

/// Runs the runtime's commands; offsets of 16 bytes each in the binary that ran.
fn record(binary: &Path, dir: &Path) -> Result<BTreeSet<u64>> {
    let plain = bundle(binary, dir, "plain", |_| {})?;
    let full = bundle(binary, dir, "full", like_docker)?;
    let mut ran = BTreeSet::new();
    let mut trace = |words: &[&str], then: &[&[&str]]| -> Result<()> {
        ran.append(&mut steps(binary, dir, words, then)?);
        Ok(())
    };
    for bundle in [&plain, &full] {
        let bundle = bundle.to_str().context("a path in UTF-8")?;
        trace(&["create", "--bundle", bundle, "order"], &[&["start", "order"], &["kill", "order", "KILL"]])?;
        trace(&["delete", "order"], &[])?;
        run(binary, dir, &["create", "--bundle", bundle, "order"])?;
        trace(&["start", "order"], &[])?;
        trace(&["state", "order"], &[])?;
        trace(&["exec", "order", "/bin/busybox", "true"], &[])?;
        trace(&["kill", "order", "KILL"], &[])?;
        run(binary, dir, &["delete", "--force", "order"])?;
    }
    Ok(ran)
}

/// A command under `steps`; `then` runs when the command itself has ended, so that what it left behind ends, too.
fn steps(binary: &Path, dir: &Path, words: &[&str], then: &[&[&str]]) -> Result<BTreeSet<u64>> {
    let report = dir.join("report");
    let mut tracer = oci(&binary.with_file_name("steps"), &[&report.to_string_lossy(), &binary.to_string_lossy()], dir)
        .args(words)
        .stdout(Stdio::piped())
        .spawn()
        .context("start steps")?;
    let said = tracer.stdout.take().context("no output")?;
    let mut ended = BufReader::new(said).lines().map_while(Result::ok).filter(|line| line == "ended");
    ensure!(ended.next().is_some(), "steps ended before {words:?}");
    for words in then {
        run(binary, dir, words)?;
    }
    finish(&mut tracer, words)?;
    let text = fs::read_to_string(&report)?;
    Ok(text.lines().filter_map(|line| u64::from_str_radix(line, 16).ok()).collect())
}

fn run(binary: &Path, dir: &Path, words: &[&str]) -> Result<()> {
    finish(&mut oci(binary, &[], dir).args(words).stdout(Stdio::null()).spawn()?, words)
}

fn finish(child: &mut Child, words: &[&str]) -> Result<()> {
    let status = child.wait()?;
    ensure!(status.success(), "{words:?}: {status}");
    Ok(())
}

/// `PROGRAM WORDS… oci --root DIR/state`, without input: a container keeps what it is given.
fn oci(program: &Path, words: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(words).args(["oci", "--root"]).arg(dir.join("state"));
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

/// A bundle whose first process sleeps.
fn bundle(binary: &Path, dir: &Path, name: &str, edit: fn(&mut Value)) -> Result<PathBuf> {
    let bundle = dir.join(name);
    fs::create_dir_all(bundle.join("rootfs/bin"))?;
    fs::copy("/bin/busybox", bundle.join("rootfs/bin/busybox")).context("copy busybox")?;
    let status = Command::new(binary).args(["oci", "spec", "--bundle"]).arg(&bundle).status()?;
    ensure!(status.success(), "spec: {status}");
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/busybox", "sleep", "100000"]);
    edit(&mut config);
    fs::write(path, serde_json::to_vec(&config)?)?;
    Ok(bundle)
}

/// What container managers ask for beyond `spec`: limits, a filter, a hook.
fn like_docker(config: &mut Value) {
    config["linux"]["resources"]["memory"] = json!({"limit": 256 << 20});
    config["linux"]["resources"]["pids"] = json!({"limit": 100});
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [{"names": ["reboot", "swapon"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]
    });
    config["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]});
}

fn used<'s>(sections: &'s [Section], ran: &BTreeSet<u64>) -> Vec<&'s Section> {
    let mut used = BTreeSet::new();
    for offset in ran {
        // A function begins within 16 bytes as often as at their start.
        let after = sections.partition_point(|section| section.at <= offset + 15);
        used.extend(after.checked_sub(1));
    }
    used.into_iter().map(|at| &sections[at]).collect()
}

/// The section's name as a pattern: exact but for hashes, and the loose one in which all instances of a generic
/// function are alike.
fn patterns(name: &str) -> (String, Option<String>) {
    let name = name.split_once(".llvm.").map_or(name.to_owned(), |(stem, _)| format!("{stem}.llvm.*"));
    if let Some((stem, _)) = name.split_once("17h").filter(|(_, hash)| hash.len() >= 17) {
        return (name.clone(), Some(format!("{stem}17h*")));
    }
    // Version 0 of mangling: a crate is `Cs`, its hash in base 62, `_`.
    let mut exact = String::new();
    let mut rest = name.as_str();
    while let Some((before, after)) = rest.split_once("Cs") {
        exact.push_str(before);
        exact.push_str("Cs");
        let hash = after.find('_').filter(|at| (9..=12).contains(at));
        rest = match hash {
            Some(at) => {
                exact.push('*');
                &after[at..]
            }
            None => after,
        };
    }
    exact.push_str(rest);
    (exact, None)
}

fn script(sections: &[Section], ran: &BTreeSet<u64>) -> String {
    let used = used(sections, ran);
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    let mut wanted = all.clone();
    let loose = |section: &Section| patterns(&section.name).1;
    for (list, into) in [(sections.iter().collect::<Vec<_>>(), &mut all), (used.clone(), &mut wanted)] {
        for section in list {
            if let Some(pattern) = loose(section) {
                *into.entry(pattern).or_default() += section.size;
            }
        }
    }
    let mut names = BTreeSet::new();
    let mut members: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for section in used {
        let (exact, loose) = patterns(&section.name);
        // A loose pattern may bring along as much as is wanted; beyond that the instance is named with its hash.
        let loose = loose.filter(|loose| all[loose] <= 2 * wanted[loose] + 256);
        match &section.libc {
            Some(member) => _ = members.entry(member).or_default().insert(&section.name),
            None if section.name == ".text" => {}
            None => _ = names.insert(loose.unwrap_or(exact)),
        }
    }
    let mut text = String::from("/* Written by `cargo xtask order`: what `budu oci` runs lies together. */\n");
    text.push_str("SECTIONS\n{\n  .text.oci : {\n");
    for name in names {
        let _ = writeln!(text, "    *({name})");
    }
    for (member, names) in members {
        let names: Vec<&str> = names.into_iter().collect();
        let _ = writeln!(text, "    *libc.a:{member}({})", names.join(" "));
    }
    text.push_str("  }\n}\nINSERT BEFORE .text;\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_left_out_of_names() {
        let legacy = patterns(".text._ZN12budu_runtime3oci4main17h0123456789abcdefE.llvm.42");
        assert_eq!(legacy.1.as_deref(), Some(".text._ZN12budu_runtime3oci4main17h*"));
        let new = patterns(".text._RNvNtCsgEmfK2I1SDS_4core3str4from");
        assert_eq!(new, (".text._RNvNtCs*_4core3str4from".to_owned(), None));
    }

    #[test]
    fn what_ran_is_listed() {
        let map = "             VMA              LMA     Size Align Out     In      Symbol
            1000             1000       60     4 .text
            1000             1000       20     4         a.o:(.text._ZN1a17h0123456789abcdefE)
            1020             1020       40    16         /usr/lib/libc.a(read.o):(.text)
            1060             1060       40    16         b.o:(.text.unused)
";
        let found = sections(map);
        let text = script(&found, &BTreeSet::from([0x1000, 0x1050]));
        assert!(text.contains("*(.text._ZN1a17h*)") && text.contains("*libc.a:read.o(.text)"), "{text}");
        assert!(!text.contains("unused"), "{text}");
    }
}
