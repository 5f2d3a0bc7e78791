//! A model of the rings, explored by loom: the protocol of the event routine against the reader that is shipped.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test -p program --test loom_ring --release --target-dir target/loom
//! ```
//!
//! The producer is the event routine in Rust, store for store: plain stores of x86-64 are release stores, plain loads
//! acquire loads, `lock cmpxchg` is both. Words that the model does not need are left out of the memory, so that the
//! exploration stays small: what is out of range reads as 0.
#![allow(unexpected_cfgs, reason = "`--cfg loom` is loom's own convention")]
#![cfg(loom)]

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;
use program::layout::{Layout, NESTING_LIMIT, SharedMemory, Sizing, record, ring, slot};
use program::ring::{Hit, Reader};

/// The words that the model needs.
struct Words(BTreeMap<usize, AtomicU64>);

impl SharedMemory for Words {
    fn load(&self, offset: usize) -> u64 {
        self.0.get(&offset).map_or(0, |word| word.load(Ordering::Acquire))
    }
    fn store(&self, offset: usize, value: u64) {
        if let Some(word) = self.0.get(&offset) {
            word.store(value, Ordering::Release);
        }
    }
    fn add(&self, offset: usize, value: u64) -> u64 {
        self.0.get(&offset).map_or(0, |word| word.fetch_add(value, Ordering::AcqRel))
    }
    fn copy(&self, offset: usize, words: &mut [u64]) {
        for (n, out) in words.iter_mut().enumerate() {
            *out = self.0.get(&(offset + n * 8)).map_or(0, |word| word.load(Ordering::Relaxed));
        }
    }
    fn fence(&self) {
        fence(Ordering::Acquire);
    }
}

/// Two slots that are taken by threads 1 and 2, and one ring of two records.
fn state() -> (Layout, Words) {
    let layout = Layout::new(Sizing { probes: 1, shards: 1, threads: 2, rings: 1, records: 2 });
    let mut words = BTreeMap::new();
    for word in [ring::HEAD, ring::TAIL] {
        words.insert(layout.ring(0) + word, AtomicU64::new(0));
    }
    for index in 0..2 {
        for word in [record::STATE, record::WHO, record::IDENTITY, record::ARGUMENTS] {
            words.insert(layout.record(0, index) + word, AtomicU64::new(0));
        }
    }
    for number in 0..2 {
        words.insert(layout.slot(number) + slot::KEY, AtomicU64::new(0x1000));
        words.insert(layout.slot(number) + slot::IDENTITY, AtomicU64::new(identity(number)));
        words.insert(layout.slot(number) + slot::DEPTH, AtomicU64::new(u64::from(number)));
    }
    (layout, Words(words))
}

fn identity(slot: u32) -> u64 {
    u64::from(slot + 1) | 1 << 32
}

/// One event more in the word `DEPTH`.
const STEP: u64 = 1 << slot::DEPTH_SHIFT;

/// `enter` and `reserve` of the routine: the index, or `None` where the ring is full.
fn reserve(layout: &Layout, memory: &Words, slot: u32) -> Option<u64> {
    let depth = layout.slot(slot) + slot::DEPTH;
    let before = memory.load(depth);
    assert!(before < u64::from(NESTING_LIMIT) * STEP);
    memory.store(depth, before + STEP);
    let (head, tail) = (layout.ring(0) + ring::HEAD, layout.ring(0) + ring::TAIL);
    // The routine loads. Loom compares a store only with the last access to its word: after a load by the same thread
    // it would not look for orders in which the reader sees the store earlier, and explore next to nothing.
    let mut index = memory.add(head, 0);
    loop {
        if index.wrapping_sub(memory.load(tail)) >= u64::from(layout.sizing.records) {
            memory.store(depth, memory.load(depth) - STEP);
            return None;
        }
        match memory.0[&head].compare_exchange(index, index + 1, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Some(index),
            Err(now) => index = now,
        }
    }
}

/// `fill` up to the state `BUSY`. The nesting is what the slot's word `DEPTH` says now, less this event: whatever
/// handlers added since `enter` they have taken away again.
fn mark(layout: &Layout, memory: &Words, slot: u32, index: u64) {
    let at = layout.record(0, index);
    let depth = memory.load(layout.slot(slot) + slot::DEPTH) - STEP;
    memory.store(at + record::WHO, depth << 32);
    memory.store(at + record::IDENTITY, identity(slot));
    memory.store(at + record::STATE, index << record::INDEX_SHIFT | record::BUSY);
}

/// The rest of `fill`.
fn finish(layout: &Layout, memory: &Words, slot: u32, index: u64, argument: u64) {
    let at = layout.record(0, index);
    memory.store(at + record::ARGUMENTS, argument);
    memory.store(at + record::STATE, index << record::INDEX_SHIFT | record::DONE);
    let depth = layout.slot(slot) + slot::DEPTH;
    memory.store(depth, memory.load(depth) - STEP);
}

/// One event; whether there was room for it.
fn produce(layout: &Layout, memory: &Words, slot: u32, argument: u64) -> bool {
    let Some(index) = reserve(layout, memory, slot) else { return false };
    mark(layout, memory, slot, index);
    finish(layout, memory, slot, index, argument);
    true
}

