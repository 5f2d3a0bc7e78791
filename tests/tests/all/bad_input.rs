//! Bad input: a clear error, nothing changed in the target.

use std::fs;

use tests::{Process, Program, Report, Session, Signal, Watch, need, xol};

use crate::probes::probe;

fn refused(arguments: &[&str], status: i32, words: &[&str]) {
    Report::of(&mut xol(arguments)).assert_error(status, words);
}

#[test]
fn processes_that_cannot_be_probed() {
    refused(&["stat", "libc:malloc", "-p", "4194301"], 1, &["4194301"]);
    refused(&["stat", "libc:malloc"], 2, &["-p"]);
    refused(&["stat", "libc:malloc", "-p", "1", "--", "true"], 2, &["-p"]);
    refused(&["stat", "libc:malloc", "--", "/no/such/command"], 127, &["/no/such/command"]);
    refused(&["stat", "libc:malloc", "--", "/etc/passwd"], 126, &["/etc/passwd"]);
}

#[test]
fn a_process_that_is_traced_already() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["1"]);
    let mut session = Session::stat(&[&probe(&program, "work")], target.pid());
    session.wait_armed(&Watch::on(&target, &["work"]));
    refused(&["stat", &probe(&program, "work"), "-p", &target.pid().to_string()], 1, &["traced"]);
    session.end().assert_clean();
    assert_eq!(target.ask("calls 10").number("bad"), 0);
    target.finish();
}

#[test]
fn probes_that_mean_nothing() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["1"]);
    let watch = Watch::on(&target, &["work", "neighbour"]);
    let pid = target.pid().to_string();
    let folder = tempfile::tempdir().unwrap();
    let junk = folder.path().join("junk");
    fs::write(&junk, "not a program").unwrap();
    let cut = folder.path().join("cut");
    fs::write(&cut, &fs::read(&program).unwrap()[..300]).unwrap();
    let at = |name: &str| probe(&program, name);
    for (spec, word) in [
        (at("wrok"), "wrok"),
        (at("work+3"), "inside the instruction"),
        (at("work+9999"), "outside"),
        (at("0x10"), "outside"),
        (at("threads"), "data"),
        (probe(&junk, "work"), "junk"),
        (probe(&cut, "work"), "cut"),
        ("/no/such/file:work".to_owned(), "/no/such/file"),
    ] {
        refused(&["stat", &spec, "-p", &pid], 1, &[word]);
        assert!(watch.is_restored(), "{spec} left something");
    }
    for (spec, word) in [("nothing", "nothing"), ("usdt:libc:x", "not available yet")] {
        refused(&["stat", spec, "-p", &pid], 2, &[word]);
    }
    assert_eq!(target.ask("calls 10").number("bad"), 0);
    target.finish();
}

/// The same place named twice, an alias and a pattern: one site, each counted.
#[test]
fn the_same_place_twice() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["1"]);
    let specs = [probe(&program, "work"), probe(&program, "wor?"), probe(&program, "work+0")];
    let mut session = Session::stat(&[&specs[0], &specs[1], &specs[0]], target.pid());
    session.wait_armed(&Watch::on(&target, &["work"]));
    target.ask("calls 777");
    let report = session.end();
    report.assert_clean();
    let hits: Vec<_> = report.of_type("stat").map(|line| line["hits"].as_u64().unwrap()).collect();
    assert_eq!(hits, [777, 777, 777], "{report:?}");
    target.finish();
}

/// The file was replaced after it was mapped: what runs is analysed from memory.
#[test]
fn a_file_that_was_replaced() {
    let program = need!(Program::work().build());
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("work");
    fs::copy(&program, &copy).unwrap();
    let mut target = Process::start(&copy, &["1"]);
    fs::remove_file(&copy).unwrap();
    fs::write(&copy, fs::read("/bin/true").unwrap()).unwrap();
    let work = target.address("work");
    let base = work & !0xfff;
    assert!(base > 0);
    let listed = Report::of(&mut xol([
        "stat",
        &probe(&copy, "work"),
        "-p",
        &target.pid().to_string(),
        "--duration",
        "10ms",
    ]));
    listed.assert_no_panic();
    assert_eq!(target.ask("calls 10").number("bad"), 0);
    target.finish();
}

/// Ctrl-C, SIGTERM, SIGHUP at any moment: probes removed, counts printed.
#[test]
fn signals_end_a_session() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["2"]);
    let watch = Watch::on(&target, &["work"]);
    target.ask("run");
    for signal in [Signal::Interrupt, Signal::Terminate, Signal::HangUp] {
        let mut session = Session::stat(&[&probe(&program, "work")], target.pid());
        session.wait_armed(&watch);
        session.end_by(signal).assert_clean();
        assert!(watch.is_restored());
    }
    assert_eq!(target.ask("stop").number("bad"), 0);
    target.finish();
}

/// Results that cannot be written: status 1, and the probes are out.
#[test]
fn a_full_disk() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["1"]);
    let watch = Watch::on(&target, &["work"]);
    let pid = target.pid().to_string();
    let report = Report::of(&mut xol([
        "stat",
        "--json",
        "-o",
        "/dev/full",
        &probe(&program, "work"),
        "-p",
        &pid,
        "--duration",
        "50ms",
    ]));
    report.assert_error(1, &["/dev/full"]);
    assert!(watch.is_restored());
    assert_eq!(target.ask("calls 10").number("bad"), 0);
    target.finish();
}

/// /proc/PID/mem restricted: text is written word by word through ptrace.
#[test]
fn text_by_poketext() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["2"]);
    let before = tests::Snapshot::of(target.pid());
    let work = probe(&program, "work");
    let mut command = xol(["stat", "--json", &work, "-p", &target.pid().to_string(), "--duration", "300ms"]);
    let mut child = command.env("XOL_FORCE_POKE", "1").stdout(std::process::Stdio::piped()).spawn().unwrap();
    let watch = Watch::on(&target, &["work"]);
    target.ask("run");
    let status = child.wait().unwrap();
    assert!(status.success());
    assert_eq!(target.ask("stop").number("bad"), 0);
    assert!(watch.is_restored());
    before.assert_unchanged(target.pid());
    target.finish();
}
