//! Processes with a system-call filter: nothing is injected that such a filter could answer with death.

use tests::{Process, Program, Report, Session, Signal, Snapshot, Watch, need, send, xol};

use crate::exact::counted_to_its_end;
use crate::probes::probe;

fn program() -> Result<std::path::PathBuf, String> {
    Program::new("seccomp.c").source("work.S").flag("-ldl").build()
}

/// Counted exactly, restored, and nothing left; then once more, so that nothing of the first session is in the way.
#[test]
fn counted() {
    let program = need!(program());
    for filter in ["default", "strict", "some"] {
        let mut target = Process::start(&program, &[filter]);
        let before = Snapshot::of(target.pid());
        let watch = Watch::on(&target, &["work"]);
        let work = probe(&program, "work");
        for _ in 0..2 {
            let mut session = Session::stat(&[&work], target.pid());
            session.wait_armed(&watch);
            let done = target.ask("calls 100000");
            let report = session.end();
            report.assert_clean();
            assert_eq!(done.number("bad"), 0, "{filter}: {done:?}");
            assert_eq!((report.hits(&work), report.lost(&work)), (done.number("work"), 0), "{filter}");
            assert_eq!(report.summary()["left_mapped"], 0, "{report:?}");
            before.assert_unchanged(target.pid());
        }
        target.finish();
    }
}

#[test]
fn traced() {
    let program = need!(program());
    for filter in ["default", "strict"] {
        let mut target = Process::start(&program, &[filter]);
        let work = probe(&program, "work");
        let mut session = Session::trace(&[&work], target.pid());
        session.wait_armed(&Watch::on(&target, &["work"]));
        let done = target.ask("calls 1000");
        let report = session.end();
        report.assert_clean();
        assert_eq!(done.number("bad"), 0, "{filter}: {done:?}");
        assert_eq!(
            (report.traced().len() as u64, report.lost_in_all()),
            (done.number("work"), 0),
            "{filter}"
        );
        target.finish();
    }
}

/// The counts are in the process's own memory: they are read before it is gone, however it ends.
#[test]
fn the_end_of_the_process() {
    let program = need!(program());
    for (filter, killed) in [("default", false), ("strict", true)] {
        counted_to_its_end(&program, filter, killed);
    }
}

/// Where even memory must not be mapped: an error, and nothing changed.
#[test]
fn no_memory_to_be_had() {
    let program = need!(program());
    let mut target = Process::start(&program, &["nomap"]);
    let before = Snapshot::of(target.pid());
    let report = Report::of(&mut xol(["stat", &probe(&program, "work"), "-p", &target.pid().to_string()]));
    report.assert_error(1, &["mmap", "not permitted"]);
    before.assert_unchanged(target.pid());
    assert_eq!(target.ask("calls 10").number("bad"), 0);
    target.finish();
}

/// `--inject-freely` does it the fast way, where the area has a name.
#[test]
fn the_fast_way_if_asked_for() {
    let program = need!(program());
    for (freely, named) in [(true, true), (false, false)] {
        let mut target = Process::start(&program, &["free"]);
        let work = probe(&program, "work");
        let pid = target.pid().to_string();
        let mut arguments = vec!["stat", &work, "-p", &pid];
        arguments.extend(freely.then_some("--inject-freely"));
        let mut session = Session::start(arguments);
        session.wait_armed(&Watch::on(&target, &["work"]));
        let is_named = tests::maps(target.pid()).iter().any(tests::Region::is_xol);
        let done = target.ask("calls 1000");
        let report = session.end();
        report.assert_clean();
        assert_eq!((is_named, report.hits(&work)), (named, done.number("work")));
        target.finish();
    }
}

/// A filtered process that executes another program takes its counts with it: said, and never more than there were.
#[test]
fn executes_another_program() {
    let program = need!(program());
    let mut target = Process::start(&program, &["free"]);
    let work = probe(&program, "work");
    let mut session = Session::stat(&[&work], target.pid());
    session.wait_armed(&Watch::on(&target, &["work"]));
    let calls = target.ask("calls 50000").number("work");
    target.tell("exec /bin/true");
    assert!(target.wait().success());
    let report = session.wait();
    assert!(report.status.success(), "{report:?}");
    assert!(report.hits(&work) <= calls, "{report:?}");
    assert!(report.summary()["warnings"].to_string().contains("executed another program"), "{report:?}");
}

