//! Thread slots, seen from the holder: which thread has which slot, and the words in the shared state that say so.
//!
//! The holder's own table is the truth; the shared one is only what the code in the target looks into. A program that
//! scribbles over its slots makes its threads ask again and gets the same answer again.

use std::collections::HashMap;

use crate::layout::{Layout, PROBE_LIMIT, SharedMemory, slot};

/// The holder's table of thread slots.
#[derive(Debug)]
pub struct Table {
    layout: Layout,
    slots: Vec<Slot>,
    /// The slot of each thread that has one.
    open: HashMap<u32, u32>,
    next_ring: u32,
}

/// One slot; free where the key is 0.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: u64,
    tid: u32,
    generation: u32,
    ring: u32,
}

impl Table {
    /// A table without threads for a shared state of this layout, all zeros.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            slots: vec![Slot::default(); layout.sizing.threads as usize],
            open: HashMap::new(),
            next_ring: 0,
        }
    }

    /// Gives the stopped thread `tid`, whose thread pointer is `key`, a slot, and says which.
    ///
    /// A thread that asks again gets its own slot again, written anew. A key that changes hands, and a closed slot
    /// that is used again, get the next generation. `None` for key 0, and where all places of the key are taken.
    pub fn assign(&mut self, memory: &dyn SharedMemory, key: u64, tid: u32) -> Option<u32> {
        if key == 0 {
            return None;
        }
        let number = self.place(key)?;
        if let Some(&former) = self.open.get(&tid)
            && former != number
        {
            self.release(memory, former);
        }
        let held = self.slots[number as usize];
        if (held.key, held.tid) != (key, tid) {
            self.release(memory, number);
            self.take(number, key, tid);
        }
        self.publish(memory, number);
        Some(number)
    }

    /// Closes the slot of a thread that has ended (it is stopped at its exit event, or gone).
    pub fn close(&mut self, memory: &dyn SharedMemory, tid: u32) {
        if let Some(&number) = self.open.get(&tid) {
            self.release(memory, number);
        }
    }

    /// Says who is the only thread of the program: its events name it without a search. `None`: it has ended.
    pub fn name_only(&self, memory: &dyn SharedMemory, tid: Option<u32>) {
        let at = self.layout.slot(self.layout.lone_slot());
        memory.store(at + slot::IDENTITY, tid.map_or(0, |tid| identity(tid, 0)));
        memory.store(at + slot::KEY, tid.map_or(0, u64::from));
    }

    /// The generation a slot is in: what a reader is told together with [`assign`](Self::assign)'s answer.
    #[must_use]
    pub fn generation_of(&self, slot: u32) -> u32 {
        self.slots.get(slot as usize).map_or(0, |slot| slot.generation)
    }

    /// The slot that holds the key, else the first free one of those in which it may lie.
    fn place(&self, key: u64) -> Option<u32> {
        let places = self.layout.sizing.threads;
        let home = self.layout.home(key);
        let candidates = || (0..PROBE_LIMIT.min(places)).map(|n| home.wrapping_add(n) & (places - 1));
        let with = |key: u64| candidates().find(|&number| self.slots[number as usize].key == key);
        with(key).or_else(|| with(0))
    }

    fn take(&mut self, number: u32, key: u64, tid: u32) {
        let ring = self.next_ring;
        self.next_ring = (ring + 1) % self.layout.sizing.rings.max(1);
        let slot = &mut self.slots[number as usize];
        *slot = Slot { key, tid, generation: slot.generation.wrapping_add(1), ring };
        self.open.insert(tid, number);
    }

    fn release(&mut self, memory: &dyn SharedMemory, number: u32) {
        let slot = &mut self.slots[number as usize];
        self.open.remove(&slot.tid);
        (slot.key, slot.tid) = (0, 0);
        memory.store(self.layout.slot(number) + slot::KEY, 0);
    }

    /// Writes a slot into the shared state. The key comes last: who finds it finds the rest.
    fn publish(&self, memory: &dyn SharedMemory, number: u32) {
        let (at, slot) = (self.layout.slot(number), self.slots[number as usize]);
        memory.store(at + slot::IDENTITY, identity(slot.tid, slot.generation));
        memory.store(at + slot::RING, u64::from(slot.ring));
        memory.store(at + slot::DEPTH, u64::from(number));
        memory.store(at + slot::KEY, slot.key);
    }
}

