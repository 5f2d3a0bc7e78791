//! The event routine, shared by all stubs of a neighbourhood: counts the hit, finds the thread's slot, reserves a
//! record in its ring and fills it.
//!
//! In: ebp = the probe; on the stack the return address, then a frame of [`FRAME`] bytes. A leaf that pushes nothing.
//! Changes every register and the flags, which the stub has saved.
//!
//! The shared state is that of x86-64, words of 64 bits, so that there is one reader. A ring's head moves by `cmpxchg8b`. A
//! record's state is written in halves: its lower half becomes 0, which the reader takes for not yet marked, then the upper
//! half, then the lower one with its mark. Keys are thread pointers below 4 GiB, of which the lower half is compared; so is
//! the distance from tail to head, which is small.
//!
//! As on x86-64 nothing here trusts the shared state, and plain stores become visible in program order.
//!
//! The arguments of the C calling convention lie behind the return address of the function that is probed at its entry. What
//! is there at other places, or where the stack ends before, is read all the same: a load that faults gives 0.

use insn::Address;

use super::count::{add_one, in_state, load_thread_pointer, spread};
use super::event::FRAME;
use crate::layout::{Layout, Loss, NESTING_LIMIT, PROBE_LIMIT, RECORD_LEN, header, record, ring, slot};
use crate::stub::{Ask, Environment, Routines};
use crate::x86::asm::{Assembler, EAX, EBP, EBX, ECX, EDI, EDX, ESI, ESP, If, Label, Mem, Reg, mem};
use crate::x86::event::{AHEAD, ATTEMPTS_SHIFT, DEPTH_STEP, PROBE_MASK, Ways, log2, number};

/// The word behind the return address of the probed function, as seen from the routine.
const FIRST_ARGUMENT: usize = FRAME + 4;

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
    let ask = Ask { give_up: routine.asm.offset_of(routine.ways.no_slot), ..ask };
    let EventRoutine { asm, recoveries, .. } = routine;
    Routines { at, bytes: asm.finish(), event, event_alone: event, asks: vec![ask], recoveries }
}

/// The routine in the making; its parts in the order they run, then what is out of line.
struct EventRoutine<'a> {
    asm: Assembler,
    layout: &'a Layout,
    environment: &'a Environment,
    ways: Ways,
    recoveries: Vec<(u32, u32)>,
    /// The `rdtsc`, and where it goes on behind it.
    rdtsc: Option<(u32, Label)>,
}

impl<'a> EventRoutine<'a> {
    fn new(environment: &'a Environment) -> Self {
        let mut asm = Assembler::default();
        let ways = Ways::new(&mut asm);
        let layout = &environment.layout;
        Self { asm, layout, environment, ways, recoveries: Vec::new(), rdtsc: None }
    }

    /// A place in the shared state, to which a register is added.
    fn state(&self, offset: usize, plus: Reg) -> Mem {
        in_state(self.environment, offset).with_base(plus)
    }

    /// `esi` = thread pointer, 0 if there is none; one hit counted in the thread's shard.
    fn count(&mut self) {
        load_thread_pointer(&mut self.asm, ESI, &mut self.recoveries);
        spread(&mut self.asm, EAX, ESI, self.layout.sizing.shards);
        self.asm.imul32(EAX, EAX, number(self.layout.shard_len()));
        self.asm.lea32(EAX, mem(EAX, 0).plus(EBP, 3));
        let counter = self.state(self.layout.counters(), EAX);
        add_one(&mut self.asm, counter);
    }

    /// `edx` = offset in the table of the slot whose key is `esi`. Gives where the search may begin again.
    fn find_slot(&mut self) -> Label {
        let retry = self.asm.mark();
        self.asm.test32(ESI);
        self.asm.jcc(If::Equal, self.ways.no_slot);
        spread(&mut self.asm, EAX, ESI, self.layout.sizing.threads);
        self.asm.mov32(EDX, EAX);
        self.compare_key();
        self.asm.jcc(If::NotEqual, self.ways.elsewhere);
        self.asm.bind(self.ways.found);
        retry
    }

