//! Work that falls into pieces, done by all processors.

use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Bytes of code in a piece.
const PIECE: u64 = 128 * 1024;
/// Threads beyond these find the memory bus busy.
const MAX_THREADS: usize = 8;

/// Runs of neighbours that have about [`PIECE`] bytes together; `lens` are their lengths.
pub(crate) fn divide(lens: impl Iterator<Item = u64>) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let (mut first, mut end, mut bytes) = (0, 0, 0);
    for len in lens {
        end += 1;
        bytes += len;
        if bytes >= PIECE {
            pieces.push(first..end);
            (first, bytes) = (end, 0);
        }
    }
    if first < end {
        pieces.push(first..end);
    }
    pieces
}

/// Threads for so many pieces. One needs no other, nor the question how many there may be, which reads files of cgroups.
fn threads_for(pieces: usize) -> usize {
    if pieces < 2 {
        return 1;
    }
    thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS).min(pieces)
}

/// Has every piece worked on once. Each thread collects in a value of its own; `now_and_then` is called by this one.
pub(crate) fn work<T: Default + Send>(
    pieces: &[Range<usize>],
    work: impl Fn(Range<usize>, &mut T) + Sync,
    now_and_then: &mut dyn FnMut(),
) -> Vec<T> {
    let threads = threads_for(pieces.len());
    let next = AtomicUsize::new(0);
    let run = |after: &mut dyn FnMut()| {
        let mut found = T::default();
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(piece.clone(), &mut found);
            after();
        }
        found
    };
    thread::scope(|scope| {
        // A thread that cannot be made is not needed: the others, this one among them, take its share.
        let others: Vec<_> = (1..threads)
            .filter_map(|_| thread::Builder::new().spawn_scoped(scope, || run(&mut || {})).ok())
            .collect();
        let mut found = vec![run(now_and_then)];
        for other in others {
            // A panic in there would be a defect of ours: it goes on here.
            found.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        found
    })
}
