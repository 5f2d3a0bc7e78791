//! 32-bit processes, traced by the 64-bit xol: what is particular about them. The other modules' programs run as such with
//! `XOL_TEST_ISA=i386`.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use tests::{
    Process, Program, Report, Session, Signal, Watch, children_of, maps, need, read_memory, send, skip,
    tracer_of, wait_for, xol,
};

use crate::probes::{borrowed, probe};

fn work() -> Result<PathBuf, String> {
    Program::work().i386().build()
}

fn bare() -> Result<PathBuf, String> {
    Program::new("bare.S").flag("-nostdlib").flag("-static").flag("-no-pie").i386().build()
}

/// Whether a program is one of 64 bits unless it is asked to be another.
pub(crate) fn programs_of_64_bits() -> Result<(), String> {
    match std::env::var_os("XOL_TEST_ISA") {
        None => Ok(()),
        Some(_) => Err("XOL_TEST_ISA makes every program one of 32 bits".to_owned()),
    }
}

/// Runs the program without a C library under `verb`, which has it tick so many times.
fn ticks(verb: &str, program: &std::path::Path) -> (u64, Report) {
    let tick = probe(program, "tick");
    let mut session = Session::start([verb, &tick, "--", &program.to_string_lossy()]);
    assert_eq!(session.process.hear().word, "ready");
    for _ in 0..10 {
        session.process.tell("123456789"); // and the end of the line
    }
    session.process.close_stdin();
    assert_eq!(session.process.hear().word, "over");
    (100, session.wait())
}

/// A load through a segment register that names nothing faults, in the stub: the hit counts all the same, in the first
/// shard, and an event has no slot.
#[test]
fn a_thread_without_a_thread_pointer() {
    let program = need!(bare());
    let tick = probe(&program, "tick");
    let (calls, report) = ticks("stat", &program);
    report.assert_clean();
    assert_eq!((report.hits(&tick), report.lost(&tick)), (calls, 0), "{report:?}");
    assert_eq!(report.mechanism(&tick), "jump");
    let (calls, report) = ticks("trace", &program);
    assert!(report.status.success() && report.traced().is_empty(), "{report:?}");
    assert_eq!(report.summary()["hits"], calls, "{report:?}");
    assert_eq!(report.summary()["lost"], calls, "{report:?}");
}

/// Its arguments are on the stack, behind the return address.
#[test]
fn arguments_of_an_event() {
    let program = need!(work());
    let mut target = Process::start(&program, &["1"]);
    let mut session = Session::trace(&[&probe(&program, "work")], target.pid());
    session.wait_armed(&Watch::on(&target, &["work"]));
    assert_eq!(target.ask("calls 100").number("bad"), 0);
    let report = session.end();
    report.assert_clean();
    let lines = report.traced();
    assert_eq!(lines.len(), 100, "{report:?}");
    for (number, line) in lines.into_iter().enumerate() {
        for argument in ["arg0", "arg1"] {
            assert_eq!(line["args"][argument], format!("{number:#x}"), "{line}");
        }
    }
    target.finish();
}

/// Whoever arrives inside a jump at a byte that only the kernel may run is sent on; so is one whose fault the program waits for.
#[test]
fn boundaries_that_halt() {
    let program = need!(Program::new("i386/halted.c").source("work.S").flag("-no-pie").i386().build());
    let mut target = Process::start(&program, &[]);
    let mut session = Session::stat(&[&probe(&program, "work")], target.pid());
    session.wait_armed(&Watch::on(&target, &["work"]));
    let byte = read_memory(target.pid(), target.address("work") + 4, 1).expect("text")[0];
    assert!([0xf4, 0xfa, 0xfb].contains(&byte), "{byte:#x} is to be hlt, cli or sti");
    let answer = target.ask("interiors 500");
    assert_eq!((answer.number("work"), answer.number("bad")), (500, 0));
    let report = session.end();
    report.assert_clean();
    assert_eq!(report.hits("work"), 500, "those that came in behind the site are none of its");
    assert_eq!(target.ask("interiors 10").number("bad"), 0);
    target.finish();
}

