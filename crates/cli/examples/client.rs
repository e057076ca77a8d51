//! The command line alone, without daemon and runtime: what the tests of this crate drive.

fn main() {
    std::process::exit(budu_cli::main(std::env::args_os().collect()));
}
