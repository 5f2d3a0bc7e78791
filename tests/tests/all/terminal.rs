//! What a person at a terminal sees, and what a pipe or a file gets instead.

use std::process::Command;

use tests::{Process, Program, Session, Watch, need, wait_for, which, xol, xol_binary};

use crate::probes::probe;

/// Runs xol to its end on a terminal of its own, made by script(1), 90 columns wide. What it wrote there, without the
/// terminal's own commands.
fn on_terminal(arguments: &[&str]) -> Result<String, String> {
    which("script").ok_or("no script(1) on this machine")?;
    let quoted: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
    let line = format!("stty rows 30 cols 90; '{}' {}", xol_binary().display(), quoted.join(" "));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env("SHELL", "/bin/sh");
    let mut process = Process::spawn(&mut command);
    let lines = process.remaining();
    let status = process.wait();
    let text = plain(&lines.join("\n"));
    assert!(status.success(), "{status:?}: {text}");
    Ok(text)
}

/// Text without escape sequences and carriage returns.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => drop(characters.find(char::is_ascii_alphabetic)),
            '\r' => {}
            other => plain.push(other),
        }
    }
    plain
}

/// A table that is drawn again and again, with names that fit and numbers that can be read; notes come behind results.
#[test]
fn a_live_table() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["2"]);
    target.ask("run");
    let pid = target.pid().to_string();
    let pattern = probe(&program, "wor[kx]");
    let shown = need!(on_terminal(&["stat", &pattern, "-p", &pid, "--duration", "3s"]));
    assert_eq!(target.ask("stop").number("bad"), 0);
    assert!(shown.starts_with("1 site in 1 file\n"), "{shown}");
    assert!(shown.matches("HITS/S").count() >= 2, "drawn while it runs, and at the end: {shown}");
    let rows: Vec<&str> = shown.lines().filter(|line| line.contains("jump  ")).collect();
    assert!(rows.iter().all(|row| row.chars().count() <= 90 && row.ends_with("work")), "{rows:#?}");
    assert!(rows.last().unwrap().contains(','), "no thousands: {rows:#?}");
    let last = shown.lines().last().unwrap();
    assert!(shown.contains("hits at 1 site (1 jump)") && last.contains("text restored"), "{shown}");
    target.finish();
}

/// No flood: so many lines a second, and a word about the others.
#[test]
fn a_trace_that_can_be_read() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["2"]);
    target.ask("run");
    let pid = target.pid().to_string();
    let shown = need!(on_terminal(&["trace", &probe(&program, "work"), "-p", &pid, "--duration", "2s"]));
    assert_eq!(target.ask("stop").number("bad"), 0);
    let hits = shown.lines().filter(|line| line.contains(" work arg0=0x")).count();
    assert!(hits > 0 && hits < 2000, "{hits} lines in about two seconds");
    assert!(shown.contains("… dropped ") && shown.contains("use -o FILE"), "{shown}");
    // Exactly so many lines were asked for: then none is dropped.
    target.ask("run");
    let exact = ["trace", "--max-hits", "1000", &probe(&program, "work"), "-p", &pid];
    let shown = need!(on_terminal(&exact));
    assert_eq!(target.ask("stop").number("bad"), 0);
    assert_eq!(shown.lines().filter(|line| line.contains(" work arg0=0x")).count(), 1000);
    assert!(!shown.contains("dropped"), "{shown}");
    target.finish();
}

/// Reading a large file takes a while: a terminal sees how far it is, a pipe sees nothing of it.
#[test]
fn progress_of_long_work() {
    let Some(library) = large_library() else { tests::skip!("no library of 100 MB on this machine") };
    let program = need!(Program::new("dl.c").flag("-ldl").build());
    let arguments = |probe: &str| {
        ["stat", probe, "--", "sh", "-c"].iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()
    };
    let mut arguments = arguments(&format!("{library}:rust_eh_personality"));
    arguments.push(format!("echo load {library} | {}", program.display()));
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let shown = need!(on_terminal(&words));
    assert!(shown.contains("reading librustc_driver"), "{shown}");
    let report = Session::start(words).wait();
    assert!(!report.errors.contains("reading") && !report.errors.contains('\x1b'), "{}", report.errors);
}

/// The compiler's own library, where the toolchain that builds the tests has it.
fn large_library() -> Option<String> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let folder = std::path::PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()).join("lib");
    let mut files = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let library = files.find(|path| path.to_string_lossy().contains("librustc_driver"))?;
    (std::fs::metadata(&library).ok()?.len() > 100 << 20).then(|| library.display().to_string())
}

/// In a file (or a pipe) nothing stands before the end, but intervals, where they were asked for: they add up.
#[test]
fn nothing_before_the_end() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["1"]);
    let mut session = Session::stat(&[&probe(&program, "work")], target.pid());
    session.wait_armed(&Watch::on(&target, &["work"]));
    target.ask("calls 100");
    assert_eq!(session.results(), "");
    session.end().assert_clean();

    let (work, pid) = (probe(&program, "work"), target.pid().to_string());
    let mut session = Session::start(["stat", "--interval", "20ms", &work, "-p", &pid]);
    session.wait_armed(&Watch::on(&target, &["work"]));
    target.ask("calls 100");
    wait_for("an interval", || session.results().contains("interval").then_some(()));
    target.ask("calls 23");
    let report = session.end();
    report.assert_clean();
    let deltas: u64 = report.of_type("interval").map(|line| line["hits"].as_u64().unwrap()).sum();
    assert_eq!((deltas, report.hits("work")), (123, 123), "{report:?}");
    target.finish();
}

/// The table for people, in a file: sorted, cut where asked for, silence explained.
#[test]
fn a_table_in_a_file() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["1"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("table");
    let (work, neighbour, tiny) =
        (probe(&program, "work"), probe(&program, "neighbour"), probe(&program, "tiny"));
    let elsewhere = probe(&need!(Program::new("libplug.c").library("libplug.so").build()), "plug_inner");
    let pid = target.pid().to_string();
    let mut command = xol(["stat", "--top", "2", "-o", &file.to_string_lossy()]);
    command.args([&work, &neighbour, &tiny, &elsewhere, "-p", &pid]);
    let errors = std::fs::File::create(folder.path().join("errors")).unwrap();
    let watch = Watch::on(&target, &["work", "neighbour", "tiny"]);
    let mut running = Process::spawn(command.stderr(errors));
    wait_for("the probes", || watch.is_armed().then_some(()));
    target.ask("calls 1234");
    tests::send(running.child_id(), tests::Signal::Interrupt);
    assert!(running.wait().success());
    let table = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].contains("HITS") && lines[0].contains("HOW") && lines[0].ends_with("PROBE"), "{table}");
    assert!(lines[1].starts_with("1,234 ") && lines[1].ends_with(":neighbour"), "{table}");
    assert!(lines[2].ends_with(":work") && lines[3].contains("sites more"), "{table}");
    let errors = std::fs::read_to_string(folder.path().join("errors")).unwrap();
    assert!(errors.contains("never called, or inlined"), "{errors}");
    assert!(errors.contains(&format!("{elsewhere}; its file is not mapped")), "{errors}");
    target.finish();
}
