//! Libraries that are loaded later, unloaded, and loaded again; memory that is no longer what was patched.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Process, Program, Report, Session, need};

use crate::probes::probe;

fn library() -> Result<PathBuf, String> {
    Program::new("libplug.c").library("libplug.so").build()
}

/// A session that counts `plug_inner` of these files in a program that has loaded none of them.
fn started(files: &[&Path]) -> Result<(Process, Session), String> {
    let program = Program::new("dl.c").flag("-ldl").build()?;
    let target = Process::start(&program, &[]);
    let pid = target.pid().to_string();
    let mut arguments = vec!["stat".to_owned()];
    arguments.extend(files.iter().map(|file| probe(file, "plug_inner")));
    arguments.extend(["-p".to_owned(), pid]);
    let session = Session::start(arguments);
    wait_for_loader_breakpoint(&target);
    Ok((target, session))
}

/// Loads (or maps) and gives where the function is.
fn load(target: &mut Process, command: &str, file: &Path) -> u64 {
    target.ask(&format!("{command} {}", file.display())).number("inner")
}

fn calls(target: &mut Process, count: u64) {
    let done = target.ask(&format!("calls {count}"));
    assert_eq!((done.number("calls"), done.number("bad")), (count, 0), "{done:?}");
}

/// The program's own view: in so many mapped texts so many bytes are not the file's, and its own memory is untouched.
fn check(target: &mut Process, texts: u64, are_patched: bool) {
    let checked = target.ask("check");
    assert_eq!(checked.number("texts"), texts, "{checked:?}");
    assert_eq!(checked.number("differ") > 0, are_patched, "{checked:?}");
    assert_eq!(checked.number("spoilt"), 0, "{checked:?}");
}

fn hits(report: &Report, file: &Path) -> u64 {
    report.sum(&probe(file, "plug_inner"), "hits")
}

/// Constructors run probed; an unloaded library takes its probes along, and a second load is probed again, also of a copy.
#[test]
fn come_and_go() {
    let library = need!(library());
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("libplug.so");
    // By a child: a file that this process has open for writing would be inherited by other tests' children.
    assert!(Command::new("cp").arg(&library).arg(&copy).status().unwrap().success());
    let (mut target, session) = need!(started(&[&library, &copy]));
    let mut expected = [0_u64; 2];
    for (path, index) in [(&library, 0), (&copy, 1), (&library, 0), (&copy, 1), (&library, 0)] {
        load(&mut target, "load", path);
        calls(&mut target, 1000);
        check(&mut target, 1, true);
        target.ask("unload");
        expected[index] += 3 + 1000;
    }
    let report = session.end();
    report.assert_clean();
    assert_eq!([hits(&report, &library), hits(&report, &copy)], expected, "{report:?}");
    target.finish();
}

/// Loaded again where it was, and where it cannot have been: each time probed, nothing written to what took its place.
#[test]
fn reload_at_the_same_and_at_another_address() {
    let library = need!(library());
    let (mut target, session) = need!(started(&[&library]));
    let first = load(&mut target, "load", &library);
    calls(&mut target, 1000);
    target.ask("unload");
    let second = load(&mut target, "load", &library);
    assert_eq!(first, second, "the kernel's choice is the same while nothing else is mapped");
    calls(&mut target, 2000);
    check(&mut target, 1, true);
    target.ask("unload");
    assert_eq!(target.ask("block").word, "blocked");
    let third = load(&mut target, "load", &library);
    assert_ne!(first, third, "the place is taken");
    calls(&mut target, 4000);
    check(&mut target, 1, true);
    let report = session.end();
    report.assert_clean();
    check(&mut target, 1, false);
    assert_eq!(hits(&report, &library), 3 * 3 + 1000 + 2000 + 4000, "{report:?}");
    target.finish();
}

/// In two namespaces of the loader: two mappings of one file, both probed from their constructors on.
#[test]
fn the_same_file_in_two_namespaces() {
    let library = need!(library());
    let (mut target, session) = need!(started(&[&library]));
    let first = load(&mut target, "load", &library);
    calls(&mut target, 1000);
    let second = load(&mut target, "separate", &library);
    assert_ne!(first, second);
    calls(&mut target, 2000);
    check(&mut target, 2, true);
    target.ask("unload");
    check(&mut target, 1, true);
    let report = session.end();
    report.assert_clean();
    check(&mut target, 1, false);
    assert_eq!(hits(&report, &library), 2 * 3 + 1000 + 2000, "{report:?}");
    let sites: Vec<_> = report.stats("plug_inner").map(|line| line["hits"].as_u64().unwrap()).collect();
    assert_eq!(sites, [3 + 1000, 3 + 2000], "a row for each mapping: {report:?}");
    target.finish();
}

