//! What a process has mapped, module by module.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use insn::Address;
use insn::code::{Code, Outline};
use insn::set::Analysis;
use symbols::maps::Mapping;
use symbols::{Bias, FileAddress};
use target::linux;

use super::binary::Binary;
use super::types::Progress;
use crate::catalogue::LookupError;
use crate::files::System;

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
    /// The user knows that its file was replaced.
    pub(super) noted: bool,
}

impl Module {
    /// The analysis, made now if it has not been.
    pub(super) fn analysis(&mut self, shadow_stack: bool, progress: &mut dyn Progress) -> &Analysis<'static> {
        let (binary, bias) = (self.binary, self.bias);
        let analyse = || {
            let name = binary.path.file_name().unwrap_or_default().to_string_lossy();
            progress.phase(&format!("reading {name}"), 0);
            let at = |(address, bytes): (FileAddress, &'static [u8])| Code {
                start: bias.run_time(address),
                bytes,
            };
            let code: Vec<Code<'static>> = binary.image.code().into_iter().map(at).collect();
            let outline = binary.outline();
            let outline = Outline {
                functions: outline.functions_at(bias),
                pointed_at: outline.pointed_at_at(bias),
                may_point_at: outline.may_point_at_at(bias),
                got: outline.got.map(|got| bias.run_time(got)),
                data: binary.image.rodata().into_iter().map(at).collect(),
                refused: outline.refused_at(bias),
            };
            let total: usize = code.iter().map(|code| code.bytes.len()).sum();
            progress.phase(&format!("decoding {name}"), total as u64);
            Rc::new(Analysis::new(binary.isa(), &code, &outline, shadow_stack, &mut |done| {
                progress.advance(done);
            }))
        };
        self.analysis.get_or_insert_with(analyse)
    }
}

/// A process as the front sees it: its memory and mappings, read only.
#[derive(Debug)]
pub(crate) struct View {
    /// Where /proc shows it.
    pub(super) pid: i32,
    memory: File,
    pub(super) mappings: Vec<Mapping>,
    pub(super) system: System,
    /// Devices of file systems whose pages are huge.
    huge: Vec<(u32, u32)>,
}

impl View {
    /// Looks at a process now.
    pub(crate) fn of(process: i32) -> Result<Self, LookupError> {
        let pid = linux::shown_by(process);
        let wrong = |error: std::io::Error| LookupError::Process(linux::explain(process, &error));
        let system = System::of_process(process.cast_unsigned()).map_err(wrong)?;
        let memory = File::open(format!("/proc/{pid}/mem")).map_err(wrong)?;
        let mappings = system.mappings().to_vec();
        let mounts = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        Ok(Self { pid, memory, mappings, system, huge: huge_devices(&String::from_utf8_lossy(&mounts)) })
    }