/// Forked children: let go clean, or followed with counts of their own.
#[test]
fn children() {
    let program = need!(program());
    for (filter, follow) in [("default", false), ("default", true), ("strict", false), ("strict", true)] {
        let mut target = Process::start(&program, &[filter]);
        let work = probe(&program, "work");
        let pid = target.pid().to_string();
        let mut arguments = vec!["stat", &work, "-p", &pid];
        arguments.extend(follow.then_some("-f"));
        let mut session = Session::start(arguments);
        session.wait_armed(&Watch::on(&target, &["work"]));
        let (own, forked) = (target.ask("calls 100"), target.ask("fork 20"));
        let report = session.end();
        report.assert_clean();
        assert_eq!((own.number("bad"), forked.number("bad")), (0, 0), "{filter}");
        let of_children = if follow { forked.number("work") } else { 0 };
        assert_eq!(report.hits(&work), own.number("work") + of_children, "{filter}, -f {follow}: {report:?}");
        let lines = if follow { 21 } else { 1 };
        assert_eq!(report.stats(&work).count(), lines, "{filter}: {report:?}");
        target.finish();
    }
}

/// The loader's breakpoint, and new stubs while the filter watches.
#[test]
fn a_library_that_is_loaded() {
    let program = need!(program());
    let library = need!(Program::new("libplug.c").library("libplug.so").build());
    for filter in ["default", "deadly", "some", "late"] {
        let mut target = Process::start(&program, &[filter]);
        let (work, inner) = (probe(&program, "work"), probe(&library, "plug_inner"));
        let mut session = Session::stat(&[&work, &inner], target.pid());
        session.wait_armed(&Watch::on(&target, &["work"]));
        if filter == "late" {
            target.ask("filter");
        }
        assert_ne!(target.ask(&format!("load {}", library.display())).number("inner"), 0, "{filter}");
        let (plugged, called) = (target.ask("plug 1000"), target.ask("calls 1000"));
        let report = session.end();
        report.assert_clean();
        assert_eq!((plugged.number("bad"), called.number("bad")), (0, 0), "{filter}");
        // The constructor calls it three times.
        assert_eq!(
            (report.hits(&inner), report.hits(&work)),
            (1003, called.number("work")),
            "{filter}: {report:?}"
        );
        assert_eq!(target.ask("calls 10").number("bad"), 0, "{filter}");
        target.finish();
    }
}

/// A filter that comes when xol is there already: what was done before it is taken out without the calls it forbids.
#[test]
fn a_filter_that_comes_later() {
    let program = need!(program());
    let mut target = Process::start(&program, &["late"]);
    let before = Snapshot::of(target.pid());
    let work = probe(&program, "work");
    let mut session = Session::stat(&[&work], target.pid());
    session.wait_armed(&Watch::on(&target, &["work"]));
    assert!(tests::maps(target.pid()).iter().any(tests::Region::is_xol), "the fast way at first");
    target.ask("filter");
    let done = target.ask("calls 10000");
    let report = session.end();
    report.assert_clean();
    assert_eq!((report.hits(&work), done.number("bad")), (done.number("work"), 0), "{report:?}");
    assert_eq!(report.summary()["left_mapped"], 0, "{report:?}");
    before.assert_unchanged(target.pid());
    target.finish();
}

/// An area without a name that nobody owns any more is found, named by doctor, and taken out.
#[test]
fn leftovers() {
    let program = need!(program());
    let mut target = Process::start(&program, &["strict"]);
    let before = Snapshot::of(target.pid());
    let watch = Watch::on(&target, &["work"]);
    let mut session = Session::stat(&[&probe(&program, "work")], target.pid());
    session.wait_armed(&watch);
    let (front, holder) = (session.process.child_id(), tests::children_of(session.process.child_id())[0]);
    assert!(send(front, Signal::Stop));
    assert!(send(holder, Signal::Kill) && send(front, Signal::Kill));
    drop(session);
    tests::wait_for("the end of the holder", || tests::tracer_of(target.pid()).is_none().then_some(()));
    assert_eq!(target.ask("calls 100").number("bad"), 0);
    let pid = target.pid().to_string();
    let of = |check: &str| {
        let report = Report::of(&mut xol(["doctor", "--json", "-p", &pid]));
        let found = report.of_type("doctor").find(|line| line["check"] == check).cloned();
        found.unwrap_or_else(|| panic!("nothing of {check}: {report:?}"))
    };
    assert_eq!(of("leftovers")["ok"], false);
    assert!(of("seccomp")["detail"].to_string().contains("--inject-freely"));
    assert!(Report::of(&mut xol(["detach", "-p", &pid])).status.success());
    assert!(watch.is_restored());
    assert_eq!(Snapshot::of(target.pid()).changes, before.changes);
    assert_eq!(of("leftovers")["ok"], true);
    assert_eq!(target.ask("calls 100").number("bad"), 0);
    target.finish();
}
