//! Programs and libraries, read once: an interned binary lives as long as the process, one copy for each version of a file.
//!
//! Analyses borrow their bytes from here for as long as any session lives, and a second session on the same file (or the
//! next library event) finds the work done.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use insn::Isa;
use symbols::frames::{Frame, frames};
use symbols::functions::Outline;
use symbols::maps::Mapping;
use symbols::{ElfError, FileAddress, Image, Symbols};

use super::events::Nobody;
use super::types::Progress;
use crate::catalogue::LookupError;
use crate::files::{Identity, System};
use crate::mapped::Contents;

/// A program or library, with its symbols.
#[derive(Debug)]
pub(super) struct Binary {
    /// Its path without links, as the target sees it.
    pub(super) path: PathBuf,
    pub(super) image: Image<'static>,
    pub(super) symbols: Symbols<'static>,
    /// Its file was deleted or replaced after it was mapped.
    pub(super) is_replaced: bool,
    frames: Vec<Frame>,
    outline: OnceLock<Outline>,
}

/// All binaries read so far.
static INTERNED: OnceLock<Mutex<HashMap<(PathBuf, Identity), &'static Binary>>> = OnceLock::new();

impl Binary {
    /// The binary that `path` means: the file there, or what the process has of it where that is another one.
    pub(super) fn of(
        system: &System,
        path: &Path,
        progress: &mut dyn Progress,
    ) -> Result<&'static Self, LookupError> {
        let real = system.real_path(path).unwrap_or_else(|_| path.to_owned());
        match system.replaced(&real) {
            Some(mapping) => Self::of_mapping(system, mapping),
            None => Self::read(system, path, progress),
        }
    }

    /// The binary at `path`.
    pub(super) fn of_file(system: &System, path: &Path) -> Result<&'static Self, LookupError> {
        Self::read(system, path, &mut Nobody)
    }

    fn read(system: &System, path: &Path, progress: &mut dyn Progress) -> Result<&'static Self, LookupError> {
        let read = |source| LookupError::Read { path: path.to_owned(), source };
        let real = system.real_path(path).map_err(read)?;
        let identity = system.identity(&real).map_err(read)?;
        let interned = INTERNED.get_or_init(Mutex::default);
        let key = (real.clone(), identity);
        if let Some(binary) = interned.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(binary);
        }
        let bytes = system.read(&real).map_err(read)?;
        let binary = Self::parse(real, Contents { bytes, loaded: None }, false, progress)?;
        interned.lock().unwrap_or_else(PoisonError::into_inner).insert(key, binary);
        Ok(binary)
    }

    /// A binary whose file is gone, as a process has it.
    pub(super) fn of_mapping(system: &System, mapping: &Mapping) -> Result<&'static Self, LookupError> {
        let path = PathBuf::from(mapping.path.as_deref().unwrap_or_default());
        match system.contents_of(mapping) {
            Ok(contents) => Self::parse(path, contents, true, &mut Nobody),
            Err(source) => Err(LookupError::Read { path, source }),
        }
    }

    fn parse(
        path: PathBuf,
        contents: Contents,
        is_replaced: bool,
        progress: &mut dyn Progress,
    ) -> Result<&'static Self, LookupError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        progress.phase(&format!("reading {name}"), 0);
        let bytes: &'static [u8] = Vec::leak(contents.bytes);
        let image =
            contents.loaded.map_or_else(|| Image::parse(bytes), |bias| Image::parse_loaded(bytes, bias));
        let image = image
            .and_then(|image| match image.isa()?.has_stubs() {
                true => Ok(image),
                false => Err(ElfError::RemoteOnly(image.machine())),
            })
            .map_err(|source| LookupError::Elf { path: path.clone(), source })?;
        progress.advance(1);
        let frames = frames(&image);
        progress.advance(2);
        let symbols = Symbols::read(&image, &frames);
        progress.advance(3);
        Ok(Box::leak(Box::new(Self { path, image, symbols, is_replaced, frames, outline: OnceLock::new() })))
    }

    /// The ISA it is for.
    pub(super) fn isa(&self) -> Isa {
        // `parse` has seen to it that it is one we know.
        self.image.isa().unwrap_or(Isa::X86_64)
    }

    /// What planning must know of it, in file addresses.
    pub(super) fn outline(&self) -> &Outline {
        self.outline.get_or_init(|| Outline::read(&self.image, &self.frames, &self.symbols))
    }

    /// Whether a function begins there, by a symbol or, in a stripped file, by the unwind tables: the implementations behind
    /// an ifunc of a stripped library have no symbols, entries of a PLT have neither.
    pub(super) fn is_function(&self, at: FileAddress) -> bool {
        let symbol = self.symbols.function_of(at).is_some_and(|symbol| symbol.address == at);
        symbol || self.frames.iter().any(|frame| frame.range.start == at)
    }

    /// What identifies this copy: interned binaries are never moved or dropped.
    pub(super) fn key(&'static self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}
