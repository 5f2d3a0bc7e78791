//! One row for each probe at each place of a remote's process.

use std::collections::HashSet;
use std::path::PathBuf;

use insn::{Address, Isa};
use remote::Link;
use symbols::frames::frames;
use symbols::path;
use symbols::resolve::Match;
use symbols::{Bias, FileAddress, Spec, Symbols};
use target::remote::RemoteProcess;
use target::stepper::Wanted;
use target::tracee::Tracee;

use super::modules::Modules;
use super::text::{Code, Text, described};
use crate::catalogue::{self, Binary, LookupError};

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
    pub(super) code: Result<Code, String>,
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
            match modules.loaded(&row.path) {
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
        catalogue::in_any(files, |path| {
            if !self.known.insert((index, path.clone())) {
                return Ok(1);
            }
            let rows = rows_of(index, &spec, &modules.binary(process, &path)?)?;
            let count = rows.len();
            self.all.extend(rows);
            Ok(count)
        })
    }

    /// The rows to be armed, with their places.
    pub(super) fn to_arm(&self) -> Vec<(usize, Wanted)> {
        let place = |(number, row): (usize, &Row)| {
            let Code { isa, bytes, branch } = row.code.clone().ok()?;
            let at = row.address.filter(|_| row.standing == Standing::Mapped)?;
            let live = |file: FileAddress| Bias::between(at, row.file_address).run_time(file);
            let branch = branch.map(|(branch, bytes)| (live(branch), bytes));
            Some((number, Wanted { at, isa, expected: bytes, branch }))
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
            let is_exact = self.specs.get(row.wanted).is_some_and(Spec::is_exact);
            is_exact && matches!(row.standing, Standing::Refused(_))
        })
    }
}

/// What a PROBE means in a file.
fn rows_of(wanted: usize, spec: &Spec, binary: &Binary) -> Result<Vec<Row>, LookupError> {
    let image = binary.image()?;
    let symbols = Symbols::read(&image, &frames(&image));
    let places = binary.resolve(&image, &symbols, spec)?;
    let mut code = Text::of(&image, &symbols);
    let row = |place: &Match| Row {
        wanted,
        probe: binary.probe(place),
        path: binary.path.clone(),
        file_address: place.file_address,
        address: None,
        standing: Standing::Waiting,
        code: code.at(place.file_address).map_err(|reason| {
            let isa = image.isa().unwrap_or(Isa::X86_64);
            let bytes = code.bytes_at(place.file_address);
            described(isa, Address(place.file_address.0), &bytes, &reason.to_string())
        }),
    };
    Ok(places.iter().map(row).collect())
}
