//! The reader of the rings.
//!
//! A producer moves a ring's head (reservation), writes whose record it is, marks it `BUSY` with its index, writes the
//! rest, marks it `DONE`. Between the reservation and `BUSY` nobody can tell whose record it is ("unmarked"). The
//! reader takes records in order and never waits: what is not finished stays for the next time.
//!
//! Everything read is hostile: it is copied out first and checked then. The reader's own tail decides; the shared one
//! is only told to the producers.

use std::collections::{HashMap, HashSet};

use crate::layout::{Layout, NESTING_LIMIT, RECORD_WORDS, SharedMemory, record, ring, slot};
use crate::threads::identity;

/// Records copied at once.
const CHUNK: u64 = 32;
/// The largest thread id of Linux (include/linux/threads.h, `PID_MAX_LIMIT`).
const TID_LIMIT: u32 = 4 << 20;

/// One recorded event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The ring it was in. Events of one thread come in order; rings are not ordered among each other.
    pub ring: u32,
    /// The probe.
    pub probe: u32,
    /// The thread's slot.
    pub slot: u32,
    /// The slot's generation.
    pub generation: u32,
    /// The thread.
    pub tid: u32,
    /// Events of the same thread that were being written when this one began.
    pub nesting: u32,
    /// Time stamp counter; 0 where the program forbade reading it.
    pub tsc: u64,
    /// Integer arguments of the C calling convention, first to sixth.
    pub args: [u64; 6],
}

/// What one reading did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Records handed out.
    pub hits: u64,
    /// Rings that wait for a record to be finished. One that stays needs a [`drain_quiescent`](Reader::drain_quiescent).
    pub waiting: u32,
}

/// Reads the rings of one shared state.
#[derive(Debug)]
pub struct Reader {
    layout: Layout,
    /// Per ring, the next index to read.
    tails: Vec<u64>,
    /// Per probe, records begun and never finished.
    abandoned: Vec<u64>,
    unattributed: u64,
    corrupt: u64,
    /// What the holder told: (slot, generation) -> thread.
    told: HashMap<(u32, u32), u32>,
}

/// A record copied out: its words, and its state as seen before them.
#[derive(Clone, Copy)]
struct Copied {
    index: u64,
    state: u64,
    words: [u64; RECORD_WORDS],
}

/// How far a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Unmarked,
    Busy,
    Done,
    Impossible,
}

/// Whose record it is, checked.
#[derive(Clone, Copy)]
struct Who {
    probe: u32,
    slot: u32,
    nesting: u32,
    tid: u32,
    generation: u32,
}

/// What to do with a record.
enum Verdict {
    Hit(Hit),
    Abandoned(Who),
    Unattributed,
    Corrupt,
    Wait,
}

impl Reader {
    /// A reader for a shared state of this layout, all zeros.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            tails: vec![0; layout.sizing.rings as usize],
            abandoned: vec![0; layout.sizing.probes as usize],
            unattributed: 0,
            corrupt: 0,
            told: HashMap::new(),
        }
    }

    /// Takes the holder's word for who has a slot in a generation: records that say otherwise are corrupt.
    /// Those of which nothing was told are only checked for possible values.
    pub fn told(&mut self, slot: u32, generation: u32, tid: u32) {
        self.told.insert((slot, generation), tid);
    }

    /// Records with impossible contents, and jumps of a head, so far.
    #[must_use]
    pub fn corrupt(&self) -> u64 {
        self.corrupt
    }

    /// Records of a probe that were begun and never finished.
    #[must_use]
    pub fn abandoned(&self, probe: u32) -> u64 {
        self.abandoned.get(probe as usize).copied().unwrap_or(0)
    }

    /// Records that were reserved and never marked: nobody can tell for which probe.
    #[must_use]
    pub fn unattributed(&self) -> u64 {
        self.unattributed
    }

    /// Hands out all finished records and tells the producers of the room.
    pub fn drain(&mut self, memory: &dyn SharedMemory, sink: &mut dyn FnMut(Hit)) -> Progress {
        self.drain_all(memory, false, sink)
    }

    /// As [`drain`](Self::drain), when no thread is in code of ours, nor will be before this returns: what is not
    /// finished then never will be.
    pub fn drain_quiescent(&mut self, memory: &dyn SharedMemory, sink: &mut dyn FnMut(Hit)) -> Progress {
        self.drain_all(memory, true, sink)
    }

    fn drain_all(
        &mut self,
        memory: &dyn SharedMemory,
        quiescent: bool,
        sink: &mut dyn FnMut(Hit),
    ) -> Progress {
        let mut progress = Progress::default();
        for ring in 0..self.layout.sizing.rings {
            let head = memory.load(self.layout.ring(ring) + ring::HEAD);
            let tail = self.tails[ring as usize];
            if head.wrapping_sub(tail) > u64::from(self.layout.sizing.records) {
                self.resynchronise(memory, ring, head);
                continue;
            }
            let mut pass = Pass { layout: &self.layout, memory, ring, head, quiescent, overtaken: None };
            let waits =
                drain_ring(
                    &mut self.tails[ring as usize],
                    &mut pass,
                    &self.told,
                    &mut |verdict| match verdict {
                        Verdict::Hit(hit) => {
                            progress.hits += 1;
                            sink(hit);
                        }
                        Verdict::Corrupt => self.corrupt += 1,
                        Verdict::Abandoned(who) => self.abandoned[who.probe as usize] += 1,
                        Verdict::Unattributed => self.unattributed += 1,
                        Verdict::Wait => {}
                    },
                );
            progress.waiting += u32::from(waits);
        }
        progress
    }

    /// Goes on at an impossible head, which the program must have written. What the ring held is given up: records of
    /// before must not be taken for records of the new numbering.
    fn resynchronise(&mut self, memory: &dyn SharedMemory, ring: u32, head: u64) {
        self.corrupt += 1;
        for place in 0..u64::from(self.layout.sizing.records) {
            memory.store(self.layout.record(ring, place) + record::STATE, 0);
        }
        self.tails[ring as usize] = head;
        memory.store(self.layout.ring(ring) + ring::TAIL, head);
    }
}

