//! A memory that outlives who had it first: the first thread of a process, or the process itself. And machines where nobody
//! tells who shares a memory.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{
    Process, Program, Report, Session, Signal, Watch, children_of, need, rounds, send, tracer_of, wait_for,
    xol,
};

use crate::probes::{borrowed, probe};

fn survivors() -> Result<PathBuf, String> {
    Program::new("survivors.c").source("work.S").flag("-ldl").build()
}

/// A jump and a breakpoint.
fn probes(program: &Path) -> [String; 2] {
    [probe(program, "work"), probe(program, "trapped+5")]
}

fn calls(target: &mut Process, number: u64) {
    let done = target.ask(&format!("calls {number}"));
    assert_eq!(done.number("bad"), 0, "{done:?}");
}

/// The first thread (or process) ends. The process that lives on.
fn end(target: &mut Process) -> u32 {
    let ended = target.ask("end");
    u32::try_from(ended.number("pid")).expect("a process's number")
}

/// The program's own view: its text is as it was, nothing of xol's is mapped, and it runs on.
fn assert_as_before(mut target: Process) {
    let seen = target.ask("look");
    assert_eq!((seen.number("changed"), seen.number("areas")), (0, 0), "{seen:?}");
    calls(&mut target, 10);
    target.finish();
}

/// A session of both probes and `more`, armed, in a program whose first thread (or process) has not ended yet.
fn armed(program: &Path, who: &str, more: &[&str]) -> (Process, Session) {
    let target = Process::start(program, &[who]);
    let watch = Watch::on(&target, &["work", "trapped_site"]);
    let pid = target.pid().to_string();
    let probes = probes(program);
    let session = Session::armed(&[&watch], || {
        Session::start([&["stat"], &*borrowed(&probes), more, &["-p", &pid]].concat())
    });
    (target, session)
}

/// Everything is counted and taken out though nobody is left of whom the session was begun.
fn is_survived(who: &str, more: &[&str]) {
    let program = need!(survivors());
    let (mut target, session) = armed(&program, who, more);
    calls(&mut target, 100);
    end(&mut target);
    calls(&mut target, 100);
    // The child of that must not be taken for one with a memory of its own.
    assert_eq!(target.ask("spawn").number("bad"), 0);
    calls(&mut target, 100);
    let report = session.end();
    report.assert_clean();
    for probe in probes(&program) {
        assert_eq!((report.hits(&probe), report.lost(&probe)), (300, 0), "{report:?}");
    }
    assert_eq!(report.summary()["left_mapped"], 0, "{report:?}");
    assert_as_before(target);
}

#[test]
fn the_first_thread_ends() {
    is_survived("thread", &[]);
}

#[test]
fn the_first_thread_ends_and_children_are_followed() {
    is_survived("thread", &["-f"]);
}

#[test]
fn the_process_ends() {
    is_survived("process", &[]);
}

#[test]
fn the_process_ends_and_children_are_followed() {
    is_survived("process", &["-f"]);
}

/// A process whose first thread has ended, and one whose memory was another's, are like any other.
#[test]
fn xol_comes_later() {
    let program = need!(survivors());
    for who in ["thread", "process"] {
        let mut target = Process::start(&program, &[who]);
        let ended = target.ask("end");
        let [pid, tid] = ["pid", "tid"].map(|name| u32::try_from(ended.number(name)).expect("a number"));
        let watch = Watch::at(tid, &[target.address("work"), target.address("trapped_site")]);
        let probes = probes(&program);
        let session = Session::armed(&[&watch], || Session::stat(&borrowed(&probes), pid));
        calls(&mut target, 100);
        assert_eq!(target.ask("spawn").number("bad"), 0);
        calls(&mut target, 100);
        let report = session.end();
        report.assert_clean();
        for probe in &probes {
            assert_eq!((report.hits(probe), report.lost(probe)), (200, 0), "{who}: {report:?}");
        }
        assert_as_before(target);
    }
}

/// What is loaded then is probed, before its constructor runs.
#[test]
fn libraries_are_loaded_later() {
    let program = need!(survivors());
    let library = need!(Program::new("libplug.c").library("libplug.so").build());
    let inner = probe(&library, "plug_inner");
    for who in ["thread", "process"] {
        let (mut target, session) = armed(&program, who, &[&inner]);
        end(&mut target);
        let loaded = target.ask(&format!("load {}", library.display()));
        assert_eq!(loaded.number("bad"), 0, "{who}: {loaded:?}");
        calls(&mut target, 100);
        let report = session.end();
        report.assert_clean();
        assert_eq!(report.hits(&inner), 3 + 5, "{who}: {report:?}");
        assert_eq!(report.hits(&probes(&program)[0]), 100, "{who}: {report:?}");
        assert_as_before(target);
    }
}

