//! Programs behind a GDB stub: gdbserver natively, qemu's for other machines. Under qemu-user nothing shows what a real processor's
//! caches would do: that part is proved by `coherence`, and its procedure is carried out here all the same.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use insn::isa::Isa;
use remote::Endpoint;
use tests::{Line, Machine, Process, Program, Report, Server, Session, need, wait_for, which, xol};

use crate::probes::{borrowed, probe};

/// xol on what a server has, with JSON.
pub(crate) fn session(server: &Server, verb: &str, probes: &[&str]) -> Session {
    session_at(&server.endpoint, verb, probes)
}

pub(crate) fn session_at(endpoint: &Endpoint, verb: &str, probes: &[&str]) -> Session {
    Session::start([&[verb], probes, &["--remote", &named(endpoint)]].concat())
}

pub(crate) fn named(endpoint: &Endpoint) -> String {
    endpoint.to_string()
}

/// xol to the end of the server's program, and what that says.
fn run(mut server: Server, verb: &str, probes: &[&str]) -> (Report, Line) {
    let report = session(&server, verb, probes).wait();
    let over = last_line(&mut server);
    server.process.wait();
    (report, over)
}

/// What the server's program says at its end.
pub(crate) fn last_line(server: &mut Server) -> Line {
    wait_for("the program's last line", || {
        let line = server.process.hear();
        (line.word == "over").then_some(line)
    })
}

pub(crate) fn counted() -> Program {
    Program::new("counted.c")
}

/// What `counted` says of itself when nobody looks.
pub(crate) fn assert_right(over: &Line, calls: u64) {
    assert_eq!(
        (over.number("calls"), over.number("hash"), over.number("bad")),
        (calls, 0x1ec8_3201, 0),
        "{over:?}"
    );
    assert_eq!(over.number("in_order"), 1);
}

/// Every instruction of the program's functions, as objdump has them: data between them are no places to probe.
pub(crate) fn instructions(objdump: &str, program: &Path, functions: &[&str]) -> Result<Vec<String>, String> {
    let objdump = which(objdump).ok_or_else(|| format!("no {objdump} on this machine"))?;
    let mut probes = Vec::new();
    for function in functions {
        let found = Report::of(&mut xol(["list", "--json", &probe(program, function)]));
        let entry = found.of_type("list").next().expect("the program has the function");
        let start = number(entry["file_address"].as_str().and_then(|text| text.strip_prefix("0x")));
        let end = start + entry["size"].as_u64().expect("a size");
        let listed = Command::new(&objdump)
            .args([
                "-d",
                "--wide",
                &format!("--start-address={start:#x}"),
                &format!("--stop-address={end:#x}"),
            ])
            .arg(program)
            .output()
            .expect("objdump runs");
        let text = String::from_utf8_lossy(&listed.stdout);
        // ADDRESS, bytes, text.
        let lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        let is_code = |line: &Vec<&str>| line.get(2).is_some_and(|text| !text.starts_with('.'));
        let addresses = lines.filter(is_code).map(|line| number(line[0].trim().strip_suffix(':')));
        let constants = constants(&text);
        let addresses = addresses.filter(|address| !constants.contains(address));
        probes.extend(addresses.map(|address| probe(program, &format!("{address:#x}"))));
    }
    assert!(!probes.is_empty(), "objdump shows nothing of {functions:?}");
    Ok(probes)
}

/// What `mov.l` and `mov.w` of sh load relative to themselves, which objdump shows as instructions: the addresses of both halves.
fn constants(text: &str) -> HashSet<u64> {
    let mut constants = HashSet::new();
    for line in text.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [_, _, mnemonic @ ("mov.l" | "mov.w"), operands, ..] = columns[..] else { continue };
        let from = operands.split_once(" <").and_then(|(from, _)| u64::from_str_radix(from, 16).ok());
        constants.extend(from.into_iter().flat_map(|from| [from, from + u64::from(mnemonic == "mov.l") * 2]));
    }
    constants
}

fn number(digits: Option<&str>) -> u64 {
    digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).expect("a hexadecimal number")
}

#[test]
fn threads_behind_gdbserver() {
    let program = need!(counted().build());
    let path = program.to_string_lossy().into_owned();
    let tick = probe(&program, "tick");
    let server = need!(Server::gdbserver(&[], &[&path, "200", "4"]));
    let (report, over) = run(server, "stat", &[&tick]);
    report.assert_clean();
    assert_right(&over, 800);
    assert_eq!((report.hits(&tick), report.lost(&tick)), (800, 0), "{report:?}");
    assert_eq!(report.mechanism(&tick), "trap");
    assert_eq!(report.summary()["threads"], 4, "{report:?}");
    assert!(report.summary()["hit_cost_ns"].as_u64().is_some(), "{report:?}");
}

