//! Threads, libraries and whole processes that come and go while a session is at work.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tests::{
    Process, Program, Random, Report, Session, Signal, Watch, children_of, need, rounds, send, status_field,
    wait_for,
};

use crate::probes::{borrowed, probe};

/// Threads at once.
const WIDTH: &str = "200";
/// Threads of one command to the program: it must answer within the harness's patience.
const BATCH: u64 = 2500;
/// How much more memory than at the start may be in use at the end, in KiB: far more than noise, far less than a few hundred
/// bytes for each of the long form's threads.
const GROWTH: u64 = 8 << 10;

fn storm() -> Result<PathBuf, String> {
    Program::new("storm.c").source("work.S").build()
}

/// Resident memory of a process in KiB.
fn resident(pid: u32) -> u64 {
    let field = status_field(pid, "VmRSS").expect("a living process");
    field.trim_end_matches(" kB").trim().parse().expect("a number")
}

/// Runs so many threads in batches; gives the calls they made.
fn run_threads(target: &mut Process, count: u64) -> u64 {
    let mut calls = 0;
    for begin in (0..count).step_by(usize::try_from(BATCH).unwrap()) {
        let done = target.ask(&format!("threads {}", BATCH.min(count - begin)));
        assert_eq!(done.number("bad"), 0, "{done:?}");
        calls += done.number("calls");
    }
    calls
}

/// The memory of front and holder at some time.
#[derive(Debug)]
struct Memory {
    front: u64,
    holder: u64,
}

impl Memory {
    fn of(session: &Session) -> Self {
        let front = session.process.child_id();
        let holder = *children_of(front).first().expect("the holder");
        Self { front: resident(front), holder: resident(holder) }
    }

    fn assert_flat_since(&self, start: &Self) {
        println!("resident memory in KiB: {start:?} at the start, {self:?} at the end");
        assert!(self.front < start.front + GROWTH, "the front grows");
        assert!(self.holder < start.holder + GROWTH, "the holder grows");
    }
}

/// A session while threads come and go in thousands: its report, and how many calls they made. The memory of xol stays flat.
fn while_threads_come_and_go(verb: &str, program: &Path) -> (Report, u64) {
    let mut target = Process::start(program, &[WIDTH]);
    let work = probe(program, "work");
    let mut session = Session::start([verb, &work, "-p", &target.pid().to_string()]);
    session.wait_armed(&Watch::on(&target, &["work"]));
    let mut calls = run_threads(&mut target, BATCH);
    let start = Memory::of(&session);
    calls += run_threads(&mut target, rounds(5000, 50_000) - BATCH);
    Memory::of(&session).assert_flat_since(&start);
    let report = session.end();
    report.assert_clean();
    target.finish();
    (report, calls)
}

#[test]
fn threads_are_counted() {
    let program = need!(storm());
    let work = probe(&program, "work");
    let (report, calls) = while_threads_come_and_go("stat", &program);
    assert_eq!((report.hits(&work), report.lost(&work)), (calls, 0), "{:?}", report.summary());
    assert_eq!(report.summary()["left_mapped"], 0, "{report:?}");
}

/// Each thread passes its own number, so each line says itself whether it names the right thread. There are more threads than
/// slots: they are used again.
#[test]
fn threads_are_traced() {
    let (report, calls) = while_threads_come_and_go("trace", &need!(storm()));
    let lines = report.traced();
    assert_eq!(lines.len() as u64 + report.lost_in_all(), calls, "{:?}", report.summary());
    assert_eq!(report.summary()["hits"], calls, "{:?}", report.summary());
    println!("{} lines, {} lost", lines.len(), report.lost_in_all());
    assert!(lines.len() as u64 > calls / 2, "{:?}", report.summary());
    for line in lines {
        let told = line["args"]["arg0"].as_str().expect("a hex string").trim_start_matches("0x");
        assert_eq!(line["tid"].as_u64(), u64::from_str_radix(told, 16).ok(), "{line}");
    }
}

