//! The reader against well-behaved producers, dead ones, and scribblers.

use program::layout::{Layout, NESTING_LIMIT, SharedMemory, Sizing, record, ring};
use program::memory::Words;
use program::ring::{Hit, Progress, Reader};
use program::threads::Table;
use proptest::prelude::*;

const RECORDS: u64 = 8;

/// A state with one ring, and threads 100 and 101 in slots of their own.
struct State {
    layout: Layout,
    memory: Words,
    table: Table,
    slots: [u32; 2],
    ring: usize,
}

impl State {
    fn new() -> Self {
        let layout = Layout::new(Sizing { probes: 4, shards: 1, threads: 16, rings: 1, records: 8 });
        let (memory, mut table) = (Words::new(layout.len), Table::new(layout));
        let slots = [100, 101].map(|tid| table.assign(&memory, u64::from(tid) << 12, tid).unwrap());
        let ring = layout.ring(0);
        Self { layout, memory, table, slots, ring }
    }

    /// As the event routine does: `None` where head and shared tail say that the ring is full.
    fn try_reserve(&self) -> Option<u64> {
        let (head, tail) = (self.memory.load(self.ring), self.memory.load(self.ring + ring::TAIL));
        (head.wrapping_sub(tail) < RECORDS).then(|| self.memory.add(self.ring, 1))
    }

    fn reserve(&self) -> u64 {
        self.try_reserve().unwrap()
    }

    fn word(&self, index: u64, offset: usize) -> usize {
        self.layout.record(0, index) + offset
    }

    fn begin(&self, index: u64, thread: usize, nesting: u64, probe: u64) {
        let (slot, tid) = (self.slots[thread], 100 + thread as u64);
        let generation = u64::from(self.table.generation_of(slot));
        self.memory.store(self.word(index, record::WHO), probe | u64::from(slot) << 32 | nesting << 56);
        self.memory.store(self.word(index, record::IDENTITY), tid | generation << 32);
        self.memory.store(self.word(index, record::STATE), index << 2 | record::BUSY);
    }

    fn finish(&self, index: u64) {
        self.memory.store(self.word(index, record::TIME), index.wrapping_add(1000));
        self.memory.store(self.word(index, record::ARGUMENTS), index);
        self.memory.store(self.word(index, record::STATE), index << 2 | record::DONE);
    }

    fn try_produce(&self, thread: usize, probe: u64) -> Option<u64> {
        let index = self.try_reserve()?;
        self.begin(index, thread, 0, probe);
        self.finish(index);
        Some(index)
    }

    fn produce(&self, thread: usize, probe: u64) -> u64 {
        self.try_produce(thread, probe).unwrap()
    }

    fn drain(&self, reader: &mut Reader) -> (Vec<Hit>, Progress) {
        let mut hits = Vec::new();
        let progress = reader.drain(&self.memory, &mut |hit| hits.push(hit));
        (hits, progress)
    }
}

#[test]
fn finished_records_come_in_order_over_many_rounds() {
    let state = State::new();
    let mut reader = Reader::new(state.layout);
    for round in 0..10 {
        let made: Vec<u64> = (0..RECORDS).map(|n| state.produce(usize::from(n % 2 == 1), n % 4)).collect();
        let (hits, progress) = state.drain(&mut reader);
        assert_eq!(hits.iter().map(|hit| hit.args[0]).collect::<Vec<_>>(), made, "round {round}");
        assert_eq!(progress, Progress { hits: RECORDS, waiting: 0 });
        assert_eq!(state.memory.load(state.ring + ring::TAIL), made[7] + 1, "the producers see the room");
        assert!(hits.iter().all(|hit| hit.tid == 100 + u32::from(hit.args[0] % 2 == 1)), "{hits:?}");
    }
    assert_eq!(reader.corrupt(), 0);
}

