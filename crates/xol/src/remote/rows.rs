//! One row for each probe at each place of a remote's process.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use insn::plan::Reason;
use insn::{Address, Isa, disassemble, instruction_len};
use remote::Link;
use symbols::frames::frames;
use symbols::path;
use symbols::resolve::{Match, resolve};
use symbols::spec::{NamePattern, PathPattern};
use symbols::{Bias, FileAddress, Image, Spec, Symbols};
use target::remote::RemoteProcess;
use target::stepper::Wanted;
use target::tracee::Tracee;

use super::modules::{Module, Modules, bytes_at};
use crate::catalogue::{Binary, LookupError};

/// How a row stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its file is not loaded (any more).
    Waiting,
    /// To be armed.
    Mapped,
    /// Armed.
    Armed,
    /// It cannot be probed.
    Refused(String),
}

/// A probe at a place.
#[derive(Clone, Debug)]
pub(super) struct Row {
    wanted: usize,
    pub(super) probe: String,
    pub(super) path: PathBuf,
    pub(super) file_address: FileAddress,
    pub(super) address: Option<Address>,
    pub(super) standing: Standing,
    /// The ISA of the code there, and the file's bytes; or why it is no place to probe.
    pub(super) code: Result<(Isa, Vec<u8>), String>,
}

impl Row {
    /// Why it is not armed.
    pub(super) fn reason(&self) -> String {
        match &self.standing {
            Standing::Refused(reason) => reason.clone(),
            _ => format!("{} is not loaded yet", self.path.display()),
        }
    }
}

/// All rows; they are only ever added at the end.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) all: Vec<Row>,
    pub(super) pid: u32,
    specs: Vec<Spec>,
    typed: Vec<String>,
    /// Which specs were looked up in which files.
    known: HashSet<(usize, PathBuf)>,
}

impl Rows {
    pub(super) fn new(specs: Vec<Spec>, typed: Vec<String>) -> Self {
        Self { all: Vec::new(), pid: 0, specs, typed, known: HashSet::new() }
    }

    /// The probe that a row is of, as typed.
    pub(super) fn typed(&self, row: &Row) -> &str {
        self.typed.get(row.wanted).map_or("", String::as_str)
    }