/// The text of arguments and environment, above the stack, looks like addresses of such a process: it keeps nothing mapped.
#[test]
fn text_that_looks_like_an_address() {
    let program = need!(work());
    let mut target = Process::start(&program, &["1"]);
    let pid = target.pid();
    let mut session = Session::stat(&[&probe(&program, "work")], pid);
    session.wait_armed(&Watch::on(&target, &["work"]));
    let regions = maps(pid);
    let code = regions.iter().find(|region| region.is_xol() && region.permissions == "r-xp").expect("code");
    let stack = regions.iter().find(|region| region.path == "[stack]").expect("a stack");
    let memory = OpenOptions::new().write(true).open(format!("/proc/{pid}/mem"));
    let Ok(memory) = memory else { skip!("the memory of a child may not be written") };
    let lies = u32::try_from(code.range.start + 0x10).expect("an address").to_le_bytes().repeat(8);
    memory.write_all_at(&lies, stack.range.end - 64).expect("the end of the environment");
    // A thread makes a last call for xol once the jump is written; then all sleep in their own again.
    let sleeps = || tests::status_field(pid, "State").filter(|state| state.starts_with('S'));
    wait_for("the end of arming", sleeps);
    assert_eq!(target.ask("calls 10").number("bad"), 0);
    // Whoever takes it out later knows no stub: any address in the area counts.
    let front = session.process.child_id();
    let holder = *children_of(front).first().expect("the holder");
    assert!(send(front, Signal::Stop) && send(holder, Signal::Kill) && send(front, Signal::Kill));
    drop(session);
    wait_for("the end of the holder", || tracer_of(pid).is_none().then_some(()));
    let detached = Report::of(&mut xol(["detach", "-p", &pid.to_string()]));
    assert!(detached.status.success(), "{detached:?}");
    assert!(!maps(pid).iter().any(tests::Region::is_xol), "{detached:?}");
    assert_eq!(target.ask("calls 10").number("bad"), 0);
    target.finish();
}

/// A counter has 64 bits, which a 32-bit program adds to in halves.
#[test]
fn a_count_beyond_32_bits() {
    let program = need!(work());
    let mut target = Process::start(&program, &["1"]);
    let mut session = Session::stat(&[&probe(&program, "work")], target.pid());
    session.wait_armed(&Watch::on(&target, &["work"]));
    target.ask("calls 12345");
    // As if there had been four billion more.
    let state = maps(target.pid()).into_iter().find(|region| region.is_xol() && region.permissions == "rw-s");
    let range = state.expect("a shared state").range;
    let len = usize::try_from(range.end - range.start).expect("a length");
    let words = read_memory(target.pid(), range.start, len).expect("the state");
    let is_counter = |word: &[u8]| u64::from_le_bytes(word.try_into().expect("8 bytes")) == 12345;
    let found: Vec<_> = words.chunks_exact(8).enumerate().filter(|(_, word)| is_counter(word)).collect();
    let [(index, _)] = found[..] else { panic!("{} words look like the counter", found.len()) };
    let memory = OpenOptions::new().write(true).open(format!("/proc/{}/mem", target.pid()));
    let Ok(memory) = memory else { skip!("the memory of a child may not be written") };
    let before = u64::from(u32::MAX) - 2;
    memory.write_all_at(&before.to_le_bytes(), range.start + 8 * index as u64).expect("the counter");
    assert_eq!(target.ask("calls 7").number("bad"), 0);
    let report = session.end();
    report.assert_clean();
    assert_eq!(report.hits("work"), before + 7);
    target.finish();
}

/// Probes follow a process into programs of the other class and back.
#[test]
fn executing_the_other_class() {
    need!(programs_of_64_bits());
    let relay = Program::new("relay.c").source("work.S");
    let (long, short) = (need!(relay.build()), need!(relay.clone().i386().build()));
    let (in_long, in_short) = (probe(&long, "work"), probe(&short, "work"));
    let (long, short) = (long.to_string_lossy(), short.to_string_lossy());
    for chain in [[&long, &short, &long, &short], [&short, &long, &short, &long]] {
        let mut arguments = vec!["stat", "-f", &in_long, &in_short, "--"];
        arguments.extend(chain.iter().map(|program| program.as_ref()));
        let report = Session::start(&arguments).wait();
        report.assert_clean();
        assert_eq!((report.sum(&in_long, "hits"), report.sum(&in_short, "hits")), (20, 20), "{report:?}");
        assert_eq!(report.summary()["lost"], 0, "{report:?}");
    }
}

