//! What can be probed: the places a PROBE means, in files and in what a process has mapped.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use symbols::demangle::demangle;
use symbols::frames::frames;
use symbols::path::{self, Files, PathError};
use symbols::resolve::{Match, ResolveError, resolve};
use symbols::spec::{Kind, SpecError};
use symbols::{Bias, ElfError, FileAddress, Image, Spec, Symbols};
use target::TargetError;
use target::linux::permission;
use thiserror::Error;

use crate::files::System;
use crate::mapped::Contents;

/// Something that can be probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its canonical name, ready to be given to `stat`.
    pub probe: String,
    /// Its virtual address as `nm` prints it.
    pub file_address: FileAddress,
    /// Bytes of the symbol; 0 if not known.
    pub size: u64,
    /// Its symbol as the programmer wrote it, where that is mangled in the file.
    pub demangled: Option<String>,
}

/// Why a PROBE means nothing.
#[derive(Debug, Error)]
pub enum LookupError {
    /// It is badly written.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A kind of probe that is not built yet.
    #[error("{0} probes are not available yet")]
    Kind(Kind),
    /// Its PATH means no file.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The process is not there, or may not be looked at.
    #[error(transparent)]
    Process(#[from] TargetError),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no program or library.
    #[error("{}: {source}", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ElfError,
    },
    /// The NAME means nothing in the file.
    #[error("{}: {source}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ResolveError,
    },
    /// The NAME means nothing in any of several files.
    #[error("none of the {files} mapped files has a symbol that matches `{name}`{}", suggestion(near))]
    Nowhere {
        /// As typed.
        name: String,
        /// How many.
        files: usize,
        /// Up to five names like it.
        near: Vec<String>,
    },
}

impl Entry {
    /// A place in a file.
    pub(crate) fn of(binary: &Binary, place: &Match) -> Self {
        Self {
            probe: binary.probe(place),
            file_address: place.file_address,
            size: place.size,
            demangled: place.symbol.as_deref().and_then(demangle).map(|name| name.full),
        }
    }
}

impl LookupError {
    /// What the user can do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Spec(error) => Some(format!("it goes wrong here:\n{}", error.pointed())),
            Self::Process(TargetError::NotPermitted { pid, .. }) => {
                Some(format!("`xol doctor -p {pid}` says more"))
            }
            Self::Name { source: ResolveError::NotFound { .. }, path } => {
                Some(format!("`xol list '{}:*'` shows what is there", path.display()))
            }
            _ => None,
        }
    }

    /// What to say of several files in each of which a NAME means nothing: the reason that says most.
    pub(crate) fn of_all(errors: Vec<Self>) -> Option<Self> {
        let is_missing = |error: &Self| {
            matches!(
                error,
                Self::Name {
                    source: ResolveError::NotFound { .. }
                        | ResolveError::Stripped { .. }
                        | ResolveError::NoFunctions,
                    ..
                }
            )
        };
        let is_passed_over = |error: &Self| is_missing(error) || matches!(error, Self::Elf { .. });
        let files = errors.len();
        if files < 2 || !errors.iter().all(is_passed_over) || !errors.iter().any(is_missing) {
            let mut errors = errors.into_iter();
            let first = errors.next();
            return match &first {
                Some(error) if is_passed_over(error) => errors.find(|error| !is_passed_over(error)).or(first),
                _ => first,
            };
        }
        let mut near: Vec<String> = Vec::new();
        let mut missing = String::new();
        for error in errors {
            let Self::Name { source, .. } = error else { continue };
            match source {
                ResolveError::NotFound { name, near: more } => {
                    missing = name;
                    near.extend(more);
                }
                ResolveError::Stripped { name } => missing = name,
                _ => {}
            }
        }
        let near = symbols::near::nearest(&missing, near.iter().map(String::as_str));
        Some(Self::Nowhere { name: missing, files, near })
    }

    /// Whether the command was used wrongly, rather than well and in vain.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Spec(_) | Self::Kind(_))
    }
}

fn suggestion(near: &[String]) -> String {
    match near {
        [] => String::new(),
        names => format!("; is it one of: {}?", names.join(", ")),
    }
}

/// The system as seen by `pid`, or by xol itself.
///
/// # Errors
/// [`LookupError::Process`].
pub fn system(pid: Option<u32>) -> Result<System, LookupError> {
    pid.map_or(Ok(System::here()), |pid| {
        System::of_process(pid).map_err(|error| permission::explain(pid.cast_signed(), &error).into())
    })
}

/// Reads the text of a PROBE of a kind that exists.
///
/// # Errors
/// [`LookupError::Spec`], [`LookupError::Kind`].
pub fn parse(text: &str) -> Result<Spec, LookupError> {
    let spec = Spec::parse(text)?;
    match spec.kind {
        Kind::Uprobe => Ok(spec),
        kind => Err(LookupError::Kind(kind)),
    }
}

/// The bytes of a program or library, by its path without links.
#[derive(Clone, Debug)]
pub struct Binary {
    /// As the target sees it.
    pub path: PathBuf,
    /// Shared: a session keeps it while it looks at what else is loaded.
    bytes: Arc<[u8]>,
    /// Where it is loaded, if the bytes are a process's memory.
    loaded: Option<Bias>,
}

