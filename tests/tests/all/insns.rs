//! Each kind of instruction, displaced: short ones right before a branch target, where only a breakpoint fits, a jump
//! that begins earlier or one that ends in what is behind, and longer ones by a jump. The program compares results, registers, flags and addresses itself.

use std::collections::BTreeSet;
use std::path::Path;

use tests::{Process, Program, Report, Session, Snapshot, Watch, maps, need, rounds, skip};

use crate::probes::{borrowed, probe, probe_at};

/// The names that the program lists in its first line.
fn names(target: &Process) -> Vec<String> {
    target.ready.fields.keys().filter_map(|key| key.strip_prefix("site_")).map(str::to_owned).collect()
}

fn address(target: &Process, name: &str) -> u64 {
    target.address(&format!("site_{name}"))
}

/// Probes every listed instruction, runs all, and compares every count.
fn check_all(verb: &str, program: Program, spell: impl Fn(&Process, &Path, &str) -> String) {
    let (is_earlier, is_punned) = (program.has_flag(EARLIER), program.has_flag(PUN));
    let program = need!(program.build());
    let mut target = Process::start(&program, &[]);
    let before = Snapshot::of(target.pid());
    let names = names(&target);
    let places: Vec<_> = names.iter().map(|name| address(&target, name)).collect();
    let watch = Watch::at(target.pid(), &places);
    let probes: Vec<_> = names.iter().map(|name| spell(&target, &program, name)).collect();
    let pid = target.pid().to_string();
    let mut session = Session::start([&[verb], &borrowed(&probes)[..], &["-p", &pid]].concat());
    session.wait_armed(&watch);
    let calls = rounds(200, 5_000);
    let answer = target.ask(&format!("go {calls}"));
    let report = session.end();
    assert_eq!(answer.number("bad"), 0, "{answer:?}");
    report.assert_clean();
    let canonical = canonical(&probes, &pid);
    for ((name, probe), canonical) in names.iter().zip(&probes).zip(&canonical) {
        let wanted = calls * target.ready.number(&format!("per_{name}"));
        let hits = if verb == "stat" { counted(&report, probe) } else { traced_or_lost(&report, canonical) };
        assert_eq!(hits, wanted, "{name}, {probe}: {:?}", report.summary());
    }
    before.assert_unchanged(target.pid());
    assert_eq!(target.ask("go 100").number("bad"), 0);
    target.finish();
    match verb {
        "stat" if is_earlier => assert_earlier(&report, &names, &probes),
        "stat" => assert_mechanisms(&report, &names, &probes, is_punned),
        _ => {}
    }
}

/// The program with these flags.
fn insns(flags: &[&str]) -> Program {
    flags.iter().fold(Program::new("insns.c").source("insns.S"), |program, flag| program.flag(*flag))
}

/// Leaves out of the program what keeps a jump from beginning before a short instruction.
const EARLIER: &str = "-DEARLIER";

/// Leaves out of the program what keeps a jump from ending in the instructions behind a short one.
const PUN: &str = "-DPUN";

/// The canonical names of probes, which trace uses.
fn canonical(probes: &[String], pid: &str) -> Vec<String> {
    let report =
        Session::start([&["stat", "--duration", "1ms"], &borrowed(probes)[..], &["-p", pid]].concat()).wait();
    let name = |probe: &String| {
        let line = report.of_type("stat").find(|line| line["spec"] == probe.as_str());
        let line = line.unwrap_or_else(|| panic!("no line of {probe}: {report:?}"));
        line["probe"].as_str().expect("a name").to_owned()
    };
    probes.iter().map(name).collect()
}

fn counted(report: &Report, probe: &str) -> u64 {
    assert_eq!(report.lost(probe), 0, "{report:?}");
    report.hits(probe)
}

fn traced_or_lost(report: &Report, canonical: &str) -> u64 {
    let lines = report.of_type("hit").filter(|line| line["probe"] == canonical).count() as u64;
    let lost = report.of_type("lost").filter(|line| line["probe"] == canonical);
    lines + lost.map(|line| line["count"].as_u64().expect("a count")).sum::<u64>()
}

/// Of these names the ones that the program has: some instructions are of one ISA.
fn known<'a>(names: &'a [String], of: &'a [&str]) -> impl Iterator<Item = &'a str> {
    of.iter().copied().filter(|name| names.iter().any(|known| known == name))
}

