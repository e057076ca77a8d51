use budu_testkit::suite::Suite;
use budu_testkit::{Client, images::BUSYBOX};

use crate::shared;

pub fn tests(suite: &mut Suite) {
    suite.both(exit_codes);
}

fn exit_codes(client: Client) {
    let docker = shared::client(client);
    assert_eq!(docker.ok(["run", "--rm", BUSYBOX, "echo", "hi"]), "hi");
}
