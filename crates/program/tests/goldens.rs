//! Goldens: the disassembly of every kind of stub and of the routines, by an independent decoder.
//!
//! `BLESS=1 cargo test -p program --test goldens` writes them anew; read the difference before committing it.

use std::fmt::Write;
use std::path::PathBuf;

use insn::plan::{Dead, Displaced, Mechanism, Patch, Registers};
use insn::relocate::Destination;
use insn::{Address, Isa};
use program::layout::{Layout, Sizing};
use program::stub::{Action, Environment, Routines, ShardBy, Stub, ThreadBy};

const STUB: Address = Address(0x7000_0000);
const ROUTINES: Address = Address(0x7001_0000);
const SITE: Address = Address(0x6fff_0000);
const ISAS: [Isa; 2] = [Isa::X86_64, Isa::I386];

fn environment(isa: Isa, shard_by: ShardBy, thread_by: ThreadBy) -> Environment {
    let layout = Layout::new(Sizing { probes: 100, shards: 64, threads: 256, rings: 4, records: 1024 });
    let state = match isa {
        Isa::I386 => Address(0x9eee_0000),
        _ => Address(0x7eee_0000_0000),
    };
    Environment { isa, layout, state, shard_by, thread_by, red_zone: 128, prefetchw: true }
}

/// The same with the state where an instruction can name it.
fn near(isa: Isa) -> Environment {
    let far = environment(isa, ShardBy::ThreadPointer, ThreadBy::ThreadPointer);
    Environment { state: Address(0x2000_0000), ..far }
}

/// `lea (%rdi,%rdi,2), %rax; add %rsi, %rax` (on i386, of the lower halves), or with a `ret` behind.
fn patch(isa: Isa, dead: Dead, with_ret: bool) -> Patch {
    let mut codes: Vec<&[u8]> = match isa {
        Isa::I386 => vec![&[0x8d, 0x04, 0x7f], &[0x01, 0xf0]],
        _ => vec![&[0x48, 0x8d, 0x04, 0x7f], &[0x48, 0x01, 0xf0]],
    };
    let mut overwritten = codes.concat();
    overwritten.truncate(5);
    if with_ret {
        codes.push(&[0xc3]);
    }
    let mut address = SITE;
    let displaced = codes
        .into_iter()
        .map(|bytes| {
            let insn = Displaced { address, bytes: bytes.to_vec(), dead, is_site: address == SITE };
            address += bytes.len() as u64;
            insn
        })
        .collect();
    Patch { start: SITE, mechanism: Mechanism::Jump, overwritten, displaced, island: None }
}

fn stub(environment: &Environment, patch: &Patch, actions: &[Action]) -> String {
    let routines = Routines::assemble(environment, ROUTINES);
    let at_site = |address| if address == SITE { actions.to_vec() } else { Vec::new() };
    render(environment.isa, &Stub::assemble(environment, &routines, patch, &at_site, STUB).unwrap())
}

/// What runs while the program has one thread.
fn stub_alone(patch: &Patch, actions: &[Action]) -> String {
    let routines = Routines::assemble(&near(Isa::X86_64), ROUTINES);
    let at_site = |address| if address == SITE { actions.to_vec() } else { Vec::new() };
    let mut stub = Stub::assemble(&near(Isa::X86_64), &routines, patch, &at_site, STUB).unwrap();
    assert!(!stub.alone.is_empty());
    stub.bytes = stub.code(true).into_owned();
    stub.recoveries.clear();
    render(Isa::X86_64, &stub)
}

fn render(isa: Isa, stub: &Stub) -> String {
    let mut notes: Vec<(u32, String)> = Vec::new();
    notes.extend(stub.entries.iter().map(|entry| (entry.1, format!("entry of {}", entry.0))));
    notes.extend(stub.points.iter().map(|point| (point.offset, format!("state of {}", point.original))));
    notes.extend(stub.exits.iter().map(|exit| match exit.to {
        Destination::Fixed(to) => (exit.offset, format!("exit to {to}")),
        Destination::Computed => (exit.offset, "exit, computed".to_owned()),
    }));
    notes.extend(stub.recoveries.iter().map(|&(from, to)| (from, format!("may fault, goes on at +{to:#x}"))));
    listing(isa, stub.at, &stub.bytes, &notes)
}

fn render_routines(isa: Isa, routines: &Routines) -> String {
    let mut notes = vec![(routines.event, "event".to_owned())];
    if routines.event_alone != routines.event {
        notes.push((routines.event_alone, "event in a program of one thread".to_owned()));
    }
    for ask in &routines.asks {
        let (retry, give_up) = (ask.retry, ask.give_up);
        notes.push((
            ask.offset,
            format!("asks: retry +{retry:#x}, give up +{give_up:#x}, key in {}", ask.key),
        ));
    }
    notes.extend(
        routines.recoveries.iter().map(|&(from, to)| (from, format!("may fault, goes on at +{to:#x}"))),
    );
    listing(isa, routines.at, &routines.bytes, &notes)
}