#[test]
fn a_busy_record_of_a_living_thread_is_waited_for() {
    let state = State::new();
    let mut reader = Reader::new(state.layout);
    let slow = state.reserve();
    state.begin(slow, 0, 0, 1);
    state.produce(1, 2);
    assert_eq!(state.drain(&mut reader).1, Progress { hits: 0, waiting: 1 });
    state.finish(slow);
    assert_eq!(state.drain(&mut reader).1, Progress { hits: 2, waiting: 0 });
    assert_eq!(reader.abandoned(1), 0);
}

#[test]
fn a_record_is_abandoned_when_its_thread_has_ended_or_its_slot_is_reused() {
    for reuse in [false, true] {
        let mut state = State::new();
        let mut reader = Reader::new(state.layout);
        let dead = state.reserve();
        state.begin(dead, 0, 0, 3);
        state.table.close(&state.memory, 100);
        if reuse {
            assert_eq!(state.table.assign(&state.memory, 100 << 12, 102), Some(state.slots[0]));
        }
        state.produce(1, 2);
        assert_eq!(state.drain(&mut reader).1, Progress { hits: 1, waiting: 0 });
        assert_eq!((reader.abandoned(3), reader.corrupt()), (1, 0));
    }
}

#[test]
fn a_record_is_abandoned_once_its_thread_is_seen_further_on_at_its_nesting() {
    for (nesting, passed) in [(0, true), (1, true), (2, false)] {
        let state = State::new();
        let mut reader = Reader::new(state.layout);
        let left = state.reserve();
        state.begin(left, 0, 1, 3);
        let later = state.reserve();
        state.begin(later, 0, nesting, 2);
        state.finish(later);
        let (hits, progress) = state.drain(&mut reader);
        assert_eq!((hits.len(), progress.waiting), if passed { (1, 0) } else { (0, 1) }, "nesting {nesting}");
        assert_eq!(reader.abandoned(3), u64::from(passed));
    }
}

#[test]
fn an_unmarked_record_is_resolved_only_when_nobody_can_be_inside() {
    let state = State::new();
    let mut reader = Reader::new(state.layout);
    // A round before, so that the place holds an old state.
    (0..RECORDS).for_each(|_| _ = state.produce(0, 1));
    state.drain(&mut reader);
    state.reserve();
    state.produce(1, 2);
    assert_eq!(state.drain(&mut reader).1, Progress { hits: 0, waiting: 1 });
    let mut hits = Vec::new();
    let progress = reader.drain_quiescent(&state.memory, &mut |hit| hits.push(hit.probe));
    assert_eq!((progress.waiting, hits), (0, vec![2]));
    assert_eq!((reader.unattributed(), reader.corrupt()), (1, 0));
}

/// As code of 32 bits writes a state, in the round in which its upper half changes.
#[test]
fn a_state_that_is_written_in_halves_is_unmarked_until_it_is_whole() {
    let state = State::new();
    let mut reader = Reader::new(state.layout);
    // A head that no producer could have moved there: the reader goes on from it.
    let first = (1 << 30) - RECORDS;
    state.memory.store(state.ring, first);
    state.drain(&mut reader);
    (0..RECORDS).for_each(|_| _ = state.produce(0, 1));
    assert_eq!(state.drain(&mut reader).0.len() as u64, RECORDS);
    let index = state.reserve();
    let place = state.word(index, record::STATE);
    let upper = u64::from(u32::MAX) << 32;
    let (old, new) = (state.memory.load(place), index << 2 | record::BUSY);
    assert_ne!(old & upper, new & upper);
    for half in [old & upper, new & upper] {
        state.memory.store(place, half);
        assert_eq!(state.drain(&mut reader).1, Progress { hits: 0, waiting: 1 }, "{half:#x}");
    }
    state.begin(index, 0, 0, 1);
    state.finish(index);
    assert_eq!(state.drain(&mut reader).0.len(), 1);
    assert_eq!((reader.corrupt(), reader.unattributed()), (1, 0), "only the head was");
}