#[test]
fn records_with_arguments_in_order() {
    let program = need!(counted().build());
    let path = program.to_string_lossy().into_owned();
    let tick = probe(&program, "tick");
    let (report, over) = run(need!(Server::gdbserver(&[], &[&path, "50"])), "trace", &[&tick]);
    report.assert_clean();
    assert_right(&over, 50);
    let hits = report.traced();
    assert_eq!(hits.len(), 50);
    for (number, hit) in hits.iter().enumerate() {
        assert_eq!(hit["args"]["arg0"], format!("{number:#x}"), "{hit}");
        assert_eq!(hit["args"]["arg1"], format!("{:#x}", 3 * number), "{hit}");
    }
    let times: Vec<u64> = hits.iter().filter_map(|hit| hit["time"].as_u64()).collect();
    assert!(times.is_sorted() && times.len() == 50, "{times:?}");
}

#[test]
fn every_instruction_behind_gdbserver() {
    let program = need!(counted().build());
    let path = program.to_string_lossy().into_owned();
    let probes = need!(instructions("objdump", &program, &["hash", "sort"]));
    let server = need!(Server::gdbserver(&[], &[&path, "2"]));
    let (report, over) = run(server, "stat", &borrowed(&probes));
    report.assert_clean();
    assert_right(&over, 2);
    let count = |first: &str| report.hits(first);
    // 64 bytes are hashed, by one call; what comes once per byte comes 64 times.
    assert!(report.of_type("stat").any(|line| line["hits"] == 64), "{report:?}");
    assert!(count(&probes[0]) >= 1);
}

/// A library is armed when the loader has it, before it is used.
#[test]
fn a_library_that_is_loaded_later() {
    let program = need!(counted().build());
    let path = program.to_string_lossy().into_owned();
    let server = need!(Server::gdbserver(&[], &[&path, "3", "3"]));
    let (report, over) = run(server, "stat", &["libc:pthread_create"]);
    report.assert_clean();
    assert_right(&over, 9);
    assert_eq!(report.hits("pthread_create"), 2, "{report:?}");
}

/// Attached to, probed, left: it runs on without probes.
#[test]
fn a_running_process_is_left_as_it_was() {
    let program = need!(Program::work().build());
    let mut target = Process::start(&program, &["2"]);
    let before = tests::read_memory(target.pid(), target.address("work"), 16).expect("its memory");
    let pid = target.pid().to_string();
    let work = probe(&program, "work");
    let server = need!(Server::gdbserver(&["--attach"], &[&pid]));
    let session = session(&server, "stat", &[&work]);
    wait_for("the breakpoint", || {
        let now = tests::read_memory(target.pid(), target.address("work"), 16).ok()?;
        (now != before).then_some(())
    });
    assert_eq!(target.ask("calls 30").number("bad"), 0);
    let report = session.end();
    report.assert_clean();
    assert_eq!(report.hits(&work), 60, "{report:?}");
    assert_eq!(tests::read_memory(target.pid(), target.address("work"), 16).expect("its memory"), before);
    assert!(tests::maps(target.pid()).iter().all(|region| !region.is_xol()));
    wait_for("the tracer's leave", || {
        tests::tracer_of(target.pid()).is_none_or(|tracer| tracer == 0).then_some(())
    });
    assert_eq!(target.ask("calls 10").number("bad"), 0);
    target.finish();
}

/// A timer's signals, while threads go in and out of slots: no handler sees an address of ours.
#[test]
fn signals_find_no_thread_in_a_slot() {
    let program = need!(counted().flag("-static").build());
    let path = program.to_string_lossy().into_owned();
    let probes = need!(instructions("objdump", &program, &["tick", "hash", "sort"]));
    let server = need!(Server::gdbserver(&[], &[&path, "20", "1", "700"]));
    let (report, over) = run(server, "stat", &borrowed(&probes));
    report.assert_clean();
    assert_right(&over, 20);
    assert_eq!(over.number("elsewhere"), 0, "{over:?}");
    assert!(over.number("alarms") > 0, "{over:?}");
}

/// Children run on without probes, whatever they call or execute.
#[test]
fn children_go_their_own_way() {
    let program = need!(Program::new("offspring.c").build());
    let path = program.to_string_lossy().into_owned();
    let tick = probe(&program, "tick");
    let (report, over) = run(need!(Server::gdbserver(&[], &[&path])), "stat", &[&tick]);
    report.assert_clean();
    assert_eq!((over.number("forked"), over.number("spawned")), (35, 0), "{over:?}");
    assert_eq!(report.hits(&tick), 5, "{report:?}");
}

