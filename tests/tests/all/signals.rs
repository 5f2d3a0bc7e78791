//! Signals: masks and actions are the program's, sleeps are not interrupted, handlers may jump out.

use tests::{Process, Program, Session, need, rounds};

use crate::probes::{armed_in_time, borrowed, probe};

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

/// Four timers of 2,500 SIGPROF a second each over functions that are called all the time. No handler sees a PC outside the
/// program's own text, each gets its timer's siginfo, and every call is counted.
fn profiled(verb: &str, pause: &str, sites: &[(&str, &str)]) {
    let program = need!(Program::new("profile.c").source("work.S").build());
    let mut target = Process::start(&program, &["4", pause]);
    let probes: Vec<_> = sites.iter().map(|(site, _)| probe(&program, site)).collect();
    let watched: Vec<_> = sites.iter().map(|(_, address)| *address).collect();
    let pid = target.pid().to_string();
    let mut session = Session::start([&[verb], &borrowed(&probes)[..], &["-p", &pid]].concat());
    session.wait_armed(&tests::Watch::on(&target, &watched));
    let done = target.ask(&format!("storm {}", rounds(10, 60)));
    let report = session.end();
    println!(
        "{verb}: {} SIGPROF delivered ({} more timer periods without a signal of their own), {} calls",
        done.number("signals"),
        done.number("overruns"),
        done.number("work")
    );
    assert!(done.number("signals") > 0, "{done:?}");
    for name in ["outside", "info", "bad"] {
        assert_eq!(done.number(name), 0, "{name}: {done:?}");
    }
    report.assert_clean();
    let count = |name: &str| done.number(name.split('+').next().unwrap_or(name));
    if verb == "stat" {
        for ((site, _), probe) in sites.iter().zip(&probes) {
            assert_eq!((report.hits(probe), report.lost(probe)), (count(site), 0), "{site}: {report:?}");
        }
    } else {
        let calls: u64 = sites.iter().map(|(site, _)| count(site)).sum();
        assert_eq!(report.traced().len() as u64 + report.lost_in_all(), calls, "{:?}", report.summary());
    }
    target.finish();
}

#[test]
fn storm_of_sigprof_over_counts() {
    profiled("stat", "0", &[("work", "work"), ("trapped+5", "trapped_site")]);
}

#[test]
fn storm_of_sigprof_over_events() {
    profiled("trace", "200000", &[("neighbour", "neighbour")]);
}

/// Probes come and go in such a storm.
#[test]
fn storm_of_sigprof_over_coming_and_going() {
    let program = need!(Program::new("profile.c").source("work.S").build());
    let mut target = Process::start(&program, &["4"]);
    let watch = tests::Watch::on(&target, &["work", "trapped_site"]);
    let probes = [probe(&program, "work"), probe(&program, "trapped+5")];
    target.ask("start");
    for _ in 0..rounds(10, 200) {
        let session = armed_in_time(&borrowed(&probes), &watch, target.pid());
        let report = session.end();
        report.assert_clean();
        assert_eq!(report.summary()["left_mapped"], 0, "{report:?}");
    }
    let done = target.ask("stop");
    assert_eq!((done.number("bad"), done.number("info")), (0, 0), "{done:?}");
    assert!(done.number("signals") > 0, "{done:?}");
    target.finish();
}

/// Signals that were pending and blocked before xol came arrive afterwards as they were sent.
#[test]
fn pending_at_attach() {
    let program = need!(Program::new("pending.c").source("work.S").build());
    for detached in [false, true] {
        let mut target = Process::start(&program, &[]);
        let sender = u64::from(target.pid());
        target.ask("queue");
        let work = probe(&program, "work");
        let mut session = Session::stat(&[&work], target.pid());
        session.wait_armed(&tests::Watch::on(&target, &["work"]));
        assert_eq!(target.ask("calls 1000").number("bad"), 0);
        let mut session = Some(session);
        if detached && let Some(session) = session.take() {
            session.end().assert_clean();
        }
        let delivered = target.ask("deliver");
        let wanted =
            [("user", 1), ("code", 1), ("sender", sender), ("realtime", 3), ("order", 1), ("queue", 3)];
        for (name, value) in wanted {
            assert_eq!(delivered.number(name), value, "{name}: {delivered:?}");
        }
        assert_eq!(delivered.number("values"), 303, "{delivered:?}");
        if let Some(session) = session {
            let report = session.end();
            report.assert_clean();
            assert_eq!(report.hits(&work), 1000, "{report:?}");
        }
        target.finish();
    }
}

