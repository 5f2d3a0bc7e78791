//! Displaced instructions that fault: the program sees its own addresses and registers, alive and in a core file.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Line, Process, Program, Session, Watch, maps, need, read_memory, skip, which};

use crate::core_file::CoreFile;
use crate::probes::{borrowed, probe_at};

const PLACES: [&str; 3] = ["start", "middle", "trap"];
/// Each with the function that has its instruction.
const KINDS: [(&str, &str); 6] = [
    ("read", "read"),
    ("write", "write"),
    ("wild", "read"),
    ("bus", "read"),
    ("divide", "divide"),
    ("invalid", "invalid"),
];

fn program() -> Result<PathBuf, String> {
    Program::new("faults.c").source("faults.S").build()
}

/// Where the probe goes: on the instruction itself, or in the middle of a span on the one before it.
fn site(target: &Process, place: &str, function: &str) -> u64 {
    let at_fault = if place == "trap" { "_fault" } else { "" };
    target.address(&format!("{place}_{function}{at_fault}"))
}

fn all_faults(target: &mut Process) -> Vec<(String, &'static str, Line)> {
    let pairs = PLACES.iter().flat_map(|place| KINDS.iter().map(move |(kind, _)| (*place, *kind)));
    pairs
        .map(|(place, kind)| (place.to_owned(), kind, target.ask(&format!("fault {place} {kind}"))))
        .collect()
}

/// What handlers see is what they see without probes, three times over; each time that the instruction begins is a hit.
#[test]
fn handlers_see_the_original() {
    let program = need!(program());
    let mut target = Process::start(&program, &[]);
    let unprobed = all_faults(&mut target);
    let functions = ["read", "write", "divide", "invalid"];
    let sites: Vec<_> =
        PLACES.iter().flat_map(|place| functions.map(|function| (*place, function))).collect();
    let addresses: Vec<_> = sites.iter().map(|(place, function)| site(&target, place, function)).collect();
    let probes: Vec<_> = addresses.iter().map(|at| probe_at(&target, &program, *at)).collect();
    let mut session = Session::stat(&borrowed(&probes), target.pid());
    session.wait_armed(&Watch::at(target.pid(), &addresses));
    let probed = all_faults(&mut target);
    let report = session.end();
    report.assert_clean();
    for ((place, kind, before), (.., now)) in unprobed.iter().zip(&probed) {
        assert_eq!((before.number("faults"), before.number("same")), (3, 1), "{place} {kind}: {before:?}");
        assert_eq!(before.fields, now.fields, "{place} {kind}");
    }
    for ((place, function), probe) in sites.iter().zip(&probes) {
        let kinds = KINDS.iter().filter(|(_, with)| with == function).count() as u64;
        let begins = match (*place, *function) {
            ("middle", _) => 1, // the probe is on the instruction before
            (_, "invalid") => 3,
            _ => 4,
        };
        assert_eq!(report.hits(probe), kinds * begins, "{place} {function}: {report:?}");
        // Behind `ud2` nothing goes on: alone it is too short for a jump.
        if (*place, *function) != ("start", "invalid") {
            let wanted = if *place == "trap" { "trap" } else { "jump" };
            assert_eq!(report.mechanism(probe), wanted, "{place} {function}: {report:?}");
        }
    }
    for ((place, kind, before), (.., now)) in unprobed.iter().zip(all_faults(&mut target)) {
        assert_eq!(before.fields, now.fields, "{place} {kind}, afterwards");
    }
    target.finish();
}

/// A program in a folder of its own, into which the kernel writes its core file.
fn start_in(folder: &Path, program: &Path) -> Process {
    let mut command = Command::new(program);
    Process::of_command(command.current_dir(folder))
}

/// Why no core file can be expected, if so.
fn no_core_files() -> Option<String> {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let is_plain = !pattern.starts_with('|') && !pattern.contains('/') && !pattern.trim().is_empty();
    if !is_plain {
        return Some(format!("core files go elsewhere: core_pattern is {}", pattern.trim()));
    }
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = limits.lines().find(|line| line.starts_with("Max core file size"))?;
    let is_unlimited = limit.split_whitespace().nth(5) == Some("unlimited");
    (!is_unlimited).then(|| format!("core files are limited here: {limit}"))
}

