use budu_testkit::suite::Suite;

pub fn tests(_suite: &mut Suite) {}
