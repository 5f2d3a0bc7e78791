//! The program and libraries of a process that a remote holds: their files, and where they are loaded.

use std::path::{Path, PathBuf};

use insn::{Address, Isa};
use remote::Link;
use remote::client::Library;
use symbols::auxv::Auxv;
use symbols::frames::frames;
use symbols::path::{CachedLibrary, Files, MappedFile};
use symbols::spec::PathPattern;
use symbols::{Bias, Class, FileAddress, Symbols};
use target::TargetError;
use target::remote::RemoteProcess;
use target::stepper::{Gate, gates};
use target::tracee::Tracee;

use super::text::bytes_at;
use crate::catalogue::{Binary, LookupError};
use crate::files::System;

/// The largest file that is fetched from a remote.
const LARGEST: usize = 256 << 20;
/// Bytes of the vdso that are looked at: its code is in its first pages.
const VDSO: usize = 8192;

/// A loaded program or library.
#[derive(Clone, Debug)]
pub(super) struct Module {
    pub(super) binary: Binary,
    pub(super) bias: Bias,
}

/// What a remote's process consists of.
#[derive(Debug)]
pub(super) struct Modules {
    pub(super) list: Vec<Module>,
    isa: Isa,
    /// The files of `--sysroot`, or of this machine.
    system: System,
    has_sysroot: bool,
    /// Whether files can be had from the remote itself.
    fetches: bool,
    auxv: Auxv,
    /// Files that cannot be had, as already said.
    missed: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// A process behind any line.
pub(super) type Process = RemoteProcess<Link>;

impl Modules {
    /// The program, which the remote may not name: `hint` is then what the user calls it.
    pub(super) fn of(
        process: &mut Process,
        sysroot: Option<&Path>,
        hint: Option<&Path>,
    ) -> Result<Self, LookupError> {
        let isa = process.isa();
        let auxv = process.client().auxv().unwrap_or_default();
        let auxv = Auxv::parse_in(Class::of(isa), isa.abi().order, &auxv);
        let number = u64::try_from(process.process()).ok();
        let named = process.client().executable(number).ok();
        let mut modules = Self {
            list: Vec::new(),
            isa,
            system: sysroot.map_or_else(System::here, System::of_root),
            has_sysroot: sysroot.is_some(),
            fetches: sysroot.is_none() && looks_into(process, number),
            auxv,
            missed: Vec::new(),
            notes: Vec::new(),
        };
        let named = named.map(|path| PathBuf::from(String::from_utf8_lossy(&path).into_owned()));
        let path = match (named, hint) {
            (Some(path), _) if !path.as_os_str().is_empty() => path,
            (_, Some(hint)) => {
                let text =
                    format!("the remote does not name its program: {} is taken for it", hint.display());
                modules.notes.push(text);
                hint.to_owned()
            }
            _ => {
                let text =
                    "the remote does not name its program: give the PROBE's file by a path with a slash";
                return Err(TargetError::Remote(text.to_owned()).into());
            }
        };
        let binary = modules.read(process, &path)?;
        let bias = modules.program_bias(process, &binary)?;
        modules.list.push(Module { binary, bias });
        modules.update(process);
        Ok(modules)
    }

    /// Looks for libraries anew. Whether there are others than before.
    pub(super) fn update(&mut self, process: &mut Process) -> bool {
        let libraries = match process.client().libraries() {
            Ok(libraries) => libraries,
            Err(_) => {
                let is_dynamic =
                    |module: &Module| module.binary.image().is_ok_and(|image| image.interpreter().is_some());
                if self.list.first().is_some_and(is_dynamic) {
                    self.note_missed("the remote lists no libraries".to_owned());
                }
                Vec::new()
            }
        };
        let mut list: Vec<Module> = self.list.drain(..1).collect();
        let before = std::mem::take(&mut self.list);
        for library in libraries.iter().filter(|library| library.path.starts_with('/')) {
            let bias = Bias(library.bias);
            let path = Path::new(&library.path);
            let known = before.iter().find(|module| module.bias == bias && module.is(&self.system, path));
            match known.cloned().map_or_else(|| self.library(process, library), Ok) {
                Ok(module) => list.push(module),
                Err(error) => self.note_missed(error.to_string()),
            }
        }
        let is_new = list.len() != before.len() + 1
            || list.iter().skip(1).any(|module| !before.iter().any(|other| other.bias == module.bias));
        self.list = list;
        is_new
    }

