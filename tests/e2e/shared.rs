//! The engine that most tests share: starting one for each would take longer than the tests.

use std::sync::{Arc, Mutex, PoisonError};

use budu_testkit::{Client, ClientHandle, Engine, Options, images};

type Slot = Option<Result<Arc<Engine>, String>>;
static ENGINE: Mutex<Slot> = Mutex::new(None);

/// The shared engine, with [`images::BUSYBOX`] pulled. Tests give their containers names of their own.
pub fn engine() -> Arc<Engine> {
    let mut slot = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
    let start = || {
        let options = Options { images: vec![images::BUSYBOX], ..Options::default() };
        Engine::start(options).map(Arc::new).map_err(|error| format!("{error:#}"))
    };
    match slot.get_or_insert_with(start) {
        Ok(engine) => Arc::clone(engine),
        Err(error) => panic!("the shared engine did not start: {error}"),
    }
}

/// A command line client of the shared engine.
pub fn client(client: Client) -> ClientHandle {
    engine().client(client)
}

/// Ends the shared engine and fails when it leaves something behind.
pub fn finish() {
    let slot = ENGINE.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(Ok(engine)) = slot else { return };
    let engine = Arc::into_inner(engine).expect("a test still holds the shared engine");
    engine.finish().unwrap_or_else(|error| panic!("{error:#}"));
}