/// Coroutines sleep in the middle of a probed function while the probes come and go, at its entry, on its call and behind it.
#[test]
fn contexts_saved_in_probed_code() {
    let program = need!(Program::new("contexts.c").source("contexts.S").source("frames.S").build());
    let mut target = Process::start(&program, &[]);
    let names = ["hop", "hop_call", "hop_behind"];
    let watch = tests::Watch::on(&target, &["hop", "hop_call", "hop_behind"]);
    let probes = names.map(|name| crate::probes::probe_at(&target, &program, target.address(name)));
    assert_eq!(target.ask("hops 3").number("bad"), 0);
    for _ in 0..rounds(3, 50) {
        let mut session = Session::stat(&borrowed(&probes), target.pid());
        session.wait_armed(&watch);
        let done = target.ask("hops 1000");
        let report = session.end();
        report.assert_clean();
        let hops = done.number("hops");
        assert_eq!(done.number("bad"), 0, "{done:?}");
        for probe in &probes {
            assert_eq!((report.hits(probe), report.lost(probe)), (hops, 0), "{probe}: {report:?}");
        }
        assert_eq!(report.summary()["left_mapped"], 0, "{report:?}");
        assert_eq!(target.ask("hops 10").number("bad"), 0);
    }
    target.finish();
}

/// A handler's context is kept, and taken up again long after the handler, where a jump covers its PC now, or no longer.
#[test]
fn contexts_kept_by_handlers() {
    let program = need!(Program::new("contexts.c").source("contexts.S").source("frames.S").build());
    // (kept while probed, resumed while probed)
    for (kept, resumed) in [(false, true), (true, true), (true, false)] {
        let mut target = Process::start(&program, &[]);
        let watch = tests::Watch::on(&target, &["stumble"]);
        let begin = |target: &Process| {
            let mut session = Session::stat(&[&probe(&program, "stumble")], target.pid());
            session.wait_armed(&watch);
            session
        };
        let mut session = kept.then(|| begin(&target));
        let inside = target.ask("keep");
        assert_eq!(inside.number("pc"), target.address("stumble") + 1, "the fault is inside the span");
        if !resumed && let Some(session) = session.take() {
            session.end().assert_clean();
        } else if resumed && !kept {
            session = Some(begin(&target));
        }
        let done = target.ask("resume");
        assert_eq!((done.number("value"), done.number("bad")), (47, 0), "{kept} {resumed}: {done:?}");
        if let Some(session) = session {
            let report = session.end();
            report.assert_clean();
            assert_eq!(report.hits("stumble"), u64::from(kept), "{report:?}");
            assert_eq!(report.summary()["left_mapped"], 0, "{report:?}");
        }
        target.finish();
    }
}

/// Threads are cancelled in a system call by the program counter that a signal finds there: from displaced code too, it
/// is that of the program. Every instruction around the call is probed, and then the call alone.
#[test]
fn cancelled_in_a_displaced_system_call() {
    need!(crate::i386::programs_of_64_bits());
    let program = need!(Program::new("cancel.c").flag("-pthread").build());
    let mut target = Process::start(&program, &[]);
    // mov; cmpl; jne; xor; syscall; ret
    for offsets in [&[0, 3, 7, 9, 11, 13][..], &[11]] {
        let named = |at: &u64| probe(&program, &format!("cancellable_read+{at}"));
        let probes: Vec<_> = offsets.iter().map(named).collect();
        let watch = tests::Watch::at(target.pid(), &[target.address("read") + offsets[0]]);
        let mut session = Session::stat(&borrowed(&probes), target.pid());
        session.wait_armed(&watch);
        let times = rounds(500, 20_000);
        let done = target.ask(&format!("cancel {times}"));
        let report = session.end();
        report.assert_clean();
        let found = ["cancelled", "elsewhere", "stuck"].map(|name| done.number(name));
        assert_eq!(found, [times, 0, 0], "{done:?} {report:?}");
    }
    target.finish();
}
