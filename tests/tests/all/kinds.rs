//! Every kind of executable, by `-p` and by `-- CMD`, with the same program.

use std::path::Path;
use std::process::Command;

use tests::{Process, Program, Report, Session, Snapshot, Watch, need, skip};

use crate::probes::{borrowed, probe};

const THREADS: &str = "3";
const CALLS: u64 = 20_000;
const TRAPS: u64 = 300;

/// Probes at a function entry, inside a function and at an address; `work` and `tiny` exist twice on purpose.
fn probes(program: &Path, trapped_site: &str) -> [String; 4] {
    [
        probe(program, "work"),
        probe(program, "neighbour+0x3"),
        probe(program, "tiny"),
        probe(program, trapped_site),
    ]
}

/// Makes the calls and gives what the program counted.
fn exercise(target: &mut Process) -> [u64; 4] {
    let calls = target.ask(&format!("calls {CALLS}"));
    let tiny = target.ask(&format!("tiny {CALLS}"));
    let traps = target.ask(&format!("traps {TRAPS}"));
    for answer in [&calls, &tiny, &traps] {
        assert_eq!(answer.number("bad"), 0, "{answer:?}");
    }
    [calls.number("work"), calls.number("neighbour"), tiny.number("tiny"), traps.number("trapped")]
}

fn assert_exact(report: &Report, probes: &[String], counted: [u64; 4]) {
    report.assert_clean();
    for (probe, calls) in probes.iter().zip(counted) {
        assert_ne!(calls, 0);
        assert_eq!(report.hits(probe), calls, "{probe}: {report:?}");
        assert_eq!(report.lost(probe), 0, "{probe}: {report:?}");
    }
    assert_eq!(report.summary()["hits"], counted.iter().sum::<u64>());
}

fn attached(program: &Path, trapped_site: &str) {
    let mut target = Process::start(program, &[THREADS]);
    let before = Snapshot::of(target.pid());
    let watch = Watch::on(&target, &["work", "tiny", "trapped_site"]);
    let probes = probes(program, trapped_site);
    let mut session = Session::stat(&borrowed(&probes), target.pid());
    session.wait_armed(&watch);
    let counted = exercise(&mut target);
    let report = session.end();
    assert_exact(&report, &probes, counted);
    before.assert_unchanged(target.pid());
    exercise(&mut target);
    target.finish();
}

fn started(program: &Path, trapped_site: &str) {
    let probes = probes(program, trapped_site);
    let program = program.to_string_lossy();
    let mut arguments = vec!["stat"];
    arguments.extend(borrowed(&probes));
    arguments.extend(["--", &program, THREADS]);
    let mut session = Session::start(arguments);
    session.process.wait_ready();
    let counted = exercise(&mut session.process);
    session.process.close_stdin();
    assert_exact(&session.wait(), &probes, counted);
}

fn both(program: &Path) {
    attached(program, "trapped+0x5");
    started(program, "trapped+0x5");
}

#[test]
fn position_independent() {
    both(&need!(Program::work().build()));
}

#[test]
fn fixed_position() {
    both(&need!(Program::work().flag("-no-pie").build()));
}

#[test]
fn fixed_position_static() {
    both(&need!(Program::work().flag("-static").build()));
}

#[test]
fn position_independent_static() {
    both(&need!(Program::work().flag("-static-pie").build()));
}

#[test]
fn musl_static() {
    both(&need!(Program::work().compiler("musl-gcc").flag("-static").build()));
}

#[test]
fn large_pages_and_relr() {
    let program = Program::work().flag("-Wl,-z,max-page-size=2097152").flag("-Wl,-z,separate-code").build();
    both(&need!(program));
}

/// Names from `.dynsym` alone.
#[test]
fn stripped_with_dynamic_symbols() {
    both(&need!(Program::work().flag("-rdynamic").flag("-s").build()));
}

/// No names at all: addresses, which a twin with symbols tells.
#[test]
fn stripped_by_address() {
    let program = need!(Program::work().flag("-s").flag("-no-pie").build());
    let mut target = Process::start(&program, &[THREADS]);
    let watch = Watch::on(&target, &["work", "trapped_site"]);
    let at = |name: &str| probe(&program, &format!("{:#x}", target.address(name)));
    let probes = [at("work"), at("neighbour"), at("tiny"), at("trapped_site")];
    let mut session = Session::stat(&borrowed(&probes), target.pid());
    session.wait_armed(&watch);
    let counted = exercise(&mut target);
    assert_exact(&session.end(), &probes, counted);
    target.finish();
}

/// A library the program is linked with: its constructor runs before `main`, and is counted.
#[test]
fn linked_library() {
    let library = need!(Program::new("libplug.c").library("libplug.so").build());
    let folder = library.parent().expect("a folder").display().to_string();
    let linked = Program::new("linked.c")
        .flag(format!("-L{folder}"))
        .flag("-lplug")
        .flag(format!("-Wl,-rpath,{folder}"));
    let program = need!(linked.build());

    let mut target = Process::start(&program, &[]);
    let watch = Watch::on(&target, &["plug_add"]);
    let mut session = Session::stat(&["plug:plug_add", "libplug:plug_inner"], target.pid());
    session.wait_armed(&watch);
    assert_eq!(target.ask("calls 5000").number("bad"), 0);
    let report = session.end();
    report.assert_clean();
    assert_eq!((report.hits("plug_add"), report.hits("plug_inner")), (5000, 5000), "{report:?}");
    target.finish();

    let inner = probe(&library, "plug_inner");
    let mut session = Session::start(["stat", &inner, "--", &program.to_string_lossy()]);
    session.process.wait_ready();
    assert_eq!(session.process.ask("calls 5000").number("bad"), 0);
    session.process.close_stdin();
    let report = session.wait();
    report.assert_clean();
    assert_eq!(report.hits(&inner), 5003, "three calls of the constructor come first: {report:?}");
}

