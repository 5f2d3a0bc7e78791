//! Probes that are hit too often: said, and with `--max-rate` taken out for a while.

use tests::{Process, Program, Report, Session, Watch, need};

use crate::probes::probe;

/// The rate that is allowed, and nonsense: what is counted may be more, by what a slice counts until it is ended.
const RATE: u64 = 1000;

fn warnings(report: &Report) -> Vec<String> {
    let list = report.summary()["warnings"].as_array().expect("a list").clone();
    list.iter().map(|warning| warning.as_str().expect("text").to_owned()).collect()
}

/// A breakpoint that is hit all the time costs more than 5 % of a core: said when it is known, once, and in the summary.
#[test]
fn is_said_once() {
    let program = need!(Program::work().build());
    for verb in ["stat", "trace"] {
        let mut target = Process::start(&program, &["1"]);
        let spec = probe(&program, "trapped_site");
        let pid = target.pid().to_string();
        let mut session = Session::start([verb, &spec, "-p", &pid]);
        session.wait_armed(&Watch::on(&target, &["trapped_site"]));
        let mut traps = || assert_eq!(target.ask("traps 5000").number("bad"), 0);
        tests::wait_for("a warning", || {
            traps();
            session.errors().contains("--max-rate").then_some(())
        });
        // Long enough for another look at the rate.
        let begun = std::time::Instant::now();
        while begun.elapsed() < std::time::Duration::from_secs(1) {
            traps();
        }
        let report = session.end();
        report.assert_clean();
        assert_eq!(report.errors.matches("--max-rate").count(), 1, "{verb}: {}", report.errors);
        let said = warnings(&report).iter().filter(|warning| warning.contains("--max-rate")).count();
        assert_eq!(said, 1, "{verb}: {:?}", report.summary());
        target.finish();
    }
}

/// A function that is called all the time is out most of the time, and the program computes the same.
#[test]
fn hot_functions_are_sampled() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["2"]);
    let (work, watch) = (probe(&program, "work"), Watch::on(&target, &["work"]));
    let before = tests::Snapshot::of(target.pid());
    let (pid, rate) = (target.pid().to_string(), RATE.to_string());
    let mut session = Session::start(["stat", &work, "-p", &pid, "--max-rate", &rate]);
    session.wait_armed(&watch);
    target.ask("run");
    // Out, while the session goes on; and in again.
    tests::wait_for("a pause", || watch.is_restored().then_some(()));
    target.ask("stop");
    let counted = target.ask("counters").number("ended");
    session.process.assert_running();
    // A second of silence at least for each thousand hits of the first slice: only a short one can be waited for.
    if counted < 20 * RATE {
        session.wait_armed(&watch);
    }
    target.ask("run");
    let until = target.ask("counters").number("ended") + 20_000_000;
    tests::wait_for("more calls", || (target.ask("counters").number("ended") > until).then_some(()));
    let stopped = target.ask("stop");
    assert_eq!(stopped.number("bad"), 0, "{stopped:?}");
    let report = session.end();
    report.assert_clean();
    let (hits, calls) = (report.hits(&work), stopped.number("ended"));
    assert!(hits > 0 && hits < calls / 2, "{hits} of {calls}: {report:?}");
    let line = report.stats(&work).next().expect("its line");
    assert_eq!((&line["sampled"], &line["mechanism"]), (&true.into(), &"jump".into()), "{line}");
    let share = line["armed_share"].as_f64().expect("a share");
    assert!((0.0..1.0).contains(&share), "{line}");
    assert_eq!(report.summary()["sampled"], 1);
    assert!(warnings(&report).iter().any(|warning| warning.contains("was sampled")), "{report:?}");
    before.assert_unchanged(target.pid());
    target.finish();
}

/// In and out many times: the same stub serves again, so the program does not fill up with them.
#[test]
fn in_and_out_again() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["1"]);
    let (work, watch) = (probe(&program, "work"), Watch::on(&target, &["work"]));
    let pid = target.pid().to_string();
    // Two probes at one place: one stub for both.
    let mut session = Session::start(["stat", &work, &work, "-p", &pid, "--max-rate", "2000"]);
    let (pid, at) = (target.pid(), target.address("work"));
    let armed = || tests::read_memory(pid, at, 5).expect("it lives");
    session.wait_armed(&watch);
    let (first, mappings) = (armed(), tests::maps(pid).len());
    let mut called = 0;
    for _ in 0..tests::rounds(5, 100) {
        called += target.ask("calls 2500").number("work");
        tests::wait_for("a pause", || watch.is_restored().then_some(()));
        session.wait_armed(&watch);
        assert_eq!(armed(), first, "the jump leads to the stub of before");
    }
    assert_eq!(tests::maps(pid).len(), mappings, "no new mappings");
    let report = session.end();
    report.assert_clean();
    // All calls but those that came while it was on its way out: the counter is exact for what it saw.
    let hits: Vec<u64> = report.of_type("stat").filter_map(|line| line["hits"].as_u64()).collect();
    assert!(hits.iter().all(|hits| (1..=called).contains(hits)), "{hits:?} of {called}");
    target.finish();
}

/// What stays below the rate is never out: exact to the last hit.
#[test]
fn cold_functions_are_not() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["1"]);
    let (work, cold) = (probe(&program, "work"), probe(&program, "neighbour"));
    let pid = target.pid().to_string();
    let mut session = Session::start(["stat", &work, &cold, "-p", &pid, "--max-rate", &RATE.to_string()]);
    session.wait_armed(&Watch::on(&target, &["work", "neighbour"]));
    target.ask("run");
    tests::wait_for("hits", || (target.ask("counters").number("ended") > 10_000_000).then_some(()));
    target.ask("stop");
    // Each thread calls it as often as it is told, once.
    let done = target.ask("calls 500");
    let report = session.end();
    report.assert_clean();
    assert_eq!((done.number("bad"), report.hits(&cold)), (0, 500), "{report:?}");
    let line = report.stats(&cold).next().expect("its line");
    assert_eq!(line["sampled"], false, "{line}");
    target.finish();
}

/// The same with children that are followed: what is out in the parent is out in its copy, and comes in there too.
#[test]
fn in_children() {
    let program = need!(Program::new("seccomp.c").source("work.S").flag("-ldl").build());
    // No filter is ever set up.
    let mut target = Process::start(&program, &["late"]);
    let work = probe(&program, "work");
    let pid = target.pid().to_string();
    let mut session = Session::start(["stat", &work, "-p", &pid, "-f", "--max-rate", "15"]);
    session.wait_armed(&Watch::on(&target, &["work"]));
    let mut made = 0;
    for _ in 0..10 {
        let (own, forked) = (target.ask("calls 10"), target.ask("fork 10"));
        assert_eq!((own.number("bad"), forked.number("bad")), (0, 0));
        made += own.number("work") + forked.number("work");
    }
    let report = session.end();
    report.assert_clean();
    let hits = report.hits(&work);
    assert!((1..=made).contains(&hits), "{hits} of {made}: {report:?}");
    target.finish();
}
