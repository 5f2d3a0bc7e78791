//! Stubs in front of real programs: reached in each way, lacking abilities, lying, closing, hanging. What is lacking is filtered
//! out of what a real server says.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use insn::isa::Isa;
use remote::Endpoint;
use tests::Verdict::{Answer, Bytes, Close, Endless, Pass, Swallow};
use tests::{Filter, Line, Process, Program, Report, Server, Session, Verdict, Way, need, wait_for, which};

use crate::probes::{borrowed, probe};
use crate::stepping::{assert_right, counted, foreign, instructions, last_line, named, session_at};

/// xol on a program of a server, through a filter, both to their ends.
fn filtered(
    mut server: Server,
    verb: &str,
    probes: &[&str],
    rule: impl FnMut(Way, &[u8]) -> Verdict + Send + 'static,
) -> (Report, Line) {
    let filter = Filter::before(&server, rule);
    let report = session_at(&filter.endpoint, verb, probes).wait();
    (report, last_line(&mut server))
}

/// `counted` under gdbserver.
fn server(arguments: &[&str]) -> Result<(PathBuf, Server), String> {
    let program = counted().build()?;
    let path = program.to_string_lossy().into_owned();
    let server = Server::gdbserver(&[], &[&[path.as_str()], arguments].concat())?;
    Ok((program, server))
}

/// The stub knows no breakpoints.
fn no_breakpoints(way: Way, packet: &[u8]) -> Verdict {
    match way {
        Way::There if packet.starts_with(b"Z0") || packet.starts_with(b"z0") => Answer(Vec::new()),
        _ => Pass,
    }
}

/// The stub steps nothing; a question to do so is an error.
fn no_steps(way: Way, packet: &[u8]) -> Verdict {
    match way {
        Way::Back if packet.starts_with(b"vCont;") => Answer(b"vCont;c;C".to_vec()),
        Way::There if packet.starts_with(b"vCont;s") => Answer(b"E.it cannot step".to_vec()),
        _ => Pass,
    }
}

/// The stub knows only `c` and `C` of one thread, and steps nothing.
fn no_vcont(way: Way, packet: &[u8]) -> Verdict {
    match (way, packet) {
        (Way::There, [b'v', b'C', b'o', b'n', b't', ..] | [b's' | b'S', ..]) => Answer(Vec::new()),
        _ => Pass,
    }
}

/// xol writes the breakpoints itself: every instruction of two functions, and each call of a third.
#[test]
fn a_stub_without_breakpoints() {
    let (program, server) = need!(server(&["30"]));
    let mut probes = need!(instructions("objdump", &program, &["hash", "sort"]));
    let tick = probe(&program, "tick");
    probes.push(tick.clone());
    let (report, over) = filtered(server, "stat", &borrowed(&probes), no_breakpoints);
    report.assert_clean();
    assert_right(&over, 30);
    assert_eq!(report.hits(&tick), 30, "{report:?}");
    assert!(report.of_type("stat").all(|line| line["mechanism"] == "trap"), "{report:?}");
}

#[test]
fn a_stub_without_breakpoints_and_a_program_of_threads() {
    let (program, server) = need!(server(&["50", "4"]));
    let tick = probe(&program, "tick");
    let (report, over) = filtered(server, "trace", &[&tick], no_breakpoints);
    report.assert_clean();
    assert_right(&over, 200);
    assert_eq!(report.traced().len(), 200, "{report:?}");
}

/// The loader's breakpoint is written too: a library is armed before it is used.
#[test]
fn a_stub_without_breakpoints_and_a_library_loaded_later() {
    let (_, server) = need!(server(&["3", "3"]));
    let (report, over) = filtered(server, "stat", &["libc:pthread_create"], no_breakpoints);
    report.assert_clean();
    assert_right(&over, 9);
    assert_eq!(report.hits("pthread_create"), 2, "{report:?}");
}

/// A slot ends in a breakpoint, so nothing need be stepped.
#[test]
fn a_stub_that_steps_nothing() {
    let (program, server) = need!(server(&["10", "3"]));
    let mut probes = need!(instructions("objdump", &program, &["hash", "sort"]));
    let tick = probe(&program, "tick");
    probes.push(tick.clone());
    let (report, over) = filtered(server, "stat", &borrowed(&probes), no_steps);
    report.assert_clean();
    assert_right(&over, 30);
    assert_eq!(report.hits(&tick), 30, "{report:?}");
}

