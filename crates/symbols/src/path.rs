//! Which files the PATH of a probe means.
//!
//! With a slash it is a file. Without one it is, in this order: with a process, the mapped files by file name, by soname, by
//! `lib`+name; then a command on PATH; then a library in the loader's cache. `*` is every mapped file.

use std::path::{Path, PathBuf};

use crate::near::nearest;
use crate::spec::PathPattern;

/// A file mapped by the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFile {
    /// As /proc/PID/maps names it.
    pub path: PathBuf,
    /// Its `DT_SONAME`, where the caller knows it.
    pub soname: Option<String>,
}

/// An entry of the loader's cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedLibrary {
    /// For instance `libc.so.6`.
    pub soname: String,
    /// Where it is.
    pub path: PathBuf,
}

/// What files there are, for the rules above. The caller answers as the target sees them.
pub trait Files {
    /// The files that the process maps executable; `None` when there is no process.
    fn mapped(&self) -> Option<Vec<MappedFile>>;
    /// A regular file is there.
    fn exists(&self, path: &Path) -> bool;
    /// A regular file is there that may be executed.
    fn is_executable(&self, path: &Path) -> bool;
    /// The directories of PATH.
    fn path_dirs(&self) -> Vec<PathBuf>;
    /// The loader's cache ([`crate::ld_cache`]).
    fn loader_cache(&self) -> Vec<CachedLibrary>;
}

/// What a PATH means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The files, without duplicates: several where a process maps several files of one name.
    pub files: Vec<PathBuf>,
    /// The process maps them; a probe on a file that it does not map waits.
    pub mapped: bool,
    /// The library into which the one that was asked for has been merged.
    pub merged_into: Option<&'static str>,
}

/// Why a PATH means no file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A path with a slash.
    #[error("no such file, or not a regular one: {}", .0.display())]
    NoSuchFile(PathBuf),
    /// A mapping that no file is behind.
    #[error("`{0}` belongs to the kernel, not to a file, and cannot be probed")]
    Kernel(String),
    /// A name without a slash.
    #[error(
        "`{name}` is no {}command on PATH and no library in the loader's cache{}",
        if *.mapped { "mapped file, no " } else { "" },
        if .near.is_empty() { String::new() } else { format!("; is it one of: {}?", .near.join(", ")) }
    )]
    Unknown {
        /// As typed.
        name: String,
        /// Mapped files were looked at too.
        mapped: bool,
        /// Names like it.
        near: Vec<String>,
    },
    /// `*` without `-p`.
    #[error("`*` means every mapped file and needs a process (-p PID)")]
    NoProcess,
}

/// Libraries that glibc 2.34 merged into libc: they are looked up there. (libm was not merged.)
const MERGED: [&str; 5] = ["libpthread", "libdl", "librt", "libutil", "libanl"];

/// Applies the rules.
///
/// # Errors
/// [`PathError`]: there is no such file.
pub fn find(files: &impl Files, path: &PathPattern) -> Result<Found, PathError> {
    let mapped = files.mapped();
    match path {
        PathPattern::Every => {
            let mapped = mapped.ok_or(PathError::NoProcess)?;
            Ok(found(mapped.into_iter().map(|file| file.path).collect(), true))
        }
        PathPattern::Named(path) if path.contains('/') => file(files, mapped.as_deref(), Path::new(path)),
        PathPattern::Named(name) => named(files, mapped.as_deref(), name),
    }
}

fn found(mut files: Vec<PathBuf>, mapped: bool) -> Found {
    files.sort();
    files.dedup();
    Found { files, mapped, merged_into: None }
}

/// A mapped file may be gone from the file system (replaced by an upgrade): it can still be probed.
fn file(files: &impl Files, mapped: Option<&[MappedFile]>, path: &Path) -> Result<Found, PathError> {
    let is_mapped = mapped.is_some_and(|mapped| mapped.iter().any(|file| file.path == path));
    if is_mapped || files.exists(path) {
        return Ok(found(vec![path.to_owned()], is_mapped));
    }
    Err(PathError::NoSuchFile(path.to_owned()))
}

/// What /proc/PID/maps calls the kernel's own code, and ldd(1) the first of it.
const KERNEL: [&str; 3] = ["[vdso]", "[vsyscall]", "linux-vdso.so.1"];

