//! The memory of the two processes of lock-step, as a whole: alike at the program's entry, compared where a window begins.

use std::collections::HashMap;
use std::ops::Range;

use super::tracee::Tracee;
use crate::{Region, maps};

/// Where glibc has the thread's number behind the thread pointer (`struct pthread` of nptl/descr.h, x86-64).
const THREAD_NUMBER: u64 = 0x2d0;

/// What the program can write, but for some ranges.
fn writable(pid: u32, but: &[Range<u64>]) -> impl Iterator<Item = Region> {
    let is_left_out = |region: &Region| but.iter().any(|range| range.contains(&region.range.start));
    maps(pid).into_iter().filter(move |region| region.permissions.starts_with("rw") && !is_left_out(region))
}

fn read(tracee: &Tracee, range: &Range<u64>) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
    tracee.read(range.start, &mut bytes).map(|()| bytes)
}

/// What is read at once.
const CHUNK: usize = 1 << 20;

/// A range in chunks.
fn chunks(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let end = range.end;
    (range.start..end).step_by(CHUNK).map(move |start| start..end.min(start + CHUNK as u64))
}

/// Writes what one process has in its memory into the other one's, but for the ranges that only that one has, with the same
/// number of the thread in both.
pub(super) fn copy(from: &Tracee, to: &Tracee, but: &[Range<u64>], thread: u32) -> std::io::Result<()> {
    let number = from.registers()?.fs_base.wrapping_add(THREAD_NUMBER);
    if read(from, &(number..number + 4)).is_ok_and(|found| found == from.pid().to_le_bytes()) {
        from.write(number, &thread.to_le_bytes())?;
    }
    for chunk in writable(from.pid(), but).flat_map(|region| chunks(&region.range)) {
        let bytes = read(from, &chunk)?;
        if read(to, &chunk)? != bytes {
            to.write(chunk.start, &bytes)?;
        }
    }
    to.copy_vectors(from)
}

/// The first word outside the stack that differs: what each has there.
pub(super) fn difference(
    probed: &Tracee,
    plain: &Tracee,
    but: &[Range<u64>],
    sp: u64,
) -> std::io::Result<Option<String>> {
    let regions = writable(plain.pid(), but).filter(|region| !region.range.contains(&sp));
    for (region, chunk) in
        regions.flat_map(|region| chunks(&region.range).map(move |chunk| (region.clone(), chunk)))
    {
        let theirs = read(plain, &chunk)?;
        let Ok(ours) = read(probed, &chunk) else {
            return Ok(Some(format!("the probed program has not mapped {:#x} {}", chunk.start, region.path)));
        };
        if ours != theirs {
            let words = ours.as_chunks::<8>().0.iter().zip(theirs.as_chunks::<8>().0);
            let found = (chunk.start..).step_by(8).zip(words).find(|(_, (ours, theirs))| ours != theirs);
            return Ok(found.map(|(at, (ours, theirs))| {
                let (ours, theirs) = (u64::from_le_bytes(*ours), u64::from_le_bytes(*theirs));
                format!("at {at:#x} {}: {ours:#x} instead of {theirs:#x}", region.path)
            }));
        }
    }
    Ok(None)
}

/// Bytes copied at once.
const LANE: u64 = 8;

/// Two bytes that differ: the probed process's, and the plain one's.
type Pair = (u8, u8);

/// What differs where a window begins, of the stack and the vector registers: bytes that the program has not written since a stub
/// saved registers there, when they were below the red zone, and padding that was loaded with them. As long as neither process
/// writes them they go on differing, and so do copies of them.
#[derive(Debug, Default)]
pub(super) struct Stale {
    /// By address.
    stack: HashMap<u64, Pair>,
    /// By place among the vector registers.
    vectors: HashMap<u64, Pair>,
}

impl Stale {
    /// What differs now, of the stack from an address on.
    pub(super) fn of(probed: &Tracee, plain: &Tracee, start: u64) -> std::io::Result<Self> {
        let stack = maps(plain.pid()).into_iter().find(|region| region.range.contains(&start));
        let stack = stack.map_or(start..start, |region| start..region.range.end);
        Ok(Self {
            stack: differing(stack.start, &read(probed, &stack)?, &read(plain, &stack)?),
            vectors: differing(0, &probed.vectors()?, &plain.vectors()?),
        })
    }

    /// Bytes that differ.
    pub(super) fn len(&self) -> usize {
        self.stack.len() + self.vectors.len()
    }