#[test]
fn a_stub_without_vcont_and_steps() {
    for threads in ["1", "3"] {
        let (program, server) = need!(server(&["10", threads]));
        let probes = need!(instructions("objdump", &program, &["tick", "hash", "sort"]));
        let filter = Filter::before(&server, no_vcont);
        let mut server = server;
        let report = session_at(&filter.endpoint, "stat", &borrowed(&probes)).wait();
        report.assert_clean();
        let over = last_line(&mut server);
        assert_right(&over, 10 * threads.parse::<u64>().unwrap());
        assert_eq!(report.hits(&probes[0]), over.number("calls"), "{report:?}");
    }
}

/// The same under an emulator, for another machine.
#[test]
fn an_emulator_that_steps_nothing() {
    for (isa, rule) in [(Isa::Arm64, no_steps as fn(Way, &[u8]) -> Verdict), (Isa::RiscV64, no_vcont)] {
        let (machine, program, objdump) = need!(foreign(isa, &[]));
        let probes = need!(instructions(&objdump, &program, &["tick", "hash", "sort"]));
        let server = need!(Server::emulated(machine, &program, &["10"]));
        let (report, over) = filtered(server, "stat", &borrowed(&probes), rule);
        report.assert_clean();
        assert_right(&over, 10);
        assert_eq!(report.hits(&probes[0]), 10, "{isa:?}: {report:?}");
    }
}

/// qemu's stub writes no code either: then there is no way to probe, and the program goes on as it was.
#[test]
fn an_emulator_without_breakpoints() {
    let (machine, program, _) = need!(foreign(Isa::Arm64, &[]));
    let server = need!(Server::emulated(machine, &program, &["10"]));
    let (report, over) = filtered(server, "stat", &[&probe(&program, "tick")], no_breakpoints);
    report.assert_error(1, &["cannot write"]);
    assert_right(&over, 10);
}

/// The program's output goes elsewhere: gdbserver's own is the conversation.
#[test]
fn a_command_that_speaks_the_protocol() {
    let gdbserver = need!(which("gdbserver").ok_or("no gdbserver on this machine"));
    let program = need!(counted().build());
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let wrapper = folder.path().join("wrapper");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(&wrapper).unwrap();
    write!(file, "#!/bin/sh\nexec \"$@\" >'{}'\n", said.display()).unwrap();
    drop(file);
    let command = format!(
        "|{} --once --wrapper {} -- - {} 40 2",
        gdbserver.display(),
        wrapper.display(),
        program.display()
    );
    let tick = probe(&program, "tick");
    let report = Session::start(["stat", &tick, "--remote", &command]).wait();
    report.assert_clean();
    assert_eq!(report.hits(&tick), 80, "{report:?}");
    let text = fs::read_to_string(&said).unwrap();
    assert!(text.contains("over calls=80 ") && text.contains("hash=0x1ec83201 in_order=1 bad=0"), "{text}");
}

#[test]
fn a_server_of_many_starts_a_command() {
    let program = need!(counted().build());
    let path = program.to_string_lossy().into_owned();
    let mut server = need!(Server::gdbserver(&["--multi"], &[]));
    let tick = probe(&program, "tick");
    let report =
        Session::start(["stat", &tick, "--remote", &named(&server.endpoint), "--", &path, "60", "2"]).wait();
    report.assert_clean();
    assert_right(&last_line(&mut server), 120);
    assert_eq!(report.hits(&tick), 120, "{report:?}");
}

#[test]
fn a_server_of_many_has_neither_command_nor_process() {
    for (arguments, words) in
        [(["--", "/nowhere/at/all"], "cannot start /nowhere/at/all"), (["-p", "4194304"], "process 4194304")]
    {
        let server = need!(Server::gdbserver(&["--multi"], &[]));
        let remote = named(&server.endpoint);
        let session = [&["stat", "libc:malloc", "--remote", &remote], &arguments[..]].concat();
        Session::start(session).wait().assert_error(1, &[words]);
    }
}

