//! The event routine, shared by all stubs of a neighbourhood: counts the hit, finds the thread's slot, reserves a
//! record in its ring and fills it.
//!
//! In: rdi = the saved-register frame, esi = the probe; one return address on the stack. A leaf that pushes nothing.
//! Clobbers rax, rcx, rdx, rsi, rdi, r8-r11 and the flags, which the stub has saved.
//!
//! Nothing here trusts the shared state, which the program may have scribbled over: every address is the state's own
//! address plus a bounded number. The slot's number comes from a register, the ring's number is compared, the record's
//! place is masked. Heads, tails and depths are only compared. Every loop is bounded, but for the question to the
//! holder, which decides how it goes on.
//!
//! Stores of x86-64 become visible in program order (Intel SDM volume 3, 9.2.2), so a plain store releases: who sees
//! `BUSY` sees whose record it is, who sees `DONE` sees all of it.

use insn::Address;

use super::asm::{Assembler, If, Label, Mem, R8, R9, R10, R11, RAX, RCX, RDI, RDX, RSI, mem};
use super::count::spread;
use crate::layout::{Layout, Loss, NESTING_LIMIT, PROBE_LIMIT, RECORD_LEN, header, record, ring, slot};
use crate::stub::{Ask, Environment, Routines, ThreadBy};

/// Attempts to move a ring's head before the record is given up: as many threads must have won each time.
const ATTEMPTS: u32 = 64;

/// Where the rare ways out are.
struct Ways {
    full: Label,
    nested: Label,
    no_slot: Label,
}

/// Makes the routines for the address `at`.
pub(crate) fn assemble(environment: &Environment, at: Address) -> Routines {
    let mut routine = EventRoutine::new(environment);
    let event = routine.asm.here();
    routine.count();
    routine.find_slot();
    routine.enter();
    routine.reserve();
    routine.fill();
    routine.losses();
    let EventRoutine { asm, ask, recoveries, .. } = routine;
    Routines { at, bytes: asm.finish(), event, asks: ask.into_iter().collect(), recoveries }
}

/// The routine in the making; its parts in the order they run.
struct EventRoutine<'a> {
    asm: Assembler,
    layout: &'a Layout,
    environment: &'a Environment,
    ways: Ways,
    ask: Option<Ask>,
    recoveries: Vec<(u32, u32)>,
    /// Where a part that is out of line finds its way back; the breakpoint's offset and the retry label.
    rdtsc_refused: Option<(u32, Label)>,
    retry: Option<(u32, Label)>,
}

impl<'a> EventRoutine<'a> {
    fn new(environment: &'a Environment) -> Self {
        let mut asm = Assembler::default();
        let ways = Ways { full: asm.label(), nested: asm.label(), no_slot: asm.label() };
        Self {
            asm,
            layout: &environment.layout,
            environment,
            ways,
            ask: None,
            recoveries: Vec::new(),
            rdtsc_refused: None,
            retry: None,
        }
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
        asm.lea(RAX, mem(RAX, 0).plus(RSI, 3));
        asm.lock_inc(mem(R11, self.layout.counters()).plus(RAX, 0));
    }

    /// `eax` = number of the slot whose key is `r10`, `rdx` = its offset in the table.
    fn find_slot(&mut self) {
        let found = self.asm.label();
        let retry = self.asm.mark();
        self.asm.test64(R10);
        self.asm.jcc(If::Equal, self.ways.no_slot);
        spread(&mut self.asm, RAX, R10, self.layout.sizing.threads);
        self.asm.set32(RCX, PROBE_LIMIT);
        let next = self.asm.mark();
        self.asm.mov32(RDX, RAX);
        self.asm.shl32(RDX, log2(slot::LEN));
        self.asm.cmp_mem(mem(R11, self.layout.slots() + slot::KEY).plus(RDX, 0), R10);
        self.asm.jcc(If::Equal, found);
        self.asm.inc32(RAX);
        self.asm.and32(RAX, self.layout.sizing.threads - 1);
        self.asm.dec32(RCX);
        self.asm.jcc(If::NotEqual, next);
        self.ask(retry);
        self.asm.bind(found);
    }

    /// Asks the holder for a slot, by a breakpoint.
    fn ask(&mut self, retry: Label) {
        self.asm.cmp_mem_zero(mem(R11, header::ASKS_CLOSED));
        self.asm.jcc(If::NotEqual, self.ways.no_slot);
        self.retry = Some((self.asm.here(), retry));
        self.asm.int3();
        self.asm.jmp(retry);
    }

