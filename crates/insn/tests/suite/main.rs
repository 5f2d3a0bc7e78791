//! Tests of the crate from outside.

mod arm;
mod arm64;
mod goldens;
mod places;
mod plans;
mod powerpc;
mod properties;
mod qemu;
mod riscv;
mod slots;
mod targets;
