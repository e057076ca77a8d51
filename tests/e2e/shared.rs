//! Engines that tests share: starting one for each would take longer than the tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use budu_testkit::{Client, ClientHandle, Engine, Options, images};
use serde_json::Value;

type Started = Result<Arc<Engine>, String>;
static ENGINES: Mutex<BTreeMap<&str, Arc<Mutex<Option<Started>>>>> = Mutex::new(BTreeMap::new());

/// The engine called `name`, started with `options` by whoever asks first.
pub(crate) fn engine_for(name: &'static str, options: impl FnOnce() -> Options) -> Arc<Engine> {
    let slot = {
        let mut engines = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(engines.entry(name).or_default())
    };
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let start = || Engine::start(options()).map(Arc::new).map_err(|error| format!("{error:#}"));
    match slot.get_or_insert_with(start) {
        Ok(engine) => Arc::clone(engine),
        Err(error) => panic!("the engine for {name} did not start: {error}"),
    }
}

/// The engine for most tests, with busybox and the configured image. Tests name their containers with [`name`].
pub(crate) fn engine() -> Arc<Engine> {
    engine_for("most", || Options { images: vec![images::BUSYBOX, images::CONFIGURED], ..Options::default() })
}

/// A command line client of the engine for most tests.
pub(crate) fn client(client: Client) -> ClientHandle {
    engine().client(client)
}

/// A container name that no other test uses.
pub(crate) fn name(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{stem}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A host port that no other test uses, in the range that the census looks for.
pub(crate) fn port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(20_000);
    u16::try_from(NEXT.fetch_add(1, Ordering::Relaxed)).expect("fewer than 10000 tests use ports")
}

/// The time `seconds` from now, as a number that `--until` takes.
pub(crate) fn in_seconds(seconds: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    (now.expect("a clock after 1970").as_secs() + seconds).to_string()
}

/// What `inspect` says of a container.
pub(crate) fn inspect(engine: &Engine, container: &str) -> Value {
    let answer = engine.http("GET", &format!("/containers/{container}/json"), None);
    answer.expect("the daemon answers").expect(200).json()
}

/// Ends all shared engines and fails when one leaves something behind.
pub(crate) fn finish() {
    let engines = std::mem::take(&mut *ENGINES.lock().unwrap_or_else(PoisonError::into_inner));
    let mut complaints = String::new();
    for (name, slot) in engines {
        let started = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Ok(engine)) = started else { continue };
        let Some(engine) = Arc::into_inner(engine) else {
            complaints.push_str(&format!("engine for {name}: a test still holds it\n"));
            continue;
        };
        if let Err(error) = engine.finish() {
            complaints.push_str(&format!("engine for {name}: {error:#}\n"));
        }
    }
    assert!(complaints.is_empty(), "{complaints}");
}