/// The holder is killed: the front takes everything out.
#[test]
fn the_holder_is_killed() {
    let program = need!(survivors());
    for who in ["thread", "process"] {
        let (mut target, session) = armed(&program, who, &[]);
        calls(&mut target, 100);
        end(&mut target);
        let holder = *children_of(session.process.child_id()).first().expect("the holder");
        assert!(send(holder, Signal::Kill));
        let report = session.wait();
        report.assert_clean();
        assert!(report.errors.contains("the holder process was killed"), "{who}: {report:?}");
        assert_eq!(report.hits(&probes(&program)[0]), 100, "{who}: {report:?}");
        assert_as_before(target);
    }
}

/// Both are: another xol does.
#[test]
fn holder_and_front_are_killed() {
    let program = need!(survivors());
    for who in ["thread", "process"] {
        let (mut target, session) = armed(&program, who, &[]);
        let left = end(&mut target);
        let front = session.process.child_id();
        let holder = *children_of(front).first().expect("the holder");
        assert!(send(front, Signal::Stop) && send(holder, Signal::Kill) && send(front, Signal::Kill));
        drop(session);
        wait_for("the end of the holder", || tracer_of(left).is_none().then_some(()));
        assert_eq!(target.ask("look").number("changed"), 2, "{who}: nobody was there to restore it");
        let detached = Report::of(&mut xol(["detach", "-p", &left.to_string()]));
        assert!(detached.status.success(), "{who}: {detached:?}");
        assert!(detached.errors.contains("patches restored"), "{who}: {detached:?}");
        assert_as_before(target);
    }
}

/// xol where kcmp(2) fails; its arguments come behind.
fn without_kcmp() -> Result<PathBuf, String> {
    let launcher = Program::new("without_kcmp.c").build()?;
    let works = Command::new(&launcher).arg("/bin/true").output();
    match works.is_ok_and(|output| output.status.success()) {
        true => Ok(launcher),
        false => Err("no system-call filter can be set".to_owned()),
    }
}

/// A vfork child runs the text of its parent, and one by fork does not, whoever is not allowed to ask.
#[test]
fn children_where_nobody_may_ask_who_shares_a_memory() {
    let launcher = need!(without_kcmp());
    let program = need!(Program::new("second.c").source("work.S").build());
    let work = probe(&program, "work");
    for more in [&[][..], &["-f"]] {
        let mut target = Process::start(&program, &[]);
        let watch = Watch::on(&target, &["work"]);
        let pid = target.pid().to_string();
        let start = || Session::start_by(&launcher, [&["stat", &work], more, &["-p", &pid]].concat());
        let session = Session::armed(&[&watch], start);
        let mut expected = 0;
        for command in ["calls 1000", "vfork 1000", "family 1000", "calls 1000"] {
            let done = target.ask(command);
            assert_eq!(done.number("bad"), 0, "{more:?}: {done:?}");
            expected += done.number("work");
        }
        let report = session.end();
        report.assert_clean();
        assert_eq!((report.hits(&work), report.lost(&work)), (expected, 0), "{more:?}: {report:?}");
        assert!(watch.is_restored());
        target.finish();
    }
}

/// One that shares the memory already when xol comes is found.
#[test]
fn guests_at_the_beginning_where_nobody_may_ask_who_shares_a_memory() {
    let launcher = need!(without_kcmp());
    let program = need!(survivors());
    let probes = probes(&program);
    for _ in 0..rounds(3, 100) {
        let mut target = Process::start(&program, &["process"]);
        let watch = Watch::on(&target, &["work", "trapped_site"]);
        let pid = target.pid().to_string();
        let arguments = [&["stat"], &*borrowed(&probes), &["-p", &pid]].concat();
        let session = Session::armed(&[&watch], || Session::start_by(&launcher, &arguments));
        calls(&mut target, 100);
        let report = session.end();
        report.assert_clean();
        for probe in &probes {
            assert_eq!((report.hits(probe), report.lost(probe)), (100, 0), "{report:?}");
        }
        let said = report.summary()["warnings"].to_string();
        assert!(!said.contains("shares the memory"), "{said}");
        assert_as_before(target);
    }
}
