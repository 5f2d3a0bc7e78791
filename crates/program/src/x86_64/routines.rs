//! The event routines, shared by all stubs of a neighbourhood. Each counts the hit, reserves a record in a ring and fills it.
//! The one for any program finds the thread's slot first, by which it knows the ring and who the thread is. The other is
//! called while a program has one thread: then it is known, no handler interrupts a stub, and nobody else counts.
//!
//! In: ecx = the probe; on the stack the return address, then the site's rcx and rdx. A leaf that pushes nothing.
//! Changes rax, rcx, rdx, r10, r11 and the flags, which the stub has saved; the other arguments stay where they are.
//! What a hit costs is little more than the number of instructions on the straight path (`rdtsc` counts for a third of
//! it), so nothing rare is on it.
//!
//! Nothing here trusts the shared state, which the program may have scribbled over: every address is the state's own
//! address plus a bounded number. The slot's place comes from a register, the ring's number is compared, the record's
//! place is masked. Heads, tails and depths are only compared and copied. Every loop is bounded, but for the question to
//! the holder, which decides how it goes on.
//!
//! Stores of x86-64 become visible in program order (Intel SDM volume 3, 9.2.2), so a plain store releases: who sees
//! `BUSY` sees whose record it is, who sees `DONE` sees all of it.

use insn::Address;

use super::count::spread;
use crate::layout::{Layout, Loss, NESTING_LIMIT, PROBE_LIMIT, RECORD_LEN, header, record, ring, slot};
use crate::stub::{Ask, Environment, Routines, ThreadBy};
use crate::x86::asm::{Assembler, If, Label, Mem, R8, R9, R10, R11, RAX, RCX, RDI, RDX, RSI, RSP, mem};
use crate::x86::event::{AHEAD, ATTEMPTS_SHIFT, DEPTH_STEP, PROBE_MASK, Ways, log2, number};

/// Where the stub left two arguments, as seen from the routine.
const SAVED_RCX: usize = 8;
const SAVED_RDX: usize = 16;

/// Makes the routines for the address `at`.
pub(crate) fn assemble(environment: &Environment, at: Address) -> Routines {
    let mut routine = EventRoutine::new(environment);
    let event = routine.asm.here();
    routine.count();
    let retry = routine.find_slot();
    routine.enter();
    routine.reserve();
    routine.fill();
    let ask = routine.search(retry);
    routine.contend();
    routine.losses();
    let event_alone = routine.alone();
    routine.without_time();
    let ask = Ask { give_up: routine.asm.offset_of(routine.ways.no_slot), ..ask };
    let EventRoutine { asm, recoveries, .. } = routine;
    Routines { at, bytes: asm.finish(), event, event_alone, asks: vec![ask], recoveries }
}

/// The routine in the making; its parts in the order they run, then what is out of line.
struct EventRoutine<'a> {
    asm: Assembler,
    layout: &'a Layout,
    environment: &'a Environment,
    ways: Ways,
    recoveries: Vec<(u32, u32)>,
    /// Each `rdtsc`, and where it goes on behind it.
    untimed: Vec<(u32, Label)>,
}

impl<'a> EventRoutine<'a> {
    fn new(environment: &'a Environment) -> Self {
        let mut asm = Assembler::default();
        let ways = Ways::new(&mut asm);
        let layout = &environment.layout;
        Self { asm, layout, environment, ways, recoveries: Vec::new(), untimed: Vec::new() }
    }

    /// `r11` = state; `r10` = thread pointer, 0 if there is none; one hit counted in the thread's shard.
    ///
    /// The thread pointer is at hand, so it chooses the shard here whatever the stubs do: counters are exact in any.
    fn count(&mut self) {
        let asm = &mut self.asm;
        asm.set64(R11, self.environment.state.0);
        match self.environment.thread_by {
            ThreadBy::Base => asm.rdfsbase(R10),
            ThreadBy::ThreadPointer => {
                asm.zero(R10);
                let load = asm.here();
                asm.load_thread_pointer(R10);
                self.recoveries.push((load, asm.here()));
            }
        }
        spread(asm, RAX, R10, self.layout.sizing.shards);
        asm.imul32(RAX, RAX, number(self.layout.shard_len()));
        asm.lea(RAX, mem(RAX, 0).plus(RCX, 3));
        asm.lock_inc(mem(R11, self.layout.counters()).plus(RAX, 0));
    }