/// The word that names a thread in its slot and in its records.
pub(crate) fn identity(tid: u32, generation: u32) -> u64 {
    u64::from(tid) | u64::from(generation) << 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layout::Sizing;
    use crate::memory::Words;

    fn table(threads: u32) -> (Table, Words) {
        let layout = Layout::new(Sizing { probes: 1, shards: 1, threads, rings: 2, records: 2 });
        (Table::new(layout), Words::new(layout.len))
    }

    fn shared(table: &Table, memory: &Words, number: u32) -> (u64, u64) {
        let at = table.layout.slot(number);
        (memory.load(at + slot::KEY), memory.load(at + slot::IDENTITY))
    }

    #[test]
    fn a_reused_slot_has_a_new_generation() {
        let (mut table, memory) = table(8);
        let first = table.assign(&memory, 0x1000, 7).unwrap();
        table.close(&memory, 7);
        assert_eq!(shared(&table, &memory, first).0, 0);
        let second = table.assign(&memory, 0x1000, 8).unwrap();
        assert_eq!(first, second);
        assert_eq!(shared(&table, &memory, second), (0x1000, identity(8, 2)));
    }

    #[test]
    fn asking_again_repairs_a_scribbled_slot_without_a_new_generation() {
        let (mut table, memory) = table(8);
        let number = table.assign(&memory, 0x1000, 7).unwrap();
        let before = shared(&table, &memory, number);
        memory.store(table.layout.slot(number) + slot::KEY, 99);
        memory.store(table.layout.slot(number) + slot::IDENTITY, 99);
        assert_eq!(table.assign(&memory, 0x1000, 7), Some(number));
        assert_eq!(shared(&table, &memory, number), before);
    }

    #[test]
    fn a_key_that_changes_hands_without_an_exit_seen_is_another_generation() {
        let (mut table, memory) = table(8);
        let number = table.assign(&memory, 0x1000, 7).unwrap();
        assert_eq!(table.assign(&memory, 0x1000, 8), Some(number));
        assert_eq!(shared(&table, &memory, number), (0x1000, identity(8, 2)));
        table.close(&memory, 7);
        assert_eq!(
            shared(&table, &memory, number).0,
            0x1000,
            "closing the former owner leaves the new one alone"
        );
    }

    #[test]
    fn a_thread_with_a_new_pointer_leaves_its_former_slot() {
        let (mut table, memory) = table(8);
        let former = table.assign(&memory, 0x1000, 7).unwrap();
        let present = table.assign(&memory, 0x5000, 7).unwrap();
        assert_ne!(former, present);
        assert_eq!(shared(&table, &memory, former).0, 0);
    }

    #[test]
    fn a_full_table_and_key_0_get_nothing() {
        let (mut table, memory) = table(2);
        assert_eq!(table.assign(&memory, 0, 1), None);
        assert!(table.assign(&memory, 0x1000, 1).is_some());
        assert!(table.assign(&memory, 0x2000, 2).is_some());
        assert_eq!(table.assign(&memory, 0x3000, 3), None);
    }

    proptest! {
        /// Whatever the order of starts and ends, the shared table names exactly the open threads.
        #[test]
        fn shared_table_equals_the_open_threads(steps in prop::collection::vec((1_u32..12, any::<bool>()), 1..200)) {
            let (mut table, memory) = table(32);
            let mut alive = std::collections::BTreeSet::new();
            for (tid, start) in steps {
                if start {
                    if table.assign(&memory, u64::from(tid) << 12, tid).is_some() {
                        alive.insert(tid);
                    }
                } else {
                    table.close(&memory, tid);
                    alive.remove(&tid);
                }
            }
            let mut shown = std::collections::BTreeSet::new();
            for number in 0..32 {
                let (key, identity) = shared(&table, &memory, number);
                if key != 0 {
                    prop_assert_eq!(key, (identity & 0xffff_ffff) << 12);
                    shown.insert(u32::try_from(identity & 0xffff_ffff).unwrap());
                }
            }
            prop_assert_eq!(shown, alive);
        }
    }
}