#[test]
fn a_server_of_many_attaches_to_a_process() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["2"]);
    let before = tests::read_memory(target.pid(), target.address("work"), 16).expect("its memory");
    let server = need!(Server::gdbserver(&["--multi"], &[]));
    let work = probe(&program, "work");
    let pid = target.pid().to_string();
    let session = Session::start(["stat", &work, "--remote", &named(&server.endpoint), "-p", &pid]);
    wait_for("the breakpoint", || {
        let now = tests::read_memory(target.pid(), target.address("work"), 16).ok()?;
        (now != before).then_some(())
    });
    assert_eq!(target.ask("calls 20").number("bad"), 0);
    let report = session.end();
    report.assert_clean();
    assert_eq!(report.hits(&work), 40, "{report:?}");
    assert_eq!(tests::read_memory(target.pid(), target.address("work"), 16).expect("its memory"), before);
    assert_eq!(target.ask("calls 10").number("bad"), 0);
    target.finish();
}

/// Does this with the n-th stop of a thread; everything else passes.
fn at_stop(n: usize, verdict: Verdict) -> impl FnMut(Way, &[u8]) -> Verdict + Send + 'static {
    let mut stops = 0;
    move |way, packet| {
        let is_stop = way == Way::Back && packet.starts_with(b"T05");
        stops += usize::from(is_stop);
        if is_stop && stops == n { verdict.clone() } else { Pass }
    }
}

/// What comes to the answer of nothing but these questions.
fn to_questions(
    begin: &'static [u8],
    verdict: Verdict,
) -> impl FnMut(Way, &[u8]) -> Verdict + Send + 'static {
    move |way, packet| {
        if way == Way::There && packet.starts_with(begin) { verdict.clone() } else { Pass }
    }
}

/// What a session says whose probes it cannot take out any more.
fn assert_left_behind(report: &Report, why: &str) {
    report.assert_error(1, &[why, "the probes are still in the program", "SIGTRAP"]);
    assert_eq!(report.summary()["text_restored"], false, "{report:?}");
}

/// The connection breaks in the middle of a session: what was counted is given, and what is left behind is said.
#[test]
fn a_stub_that_closes_damages_or_floods() {
    let cases = [
        (Close, "closed the connection"),
        (Bytes(b"$T05thread:1;#00".to_vec()), "damaged"),
        (Endless(b'0'), "longer than"),
    ];
    for (verdict, why) in cases {
        let (program, server) = need!(server(&["1000"]));
        let tick = probe(&program, "tick");
        let filter = Filter::before(&server, at_stop(200, verdict));
        let report = session_at(&filter.endpoint, "stat", &[&tick]).wait();
        assert_left_behind(&report, why);
        assert!((1..200).contains(&report.hits(&tick)), "{report:?}");
    }
}

/// A process that runs on without the stub has the probes in it still, as was said.
#[test]
fn what_a_broken_connection_leaves_in_a_process() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["1"]);
    let before = tests::read_memory(target.pid(), target.address("work"), 16).expect("its memory");
    let mut server = need!(Server::gdbserver(&["--attach"], &[&target.pid().to_string()]));
    let work = probe(&program, "work");
    let filter = Filter::before(&server, at_stop(9, Close));
    let session = session_at(&filter.endpoint, "stat", &[&work]);
    wait_for("the breakpoint", || {
        let now = tests::read_memory(target.pid(), target.address("work"), 16).ok()?;
        (now != before).then_some(())
    });
    target.tell("calls 30");
    assert_left_behind(&session.wait(), "closed the connection");
    server.process.wait();
    let status = target.wait();
    assert_eq!(status.signal(), Some(libc::SIGTRAP), "{status:?}");
}

/// A stub that says nothing more is waited for as long as an answer may take, not for ever.
#[test]
fn a_stub_that_hangs() {
    let (program, server) = need!(server(&["1000"]));
    let mut registers = 0;
    let filter = Filter::before(&server, move |way, packet| {
        registers += usize::from(way == Way::There && packet.starts_with(b"g"));
        if registers > 20 { Swallow } else { Pass }
    });
    let report = session_at(&filter.endpoint, "stat", &[&probe(&program, "tick")]).wait();
    assert_left_behind(&report, "the remote hangs");
}