/// Explores all orders with at most two preemptions. `model` says whether the reader met an unfinished record; a model
/// in which it never did would prove nothing, and fails.
fn explore(model: impl Fn() -> bool + Sync + Send + 'static) {
    let met = std::sync::Arc::new(AtomicBool::new(false));
    let seen = std::sync::Arc::clone(&met);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        seen.fetch_or(model(), std::sync::atomic::Ordering::Relaxed);
    });
    assert!(
        met.load(std::sync::atomic::Ordering::Relaxed),
        "no order was explored in which the reader had to wait"
    );
}

/// Reads the rings; whether one had to wait.
fn drain(reader: &mut Reader, memory: &Words, hits: &mut Vec<Hit>) -> bool {
    reader.drain(memory, &mut |hit| hits.push(hit)).waiting > 0
}

/// Arguments by thread, each in the order of the records.
fn arguments(hits: &[Hit], tid: u32) -> Vec<u64> {
    hits.iter().filter(|hit| hit.tid == tid).map(|hit| hit.args[0]).collect()
}

#[test]
fn two_producers_and_the_reader_lose_nothing_silently() {
    explore(|| {
        let (layout, memory) = state();
        let memory = Arc::new(memory);
        let producers = [0, 1].map(|slot| {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                let base = u64::from(slot + 1) * 10;
                // The second may find the ring full, or room that the reader made.
                [base, base + 1]
                    .into_iter()
                    .filter(|&n| produce(&layout, &memory, slot, n))
                    .collect::<Vec<_>>()
            })
        });
        let (mut reader, mut hits) = (Reader::new(layout), Vec::new());
        let waited = drain(&mut reader, &memory, &mut hits);
        let made = producers.map(|producer| producer.join().unwrap());
        assert!(!drain(&mut reader, &memory, &mut hits));
        assert_eq!([arguments(&hits, 1), arguments(&hits, 2)], made);
        assert_eq!((reader.corrupt(), reader.abandoned(0), reader.unattributed()), (0, 0, 0));
        waited
    });
}

/// An event in a handler that interrupts another event, before or behind that one's mark: it is inside it either way, and
/// does not give it up.
fn an_event_inside_an_event(is_marked: bool) {
    explore(move || {
        let (layout, memory) = state();
        let memory = Arc::new(memory);
        let producer = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                let index = reserve(&layout, &memory, 0).unwrap();
                if is_marked {
                    mark(&layout, &memory, 0, index);
                }
                // A handler runs here.
                assert!(produce(&layout, &memory, 0, 11));
                if !is_marked {
                    mark(&layout, &memory, 0, index);
                }
                finish(&layout, &memory, 0, index, 10);
            })
        };
        let (mut reader, mut hits) = (Reader::new(layout), Vec::new());
        let waited = drain(&mut reader, &memory, &mut hits);
        producer.join().unwrap();
        assert!(!drain(&mut reader, &memory, &mut hits));
        assert_eq!(hits.iter().map(|hit| (hit.args[0], hit.nesting)).collect::<Vec<_>>(), [(10, 0), (11, 1)]);
        assert_eq!((reader.corrupt(), reader.abandoned(0)), (0, 0));
        waited
    });
}

#[test]
fn an_event_inside_an_event_does_not_give_the_outer_one_up() {
    an_event_inside_an_event(true);
}

#[test]
fn an_event_between_reservation_and_mark_is_inside_the_outer_one() {
    an_event_inside_an_event(false);
}

#[test]
fn a_thread_that_leaves_a_record_behind_is_seen_and_others_go_on() {
    explore(|| {
        let (layout, memory) = state();
        let memory = Arc::new(memory);
        let producer = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                let index = reserve(&layout, &memory, 0).unwrap();
                mark(&layout, &memory, 0, index);
                // Thrown out of the routine; its depth is put right, its record never finished.
                memory.store(layout.slot(0) + slot::DEPTH, 0);
                produce(&layout, &memory, 0, 11)
            })
        };
        let (mut reader, mut hits) = (Reader::new(layout), Vec::new());
        let waited = drain(&mut reader, &memory, &mut hits);
        assert!(producer.join().unwrap());
        assert!(!drain(&mut reader, &memory, &mut hits));
        assert_eq!(arguments(&hits, 1), [11]);
        assert_eq!((reader.corrupt(), reader.abandoned(0)), (0, 1));
        waited
    });
}

#[test]
fn a_record_finished_just_before_its_thread_ends_is_not_given_up() {
    explore(|| {
        let (layout, memory) = state();
        let memory = Arc::new(memory);
        let producer = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                assert!(produce(&layout, &memory, 0, 10));
                // The holder closes the slot at the thread's exit event.
                memory.store(layout.slot(0) + slot::KEY, 0);
            })
        };
        let (mut reader, mut hits) = (Reader::new(layout), Vec::new());
        let waited = drain(&mut reader, &memory, &mut hits);
        producer.join().unwrap();
        assert!(!drain(&mut reader, &memory, &mut hits));
        assert_eq!((arguments(&hits, 1), reader.abandoned(0)), (vec![10], 0));
        waited
    });
}