fn listing(isa: Isa, at: Address, bytes: &[u8], notes: &[(u32, String)]) -> String {
    let mut out = String::new();
    for (address, bytes, text) in insn::disassemble(isa, at, bytes) {
        let offset = u32::try_from(address - at).unwrap();
        for (_, note) in notes.iter().filter(|note| note.0 == offset) {
            writeln!(out, "; {note}").unwrap();
        }
        writeln!(out, "{offset:4x}  {:<30}  {text}", insn::plan::hex(&bytes)).unwrap();
    }
    out
}

/// Compares with the golden of this name, or writes it.
fn check(isa: Isa, name: &str, actual: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("goldens").join(isa.abi().name);
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        actual == expected,
        "{isa:?}: {name} differs from its golden (BLESS=1 writes it anew):\n{actual}"
    );
}

const COUNT: Action = Action::Count { probe: 3 };
const EVENT: Action = Action::Event { probe: 5 };

/// rax, r10, r11 and the flags, as at many function entries.
const DEAD: Dead = Dead { registers: Registers(0xc01), flags: true };

#[test]
fn counts() {
    for isa in ISAS {
        let check =
            |name: &str, environment: &Environment, dead: Dead, with_ret: bool, actions: &[Action]| {
                check(isa, name, &stub(environment, &patch(isa, dead, with_ret), actions));
            };
        let live = Dead::default();
        let by_pointer = environment(isa, ShardBy::ThreadPointer, ThreadBy::ThreadPointer);
        let by_cpu = environment(isa, ShardBy::Cpu, ThreadBy::ThreadPointer);
        let shared = environment(isa, ShardBy::Shared, ThreadBy::ThreadPointer);
        check("count_thread_pointer", &by_pointer, live, false, &[COUNT]);
        check("count_cpu", &by_cpu, live, false, &[COUNT]);
        check("count_shared", &shared, live, false, &[COUNT]);
        check("count_twice", &by_pointer, live, false, &[COUNT, Action::Count { probe: 90 }]);
        check("count_all_dead", &by_pointer, DEAD, false, &[COUNT]);
        check("count_registers_dead", &by_pointer, Dead { flags: false, ..DEAD }, false, &[COUNT]);
        check("count_flags_dead", &by_pointer, Dead { flags: true, ..live }, false, &[COUNT]);
        check("count_ret", &by_pointer, DEAD, true, &[COUNT]);
    }
}

#[test]
fn counts_near() {
    let isa = Isa::X86_64;
    let live = Dead::default();
    let deads = [
        ("live", live),
        ("all_dead", DEAD),
        ("registers_dead", Dead { flags: false, ..DEAD }),
        ("flags_dead", Dead { flags: true, ..live }),
    ];
    for (name, dead) in deads {
        let patch = patch(isa, dead, false);
        check(isa, &format!("near_{name}"), &stub(&near(isa), &patch, &[COUNT]));
        check(isa, &format!("alone_{name}"), &stub_alone(&patch, &[COUNT]));
    }
    let twice = [COUNT, Action::Count { probe: 90 }];
    check(isa, "alone_twice", &stub_alone(&patch(isa, live, false), &twice));
}

#[test]
fn events() {
    for isa in ISAS {
        let environment = environment(isa, ShardBy::ThreadPointer, ThreadBy::ThreadPointer);
        let check = |name: &str, dead: Dead, actions: &[Action]| {
            check(isa, name, &stub(&environment, &patch(isa, dead, false), actions));
        };
        check("event", Dead::default(), &[EVENT]);
        check("event_flags_dead", DEAD, &[EVENT]);
        check("event_and_counts", DEAD, &[COUNT, EVENT, COUNT, EVENT]);
    }
}

#[test]
fn nothing() {
    for isa in ISAS {
        let environment = environment(isa, ShardBy::ThreadPointer, ThreadBy::ThreadPointer);
        check(isa, "nothing", &stub(&environment, &patch(isa, DEAD, false), &[]));
    }
}

#[test]
fn routines() {
    let all = [
        (Isa::X86_64, "thread_pointer", ThreadBy::ThreadPointer),
        (Isa::X86_64, "base", ThreadBy::Base),
        (Isa::I386, "thread_pointer", ThreadBy::ThreadPointer),
    ];
    for (isa, name, thread_by) in all {
        let environment = environment(isa, ShardBy::Cpu, thread_by);
        let routines = Routines::assemble(&environment, ROUTINES);
        check(isa, &format!("routines_{name}"), &render_routines(isa, &routines));
    }
}
