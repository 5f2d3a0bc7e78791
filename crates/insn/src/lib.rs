//! What is this instruction, and how may it be displaced?
//!
//! Pure: bytes and addresses in, plans and bytes out. One folder per ISA, all compiled on every host.
#![forbid(unsafe_code)]

pub mod address;
pub mod code;
pub mod isa;
pub mod place;
pub mod plan;
pub mod relocate;
pub mod set;
pub mod survey;
pub mod xol;

mod alpha;
mod arm;
mod arm64;
mod decode;
mod disassemble;
mod eviction;
mod exclusive;
mod field;
mod island;
mod marks;
mod mips;
mod overlaps;
mod pieces;
mod powerpc;
mod riscv;
mod s390x;
mod schedule;
mod sh;
mod span;
mod sparc;
mod sweep;
mod x86;

pub use address::Address;
pub use decode::{Flow, Insn, disassemble, inspect, instruction_len, reference};
pub use isa::Isa;
