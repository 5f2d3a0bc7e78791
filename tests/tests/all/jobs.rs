//! Job control: what is stopped stays stopped, and goes on as if nobody had been there.

use std::os::unix::process::CommandExt;
use std::process::Command;

use tests::{Process, Program, Session, Signal, Watch, need, rounds, send, wait_for};

use crate::probes::{armed_in_time, borrowed, probe};

fn state(pid: u32) -> char {
    let field = tests::status_field(pid, "State").expect("a live process");
    field.chars().next().expect("a letter")
}

/// A traced process that job control has stopped shows as `t`.
fn is_stopped(pid: u32) -> bool {
    matches!(state(pid), 'T' | 't')
}

/// For the moments in which it makes a system call for xol it runs.
fn wait_stopped(pid: u32) {
    wait_for("the stop", || is_stopped(pid).then_some(()));
}

fn stop(pid: u32) {
    assert!(send(pid, Signal::Stop));
    wait_stopped(pid);
}

/// Patched while it is stopped, it stays so, and counts when it goes on.
#[test]
fn a_stopped_process_is_patched() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["3"]);
    let pid = target.pid();
    let watch = Watch::on(&target, &["work", "trapped_site"]);
    let probes = [probe(&program, "work"), probe(&program, "trapped+5")];
    stop(pid);
    assert_eq!(state(pid), 'T');
    let mut session = Session::stat(&borrowed(&probes), pid);
    session.wait_armed(&watch);
    wait_stopped(pid);
    target.tell("calls 1000");
    wait_stopped(pid);
    assert!(send(pid, Signal::Continue));
    let calls = target.hear();
    let traps = target.ask("traps 100");
    let report = session.end();
    report.assert_clean();
    assert_eq!((calls.number("bad"), traps.number("bad")), (0, 0));
    assert_eq!(report.hits(&probes[0]), calls.number("work"), "{report:?}");
    assert_eq!(report.hits(&probes[1]), traps.number("trapped"), "{report:?}");
    target.finish();
}

/// From the first to the last moment of a session.
#[test]
fn a_stopped_process_stays_stopped() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["2"]);
    let pid = target.pid();
    let watch = Watch::on(&target, &["work"]);
    stop(pid);
    for _ in 0..rounds(3, 30) {
        let mut session = Session::stat(&[&probe(&program, "work")], pid);
        session.wait_armed(&watch);
        wait_stopped(pid);
        let report = session.end();
        report.assert_clean();
        assert_eq!(report.summary()["left_mapped"], 0, "{report:?}");
        wait_for("an untraced stop", || (state(pid) == 'T').then_some(()));
    }
    assert!(send(pid, Signal::Continue));
    assert_eq!(target.ask("calls 100").number("bad"), 0);
    target.finish();
}

/// Counts a program that is stopped and continued so many times: every call is counted.
fn counted_while_stopped(times: u64, mut once: impl FnMut(&mut Process, Signal, u64)) {
    let program = need!(Program::work().build());
    for signal in [Signal::Stop, Signal::TerminalStop] {
        // In the process group of a session's leader, orphaned where the tests run in the background, a terminal's stop
        // would do nothing (kernel/signal.c, `get_signal`).
        let mut target = Process::of_command(Command::new(&program).arg("2").process_group(0));
        let work = probe(&program, "work");
        let mut session = Session::stat(&[&work], target.pid());
        session.wait_armed(&Watch::on(&target, &["work"]));
        target.ask("run");
        for round in 0..times {
            once(&mut target, signal, round);
        }
        let done = target.ask("stop");
        let report = session.end();
        report.assert_clean();
        assert_eq!(done.number("bad"), 0, "{done:?}");
        assert_eq!((report.hits(&work), report.lost(&work)), (done.number("ended"), 0), "{report:?}");
        target.finish();
    }
}

/// Stopped and continued again and again in the middle of probed code.
#[test]
fn stops_while_probed() {
    counted_while_stopped(rounds(50, 2_000), |target, signal, _| {
        let pid = target.pid();
        assert!(send(pid, signal));
        wait_stopped(pid);
        assert!(send(pid, Signal::Continue));
    });
}

/// The stop and its end at once: the latter has the last word, whatever the thread was doing.
#[test]
fn stop_and_continue_at_once() {
    counted_while_stopped(rounds(3_000, 50_000), |target, signal, round| {
        let pid = target.pid();
        assert!(send(pid, signal) && send(pid, Signal::Continue));
        if round % 100 == 0 {
            target.ask("counters");
        }
    });
}

/// The stop comes while the probes are taken out.
#[test]
fn stopped_during_removal() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["2"]);
    let pid = target.pid();
    let watch = Watch::on(&target, &["work"]);
    target.ask("run");
    for round in 0..rounds(20, 300) {
        let session = armed_in_time(&[&probe(&program, "work")], &watch, pid);
        let mut sent = [(session.process.child_id(), Signal::Interrupt), (pid, Signal::Stop)];
        if round % 2 == 1 {
            sent.reverse();
        }
        assert!(sent.into_iter().all(|(to, signal)| send(to, signal)));
        let report = session.wait();
        report.assert_clean();
        assert_eq!(report.summary()["left_mapped"], 0, "{report:?}");
        assert!(watch.is_restored());
        wait_for("an untraced stop", || (state(pid) == 'T').then_some(()));
        assert!(send(pid, Signal::Continue));
    }
    assert_eq!(target.ask("stop").number("bad"), 0);
    target.finish();
}
