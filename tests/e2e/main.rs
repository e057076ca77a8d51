//! End-to-end tests: a daemon, real clients, real images, and a census of what is left.
//!
//! `cargo test --test e2e [FILTER]` runs them against Budu. With `BUDU_E2E_BACKEND=dockerd` the same tests run
//! against Docker's own daemon (`cargo xtask peers` installs it): a test that fails there asks for the wrong thing.

mod run;
mod shared;

use budu_testkit::suite::Suite;

fn main() {
    budu_testkit::enter_if_caged();
    let mut suite = Suite::default();
    run::tests(&mut suite);
    suite.run(shared::finish);
}