/// Those that an earlier jump serves, and those that none can: at the start of a function, or right behind a target.
fn assert_earlier(report: &Report, names: &[String], probes: &[String]) {
    let of = |name: &str| {
        let (_, probe) = names.iter().zip(probes).find(|(known, _)| *known == name).expect("a known name");
        report.mechanism(probe)
    };
    let early = [
        "ret", "call_reg", "jmp_reg", "syscall", "leave", "loop", "jcc", "pushf", "rep_movs", "cpuid", "daa",
    ];
    for name in known(names, &early) {
        assert_eq!(of(name), "jump", "{name}");
    }
    for name in ["push", "push_rsp"] {
        assert_eq!(of(name), "trap", "{name}");
    }
}

/// The point of the program is that the mechanisms are used: breakpoints, or puns, where a branch target is right behind.
fn assert_mechanisms(report: &Report, names: &[String], probes: &[String], punned: bool) {
    let by = |wanted: &str| -> BTreeSet<_> {
        let used = names.iter().zip(probes).filter(|(_, probe)| report.mechanism(probe) == wanted);
        used.map(|(name, _)| name.as_str()).collect()
    };
    let (mut traps, mut puns) = (by("trap"), by("pun"));
    if punned {
        assert!(puns.len() > 10, "{puns:?}");
        traps.append(&mut puns);
    }
    let short = [
        "loop", "jrcxz", "jecxz", "jcxz", "rep_movs", "pushf", "popf", "pusha", "syscall", "ret", "call_reg",
        "jcc", "push_rsp",
    ];
    for name in
        known(names, &short).filter(|name| *name != "jecxz" || names.iter().all(|other| other != "jrcxz"))
    {
        assert!(traps.contains(name), "{name} was to be a breakpoint: {traps:?}");
    }
    let jumps = by("jump");
    let long = [
        "call_rel", "call_rip", "call_gs", "jmp_rip", "jmp_far", "jcc_near", "rip_load", "rip_add", "fs",
        "gs", "lock",
    ];
    for name in known(names, &long) {
        assert!(jumps.contains(name), "{name} was to be a jump: {jumps:?}");
    }
    assert_eq!(traps.len() + puns.len() + jumps.len(), names.len(), "{report:?}");
}

fn by_symbol(target: &Process, program: &Path, name: &str) -> String {
    if name == "ret_imm" {
        return probe_at(target, program, address(target, name)); // inside a local function
    }
    let offset = address(target, name) - target.address(&format!("fn_{name}"));
    probe(program, &format!("insn_{name}+{offset:#x}"))
}

#[test]
fn counted_by_symbol() {
    check_all("stat", insns(&[]), by_symbol);
}

#[test]
fn counted_by_address() {
    check_all("stat", insns(&[]), |target, program, name| probe_at(target, program, address(target, name)));
}

#[test]
fn counted_at_a_fixed_position() {
    check_all("stat", insns(&["-no-pie"]), |target, program, name| {
        probe(program, &format!("{:#x}", address(target, name)))
    });
}

#[test]
fn counted_by_puns() {
    check_all("stat", insns(&[PUN]), |target, program, name| {
        probe_at(target, program, address(target, name))
    });
}

#[test]
fn counted_by_puns_at_a_fixed_position() {
    check_all("stat", insns(&[PUN, "-no-pie"]), |target, program, name| {
        probe(program, &format!("{:#x}", address(target, name)))
    });
}

#[test]
fn traced_by_puns() {
    check_all("trace", insns(&[PUN]), by_symbol);
}

