//! Compiles the payload of the built-in image `hello` for the target, as a
//! static program of its own (see docs/decisions/0008-hello-payload.md), and
//! tells the linker where the binary begins and what lies together in it
//! (docs/decisions/0012-order-of-functions.md).

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    link();
    payload();
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}

fn link() {
    // Relocations take a hundredth of the space and of the time at start.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    if variable("CARGO_CFG_TARGET_ARCH") != "x86_64" {
        return;
    }
    // crates/sys/src/start.rs
    println!("cargo::rustc-link-arg-bins=-Wl,-e,budu_start");
    println!("cargo::rerun-if-changed=link/order.ld");
    if variable("PROFILE") == "release" {
        let order = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("link/order.ld");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", order.display());
    }
}

fn payload() {
    println!("cargo::rerun-if-changed=payload/hello.rs");
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
