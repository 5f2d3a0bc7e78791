//! Tasks of a process that its tracer is not told of, and threads that another tracer has.

use std::path::{Path, PathBuf};

use tests::{
    Process, Program, Report, Session, Snapshot, Watch, need, rounds, skip, tracer_of, wait_for, xol,
};

use crate::probes::probe;

fn hidden() -> Result<PathBuf, String> {
    Program::new("hidden.c").source("work.S").flag("-ldl").flag("-lpthread").build()
}

fn library() -> Result<PathBuf, String> {
    Program::new("libplug.c").library("libplug.so").build()
}

/// A session that will stop the program when that loads the library.
fn counted(program: &Path, library: &Path, target: &Process) -> Session {
    let (work, inner) = (probe(program, "work"), probe(library, "plug_inner"));
    let mut session = Session::start(["stat", &work, &inner, "-p", &target.pid().to_string()]);
    session.wait_armed(&Watch::on(target, &["work"]));
    session
}

fn does(target: &mut Process, command: &str) {
    let done = target.ask(command);
    assert_eq!(done.number("bad"), 0, "{done:?}");
}

fn warnings(report: &Report) -> String {
    report.summary()["warnings"].to_string()
}

/// From the stop that finds such a task on every count is exact, and that there was one is said.
#[test]
fn a_task_made_untraced() {
    let (program, library) = (need!(hidden()), need!(library()));
    let mut target = Process::start(&program, &[]);
    let session = counted(&program, &library, &target);
    let tid = target.ask("clone").number("tid");
    assert_eq!(tracer_of(u32::try_from(tid).unwrap()), None, "it was reported");
    does(&mut target, "calls 1000");
    does(&mut target, &format!("load {}", library.display()));
    let times = rounds(20_000_000, 100_000_000);
    does(&mut target, &format!("both {times}"));
    let report = session.end();
    report.assert_clean();
    assert_eq!(report.hits(&probe(&program, "work")), 1000 + 2 * times, "{report:?}");
    assert!(warnings(&report).contains("was not told of"), "{report:?}");
    target.finish();
}

/// One that runs already when it is found, in the middle of a body as may be its maker: nothing breaks, and what comes after is
/// exact.
#[test]
fn a_task_made_untraced_that_is_busy() {
    let (program, library) = (need!(hidden()), need!(library()));
    for _ in 0..rounds(3, 30) {
        let mut target = Process::start(&program, &[]);
        let session = counted(&program, &library, &target);
        target.ask("clone");
        target.tell("both 3000000");
        // It is found when xol leaves.
        let report = session.end();
        report.assert_clean();
        assert_eq!(target.hear().number("bad"), 0);
        assert!(report.hits(&probe(&program, "work")) <= 6_000_000, "{report:?}");
        target.finish();
    }
}

/// The number of a worker that the kernel makes for the program; 0 where it makes none.
fn worker_of(target: &mut Process) -> u32 {
    let ring = target.ask("ring");
    println!("{ring:?}");
    u32::try_from(ring.number("worker")).unwrap()
}

/// A worker of io_uring runs no code of the program's: it is let alone, nothing waits for it, and the program has one thread.
#[test]
fn a_worker_of_the_kernel() {
    let (program, library) = (need!(hidden()), need!(library()));
    for is_first in [true, false] {
        let mut target = Process::start(&program, &[]);
        let mut worker = if is_first { worker_of(&mut target) } else { 0 };
        let session = counted(&program, &library, &target);
        if !is_first {
            worker = worker_of(&mut target);
        }
        if worker == 0 {
            skip!("no worker of io_uring");
        }
        let times = rounds(2_000_000, 20_000_000);
        does(&mut target, &format!("calls {times}"));
        does(&mut target, &format!("load {}", library.display()));
        assert_eq!(tracer_of(worker), None, "the worker is traced");
        does(&mut target, &format!("threads {times}"));
        let report = session.end();
        report.assert_clean();
        assert_eq!(report.hits(&probe(&program, "work")), 3 * times, "{report:?}");
        assert!(!warnings(&report).contains("was not told of"), "{report:?}");
        target.finish();
    }
}

/// The text does not change under a thread that another tracer has: xol says who that is, and has done nothing.
#[test]
fn a_thread_that_another_tracer_has() {
    let program = need!(hidden());
    let tracer = need!(Program::new("tracer.c").build());
    let mut target = Process::start(&program, &[]);
    let tid = target.ask("thread").number("tid");
    let other = Process::start(&tracer, &[&tid.to_string()]);
    if tracer_of(u32::try_from(tid).unwrap()) != Some(other.pid()) {
        skip!("one process may not trace another here");
    }
    let before = Snapshot::of(target.pid());
    let work = probe(&program, "work");
    let report = Report::of(&mut xol(["stat", &work, "-p", &target.pid().to_string()]));
    let words = [&target.pid().to_string(), "already traced", &other.pid().to_string()].map(str::to_owned);
    report.assert_error(1, &words.each_ref().map(String::as_str));
    // Its holder ends behind it.
    wait_for("the end of xol's hold", || tracer_of(target.pid()).is_none().then_some(()));
    before.assert_unchanged(target.pid());
    does(&mut target, "both 1000");

    other.finish();
    let mut session = Session::stat(&[&work], target.pid());
    session.wait_armed(&Watch::on(&target, &["work"]));
    does(&mut target, "both 100000");
    let report = session.end();
    report.assert_clean();
    assert_eq!(report.hits(&work), 200_000, "{report:?}");
    target.finish();
}
