//! Bad input: a clear error, nothing changed in the target.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::{
    Process, Program, Report, Session, Signal, Snapshot, Watch, copy, is_root, need, rounds, send, skip,
    status_field, text_changes, wait_for, xol, xol_binary,
};

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

/// Constants between functions, whose symbols have no type, as those of OpenSSL's assembly: no pattern means them, and they are
/// refused by name.
#[test]
fn data_in_text() {
    let program = need!(Program::new("constants.c").source("constants.S").build());
    let mut target = Process::start(&program, &[]);
    let watch = Watch::on(&target, &["mix", "mix_key", "mix_table"]);
    let pid = target.pid().to_string();
    for name in ["mix_key", "mix_table", "mix_*"] {
        refused(&["stat", &probe(&program, name), "-p", &pid], 1, &["mix_", "no type"]);
        assert!(watch.is_restored(), "{name} left something");
    }
    let mut session = Session::stat(&[&probe(&program, "mix*")], target.pid());
    session.wait_armed(&Watch::on(&target, &["mix"]));
    assert!(Watch::on(&target, &["mix_key", "mix_table"]).is_restored());
    assert_eq!(target.ask("calls 1000").number("bad"), 0);
    let report = session.end();
    report.assert_clean();
    assert_eq!(report.hits(&probe(&program, "mix")), 1000);
    assert!(watch.is_restored());
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

/// The program was replaced after it was started, as by an upgrade: what runs is probed, and one line says so.
#[test]
fn a_file_that_was_replaced() {
    let program = need!(Program::work().build());
    for upgraded in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("work");
        copy(&program, &file);
        let mut target = Process::start(&file, &["1"]);
        fs::remove_file(&file).unwrap();
        if upgraded {
            copy(Path::new("/bin/true"), &file);
        }
        let mut session = Session::stat(&[&probe(&file, "work")], target.pid());
        session.wait_armed(&Watch::on(&target, &["work"]));
        assert_eq!(target.ask("calls 1234").number("bad"), 0);
        let report = session.end();
        report.assert_clean();
        assert_eq!((report.hits("work"), report.lost("work")), (1234, 0), "{report:?}");
        let notices = report.errors.lines().filter(|line| line.contains("analysed from memory"));
        assert_eq!(notices.count(), 1, "{}", report.errors);
        target.finish();
    }
}

/// The same of a library, which an ordinary user can only find in memory: its exported names are there.
#[test]
fn a_library_that_was_deleted() {
    let library = need!(Program::new("libplug.c").library("libplug.so").build());
    let program = need!(Program::new("dl.c").flag("-ldl").build());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("libplug.so");
    copy(&library, &file);
    let mut target = Process::start(&program, &[]);
    let inner = target.ask(&format!("load {}", file.display())).number("inner");
    fs::remove_file(&file).unwrap();
    let mut session = Session::stat(&["libplug:plug_inner"], target.pid());
    session.wait_armed(&Watch::at(target.pid(), &[inner]));
    assert_eq!(target.ask("calls 1234").number("bad"), 0);
    let report = session.end();
    report.assert_clean();
    assert_eq!(report.hits("plug_inner"), 1234, "{report:?}");
    assert!(report.errors.contains("analysed from memory"), "{}", report.errors);
    target.finish();
}

/// Text that may be probed, or not, by what is mapped there; in every case the program goes on as it was.
#[test]
fn text_in_mappings_of_other_kinds() {
    for (mode, word) in [
        ("shared", Some("is mapped shared")),
        ("writable", Some("is writable")),
        ("anonymous", Some("is no file's")),
        ("patched", Some("live bytes differ")),
        ("sealed", None),
    ] {
        let program = need!(Program::new("mappings.c").build());
        check_mapping(&program, mode, word);
    }
}

