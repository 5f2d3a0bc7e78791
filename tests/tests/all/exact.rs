//! N threads times M calls are N times M hits, whatever the number of threads and however they are served.

use std::path::Path;

use tests::{Process, Program, Report, Session, Snapshot, Watch, need, rounds};

use crate::probes::{borrowed, probe};

/// Counts `work` and `neighbour` while `threads` threads make `calls` calls each.
fn count(threads: u64, calls: u64, flags: &[&str]) {
    let mut program = Program::work();
    for flag in flags {
        program = program.flag(*flag);
    }
    let program = need!(program.build());
    let mut target = Process::start(&program, &[&threads.to_string()]);
    let before = Snapshot::of(target.pid());
    let watch = Watch::on(&target, &["work", "neighbour"]);
    let probes = [probe(&program, "work"), probe(&program, "neighbour")];
    let mut session = Session::stat(&borrowed(&probes), target.pid());
    session.wait_armed(&watch);
    let answer = target.ask(&format!("calls {calls}"));
    let report = session.end();
    assert_eq!(answer.number("work"), threads * calls);
    assert_all_counted(&report, &probes, threads * calls);
    assert_eq!(report.mechanism(&probes[0]), "jump");
    assert_eq!(answer.number("bad"), 0);
    before.assert_unchanged(target.pid());
    let after = target.ask("calls 1000");
    assert_eq!((after.number("work"), after.number("bad")), (threads * 1000, 0), "the program goes on");
    target.finish();
}

fn assert_all_counted(report: &Report, probes: &[String], calls: u64) {
    report.assert_clean();
    for probe in probes {
        assert_eq!((report.hits(probe), report.lost(probe)), (calls, 0), "{report:?}");
    }
    assert_eq!(report.summary()["left_mapped"], 0, "{report:?}");
}

#[test]
fn one_thread() {
    count(1, 10_000_000, &[]);
}

#[test]
fn four_threads() {
    count(4, 2_500_000, &[]);
}

/// More threads than shards or processors.
#[test]
fn two_hundred_threads() {
    count(200, rounds(10_000, 100_000), &[]);
}

#[test]
fn four_threads_fixed_position() {
    count(4, 2_500_000, &["-no-pie"]);
}

#[test]
fn four_threads_static() {
    count(4, 1_000_000, &["-static"]);
}

/// One thread, which handlers interrupt and children leave the only one, then several at once: what counts in its stubs
/// changes when the second comes.
#[test]
fn a_second_thread() {
    exact_behind(&["calls", "family"], 2_000_000);
    exact_behind(&["calls", "family", "threads", "calls", "threads"], 2_000_000);
}

/// The second comes as soon as the probes are in the text, while the holder still keeps its books.
#[test]
fn a_second_thread_at_once() {
    for _ in 0..rounds(40, 500) {
        exact_behind(&["threads"], 2_000);
    }
}

fn exact_behind(orders: &[&str], calls: u64) {
    let program = need!(Program::new("second.c").source("work.S").build());
    let mut target = Process::start(&program, &[]);
    let watch = Watch::on(&target, &["work"]);
    let work = probe(&program, "work");
    let mut session = Session::stat(&[&work], target.pid());
    session.wait_armed(&watch);
    let expected: u64 = orders
        .iter()
        .map(|order| {
            let done = target.ask(&format!("{order} {calls}"));
            assert_eq!(done.number("bad"), 0, "{order}");
            done.number("work")
        })
        .sum();
    let report = session.end();
    assert_all_counted(&report, &[work], expected);
    assert!(!report.summary()["warnings"].to_string().contains("xol's memory"), "{report:?}");
    target.finish();
}

/// The same for breakpoints, each hit of which goes through the tracer.
#[test]
fn breakpoints() {
    at_trapped(&[], "trap", rounds(2_500, 25_000));
}

/// And for jumps that end in the instruction behind, which the program jumps to all the time.
#[test]
fn puns() {
    at_trapped(&["-DPUN"], "pun", 1_000_000);
}

#[test]
fn puns_fixed_position() {
    at_trapped(&["-DPUN", "-no-pie"], "pun", 1_000_000);
}