    /// `edx`, a slot's number, becomes its offset in the table; whether its key is `esi`.
    fn compare_key(&mut self) {
        self.asm.shl32(EDX, log2(slot::LEN));
        let key = self.state(self.layout.slots() + slot::KEY, EDX);
        self.asm.cmp32_mem(key, ESI);
    }

    /// `edi` = slot, `esi` = ring; the thread's depth is one more.
    ///
    /// It is so before a record is reserved: an event of a handler that comes in between is inside this one.
    fn enter(&mut self) {
        let (slots, rings) = (self.layout.slots(), self.layout.rings());
        let slot_at = self.state(slots, EDX);
        let ring_at = self.state(rings, EAX);
        let asm = &mut self.asm;
        asm.lea32(EDI, slot_at);
        asm.load32(EAX, mem(EDI, slot::RING));
        asm.cmp32(EAX, self.layout.sizing.rings);
        asm.jcc(If::AboveOrEqual, self.ways.no_slot);
        asm.imul32(EAX, EAX, number(self.layout.ring_len()));
        asm.lea32(ESI, ring_at);

        asm.load32(EAX, mem(EDI, slot::DEPTH));
        asm.cmp32(EAX, NESTING_LIMIT * DEPTH_STEP);
        asm.jcc(If::AboveOrEqual, self.ways.nested);
        asm.add32(EAX, DEPTH_STEP);
        asm.store32(mem(EDI, slot::DEPTH), EAX);
    }

    /// `edx:eax` = index of the record that is now ours.
    ///
    /// The two halves of the head may be read of two different heads: then the exchange finds another one, and gives it.
    fn reserve(&mut self) {
        let asm = &mut self.asm;
        asm.load32(EAX, mem(ESI, ring::HEAD));
        asm.load32(EDX, mem(ESI, ring::HEAD + 4));
        asm.bind(self.ways.again);
        asm.mov32(EBX, EAX);
        asm.sub_from_mem32(EBX, mem(ESI, ring::TAIL));
        asm.cmp32(EBX, self.layout.sizing.records);
        asm.jcc(If::AboveOrEqual, self.ways.full);
        asm.mov32(EBX, EAX);
        asm.mov32(ECX, EDX);
        asm.add32(EBX, 1);
        asm.add_carry32(ECX);
        asm.lock_cmpxchg8b(mem(ESI, ring::HEAD));
        asm.jcc(If::NotEqual, self.ways.contended);
    }

    /// Writes the record and returns. `esi` = record, `ebx` = the lower half of its state.
    fn fill(&mut self) {
        let asm = &mut self.asm;
        asm.mov32(EBX, EAX);
        asm.and32(EBX, self.layout.sizing.records - 1);
        asm.imul32(EBX, EBX, number(RECORD_LEN));
        asm.lea32(ESI, mem(ESI, ring::RECORDS).plus(EBX, 0));
        if self.environment.prefetchw {
            asm.prefetchw(mem(ESI, AHEAD));
        }
        asm.zero(ECX);
        asm.store32(mem(ESI, record::STATE), ECX);
        let shift = u8::try_from(record::INDEX_SHIFT).unwrap_or(0);
        asm.shld32(EDX, EAX, shift);
        asm.store32(mem(ESI, record::STATE + 4), EDX);
        asm.shl32(EAX, shift);
        asm.lea32(EBX, mem(EAX, 1));

        asm.and32(EBP, PROBE_MASK);
        asm.store32(mem(ESI, record::WHO), EBP);
        asm.load32(EDX, mem(EDI, slot::DEPTH));
        asm.sub32(EDX, DEPTH_STEP);
        asm.store32(mem(ESI, record::WHO + 4), EDX);
        for half in [0, 4] {
            asm.load32(EDX, mem(EDI, slot::IDENTITY + half));
            asm.store32(mem(ESI, record::IDENTITY + half), EDX);
        }
        asm.store32(mem(ESI, record::STATE), EBX);

        let rdtsc = asm.here();
        asm.rdtsc();
        let timed = asm.mark();
        self.rdtsc = Some((rdtsc, timed));
        asm.store32(mem(ESI, record::TIME), EAX);
        asm.store32(mem(ESI, record::TIME + 4), EDX);
        for n in 0..6 {
            asm.zero(EAX);
            let load = asm.here();
            asm.load32(EAX, mem(ESP, FIRST_ARGUMENT + 4 * n));
            self.recoveries.push((load, asm.here()));
            asm.store32(mem(ESI, record::ARGUMENTS + 8 * n), EAX);
            asm.store32(mem(ESI, record::ARGUMENTS + 8 * n + 4), ECX);
        }
        asm.inc32(EBX);
        asm.store32(mem(ESI, record::STATE), EBX);
        asm.sub32_mem(mem(EDI, slot::DEPTH), DEPTH_STEP);
        asm.ret();
    }