/// The text mapped once more by the program itself, unknown to the loader: left alone until the loader speaks, then probed.
#[test]
fn the_same_file_mapped_by_hand() {
    let library = need!(library());
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("libplug.so");
    assert!(Command::new("cp").arg(&library).arg(&copy).status().unwrap().success());
    let (mut target, session) = need!(started(&[&library]));
    let first = load(&mut target, "load", &library);
    let second = target.ask("map").number("inner");
    assert_ne!(first, second);
    calls(&mut target, 1000);
    load(&mut target, "load", &copy);
    target.ask("unload");
    let report = session.end();
    report.assert_clean();
    check(&mut target, 2, false);
    let sites: Vec<_> = report.stats("plug_inner").map(|line| line["hits"].as_u64().unwrap()).collect();
    assert_eq!(sites, [3, 0], "nothing was called through the second mapping once it was known: {report:?}");
    target.finish();
}

/// Memory of the program's own over patched text, or the file's own text anew: nothing is written there at the end.
fn replaced(command: &str) {
    let library = need!(library());
    let (mut target, session) = need!(started(&[&library]));
    load(&mut target, "load", &library);
    calls(&mut target, 1000);
    check(&mut target, 1, true);
    let answer = target.ask(command);
    assert_ne!(answer.word, "failed", "{answer:?}");
    let texts = u64::from(command == "again");
    check(&mut target, texts, false);
    if command == "again" {
        calls(&mut target, 500);
    }
    let report = session.end();
    check(&mut target, texts, false);
    report.assert_clean();
    assert_eq!(hits(&report, &library), 3 + 1000, "{report:?}");
    target.finish();
}

#[test]
fn own_memory_over_patched_text() {
    replaced("swap");
}

#[test]
fn the_text_mapped_anew_over_patched_text() {
    replaced("again");
}

/// Where a program leaves few mappings, libraries that are loaded one after the other take half of those in all. Nothing is
/// refused for it, and no load waits for a search in vain.
#[test]
fn half_of_the_mappings_serves_libraries_however_many() {
    const LEFT: u64 = 34;
    if std::env::var_os("XOL_TEST_ISA").is_some() {
        tests::skip!("the library is one of 64 bits");
    }
    let plug = Program::new("libplug.c").library("libplug.so").flag("-DBULK=1000");
    let library = need!(plug.build());
    let folder = tempfile::tempdir().unwrap();
    let copies = ["first", "second", "third"].map(|name| {
        let path = folder.path().join(name).join("libplug.so");
        std::fs::create_dir(folder.path().join(name)).unwrap();
        tests::copy(&library, &path);
        path
    });
    let program = Program::new("dl.c").source("few_mappings.c").flag("-ldl");
    let program = need!(program.flag(format!("-DMAPPINGS_LEFT={LEFT}")).build());
    let mut target = need!(Process::start_if_possible(&program, &[]));
    let pid = target.pid();
    let probes = copies.each_ref().map(|path| probe(path, "0x*"));
    let session = Session::stat(&probes.each_ref().map(String::as_str), pid);
    wait_for_loader_breakpoint(&target);
    let ours = || tests::maps(pid).iter().filter(|region| region.is_xol()).count() as u64;
    for path in &copies {
        load(&mut target, "load", path);
        calls(&mut target, 10);
        assert!(ours() <= LEFT / 2, "{} of {LEFT}", ours());
    }
    let ours = ours();
    let report = session.end();
    report.assert_clean();
    let summary = report.summary();
    assert_eq!(summary["mappings"].as_u64(), Some(ours), "{summary}");
    let mut refused = report.of_type("stat").filter(|line| line["mechanism"] == "refused");
    let for_mappings = |line: &serde_json::Value| line["reason"].as_str().is_some_and(is_of_mappings);
    assert!(!refused.any(for_mappings), "{summary}");
    for path in &copies {
        let started = report.stats(&probe(path, "0x*")).filter(|line| line["hits"] == 13).count();
        assert!(started > 1, "plug_inner's instructions: {summary}");
    }
    target.finish();
}

fn is_of_mappings(reason: &str) -> bool {
    reason.ends_with("(mappings)")
}

/// Nothing of the program is probed yet, so what shows that the session is armed is its area.
fn wait_for_loader_breakpoint(target: &Process) {
    tests::wait_for("the area in the target", || {
        let maps = tests::maps(target.pid());
        maps.iter().any(tests::Region::is_xol).then_some(())
    });
    // The breakpoint is written right after the area is described: the loader's function is watched for it.
    tests::wait_for("the loader's breakpoint", || {
        (!tests::text_changes(target.pid()).is_empty()).then_some(())
    });
}
