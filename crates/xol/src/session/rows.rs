//! One row for each probe at each place: what the results are given by.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use insn::Address;
use symbols::maps::Mapping;
use symbols::path::{self, PathError};
use symbols::resolve::{Match, ResolveError, resolve};
use symbols::spec::Kind;
use symbols::symbols::Kind as SymbolKind;
use symbols::{FileAddress, Spec};

use super::binary::Binary;
use super::modules::{Module, ModuleKey, View};
use super::types::Progress;
use crate::catalogue::{self, LookupError};
use crate::files::System;

/// A probe as asked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) spec: Spec,
    /// No longer wanted: its rows stay with their counts, its sites go.
    pub(super) dropped: bool,
}

impl Wanted {
    /// Reads a PROBE.
    pub(super) fn parse(text: &str) -> Result<Self, LookupError> {
        Ok(Self { spec: catalogue::parse(text)?, dropped: false })
    }
}

/// How a row stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its file is not mapped (any more), or its function is not chosen yet.
    Waiting(String),
    /// To be planned.
    Mapped,
    /// Armed by this mechanism.
    Armed(insn::plan::Mechanism, Option<String>),
    /// It cannot be probed.
    Refused(String),
}

/// A probe at a place.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Index of what asked for it.
    pub(super) wanted: usize,
    /// Canonical name.
    pub(super) probe: String,
    pub(super) path: PathBuf,
    pub(super) file_address: FileAddress,
    pub(super) module: Option<ModuleKey>,
    pub(super) address: Option<Address>,
    /// Its counter, and the number in its records.
    pub(super) counter: u32,
    pub(super) standing: Standing,
    /// Armed, but out of the text for a while: it was hit more often than the user allows.
    pub(super) paused: bool,
}

/// All rows; they are only ever added at the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    pub(super) all: Vec<Row>,
    /// What each wanted probe means in each binary.
    meanings: HashMap<(usize, usize), Result<Vec<Match>, ResolveError>>,
    /// Where each row is in `all`.
    index: HashMap<RowKey, usize>,
    /// The rows that have an address, by module and address.
    places: BTreeSet<(ModuleKey, Address, usize)>,
}

/// An ifunc without a slot that leads to an implementation.
const NOT_CHOSEN: &str =
    "the processor decides which implementation is taken, at the first call: there was none when xol looked";

/// What tells rows apart: what asked for it, its name, its place in the file, and where that is mapped.
type RowKey = (usize, String, FileAddress, Option<ModuleKey>);