#[test]
fn text_in_huge_pages() {
    let program = Program::new("mappings.c").flag("-DREGION=0x200000").flag("-Wl,-z,max-page-size=0x200000");
    check_mapping(&need!(program.build()), "huge", Some("huge pages"));
}

fn check_mapping(program: &Path, mode: &str, word: Option<&str>) {
    let mut target = need!(Process::start_if_possible(program, &[mode]));
    let before = Snapshot::of(target.pid());
    let (exact, pattern) = (probe(program, "victim"), probe(program, "victi?"));
    let pid = target.pid().to_string();
    let Some(word) = word else {
        let mut session = Session::stat(&[&exact], target.pid());
        session.wait_armed(&Watch::on(&target, &["victim"]));
        target.ask("calls 321");
        let report = session.end();
        report.assert_clean();
        assert_eq!(report.hits("victim"), 321, "{mode}: {report:?}");
        before.assert_unchanged(target.pid());
        return target.finish();
    };
    refused(&["stat", &exact, "-p", &pid, "--duration", "1ms"], 1, &[word, "victim"]);
    // Of a pattern the refused are listed, and that is no failure.
    let report = Report::of(&mut xol(["stat", "--json", &pattern, "-p", &pid, "--duration", "1ms"]));
    report.assert_clean();
    assert_eq!(report.mechanism("victim"), "refused", "{mode}: {report:?}");
    let reason = report.stats("victim").next().unwrap()["reason"].as_str().unwrap();
    assert!(reason.contains(word), "{mode}: {reason}");
    assert_eq!(report.summary()["sites"]["refused"], 1);
    // `explain` knows it too.
    let report = Report::of(&mut xol(["explain", "--json", &exact, "-p", &pid]));
    let explained = report.of_type("explain").next().unwrap();
    assert_eq!(explained["mechanism"], "refused", "{mode}: {explained}");
    assert_eq!(target.ask("calls 100").number("bad"), 0);
    before.assert_unchanged(target.pid());
    target.finish();
}

/// Nothing is free within reach of the program's text; its libraries lie elsewhere.
#[test]
fn no_room_within_reach() {
    let program = need!(Program::new("crowded.c").build());
    let mut target = Process::start(&program, &[]);
    let pid = target.pid().to_string();
    let victim = probe(&program, "victim");
    refused(&["stat", &victim, "-p", &pid], 1, &["no free address", "within reach"]);
    let report = Report::of(&mut xol([
        "stat",
        "--json",
        &probe(&program, "victi?"),
        "libc:malloc",
        "-p",
        &pid,
        "--duration",
        "1ms",
    ]));
    report.assert_clean();
    assert_eq!(report.mechanism("victim"), "refused");
    assert_ne!(report.mechanism("malloc"), "refused", "{report:?}");
    assert_eq!(target.ask("calls 100").number("bad"), 0);
    target.finish();
}

#[test]
fn a_program_of_another_machine() {
    let program = need!(Program::work().build());
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("foreign");
    let mut bytes = fs::read(&program).unwrap();
    bytes[18] = 183; // e_machine: EM_AARCH64
    fs::write(&foreign, bytes).unwrap(); // is never executed
    let mut target = Process::start(&program, &["1"]);
    let pid = target.pid().to_string();
    refused(&["stat", &probe(&foreign, "work"), "-p", &pid], 1, &["not supported yet"]);
    assert_eq!(target.ask("calls 10").number("bad"), 0);
    target.finish();
}

#[test]
fn a_thread_of_the_kernel() {
    // 2 is kthreadd, where it can be seen: not in a container.
    if fs::read_to_string("/proc/2/comm").unwrap_or_default().trim() != "kthreadd" {
        skip!("no thread of the kernel in sight");
    }
    if !is_root() {
        refused(&["stat", "libc:malloc", "-p", "2"], 1, &["2"]);
        return;
    }
    refused(&["stat", "libc:malloc", "-p", "2"], 1, &["a thread of the kernel"]);
}

