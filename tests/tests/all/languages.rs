//! C++, Rust and Go.

use std::path::Path;

use tests::{Process, Program, Report, Session, Snapshot, need, text_changes, wait_for};

use crate::probes::{borrowed, probe};

const CALLS: u64 = 5_000;

/// Attaches, waits until text changed, makes the calls, removes; the answer of the program and the report.
fn attached(program: &Path, probes: &[String]) -> (tests::Line, Report) {
    let mut target = Process::start(program, &[]);
    target.ask("calls 10"); // all libraries and threads that it will ever have
    let before = Snapshot::of(target.pid());
    let mut session = Session::stat(&borrowed(probes), target.pid());
    wait_for("changed text", || {
        assert!(session.process.ended().is_none(), "xol ended:\n{}", session.errors());
        (!text_changes(target.pid()).is_empty()).then_some(())
    });
    let answer = target.ask(&format!("calls {CALLS}"));
    assert_eq!(answer.number("bad"), 0, "{answer:?}");
    let report = session.end();
    report.assert_clean();
    assert_eq!(Snapshot::of(target.pid()).changes, before.changes);
    assert_eq!(target.ask("calls 100").number("bad"), 0);
    target.finish();
    (answer, report)
}

fn started(program: &Path, probes: &[String]) -> (tests::Line, Report) {
    let program = program.to_string_lossy();
    let mut arguments = vec!["stat"];
    arguments.extend(borrowed(probes));
    arguments.extend(["--", &program]);
    let mut session = Session::start(arguments);
    session.process.wait_ready();
    let answer = session.process.ask(&format!("calls {CALLS}"));
    session.process.close_stdin();
    let report = session.wait();
    report.assert_clean();
    assert_eq!(answer.number("bad"), 0, "{answer:?}");
    (answer, report)
}

fn both(program: &Path, probes: &[String], check: impl Fn(&tests::Line, &Report)) {
    for run in [attached, started] {
        let (answer, report) = run(program, probes);
        check(&answer, &report);
        assert_eq!(report.summary()["lost"], 0, "{report:?}");
    }
}

/// A name without parameters means all overloads; with them, one. Exceptions pass through a probed function.
#[test]
fn cplusplus() {
    let program = need!(Program::new("overloads.cc").build());
    let names = ["shape::area", "shape::area(int)", "long twice<long>(long)", "_Z6passeslPl", "throws"];
    let probes = names.map(|name| probe(&program, name));
    both(&program, &probes, |answer, report| {
        let spec = |index: usize| {
            let lines = report.of_type("stat").filter(|line| line["spec"] == probes[index].as_str());
            let hits: Vec<_> = lines.map(|line| line["hits"].as_u64().expect("a count")).collect();
            (hits.len(), hits.iter().sum::<u64>())
        };
        let (int, two) = (answer.number("area_int"), answer.number("area_two"));
        assert_eq!(spec(0), (2, int + two), "{report:?}");
        assert_eq!(spec(1), (1, int), "{report:?}");
        assert_eq!(spec(2), (1, answer.number("twice")), "{report:?}");
        assert_eq!(spec(3), (1, answer.number("caught")), "{report:?}");
        assert_eq!(spec(4), (1, answer.number("caught")), "{report:?}");
    });
}

/// The call that an exception comes out of is itself displaced: the unwinder must find the original return address.
#[test]
fn exceptions_out_of_displaced_calls() {
    let program = need!(Program::new("overloads.cc").build());
    let probes = [every_instruction(&program, "_Z6passeslPl")].concat();
    both(&program, &probes, |answer, report| {
        assert_eq!(report.hits(&probes[0]), answer.number("caught"), "{report:?}");
        let longest = probes.iter().filter(|spec| report.hits(spec) == answer.number("caught")).count();
        assert!(longest > 5, "only {longest} of {} instructions were ever reached: {report:?}", probes.len());
    });
}

/// Probes at every instruction of a function, found by objdump.
fn every_instruction(program: &Path, function: &str) -> Vec<String> {
    let mut objdump = std::process::Command::new("objdump");
    let listing = objdump
        .arg("-d")
        .arg(format!("--disassemble={function}"))
        .arg(program)
        .output()
        .expect("objdump runs");
    let text = String::from_utf8_lossy(&listing.stdout).into_owned();
    let is_instruction = |line: &&str| line.split('\t').count() == 3;
    let address =
        |line: &str| line.split(':').next().map(|digits| probe(program, &format!("0x{}", digits.trim())));
    text.lines().filter(is_instruction).filter_map(address).collect()
}

#[test]
fn rust() {
    let program = need!(Program::new("rust.rs").build());
    let probes = [probe(&program, "rust::numbers::double"), probe(&program, "*unwinds*")];
    both(&program, &probes, |answer, report| {
        assert_eq!(report.hits(&probes[0]), answer.number("double"), "{report:?}");
        assert_eq!(report.hits(&probes[1]), answer.number("unwound"), "{report:?}");
    });
}

#[test]
fn rust_static() {
    let program =
        Program::new("rust.rs").flag("-Ctarget-feature=+crt-static").flag("-Crelocation-model=static");
    let program = need!(program.build());
    let probes = [probe(&program, "rust::numbers::double")];
    both(&program, &probes, |answer, report| {
        assert_eq!(report.hits(&probes[0]), answer.number("double"), "{report:?}");
    });
}

/// No libc, no thread pointer where C has it, stacks that move, and a runtime that signals its own threads.
#[test]
fn go() {
    let program = need!(Program::new("golang.go").build());
    let probes = [probe(&program, "main.Add")];
    both(&program, &probes, |answer, report| {
        assert_eq!(report.hits(&probes[0]), answer.number("add"), "{report:?}");
    });
}

/// Stacks that end within some bytes, with another one behind: a stub uses little of them.
#[test]
fn go_at_the_end_of_its_stacks() {
    let program = need!(Program::new("nosplit.go").build());
    let probe = probe(&program, "main.leaf");
    for verb in ["stat", "trace"] {
        let mut session = Session::start([verb, &probe, "--", &program.to_string_lossy()]);
        let output = session.process.remaining();
        let report = session.wait();
        assert_eq!(output, ["bad 0"], "{verb}: {}", report.summary());
        report.assert_clean();
    }
}
