//! One file per architecture, each with the same names inside: a diff of two is the porting guide.

pub(crate) mod alpha;
pub(crate) mod arm;
pub(crate) mod arm64;
mod common;
pub(crate) mod loongarch;
pub(crate) mod mips;
pub(crate) mod powerpc;
pub(crate) mod riscv;
pub(crate) mod s390;
pub(crate) mod sh;
pub(crate) mod sparc;
pub(crate) mod x86;
