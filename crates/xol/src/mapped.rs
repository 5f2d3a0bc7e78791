//! The bytes of a mapped file whose path leads to another file by now, or to none: an upgrade replaced it, say, and the
//! process goes on with what it has.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use symbols::Bias;
use symbols::maps::Mapping;

use crate::files::{System, shown};

/// The bytes read from a process for a module whose file is gone: no text we know is larger.
const MEMORY_LIMIT: u64 = 1 << 30;

/// A program or library as a process has it.
#[derive(Debug)]
pub(crate) struct Contents {
    /// At their offsets in the file.
    pub(crate) bytes: Vec<u8>,
    /// Where it is loaded, if the bytes are the process's memory: addresses in it are relocated then.
    pub(crate) loaded: Option<Bias>,
}

impl System {
    /// Whether the file at a mapping's path is no longer the one that is mapped, or none is there as the process sees it.
    ///
    /// Inodes alone are compared: on overlay file systems /proc/PID/maps names another device than stat(2).
    pub(crate) fn is_replaced(&self, mapping: &Mapping) -> bool {
        let path = Path::new(mapping.path.as_deref().unwrap_or_default());
        mapping.deleted
            || match self.identity(path) {
                Ok(file) => file.inode() != mapping.inode,
                Err(error) => error.kind() == std::io::ErrorKind::NotFound,
            }
    }

    /// A mapping of the code of `path` (without links), if what is mapped is no longer the file there.
    pub(crate) fn replaced(&self, path: &Path) -> Option<&Mapping> {
        let of_path = |mapping: &&Mapping| {
            mapping.executable && mapping.is_file() && mapping.path.as_deref().map(Path::new) == Some(path)
        };
        let mut mappings = self.mappings().iter().filter(of_path);
        let first = mappings.next()?;
        (self.is_replaced(first) && mappings.all(|mapping| self.is_replaced(mapping))).then_some(first)
    }

    /// The line that says so.
    #[must_use]
    pub fn replaced_notice(&self, path: &Path) -> Option<String> {
        self.replaced(path).map(|_| replaced_notice(path))
    }

    /// What `mapping` shows a part of: the file itself where the kernel still leads to it, else the process's memory.
    ///
    /// # Errors
    /// The process's memory may not be read.
    pub(crate) fn contents_of(&self, mapping: &Mapping) -> io::Result<Contents> {
        let pid = self.pid().ok_or(io::ErrorKind::NotFound)?;
        if let Some(bytes) = unlinked(pid, mapping) {
            return Ok(Contents { bytes, loaded: None });
        }
        let memory = File::open(shown(pid).join("mem"))?;
        let same = |other: &&Mapping| (other.inode, other.device) == (mapping.inode, mapping.device);
        let mut pieces: Vec<&Mapping> = self.mappings().iter().filter(same).collect();
        // Where two segments share a page of the file, the one that the program may write to is less like the file.
        pieces.sort_by_key(|piece| !piece.writable);
        let mut bytes = Vec::new();
        for piece in &pieces {
            copy_piece(&memory, piece, &mut bytes);
        }
        let first = pieces.iter().find(|piece| piece.offset == 0);
        let bias = Bias(first.map_or(0, |first| first.range.start.0));
        Ok(Contents { bytes, loaded: Some(bias) })
    }
}

/// The line that says that a file is not looked at, but what a process has mapped of it.
pub(crate) fn replaced_notice(path: &Path) -> String {
    format!(
        "{} was deleted or replaced after it was mapped: analysed from memory, as the process has it",
        path.display()
    )
}

/// The file that has no name any more: a process's executable is always within reach; other files are for those with
/// CAP_CHECKPOINT_RESTORE (proc_pid_map_files(5)). It has what is never in memory: the symbols that are not exported.
fn unlinked(pid: u32, mapping: &Mapping) -> Option<Vec<u8>> {
    let range = &mapping.range;
    let ways =
        [shown(pid).join("exe"), shown(pid).join(format!("map_files/{:x}-{:x}", range.start.0, range.end.0))];
    ways.iter().find_map(|way| {
        let metadata = fs::metadata(way).ok()?;
        if !metadata.is_file() || metadata.ino() != mapping.inode {
            return None;
        }
        let mut bytes = Vec::new();
        File::open(way).ok()?.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    })
}

/// Puts a mapping's memory where it belongs in the file. What cannot be read stays zero.
fn copy_piece(memory: &File, piece: &Mapping, bytes: &mut Vec<u8>) {
    let len = piece.range.end - piece.range.start;
    let end = piece.offset.saturating_add(len);
    if end > MEMORY_LIMIT {
        return;
    }
    let (Ok(start), Ok(end)) = (usize::try_from(piece.offset), usize::try_from(end)) else { return };
    bytes.resize(bytes.len().max(end), 0);
    if let Some(buffer) = bytes.get_mut(start..end) {
        let _ = memory.read_exact_at(buffer, piece.range.start.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_executable_is_what_it_was() {
        let system = System::of_process(std::process::id()).unwrap();
        let own = std::env::current_exe().unwrap();
        assert!(system.replaced(&own).is_none());
        assert!(system.replaced(Path::new("/no/such/file")).is_none());
    }

    #[test]
    fn memory_is_put_where_the_file_has_it() {
        let system = System::of_process(std::process::id()).unwrap();
        let is_library = |mapping: &&Mapping| {
            mapping.executable && mapping.path.as_deref().is_some_and(|path| path.contains("libc"))
        };
        let Some(mapping) = system.mappings().iter().find(is_library) else {
            println!("skipped: this test has no libc of its own");
            return;
        };
        // The same mapping with an inode that no file has: only the memory is left.
        let file = fs::read(mapping.path.as_deref().unwrap()).unwrap();
        let memory = File::open("/proc/self/mem").unwrap();
        let mut bytes = Vec::new();
        copy_piece(&memory, mapping, &mut bytes);
        let start = usize::try_from(mapping.offset).unwrap();
        let end = bytes.len().min(file.len());
        assert!(bytes[start..end] == file[start..end], "the text of libc differs from its file");
    }
}