    /// The program or library whose file that is, if it is loaded.
    pub(super) fn loaded(&self, path: &Path) -> Option<&Module> {
        self.list.iter().find(|module| module.binary.path == path)
    }

    /// The file at a path, loaded or not.
    pub(super) fn binary(&self, process: &mut Process, path: &Path) -> Result<Binary, LookupError> {
        match self.loaded(path) {
            Some(module) => Ok(module.binary.clone()),
            None => self.read(process, path),
        }
    }

    fn library(&mut self, process: &mut Process, library: &Library) -> Result<Module, LookupError> {
        let binary = self.read(process, Path::new(&library.path))?;
        let bias = Bias(library.bias);
        check_build_id(process, &binary, bias)?;
        Ok(Module { binary, bias })
    }

    fn note_missed(&mut self, text: String) {
        if !self.missed.contains(&text) {
            self.notes.push(text.clone());
            self.missed.push(text);
        }
    }

    /// A file as the remote's process sees it.
    pub(super) fn read(&self, process: &mut Process, path: &Path) -> Result<Binary, LookupError> {
        if self.fetches {
            let text = path.to_string_lossy();
            match process.client().whole_file(&text, LARGEST) {
                Ok(bytes) => return Ok(Binary::of_bytes(path.to_owned(), bytes)),
                Err(error) if error.is_fatal() => return Err(TargetError::from(error).into()),
                Err(_) => {}
            }
        }
        let read = || {
            let real = self.system.real_path(path)?;
            Ok(Binary::of_bytes(real.clone(), self.system.read(&real)?))
        };
        read().map_err(|source| LookupError::Read { path: path.to_owned(), source })
    }

    /// Where the program is: by its entry point, which the kernel told it.
    fn program_bias(&self, process: &mut Process, binary: &Binary) -> Result<Bias, LookupError> {
        let image = binary.image()?;
        if image.isa() != Ok(self.isa) {
            let text =
                format!("{} is {}, and the remote's process is none", binary.path.display(), image.machine());
            return Err(TargetError::Remote(text).into());
        }
        let entry = image.entry();
        let bias = match self.auxv.entry {
            Some(live) => Bias::between(live, entry),
            None if image.is_shared() || image.is_pie() => {
                let text = "the remote does not tell where its program is loaded (auxiliary vector)";
                return Err(TargetError::Remote(text.to_owned()).into());
            }
            None => Bias(0),
        };
        if image.linkage() == symbols::elf::Linkage::Fixed && bias != Bias(0) {
            return Err(wrong_file(binary, "its entry point is elsewhere").into());
        }
        check_build_id(process, binary, bias)?;
        let live = bias.run_time(entry);
        let mut found = [0; 16];
        let expected = image.read(entry, 16).unwrap_or_default();
        let is_read = process.read(live, &mut found[..expected.len()]).is_ok();
        if is_read && &found[..expected.len()] != expected {
            return Err(wrong_file(binary, "other code is at the entry point").into());
        }
        Ok(bias)
    }

    /// The dynamic loader, where there is one: not listed before it has begun its work.
    pub(super) fn loader(&self, process: &mut Process) -> Option<Module> {
        let program = self.list.first()?.binary.image().ok()?;
        let binary = self.read(process, Path::new(program.interpreter()?)).ok()?;
        let first = binary.image().ok()?.segments().iter().map(|segment| segment.address).min()?;
        let page = FileAddress(first.0 & !0xfff);
        let bias = Bias::between(self.auxv.base?, page);
        Some(Module { binary, bias })
    }

