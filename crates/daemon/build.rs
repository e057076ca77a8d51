//! What the binary knows of its own making, for `version`.

use std::process::Command;

fn main() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    for name in ["BUDU_COMMIT", "SOURCE_DATE_EPOCH"] {
        println!("cargo::rerun-if-env-changed={name}");
        println!("cargo::rustc-env={name}={}", variable(name));
    }
    let compiler = Command::new(variable("RUSTC")).arg("--version").output();
    let text = compiler.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    println!("cargo::rustc-env=BUDU_COMPILER={}", words.join(" "));
    println!("cargo::rerun-if-changed=build.rs");
}