    /// `r8` = slot, `r10` = ring, `rcx` = the record's word `WHO`; the thread's depth is one more.
    fn enter(&mut self) {
        let asm = &mut self.asm;
        asm.lea(R8, mem(R11, self.layout.slots()).plus(RDX, 0));
        asm.load(R10, mem(R8, slot::RING));
        asm.cmp64(R10, self.layout.sizing.rings);
        asm.jcc(If::AboveOrEqual, self.ways.no_slot);
        asm.imul64(R10, R10, number(self.layout.ring_len()));
        asm.lea(R10, mem(R11, self.layout.rings()).plus(R10, 0));

        asm.load(RCX, mem(R8, slot::DEPTH));
        asm.cmp64(RCX, NESTING_LIMIT);
        asm.jcc(If::AboveOrEqual, self.ways.nested);
        asm.inc_mem(mem(R8, slot::DEPTH));
        asm.shl32(RCX, 24);
        asm.or32(RCX, RAX);
        asm.shl64(RCX, 32);
        asm.or64(RCX, RSI);
    }

    /// `rax` = index of the record that is now ours.
    fn reserve(&mut self) {
        let asm = &mut self.asm;
        let reserved = asm.label();
        asm.set32(R9, ATTEMPTS);
        asm.load(RAX, mem(R10, ring::HEAD));
        let again = asm.mark();
        asm.mov(RDX, RAX);
        asm.sub_mem(RDX, mem(R10, ring::TAIL));
        asm.cmp64(RDX, self.layout.sizing.records);
        asm.jcc(If::AboveOrEqual, self.ways.full);
        asm.lea(RDX, mem(RAX, 1));
        asm.lock_cmpxchg(mem(R10, ring::HEAD), RDX);
        asm.jcc(If::Equal, reserved);
        asm.dec32(R9);
        asm.jcc(If::NotEqual, again);
        asm.jmp(self.ways.full);
        asm.bind(reserved);
    }

    /// Writes the record and returns. `r10` = record, `r9` = its state.
    fn fill(&mut self) {
        let asm = &mut self.asm;
        asm.mov32(RDX, RAX);
        asm.and32(RDX, self.layout.sizing.records - 1);
        asm.imul32(RDX, RDX, number(RECORD_LEN));
        asm.lea(R10, mem(R10, ring::RECORDS).plus(RDX, 0));
        asm.mov(R9, RAX);
        asm.shl64(R9, 2);
        asm.inc64(R9);
        asm.store(mem(R10, record::WHO), RCX);
        asm.load(RDX, mem(R8, slot::IDENTITY));
        asm.store(mem(R10, record::IDENTITY), RDX);
        asm.store(mem(R10, record::STATE), R9);

        let rdtsc = asm.here();
        asm.rdtsc();
        asm.shl64(RDX, 32);
        asm.or64(RAX, RDX);
        let timed = asm.mark();
        self.rdtsc_refused = Some((rdtsc, timed));
        asm.store(mem(R10, record::TIME), RAX);
        for argument in (0..6).map(|n| n * 8) {
            asm.load(RAX, mem(RDI, argument));
            asm.store(mem(R10, record::ARGUMENTS + argument), RAX);
        }
        asm.inc64(R9);
        asm.store(mem(R10, record::STATE), R9);
        asm.dec_mem(mem(R8, slot::DEPTH));
        asm.ret();
    }

    /// The rare ways out.
    fn losses(&mut self) {
        self.asm.bind(self.ways.full);
        self.asm.dec_mem(mem(R8, slot::DEPTH));
        self.lose(Loss::RingFull);
        self.asm.bind(self.ways.nested);
        self.lose(Loss::Nested);
        self.asm.bind(self.ways.no_slot);
        self.lose(Loss::NoSlot);
        if let Some((offset, retry)) = self.retry {
            let (retry, give_up) = (self.asm.offset_of(retry), self.asm.offset_of(self.ways.no_slot));
            self.ask = Some(Ask { offset, retry, give_up, key: u32::from(R10.0) });
        }
        // prctl(PR_SET_TSC, PR_TSC_SIGSEGV) makes rdtsc fault: the event goes on without a time.
        if let Some((rdtsc, timed)) = self.rdtsc_refused {
            self.recoveries.push((rdtsc, self.asm.here()));
            self.asm.zero(RAX);
            self.asm.jmp(timed);
        }
    }

    fn lose(&mut self, reason: Loss) {
        let counter: Mem = mem(R11, self.layout.losses(reason)).plus(RSI, 3);
        self.asm.lock_inc(counter);
        self.asm.ret();
    }
}

fn number(len: usize) -> u32 {
    u32::try_from(len).expect("the layout is smaller than 1 GiB")
}

fn log2(len: usize) -> u8 {
    u8::try_from(len.trailing_zeros()).unwrap_or(0)
}
