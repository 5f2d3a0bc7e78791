//! Storms: whole sessions come and go, thousands of times, while real kinds of programs work. Nobody dies, every result is
//! right, every session restores the text, and nobody's memory grows.
//!
//! The short form runs 15 sessions on each; `XOL_LONG=1 cargo test -p tests storms -- --nocapture` runs 10,000
//! (`XOL_STORM=N`: N).

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tests::{Process, Program, need, rounds, skip, status_field, which};
use xol::session::{Action, Hit};

use crate::in_process::open;
use crate::probes::{probe, script};

/// What a leak would exceed in the long form, in KiB: caches of allocators and pages touched for the first time do not.
const GROWTH: u64 = 64 << 10;
/// Sessions before memory is looked at for the first time.
const WARM: u64 = 10;

fn cycles() -> u64 {
    let asked = std::env::var("XOL_STORM").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or_else(|| rounds(15, 10_000))
}

/// Resident memory of a process in KiB.
fn resident(pid: u32) -> u64 {
    let field = status_field(pid, "VmRSS").unwrap_or_default();
    field.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn storm(name: &str, pid: u32, specs: &[String]) {
    let (mut hits, mut slowest, own) = (0, 0, std::process::id());
    let mut before = [0; 2];
    for cycle in 0..cycles() {
        // Counts and events in turn.
        let action = if cycle % 2 == 0 { Action::Count } else { Action::Trace };
        let mut session = open(pid, specs, action);
        session.poll(Duration::from_millis(cycle % 4), &mut |_: Hit| {}).expect("the session goes on");
        let (_, summary) = session.remove(&mut |_: Hit| {}).expect("the probes are removed");
        session.wait().expect("the holder ends");
        assert!(summary.text_restored, "{name}, session {cycle}: {summary:?}");
        hits += summary.hits;
        slowest = slowest.max(summary.longest_stop_us);
        if cycle == WARM {
            before = [resident(pid), resident(own)];
        }
    }
    let after = [resident(pid), resident(own)];
    println!(
        "{name}: {} sessions, {hits} hits, longest stop {slowest} us, resident KiB of target {} -> {}, of tracer {} -> {}",
        cycles(),
        before[0],
        after[0],
        before[1],
        after[1]
    );
    assert!(after[0] < before[0] + GROWTH, "{name}: the target's {} KiB grew to {}", before[0], after[0]);
    // Under `cargo test` the tests of the short form share the process, and what others hold is not ours to judge.
    if cycles() > 1000 {
        assert!(after[1] < before[1] + GROWTH, "{name}: the tracer's {} KiB grew to {}", before[1], after[1]);
    }
}

/// A storm on a program that works all the while: `calls N` again and again, every answer right.
fn on_worker(name: &str, mut target: Process, specs: &[String], calls: u64) {
    let pid = target.pid();
    let over = Arc::new(AtomicBool::new(false));
    let worker = {
        let over = Arc::clone(&over);
        let name = name.to_owned();
        thread::spawn(move || {
            let mut batches = 0_u64;
            while !over.load(Ordering::Relaxed) {
                let done = target.ask(&format!("calls {calls}"));
                assert_eq!(done.number("bad"), 0, "{name}: {done:?}");
                batches += 1;
            }
            assert!(batches > 0);
            target
        })
    };
    storm(name, pid, specs);
    over.store(true, Ordering::Relaxed);
    worker.join().expect("every answer was right").finish();
}

#[test]
fn exceptions() {
    let program = need!(Program::new("throws.cc").build());
    let specs = ["deepest", "middle", "once"].map(|name| probe(&program, name));
    on_worker("C++ exceptions", Process::start(&program, &[]), &specs, 20_000);
}

#[test]
fn goroutines() {
    let program = need!(Program::new("golang.go").build());
    let specs = ["main.Add", "main.deep", "runtime.newstack"].map(|name| probe(&program, name));
    on_worker("Go", Process::start(&program, &[]), &specs, 200_000);
}

#[test]
fn futures() {
    let program = need!(Program::new("async.rs").build());
    let specs = ["async::step", "async::poll_job"].map(|name| probe(&program, name));
    on_worker("Rust futures", Process::start(&program, &[]), &specs, 500);
}

#[test]
fn python() {
    let Some(python) =
        ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter().find(|path| Path::new(path).exists())
    else {
        skip!("there is no system python3")
    };
    let real = std::fs::canonicalize(python).unwrap();
    let specs = ["PyObject_Malloc", "PyObject_Free", "PyUnicode_Join"].map(|name| probe(&real, name));
    let target = Process::of_command(Command::new(&real).args(["-S", "-E"]).arg(script("threads.py")));
    on_worker("python3", target, &specs, 300);
}

#[test]
fn node() {
    let Some(node) = which("node") else { skip!("node is not installed") };
    let real = std::fs::canonicalize(node).unwrap();
    let target = Process::of_command(Command::new(&real).arg(script("loop.js")));
    let specs = ["uv__io_poll", "uv_run", "uv_queue_work"].map(|name| probe(&real, name));
    on_worker("node", target, &specs, 500);
}

#[test]
fn redis() {
    let Some(redis) = crate::real_programs::Redis::installed() else { skip!("redis is not installed") };
    let pid = redis.pid();
    let over = Arc::new(AtomicBool::new(false));
    let load = {
        let (over, socket) = (Arc::clone(&over), redis.socket());
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let load = Command::new("redis-benchmark")
                    .arg("-s")
                    .arg(&socket)
                    // What is pushed is popped: its list would outgrow any leak of ours.
                    .args(["-n", "20000", "-c", "10", "-P", "4", "-t", "set,get,incr,lpush,lpop", "-q"])
                    .output()
                    .expect("it starts");
                assert!(
                    load.status.success() && !String::from_utf8_lossy(&load.stdout).contains("ERR"),
                    "{load:?}"
                );
            }
        })
    };
    storm("redis", pid, &["call", "lookupKey*", "dictFind"].map(|name| redis.probe(name)));
    over.store(true, Ordering::Relaxed);
    load.join().expect("no error under load");
}
