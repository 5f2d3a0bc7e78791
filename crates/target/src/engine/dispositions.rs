//! The program's signal actions and masks, kept as the program set them.
//!
//! A trap of ours is a synchronous signal. Where the thread blocks it or the process ignores it, the kernel resets the
//! action to SIG_DFL and unblocks it before the tracer sees the stop (kernel/signal.c, `force_sig_info_to_task`). So
//! actions are read while they are still right, and put back after a trap that cost one.

use std::collections::{HashMap, HashSet};

use program::layout::SharedMemory;

use super::change::answer;
use super::drain::Drain;
use super::state::Engine;
use crate::error::TargetError;
use crate::seam::{Call, SignalFields, Target, Tid};

/// The signals that our own bytes raise.
const SIGNALS: [i32; 4] = [libc::SIGTRAP, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL];
/// `sizeof(struct kernel_sigaction)` on x86-64: handler, flags, restorer, mask.
const ACTION_WORDS: usize = 4;
/// `sizeof(sigset_t)` of the kernel.
const SIGSET_LEN: u64 = 8;

/// What is known of the program's signal state.
#[derive(Clone, Debug, Default)]
pub(super) struct Dispositions {
    fields: Option<SignalFields>,
    actions: HashMap<i32, [u64; ACTION_WORDS]>,
    /// Masks as seen in stops of the world and after repairs. A thread's first stop tells nothing: the C library starts
    /// threads with everything blocked.
    masks: HashMap<Tid, u64>,
    /// Threads that met a trap while another thread's had already cost the action: only the action could have told whether
    /// they blocked the signal.
    suspects: HashSet<(Tid, i32)>,
}

impl Dispositions {
    pub(super) fn note_mask(&mut self, tid: Tid, mask: u64) {
        self.masks.insert(tid, mask);
    }

    pub(super) fn mask(&self, tid: Tid) -> u64 {
        self.masks.get(&tid).copied().unwrap_or(0)
    }

    pub(super) fn forget(&mut self, tid: Tid) {
        self.masks.remove(&tid);
    }
}

/// Bit of a signal in a mask.
pub(super) fn bit(signal: i32) -> u64 {
    u32::try_from(signal - 1).ok().and_then(|n| 1_u64.checked_shl(n)).unwrap_or(0)
}

impl<T: Target> Engine<T> {
    /// Reads masks, and the actions when they may have changed since the last stop.
    pub(super) fn snapshot_dispositions(&mut self) -> Result<(), TargetError> {
        let mut is_trap_pending = false;
        for tid in self.target.tasks() {
            // What a trap of ours cost is seen, and put back, when the trap is reported.
            if self.has_trap_pending(tid) {
                is_trap_pending = true;
                continue;
            }
            // On its way out of a stub a thread has a mask of ours, and its own is kept.
            let own = self.draining.get(&tid).map(Drain::mask);
            if let Some(mask) = own.or_else(|| self.target.signal_mask(tid).ok()) {
                self.dispositions.note_mask(tid, mask);
            }
        }
        if is_trap_pending || !self.owed.is_empty() {
            return Ok(());
        }
        let Some(caller) = self.caller() else { return Ok(()) };
        let now = self.target.signal_fields(caller)?;
        let same = |old: &SignalFields| old.caught == now.caught && old.ignored == now.ignored;
        if self.dispositions.fields.as_ref().is_some_and(same) {
            return Ok(());
        }
        for signal in SIGNALS {
            if let Some(action) = self.read_action(caller, signal)? {
                self.dispositions.actions.insert(signal, action);
            }
        }
        self.dispositions.fields = Some(now);
        Ok(())
    }

    /// A thread that was waiting in the kernel when the probes came stands now: what could not be read then can be.
    pub(super) fn late_snapshot(&mut self) {
        // What prevents it is that the thread is gone, which its end will tell.
        if self.dispositions.fields.is_none() && self.shared.is_some() {
            let _ = self.snapshot_dispositions();
        }
    }

    fn action_call(&self, signal: i32, new: u64, old: u64) -> Call {
        let number = self.target.isa().abi().numbers.rt_sigaction;
        let signal = u64::from(signal.cast_unsigned());
        Call { name: "rt_sigaction", number, arguments: [signal, new, old, SIGSET_LEN, 0, 0] }
    }

    fn scratch(&self) -> Option<(usize, u64)> {
        let offset = self.layout.as_ref()?.scratch().start;
        Some((offset, self.state_at?.0.0 + offset as u64))
    }

