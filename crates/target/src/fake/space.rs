//! An address space made of mappings with their bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use insn::Address;
use symbols::maps::Mapping;

/// Where the bytes of a mapping are.
#[derive(Clone, Debug)]
enum Bytes {
    Private(Vec<u8>),
    /// A memfd that others have mapped too.
    Shared(Rc<File>),
}

/// One mapping.
#[derive(Clone, Debug)]
struct Region {
    mapping: Mapping,
    bytes: Bytes,
}

/// What an access is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// By the tracer, which may read and write everything (`FOLL_FORCE`).
    Tracer,
    Read,
    Write,
    Execute,
}

/// Mappings by start; they do not overlap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    regions: BTreeMap<Address, Region>,
}

fn index(from: u64) -> usize {
    usize::try_from(from).expect("a mapping of the fake is small")
}

impl Space {
    pub(crate) fn mappings(&self) -> Vec<Mapping> {
        self.regions.values().map(|region| region.mapping.clone()).collect()
    }

    /// Maps private memory with these bytes.
    pub(crate) fn map(&mut self, mapping: Mapping, bytes: Vec<u8>) {
        assert_eq!(mapping.range.end - mapping.range.start, bytes.len() as u64);
        assert!(self.is_free(&mapping.range), "{mapping:?} overlaps");
        self.regions.insert(mapping.range.start, Region { mapping, bytes: Bytes::Private(bytes) });
    }

    /// Maps a file that others see too.
    pub(super) fn map_shared(&mut self, mapping: Mapping, file: Rc<File>) {
        self.regions.insert(mapping.range.start, Region { mapping, bytes: Bytes::Shared(file) });
    }

    pub(super) fn is_free(&self, range: &Range<Address>) -> bool {
        let overlaps = |region: &Region| {
            region.mapping.range.start < range.end && range.start < region.mapping.range.end
        };
        !self.regions.values().any(overlaps)
    }

    /// Unmaps whole mappings; parts are not needed here.
    pub(crate) fn unmap(&mut self, range: &Range<Address>) {
        self.regions.retain(|start, region| {
            let touched = *start < range.end && range.start < region.mapping.range.end;
            let whole = range.start <= *start && region.mapping.range.end <= range.end;
            assert!(whole || !touched, "the fake unmaps no parts of mappings");
            !touched
        });
    }

    fn region_of(&self, at: Address) -> Option<(&Region, u64)> {
        let (start, region) = self.regions.range(..=at).next_back()?;
        (at < region.mapping.range.end).then(|| (region, at - *start))
    }

    pub(super) fn allows(&self, at: Address, access: Access) -> bool {
        self.region_of(at).is_some_and(|(region, _)| match access {
            Access::Tracer => true,
            Access::Read => region.mapping.readable,
            Access::Write => region.mapping.writable,
            Access::Execute => region.mapping.executable,
        })
    }

    /// Fills `buffer`; `None` where something is not mapped, or not for that.
    pub(super) fn read(&self, at: Address, buffer: &mut [u8], access: Access) -> Option<()> {
        let mut done = 0;
        while done < buffer.len() {
            let here = at + done as u64;
            let (region, offset) = self.region_of(here).filter(|_| self.allows(here, access))?;
            let room = index(region.mapping.range.end - here).min(buffer.len() - done);
            let part = &mut buffer[done..done + room];
            match &region.bytes {
                Bytes::Private(bytes) => part.copy_from_slice(&bytes[index(offset)..index(offset) + room]),
                Bytes::Shared(file) => file.read_exact_at(part, region.mapping.offset + offset).ok()?,
            }
            done += room;
        }
        Some(())
    }

    /// Writes all of `bytes`, or nothing.
    pub(super) fn write(&mut self, at: Address, bytes: &[u8], access: Access) -> Option<()> {
        let end = at + bytes.len() as u64;
        let mut here = at;
        while here < end {
            here = self.region_of(here).filter(|_| self.allows(here, access))?.0.mapping.range.end;
        }
        let mut done = 0;
        while done < bytes.len() {
            let here = at + done as u64;
            let (start, region) = self.regions.range_mut(..=here).next_back()?;
            let offset = here - *start;
            let room = index(region.mapping.range.end - here).min(bytes.len() - done);
            let part = &bytes[done..done + room];
            match &mut region.bytes {
                Bytes::Private(all) => all[index(offset)..index(offset) + room].copy_from_slice(part),
                Bytes::Shared(file) => file.write_all_at(part, region.mapping.offset + offset).ok()?,
            }
            done += room;
        }
        Some(())
    }

    /// The bytes of a range, as the tracer sees them.
    pub(crate) fn bytes(&self, range: &Range<Address>) -> Vec<u8> {
        let mut bytes = vec![0; index(range.end - range.start)];
        self.read(range.start, &mut bytes, Access::Tracer).expect("a mapped range");
        bytes
    }

    /// What the program itself does to its memory, whatever the protection.
    pub(crate) fn poke(&mut self, at: Address, bytes: &[u8]) {
        self.write(at, bytes, Access::Tracer).expect("a mapped range");
    }

    pub(super) fn load(&self, at: Address, len: usize, access: Access) -> Option<u64> {
        let mut word = [0; 8];
        self.read(at, &mut word[..len], access)?;
        Some(u64::from_le_bytes(word))
    }
}