fn named(files: &impl Files, mapped: Option<&[MappedFile]>, name: &str) -> Result<Found, PathError> {
    if KERNEL.contains(&name) {
        return Err(PathError::Kernel(name.to_owned()));
    }
    if let Some(paths) = mapped.and_then(|mapped| among_mapped(mapped, name)) {
        return Ok(found(paths, true));
    }
    // Before the other places: a stub of the merged library may still lie there, without the functions.
    let merged = merged(name);
    if let Some(paths) = merged.and(mapped).and_then(|mapped| among_mapped(mapped, "libc.so.6")) {
        return Ok(Found { merged_into: Some("libc.so.6"), ..found(paths, true) });
    }
    if let Some(command) = on_path(files, name) {
        return Ok(found(vec![command], false));
    }
    let cache = files.loader_cache();
    if merged.is_some()
        && let Some(libc) = in_cache(files, &cache, "libc.so.6")
    {
        return Ok(Found { merged_into: Some("libc.so.6"), ..found(vec![libc], false) });
    }
    if let Some(library) = in_cache(files, &cache, name) {
        return Ok(found(vec![library], false));
    }
    let mapped_names = mapped.unwrap_or(&[]).iter().filter_map(|file| file_name(&file.path));
    let candidates = mapped_names.chain(cache.iter().map(|library| library.soname.as_str()));
    let stems = candidates.map(|name| stem(name).unwrap_or(name));
    let near = nearest(name, stems);
    Err(PathError::Unknown { name: name.to_owned(), mapped: mapped.is_some(), near })
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// The first rule that finds a file decides: exact names before stems, names before sonames.
fn among_mapped(mapped: &[MappedFile], name: &str) -> Option<Vec<PathBuf>> {
    let rules: [fn(&MappedFile, &str) -> bool; 4] = [
        |file, name| file_name(&file.path) == Some(name),
        |file, name| file.soname.as_deref() == Some(name),
        |file, name| file_name(&file.path).is_some_and(|own| is_stem(own, name)),
        |file, name| file.soname.as_deref().is_some_and(|own| is_stem(own, name)),
    ];
    rules.iter().find_map(|rule| {
        let paths: Vec<_> =
            mapped.iter().filter(|file| rule(file, name)).map(|file| file.path.clone()).collect();
        (!paths.is_empty()).then_some(paths)
    })
}

/// `libssl` of `libssl.so.3`, `libc` of `libc-2.31.so`.
fn stem(library: &str) -> Option<&str> {
    let (base, rest) = library.split_once(".so")?;
    if !(rest.is_empty() || rest.starts_with('.')) {
        return None;
    }
    match base.rsplit_once('-') {
        Some((name, version)) if version.starts_with(|first: char| first.is_ascii_digit()) => Some(name),
        _ => Some(base),
    }
}

/// `library` is what people call `name`: `c` and `libc` are `libc.so.6`.
fn is_stem(library: &str, name: &str) -> bool {
    let Some(stem) = stem(library) else { return false };
    stem == name || stem.strip_prefix("lib") == Some(name)
}

fn merged(name: &str) -> Option<()> {
    let plain = stem(name).unwrap_or(name);
    MERGED.iter().any(|library| *library == plain || library.strip_prefix("lib") == Some(plain)).then_some(())
}

fn on_path(files: &impl Files, name: &str) -> Option<PathBuf> {
    let commands = files.path_dirs().into_iter().map(|directory| directory.join(name));
    commands.into_iter().find(|command| files.is_executable(command))
}

fn in_cache(files: &impl Files, cache: &[CachedLibrary], name: &str) -> Option<PathBuf> {
    let there = |library: &&CachedLibrary| files.exists(&library.path);
    let exact = || cache.iter().filter(|library| library.soname == name).find(there);
    let by_stem = || cache.iter().filter(|library| is_stem(&library.soname, name)).find(there);
    exact().or_else(by_stem).map(|library| library.path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Fake {
        mapped: Option<Vec<(&'static str, Option<&'static str>)>>,
        there: Vec<&'static str>,
        cache: Vec<(&'static str, &'static str)>,
    }

    impl Files for Fake {
        fn mapped(&self) -> Option<Vec<MappedFile>> {
            let file = |(path, soname): &(&str, Option<&str>)| MappedFile {
                path: path.into(),
                soname: soname.map(str::to_owned),
            };
            self.mapped.as_ref().map(|mapped| mapped.iter().map(file).collect())
        }
        fn exists(&self, path: &Path) -> bool {
            self.there.iter().any(|there| Path::new(there) == path)
        }
        fn is_executable(&self, path: &Path) -> bool {
            self.exists(path)
        }
        fn path_dirs(&self) -> Vec<PathBuf> {
            vec!["/usr/local/bin".into(), "/usr/bin".into()]
        }
        fn loader_cache(&self) -> Vec<CachedLibrary> {
            let library =
                |(soname, path): &(&str, &str)| CachedLibrary { soname: (*soname).into(), path: path.into() };
            self.cache.iter().map(library).collect()
        }
    }

    fn paths(files: &Fake, path: &str) -> Vec<String> {
        let pattern = PathPattern::Named(path.to_owned());
        let found = find(files, &pattern).unwrap_or_else(|error| panic!("{path}: {error}"));
        found.files.iter().map(|path| path.display().to_string()).collect()
    }

    fn process() -> Fake {
        Fake {
            mapped: Some(vec![
                ("/opt/app/server", None),
                ("/lib/libc.so.6", Some("libc.so.6")),
                ("/lib/libssl.so.3", Some("libssl.so.3")),
                ("/lib/libm-2.31.so", Some("libm.so.6")),
                ("/opt/odd-name.so", Some("libodd.so.1")),
            ]),
            there: vec!["/usr/bin/c", "/usr/bin/server"],
            cache: vec![],
        }
    }

    #[test]
    fn mapped_files_go_before_commands() {
        let process = process();
        for name in ["c", "libc", "libc.so.6"] {
            assert_eq!(paths(&process, name), ["/lib/libc.so.6"], "{name}");
        }
        assert_eq!(paths(&process, "server"), ["/opt/app/server"]);
        assert_eq!(paths(&process, "libssl"), ["/lib/libssl.so.3"]);
        assert_eq!(paths(&process, "libm"), ["/lib/libm-2.31.so"]);
        assert_eq!(paths(&process, "libm.so.6"), ["/lib/libm-2.31.so"]);
        assert_eq!(paths(&process, "odd"), ["/opt/odd-name.so"]);
    }

    #[test]
    fn merged_libraries_are_looked_up_in_libc() {
        let found = find(&process(), &PathPattern::Named("libpthread".to_owned())).unwrap();
        assert_eq!(found.files, [PathBuf::from("/lib/libc.so.6")]);
        assert_eq!((found.mapped, found.merged_into), (true, Some("libc.so.6")));
        let cached = Fake {
            there: vec!["/lib/libc.so.6", "/lib/libpthread.so.0"],
            cache: vec![("libpthread.so.0", "/lib/libpthread.so.0"), ("libc.so.6", "/lib/libc.so.6")],
            ..Fake::default()
        };
        assert_eq!(paths(&cached, "libpthread.so.0"), ["/lib/libc.so.6"]);
    }

    #[test]
    fn an_old_library_of_its_own_is_taken_where_it_is_mapped() {
        let old = Fake {
            mapped: Some(vec![("/lib/libpthread-2.31.so", None), ("/lib/libc-2.31.so", Some("libc.so.6"))]),
            ..Fake::default()
        };
        assert_eq!(paths(&old, "libpthread"), ["/lib/libpthread-2.31.so"]);
    }

    #[test]
    fn without_a_process_commands_go_before_the_cache() {
        let files = Fake {
            there: vec!["/usr/bin/bash", "/lib/libc.so.6"],
            cache: vec![("libc.so.6", "/lib32/libc.so.6"), ("libc.so.6", "/lib/libc.so.6")],
            ..Fake::default()
        };
        assert_eq!(paths(&files, "bash"), ["/usr/bin/bash"]);
        assert_eq!(paths(&files, "libc"), ["/lib/libc.so.6"]);
        assert_eq!(find(&files, &PathPattern::Every), Err(PathError::NoProcess));
    }

    #[test]
    fn a_slash_means_the_file_itself() {
        assert_eq!(paths(&process(), "/usr/bin/c"), ["/usr/bin/c"]);
        // Mapped, but no longer in the file system.
        assert_eq!(paths(&process(), "/opt/app/server"), ["/opt/app/server"]);
        let missing = find(&process(), &PathPattern::Named("./nothing".to_owned()));
        assert_eq!(missing, Err(PathError::NoSuchFile("./nothing".into())));
    }

    #[test]
    fn every_is_each_mapped_file_once() {
        let twice = Fake { mapped: Some(vec![("/a", None), ("/a", None), ("/b", None)]), ..Fake::default() };
        assert_eq!(find(&twice, &PathPattern::Every).unwrap().files.len(), 2);
    }

    #[test]
    fn an_unknown_name_suggests() {
        let error = find(&process(), &PathPattern::Named("libsssl".to_owned())).unwrap_err();
        let PathError::Unknown { near, mapped, .. } = &error else { panic!("{error}") };
        assert!(*mapped && near.contains(&"libssl".to_owned()), "{near:?}");
    }
}