    /// The slots behind the home of `esi`, `eax` being the number of the last one looked at; then asks the holder for
    /// a slot, by a breakpoint. Gives what is known of the question here.
    fn search(&mut self, retry: Label) -> Ask {
        let exhausted = self.asm.label();
        self.asm.bind(self.ways.elsewhere);
        self.asm.inc32(EAX);
        spread(&mut self.asm, EDX, ESI, self.layout.sizing.threads);
        self.asm.add32(EDX, PROBE_LIMIT);
        self.asm.cmp32_with(EAX, EDX);
        self.asm.jcc(If::Equal, exhausted);
        self.asm.mov32(EDX, EAX);
        self.asm.and32(EDX, self.layout.sizing.threads - 1);
        self.compare_key();
        self.asm.jcc(If::NotEqual, self.ways.elsewhere);
        self.asm.jmp(self.ways.found);

        self.asm.bind(exhausted);
        // The fourth byte of the owner's word, then the other word.
        for word in [header::ASKS_CLOSED, header::CLOSED] {
            self.asm.cmp32_mem_zero(in_state(self.environment, word));
            self.asm.jcc(If::NotEqual, self.ways.no_slot);
        }
        let offset = self.asm.here();
        self.asm.int3();
        self.asm.jmp(retry);
        Ask { offset, retry: self.asm.offset_of(retry), give_up: offset, key: u32::from(ESI.0) }
    }

    /// Another thread has taken the record; `edx:eax` is the head that it left.
    fn contend(&mut self) {
        self.asm.bind(self.ways.contended);
        self.asm.add32(EBP, 1 << ATTEMPTS_SHIFT);
        self.asm.jcc(If::Below, self.ways.full);
        self.asm.jmp(self.ways.again);
    }

    /// The ways on which an event is lost, or goes on without its time.
    fn losses(&mut self) {
        self.asm.bind(self.ways.full);
        self.asm.and32(EBP, PROBE_MASK);
        self.asm.sub32_mem(mem(EDI, slot::DEPTH), DEPTH_STEP);
        self.lose(Loss::RingFull);
        self.asm.bind(self.ways.nested);
        self.lose(Loss::Nested);
        self.asm.bind(self.ways.no_slot);
        self.lose(Loss::NoSlot);
        // prctl(PR_SET_TSC, PR_TSC_SIGSEGV) makes rdtsc fault: the event goes on without a time.
        if let Some((rdtsc, timed)) = self.rdtsc {
            self.recoveries.push((rdtsc, self.asm.here()));
            self.asm.zero(EAX);
            self.asm.zero(EDX);
            self.asm.jmp(timed);
        }
    }

    fn lose(&mut self, reason: Loss) {
        self.asm.imul32(EAX, EBP, 8);
        let losses = self.state(self.layout.losses(reason), EAX);
        add_one(&mut self.asm, losses);
        self.asm.ret();
    }
}
