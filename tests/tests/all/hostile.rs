//! Programs that grow into the way, and programs that write where they should not.

use tests::{Process, Program, Session, Watch, need, rounds};

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
        let watch = Watch::on(&target, &["work"]);
        let work = probe(&program, "work");
        let mut session = Session::start([verb, &work, "-p", &target.pid().to_string()]);
        session.wait_armed(&watch);
        let done = target.ask(&format!("scribble {}", rounds(50_000, 1_000_000)));
        let report = session.end();
        report.assert_no_panic();
        assert_eq!(done.number("bad"), 0, "{done:?}");
        assert!(done.number("words") > 0, "the state was not found: {done:?}");
        assert_eq!(report.summary()["text_restored"], true, "{report:?}");
        assert!(watch.is_restored());
        if verb == "trace" {
            // Junk in the thread's slot rather than in its ring shows as events that are lost, and counted as such.
            let told =
                report.summary()["warnings"].to_string().contains("corrupt") || report.lost_in_all() > 0;
            assert!(told, "nothing is said of the junk: {}", report.summary());
        }
        target.finish();
    }
}
