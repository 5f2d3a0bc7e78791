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

fn environment(shard_by: ShardBy, thread_by: ThreadBy, shards: u32) -> Environment {
    let layout = Layout::new(Sizing { probes: 100, shards, threads: 256, rings: 4, records: 1024 });
    Environment { isa: Isa::X86_64, layout, state: Address(0x7eee_0000_0000), shard_by, thread_by }
}

/// `lea (%rdi,%rdi,2), %rax; add %rsi, %rax`, or with a `ret` behind.
fn patch(dead: Dead, with_ret: bool) -> Patch {
    let mut codes: Vec<&[u8]> = vec![&[0x48, 0x8d, 0x04, 0x7f], &[0x48, 0x01, 0xf0]];
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
    Patch {
        start: SITE,
        mechanism: Mechanism::Jump,
        overwritten: vec![0x48, 0x8d, 0x04, 0x7f, 0x48],
        displaced,
        island: None,
    }
}

fn stub(environment: &Environment, patch: &Patch, actions: &[Action]) -> String {
    let routines = Routines::assemble(environment, ROUTINES);
    let at_site = |address| if address == SITE { actions.to_vec() } else { Vec::new() };
    render(&Stub::assemble(environment, &routines, patch, &at_site, STUB).unwrap())
}

fn render(stub: &Stub) -> String {
    let mut notes: Vec<(u32, String)> = Vec::new();
    notes.extend(stub.entries.iter().map(|entry| (entry.1, format!("entry of {}", entry.0))));
    notes.extend(stub.points.iter().map(|point| (point.offset, format!("state of {}", point.original))));
    notes.extend(stub.exits.iter().map(|exit| match exit.to {
        Destination::Fixed(to) => (exit.offset, format!("exit to {to}")),
        Destination::Computed => (exit.offset, "exit, computed".to_owned()),
    }));
    notes.extend(stub.recoveries.iter().map(|&(from, to)| (from, format!("may fault, goes on at +{to:#x}"))));
    listing(stub.at, &stub.bytes, &notes)
}

fn render_routines(routines: &Routines) -> String {
    let mut notes = vec![(routines.event, "event".to_owned())];
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
    listing(routines.at, &routines.bytes, &notes)
}

fn listing(at: Address, bytes: &[u8], notes: &[(u32, String)]) -> String {
    let mut out = String::new();
    for (address, bytes, text) in insn::disassemble(Isa::X86_64, at, bytes) {
        let offset = u32::try_from(address - at).unwrap();
        for (_, note) in notes.iter().filter(|note| note.0 == offset) {
            writeln!(out, "; {note}").unwrap();
        }
        writeln!(out, "{offset:4x}  {:<30}  {text}", insn::plan::hex(&bytes)).unwrap();
    }
    out
}

/// Compares with the golden of this name, or writes it.
fn check(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("goldens/x86_64").join(format!("{name}.txt"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(actual == expected, "{name} differs from its golden (BLESS=1 writes it anew):\n{actual}");
}

const COUNT: Action = Action::Count { probe: 3 };
const EVENT: Action = Action::Event { probe: 5 };

/// rax, r10, r11 and the flags, as at many function entries.
const DEAD: Dead = Dead { registers: Registers(0xc01), flags: true };

#[test]
fn counts() {
    let live = patch(Dead::default(), false);
    let by_pointer = environment(ShardBy::ThreadPointer, ThreadBy::ThreadPointer, 64);
    let by_cpu = environment(ShardBy::Cpu, ThreadBy::ThreadPointer, 64);
    let shared = environment(ShardBy::Shared, ThreadBy::ThreadPointer, 64);
    check("count_thread_pointer", &stub(&by_pointer, &live, &[COUNT]));
    check("count_cpu", &stub(&by_cpu, &live, &[COUNT]));
    check("count_shared", &stub(&shared, &live, &[COUNT]));
    check("count_twice", &stub(&by_pointer, &live, &[COUNT, Action::Count { probe: 90 }]));
    check("count_all_dead", &stub(&by_pointer, &patch(DEAD, false), &[COUNT]));
    let flags_live = Dead { flags: false, ..DEAD };
    check("count_registers_dead", &stub(&by_pointer, &patch(flags_live, false), &[COUNT]));
    check(
        "count_flags_dead",
        &stub(&by_pointer, &patch(Dead { flags: true, ..Dead::default() }, false), &[COUNT]),
    );
    check("count_ret", &stub(&by_pointer, &patch(DEAD, true), &[COUNT]));
}

#[test]
fn events() {
    let environment = environment(ShardBy::ThreadPointer, ThreadBy::ThreadPointer, 64);
    check("event", &stub(&environment, &patch(Dead::default(), false), &[EVENT]));
    check("event_flags_dead", &stub(&environment, &patch(DEAD, false), &[EVENT]));
    check("event_and_counts", &stub(&environment, &patch(DEAD, false), &[COUNT, EVENT, COUNT, EVENT]));
}

#[test]
fn nothing() {
    let environment = environment(ShardBy::ThreadPointer, ThreadBy::ThreadPointer, 64);
    check("nothing", &stub(&environment, &patch(DEAD, false), &[]));
}

#[test]
fn routines() {
    for (name, thread_by) in [("thread_pointer", ThreadBy::ThreadPointer), ("base", ThreadBy::Base)] {
        let environment = environment(ShardBy::Cpu, thread_by, 64);
        check(&format!("routines_{name}"), &render_routines(&Routines::assemble(&environment, ROUTINES)));
    }
}
