//! Runs end-to-end tests: like the built-in harness, but with skips that count as skips and a common end.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::Mutex;
use std::sync::PoisonError;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::Client;

static SKIPPED: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

struct Skip(String);

/// Ends the test that calls it: it neither passed nor failed, because of `why`.
pub fn skip(why: &str) -> ! {
    panic_any(Skip(why.to_owned()))
}

/// Skips the calling test unless it runs against Budu itself.
pub fn only_budu(why: &str) {
    if crate::Backend::current() != crate::Backend::Budu {
        skip(why);
    }
}

/// The tests of a program.
#[derive(Default)]
pub struct Suite {
    trials: Vec<Trial>,
}

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Suite of {}", self.trials.len())
    }
}

impl Suite {
    /// Adds a test, named after the function.
    pub fn once<F: FnOnce() + Send + 'static>(&mut self, test: F) {
        self.add(name_of::<F>(""), test);
    }

    /// Adds a test twice: with the stock command line and with Budu's own.
    pub fn both<F: Fn(Client) + Send + Copy + 'static>(&mut self, test: F) {
        self.add(name_of::<F>("::docker"), move || test(Client::Docker));
        self.add(name_of::<F>("::budu"), move || test(Client::Budu));
    }

    fn add(&mut self, name: String, test: impl FnOnce() + Send + 'static) {
        let label = name.clone();
        self.trials.push(Trial::test(name, move || attempt(&label, test)));
    }

    /// Runs the tests that the command line asks for, then `finish`, which counts as one more; exits the process.
    pub fn run(mut self, finish: impl FnOnce() + Send + 'static) -> ! {
        let mut arguments = Arguments::from_args();
        // Tests wait more than they work.
        arguments.test_threads.get_or_insert(4);
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<Skip>() {
                hook(info);
            }
        }));
        let trials = std::mem::take(&mut self.trials);
        let ran = libtest_mimic::run(&arguments, trials);
        let clean = arguments.list
            || attempt("finish", finish).map_err(|e| eprintln!("nothing left behind: FAILED: {e:?}")).is_ok();
        let skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, why) in skipped.iter() {
            println!("skipped: {name}: {why}");
        }
        let failed = ran.num_failed + u64::from(!clean);
        let passed = ran.num_passed + u64::from(clean) - skipped.len() as u64;
        let left_out = skipped.len() as u64 + ran.num_ignored;
        if !arguments.list {
            println!("e2e: {passed} passed, {failed} failed, {left_out} skipped");
        }
        std::process::exit(i32::from(failed > 0));
    }
}

fn attempt(name: &str, test: impl FnOnce()) -> Result<(), Failed> {
    match catch_unwind(AssertUnwindSafe(test)) {
        Ok(()) => Ok(()),
        Err(payload) => match payload.downcast::<Skip>() {
            Ok(skip) => {
                let mut skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
                skipped.push((name.to_owned(), skip.0));
                Ok(())
            }
            Err(payload) => match payload.downcast_ref::<String>() {
                Some(message) => Err(message.into()),
                None => match payload.downcast_ref::<&str>() {
                    Some(message) => Err((*message).into()),
                    None => resume_unwind(payload),
                },
            },
        },
    }
}

/// `e2e::run::exit_codes` becomes `run::exit_codes`.
fn name_of<F>(suffix: &str) -> String {
    let path = std::any::type_name::<F>();
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    format!("{name}{suffix}")
}