    /// `rdx` = offset in the table of the slot whose key is `r10`. Gives where the search may begin again.
    fn find_slot(&mut self) -> Label {
        let retry = self.asm.mark();
        self.asm.test64(R10);
        self.asm.jcc(If::Equal, self.ways.no_slot);
        spread(&mut self.asm, RAX, R10, self.layout.sizing.threads);
        self.asm.mov32(RDX, RAX);
        self.compare_key();
        self.asm.jcc(If::NotEqual, self.ways.elsewhere);
        self.asm.bind(self.ways.found);
        retry
    }

    /// `rdx`, a slot's number, becomes its offset in the table; whether its key is `r10`.
    fn compare_key(&mut self) {
        self.asm.shl32(RDX, log2(slot::LEN));
        self.asm.cmp_mem(mem(R11, self.layout.slots() + slot::KEY).plus(RDX, 0), R10);
    }

    /// `r10` = slot, `r11` = ring; the thread's depth is one more.
    ///
    /// It is so before a record is reserved: an event of a handler that comes in between is inside this one.
    fn enter(&mut self) {
        let asm = &mut self.asm;
        asm.lea(R10, mem(R11, self.layout.slots()).plus(RDX, 0));
        asm.load32(RAX, mem(R10, slot::RING));
        asm.cmp32(RAX, self.layout.sizing.rings);
        asm.jcc(If::AboveOrEqual, self.ways.no_slot);
        asm.imul32(RAX, RAX, number(self.layout.ring_len()));
        asm.lea(R11, mem(R11, self.layout.rings()).plus(RAX, 0));

        asm.load32(RAX, mem(R10, slot::DEPTH));
        asm.cmp32(RAX, NESTING_LIMIT * DEPTH_STEP);
        asm.jcc(If::AboveOrEqual, self.ways.nested);
        asm.add32(RAX, DEPTH_STEP);
        asm.store32(mem(R10, slot::DEPTH), RAX);
    }

    /// `rax` = index of the record that is now ours.
    ///
    /// Threads share rings, so the head is moved by a locked instruction. Without the lock, a ring for each thread, an
    /// event is not measurably cheaper where a locked instruction finds its line in the cache.
    fn reserve(&mut self) {
        let asm = &mut self.asm;
        asm.load(RAX, mem(R11, ring::HEAD));
        asm.bind(self.ways.again);
        asm.mov(RDX, RAX);
        asm.sub_mem(RDX, mem(R11, ring::TAIL));
        asm.cmp64(RDX, self.layout.sizing.records);
        asm.jcc(If::AboveOrEqual, self.ways.full);
        asm.lea(RDX, mem(RAX, 1));
        asm.lock_cmpxchg(mem(R11, ring::HEAD), RDX);
        asm.jcc(If::NotEqual, self.ways.contended);
    }

    /// Writes the record and returns.
    fn fill(&mut self) {
        self.find_record(mem(R11, ring::RECORDS));
        let asm = &mut self.asm;
        asm.and32(RCX, PROBE_MASK);
        asm.store32(mem(R11, record::WHO), RCX);
        asm.load32(RDX, mem(R10, slot::DEPTH));
        asm.sub32(RDX, DEPTH_STEP);
        asm.store32(mem(R11, record::WHO + 4), RDX);
        self.finish(mem(R10, slot::IDENTITY));
        self.asm.sub32_mem(mem(R10, slot::DEPTH), DEPTH_STEP);
        self.asm.ret();
    }

    /// Does all of it while the program has one thread, whose events are those of the last slot, in ring 0. Gives where the
    /// routine begins.
    fn alone(&mut self) -> u32 {
        let (layout, event) = (self.layout, self.asm.here());
        let asm = &mut self.asm;
        asm.set64(R10, self.environment.state.0);
        asm.inc(mem(R10, layout.counters()).plus(RCX, 3));
        asm.load(RAX, mem(R10, layout.rings() + ring::HEAD));
        asm.mov(RDX, RAX);
        asm.sub_mem(RDX, mem(R10, layout.rings() + ring::TAIL));
        asm.cmp64(RDX, layout.sizing.records);
        asm.jcc(If::AboveOrEqual, self.ways.lone_full);
        asm.lea(RDX, mem(RAX, 1));
        asm.store(mem(R10, layout.rings() + ring::HEAD), RDX);
        self.find_record(mem(R10, layout.rings() + ring::RECORDS));
        self.asm.store32(mem(R11, record::WHO), RCX);
        self.asm.set32_mem(mem(R11, record::WHO + 4), layout.lone_slot());
        self.finish(mem(R10, layout.slot(layout.lone_slot()) + slot::IDENTITY));
        self.asm.ret();
        event
    }