    /// The program that the process executes.
    pub(super) fn executable(&self) -> Result<&'static Binary, LookupError> {
        let path = fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap_or_default();
        Binary::of_file(&self.system, &path)
    }

    /// Reads memory; whether that went well.
    pub(super) fn read(&self, at: Address, buffer: &mut [u8]) -> bool {
        self.memory.read_exact_at(buffer, at.0).is_ok()
    }

    /// A pointer in memory.
    pub(super) fn word(&self, at: Address) -> Option<u64> {
        let mut bytes = [0; 8];
        let word = bytes.get_mut(..self.system.isa().abi().word)?;
        self.read(at, word).then(|| u64::from_le_bytes(bytes))
    }

    /// Whether a mapping consists of huge pages (hugetlbfs; transparent ones do not matter).
    pub(super) fn is_huge(&self, mapping: &Mapping) -> bool {
        // The kernel's own mount, of which mountinfo knows nothing, names its files so (fs/hugetlbfs/inode.c).
        let is_anonymous = || mapping.path.as_deref().is_some_and(|path| path.starts_with("/anon_hugepage"));
        self.huge.contains(&mapping.device) || is_anonymous()
    }

    /// The mapping of an address.
    pub(super) fn mapping(&self, at: Address) -> Option<&Mapping> {
        let behind = self.mappings.partition_point(|mapping| mapping.range.start <= at);
        self.mappings[..behind].last().filter(|mapping| mapping.range.contains(&at))
    }

    /// Whether an address is a place of the module: in a mapping of its file, or, where the whole file was loaded, in code
    /// that the program moved elsewhere (to anonymous memory or large pages).
    pub(super) fn is_place_of(&self, module: &Module, at: Address) -> bool {
        let Some(mapping) = self.mapping(at) else { return false };
        let is_own =
            |mapping: &Mapping| (mapping.device, mapping.inode) == (module.key.device, module.key.inode);
        let begins_it = |mapping: &Mapping| {
            let bias = module.binary.image.bias_of(mapping.range.start, 0, mapping.executable);
            is_own(mapping) && mapping.offset == 0 && bias == Some(module.bias)
        };
        is_own(mapping) || mapping.executable && self.mappings.iter().any(begins_it)
    }

    /// Whether the mapping of an address is still the one that was seen.
    pub(super) fn is_current(&self, at: Address) -> bool {
        let text = fs::read(format!("/proc/{}/maps", self.pid)).unwrap_or_default();
        let now = symbols::maps::parse(&text);
        now.iter().find(|mapping| mapping.range.contains(&at)) == self.mapping(at)
    }

    /// Whether the same is mapped now.
    pub(super) fn is_still_so(&self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now.mappings == self.mappings)
    }

    /// Start of the heap.
    pub(super) fn start_brk(&self) -> Option<u64> {
        let text = fs::read(format!("/proc/{}/stat", self.pid)).ok()?;
        symbols::stat::Stat::parse(&text).map(|stat| stat.start_brk.0)
    }

    /// Where the dynamic loader is mapped, if there is one.
    pub(super) fn loader(&self) -> Option<Address> {
        let text = fs::read(format!("/proc/{}/auxv", self.pid)).ok()?;
        let class = symbols::Class::of(self.system.isa());
        symbols::auxv::Auxv::parse(class, &text).base.filter(|base| base.0 != 0)
    }

    /// The modules whose code is `path`'s: by the executable mappings of the file, or, if there is none because the
    /// program moved its code elsewhere (to large pages, say), by the others, where code is mapped at its place.
    pub(super) fn modules_of(
        &self,
        path: &Path,
        known: &mut Vec<Module>,
    ) -> Result<Vec<ModuleKey>, LookupError> {
        let mut keys = Vec::new();
        let of_path =
            |mapping: &&Mapping| mapping.is_file() && mapping.path.as_deref().map(Path::new) == Some(path);
        let any_code = self.mappings.iter().filter(of_path).any(|mapping| mapping.executable);
        for mapping in self.mappings.iter().filter(of_path) {
            if any_code && !mapping.executable {
                continue;
            }
            let key = self.module(mapping, known)?;
            if let Some(key) = key.filter(|key| !keys.contains(key)) {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// Makes every module known: a function's address may stand in any of them. What cannot be read calls nothing.
    pub(super) fn know_all(&self, known: &mut Vec<Module>) {
        for mapping in self.mappings.iter().filter(|mapping| mapping.executable && mapping.is_file()) {
            let _ = self.module(mapping, known);
        }
    }

    /// The module of an executable mapping, made known.
    pub(super) fn module(
        &self,
        mapping: &Mapping,
        known: &mut Vec<Module>,
    ) -> Result<Option<ModuleKey>, LookupError> {
        let binary = self.binary(mapping, known)?;
        let bias = binary.image.bias_of(mapping.range.start, mapping.offset, mapping.executable);
        let Some(bias) = bias.filter(|bias| mapping.executable || self.has_code(binary, *bias)) else {
            return Ok(None);
        };
        let key = ModuleKey { device: mapping.device, inode: mapping.inode, bias: bias.0 };
        if !known.iter().any(|module| module.key == key) {
            known.push(Module { key, binary, bias, analysis: None, noted: false });
        }
        Ok(Some(key))
    }

    /// Whether something executable is mapped where a binary's code would be.
    pub(super) fn has_code(&self, binary: &Binary, bias: Bias) -> bool {
        let mut code = binary.image.code().into_iter();
        code.any(|(start, _)| self.mapping(bias.run_time(start)).is_some_and(|mapping| mapping.executable))
    }

    /// The file of a mapping, if it is one for the ISA of the process.
    fn binary(&self, mapping: &Mapping, known: &[Module]) -> Result<&'static Binary, LookupError> {
        let binary = self.any_binary(mapping, known)?;
        if binary.isa() == self.system.isa() {
            return Ok(binary);
        }
        let source = symbols::ElfError::Foreign(binary.image.machine());
        Err(LookupError::Elf { path: binary.path.clone(), source })
    }

    fn any_binary(&self, mapping: &Mapping, known: &[Module]) -> Result<&'static Binary, LookupError> {
        let same =
            |module: &&Module| module.key.inode == mapping.inode && module.key.device == mapping.device;
        if let Some(module) = known.iter().find(same) {
            return Ok(module.binary);
        }
        if self.system.is_replaced(mapping) {
            return Binary::of_mapping(&self.system, mapping);
        }
        Binary::of_file(&self.system, Path::new(mapping.path.as_deref().unwrap_or_default()))
    }
}

/// The devices of hugetlbfs in the text of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)): field 3, and the type is the first
/// word behind the lone `-`.
fn huge_devices(mounts: &str) -> Vec<(u32, u32)> {
    let device = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let (major, minor) = mount.split_whitespace().nth(2)?.split_once(':')?;
        let is_huge = file_system.split_whitespace().next() == Some("hugetlbfs");
        is_huge.then_some((major.parse().ok()?, minor.parse().ok()?))
    };
    mounts.lines().filter_map(device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_huge_pages() {
        let mounts = "22 1 0:20 / /dev/hugepages rw,relatime shared:5 - hugetlbfs hugetlbfs rw,pagesize=2M\n\
                      23 1 254:0 / / rw - ext4 /dev/root rw\nnonsense - hugetlbfs\n";
        assert_eq!(huge_devices(mounts), [(0, 20)]);
    }
}