/// Reads one ring up to the head it had; whether it stopped before.
fn drain_ring(
    tail: &mut u64,
    pass: &mut Pass<'_>,
    told: &HashMap<(u32, u32), u32>,
    take: &mut dyn FnMut(Verdict),
) -> bool {
    let mut waits = false;
    loop {
        // Also when nothing was read: the program may have scribbled over the shared tail.
        pass.memory.store(pass.layout.ring(pass.ring) + ring::TAIL, *tail);
        if waits || *tail == pass.head {
            return waits;
        }
        for copied in pass.copy(*tail) {
            let verdict = pass.judge(&copied, told);
            if matches!(verdict, Verdict::Wait) {
                waits = true;
                break;
            }
            take(verdict);
            *tail = tail.wrapping_add(1);
        }
    }
}

/// One pass over the records that a ring held when it began.
struct Pass<'a> {
    layout: &'a Layout,
    memory: &'a dyn SharedMemory,
    ring: u32,
    head: u64,
    quiescent: bool,
    /// Unfinished records that their own thread has passed; looked for once, when the first is met.
    overtaken: Option<HashSet<u64>>,
}

impl Pass<'_> {
    /// Copies the next records: at most [`CHUNK`], none behind the head, none beyond the ring's last place.
    ///
    /// Twice: what the second copy holds is at least as new as the states of the first.
    fn copy(&self, from: u64) -> Vec<Copied> {
        let to_end = self.layout.sizing.records as usize - self.layout.place(from);
        let count = CHUNK.min(self.head.wrapping_sub(from)).min(to_end as u64);
        let at = self.layout.record(self.ring, from);
        let words_at = |buffer: &mut Vec<u64>| self.memory.copy(at, buffer);
        let len = usize::try_from(count).unwrap_or(0) * RECORD_WORDS;
        let (mut first, mut second) = (vec![0; len], vec![0; len]);
        words_at(&mut first);
        self.memory.fence();
        words_at(&mut second);
        let records = first.chunks_exact(RECORD_WORDS).zip(second.chunks_exact(RECORD_WORDS));
        (0..count)
            .zip(records)
            .map(|(n, (first, second))| Copied {
                index: from.wrapping_add(n),
                state: first[record::STATE / 8],
                words: std::array::from_fn(|word| second[word]),
            })
            .collect()
    }

    fn judge(&mut self, copied: &Copied, told: &HashMap<(u32, u32), u32>) -> Verdict {
        match self.stage(copied.state, copied.index) {
            Stage::Done => self.finished(copied, told),
            Stage::Busy => self.unfinished(copied, told),
            Stage::Unmarked if self.quiescent => Verdict::Unattributed,
            Stage::Unmarked => Verdict::Wait,
            Stage::Impossible => Verdict::Corrupt,
        }
    }

    /// How far the record is that should have this index. What an earlier round left in its place is not yet marked.
    fn stage(&self, state: u64, index: u64) -> Stage {
        let mark = state & ((1 << record::INDEX_SHIFT) - 1);
        let behind = (index << record::INDEX_SHIFT).wrapping_sub(state - mark) >> record::INDEX_SHIFT;
        let is_older = behind < u64::MAX >> (record::INDEX_SHIFT + 1) && self.layout.place(behind) == 0;
        // Code of 32 bits writes the lower half last, and clears it first.
        let is_unmarked = state & u64::from(u32::MAX) == 0;
        match (mark, behind) {
            _ if is_unmarked => Stage::Unmarked,
            (record::BUSY, 0) => Stage::Busy,
            (record::DONE, 0) => Stage::Done,
            (record::BUSY | record::DONE, _) if is_older => Stage::Unmarked,
            _ => Stage::Impossible,
        }
    }

    fn finished(&self, copied: &Copied, told: &HashMap<(u32, u32), u32>) -> Verdict {
        let Some(who) = self.who(&copied.words) else { return Verdict::Corrupt };
        if told.get(&(who.slot, who.generation)).is_some_and(|&tid| tid != who.tid) {
            return Verdict::Corrupt;
        }
        let Who { probe, slot, nesting, tid, generation } = who;
        let tsc = copied.words[record::TIME / 8];
        let args = std::array::from_fn(|n| copied.words[record::ARGUMENTS / 8 + n]);
        Verdict::Hit(Hit { ring: self.ring, probe, slot, generation, tid, nesting, tsc, args })
    }

    /// A record that is being written, or whose writer will never come back to it.
    fn unfinished(&mut self, copied: &Copied, told: &HashMap<(u32, u32), u32>) -> Verdict {
        let Some(who) = self.who(&copied.words) else { return Verdict::Corrupt };
        let given_up = self.quiescent || self.has_ended(who) || self.is_overtaken(copied.index);
        if !given_up {
            return Verdict::Wait;
        }
        // The writer has ended; but it may have finished this record first, after we looked. (One that has only moved
        // on finished it before it moved the head that we had read.)
        let again = self.copy(copied.index);
        match again.first().map(|again| (self.stage(again.state, again.index), again)) {
            Some((Stage::Done, again)) => self.finished(again, told),
            Some((Stage::Busy, _)) => Verdict::Abandoned(who),
            _ => Verdict::Corrupt,
        }
    }

    /// Whether the slot has been closed or given to another thread since.
    fn has_ended(&self, who: Who) -> bool {
        let slot = self.layout.slot(who.slot);
        self.memory.load(slot + slot::KEY) == 0
            || self.memory.load(slot + slot::IDENTITY) != identity(who.tid, who.generation)
    }

    fn is_overtaken(&mut self, index: u64) -> bool {
        if self.overtaken.is_none() {
            self.overtaken = Some(self.find_overtaken(index));
        }
        self.overtaken.as_ref().is_some_and(|overtaken| overtaken.contains(&index))
    }

    /// All records from `from` on behind which their own thread has begun another at the same or a lower nesting.
    fn find_overtaken(&self, from: u64) -> HashSet<u64> {
        let mut marked = Vec::new();
        let mut index = from;
        while index != self.head {
            for copied in self.copy(index) {
                index = copied.index.wrapping_add(1);
                if matches!(self.stage(copied.state, copied.index), Stage::Busy | Stage::Done)
                    && let Some(who) = self.who(&copied.words)
                {
                    marked.push((copied.index, who));
                }
            }
        }
        let mut lowest_later: HashMap<u64, u32> = HashMap::new();
        let mut overtaken = HashSet::new();
        for (index, who) in marked.into_iter().rev() {
            let lowest = lowest_later.entry(identity(who.slot, who.generation)).or_insert(u32::MAX);
            if *lowest <= who.nesting {
                overtaken.insert(index);
            }
            *lowest = who.nesting.min(*lowest);
        }
        overtaken
    }

    /// Whose record it is, if the words say something possible.
    fn who(&self, words: &[u64; RECORD_WORDS]) -> Option<Who> {
        let (who, identity) = (words[record::WHO / 8], words[record::IDENTITY / 8]);
        #[allow(clippy::cast_possible_truncation, reason = "each part is masked or a half")]
        let who = Who {
            probe: who as u32,
            slot: (who >> 32) as u32 & 0x00ff_ffff,
            nesting: (who >> 56) as u32,
            tid: identity as u32,
            generation: (identity >> 32) as u32,
        };
        let sizing = &self.layout.sizing;
        let possible = who.probe < sizing.probes
            && who.slot <= self.layout.lone_slot()
            && who.nesting < NESTING_LIMIT
            && (1..=TID_LIMIT).contains(&who.tid);
        possible.then_some(who)
    }
}
