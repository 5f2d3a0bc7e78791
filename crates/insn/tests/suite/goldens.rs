//! Golden files `goldens/ISA/*.insn`: instructions in, their analysis and their displaced forms out.
//!
//! A line `insn ADDRESS: BYTES` is input, lines that begin with `;` are remarks, and lines that begin with `>` are what
//! the crate says. `plan SITES ADDRESS: BYTES` is input too: a function, and the offsets of its sites, with commas; what
//! comes out are the patches. `BLESS=1 cargo test -p insn` writes the latter anew: read the difference before it is committed.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

use insn::code::{Code, Outline};
use insn::place::{Demand, Room, island_bytes, patch_bytes};
use insn::plan::{Mechanism, hex};
use insn::relocate::{Destination, Moved, relocate};
use insn::set::Analysis;
use insn::{Address, Isa, disassemble, inspect};

/// Where the displaced form lies, seen from the original.
const DISTANCE: u64 = 0x1000_0000;

pub(crate) fn parse(line: &str) -> Option<(Address, Vec<u8>)> {
    let (address, bytes) = line.strip_prefix("insn 0x")?.split_once(": ")?;
    let bytes = bytes.split(' ').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>();
    Some((Address(u64::from_str_radix(address, 16).ok()?), bytes.ok()?))
}

/// The sites, and the function.
fn parse_plan(line: &str) -> Option<(Vec<Address>, Address, Vec<u8>)> {
    let (sites, function) = line.strip_prefix("plan ")?.split_once(' ')?;
    let (start, bytes) = parse(&format!("insn {function}"))?;
    let sites =
        sites.split(',').map(|offset| Some(start + offset.parse::<u64>().ok()?)).collect::<Option<_>>()?;
    Some((sites, start, bytes))
}

/// Each patch: what it changes, with its stub at a place that fits, and what it displaces.
fn patches(isa: Isa, out: &mut String, sites: &[Address], start: Address, bytes: &[u8]) {
    let code = [Code { start, bytes }];
    let outline = Outline { functions: vec![start..start + bytes.len() as u64], ..Outline::default() };
    let free = vec![Address(0x6000_0000)..Address(0x6800_0000)];
    let plan = Analysis::new(isa, &code, &outline, false, &mut |_| {}).plan(sites, &HashMap::new(), &free);
    assert!(plan.refused.is_empty(), "{:?}", plan.refused);
    let mut room = Room { free, areas: Vec::new(), mappings: usize::MAX };
    for patch in &plan.patches {
        let stub = room.place(isa, &[Demand { patch, size: 64 }]).remove(0).expect("a place");
        let written = patch_bytes(isa, patch, stub).unwrap();
        writeln!(
            out,
            "> {} {:?}: {} -> {}",
            patch.start,
            patch.mechanism,
            hex(&patch.overwritten),
            hex(&written)
        )
        .unwrap();
        if let Some(island) = &patch.island {
            let written = island_bytes(isa, patch, stub).unwrap();
            writeln!(out, "> {} island: {} -> {}", island.at, hex(&island.overwritten), hex(&written))
                .unwrap();
        }
        for insn in &patch.displaced {
            writeln!(out, "> displaces{}", if insn.is_site { ", with a probe" } else { "" }).unwrap();
            listing(isa, out, insn.address, &insn.bytes);
        }
    }
}

fn listing(isa: Isa, out: &mut String, at: Address, bytes: &[u8]) {
    for (address, bytes, text) in disassemble(isa, at, bytes) {
        writeln!(out, ">   {address}  {:<30} {text}", hex(&bytes)).unwrap();
    }
}

/// Code first, then the aligned literal that a moved call of x86-64 has behind its branch.
fn describe(isa: Isa, out: &mut String, original: Address, bytes: &[u8]) {
    let instruction = &disassemble(isa, original, bytes)[0].2;
    writeln!(out, "> {instruction}").unwrap();
    analysis(isa, out, original, bytes);
    let at = original + DISTANCE;
    let moved = match relocate(isa, original, bytes, at) {
        Ok(moved) => moved,
        Err(reason) => return writeln!(out, "> refused: {reason}").unwrap(),
    };
    let code = code_len(isa, &moved, at);
    listing(isa, out, at, &moved.bytes[..code]);
    if code < moved.bytes.len() {
        let is_aligned = |offset: &usize| (at + *offset as u64).0.is_multiple_of(8);
        let quad = (code..code + 8).find(is_aligned).unwrap();
        let literal = u64::from_le_bytes(moved.bytes[quad..quad + 8].try_into().unwrap());
        writeln!(out, ">   {}  .quad {literal:#x}", at + quad as u64).unwrap();
    }
    state(out, &moved);
}

