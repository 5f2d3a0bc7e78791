//! The tracer dies, the program lives.

use std::path::Path;

use tests::{Process, Program, Report, Session, Signal, Watch, children_of, need, send, wait_for, xol};

use crate::probes::probe;

fn kill(pid: u32) {
    assert!(send(pid, Signal::Kill), "{pid} was there");
}

/// A session whose arming is over: its last system calls in the target are made after the jump is written.
fn armed(program: &Path) -> (Process, Session, Watch, u32) {
    let mut target = Process::start(program, &["2"]);
    let watch = Watch::on(&target, &["work"]);
    let mut session = Session::stat(&[&probe(program, "work")], target.pid());
    session.wait_armed(&watch);
    // It is the first thread that makes them; then it sleeps in its own again.
    let sleeps = || tests::status_field(target.pid(), "State").filter(|state| state.starts_with('S'));
    wait_for("the end of arming", sleeps);
    target.ask("run");
    tests::wait_for("calls", || (target.ask("counters").number("ended") > 1000).then_some(()));
    let holder = *children_of(session.process.child_id()).first().expect("the holder");
    (target, session, watch, holder)
}

fn lives(mut target: Process, watch: &Watch) {
    watch.wait_restored();
    assert_eq!(target.ask("stop").number("bad"), 0);
    assert_eq!(target.ask("calls 1000").number("bad"), 0);
    target.finish();
}

#[test]
fn of_the_front() {
    let program = need!(Program::work().build());
    let (target, session, watch, _) = armed(&program);
    kill(session.process.child_id());
    lives(target, &watch);
}

#[test]
fn of_the_holder() {
    let program = need!(Program::work().build());
    let (target, session, watch, holder) = armed(&program);
    kill(holder);
    watch.wait_restored();
    let report = session.wait();
    assert!(report.errors.contains("holder"), "{report:?}");
    // The front may not have heard yet that all is armed: then the session ends before it has begun.
    if report.status.success() {
        assert_eq!(report.summary()["text_restored"], true, "{report:?}");
        assert!(report.hits("work") > 0, "{report:?}");
    } else {
        assert!(report.errors.contains("its text is restored"), "{report:?}");
    }
    lives(target, &watch);
}

/// Both at once: jumps go on counting for nobody, and another xol finds the area, says so and restores the text.
#[test]
fn of_both() {
    let program = need!(Program::work().build());
    let (mut target, session, watch, holder) = armed(&program);
    let front = session.process.child_id();
    assert!(send(front, Signal::Stop));
    kill(holder);
    kill(front);
    drop(session);
    wait_for("the end of the holder", || tests::tracer_of(target.pid()).is_none().then_some(()));
    assert!(watch.is_armed(), "nobody was there to remove it");
    let before = target.ask("counters");
    wait_for("more calls", || {
        (target.ask("counters").number("ended") > before.number("ended") + 1000).then_some(())
    });
    let pid = target.pid().to_string();
    let refused = Report::of(&mut xol(["stat", "libc:malloc", "-p", &pid]));
    refused.assert_error(1, &["detach"]);
    let detached = Report::of(&mut xol(["detach", "-p", &pid]));
    assert!(detached.status.success(), "{detached:?}");
    lives(target, &watch);
}