    /// Makes rows for what is loaded now. `strict`: a probe that means nothing anywhere is an error.
    pub(super) fn update(
        &mut self,
        modules: &Modules,
        process: &mut RemoteProcess<Link>,
        strict: bool,
    ) -> Result<(), LookupError> {
        self.pid = process.process().cast_unsigned();
        for index in 0..self.specs.len() {
            let found = self.look_up(index, modules, process);
            if strict {
                found?;
            }
        }
        for row in &mut self.all {
            let loaded = modules.list.iter().find(|module| module.binary.path == row.path);
            match loaded {
                Some(module) if row.address.is_none() => {
                    row.address = Some(module.bias.run_time(row.file_address));
                    row.standing = match &row.code {
                        Ok(_) => Standing::Mapped,
                        Err(reason) => Standing::Refused(reason.clone()),
                    };
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn look_up(
        &mut self,
        index: usize,
        modules: &Modules,
        process: &mut RemoteProcess<Link>,
    ) -> Result<(), LookupError> {
        let Some(spec) = self.specs.get(index).cloned() else { return Ok(()) };
        let files = path::find(modules, &modules.real_pattern(&spec.path))?.files;
        let mut missed = Vec::new();
        let mut any = false;
        for path in files {
            if !self.known.insert((index, path.clone())) {
                any = true;
                continue;
            }
            let loaded = modules.list.iter().find(|module| module.binary.path == path);
            let rows = match loaded {
                Some(module) => rows_of(index, &spec, &module.binary),
                None => modules.read(process, &path).and_then(|binary| rows_of(index, &spec, &binary)),
            };
            match rows {
                Ok(rows) => {
                    any = true;
                    self.all.extend(rows);
                }
                Err(error) => missed.push(error),
            }
        }
        match LookupError::of_all(missed) {
            Some(error) if !any => Err(error),
            _ => Ok(()),
        }
    }

    /// The rows to be armed, with their places.
    pub(super) fn to_arm(&self) -> Vec<(usize, Wanted)> {
        let place = |(number, row): (usize, &Row)| {
            let (isa, expected) = row.code.as_ref().ok()?;
            let at = row.address.filter(|_| row.standing == Standing::Mapped)?;
            Some((number, Wanted { at, isa: *isa, expected: expected.clone(), branch: None }))
        };
        self.all.iter().enumerate().filter_map(place).collect()
    }

    /// Refuses a row, with where it is and what is there.
    pub(super) fn refuse(&mut self, row: usize, place: &Wanted, reason: &str) {
        if let Some(row) = self.all.get_mut(row) {
            row.standing = Standing::Refused(described(place.isa, place.at, &place.expected, reason));
        }
    }

    /// A row that was named exactly and is refused.
    pub(super) fn refused_exactly(&self) -> Option<&Row> {
        self.all.iter().find(|row| {
            let is_exact = self.specs.get(row.wanted).is_some_and(|spec| {
                !matches!(spec.name, NamePattern::Glob(_) | NamePattern::Instructions)
                    && spec.path != PathPattern::Every
            });
            is_exact && matches!(row.standing, Standing::Refused(_))
        })
    }
}

fn described(isa: Isa, at: Address, bytes: &[u8], reason: &str) -> String {
    let len = instruction_len(isa, at, bytes).unwrap_or(bytes.len().min(4));
    let hex: Vec<String> = bytes.iter().take(len).map(|byte| format!("{byte:02x}")).collect();
    format!("at {at} ({}): {reason}", hex.join(" "))
}

/// What a PROBE means in a file.
fn rows_of(wanted: usize, spec: &Spec, binary: &Binary) -> Result<Vec<Row>, LookupError> {
    let image = binary.image()?;
    let symbols = Symbols::read(&image, &frames(&image));
    let places = resolve(&image, &symbols, &spec.name)
        .map_err(|source| LookupError::Name { path: binary.path.clone(), source })?;
    let row = |place: &Match| Row {
        wanted,
        probe: binary.probe(place),
        path: binary.path.clone(),
        file_address: place.file_address,
        address: None,
        standing: Standing::Waiting,
        code: code_at(&image, &symbols, place.file_address).map_err(|reason| {
            let isa = image.isa().unwrap_or(Isa::X86_64);
            let bytes = bytes_at(&image, place.file_address);
            described(isa, Address(place.file_address.0), &bytes, &reason.to_string())
        }),
    };
    Ok(places.iter().map(row).collect())
}

/// The code at a place of a file: its ISA and bytes, if an instruction begins there that a breakpoint may stand on.
pub(super) fn code_at(
    image: &Image<'_>,
    symbols: &Symbols<'_>,
    at: FileAddress,
) -> Result<(Isa, Vec<u8>), Reason> {
    let isa = symbols.isa_at(image, at).ok_or(Reason::OutsideCode)?;
    let here = Address(at.0);
    if !here.0.is_multiple_of(alignment(isa)) {
        return Err(Reason::InsideInstruction { start: Address(here.0 & !(alignment(isa) - 1)) });
    }
    if let Some(function) = symbols.function_of(at) {
        let bytes = image.read(function.address, function.size).unwrap_or_default();
        let start = Address(function.address.0);
        if let Some(start) = inside(isa, start, bytes, here) {
            return Err(Reason::InsideInstruction { start });
        }
        if insn::xol::exclusive_sequences(isa, start, bytes).iter().any(|range| range.contains(&here)) {
            return Err(Reason::NotDisplaceable {
                instruction: first_text(isa, here, &bytes_at(image, at)),
                why: "a breakpoint between a load-exclusive and its store makes that fail, each time anew"
                    .to_owned(),
            });
        }
    }
    Ok((isa, bytes_at(image, at)))
}

/// What instructions begin at multiples of.
fn alignment(isa: Isa) -> u64 {
    match isa {
        Isa::X86_64 | Isa::I386 => 1,
        Isa::Thumb | Isa::RiscV32 | Isa::RiscV64 => 2,
        _ => 4,
    }
}

/// The start of the instruction that `at` lies inside of, decoding from `start` on.
fn inside(isa: Isa, start: Address, bytes: &[u8], at: Address) -> Option<Address> {
    let mut here = start;
    while here < at {
        let rest = bytes.get(usize::try_from(here - start).ok()?..)?;
        let len = instruction_len(isa, here, rest).filter(|len| *len > 0)?;
        let next = here + len as u64;
        if next > at {
            return Some(here);
        }
        here = next;
    }
    None
}

/// The text of the instruction that bytes begin with.
pub(super) fn first_text(isa: Isa, at: Address, bytes: &[u8]) -> String {
    disassemble(isa, at, bytes).into_iter().next().map_or_else(String::new, |line| line.2)
}

/// Where a module has a file's address.
pub(super) fn bias_of(modules: &[Module], path: &Path) -> Option<Bias> {
    modules.iter().find(|module| module.binary.path == path).map(|module| module.bias)
}
