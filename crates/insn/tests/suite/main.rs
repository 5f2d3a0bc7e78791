//! Tests of the crate from outside.

mod alpha;
mod arm;
mod arm64;
mod boundaries;
mod execution;
mod function;
mod goldens;
mod mips;
mod places;
mod plans;
mod powerpc;
mod properties;
mod qemu;
mod registers;
mod riscv;
mod s390x;
mod sh;
mod slots;
mod sparc;
mod targets;
mod toolchain;
mod world;
