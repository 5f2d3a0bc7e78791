//! x86-64 and i386: one instruction set in two modes. What the modes differ in is in `mode`, what the ABIs differ in is
//! in `x86_64` and `i386`.

pub(crate) mod analyze;
pub(crate) mod disassemble;
pub(crate) mod emulate;
pub(crate) mod i386;
pub(crate) mod jump;
pub(crate) mod liveness;
pub(crate) mod mode;
pub(crate) mod relocate;
pub(crate) mod sweep;
pub(crate) mod x86_64;
pub(crate) mod xol;
