//! Handlers that run while probes come and go: where they return to is moved with the text.

use std::path::Path;

use tests::{Process, Program, Report, Session, Signal, Watch, children_of, need, send, wait_for, xol};

use crate::probes::probe;

fn program() -> Result<std::path::PathBuf, String> {
    Program::new("frames.c").source("frames.S").build()
}

/// A program in a handler on that stack, whose frame the coming of the probe has moved.
fn in_a_handler(program: &Path, stack: &str) -> (Process, Session) {
    let mut target = Process::start(program, &[]);
    let watch = Watch::on(&target, &["stumble"]);
    target.ask(&format!("{stack} 7"));
    let mut session = Session::stat(&[&probe(program, "stumble")], target.pid());
    session.wait_armed(&watch);
    (target, session)
}

/// The handler returns, and what it interrupted goes on to its end.
fn goes_on(target: &mut Process, which: &str) {
    let done = target.ask("go on");
    assert_eq!((done.number("value"), done.number("bad")), (26, 0), "{which}: {done:?}");
}

/// The handler began before the probe came, and returns after both halves of xol were killed: nobody could help a thread
/// that returned into the middle of the jump.
#[test]
fn nobody_is_needed_to_return() {
    let program = need!(program());
    for stack in ["stumble", "elsewhere"] {
        let mut target = Process::start(&program, &[]);
        let watch = Watch::on(&target, &["stumble"]);
        let inside = target.ask(&format!("{stack} 7"));
        assert_eq!(inside.number("pc"), target.address("stumble") + 1, "the fault is inside the span");
        let mut session = Session::stat(&[&probe(&program, "stumble")], target.pid());
        session.wait_armed(&watch);
        // The thread makes a last call for xol once the jump is written; then it sleeps in its own again.
        let sleeps = || tests::status_field(target.pid(), "State").filter(|state| state.starts_with('S'));
        wait_for("the end of arming", sleeps);
        let front = session.process.child_id();
        let holder = *children_of(front).first().expect("the holder");
        assert!(send(front, Signal::Stop) && send(holder, Signal::Kill) && send(front, Signal::Kill));
        drop(session);
        wait_for("the end of the holder", || tests::tracer_of(target.pid()).is_none().then_some(()));
        goes_on(&mut target, stack);
        assert!(Report::of(&mut xol(["detach", "-p", &target.pid().to_string()])).status.success());
        assert!(watch.is_restored());
        target.finish();
    }
}

/// The other way round: the probe goes while the handler runs, and so does all of the area.
#[test]
fn nothing_is_left_for_the_handler() {
    let program = need!(program());
    for stack in ["stumble", "elsewhere"] {
        let (mut target, session) = in_a_handler(&program, stack);
        let report = session.end();
        report.assert_clean();
        assert_eq!(report.summary()["left_mapped"], 0, "{report:?}");
        goes_on(&mut target, stack);
        target.finish();
    }
}

/// A handler that the probes' coming has moved goes on to unblock its signal, or is interrupted by another on its own stack.
#[test]
fn nothing_is_left_for_a_handler_that_is_not_looked_for() {
    let program = need!(program());
    for what in ["unblock", "above"] {
        let (mut target, session) = in_a_handler(&program, "stumble");
        target.ask(what);
        let report = session.end();
        report.assert_clean();
        assert_eq!(report.summary()["left_mapped"], 0, "{what}: {report:?}");
        if what == "above" {
            target.tell("go on");
        }
        goes_on(&mut target, what);
        target.finish();
    }
}

/// A child that a handler makes, in whose frame the PC was moved: let go clean, it goes back to the original.
#[test]
fn a_child_returns_from_its_parents_handlers() {
    let program = need!(program());
    for (stack, above) in [("stumble", false), ("elsewhere", false), ("stumble", true)] {
        let (mut target, session) = in_a_handler(&program, stack);
        if above {
            target.ask("above");
        }
        for how in ["fork", "vfork", "fork"] {
            let child = target.ask(how);
            assert_eq!(child.number("status"), 0, "{how} in {stack}, above: {above}");
        }
        if above {
            target.tell("go on");
        }
        goes_on(&mut target, stack);
        let report = session.end();
        report.assert_clean();
        assert_eq!(report.summary()["left_mapped"], 0, "{report:?}");
        target.finish();
    }
}

/// One that is followed has the probes, and goes back into the stub.
#[test]
fn a_followed_child_returns_from_its_parents_handlers() {
    let program = need!(program());
    let mut target = Process::start(&program, &[]);
    let watch = Watch::on(&target, &["stumble"]);
    target.ask("stumble 7");
    let (work, pid) = (probe(&program, "stumble"), target.pid().to_string());
    let session = Session::armed(&[&watch], || Session::start(["stat", "-f", &work, "-p", &pid]));
    for _ in 0..3 {
        assert_eq!(target.ask("fork").number("status"), 0);
    }
    goes_on(&mut target, "followed");
    session.end().assert_clean();
    target.finish();
}