/// An alias and overlapping patterns share one site, and each is counted.
#[test]
fn the_same_place_twice() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["2"]);
    let watch = Watch::on(&target, &["work"]);
    let probes = [probe(&program, "work"), probe(&program, "wor?"), probe(&program, "work+0")];
    let mut session = Session::stat(&borrowed(&probes), target.pid());
    session.wait_armed(&watch);
    let counted = target.ask("calls 1000").number("work");
    let report = session.end();
    report.assert_clean();
    for probe in &probes {
        let line = report.of_type("stat").find(|line| line["spec"] == probe.as_str());
        let line = line.unwrap_or_else(|| panic!("no line of {probe}: {report:?}"));
        assert_eq!(line["hits"], counted, "{report:?}");
    }
    target.finish();
}

/// The command's own status is xol's, and its output is untouched.
#[test]
fn status_of_the_command() {
    if tests::which("sh").is_none() {
        skip!("no sh on this machine");
    }
    let run = |script: &str| {
        let mut command =
            tests::xol(["stat", "--json", "-o", "/dev/null", "libc:malloc", "--", "sh", "-c", script]);
        command.output().expect("xol runs")
    };
    let ended = run("echo out; echo err >&2; exit 7");
    assert_eq!(ended.status.code(), Some(7), "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "out\n");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("err"));
    assert_eq!(run("kill -TERM $$").status.code(), Some(128 + 15));
    let missing =
        Command::new(tests::xol_binary()).args(["stat", "libc:malloc", "--", "/no/such/command"]).output();
    assert_eq!(missing.expect("xol runs").status.code(), Some(127));
    let folder =
        Command::new(tests::xol_binary()).args(["stat", "libc:malloc", "--", "/etc/passwd"]).output();
    assert_eq!(folder.expect("xol runs").status.code(), Some(126));
}

/// Functions with several implementations: the chosen one is probed, in the program itself and in libc.
fn chosen_implementation(flags: &[&str], file_of_libc: Option<&str>) {
    let mut program = Program::new("ifunc.c");
    for flag in flags {
        program = program.flag(*flag);
    }
    let program = need!(program.build());
    let in_libc = |name: &str| match file_of_libc {
        Some(file) => format!("{file}:{name}"),
        None => probe(&program, name),
    };
    let probes = [
        probe(&program, "pick"),
        probe(&program, "pick_fast"),
        probe(&program, "pick_slow"),
        in_libc("memcpy"),
        in_libc("strlen"),
    ];
    let hits = |calls: u64| {
        let mut target = Process::start(&program, &[]);
        let watch = Watch::on(&target, &["pick_fast", "pick_slow"]);
        let mut session = Session::stat(&borrowed(&probes), target.pid());
        session.wait_armed(&watch);
        let done = target.ask(&format!("calls {calls}"));
        assert_eq!(done.number("bad"), 0, "{done:?}");
        let report = session.end();
        report.assert_clean();
        target.finish();
        for (probe, hits) in probes.iter().zip([calls, calls, 0]) {
            assert_eq!(report.hits(probe), hits, "{probe}: {report:?}");
        }
        [report.hits(&probes[3]), report.hits(&probes[4])]
    };
    let (few, many) = (hits(1000), hits(3000));
    assert!(few.iter().all(|hits| *hits >= 1000), "{few:?}");
    assert_eq!([many[0] - few[0], many[1] - few[1]], [2000, 2000], "{few:?} {many:?}");
}

#[test]
fn ifunc() {
    chosen_implementation(&[], Some("libc"));
}

#[test]
fn ifunc_static() {
    chosen_implementation(&["-static"], None);
}

/// An ifunc: what is counted is the implementation that was chosen, though a stripped library has no name for it.
#[test]
fn the_chosen_implementation() {
    let library = need!(Program::new("libchosen.c").library("libchosen.so").flag("-s").build());
    let folder = library.parent().expect("a folder").display().to_string();
    for binding in ["now", "lazy"] {
        let program = Program::new("chosen.c")
            .flag(format!("-L{folder}"))
            .flag("-lchosen")
            .flag(format!("-Wl,-rpath,{folder},-z,{binding}"));
        let program = need!(program.build());
        let mut target = Process::start(&program, &[]);
        target.ask("calls 1"); // with lazy binding, what chooses
        let pid = target.pid().to_string();
        let explained = Report::of(&mut tests::xol(["explain", "--json", "libchosen:chosen", "-p", &pid]));
        let line = explained.of_type("explain").next().expect("one line");
        assert!(line["notes"][0].as_str().is_some_and(|note| note.contains("chose")), "{line}");
        let address = line["address"].as_str().expect("hex").trim_start_matches("0x");
        let implementation = u64::from_str_radix(address, 16).expect("hex");
        let mut session = Session::stat(&["libchosen:chosen"], target.pid());
        session.wait_armed(&Watch::at(target.pid(), &[implementation]));
        assert_eq!(target.ask("calls 1000").number("bad"), 0);
        let report = session.end();
        report.assert_clean();
        assert_eq!(report.hits("chosen"), 1000, "{binding}: {report:?}");
        target.finish();
    }
}
