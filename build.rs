//! Compiles the payload of the built-in image `hello` for the target, as a
//! static program of its own (see docs/decisions/0008-hello-payload.md).

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=payload/hello.rs");
    println!("cargo::rerun-if-changed=build.rs");
    // Relocations take a hundredth of the space and of the time at start.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"));
    let output = PathBuf::from(variable("OUT_DIR")).join("hello");
    let status = Command::new(variable("RUSTC"))
        .args(["--edition", "2024", "--crate-name", "hello", "--target", &variable("TARGET")])
        .args(["-C", "opt-level=s", "-C", "panic=abort", "-C", "lto=fat", "-C", "strip=symbols"])
        .args(["-C", "target-feature=+crt-static", "-C", "codegen-units=1"])
        .arg("-o")
        .arg(&output)
        .arg("payload/hello.rs")
        .status()
        .expect("the compiler that builds this can be run");
    assert!(status.success(), "compiling payload/hello.rs failed");
}