/// A program may have so many mappings only, and stubs of puns take one each: what is beyond half of them is a breakpoint.
#[test]
fn puns_beyond_the_mappings_are_breakpoints() {
    const LEFT: u64 = 20;
    let program = Program::new("insns.c").source("insns.S").source("few_mappings.c").flag(PUN);
    let program = need!(program.flag(format!("-DMAPPINGS_LEFT={LEFT}")).build());
    let mut target = need!(Process::start_if_possible(&program, &[]));
    let names = names(&target);
    let places: Vec<_> = names.iter().map(|name| address(&target, name)).collect();
    let probes: Vec<_> = places.iter().map(|at| probe_at(&target, &program, *at)).collect();
    let watch = Watch::at(target.pid(), &places);
    let mut session = Session::stat(&borrowed(&probes), target.pid());
    session.wait_armed(&watch);
    assert_eq!(target.ask("go 100").number("bad"), 0);
    let ours = maps(target.pid()).iter().filter(|region| region.is_xol()).count() as u64;
    let report = session.end();
    report.assert_clean();
    for (name, probe) in names.iter().zip(&probes) {
        assert_eq!(report.hits(probe), 100 * target.ready.number(&format!("per_{name}")), "{name}");
    }
    let summary = report.summary();
    let number = |field: &str| summary[field].as_u64().expect("a number");
    assert!(number("mappings") <= LEFT / 2 + 2, "{summary}");
    assert_eq!(number("mappings"), ours, "{summary}");
    assert!(number("pages") > 5 && number("resident") > 4096 * number("pages"), "{summary}");
    let sites = &summary["sites"];
    assert!(sites["pun"].as_u64() > Some(5) && sites["trap"].as_u64() > Some(5), "{summary}");
    let reasons = report.of_type("stat").filter_map(|line| line["reason"].as_str());
    let reasons: Vec<_> = reasons.filter(|reason| reason.ends_with("(mappings)")).collect();
    assert!(reasons.len() > 5 && reasons.len() as u64 <= sites["trap"].as_u64().unwrap(), "{report:?}");
    target.finish();
}

#[test]
fn counted_by_earlier_jumps() {
    check_all("stat", insns(&[EARLIER]), |target, program, name| {
        probe_at(target, program, address(target, name))
    });
}

#[test]
fn counted_by_earlier_jumps_at_a_fixed_position() {
    check_all("stat", insns(&[EARLIER, "-no-pie"]), |target, program, name| {
        probe(program, &format!("{:#x}", address(target, name)))
    });
}

#[test]
fn traced_by_earlier_jumps() {
    check_all("trace", insns(&[EARLIER]), by_symbol);
}

#[test]
fn traced() {
    check_all("trace", insns(&[]), |target, program, name| probe_at(target, program, address(target, name)));
}

/// Every instruction of every function of the program at once.
#[test]
fn every_instruction() {
    every_instruction_of(insns(&[]));
}

#[test]
fn every_instruction_with_earlier_jumps() {
    every_instruction_of(insns(&[EARLIER]));
}

/// The same in a 32-bit process.
#[test]
fn i386_counted() {
    check_all("stat", insns(&[]).i386(), by_symbol);
    check_all("stat", insns(&["-static"]).i386(), |target, program, name| {
        probe(program, &format!("{:#x}", address(target, name)))
    });
}

#[test]
fn i386_counted_by_earlier_jumps() {
    check_all("stat", insns(&[EARLIER]).i386(), |target, program, name| {
        probe_at(target, program, address(target, name))
    });
}

#[test]
fn i386_counted_by_puns() {
    check_all("stat", insns(&[PUN]).i386(), |target, program, name| {
        probe_at(target, program, address(target, name))
    });
}

#[test]
fn i386_traced() {
    check_all("trace", insns(&[]).i386(), by_symbol);
}

#[test]
fn i386_every_instruction() {
    every_instruction_of(insns(&[]).i386());
    every_instruction_of(insns(&[EARLIER]).i386());
}

fn every_instruction_of(program: Program) {
    let program = need!(program.build());
    let mut target = Process::start(&program, &[]);
    let before = Snapshot::of(target.pid());
    let probes: Vec<_> = names(&target)
        .iter()
        .flat_map(|name| instructions(&program, &format!("insn_{name}")))
        .map(|at| probe(&program, &format!("{at:#x}")))
        .collect();
    assert!(probes.len() > 200, "{} instructions", probes.len());
    let entries: Vec<_> = names(&target).iter().map(|name| target.address(&format!("fn_{name}"))).collect();
    let watch = Watch::at(target.pid(), &entries);
    let mut session = Session::stat(&borrowed(&probes), target.pid());
    session.wait_armed(&watch);
    let answer = target.ask("go 50");
    let report = session.end();
    assert_eq!(answer.number("bad"), 0, "{answer:?}");
    report.assert_clean();
    for name in names(&target) {
        let entry = probe_at(&target, &program, target.address(&format!("fn_{name}")));
        let times = if target.address(&format!("fn_{name}")) == address(&target, &name) {
            target.ready.number(&format!("per_{name}"))
        } else {
            1
        };
        assert_eq!(report.hits(&entry), 50 * times, "{name}: {report:?}");
    }
    before.assert_unchanged(target.pid());
    target.finish();
}

