//! Signals: masks and actions are the program's, sleeps are not interrupted, handlers may jump out.

use tests::{Process, Program, Session, need, rounds};

use crate::probes::{borrowed, probe};

/// Breakpoints and stale entries in threads whose signals are blocked or ignored.
fn masked(mode: &str) {
    let program = need!(Program::new("masked.c").source("work.S").flag("-pthread").build());
    let mut target = Process::start(&program, &[mode]);
    let probes = [probe(&program, "trapped+5"), probe(&program, "work")];
    let mut session = Session::stat(&borrowed(&probes), target.pid());
    session.wait_armed(&tests::Watch::on(&target, &["work"]));
    let calls = rounds(10_000, 100_000);
    let traps = target.ask(&format!("traps {calls}"));
    let interiors = target.ask(&format!("interiors {calls}"));
    let report = session.end();
    for (what, line) in [("traps", &traps), ("interiors", &interiors)] {
        assert_eq!((line.number("bad"), line.number("kept")), (0, 1), "{what}: {line:?}");
    }
    report.assert_clean();
    assert_eq!(report.hits(&probes[0]), traps.number("trapped"), "{report:?}");
    let fault = target.ask("fault");
    for name in ["segv", "ill", "trap"] {
        assert!(fault.number(name) > 0, "{fault:?}");
    }
    target.finish();
}

#[test]
fn blocked() {
    masked("blocked");
}

#[test]
fn ignored() {
    masked("ignored");
}

#[test]
fn blocked_with_handlers() {
    masked("handlers");
}

/// Handlers that end by siglongjmp in the middle of probed code, counted and traced.
#[test]
fn siglongjmp() {
    let program = need!(Program::new("longjmp.c").source("work.S").flag("-pthread").build());
    for verb in ["stat", "trace"] {
        let mut target = Process::start(&program, &[]);
        let work = probe(&program, "work");
        let pid = target.pid().to_string();
        let mut session = Session::start([verb, &work, "-p", &pid]);
        session.wait_armed(&tests::Watch::on(&target, &["work"]));
        let jumps = rounds(20_000, 200_000);
        let storm = target.ask(&format!("storm {jumps}"));
        let report = session.end();
        assert_eq!((storm.number("jumps"), storm.number("bad")), (jumps, 0), "{storm:?}");
        assert_eq!(report.summary()["text_restored"], true, "{report:?}");
        let hits = report.summary()["hits"].as_u64().unwrap();
        let (least, most) = (storm.number("ended"), storm.number("begun"));
        assert!((least..=most).contains(&hits), "{verb}: {hits} not in {least}..={most}");
        if verb == "trace" {
            let lost = report.summary()["lost"].as_u64().unwrap();
            assert_eq!(report.traced().len() as u64 + lost, hits, "lines and losses are the hits");
        }
        target.finish();
    }
}

/// Sleeping threads see no EINTR of ours and sleep as long as they asked for.
#[test]
fn sleeps_go_on() {
    let program = need!(Program::new("sleepers.c").source("work.S").flag("-pthread").build());
    let mut target = Process::start(&program, &[]);
    let watch = tests::Watch::on(&target, &["work"]);
    for _ in 0..rounds(10, 50) {
        let mut session = Session::stat(&[&probe(&program, "work")], target.pid());
        session.wait_armed(&watch);
        session.end().assert_clean();
    }
    let counters = target.ask("counters");
    for name in ["eintr", "short", "bad"] {
        assert_eq!(counters.number(name), 0, "{name}: {counters:?}");
    }
    for name in ["nanosleep", "poll", "futex", "read", "accept", "epoll"] {
        assert!(counters.number(name) > 0, "{name} never slept: {counters:?}");
    }
    target.finish();
}