#[test]
fn listed_and_explained() {
    let program = need!(counted().build());
    let path = program.to_string_lossy().into_owned();
    for (verb, wanted) in [("list", "file_address"), ("explain", "mechanism")] {
        let server = need!(Server::gdbserver(&[], &[&path]));
        let report = Report::of(&mut xol([
            verb,
            "--json",
            &probe(&program, "hash"),
            "--remote",
            &named(&server.endpoint),
        ]));
        assert!(report.status.success(), "{report:?}");
        assert!(report.of_type(verb).all(|line| line.get(wanted).is_some()), "{report:?}");
        assert_eq!(report.of_type(verb).count(), 1, "{report:?}");
    }
}

/// What is wrong is said, and the program is none the worse.
#[test]
fn bad_input() {
    let program = need!(counted().build());
    let path = program.to_string_lossy().into_owned();
    let other = need!(Program::work().build());
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join(path.trim_start_matches('/'));
    fs::create_dir_all(inside.parent().unwrap()).unwrap();
    tests::copy(&other, &inside);
    let sysroot = folder.path().to_string_lossy().into_owned();
    let hash = probe(&program, "hash");
    let within = probe(&program, "hash+1");
    let cases: [(&[&str], &[&str]); 3] = [
        (&[&hash, "--sysroot", &sysroot], &["not the file"]),
        (&[&probe(&program, "none")], &["no symbol"]),
        (&[&within], &["inside"]),
    ];
    for (arguments, words) in cases {
        let server = need!(Server::gdbserver(&[], &[&path, "5"]));
        session(&server, "stat", arguments).wait().assert_error(1, words);
    }
    let report = Session::start(["stat", &hash, "--remote", "unix:/nonexistent"]).wait();
    report.assert_error(1, &["cannot connect"]);
    let report = Session::start(["stat", &hash, "--remote", "nowhere"]).wait();
    report.assert_error(1, &["names no remote"]);
    let report = Session::start(["stat", &hash, "--remote", "|cat"]).wait();
    report.assert_error(1, &["remote"]);
}

/// The program for a machine, and what disassembles it.
pub(crate) fn foreign(isa: Isa, flags: &[&str]) -> Result<(&'static Machine, PathBuf, String), String> {
    let machine = Machine::of(isa);
    let program = match isa {
        // qemu-user does not run its C library.
        Isa::Sh => Program::new("alone.c").machine(machine).flag("-nostdlib").flag("-lgcc"),
        // Debian has no C library of 32 bits.
        Isa::Sparc => Program::new("alone.c").machine(machine).flag("-nostdlib"),
        _ => counted().machine(machine),
    };
    let program = flags.iter().fold(program, |program, flag| program.flag(*flag)).build()?;
    Ok((machine, program, objdump_of(machine)))
}

fn objdump_of(machine: &Machine) -> String {
    format!("{}objdump", machine.compiler.strip_suffix("gcc").unwrap_or_default())
}

/// Exact counts, and every instruction of functions that compute something, with what they compute unchanged.
fn check(isa: Isa, flags: &[&str]) {
    let (machine, program, objdump) = need!(foreign(isa, flags));
    let tick = probe(&program, "tick");
    let server = need!(Server::emulated(machine, &program, &["100"]));
    let (report, over) = run(server, "trace", &[&tick]);
    report.assert_clean();
    assert_right(&over, 100);
    assert_eq!(report.summary()["hits"], 100, "{report:?}");
    assert!(report.errors.contains("emulator"), "{report:?}");
    for (number, hit) in report.traced().into_iter().enumerate() {
        assert_eq!(hit["args"]["arg0"], format!("{number:#x}"), "{hit}");
        assert_eq!(hit["args"]["arg1"], format!("{:#x}", 3 * number), "{hit}");
    }
    let probes = need!(instructions(&objdump, &program, &["hash", "sort"]));
    let server = need!(Server::emulated(machine, &program, &["2"]));
    let (report, over) = run(server, "stat", &borrowed(&probes));
    report.assert_clean();
    assert_right(&over, 2);
    assert_eq!(report.of_type("stat").count(), probes.len());
    assert!(report.of_type("stat").any(|line| line["hits"] == 64), "{report:?}");
}

#[test]
fn x86_64_under_qemu() {
    check(Isa::X86_64, &[]);
}

#[test]
fn i386_under_qemu() {
    check(Isa::I386, &[]);
}

#[test]
fn arm64_under_qemu() {
    check(Isa::Arm64, &[]);
}

#[test]
fn a32_under_qemu() {
    check(Isa::Arm, &["-marm"]);
}

#[test]
fn t32_under_qemu() {
    check(Isa::Arm, &["-mthumb"]);
}