/// Not permitted: each way says what would permit it. As root, xol is run as somebody else for it.
#[test]
fn processes_of_others() {
    let program = need!(Program::new("undumpable.c").build());
    let mut target = Process::start(&program, &[]);
    let pid = target.pid().to_string();
    let (mut before, words): (Vec<&str>, _) = match is_root() {
        true => (vec!["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], "belongs to user 0"),
        false => (vec![], "not dumpable"),
    };
    let binary = xol_binary();
    before.push(binary.to_str().unwrap());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(before[0]);
        command.args(&before[1..]).args(arguments);
        command
    };
    if !run(&["--version"]).output().is_ok_and(|output| output.status.success()) {
        skip!("{before:?} does not run");
    }
    for verb in ["stat", "trace", "explain"] {
        let report = Report::of(&mut run(&[verb, "libc:malloc", "-p", &pid]));
        report.assert_error(1, &["not permitted", words, "CAP_SYS_PTRACE"]);
    }
    Report::of(&mut run(&["list", "-p", &pid])).assert_error(1, &["not permitted", words, "CAP_SYS_PTRACE"]);
    Report::of(&mut run(&["detach", "-p", &pid])).assert_error(1, &["not permitted", words]);
    assert_eq!(target.ask("x").word, "alive");
    target.finish();
}

/// Names of places that are no functions, and of functions with an odd symbol.
#[test]
fn names_of_odd_kinds() {
    let program = need!(Program::new("names.c").source("names.S").build());
    let mut target = Process::start(&program, &[]);
    let pid = target.pid().to_string();
    let at = |name: &str| probe(&program, name);
    for (spec, words) in [
        (at("odd_object"), ["odd_object", "data"]),
        (at("odd_functoin"), ["odd_functoin", "odd_function"]),
        (at("odd_sizeless+4"), ["odd_sizeless", "inside the instruction"]),
        ("[vdso]:clock_gettime".to_owned(), ["[vdso]", "kernel"]),
        ("*:odd_nowhere".to_owned(), ["none of the", "odd_nowhere"]),
    ] {
        refused(&["stat", &spec, "-p", &pid], 1, &words);
    }
    // An alias, a function of unknown size, and a pattern over both: two places, each name counted.
    let (function, alias, sizeless) = (at("odd_function"), at("odd_alias"), at("odd_sizeless"));
    let pattern = at("odd_*");
    let mut session = Session::stat(&[&function, &alias, &sizeless, &pattern], target.pid());
    session.wait_armed(&Watch::on(&target, &["odd_function", "odd_sizeless"]));
    target.ask("calls 250");
    let report = session.end();
    report.assert_clean();
    let hits: Vec<_> = report.of_type("stat").map(|line| line["hits"].as_u64().unwrap()).collect();
    assert_eq!(hits, [250; 5], "{report:?}");
    let places: BTreeSet<_> = report.of_type("stat").map(|line| line["address"].to_string()).collect();
    assert_eq!(places.len(), 2, "{report:?}");
    target.finish();
}

/// A process that ends at any moment of an attachment: a clean session or one clear word, and its own exit status.
#[test]
fn processes_that_end_while_xol_attaches() {
    for round in 0..20_u64 {
        let mut child = Command::new("sleep").arg(format!("0.{:03}", 1 + round * 15)).spawn().unwrap();
        let pid = child.id().to_string();
        let report = Report::of(&mut xol(["stat", "--json", "libc:m*", "-p", &pid]));
        match report.status.code() {
            Some(0) => report.assert_clean(),
            _ => report.assert_error(1, &[&pid]),
        }
        assert!(
            report.status.success()
                || report.errors.contains("ended")
                || report.errors.contains("no process"),
            "{}",
            report.errors
        );
        assert!(child.wait().unwrap().success());
    }
}

/// An exact place of a command's own library that is refused: known only when it is mapped, and an error all the same.
#[test]
fn a_refused_place_in_a_command() {
    let line = Report::of(&mut xol(["explain", "--json", "libc:getpid"]));
    let first = line.of_type("explain").next().unwrap()["displaced"][0]["bytes"].as_str().unwrap().len();
    assert!(first > 2, "getpid begins with an instruction of one byte");
    let report = Session::start(["stat", "libc:getpid+1", "--", "sh", "-c", "exit 7"]).wait();
    report.assert_error(1, &["inside the instruction", "goes on without probes"]);
}

/// `-- CMD`: xol's end is the command's; probes go when the time is up, and the command is waited for.
#[test]
fn the_status_of_a_command() {
    for (script, status) in [("exit 7", 7), ("kill -9 $$", 137), ("exit 0", 0)] {
        let report = Session::start(["stat", "libc:malloc", "--", "sh", "-c", script]).wait();
        assert_eq!(report.status.code(), Some(status), "{script}: {}", report.errors);
        assert_eq!(report.summary()["text_restored"], true);
    }
    for limit in [["--duration", "1ms"], ["--max-hits", "1"]] {
        let command = ["libc:malloc", "--", "sh", "-c", "ls / >&2; read x; exit 5"];
        let mut session = Session::start([&["stat"], &limit[..], &command].concat());
        wait_for("the results", || session.results().contains("summary").then_some(()));
        session.process.assert_running();
        session.process.close_stdin();
        let report = session.wait();
        assert_eq!(report.status.code(), Some(5), "{}", report.errors);
        assert_eq!(report.summary()["text_restored"], true);
    }
}

/// The first signal removes and prints, and xol waits for its command; the second ends xol at once. The command goes on.
#[test]
fn two_signals_with_a_command() {
    let program = need!(Program::work().build());
    let mut session =
        Session::start(["stat", &probe(&program, "work"), "--", &program.to_string_lossy(), "1"]);
    session.process.wait_ready();
    let target = session.process.pid();
    let xol = session.process.child_id();
    assert_eq!(session.process.ask("calls 10").number("bad"), 0);
    send(xol, Signal::Interrupt);
    wait_for("the results", || session.results().contains("summary").then_some(()));
    assert_eq!(session.process.ask("calls 10").number("bad"), 0);
    session.process.assert_running();
    send(xol, Signal::Interrupt);
    assert_eq!(session.process.wait().code(), Some(130));
    assert_eq!(text_changes(target), [0_u64; 0]);
    assert_eq!(session.process.ask("calls 10").number("bad"), 0, "the command goes on");
    let report = session.wait();
    assert_eq!(report.hits("work"), 10, "{report:?}");
}

/// A reader who closes the pipe: probes out, no complaint, no failure.
#[test]
fn a_closed_pipe() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["2"]);
    let watch = Watch::on(&target, &["work"]);
    target.ask("run");
    let (work, pid) = (probe(&program, "work"), target.pid().to_string());
    for arguments in [
        &["trace", &work, "-p", &pid][..],
        &["trace", "--json", &work, "-p", &pid],
        &["stat", "--interval", "20ms", &work, "-p", &pid],
    ] {
        let mut command = xol(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        drop(output);
        let status = wait_for("the end of xol", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{arguments:?}");
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        // What is true whoever reads it: losses, and that the function is hot.
        let is_expected = |line: &&str| line.starts_with("lost ") || line.contains("times a second");
        let complaints = said.lines().filter(|line| !is_expected(line));
        assert_eq!(complaints.count(), 0, "{said}");
        assert!(watch.is_restored());
    }
    assert_eq!(target.ask("stop").number("bad"), 0);
    target.finish();
}

/// A signal while xol still reads and plans: nothing was touched, or everything is out again.
#[test]
fn signals_at_any_moment() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["2"]);
    let watch = Watch::on(&target, &["work"]);
    let before = Snapshot::of(target.pid());
    target.ask("run");
    let signals = [Signal::Interrupt, Signal::Terminate, Signal::HangUp];
    for round in 0..rounds(12, 300) {
        let mut session = Session::stat(&[&probe(&program, "work"), "libc:*"], target.pid());
        // xol has caught the signals; from there on, in steps, to some time after it has armed.
        let ready = Instant::now();
        let own = session.process.child_id();
        wait_for("xol's handlers", || catches_signals(own).then_some(()));
        while ready.elapsed() < Duration::from_millis(round * 25 % 400) && session.process.ended().is_none() {
            std::hint::spin_loop();
        }
        let signal = signals[usize::try_from(round).unwrap() % signals.len()];
        let report = session.end_by(signal);
        match report.status.code() {
            Some(0) => report.assert_clean(),
            _ => report.assert_error(1, &["interrupted before the probes were armed"]),
        }
        assert!(watch.is_restored(), "{round}: {report:?}");
    }
    assert_eq!(target.ask("stop").number("bad"), 0);
    before.assert_unchanged(target.pid());
    target.finish();
}