    /// Where the process's code calls the kernel: in its program, its loader, its vdso.
    pub(super) fn gates(&self, process: &mut Process) -> Vec<Gate> {
        let loader = self.loader(process);
        let mut found = Vec::new();
        for module in self.list.iter().take(1).chain(&loader).chain(self.list.iter().skip(1)) {
            let Ok(image) = module.binary.image() else { continue };
            for (start, bytes) in image.code() {
                found.extend(gates(self.isa, module.bias.run_time(start), bytes));
            }
        }
        if let Some(vdso) = self.auxv.vdso {
            let mut bytes = vec![0; VDSO];
            if process.read(vdso, &mut bytes).is_ok() {
                found.extend(gates(self.isa, vdso, &bytes));
            }
        }
        found
    }

    /// The file that a PROBE's path means, by its real name.
    pub(super) fn real_pattern(&self, path: &PathPattern) -> PathPattern {
        match path {
            PathPattern::Named(name) if name.contains('/') => {
                let real = self.system.real_path(Path::new(name));
                PathPattern::Named(
                    real.map_or_else(|_| name.clone(), |real| real.to_string_lossy().into_owned()),
                )
            }
            other => other.clone(),
        }
    }
}

impl Module {
    fn is(&self, system: &System, path: &Path) -> bool {
        self.binary.path == path || system.real_path(path).is_ok_and(|real| real == self.binary.path)
    }

    /// Where a symbol of its dynamic table is.
    pub(super) fn function(&self, name: &str) -> Option<(Address, Isa, Vec<u8>)> {
        let image = self.binary.image().ok()?;
        let symbols = Symbols::read(&image, &frames(&image));
        let symbol = symbols.functions().find(|symbol| symbol.name == name)?;
        let isa = symbols.isa_at(&image, symbol.address)?;
        let bytes = bytes_at(&image, symbol.address);
        Some((self.bias.run_time(symbol.address), isa, bytes))
    }
}

/// Whether the remote gives its files: as the process sees them, or as it does itself.
fn looks_into(process: &mut Process, number: Option<u64>) -> bool {
    let client = process.client();
    client.set_file_system(number).or_else(|_| client.set_file_system(None)).is_ok()
}

fn wrong_file(binary: &Binary, why: &str) -> TargetError {
    TargetError::Remote(format!(
        "{} is not the file that the remote's process runs: {why} (give its own by --sysroot)",
        binary.path.display()
    ))
}

/// The build ID in memory is the file's.
fn check_build_id(process: &mut Process, binary: &Binary, bias: Bias) -> Result<(), LookupError> {
    let image = binary.image()?;
    let Some(expected) = image.build_id() else { return Ok(()) };
    let Some(at) = image.address_of(expected) else { return Ok(()) };
    let mut found = vec![0; expected.len()];
    match process.read(bias.run_time(at), &mut found) {
        Ok(()) if found != expected => Err(wrong_file(binary, "the build IDs differ").into()),
        _ => Ok(()),
    }
}

impl Files for Modules {
    fn mapped(&self) -> Option<Vec<MappedFile>> {
        let mapped = |module: &Module| MappedFile {
            path: module.binary.path.clone(),
            soname: module.binary.image().ok().and_then(|image| image.soname().map(str::to_owned)),
        };
        Some(self.list.iter().map(mapped).collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.system.exists(path)
    }

    fn is_executable(&self, path: &Path) -> bool {
        self.system.is_executable(path)
    }

    fn path_dirs(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn loader_cache(&self) -> Vec<CachedLibrary> {
        // That of this machine says nothing of another one.
        if self.has_sysroot || self.isa.has_stubs() { self.system.loader_cache() } else { Vec::new() }
    }
}
