//! Prints what attach and detach cost. Measurements, not checks:
//! `cargo test --release -p budu-network --test pace -- --ignored --nocapture --test-threads 1`.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod rig;

use std::time::{Duration, Instant};

use budu_network::{Config, Networks, PortRequest, Protocol};
use budu_sys::netlink::Route;
use rig::*;

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_micros();
    println!("{what:<44} p10 {:6}  p50 {:6}  p90 {:6}  max {:6} µs", at(10), at(50), at(90), at(100));
}

fn timed<T>(times: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let outcome = work();
    times.push(start.elapsed());
    outcome
}

/// Waits until the kernel has deleted all container links.
fn settle() -> Duration {
    let start = Instant::now();
    let mut route = Route::open().unwrap();
    while route.links().unwrap().iter().any(|link| link.name.len() == 11) {
        std::thread::sleep(Duration::from_millis(1));
    }
    start.elapsed()
}

fn one_by_one(what: &str, warm: usize, pause: Duration, ports: &[PortRequest]) {
    let networks = Networks::open(Config { warm, ..Config::default() }).unwrap();
    let mut first = Vec::new();
    let (mut attach, mut detach) = (Vec::new(), Vec::new());
    let made = timed(&mut first, || networks.attach(&request("first", ports)).unwrap());
    networks.detach("first").unwrap();
    drop(made);
    for round in 0..100 {
        std::thread::sleep(pause);
        let name = round.to_string();
        let made = timed(&mut attach, || networks.attach(&request(&name, ports)).unwrap());
        timed(&mut detach, || networks.detach(&name).unwrap());
        drop(made);
    }
    print(&format!("{what}: first attach"), first);
    print(&format!("{what}: attach"), attach);
    print(&format!("{what}: detach"), detach);
    networks.shutdown(true).unwrap();
    println!("{what}: links gone after {} µs", settle().as_micros());
}

#[test]
#[ignore = "a measurement, not a check"]
fn one_container_at_a_time() {
    on_host(|_| {
        let ports = [port(None, 8080, 80, Protocol::Tcp)];
        let pause = Duration::from_millis(10);
        one_by_one("cold", 0, pause, &[]);
        one_by_one("warm", 4, pause, &[]);
        one_by_one("warm, one port", 4, pause, &ports);
        one_by_one("warm, no pause", 4, Duration::ZERO, &[]);
        one_by_one("cold, no pause", 0, Duration::ZERO, &[]);
    });
}

#[test]
#[ignore = "a measurement, not a check"]
fn a_hundred_containers_eight_at_a_time() {
    on_host(|_| {
        for warm in [0, 4, 16] {
            let networks = Networks::open(Config { warm, ..Config::default() }).unwrap();
            networks.warm();
            let start = Instant::now();
            let workers: Vec<_> = (0..8)
                .map(|worker| {
                    let networks = networks.clone();
                    std::thread::spawn(move || {
                        let mut times = Vec::new();
                        let mut kept = Vec::new();
                        for round in 0..13 {
                            let name = format!("{worker}-{round}");
                            let ports = [PortRequest {
                                host_port: budu_network::HostPort::Ephemeral,
                                ..port(None, 1, 80, Protocol::Tcp)
                            }];
                            kept.push(timed(&mut times, || networks.attach(&request(&name, &ports)).unwrap()));
                        }
                        (times, kept)
                    })
                })
                .collect();
            let mut times = Vec::new();
            let mut kept = Vec::new();
            for worker in workers {
                let (more, held) = worker.join().unwrap();
                times.extend(more);
                kept.extend(held);
            }
            println!("104 attached in {} µs, {warm} kept ready", start.elapsed().as_micros());
            print("attach with a port, 8 at a time", times);
            let start = Instant::now();
            let mut times = Vec::new();
            for made in kept {
                timed(&mut times, || networks.detach(&made.sandbox.container).unwrap());
                drop(made);
            }
            print("detach with a port", times);
            println!("104 detached in {} µs", start.elapsed().as_micros());
            networks.shutdown(true).unwrap();
            println!("links gone after another {} µs", settle().as_micros());
        }
    });
}
