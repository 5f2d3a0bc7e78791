//! Which place of the program a place in a stub stands for.

use insn::Address;

use super::state::Engine;
use crate::registers::Registers;
use crate::seam::Target;

/// The program's state at a place in a stub: `(pc, sp) = (original, sp + sp_shift)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    original: Address,
    sp_shift: i32,
    /// Nothing of the stub has had an effect yet.
    pub(super) is_entry: bool,
    /// Just behind a displaced system call.
    pub(super) behind_syscall: bool,
}

impl Place {
    /// Makes registers of a thread in the stub those of a thread in the program.
    pub(super) fn put(&self, registers: &mut Registers) {
        let moved = registers.pc();
        registers.set_pc(self.original);
        registers.set_sp(registers.sp().offset(i64::from(self.sp_shift)));
        // `syscall` left the stub's address in a register (`int $0x80` does not): the stub's next instruction would have
        // mended that.
        if let (true, Some(slot)) = (self.behind_syscall, registers.isa().abi().syscall.leaves_pc)
            && registers.get(slot) == moved.0
        {
            registers.set(slot, self.original.0);
        }
    }

    /// The address in the program.
    pub(super) fn original(&self) -> Address {
        self.original
    }
}

impl<T: Target> Engine<T> {
    /// The place of the program that `pc` stands for, if it is one in a stub that stands for any, or an island.
    pub(super) fn original_of(&self, pc: Address) -> Option<Place> {
        if let Some(site) = self.islands.get(&pc) {
            return Some(Place { original: *site, sp_shift: 0, is_entry: true, behind_syscall: false });
        }
        let (stub, _) = self.stub_at(pc)?;
        if let Some(original) = stub.entry_at(pc) {
            return Some(Place { original, sp_shift: 0, is_entry: true, behind_syscall: false });
        }
        let point = stub.point_at(pc)?;
        Some(Place {
            original: point.original,
            sp_shift: point.sp_shift,
            is_entry: false,
            behind_syscall: point.behind_syscall,
        })
    }
}
