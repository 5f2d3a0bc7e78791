//! Programs that grow into the way, and programs that write where they should not.

use tests::{Process, Program, Report, Session, Watch, need, rounds};

use crate::probes::probe;

#[test]
fn heap_and_stack_grow() {
    for flags in [&[][..], &["-no-pie"], &["-static"]] {
        let mut program = Program::new("grow.c").source("work.S");
        for flag in flags {
            program = program.flag(*flag);
        }
        let program = need!(program.build());
        let mut target = Process::start(&program, &[]);
        let work = probe(&program, "work");
        let mut session = Session::stat(&[&work], target.pid());
        session.wait_armed(&Watch::on(&target, &["work"]));
        let done = target.ask("grow");
        let report = session.end();
        report.assert_clean();
        assert_eq!((done.number("heap"), done.number("bad")), (1024, 0), "{flags:?}: {done:?}");
        assert_eq!(report.hits(&work), 1, "{report:?}");
        target.finish();
    }
}

/// Junk all over counters, slots and rings: the session ends as always, and says what it could not believe.
#[test]
fn the_shared_state_is_scribbled_over() {
    let program = need!(Program::new("scribble.c").source("work.S").build());
    for verb in ["stat", "trace"] {
        let mut target = Process::start(&program, &[]);
        let watch = Watch::on(&target, &["work", "neighbour"]);
        let probes = [probe(&program, "work"), probe(&program, "neighbour")];
        let mut session = Session::start([verb, &probes[0], &probes[1], "-p", &target.pid().to_string()]);
        session.wait_armed(&watch);
        let done = target.ask(&format!("scribble {}", rounds(50_000, 1_000_000)));
        let report = session.end();
        report.assert_no_panic();
        assert_eq!(done.number("bad"), 0, "{done:?}");
        assert!(done.number("words") > 0, "the state was not found: {done:?}");
        assert_eq!(report.summary()["text_restored"], true, "{report:?}");
        assert!(watch.is_restored());
        assert_told(&report);
        target.finish();
    }
}

/// The junk is in the counters too, so it is called corrupt whatever became of the rings.
fn assert_told(report: &Report) {
    let warnings = report.summary()["warnings"].to_string();
    assert!(warnings.contains("corrupt"), "nothing is said of the junk: {}", report.summary());
}

/// The same from handlers that end by siglongjmp, so that records stay unfinished in a state full of junk: the reader
/// goes on (it hands out lines until the end) and the session ends as always.
#[test]
fn handlers_scribble_and_jump_out() {
    let program = need!(Program::new("longjmp.c").source("work.S").flag("-pthread").build());
    for verb in ["trace", "stat"] {
        let mut target = Process::start(&program, &[]);
        let watch = Watch::on(&target, &["work"]);
        let probes = [probe(&program, "work"), probe(&program, "neighbour")];
        let mut session = Session::start([verb, &probes[0], &probes[1], "-p", &target.pid().to_string()]);
        session.wait_armed(&watch);
        let jumps = rounds(100_000, 1_000_000);
        let done = target.ask(&format!("spoil {jumps}"));
        let report = session.end();
        report.assert_no_panic();
        assert_eq!((done.number("jumps"), done.number("bad")), (jumps, 0), "{done:?}");
        assert!(done.number("words") > 0, "the state was not found: {done:?}");
        assert!(report.status.success(), "{:?}: {}", report.status, report.errors);
        assert_eq!(report.summary()["text_restored"], true, "{report:?}");
        assert!(watch.is_restored());
        assert_told(&report);
        target.finish();
    }
}
