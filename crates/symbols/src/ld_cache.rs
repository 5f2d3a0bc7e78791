//! The loader's cache of libraries, `/etc/ld.so.cache` (glibc, `sysdeps/generic/dl-cache.h`, `struct cache_file_new`).
//!
//! The file is a table of fixed entries and a table of strings. Old files have the format of libc5 first and the new one
//! behind it, aligned; both are found by the new one's magic.

use std::path::PathBuf;

use insn::Isa;

use crate::path::CachedLibrary;
use crate::reader::{Reader, string_at};

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0\0";
/// Magic, number of libraries, length of strings, flags, padding, offset of extensions, unused.
const HEADER_LEN: usize = 20 + 4 + 4 + 1 + 3 + 4 + 12;
const OLD_HEADER_LEN: usize = 16;
const OLD_ENTRY_LEN: usize = 12;

/// Type (low byte) and required ABI (second byte) of an entry's flags.
const KIND_MASK: u32 = 0xff;
const ELF_LIBC6: u32 = 3;
const ABI_MASK: u32 = 0xff00;

/// The ABI in an entry's flags: `FLAG_X8664_LIB64`, or none for i386.
fn abi(isa: Isa) -> u32 {
    match isa {
        Isa::I386 => 0,
        _ => 0x0300,
    }
}

/// Why the cache cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// Another format (or not a cache at all).
    #[error("not a loader cache of a known format")]
    Format,
    /// Shorter than it says.
    #[error("truncated loader cache")]
    Truncated,
}

/// The libraries of a cache for an ISA, in the file's order: the loader takes the first that fits.
///
/// # Errors
/// [`CacheError`] where the header is not one.
pub fn parse(isa: Isa, bytes: &[u8]) -> Result<Vec<CachedLibrary>, CacheError> {
    let bytes = new_format(bytes)?;
    let mut header = Reader::new(bytes.get(MAGIC.len()..).unwrap_or(&[]));
    let count = header.u32().ok_or(CacheError::Truncated)?;
    let mut entries = Reader::starting_at(bytes, HEADER_LEN as u64).ok_or(CacheError::Truncated)?;
    let mut libraries = Vec::new();
    for _ in 0..count {
        let entry = (|| {
            let flags = entries.u32()?;
            let (name, path) = (entries.u32()?, entries.u32()?);
            let (_os_version, _hardware) = (entries.u32()?, entries.u64()?);
            Some((flags, name, path))
        })();
        let (flags, name, path) = entry.ok_or(CacheError::Truncated)?;
        if flags & KIND_MASK == ELF_LIBC6 && flags & ABI_MASK == abi(isa) {
            libraries.extend(library(bytes, name, path));
        }
    }
    Ok(libraries)
}

/// Both strings are offsets from the start of the new format's header.
fn library(bytes: &[u8], name: u32, path: u32) -> Option<CachedLibrary> {
    const LONGEST: usize = 4096; // PATH_MAX
    let text = |offset: u32| {
        let at = bytes.get(usize::try_from(offset).ok()?..)?;
        string_at(at.get(..LONGEST.min(at.len()))?, 0)
    };
    Some(CachedLibrary { soname: text(name)?.to_owned(), path: PathBuf::from(text(path)?) })
}

fn new_format(bytes: &[u8]) -> Result<&[u8], CacheError> {
    if bytes.starts_with(MAGIC) {
        return Ok(bytes);
    }
    if !bytes.starts_with(OLD_MAGIC) {
        return Err(CacheError::Format);
    }
    let count = Reader::starting_at(bytes, OLD_MAGIC.len() as u64).and_then(|mut reader| reader.u32());
    let count = usize::try_from(count.ok_or(CacheError::Truncated)?).map_err(|_| CacheError::Format)?;
    let end = count.checked_mul(OLD_ENTRY_LEN).and_then(|len| len.checked_add(OLD_HEADER_LEN));
    let new = end.and_then(|end| end.checked_next_multiple_of(8)).and_then(|start| bytes.get(start..));
    new.filter(|new| new.starts_with(MAGIC)).ok_or(CacheError::Format)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A cache of one x86-64 and one i386 library.
    fn cache() -> Vec<u8> {
        let strings = b"libx.so.1\0/lib/libx.so.1\0/lib32/libx.so.1\0";
        let base = u32::try_from(HEADER_LEN + 2 * 24).unwrap();
        let mut bytes = MAGIC.to_vec();
        bytes.extend(2u32.to_le_bytes());
        bytes.extend(u32::try_from(strings.len()).unwrap().to_le_bytes());
        bytes.resize(HEADER_LEN, 0);
        for (flags, path) in [(0x0303u32, 10u32), (0x0003, 25)] {
            for field in [flags, base, base + path, 0, 0, 0] {
                bytes.extend(field.to_le_bytes());
            }
        }
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn only_libraries_of_the_isa_are_taken() {
        for (isa, path) in [(Isa::X86_64, "/lib/libx.so.1"), (Isa::I386, "/lib32/libx.so.1")] {
            let libraries = parse(isa, &cache()).unwrap();
            assert_eq!(libraries, [CachedLibrary { soname: "libx.so.1".into(), path: path.into() }]);
        }
    }

    #[test]
    fn the_new_format_is_found_behind_the_old() {
        let mut bytes = OLD_MAGIC.to_vec();
        bytes.extend(1u32.to_le_bytes());
        bytes.resize((OLD_HEADER_LEN + OLD_ENTRY_LEN).next_multiple_of(8), 0);
        bytes.extend(cache());
        assert_eq!(parse(Isa::X86_64, &bytes).unwrap().len(), 1);
    }

    #[test]
    fn this_machines_cache_has_libc() {
        let Ok(bytes) = std::fs::read("/etc/ld.so.cache") else {
            eprintln!("skipped: no /etc/ld.so.cache here");
            return;
        };
        let libraries = parse(Isa::X86_64, &bytes).unwrap();
        let libc = libraries.iter().find(|library| library.soname == "libc.so.6").unwrap();
        assert!(libc.path.is_absolute());
    }

    #[test]
    fn bad_caches_are_refused() {
        assert_eq!(parse(Isa::X86_64, b""), Err(CacheError::Format));
        assert_eq!(parse(Isa::X86_64, MAGIC), Err(CacheError::Truncated));
        assert_eq!(parse(Isa::X86_64, &cache()[..HEADER_LEN + 30]), Err(CacheError::Truncated));
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0usize..160, byte: u8, len in 0usize..200) {
            let mut bytes = cache();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(len);
            let _ = parse(Isa::X86_64, &bytes);
        }
    }
}
