//! Program counters saved in signal frames.
//!
//! A thread that runs a signal handler has the PC it will go back to on its stack, where a look at its registers does not
//! find it. Such a PC inside a span would trap on its return (the interior sees to that) and need the tracer to move it.
//! Moved here, in the stop in which the text changes, it needs nobody: it holds also when the tracer is killed later.
//!
//! A word that only looks like a saved PC must not be touched, so the whole frame around it is verified: alignment, the
//! words that are the same in every frame, a return address that leads to `rt_sigreturn`, and the magic number in the
//! vector state. What does not verify completely is left to the trap; so are frames on other stacks than the present.
//!
//! Which words were moved is kept in mind. They are found again where no search would: deep in a stack, on a stack that its
//! thread has left for another, in a forked copy of the memory.

use std::collections::BTreeMap;

use insn::Address;
use insn::isa::{Order, SignalFrame};

use super::change::Change;
use super::state::Engine;
use crate::error::TargetError;
use crate::seam::{Target, Tid};

/// How far above the stack pointer is searched: frames of handlers that run now were within it in 91 of 91 cases.
const REACH: u64 = 64 << 10;
/// What a mapping is made of.
const PAGE: u64 = 4096;

/// The part of a stack that was read.
struct Stack {
    /// Bytes of a word.
    word: usize,
    start: Address,
    bytes: Vec<u8>,
}

impl Move {
    pub(super) fn carry_out<T: Target>(self, target: &mut T) -> Result<(), TargetError> {
        let word = target.isa().abi().word;
        target.write(self.at, &self.to.0.to_le_bytes()[..word])
    }
}

impl Stack {
    fn word(&self, at: Address) -> Option<u64> {
        let offset = usize::try_from(at.0.checked_sub(self.start.0)?).ok()?;
        self.bytes.get(offset..offset.checked_add(self.word)?).map(|word| Order::Little.number(word))
    }

    /// Each aligned word, with its address.
    fn words(&self) -> impl Iterator<Item = (Address, u64)> + '_ {
        let words = self.bytes.chunks_exact(self.word).map(|word| Order::Little.number(word));
        words.enumerate().map(|(index, word)| (self.start + (self.word * index) as u64, word))
    }
}

/// A saved PC that a change moves: the word, what it holds and what it is to hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    at: Address,
    from: Address,
    to: Address,
}

/// The words of signal frames that were made to lead into stubs, and where each leads.
pub(super) type MovedFrames = BTreeMap<Address, Address>;

impl<T: Target> Engine<T> {
    /// Moves the PCs in the signal frames on a stopped thread's stack as the change would move the thread itself.
    pub(super) fn mend_frames(&mut self, tid: Tid, change: &Change) -> Result<(), TargetError> {
        // While a handler runs its signal is blocked (but for SA_NODEFER): most threads have no frame.
        if self.target.signal_mask(tid)? == 0 {
            return Ok(());
        }
        let Some(stack) = self.stack_of(tid)? else { return Ok(()) };
        for (at, word) in stack.words() {
            let from = Address(word);
            if let Ok(Some(to)) = self.moved(from, change)
                && to != from
                && self.is_saved_pc(&stack, at)
            {
                self.move_frame(Move { at, from, to })?;
            }
        }
        Ok(())
    }

    /// The same for PCs that were moved before, on whatever stack they are. Their threads need not be stopped, as long as they
    /// come to a stop before they run.
    pub(super) fn mend_moved_frames(&mut self, change: &Change) -> Result<(), TargetError> {
        let moves = self.moves_of_frames(&self.target, change);
        moves.into_iter().try_for_each(|one| self.move_frame(one))
    }

    /// What that comes to in an address space that is this one, or a copy of it. A word that holds another value is no frame
    /// of ours any more; one that still holds the stub's address got it from us, so there is nothing else to verify.
    pub(super) fn moves_of_frames(&self, target: &T, change: &Change) -> Vec<Move> {
        let mut word = vec![0; target.isa().abi().word];
        let mut move_of = |(at, from): (&Address, &Address)| {
            let is_there = target.read(*at, &mut word).is_ok() && Order::Little.number(&word) == from.0;
            let to = is_there.then(|| self.moved(*from, change)).and_then(Result::ok).flatten();
            to.filter(|to| to != from).map(|to| Move { at: *at, from: *from, to })
        };
        self.moved_frames.iter().filter_map(&mut move_of).collect()
    }

    fn move_frame(&mut self, one: Move) -> Result<(), TargetError> {
        if self.is_ours(one.from) {
            self.open_moved();
        }
        one.carry_out(&mut self.target)?;
        if self.is_ours(one.to) {
            self.moved_frames.insert(one.at, one.to);
        } else {
            self.moved_frames.remove(&one.at);
        }
        self.statistics.frames += 1;
        Ok(())
    }

    /// What lies above the stack pointer, red zone included; `None` if it points nowhere.
    fn stack_of(&self, tid: Tid) -> Result<Option<Stack>, TargetError> {
        let sp = self.target.registers(tid)?.sp();
        let word = self.target.isa().abi().word;
        let below = sp.0.saturating_sub(self.target.isa().abi().red_zone);
        let start = Address(below & !(word as u64 - 1));
        // A stack may end before the reach does: as far as it goes then.
        let page_end = start.0.checked_add(PAGE).map(|end| end & !(PAGE - 1));
        let ends = (0..=REACH / PAGE).rev().filter_map(|pages| page_end?.checked_add(pages * PAGE));
        Ok(ends.into_iter().find_map(|end| {
            let mut bytes = vec![0; usize::try_from(end.checked_sub(start.0)?).ok()?];
            self.target.read(start, &mut bytes).is_ok().then_some(Stack { word, start, bytes })
        }))
    }

    /// Whether the word at `at` is the saved PC of a signal frame, as far as anything can tell.
    fn is_saved_pc(&self, stack: &Stack, at: Address) -> bool {
        let mut frames = self.target.isa().abi().signal_frames.iter();
        frames.any(|frame| self.verify_frame(frame, stack, at).unwrap_or(false))
    }

    fn verify_frame(&self, frame: &SignalFrame, stack: &Stack, at: Address) -> Option<bool> {
        let start = Address(at.0.checked_sub(frame.pc as u64)?);
        let word = |offset: usize| stack.word(start + offset as u64);
        word(frame.len - stack.word)?;
        let aligned = start.0 % frame.alignment.0 == frame.alignment.1;
        let fixed =
            frame.fixed.iter().all(|(offset, mask, value)| word(*offset).is_some_and(|w| w & mask == *value));
        Some(
            aligned
                && fixed
                && self.is_restorer(frame, Address(word(0)?))
                && self.is_vector_state(frame, start, Address(word(frame.vector_state)?)),
        )
    }

    fn is_restorer(&self, frame: &SignalFrame, at: Address) -> bool {
        frame.restorers.iter().any(|code| {
            let mut live = vec![0; code.len()];
            self.target.read(at, &mut live).is_ok() && live == *code
        })
    }

    fn is_vector_state(&self, frame: &SignalFrame, start: Address, state: Address) -> bool {
        let mut magic = [0; 4];
        state > start
            && self.target.read(state + frame.vector_magic.0, &mut magic).is_ok()
            && u32::from_le_bytes(magic) == frame.vector_magic.1
    }
}