#[test]
fn puns_static() {
    at_trapped(&["-DPUN", "-static"], "pun", 1_000_000);
}

fn at_trapped(flags: &[&str], mechanism: &str, calls: u64) {
    let mut program = Program::work();
    for flag in flags {
        program = program.flag(*flag);
    }
    let program = need!(program.build());
    let mut target = Process::start(&program, &["4"]);
    let before = Snapshot::of(target.pid());
    let watch = Watch::on(&target, &["trapped_site"]);
    let probes = [probe(&program, "trapped+5")];
    let mut session = Session::stat(&borrowed(&probes), target.pid());
    session.wait_armed(&watch);
    let answer = target.ask(&format!("traps {calls}"));
    let report = session.end();
    assert_eq!(answer.number("bad"), 0);
    assert_all_counted(&report, &probes, 4 * calls);
    assert_eq!(report.mechanism(&probes[0]), mechanism, "the test is about that");
    before.assert_unchanged(target.pid());
    target.finish();
}

/// A session that begins and ends while all threads run: the hits lie between what the program itself counted.
#[test]
fn in_the_middle_of_a_run() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["4"]);
    let watch = Watch::on(&target, &["work"]);
    target.ask("run");
    let outside_before = target.ask("counters");
    let mut session = Session::stat(&[&probe(&program, "work")], target.pid());
    session.wait_armed(&watch);
    let inside_first = target.ask("counters");
    // The counters move before anything is asserted of them: no pause is needed to make a difference.
    tests::wait_for("a million calls", || {
        (target.ask("counters").number("ended") > inside_first.number("begun") + 1_000_000).then_some(())
    });
    let inside_last = target.ask("counters");
    let report = session.end();
    let outside_after = target.ask("counters");
    let stopped = target.ask("stop");
    report.assert_clean();
    let least = inside_last.number("ended") - inside_first.number("begun");
    let most = outside_after.number("begun") - outside_before.number("ended");
    let hits = report.hits("work");
    assert!((least..=most).contains(&hits), "{hits} is not between {least} and {most}");
    assert_eq!(stopped.number("bad"), 0, "{stopped:?}");
    assert!(watch.is_restored());
    target.finish();
}

/// `--max-hits` and `--duration` end a session by themselves; `stat` stops at or after the number.
#[test]
fn sessions_that_end_by_themselves() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["2"]);
    let watch = Watch::on(&target, &["work"]);
    let pid = target.pid().to_string();
    let work = probe(&program, "work");
    target.ask("run");
    let report = Session::start(["stat", "--max-hits", "1000", &work, "-p", &pid]).wait();
    report.assert_clean();
    assert!(report.hits("work") >= 1000, "{report:?}");
    assert!(watch.is_restored());
    let report = Session::start(["stat", "--duration", "300ms", &work, "-p", &pid]).wait();
    report.assert_clean();
    assert!(report.hits("work") > 0, "{report:?}");
    assert!(watch.is_restored());
    assert_eq!(target.ask("stop").number("bad"), 0);
    target.finish();
}

/// A program that ends first, by itself or by a kill: counts to the last hit, status 0.
pub(crate) fn counted_to_its_end(program: &Path, argument: &str, killed: bool) {
    let mut target = Process::start(program, &[argument]);
    let work = probe(program, "work");
    let mut session = Session::stat(&[&work], target.pid());
    session.wait_armed(&Watch::on(&target, &["work"]));
    let calls = target.ask("calls 50000").number("work");
    if killed {
        assert!(tests::send(target.pid(), tests::Signal::Kill));
        target.wait();
    } else {
        target.finish();
    }
    let report = session.wait();
    report.assert_no_panic();
    assert!(report.status.success(), "{report:?}");
    assert_eq!((report.hits(&work), report.lost(&work)), (calls, 0), "{argument}: {report:?}");
}

#[test]
fn the_end_of_the_target() {
    let program = need!(Program::work().build());
    for killed in [false, true] {
        counted_to_its_end(&program, "3", killed);
    }
}