impl Rows {
    /// The numbers of the rows of a module that are at an address.
    fn at(&self, key: ModuleKey, address: Address) -> impl Iterator<Item = usize> + '_ {
        self.places.range((key, address, 0)..=(key, address, usize::MAX)).map(|(.., number)| *number)
    }

    /// Refuses what is probed at an address.
    pub(super) fn refuse(&mut self, key: ModuleKey, address: Address, reason: &str) {
        for number in self.at(key, address).collect::<Vec<_>>() {
            self.all[number].standing = Standing::Refused(reason.to_owned());
        }
    }

    /// Whether something that is probed at an address is refused.
    pub(super) fn is_refused(&self, key: ModuleKey, address: Address) -> bool {
        self.at(key, address).any(|number| matches!(self.all[number].standing, Standing::Refused(_)))
    }

    /// Nothing is armed, whatever is planned.
    pub(super) fn forget_plan(&mut self) {
        for row in &mut self.all {
            if matches!(row.standing, Standing::Armed(..)) {
                row.standing = Standing::Mapped;
            }
        }
    }

    /// Gives back what only further rows would need.
    pub(super) fn forget_meanings(&mut self) {
        self.meanings = HashMap::new();
        self.index = HashMap::new();
        self.places = BTreeSet::new();
    }

    /// Makes rows for what `wanted` means in files that are not mapped, and says so if it means nothing anywhere.
    /// Touches no process.
    pub(super) fn expect(
        &mut self,
        index: usize,
        wanted: &Wanted,
        system: &System,
        progress: &mut dyn Progress,
    ) -> Result<(), LookupError> {
        let found = match path::find(system, &wanted.spec.path) {
            // Of a command that is still to be started nothing is mapped yet: everything is to come.
            Err(PathError::NoProcess) => return Ok(()),
            other => other?,
        };
        catalogue::in_any(found.files, |file| self.expect_in(index, wanted, system, &file, progress))
    }

    fn expect_in(
        &mut self,
        index: usize,
        wanted: &Wanted,
        system: &System,
        file: &Path,
        progress: &mut dyn Progress,
    ) -> Result<usize, LookupError> {
        let binary = Binary::of(system, file, progress)?;
        let matches = self.meaning(index, wanted, binary)?;
        for found in &matches {
            self.row(index, binary, found, None, "its file is not mapped");
        }
        Ok(matches.len())
    }

    /// What a wanted probe means in a binary.
    fn meaning(
        &mut self,
        index: usize,
        wanted: &Wanted,
        binary: &'static Binary,
    ) -> Result<Vec<Match>, LookupError> {
        let resolve = || resolve(&binary.image, &binary.symbols, &wanted.spec.name);
        let meaning = self.meanings.entry((index, binary.key())).or_insert_with(resolve);
        meaning.clone().map_err(|source| LookupError::Name { path: binary.path.clone(), source })
    }

    /// The row of a match in a module (or in none yet): an old one that waits for this, or a new one.
    fn row(
        &mut self,
        wanted: usize,
        binary: &Binary,
        found: &Match,
        module: Option<ModuleKey>,
        why: &str,
    ) -> usize {
        let probe = Spec::canonical(Kind::Uprobe, &binary.path.to_string_lossy(), found.name()).text;
        let key = |module| (wanted, probe.clone(), found.file_address, module);
        if let Some(&known) = self.index.get(&key(module)).or_else(|| self.index.get(&key(None))) {
            return known;
        }
        self.index.insert(key(None), self.all.len());
        let counter = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push(Row {
            wanted,
            probe,
            path: binary.path.clone(),
            file_address: found.file_address,
            module: None,
            address: None,
            counter,
            standing: Standing::Waiting(why.to_owned()),
            paused: false,
        });
        self.all.len() - 1
    }

    /// Brings all rows in line with what is mapped now.
    pub(super) fn refresh(
        &mut self,
        wanted: &[Wanted],
        view: &View,
        modules: &mut Vec<Module>,
    ) -> Result<(), LookupError> {
        self.unmap_gone(view, modules);
        for (index, wanted) in wanted.iter().enumerate().filter(|(_, wanted)| !wanted.dropped) {
            // What was found before the process was touched may have vanished since: then nothing is mapped of it.
            let Ok(found) = path::find(&view.system, &wanted.spec.path) else { continue };
            for file in found.files {
                let real = view.system.real_path(&file).unwrap_or(file);
                let keys = view.modules_of(&real, modules).unwrap_or_default();
                for key in &keys {
                    if self.has_ifunc(index, wanted, *key, modules) {
                        view.know_all(modules);
                    }
                    self.map(index, wanted, *key, view, modules);
                }
                if keys.is_empty() {
                    self.note_other_version(index, &real, view);
                }
            }
        }
        Ok(())
    }

    /// What was refused may be planned once more.
    pub(super) fn reconsider(&mut self) {
        for row in self.all.iter_mut().filter(|row| matches!(row.standing, Standing::Refused(_))) {
            row.standing = Standing::Mapped;
        }
    }

    fn unmap_gone(&mut self, view: &View, modules: &mut Vec<Module>) {
        modules.retain(|module| {
            let image = &module.binary.image;
            let shows = |mapping: &Mapping| {
                (mapping.device, mapping.inode) == (module.key.device, module.key.inode)
                    && image.bias_of(mapping.range.start, mapping.offset, mapping.executable)
                        == Some(module.bias)
            };
            view.mappings.iter().any(shows) && view.has_code(module.binary, module.bias)
        });
        let is_gone =
            |row: &Row| row.module.is_some_and(|key| !modules.iter().any(|module| module.key == key));
        for number in 0..self.all.len() {
            if is_gone(&self.all[number]) {
                self.settle(number, None, Standing::Waiting("its file was unmapped".to_owned()));
            }
        }
    }

    /// Notes where a row is now, if it is anywhere.
    fn settle(&mut self, number: usize, place: Option<(ModuleKey, Address)>, standing: Standing) {
        let row = &mut self.all[number];
        let (module, address) = place.unzip();
        let key = |module| (row.wanted, row.probe.clone(), row.file_address, module);
        self.index.remove(&key(row.module));
        self.index.insert(key(module), number);
        if let (Some(module), Some(address)) = (row.module, row.address) {
            self.places.remove(&(module, address, number));
        }
        self.places.extend(place.map(|(module, address)| (module, address, number)));
        (row.module, row.address, row.standing) = (module, address, standing);
    }

    /// Whether a probe means a function whose implementation must be looked for.
    fn has_ifunc(&mut self, index: usize, wanted: &Wanted, key: ModuleKey, modules: &[Module]) -> bool {
        let binary = modules.iter().find(|module| module.key == key).map(|module| module.binary);
        let Some(Ok(matches)) = binary.map(|binary| self.meaning(index, wanted, binary)) else {
            return false;
        };
        matches.iter().any(|found| found.kind == SymbolKind::Ifunc && found.offset == 0)
    }

    /// What is not mapped may be so under another name, or in another version.
    fn note_other_version(&mut self, index: usize, real: &Path, view: &View) {
        let Some(other) = other_version(real, &view.mappings) else { return };
        let reason = format!("its file is not mapped, but another one of that name is: {other}");
        for row in self.all.iter_mut().filter(|row| row.wanted == index && row.path == real) {
            row.standing = Standing::Waiting(reason.clone());
        }
    }

    fn map(&mut self, index: usize, wanted: &Wanted, key: ModuleKey, view: &View, modules: &[Module]) {
        let Some(module) = modules.iter().find(|module| module.key == key) else { return };
        let Ok(matches) = self.meaning(index, wanted, module.binary) else { return };
        for found in &matches {
            // A program may map pieces of a file once more (V8 does, of its own text): then the place need not be among them.
            if !view.is_place_of(module, module.bias.run_time(found.file_address)) {
                continue;
            }
            let number = self.row(index, module.binary, found, Some(key), "");
            let place = match found.kind {
                SymbolKind::Ifunc if found.offset == 0 => chosen(module, found, view, modules),
                _ => Some(module.bias.run_time(found.file_address)),
            };
            match place {
                Some(address) if self.all[number].address != Some(address) => {
                    self.settle(number, Some((key, address)), Standing::Mapped);
                }
                Some(_) => {}
                None => self.all[number].standing = Standing::Waiting(NOT_CHOSEN.to_owned()),
            }
        }
    }
}

