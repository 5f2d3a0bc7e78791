//! What a process has mapped, module by module.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use insn::code::{Code, Outline};
use insn::set::Analysis;
use insn::{Address, Isa};
use symbols::maps::Mapping;
use symbols::{Bias, FileAddress};

use super::binary::Binary;
use super::types::Progress;
use crate::catalogue::LookupError;
use crate::files::System;

/// The bytes read from a process for a module whose file is gone: no text we know is larger.
const MEMORY_LIMIT: u64 = 1 << 30;

/// Identity of a mapped module: where its file is, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ModuleKey {
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
    pub(super) bias: u64,
}

/// A mapped module.
#[derive(Clone, Debug)]
pub(super) struct Module {
    pub(super) key: ModuleKey,
    pub(super) binary: &'static Binary,
    pub(super) bias: Bias,
    /// Made when first needed: it decodes all code of the module. Forked children have the same.
    analysis: Option<Rc<Analysis<'static>>>,
}

impl Module {
    /// The analysis, made now if it has not been.
    pub(super) fn analysis(&mut self, shadow_stack: bool, progress: &mut dyn Progress) -> &Analysis<'static> {
        let (binary, bias) = (self.binary, self.bias);
        let analyse = || {
            let at = |(address, bytes): (FileAddress, &'static [u8])| Code {
                start: bias.run_time(address),
                bytes,
            };
            let code: Vec<Code<'static>> = binary.image.code().into_iter().map(at).collect();
            let outline = binary.outline();
            let outline = Outline {
                functions: outline.functions_at(bias),
                pointed_at: outline.pointed_at_at(bias),
                data: binary.image.rodata().into_iter().map(at).collect(),
                refused: outline.refused_at(bias),
            };
            let total: usize = code.iter().map(|code| code.bytes.len()).sum();
            let name = binary.path.file_name().unwrap_or_default().to_string_lossy();
            progress.phase(&format!("decoding {name}"), total as u64);
            Rc::new(Analysis::new(Isa::X86_64, &code, &outline, shadow_stack, &mut |done| {
                progress.advance(done);
            }))
        };
        self.analysis.get_or_insert_with(analyse)
    }
}

/// A process as the front sees it: its memory and mappings, read only.
#[derive(Debug)]
pub(super) struct View {
    pub(super) pid: i32,
    memory: File,
    pub(super) mappings: Vec<Mapping>,
    pub(super) system: System,
}

impl View {
    /// Looks at a process now.
    pub(super) fn of(pid: i32) -> Result<Self, LookupError> {
        let number = pid.cast_unsigned();
        let wrong = |source| LookupError::Process { pid: number, source };
        let system = System::of_process(number).map_err(wrong)?;
        let memory = File::open(format!("/proc/{pid}/mem")).map_err(wrong)?;
        let mappings = system.mappings().to_vec();
        Ok(Self { pid, memory, mappings, system })
    }

    /// Reads memory; whether that went well.
    pub(super) fn read(&self, at: Address, buffer: &mut [u8]) -> bool {
        self.memory.read_exact_at(buffer, at.0).is_ok()
    }

    /// A pointer in memory.
    pub(super) fn word(&self, at: Address) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes).then(|| u64::from_le_bytes(bytes))
    }

    /// The mapping of an address.
    pub(super) fn mapping(&self, at: Address) -> Option<&Mapping> {
        self.mappings.iter().find(|mapping| mapping.range.contains(&at))
    }

    /// Whether an address lies in a mapping of the module's file.
    pub(super) fn is_mapped(&self, at: Address, key: ModuleKey) -> bool {
        self.mapping(at).is_some_and(|mapping| (mapping.device, mapping.inode) == (key.device, key.inode))
    }

    /// Start of the heap.
    pub(super) fn start_brk(&self) -> Option<u64> {
        let text = fs::read(format!("/proc/{}/stat", self.pid)).ok()?;
        symbols::stat::Stat::parse(&text).map(|stat| stat.start_brk.0)
    }

    /// Where the dynamic loader is mapped, if there is one.
    pub(super) fn loader(&self) -> Option<Address> {
        let text = fs::read(format!("/proc/{}/auxv", self.pid)).ok()?;
        symbols::auxv::Auxv::parse(&text).base.filter(|base| base.0 != 0)
    }

    /// The modules that map `path` executably, and the executable mapping each was found by.
    pub(super) fn modules_of(
        &self,
        path: &Path,
        known: &mut Vec<Module>,
    ) -> Result<Vec<ModuleKey>, LookupError> {
        let mut keys = Vec::new();
        for mapping in &self.mappings {
            if !mapping.executable
                || !mapping.is_file()
                || mapping.path.as_deref().map(Path::new) != Some(path)
            {
                continue;
            }
            let key = self.module(mapping, known)?;
            if let Some(key) = key.filter(|key| !keys.contains(key)) {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// The module of an executable mapping, made known.
    pub(super) fn module(
        &self,
        mapping: &Mapping,
        known: &mut Vec<Module>,
    ) -> Result<Option<ModuleKey>, LookupError> {
        let binary = self.binary(mapping, known)?;
        let Some(bias) = binary.image.bias_of(mapping.range.start, mapping.offset, true) else {
            return Ok(None);
        };
        let key = ModuleKey { device: mapping.device, inode: mapping.inode, bias: bias.0 };
        if !known.iter().any(|module| module.key == key) {
            known.push(Module { key, binary, bias, analysis: None });
        }
        Ok(Some(key))
    }

    fn binary(&self, mapping: &Mapping, known: &[Module]) -> Result<&'static Binary, LookupError> {
        let same =
            |module: &&Module| module.key.inode == mapping.inode && module.key.device == mapping.device;
        if let Some(module) = known.iter().find(same) {
            return Ok(module.binary);
        }
        let path = PathBuf::from(mapping.path.as_deref().unwrap_or_default());
        if self.is_replaced(mapping, &path) {
            return self.binary_from_memory(mapping, path);
        }
        Binary::of_file(&self.system, &path)
    }

    /// Whether the file at the path is no longer the one that is mapped.
    pub(super) fn is_replaced(&self, mapping: &Mapping, path: &Path) -> bool {
        mapping.deleted || self.system.identity(path).is_ok_and(|file| file.inode() != mapping.inode)
    }

    /// The module's bytes as they are mapped, at their file offsets.
    fn binary_from_memory(&self, mapping: &Mapping, path: PathBuf) -> Result<&'static Binary, LookupError> {
        let mut bytes = Vec::new();
        let same = |other: &&Mapping| {
            other.inode == mapping.inode && other.device == mapping.device && !other.writable
        };
        for piece in self.mappings.iter().filter(same) {
            let len = piece.range.end - piece.range.start;
            if piece.offset.saturating_add(len) > MEMORY_LIMIT {
                continue;
            }
            let start = usize::try_from(piece.offset).unwrap_or(0);
            let end = start + usize::try_from(len).unwrap_or(0);
            bytes.resize(bytes.len().max(end), 0);
            if let Some(buffer) = bytes.get_mut(start..end) {
                self.read(piece.range.start, buffer);
            }
        }
        let first = self.mappings.iter().find(|other| other.inode == mapping.inode && other.offset == 0);
        let bias = Bias(first.map_or(0, |first| first.range.start.0));
        Binary::of_memory(path, bytes, bias)
    }
}
