//! End-to-end tests: a daemon, real clients, real images, and a census of what is left.
//!
//! `cargo test --test e2e [FILTER]` runs them against Budu. With `BUDU_E2E_BACKEND=dockerd` the same tests run
//! against Docker's own daemon (`cargo xtask peers` installs it): a test that fails there asks for the wrong thing.

mod api;
mod attach_tty;
mod compose;
mod containment;
mod devices;
mod errors;
mod exec;
mod files;
mod first_run;
mod health;
mod image_archives;
mod images;
mod lifecycle;
mod limits;
mod log_drivers;
mod logs;
mod network;
mod networks;
mod recovery;
mod run;
mod security;
mod shared;
mod sharing;
mod streams;
mod system;
mod update;
mod volumes;
mod why;

use budu_testkit::suite::Suite;

fn main() {
    budu_testkit::enter_if_caged();
    let mut suite = Suite::default();
    run::tests(&mut suite);
    volumes::tests(&mut suite);
    containment::tests(&mut suite);
    lifecycle::tests(&mut suite);
    images::tests(&mut suite);
    image_archives::tests(&mut suite);
    exec::tests(&mut suite);
    attach_tty::tests(&mut suite);
    files::tests(&mut suite);
    logs::tests(&mut suite);
    log_drivers::tests(&mut suite);
    streams::tests(&mut suite);
    network::tests(&mut suite);
    networks::tests(&mut suite);
    compose::tests(&mut suite);
    limits::tests(&mut suite);
    health::tests(&mut suite);
    update::tests(&mut suite);
    devices::tests(&mut suite);
    why::tests(&mut suite);
    sharing::tests(&mut suite);
    errors::tests(&mut suite);
    api::tests(&mut suite);
    security::tests(&mut suite);
    system::tests(&mut suite);
    recovery::tests(&mut suite);
    first_run::tests(&mut suite);
    suite.run(shared::finish);
}