#[test]
fn a_record_that_contradicts_what_the_holder_told_is_corrupt() {
    let state = State::new();
    let mut reader = Reader::new(state.layout);
    reader.told(state.slots[0], state.table.generation_of(state.slots[0]), 999);
    state.produce(0, 1);
    state.produce(1, 1);
    let (hits, _) = state.drain(&mut reader);
    assert_eq!((hits.len(), reader.corrupt()), (1, 1));
}

#[test]
fn the_shared_tail_is_only_told_never_believed() {
    let state = State::new();
    let mut reader = Reader::new(state.layout);
    state.produce(0, 1);
    state.memory.store(state.ring + ring::TAIL, u64::MAX / 3);
    assert_eq!(state.drain(&mut reader).0.len(), 1);
    assert_eq!(state.memory.load(state.ring + ring::TAIL), 1);
}

#[test]
fn after_a_wild_head_new_records_come_through_and_old_ones_do_not_come_again() {
    for wild in [3, 1 << 20, u64::MAX - 2, u64::MAX / 2] {
        let state = State::new();
        let mut reader = Reader::new(state.layout);
        (0..6).for_each(|_| _ = state.produce(0, 1));
        assert_eq!(state.drain(&mut reader).0.len(), 6);
        state.memory.store(state.ring, wild);
        assert_eq!(state.drain(&mut reader).0, []);
        assert_eq!(reader.corrupt(), 1, "{wild:#x}");
        let reserved = state.reserve();
        assert_eq!(state.drain(&mut reader).1, Progress { hits: 0, waiting: 1 }, "{wild:#x}");
        state.begin(reserved, 0, 0, 1);
        state.finish(reserved);
        assert_eq!(state.drain(&mut reader).0.len(), 1, "{wild:#x}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Produce(usize, u64),
    Scribble(usize, u64),
    Drain(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = prop_oneof![any::<u64>(), 0_u64..64, Just(0), Just(u64::MAX)];
    let step = prop_oneof![
        4 => (0..2_usize, 0..4_u64).prop_map(|(thread, probe)| Step::Produce(thread, probe)),
        2 => (0..110_usize, value).prop_map(|(word, value)| Step::Scribble(word, value)),
        2 => any::<bool>().prop_map(Step::Drain),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// Whatever the program writes into its rings, the reader ends, hands out possible values only, and after one
    /// quiescent reading delivers what is produced from then on.
    #[test]
    fn scribbles_never_stop_the_reader(steps in steps()) {
        let state = State::new();
        let mut reader = Reader::new(state.layout);
        for step in steps {
            match step {
                Step::Produce(thread, probe) => _ = state.try_produce(thread, probe),
                Step::Scribble(word, value) => state.memory.store(state.ring + word * 8, value),
                Step::Drain(quiescent) => {
                    let mut hits = Vec::new();
                    let mut sink = |hit| hits.push(hit);
                    let progress = if quiescent {
                        reader.drain_quiescent(&state.memory, &mut sink)
                    } else {
                        reader.drain(&state.memory, &mut sink)
                    };
                    prop_assert!(progress.hits <= RECORDS);
                    prop_assert!(!quiescent || progress.waiting == 0);
                    for hit in hits {
                        prop_assert!(hit.probe < 4 && hit.slot < 16 && hit.nesting < NESTING_LIMIT, "{hit:?}");
                        prop_assert!((1..=1 << 22).contains(&hit.tid), "{hit:?}");
                    }
                }
            }
        }
        reader.drain_quiescent(&state.memory, &mut |_| ());
        let index = state.produce(0, 3);
        let (hits, progress) = state.drain(&mut reader);
        prop_assert_eq!(progress, Progress { hits: 1, waiting: 0 });
        prop_assert_eq!((hits[0].args[0], hits[0].probe), (index, 3));
    }
}