/// How control goes on, and what nobody reads again before it: what it overwrites itself, for behind it all is alive.
fn analysis(isa: Isa, out: &mut String, at: Address, bytes: &[u8]) {
    let Some(insn) = inspect(isa, at, bytes) else { return };
    let marks = [
        (insn.is_landing_pad, ", a landing pad"),
        (insn.is_return, ", a return"),
        (insn.is_padding, ", used as padding"),
    ];
    let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, text)| *text).collect();
    writeln!(out, "> flow: {:?}{marks}", insn.flow).unwrap();
    let code = [Code { start: at, bytes }];
    let outline = Outline { functions: vec![at..at + bytes.len() as u64], ..Outline::default() };
    let plan = Analysis::new(isa, &code, &outline, false, &mut |_| {}).plan(
        &[at],
        &HashMap::from([(at, Mechanism::Trap)]),
        &[at.span(1 << 30)],
    );
    let Some(dead) = plan.patches.first().map(|patch| patch.displaced[0].dead) else { return };
    let registers = (0..16).filter(|register| dead.registers.contains(*register));
    let names =
        registers.map(|register| name(isa, register as usize)).chain(dead.flags.then(|| "flags".to_owned()));
    let names: Vec<String> = names.collect();
    if !names.is_empty() {
        writeln!(out, "> dead before: {}", names.join(", ")).unwrap();
    }
}

/// A general register by its encoding number.
fn name(isa: Isa, register: usize) -> String {
    match isa {
        Isa::I386 => NAMES[register].replacen('r', "e", 1),
        _ => NAMES[register].to_owned(),
    }
}

/// Those of 64 bits.
const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

/// Bytes of a displaced form that run: in front of the literal of a call.
pub(crate) fn code_len(isa: Isa, moved: &Moved, at: Address) -> usize {
    if isa != Isa::X86_64 || moved.points.iter().all(|point| point.sp_shift == 0) {
        return moved.bytes.len();
    }
    let branch = moved.exits[0].offset as usize;
    branch + insn::instruction_len(isa, at + branch as u64, &moved.bytes[branch..]).unwrap()
}

fn state(out: &mut String, moved: &Moved) {
    for point in &moved.points {
        let behind = if point.behind_syscall { ", behind the system call" } else { "" };
        writeln!(out, "> at +{}: ({}, sp{:+}){behind}", point.offset, point.original, point.sp_shift)
            .unwrap();
    }
    for exit in &moved.exits {
        let to = match exit.to {
            Destination::Fixed(to) => to.to_string(),
            Destination::Computed => "computed".to_owned(),
        };
        writeln!(out, "> exit +{}: {to}", exit.offset).unwrap();
    }
    writeln!(out, "> {}", if moved.falls_through { "falls through" } else { "ends" }).unwrap();
}

/// The recorded text with what is said of each input now: `answer` says it of a line, if that is input.
pub(crate) fn render(text: &str, answer: impl Fn(&mut String, &str) -> Option<()>) -> String {
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.starts_with('>')) {
        writeln!(out, "{line}").unwrap();
        if answer(&mut out, line).is_none() {
            assert!(line.is_empty() || line.starts_with(';'), "neither input nor remark: {line}");
        }
    }
    out
}

/// Compares the files of an ISA whose names end so, at least one, with what is rendered of them.
pub(crate) fn check_files(isa: Isa, extension: &str, render: impl Fn(&str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens").join(isa.abi().name);
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    assert!(!files.is_empty(), "no golden file of {}", isa.abi().name);
    let bless = std::env::var_os("BLESS").is_some();
    for file in files {
        let recorded = std::fs::read_to_string(&file).unwrap();
        let rendered = render(&recorded);
        if bless {
            std::fs::write(&file, rendered).unwrap();
        } else {
            assert!(rendered == recorded, "{} differs; it is now:\n{rendered}", file.display());
        }
    }
}

fn check(isa: Isa) {
    let answer = |out: &mut String, line: &str| {
        if let Some((sites, start, bytes)) = parse_plan(line) {
            patches(isa, out, &sites, start, &bytes);
        } else {
            let (at, bytes) = parse(line)?;
            describe(isa, out, at, &bytes);
        }
        Some(())
    };
    check_files(isa, "insn", |text| render(text, answer));
}

#[test]
fn displaced_forms_of_x86_64_are_as_recorded() {
    check(Isa::X86_64);
}

#[test]
fn displaced_forms_of_i386_are_as_recorded() {
    check(Isa::I386);
}
