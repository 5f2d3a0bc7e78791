//! What a program does to xol's memory harms the program alone, and is said; fork copies that memory, exec drops it, and death
//! in a stub is death.

use std::os::unix::process::ExitStatusExt;

use tests::{Process, Program, Report, Session, Signal, Watch, maps, need, read_memory, rounds, send};

use crate::probes::probe;

fn program() -> Result<std::path::PathBuf, String> {
    Program::new("area.c").source("work.S").build()
}

fn told(report: &Report) -> bool {
    report.summary()["warnings"].to_string().contains("did something to xol's memory")
}

/// Named, and readable like any other memory.
#[test]
fn it_is_named_and_readable() {
    let program = need!(program());
    let mut target = Process::start(&program, &[]);
    let pid = target.pid();
    let mut session = Session::stat(&[&probe(&program, "work")], pid);
    session.wait_armed(&Watch::on(&target, &["work"]));
    let areas: Vec<_> = maps(pid).into_iter().filter(tests::Region::is_xol).collect();
    let is = |permissions: &str, path: &str| {
        areas.iter().any(|area| area.permissions == permissions && area.path == path)
    };
    assert!(is("r-xp", "/memfd:xol (deleted)") && is("rw-s", "/memfd:xol:st (deleted)"), "{areas:x?}");
    // Behind the `jmp rel32` at the function: the stub.
    let jump = read_memory(pid, target.address("work"), 5).expect("text");
    assert_eq!(jump[0], 0xe9, "{jump:x?}");
    let displacement = i32::from_le_bytes(jump[1..].try_into().expect("four bytes"));
    let stub = (target.address("work") + 5).wrapping_add_signed(i64::from(displacement));
    assert!(areas.iter().any(|area| area.permissions == "r-xp" && area.range.contains(&stub)), "{areas:x?}");
    assert!(read_memory(pid, stub, 16).expect("the stub").iter().any(|byte| *byte != 0));
    assert_eq!(target.ask("calls 10").number("bad"), 0);
    session.end().assert_clean();
    target.finish();
}

/// Whether a call faults after each of these, by what is taken away.
const HARMS: [(&str, &str, bool); 9] = [
    ("unmap", "code", true),
    ("none", "code", true),
    ("writable", "code", true),
    ("move", "code", true),
    ("replace", "code", true),
    ("unmap", "state", true),
    ("none", "state", true),
    ("readonly", "state", true),
    ("move", "state", true),
];

/// The program catches the fault and lives on; xol ends as always, and says what it found.
#[test]
fn harm_is_survived_and_said() {
    let program = need!(program());
    for (what, which, faults) in HARMS {
        let mut target = Process::start(&program, &[]);
        let pid = target.pid();
        let watch = Watch::on(&target, &["work"]);
        let work = probe(&program, "work");
        let mut session = Session::stat(&[&work], pid);
        session.wait_armed(&watch);
        assert_eq!(target.ask("calls 100").number("bad"), 0);
        let did = target.ask(&format!("do {what} {which}"));
        assert!(did.number("places") > 0 && did.number("failed") == 0, "{what} {which}: {did:?}");
        let done = target.ask("calls 50");
        assert_eq!(done.number("faults"), if faults { 50 } else { 0 }, "{what} {which}: {done:?}");
        let report = session.end();
        report.assert_clean();
        assert!(report.hits(&work) >= 100, "{what} {which}: {report:?}");
        assert!(told(&report), "{what} {which}: {report:?}");
        assert!(watch.is_restored(), "{what} {which}");
        let after = target.ask("calls 50");
        assert_eq!((after.number("faults"), after.number("bad")), (0, 0), "{what} {which}: {after:?}");
        let kept = target.ask("replaced");
        assert_eq!(
            kept.number("kept"),
            kept.number("of"),
            "{what} {which}: the program's own memory is gone"
        );
        let left = maps(pid).iter().filter(|region| region.is_xol()).count() as u64;
        assert!(left == 0 || what == "move", "{what} {which}: {left} mappings");
        assert_eq!(
            report.summary()["left_mapped"].as_u64() == Some(0),
            left == 0,
            "{what} {which}: {report:?}"
        );
        target.finish();
    }
}