    /// `r11` = record number `rax` of the ring whose records begin at `records`.
    fn find_record(&mut self, records: Mem) {
        let asm = &mut self.asm;
        asm.mov32(RDX, RAX);
        asm.and32(RDX, self.layout.sizing.records - 1);
        asm.imul32(RDX, RDX, number(RECORD_LEN));
        asm.lea(R11, records.plus(RDX, 0));
        if self.environment.prefetchw {
            asm.prefetchw(mem(R11, AHEAD));
        }
    }

    /// Writes the rest of record number `rax` at `r11`.
    fn finish(&mut self, identity: Mem) {
        let asm = &mut self.asm;
        asm.load(RDX, identity);
        asm.store(mem(R11, record::IDENTITY), RDX);
        asm.shl64(RAX, u8::try_from(record::INDEX_SHIFT).unwrap_or(0));
        asm.lea(RCX, mem(RAX, 1));
        asm.store(mem(R11, record::STATE), RCX);

        let rdtsc = asm.here();
        asm.rdtsc();
        let timed = asm.mark();
        self.untimed.push((rdtsc, timed));
        asm.store32(mem(R11, record::TIME), RAX);
        asm.store32(mem(R11, record::TIME + 4), RDX);
        let argument = |n: usize| mem(R11, record::ARGUMENTS + 8 * n);
        for (n, register) in [(0, RDI), (1, RSI), (4, R8), (5, R9)] {
            asm.store(argument(n), register);
        }
        for (n, saved) in [(2, SAVED_RDX), (3, SAVED_RCX)] {
            asm.load(RAX, mem(RSP, saved));
            asm.store(argument(n), RAX);
        }
        asm.inc64(RCX);
        asm.store(mem(R11, record::STATE), RCX);
    }

    /// The slots behind the home of `r10`, `eax` being the number of the last one looked at; then asks the holder for
    /// a slot, by a breakpoint. Gives what is known of the question here.
    fn search(&mut self, retry: Label) -> Ask {
        let exhausted = self.asm.label();
        self.asm.bind(self.ways.elsewhere);
        self.asm.inc32(RAX);
        spread(&mut self.asm, RDX, R10, self.layout.sizing.threads);
        self.asm.add32(RDX, PROBE_LIMIT);
        self.asm.cmp32_with(RAX, RDX);
        self.asm.jcc(If::Equal, exhausted);
        self.asm.mov32(RDX, RAX);
        self.asm.and32(RDX, self.layout.sizing.threads - 1);
        self.compare_key();
        self.asm.jcc(If::NotEqual, self.ways.elsewhere);
        self.asm.jmp(self.ways.found);

        self.asm.bind(exhausted);
        self.asm.cmp_mem_zero(mem(R11, header::ASKS_CLOSED));
        self.asm.jcc(If::NotEqual, self.ways.no_slot);
        let offset = self.asm.here();
        self.asm.int3();
        self.asm.jmp(retry);
        Ask { offset, retry: self.asm.offset_of(retry), give_up: offset, key: u32::from(R10.0) }
    }

    /// Another thread has taken the record; `rax` is the head that it left.
    fn contend(&mut self) {
        self.asm.bind(self.ways.contended);
        self.asm.add32(RCX, 1 << ATTEMPTS_SHIFT);
        self.asm.jcc(If::Below, self.ways.full);
        self.asm.jmp(self.ways.again);
    }

    /// The ways on which an event is lost, or goes on without its time.
    fn losses(&mut self) {
        self.asm.bind(self.ways.full);
        self.asm.and32(RCX, PROBE_MASK);
        self.asm.sub32_mem(mem(R10, slot::DEPTH), DEPTH_STEP);
        self.asm.bind(self.ways.lone_full);
        self.lose(Loss::RingFull);
        self.asm.bind(self.ways.nested);
        self.lose(Loss::Nested);
        self.asm.bind(self.ways.no_slot);
        self.lose(Loss::NoSlot);
    }

    /// prctl(PR_SET_TSC, PR_TSC_SIGSEGV) makes rdtsc fault: the event goes on without a time.
    fn without_time(&mut self) {
        for (rdtsc, timed) in std::mem::take(&mut self.untimed) {
            self.recoveries.push((rdtsc, self.asm.here()));
            self.asm.zero(RAX);
            self.asm.zero(RDX);
            self.asm.jmp(timed);
        }
    }

    fn lose(&mut self, reason: Loss) {
        let counter: Mem = mem(R11, self.layout.losses(reason)).plus(RCX, 3);
        self.asm.set64(R11, self.environment.state.0);
        self.asm.lock_inc(counter);
        self.asm.ret();
    }
}
