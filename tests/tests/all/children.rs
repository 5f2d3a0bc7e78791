//! Children are let go clean: forked ones before they run, those that share the memory at their exec.

use tests::{Process, Program, Session, Watch, need, rounds};

use crate::probes::probe;

fn children(how: &str) {
    let program = need!(Program::new("children.c").source("work.S").build());
    let mut target = Process::start(&program, &[]);
    let work = probe(&program, "work");
    let mut session = Session::stat(&[&work], target.pid());
    session.wait_armed(&Watch::on(&target, &["work"]));
    let done = target.ask(&format!("{how} {}", rounds(50, 500)));
    assert_eq!(done.number("bad"), 0, "{done:?}");
    let report = session.end();
    report.assert_clean();
    assert_eq!(report.hits(&work), done.number("calls"), "only the parent's calls are counted");
    let after = target.ask(&format!("{how} 3"));
    assert_eq!(after.number("bad"), 0, "{after:?}");
    target.finish();
}

#[test]
fn fork() {
    children("fork");
}

#[test]
fn vfork() {
    children("vfork");
}

#[test]
fn posix_spawn() {
    children("spawn");
}

#[test]
fn system() {
    children("system");
}