#[test]
fn power_under_qemu() {
    check(Isa::PowerPc, &[]);
}

/// Functions are named by descriptors.
#[test]
fn power64_under_qemu() {
    check(Isa::PowerPc64, &[]);
}

/// Functions are entered at their local entries.
#[test]
fn power64_little_endian_under_qemu() {
    check(Isa::PowerPc64Le, &[]);
}

#[test]
fn riscv64_under_qemu() {
    check(Isa::RiscV64, &[]);
}

/// Its stub stops at none of our own breakpoints either; `mmap` takes its arguments in memory.
#[test]
fn s390x_under_qemu() {
    check(Isa::S390x, &[]);
}

/// Its stub stops at none of our own breakpoints, and describes no registers; branches have delay slots, and data lie in the code.
#[test]
fn sh_under_qemu() {
    check(Isa::Sh, &["-fno-jump-tables"]);
}

/// Functions are entered behind what loads gp.
#[test]
fn alpha_under_qemu() {
    check(Isa::Alpha, &[]);
}

#[test]
fn mips_under_qemu() {
    check(Isa::Mips, &[]);
}

#[test]
fn little_endian_mips_under_qemu() {
    check(Isa::MipsLe, &[]);
}

/// Which the compiler makes of its own accord for few processors only.
#[test]
fn likely_branches_of_mips_under_qemu() {
    check(Isa::MipsLe, &["-O2", "-mbranch-likely"]);
}

#[test]
fn mips64_under_qemu() {
    check(Isa::Mips64Le, &[]);
}

/// What a handler is told of a trap in a slot and of a fault in a delay slot is what it is told in place; branches by what floating
/// point has compared choose right.
#[test]
fn faults_of_mips_are_told_as_in_place() {
    for isa in [Isa::Mips, Isa::Mips64Le] {
        let machine = Machine::of(isa);
        let program = need!(Program::new("faulting.c").machine(machine).build());
        let objdump = objdump_of(machine);
        let mut probes = need!(instructions(&objdump, &program, &["trapping", "delayed"]));
        let listed = Command::new(&objdump).arg("--disassemble=between").arg(&program).output();
        let listed = String::from_utf8(listed.expect("objdump runs").stdout).expect("text");
        let branches = listed.lines().filter(|line| line.contains("\tbc1"));
        let address = |line: &str| number(line.trim().split(':').next());
        probes.extend(branches.map(|line| probe(&program, &format!("{:#x}", address(line)))));
        let server = need!(Server::emulated(machine, &program, &["3"]));
        let (report, over) = run(server, "stat", &borrowed(&probes));
        report.assert_clean();
        let seen = ["traps", "faults", "found", "bad"].map(|name| over.number(name));
        assert_eq!(seen, [3, 3, 10700, 0], "{isa:?}: {over:?}");
        assert!(report.of_type("stat").any(|line| line["hits"] == 20), "{report:?}");
    }
}

/// Its stub stops at none of our own breakpoints, and describes no registers; branches have delay slots, which some annul.
#[test]
fn sparc64_under_qemu() {
    check(Isa::Sparc64, &[]);
}

/// The same of 32 bits.
#[test]
fn sparc_under_qemu() {
    check(Isa::Sparc, &[]);
}

/// A handler finds both program counters where a fault in a slot belongs; of one in a delay slot that is between the branch, which
/// is done and is not done again, and where it goes.
#[test]
fn faults_of_sparc64_are_where_they_belong() {
    let machine = Machine::of(Isa::Sparc64);
    let program = need!(Program::new("between.c").machine(machine).build());
    let functions = ["faults_plainly", "faults_in_branch", "faults_in_call", "faults_in_return"];
    let probes = need!(instructions("sparc64-linux-gnu-objdump", &program, &functions));
    let server = need!(Server::emulated(machine, &program, &[]));
    let (report, over) = run(server, "stat", &borrowed(&probes));
    report.assert_clean();
    for (name, result, pc, npc, link) in [
        ("plain", 1001, 4, 8, 0),
        ("branch", 1002, 8, 16, 0),
        ("call", 1003, 12, 24, 8),
        // It goes back to another function.
        ("return", 1000, 12, 0, 0),
    ] {
        let found = ["", "_pc", "_npc", "_link"].map(|part| over.number(&format!("{name}{part}")));
        assert_eq!(found, [result, pc, npc, link], "{name}: {over:?}");
    }
    // What faults plainly is met again behind the handler, no branch is; `unimp` is not met at all.
    let mut hits: Vec<u64> = report.of_type("stat").map(|line| line["hits"].as_u64().unwrap()).collect();
    hits.sort_unstable();
    assert_eq!(hits, [&[0][..], &[1; 20], &[2]].concat(), "{report:?}");
}