/// The one file in a folder.
fn core_in(folder: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(folder).expect("our folder").flatten().map(|entry| entry.path());
    files.next().expect("a core file")
}

/// Rax, rbx, rcx, rdx, rsi, rbp, r8 to r15: as faults.c sets them.
const SET: [(usize, u64); 14] = [
    (10, 0x1111),
    (5, 0x2222),
    (11, 1),
    (12, 0),
    (13, 0),
    (4, 0x7777),
    (9, 0x8888),
    (8, 0x9999),
    (7, 0xaaaa),
    (6, 0xbbbb),
    (3, 0xcccc),
    (2, 0xdddd),
    (1, 0xeeee),
    (0, 0xffff),
];
const RIP: usize = 16;

/// The end by default: by the right signal, and a core file with the original PC and registers, and the stub.
#[test]
fn core_files_show_the_original() {
    let program = need!(program());
    if let Some(why) = no_core_files() {
        skip!("{why}");
    }
    let signals = [libc::SIGSEGV, libc::SIGSEGV, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];
    for (&(kind, function), signal) in KINDS.iter().zip(signals) {
        for place in PLACES {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut target = start_in(folder.path(), &program);
            let at = site(&target, place, function);
            let mut session = Session::stat(&[&probe_at(&target, &program, at)], target.pid());
            session.wait_armed(&Watch::at(target.pid(), &[at]));
            let areas: Vec<_> = maps(target.pid()).into_iter().filter(tests::Region::is_xol).collect();
            let code: Vec<_> = areas
                .iter()
                .filter(|area| area.permissions == "r-xp")
                .map(|area| {
                    let len = usize::try_from(area.range.end - area.range.start).unwrap();
                    (area.range.start, read_memory(target.pid(), area.range.start, len).expect("code"))
                })
                .collect();
            assert!(!code.is_empty(), "the area is named: {areas:x?}");
            target.tell(&format!("die {place} {kind}"));
            let status = target.wait();
            let report = session.wait();
            assert!(report.status.success(), "{place} {kind}: {report:?}");
            assert_eq!(report.summary()["hits"], 1, "{place} {kind}: {report:?}");
            assert_eq!(
                (status.signal(), status.core_dumped()),
                (Some(signal), true),
                "{place} {kind}: {status:?}"
            );
            let path = core_in(folder.path());
            let core = CoreFile::read(&path);
            let fault = target.address(&format!("{place}_{function}_fault"));
            assert_eq!(core.signal(), signal, "{place} {kind}");
            assert_eq!(core.register(RIP), fault, "{place} {kind}");
            for (register, value) in SET {
                assert_eq!(core.register(register), value, "{place} {kind}: register {register}");
            }
            for (at, bytes) in &code {
                assert!(bytes.iter().any(|byte| *byte != 0), "something is in the area");
                assert_eq!(core.memory(*at, bytes.len()), Some(bytes.as_slice()), "the area at {at:#x}");
            }
            if place == "middle" {
                shown_by_gdb(&program, &path, fault, code[0].0);
            }
        }
    }
}

/// The debugger finds the function in which the program died, and code in the area.
fn shown_by_gdb(program: &Path, core: &Path, fault: u64, area: u64) {
    if which("gdb").is_none() {
        eprintln!("skipped: no gdb on this machine");
        return;
    }
    let commands = ["info symbol $pc".to_owned(), "p/x $pc".to_owned(), format!("x/2i {area:#x}")];
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch"]);
    for command in &commands {
        gdb.args(["-ex", command]);
    }
    let output = gdb.arg(program).arg(core).output().expect("gdb runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("middle_"), "{said}");
    assert!(said.contains(&format!("{fault:#x}")), "{said}");
    assert!(said.contains(&format!("{area:#x}:\t")), "{said}");
}