/// SIGHUP, SIGINT and SIGTERM are signals 1, 2 and 15.
fn catches_signals(pid: u32) -> bool {
    let caught = status_field(pid, "SigCgt").and_then(|text| u64::from_str_radix(&text, 16).ok());
    const WANTED: u64 = 1 | 1 << 1 | 1 << 14;
    caught.is_some_and(|caught| caught & WANTED == WANTED)
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

/// A program that writes its own text while it is probed: its code is what runs, xol leaves it alone and says so. One that
/// reads its text sees the probe, and its own bytes again afterwards.
#[test]
fn a_program_that_writes_its_own_text() {
    let program = need!(Program::new("selfmade.c").build());
    let victim = probe(&program, "victim");
    let rewritten = "changed by the program while it was probed; not touched";
    let undone = "the program wrote the original bytes back while it was probed; later hits were not counted";
    for (change, count, word) in
        [("change", 1000, rewritten), ("restore", 1000, undone), ("calls 0", 2000, "")]
    {
        let mut target = Process::start(&program, &[]);
        let own = target.ask("sum").number("sum");
        let mut session = Session::stat(&[&victim], target.pid());
        session.wait_armed(&Watch::on(&target, &["victim"]));
        assert_ne!(target.ask("sum").number("sum"), own, "the jump is to be seen");
        assert_eq!(target.ask("calls 1000").number("bad"), 0);
        assert_eq!(target.ask(change).number("bad"), 0);
        assert_eq!(target.ask("calls 1000").number("bad"), 0, "after {change}");
        let report = session.end();
        report.assert_no_panic();
        assert_eq!(report.hits(&victim), count, "{change}: {report:?}");
        let warnings = report.summary()["warnings"].to_string();
        assert_eq!(warnings.len() > 2, count == 1000, "{change}: {report:?}");
        assert!(warnings.contains(word), "{change}: {report:?}");
        assert_eq!(target.ask("calls 1000").number("bad"), 0, "after {change} and removal");
        assert_eq!(target.ask("sum").number("sum") == own, change != "change");
        target.finish();
    }
}

/// A breakpoint that stands there already is somebody else's.
#[test]
fn a_probe_on_a_breakpoint() {
    let program = need!(Program::new("selfmade.c").build());
    let mut target = Process::start(&program, &[]);
    let victim = probe(&program, "victim");
    let pid = target.pid().to_string();
    target.ask("debugger");
    refused(&["stat", &victim, "-p", &pid], 1, &["live bytes differ", "cc 2a"]);
    target.ask("restore");
    let mut session = Session::stat(&[&victim], target.pid());
    session.wait_armed(&Watch::on(&target, &["victim"]));
    assert_eq!(target.ask("calls 100").number("bad"), 0);
    let report = session.end();
    report.assert_clean();
    assert_eq!(report.hits(&victim), 100);
    target.finish();
}
