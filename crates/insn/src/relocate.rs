//! The contract of displacement: one original instruction as code for another place.

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::isa::Isa;
use crate::plan::Reason;

/// `int3`, where nothing runs.
const FILLER: u8 = 0xcc;
/// Bytes of a word that can be aligned anywhere.
const ALIGNED_LEN: usize = 2 * size_of::<u64>() - 1;

/// Where control goes when it leaves moved code other than by falling off its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// To a fixed original address.
    Fixed(Address),
    /// Computed by the branch itself (`ret`, `jmp *reg`, `jmp *mem`): see [`branch_target`].
    Computed,
}

/// An unconditional branch out of moved code. Conditional branches leave through one of these, so that a breakpoint
/// written over every exit catches a thread whatever the flags are. Where the destination is fixed, a thread that stands
/// on the exit has carried out the instruction: its state is that of the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Offset of the branch instruction.
    pub offset: u32,
    /// Where it goes.
    pub to: Destination,
}

/// A place in moved code at which the program's state is that of an original address.
///
/// `(pc, sp) = (original, sp + sp_shift)`, all other registers as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Offset of a machine instruction of the moved code; a fault in it is reported here. Where a system call is the last of
    /// them, the place behind it is the end of the code.
    pub offset: u32,
    /// The original address whose state this is: that of the instruction it carries out; once that is done, the next
    /// one or the branch target.
    pub original: Address,
    /// What to add to the stack pointer.
    pub sp_shift: i32,
    /// Whether this is the place just behind a moved system call. The register [`crate::isa::SyscallAbi::leaves_pc`]
    /// then still holds the moved address and belongs set to `original`.
    pub behind_syscall: bool,
}

/// One original instruction, as code for the address it was made for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// The code, local labels and literals included. Its length does not depend on the address.
    pub bytes: Vec<u8>,
    /// State equations, sorted by offset.
    pub points: Vec<Point>,
    /// Branches out.
    pub exits: Vec<Exit>,
    /// Whether control can reach the end of `bytes` (false behind `ret`, `jmp`, ...).
    pub falls_through: bool,
}

/// The code that does at `at` what `bytes` does at `original`.
///
/// # Errors
/// A [`Reason`] where the instruction cannot run elsewhere or something it refers to is out of reach of `at`.
pub fn relocate(isa: Isa, original: Address, bytes: &[u8], at: Address) -> Result<Moved, Reason> {
    match isa {
        Isa::X86_64 | Isa::I386 => crate::x86::relocate::relocate(isa, original, bytes, at),
        _ => Err(Reason::NoStubs),
    }
}

/// A word that code reads relative to its own address, as it lies behind code that ends at `end`: its offset from there, and
/// the bytes. It is aligned, for the program may have alignment checked (EFLAGS.AC, Intel SDM vol. 3, 6.15, interrupt 17);
/// filler on both sides makes the length the same everywhere.
#[must_use]
pub fn aligned_word(end: Address, word: u64) -> (usize, [u8; ALIGNED_LEN]) {
    let gap = usize::from(end.0.to_le_bytes()[0].wrapping_neg()) % size_of::<u64>();
    let mut bytes = [FILLER; ALIGNED_LEN];
    bytes[gap..gap + size_of::<u64>()].copy_from_slice(&word.to_le_bytes());
    (gap, bytes)
}

/// What a branch may ask of a stopped thread.
#[derive(Clone, Copy, Debug)]
pub struct Thread<'a> {
    /// The `NT_PRSTATUS` set.
    pub registers: &'a [u8],
    /// What `%fs:0` of x86-64 or `%gs:0` of i386 is the address of, if anything.
    pub thread_pointer: Option<Address>,
}

/// Where the unconditional branch `bytes` at `at` goes in a stopped thread: the new `(pc, sp)`.
///
/// `read` fetches target memory and says whether it could.
/// `None` if memory cannot be read or the bytes are no such branch.
pub fn branch_target(
    isa: Isa,
    at: Address,
    bytes: &[u8],
    thread: &Thread<'_>,
    read: &mut dyn FnMut(Address, &mut [u8]) -> bool,
) -> Option<(Address, Address)> {
    match isa {
        Isa::X86_64 | Isa::I386 => crate::x86::emulate::branch_target(isa, at, bytes, thread, read),
        _ => None,
    }
}
