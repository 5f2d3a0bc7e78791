//! What happens at a hit?
//!
//! Pure: the layout of the shared state, the code of stubs and bodies (as bytes), and the reader of the rings.
//! One folder per ISA, all compiled on every host.
#![forbid(unsafe_code)]

pub mod clock;
pub mod layout;
pub mod memory;
pub mod ring;
pub mod stub;
pub mod threads;

mod i386;
mod x86;
mod x86_64;