/// Several threads load and unload while sessions come and go; and a whole session sees each call.
#[test]
fn libraries() {
    let library = need!(Program::new("libplug.c").library("libplug.so").build());
    let program = need!(Program::new("plugs.c").flag("-ldl").build());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copies: Vec<PathBuf> = (0..3).map(|n| folder.path().join(format!("plug{n}.so"))).collect();
    for copy in &copies {
        assert!(Command::new("cp").arg(&library).arg(copy).status().expect("cp runs").success());
    }
    let arguments: Vec<&str> = copies.iter().map(|copy| copy.to_str().expect("plain")).collect();
    let mut target = Process::start(&program, &arguments);
    let pid = target.pid().to_string();
    let probes: Vec<String> = copies.iter().map(|copy| probe(copy, "plug_inner")).collect();
    for _ in 0..rounds(10, 200) {
        let before = target.ask("counters").number("calls");
        let time = ["--duration", "50ms", "-p", &pid];
        let report = Session::start([&["stat"], &*borrowed(&probes), &time].concat()).wait();
        let counters = target.ask("counters");
        if report.errors.contains("did not stop") {
            println!("no stop: {}", report.errors); // some thread got no processor in time
            continue;
        }
        report.assert_clean();
        assert_eq!(counters.number("bad"), 0, "{counters:?}");
        let hits: u64 = probes.iter().map(|probe| report.hits(probe)).sum();
        // A call whose thread is not back yet is not in the program's own sum.
        let most = counters.number("calls") + 3 * 13 - before;
        assert!(hits <= most, "{hits} hits of {most} calls: {report:?}");
    }
    let before = target.ask("counters").number("loads");
    wait_for("more libraries", || (target.ask("counters").number("loads") > before + 100).then_some(()));
    assert_eq!(target.ask("stop").number("bad"), 0);
    target.finish();
}

/// How long xol takes until the probes are there, on this machine, today.
fn time_to_arm(program: &Path) -> Duration {
    let target = Process::start(program, &["3"]);
    let watch = Watch::on(&target, &["work"]);
    let begun = Instant::now();
    let mut session = Session::stat(&[&probe(program, "work")], target.pid());
    session.wait_armed(&watch);
    begun.elapsed()
}

/// The process ends while xol attaches to it, by itself or by a kill: xol says that it is gone, or what it counted.
#[test]
fn processes_end_while_xol_attaches() {
    let program = need!(Program::work().build());
    let work = probe(&program, "work");
    let most = time_to_arm(&program) * 3 / 2;
    let mut random = Random::new(1);
    let mut counted = 0;
    let count = rounds(100, 1000);
    for round in 0..count {
        let mut target = Process::start(&program, &["3"]);
        target.ask("run");
        let session = Session::stat(&[&work], target.pid());
        // The delay chooses the moment; nothing depends on how long it really is.
        thread::sleep(most.mul_f64(f64::from(random.upper()) / f64::from(u32::MAX >> 1)));
        if round % 2 == 0 {
            target.close_stdin();
        } else {
            assert!(send(target.pid(), Signal::Kill));
        }
        target.wait();
        let report = session.wait();
        report.assert_no_panic();
        if report.status.success() {
            counted += 1;
            assert_eq!(report.summary()["text_restored"], true, "{report:?}");
        } else {
            report.assert_error(1, &[]);
            // Its threads end one after the other; or one of them got no processor in time.
            let says = ["no process", "ended before the probes were armed", "did not stop"];
            assert!(says.iter().any(|text| report.errors.contains(text)), "{report:?}");
        }
    }
    println!("of {count} sessions {counted} counted, the others said that the process is gone");
}

#[test]
fn commands_that_end_at_once() {
    let program = need!(Program::new("brief.c").source("work.S").build());
    let path = program.to_str().expect("plain");
    let work = probe(&program, "work");
    for _ in 0..rounds(20, 500) {
        let report: Report = Session::start(["stat", &work, "--", path]).wait();
        report.assert_no_panic();
        assert_eq!(report.status.code(), Some(7), "{report:?}");
        assert_eq!((report.hits(&work), report.lost(&work)), (1, 0), "{report:?}");
    }
}