/// File addresses of the instructions of one function, by objdump.
fn instructions(program: &Path, function: &str) -> Vec<u64> {
    let mut objdump = std::process::Command::new("objdump");
    let listing = objdump
        .arg("-d")
        .arg(format!("--disassemble={function}"))
        .arg(program)
        .output()
        .expect("objdump runs");
    let text = String::from_utf8_lossy(&listing.stdout).into_owned();
    let lines = text.lines().filter(|line| line.split('\t').count() == 3);
    lines.filter_map(|line| u64::from_str_radix(line.split(':').next()?.trim(), 16).ok()).collect()
}

/// `int` in 64-bit code: 32-bit system calls, which leave rcx alone and may sleep while xol comes and goes, and faults.
#[test]
fn interrupts() {
    if std::env::var_os("XOL_TEST_ISA").is_some() {
        skip!("the program is one of 64 bits");
    }
    let program = need!(Program::new("interrupts.c").build());
    let mut target = Process::start(&program, &[]);
    if target.ready.number("compat") == 0 {
        skip!("this kernel has no 32-bit system calls");
    }
    let before = Snapshot::of(target.pid());
    let places = ["site_call", "site_fault"].map(|name| target.address(name));
    let probes = places.map(|at| probe_at(&target, &program, at));
    let watch = Watch::at(target.pid(), &places);
    let calls = rounds(300, 5_000);
    let mut session = Session::stat(&borrowed(&probes), target.pid());
    session.wait_armed(&watch);
    let answer = target.ask(&format!("calls {calls}"));
    let report = session.end();
    report.assert_clean();
    let numbers = ["bad", "elsewhere", "faults"].map(|name| answer.number(name));
    assert_eq!(numbers, [0, 0, calls], "{answer:?}");
    assert_eq!(probes.each_ref().map(|probe| report.hits(probe)), [calls, calls], "{report:?}");

    let naps = rounds(20, 200);
    target.tell(&format!("naps {naps}"));
    for _ in 0..naps / 4 {
        let mut session = Session::stat(&borrowed(&probes), target.pid());
        session.wait_armed(&watch);
        session.end().assert_clean();
    }
    let answer = target.hear();
    assert_eq!(["bad", "short"].map(|name| answer.number(name)), [0, 0], "{answer:?}");
    before.assert_unchanged(target.pid());
    target.finish();
}

/// What is evicted for a short instruction does what it did, probed itself or not, and is in its place again at the end.
#[test]
fn a_neighbour_makes_room() {
    makes_room(Program::new("crowded_in.c").source("crowded_in.S"));
}

#[test]
fn i386_a_neighbour_makes_room() {
    makes_room(Program::new("crowded_in.c").source("crowded_in.S").i386());
}

fn makes_room(program: Program) {
    let program = need!(program.build());
    for with_neighbour in [false, true] {
        let mut target = Process::start(&program, &[]);
        let before = Snapshot::of(target.pid());
        let (site, neighbour) = (target.address("site"), target.address("neighbour"));
        // The whole run that may be evicted, and its last instruction, which holds the island.
        let places = if with_neighbour { vec![site, neighbour, neighbour + 8] } else { vec![site] };
        let probes: Vec<_> = places.iter().map(|at| probe_at(&target, &program, *at)).collect();
        let mut session = Session::stat(&borrowed(&probes), target.pid());
        session.wait_armed(&Watch::at(target.pid(), &places));
        let calls = 8 * rounds(100, 2_000);
        assert_eq!(target.ask(&format!("go {calls}")).number("bad"), 0);
        let report = session.end();
        report.assert_clean();
        let wanted = [calls, calls / 8 * (1..=8).sum::<u64>(), calls / 8 * (0..8).sum::<u64>()];
        for (probe, wanted) in probes.iter().zip(wanted) {
            assert_eq!(report.hits(probe), wanted, "{probe}: {:?}", report.summary());
        }
        assert_eq!(report.mechanism(&probes[0]), "pun", "{report:?}");
        assert!(probes[1..].iter().all(|probe| report.mechanism(probe) == "jump"), "{report:?}");
        before.assert_unchanged(target.pid());
        assert_eq!(target.ask("go 100").number("bad"), 0);
        target.finish();
    }
}
