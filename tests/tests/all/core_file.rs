//! Core files, as far as the tests look into them (elf(5), and kernel/fs/binfmt_elf.c for the notes).

use std::fs;
use std::path::Path;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const NT_PRSTATUS: u32 = 1;
/// Where `pr_reg` begins in `struct elf_prstatus`, and `pr_cursig`.
const PR_REG: usize = 112;
const PR_CURSIG: usize = 12;

/// A core file of this machine's own kind.
pub(crate) struct CoreFile {
    bytes: Vec<u8>,
}

impl CoreFile {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(bytes.starts_with(b"\x7fELF\x02\x01"), "{} is no 64-bit ELF file", path.display());
        Self { bytes }
    }

    fn number(&self, at: usize, len: usize) -> usize {
        let bytes = &self.bytes[at..at + len];
        bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte))
    }

    /// Kind, offset, address and length of each segment.
    fn segments(&self) -> impl Iterator<Item = (u32, usize, u64, usize)> + '_ {
        let (start, len, count) = (self.number(32, 8), self.number(54, 2), self.number(56, 2));
        (0..count).map(move |index| start + index * len).map(|at| {
            let kind = u32::try_from(self.number(at, 4)).expect("four bytes");
            (kind, self.number(at + 8, 8), self.number(at + 16, 8) as u64, self.number(at + 32, 8))
        })
    }

    /// The first `prstatus`: that of the thread that died.
    fn status(&self) -> usize {
        let (_, mut at, ..) = self.segments().find(|(kind, ..)| *kind == PT_NOTE).expect("notes");
        loop {
            let (name, len, kind) = (self.number(at, 4), self.number(at + 4, 4), self.number(at + 8, 4));
            let body = at + 12 + name.next_multiple_of(4);
            if kind == NT_PRSTATUS as usize {
                return body;
            }
            at = body + len.next_multiple_of(4);
        }
    }

    /// The signal it died of.
    pub(crate) fn signal(&self) -> i32 {
        i32::try_from(self.number(self.status() + PR_CURSIG, 2)).expect("two bytes")
    }

    /// A register of `struct user_regs_struct`, by its place there.
    pub(crate) fn register(&self, place: usize) -> u64 {
        self.number(self.status() + PR_REG + 8 * place, 8) as u64
    }

    /// Memory, if it was dumped.
    pub(crate) fn memory(&self, address: u64, len: usize) -> Option<&[u8]> {
        let (_, offset, start, _) = self.segments().find(|(kind, _, start, size)| {
            *kind == PT_LOAD && (*start..*start + *size as u64).contains(&address)
        })?;
        let at = offset + usize::try_from(address - start).ok()?;
        self.bytes.get(at..at + len)
    }
}