    fn read_action(&mut self, caller: Tid, signal: i32) -> Result<Option<[u64; ACTION_WORDS]>, TargetError> {
        let Some((offset, at)) = self.scratch() else { return Ok(None) };
        let got = self.target.call(caller, &[self.action_call(signal, 0, at)])?;
        answer("rt_sigaction", got.first().copied())?;
        let mut action = [0; ACTION_WORDS];
        if let Some(shared) = &self.shared {
            shared.copy(offset, &mut action);
        }
        Ok(Some(action))
    }

    fn write_action(&mut self, caller: Tid, signal: i32) -> Result<(), TargetError> {
        let (Some((offset, at)), Some(action)) =
            (self.scratch(), self.dispositions.actions.get(&signal).copied())
        else {
            return Ok(());
        };
        if let Some(shared) = &self.shared {
            for (index, word) in action.iter().enumerate() {
                shared.store(offset + 8 * index, *word);
            }
        }
        let got = self.target.call(caller, &[self.action_call(signal, at, 0)])?;
        answer("rt_sigaction", got.first().copied()).map(drop)
    }

    /// After a trap of ours in `tid`: puts back what the kernel took. Gives whether the thread can no longer be given a
    /// signal at this stop: calls were injected, after which it stands at an interrupt stop, or it must wait for
    /// [`Self::settle`].
    ///
    /// Where the action is SIG_DFL and the mask changed since our last stop the loss cannot be seen: a documented limit.
    pub(super) fn repair(&mut self, tid: Tid, signal: i32) -> Result<bool, TargetError> {
        let Some(known) = self.dispositions.fields else { return Ok(false) };
        let bit = bit(signal);
        let blocked_before = self.dispositions.mask(tid) & bit != 0;
        if (known.caught | known.ignored) & bit == 0 && !blocked_before {
            return Ok(false); // nothing that could have been lost
        }
        let now = self.target.signal_fields(tid)?;
        let handler_lost = known.caught & bit != 0 && now.caught & bit == 0;
        let ignore_lost = known.ignored & bit != 0 && now.ignored & bit == 0;
        let lost = handler_lost || ignore_lost;
        let suspect = self.dispositions.suspects.remove(&(tid, signal));
        // A handler is lost only where the signal was blocked; otherwise the mask seen last is all there is to go by.
        let was_blocked = handler_lost
            || (known.caught & bit != 0 && suspect)
            || (known.caught & bit == 0 && blocked_before);
        if handler_lost {
            self.write_action(tid, signal)?;
        } else if ignore_lost {
            self.owed.insert(signal);
            self.owed_to.insert(tid);
        }
        if lost {
            self.suspect_others(tid, signal);
        }
        if was_blocked && now.blocked & bit == 0 {
            let mask = self.target.signal_mask(tid)? | bit;
            self.target.set_signal_mask(tid, mask)?;
            self.dispositions.note_mask(tid, mask);
        }
        Ok(lost)
    }

    /// Puts back the SIG_IGN that traps cost, for the threads that wait for it. To be called after each batch of events.
    ///
    /// Setting SIG_IGN throws away what is pending of the signal in all threads (kernel/signal.c, `do_sigaction`): also
    /// the trap of a thread that has met our breakpoint and was not stopped by it yet, which would then run on in the
    /// middle of an instruction. So it is done with all threads stopped and nothing of ours pending.
    pub fn settle(&mut self) {
        if self.owed.is_empty() || self.owed_to.is_empty() {
            return;
        }
        match self.in_stopped_world(Self::put_back_ignored) {
            // Whose trap is pending reports it soon: an event, after which we are called again.
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => self.warn(format!("an ignored signal is not ignored for a while: {error}")),
        }
        for tid in std::mem::take(&mut self.owed_to) {
            // One that is gone is told by its own event.
            let _ = self.go_on_behind_trap(tid);
        }
    }

    /// Puts back the SIG_IGN that traps cost, in a stopped world; whether all is as it was.
    pub(super) fn put_back_ignored(&mut self) -> Result<bool, TargetError> {
        if self.owed.is_empty() {
            return Ok(true);
        }
        if self.target.tasks().into_iter().any(|tid| self.has_trap_pending(tid)) {
            return Ok(false);
        }
        let Some(caller) = self.caller() else { return Ok(false) };
        for signal in std::mem::take(&mut self.owed) {
            self.write_action(caller, signal)?;
        }
        Ok(true)
    }

    /// Whoever stands in a trap that has not been looked at yet met it while the action was lost.
    fn suspect_others(&mut self, repaired: Tid, signal: i32) {
        for tid in self.target.tasks() {
            if tid != repaired && !self.target.is_stopped(tid) && self.target.state(tid) == 't' {
                self.dispositions.suspects.insert((tid, signal));
            }
        }
    }
}