/// A mapped file that is called like `path` but for its folder and version: `libssl.so.3` for `libssl.so.1.1`.
fn other_version<'m>(path: &Path, mappings: &'m [Mapping]) -> Option<&'m str> {
    let stem = |path: &'_ Path| {
        let name = path.file_name()?.to_str()?;
        Some(name.split_once(".so").map_or(name, |(stem, _)| stem).to_owned())
    };
    let wanted = stem(path)?;
    let code = mappings.iter().filter(|mapping| mapping.executable && mapping.is_file());
    let mut paths = code.filter_map(|mapping| mapping.path.as_deref());
    paths.find(|other| stem(Path::new(other)).is_some_and(|other| other == wanted))
}

/// As a session would look for it: the implementation of an ifunc of the file at `path`.
pub(crate) fn implementation(view: &View, path: &Path, found: &Match) -> Option<Address> {
    let mut modules = Vec::new();
    let key = view.modules_of(path, &mut modules).ok()?.first().copied()?;
    view.know_all(&mut modules);
    chosen(modules.iter().find(|module| module.key == key)?, found, view, &modules)
}

/// The implementation that an ifunc's resolver chose, read from a slot through which it is called.
fn chosen(module: &Module, found: &Match, view: &View, modules: &[Module]) -> Option<Address> {
    let own = symbols::relocations::ifunc_slots(&module.binary.image, found.file_address);
    let own = own.into_iter().map(|slot| module.bias.run_time(slot));
    let name = found.symbol.as_deref()?.split('@').next()?;
    let others = modules.iter().flat_map(|other| {
        symbols::relocations::import_slots(&other.binary.image, name)
            .into_iter()
            .map(|slot| other.bias.run_time(slot))
    });
    let resolver = module.bias.run_time(found.file_address);
    own.chain(others).find_map(|slot| {
        let to = Address(view.word(slot)?);
        // Not yet bound, a slot points back into a PLT (not at its beginning), or at the resolver.
        let inside = module.binary.image.is_code(module.bias.file(to));
        let is_function = module.binary.is_function(module.bias.file(to));
        (to != resolver && inside && is_function).then_some(to)
    })
}