/// The kernel shows a thread by its code segment: one that is in the other class's is not understood, and the process is left
/// alone until it is back.
#[test]
fn a_64_bit_process_in_a_32_bit_segment() {
    need!(programs_of_64_bits());
    let program = Program::new("segment.c").source("work.S").flag("-no-pie");
    let program = need!(program.build());
    let mut target = Process::start(&program, &[]);
    let pid = target.pid().to_string();
    let work = probe(&program, "work");
    assert_eq!(target.ask("enter").word, "inside");
    for verb in ["stat", "trace"] {
        let report = Session::start([verb, &work, "-p", &pid]).wait();
        report.assert_error(1, &["64-bit process", "32-bit code segment"]);
    }
    assert_eq!(target.ask("calls 100").number("bad"), 0);
    assert_eq!(target.ask("leave").word, "outside");
    let mut session = Session::stat(&[&work], target.pid());
    session.wait_armed(&Watch::on(&target, &["work"]));
    target.ask("calls 100");
    // What goes there while it is probed is let alone; xol waits until it can take the probes out.
    let report = session.end();
    report.assert_clean();
    assert_eq!(report.hits(&work), 100);
    target.finish();
}

/// Of 4 GiB the program keeps a large piece, whatever is probed: stubs of puns would cut all of it up.
#[test]
fn the_address_space_stays_in_large_pieces() {
    let program = Program::new("insns.c").source("insns.S").flag("-DPUN").flag("-static").i386();
    let program = need!(program.build());
    let mut target = Process::start(&program, &[]);
    let before = largest_gap(target.pid());
    let names = target.ready.fields.keys().filter(|key| key.starts_with("site_"));
    let places: Vec<_> = names.map(|name| target.address(name)).collect();
    let probes: Vec<_> = places.iter().map(|at| probe(&program, &format!("{at:#x}"))).collect();
    let mut session = Session::stat(&borrowed(&probes), target.pid());
    session.wait_armed(&Watch::at(target.pid(), &places));
    let during = largest_gap(target.pid());
    assert_eq!(target.ask("go 50").number("bad"), 0);
    let report = session.end();
    assert!(report.status.success(), "{report:?}");
    let summary = report.summary();
    assert!(summary["sites"]["pun"].as_u64() > Some(10) && summary["text_restored"] == true, "{summary}");
    assert!(during > before / 5 * 2, "{during:#x} of {before:#x}: {summary}");
    target.finish();
}

/// The longest stretch in which nothing is mapped.
fn largest_gap(pid: u32) -> u64 {
    let maps = maps(pid);
    maps.windows(2).map(|pair| pair[1].range.start - pair[0].range.end).max().expect("mappings")
}

/// The other commands take such a process and its files.
#[test]
fn other_commands() {
    let program = need!(work());
    let target = Process::start(&program, &["1"]);
    let pid = target.pid().to_string();
    let file = program.to_string_lossy();
    let listed = Report::of(&mut xol(["list", "--json", "work:neighbour", "-p", &pid]));
    assert_eq!(listed.of_type("list").count(), 1, "{listed:?}");
    let explained = Report::of(&mut xol(["explain", "--json", &probe(&program, "work"), "-p", &pid]));
    let line = explained.of_type("explain").next().expect("an explanation").clone();
    assert_eq!(line["mechanism"], "jump", "{line}");
    assert!(line["stub"].to_string().contains("%gs:"), "{line}");
    let doctor = Report::of(&mut xol(["doctor", "--json", "-p", &pid]));
    assert!(doctor.of_type("doctor").count() > 5, "{doctor:?}");
    let survey = Report::of(&mut xol(["explain", "--json", "--all", &file]));
    assert!(survey.status.success(), "{survey:?}");
    target.finish();
}