/// An answer that is none ends the session; the rest of the conversation serves to take the probes out.
#[test]
fn a_stub_that_says_nonsense_once() {
    let (program, server) = need!(server(&["100"]));
    let tick = probe(&program, "tick");
    let (report, over) = filtered(server, "stat", &[&tick], at_stop(60, Answer(b"qwerty".to_vec())));
    report.assert_clean();
    assert!(report.errors.contains("`qwerty`") && report.errors.contains("session ends"), "{report:?}");
    assert!((1..100).contains(&report.hits(&tick)), "{report:?}");
    assert_right(&over, 100);
}

/// Lies before anything is probed: xol says what is wrong, and the program runs on as it was.
#[test]
fn a_stub_that_lies() {
    let description = b"l<target><architecture>pdp11</architecture></target>";
    let cases: [(&'static [u8], Verdict, &[&str]); 6] = [
        (b"qXfer:features", Answer(description.to_vec()), &["pdp11", "not supported"]),
        (b"qXfer:features", Answer(b"l\xff".to_vec()), &["target description", "UTF-8"]),
        (b"m", Answer(b"zz".to_vec()), &["answers", "zz"]),
        (b"g", Answer(b"0123".to_vec()), &["lack"]),
        (b"?", Answer(b"W00".to_vec()), &["holds no process"]),
        (b"qXfer:exec-file", Answer(b"l/none".to_vec()), &["/none"]),
    ];
    for (begin, verdict, words) in cases {
        let (program, server) = need!(server(&["5"]));
        let filter = Filter::before(&server, to_questions(begin, verdict));
        let report = session_at(&filter.endpoint, "stat", &[&probe(&program, "tick")]).wait();
        report.assert_error(1, words);
    }
}

/// A stub that listens and says nothing, and one that ends at once.
#[test]
fn a_stub_that_never_speaks() {
    let program = need!(counted().build());
    let tick = probe(&program, "tick");
    for (command, words) in [("|exec cat >/dev/null", "hangs"), ("|exit 3", "closed the connection")] {
        Session::start(["stat", &tick, "--remote", command]).wait().assert_error(1, &[words]);
    }
}

/// A place in the middle of an instruction, or where none can begin.
#[test]
fn places_where_no_instruction_begins() {
    for (isa, flags) in [(Isa::Arm64, &[][..]), (Isa::Arm, &["-mthumb"]), (Isa::RiscV64, &[])] {
        let (machine, program, objdump) = need!(foreign(isa, flags));
        let starts = need!(instructions(&objdump, &program, &["hash"]));
        let address = |probe: &String| {
            let (_, digits) = probe.rsplit_once(":0x").expect("an address");
            u64::from_str_radix(digits, 16).expect("an address")
        };
        let addresses: Vec<u64> = starts.iter().map(address).collect();
        let long = addresses.windows(2).find(|pair| pair[1] == pair[0] + 4).expect("one of four bytes")[0];
        for within in [long + 1, long + 2] {
            let server = need!(Server::emulated(machine, &program, &["5"]));
            let place = probe(&program, &format!("{within:#x}"));
            let (report, over) = {
                let report = session_at(&server.endpoint, "stat", &[&place]).wait();
                let mut server = server;
                (report, last_line(&mut server))
            };
            report.assert_error(1, &["inside"]);
            assert_right(&over, 5);
        }
    }
}

/// A file that is not what the process runs is refused, whatever lies below the sysroot.
#[test]
fn a_sysroot_with_other_files() {
    let (machine, program, _) = need!(foreign(Isa::Arm64, &[]));
    let (_, other, _) = need!(foreign(Isa::RiscV64, &[]));
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join(program.strip_prefix("/").unwrap());
    fs::create_dir_all(inside.parent().unwrap()).unwrap();
    tests::copy(&other, &inside);
    let sysroot = folder.path().to_string_lossy().into_owned();
    let server = need!(Server::emulated(machine, &program, &["5"]));
    let tick = probe(&program, "tick");
    let endpoint: &Endpoint = &server.endpoint;
    session_at(endpoint, "stat", &[&tick, "--sysroot", &sysroot])
        .wait()
        .assert_error(1, &["and the remote's process is none"]);
}