impl Binary {
    /// A file that was read elsewhere.
    pub(crate) fn of_bytes(path: PathBuf, bytes: Vec<u8>) -> Self {
        Self { path, bytes: bytes.into(), loaded: None }
    }

    /// Reads the file at `path`, or what the process has of it where that is another one by now.
    ///
    /// # Errors
    /// [`LookupError::Read`].
    pub fn read(system: &System, path: &Path) -> Result<Self, LookupError> {
        let read = || {
            let real = system.real_path(path).unwrap_or_else(|_| path.to_owned());
            if let Some(mapping) = system.replaced(&real) {
                let Contents { bytes, loaded } = system.contents_of(mapping)?;
                return Ok(Self { path: real, bytes: bytes.into(), loaded });
            }
            Ok(Self::of_bytes(system.real_path(path)?, system.read(path)?))
        };
        read().map_err(|source| LookupError::Read { path: path.to_owned(), source })
    }

    /// What is in it.
    ///
    /// # Errors
    /// [`LookupError::Elf`].
    pub fn image(&self) -> Result<Image<'_>, LookupError> {
        let image = match self.loaded {
            Some(bias) => Image::parse_loaded(&self.bytes, bias),
            None => Image::parse(&self.bytes),
        };
        let checked = image.and_then(|image| image.isa().map(|_| image));
        checked.map_err(|source| LookupError::Elf { path: self.path.clone(), source })
    }

    /// How many functions it names.
    pub(crate) fn functions(&self) -> Result<u64, LookupError> {
        let image = self.image()?;
        Ok(Symbols::read(&image, &frames(&image)).functions().count() as u64)
    }

    /// The places that `spec`'s NAME means in it; the image and the symbols are its own.
    pub(crate) fn resolve(
        &self,
        image: &Image<'_>,
        symbols: &Symbols<'_>,
        spec: &Spec,
    ) -> Result<Vec<Match>, LookupError> {
        resolve(image, symbols, &spec.name)
            .map_err(|source| LookupError::Name { path: self.path.clone(), source })
    }

    /// The canonical name of a place in it.
    #[must_use]
    pub fn probe(&self, place: &Match) -> String {
        Spec::canonical(Kind::Uprobe, &self.path.to_string_lossy(), place.name()).text
    }
}

/// The files that a PROBE's PATH means.
///
/// # Errors
/// [`LookupError`]: it means none, or one cannot be read.
pub fn binaries(system: &System, spec: &Spec) -> Result<Vec<Binary>, LookupError> {
    let found = path::find(system, &spec.path)?;
    found.files.iter().map(|path| Binary::read(system, path)).collect()
}

/// Everything that `spec` means. Of several files one must have the name; others may lack it, and `*` passes over
/// mapped files that cannot be read as programs.
///
/// # Errors
/// [`LookupError`].
pub fn list(system: &System, spec: &Spec) -> Result<Vec<Entry>, LookupError> {
    let mut entries = Vec::new();
    in_any(path::find(system, &spec.path)?.files, |path| {
        let binary = Binary::read(system, &path)?;
        let found = places(&binary, spec)?;
        entries.extend(found.iter().map(|place| Entry::of(&binary, place)));
        Ok(found.len())
    })?;
    Ok(entries)
}

/// Looks into each of several files; `find` says how many places it found. One of the files must have some; others may lack
/// them, or be no programs.
pub(crate) fn in_any<F>(
    files: impl IntoIterator<Item = F>,
    mut find: impl FnMut(F) -> Result<usize, LookupError>,
) -> Result<(), LookupError> {
    let mut found = 0;
    let mut missed = Vec::new();
    for file in files {
        match find(file) {
            Ok(count) => found += count,
            Err(error) => missed.push(error),
        }
    }
    match LookupError::of_all(missed) {
        Some(error) if found == 0 => Err(error),
        _ => Ok(()),
    }
}

/// The places that `spec`'s NAME means in one file.
///
/// # Errors
/// [`LookupError`].
pub fn places(binary: &Binary, spec: &Spec) -> Result<Vec<Match>, LookupError> {
    let image = binary.image()?;
    let symbols = Symbols::read(&image, &frames(&image));
    binary.resolve(&image, &symbols, spec)
}

/// A line for each file of `spec` that is not looked at, but what the process has mapped of it.
#[must_use]
pub fn notices(system: &System, spec: &Spec) -> Vec<String> {
    let found = path::find(system, &spec.path).map(|found| found.files).unwrap_or_default();
    found.iter().filter_map(|path| system.replaced_notice(path)).collect()
}

/// The files with code that a process has mapped, and how many functions each names.
///
/// # Errors
/// Per file: [`LookupError`]; others are not affected.
pub fn mapped(system: &System) -> Vec<(PathBuf, Result<u64, LookupError>)> {
    let count = |path: &Path| Binary::read(system, path)?.functions();
    system
        .mapped()
        .unwrap_or_default()
        .into_iter()
        .map(|file| {
            let counted = count(&file.path);
            (file.path, counted)
        })
        .collect()
}