    /// Makes the probed one's vector registers, and its stack from an address on, the plain one's where they are stale.
    pub(super) fn forgive(&mut self, start: u64, ours: [&mut [u8]; 2], theirs: [&[u8]; 2]) {
        let ([vectors, stack], [plain_vectors, plain_stack]) = (ours, theirs);
        let of_vectors = differing(0, vectors, plain_vectors);
        let of_stack = differing(start, stack, plain_stack);
        let (copied, pushed) = (self.copies(&of_vectors), self.copies(&of_stack));
        self.vectors = still(&self.vectors, &of_vectors, 0, vectors.len());
        self.stack = still(&self.stack, &of_stack, start, stack.len());
        self.vectors.extend(copied);
        self.stack.extend(pushed);
        forgive(&self.vectors, 0, vectors, plain_vectors);
        forgive(&self.stack, start, stack, plain_stack);
    }

    /// Those of some differences that are new, and together in a lane as stale bytes are at some other place.
    fn copies(&self, found: &HashMap<u64, Pair>) -> HashMap<u64, Pair> {
        let is_new = |at: &u64| self.stack.get(at).or_else(|| self.vectors.get(at)) != found.get(at);
        let mut lanes: HashMap<u64, Vec<(u64, Pair)>> = HashMap::new();
        for (at, pair) in found.iter().filter(|(at, _)| is_new(at)) {
            lanes.entry(at / LANE).or_default().push((*at, *pair));
        }
        let copied = lanes.into_values().filter(|lane| {
            let (first, _) = lane[0];
            let is_at = |place: &HashMap<u64, Pair>, to: u64| {
                lane.iter()
                    .all(|(at, pair)| place.get(&to.wrapping_add(at.wrapping_sub(first))) == Some(pair))
            };
            [&self.stack, &self.vectors].iter().any(|place| place.keys().any(|to| is_at(place, *to)))
        });
        copied.flatten().collect()
    }
}

fn differing(start: u64, ours: &[u8], theirs: &[u8]) -> HashMap<u64, Pair> {
    let bytes = (start..).zip(ours.iter().copied().zip(theirs.iter().copied()));
    bytes.filter(|(_, (ours, theirs))| ours != theirs).collect()
}

/// What was stale and is out of sight, or still the same.
fn still(
    known: &HashMap<u64, Pair>,
    found: &HashMap<u64, Pair>,
    start: u64,
    len: usize,
) -> HashMap<u64, Pair> {
    let seen = start..start + len as u64;
    let known = known.iter().filter(|(at, pair)| !seen.contains(at) || found.get(at) == Some(*pair));
    known.map(|(at, pair)| (*at, *pair)).collect()
}

fn forgive(stale: &HashMap<u64, Pair>, start: u64, ours: &mut [u8], theirs: &[u8]) {
    for (at, (ours, theirs)) in (start..).zip(ours.iter_mut().zip(theirs)) {
        if stale.get(&at) == Some(&(*ours, *theirs)) {
            *ours = *theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stack from 0x10 on, after the program's next step.
    fn forgiven(stale: &mut Stale, ours: &[u8], theirs: &[u8]) -> Vec<u8> {
        let (mut vectors, mut stack) = ([0; 0], ours.to_vec());
        stale.forgive(0x10, [&mut vectors, &mut stack], [&[], theirs]);
        stack
    }

    #[test]
    fn what_was_written_is_stale_no_more() {
        let mut stale = Stale { stack: differing(0x10, &[1, 2, 3], &[1, 9, 9]), ..Stale::default() };
        assert_eq!(forgiven(&mut stale, &[1, 2, 3], &[1, 9, 9]), [1, 9, 9]);
        assert_eq!(forgiven(&mut stale, &[1, 2, 3], &[1, 8, 9]), [1, 2, 9], "another byte of the plain one");
        assert_eq!(forgiven(&mut stale, &[1, 2, 3], &[1, 9, 9]), [1, 2, 9]);
    }

    #[test]
    fn copies_of_stale_bytes_are_stale() {
        let mut stale = Stale { stack: differing(0x80, &[1, 2, 3], &[1, 9, 9]), ..Stale::default() };
        assert_eq!(forgiven(&mut stale, &[0, 0, 2, 3], &[0, 0, 9, 9]), [0, 0, 9, 9]);
        assert_eq!(forgiven(&mut stale, &[0, 0, 2, 3], &[0, 0, 9, 9]), [0, 0, 9, 9], "as before");
        assert_eq!(forgiven(&mut stale, &[2, 4, 0, 0], &[9, 9, 0, 0]), [2, 4, 0, 0], "not together");
    }
}