/// Stubs that are zeros again may do anything, but to xol.
#[test]
fn emptied_code() {
    let program = need!(program());
    let mut target = Process::start(&program, &[]);
    let watch = Watch::on(&target, &["work"]);
    let mut session = Session::stat(&[&probe(&program, "work")], target.pid());
    session.wait_armed(&watch);
    target.ask("do empty code");
    let report = session.end();
    report.assert_clean();
    assert!(told(&report), "{report:?}");
    assert!(watch.is_restored());
    assert_eq!(target.ask("calls 50").number("bad"), 0);
    target.finish();
}

/// Nobody catches the fault: that is the end of the program, not of xol.
#[test]
fn harm_may_be_deadly() {
    let program = need!(program());
    for (what, which, _) in HARMS {
        let mut target = Process::start(&program, &[]);
        let work = probe(&program, "work");
        let mut session = Session::stat(&[&work], target.pid());
        session.wait_armed(&Watch::on(&target, &["work"]));
        assert_eq!(target.ask("calls 100").number("bad"), 0);
        target.ask("bare");
        target.ask(&format!("do {what} {which}"));
        target.tell("calls 1");
        assert_eq!(target.wait().signal(), Some(libc::SIGSEGV), "{what} {which}");
        let report = session.wait();
        report.assert_no_panic();
        assert!(report.status.success(), "{what} {which}: {report:?}");
        assert!((100..=101).contains(&report.hits(&work)), "{what} {which}: {report:?}");
    }
}

/// Children of a program one of whose threads is in a stub most of the time see nothing of it.
#[test]
fn fork_copies_it_whole() {
    let program = need!(program());
    let mut target = Process::start(&program, &[]);
    let mut session = Session::stat(&[&probe(&program, "work")], target.pid());
    session.wait_armed(&Watch::on(&target, &["work"]));
    target.ask("run");
    let forked = target.ask(&format!("fork {}", rounds(50, 2_000)));
    assert_eq!((forked.number("seen"), forked.number("bad")), (0, 0), "{forked:?}");
    session.end().assert_clean();
    target.finish();
}

#[test]
fn exec_drops_it() {
    let program = need!(program());
    let mut target = Process::start(&program, &[]);
    let pid = target.pid();
    let work = probe(&program, "work");
    let mut session = Session::stat(&[&work], pid);
    session.wait_armed(&Watch::on(&target, &["work"]));
    assert_eq!(target.ask("calls 10").number("bad"), 0);
    target.ask("run");
    target.tell(&format!("exec {}", program.display()));
    assert_eq!(target.hear().word, "ready");
    let report = session.wait();
    assert!(report.status.success(), "{report:?}");
    assert!(report.hits(&work) >= 10, "{report:?}");
    assert!(!maps(pid).iter().any(tests::Region::is_xol));
    assert_eq!(target.ask("calls 10").number("bad"), 0);
    target.finish();
}

/// Ended by itself or killed, with threads in stubs: the counts are read, and nobody waits.
#[test]
fn death_in_a_stub() {
    let program = need!(program());
    for round in 0..rounds(10, 300) {
        let mut target = Process::start(&program, &[]);
        let work = probe(&program, "work");
        let mut session = Session::stat(&[&work], target.pid());
        session.wait_armed(&Watch::on(&target, &["work"]));
        target.ask("run");
        assert_eq!(target.ask("calls 1000").number("bad"), 0);
        if round % 2 == 0 {
            assert!(send(target.pid(), Signal::Kill));
            assert_eq!(target.wait().signal(), Some(libc::SIGKILL));
        } else {
            target.finish();
        }
        let report = session.wait();
        report.assert_no_panic();
        assert!(report.status.success(), "{report:?}");
        assert!(report.hits(&work) > 1000, "{report:?}");
    }
}
