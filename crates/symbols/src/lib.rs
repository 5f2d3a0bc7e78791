//! Where is the thing the user named, and what is it?
//!
//! Pure: bytes and text in, names and addresses out. Nothing here opens a file, and nothing that is read is trusted:
//! hostile input gives an error or less knowledge, never a panic or unbounded work.
//!
//! From a typed PROBE to places in a program:
//!
//! * [`spec`] reads the text, [`path`] says which files its PATH means;
//! * [`elf`] opens a file's bytes, [`symbols`] reads its symbol tables, [`resolve`] says which sites a NAME means
//!   ([`instructions`]: where they begin);
//! * [`functions`] gives what the planner must know of a module (function ranges, known targets), from symbols, unwind tables
//!   ([`frames`]), relocations ([`relocations`]) and, in Go, the runtime's function table ([`go`]);
//! * [`maps`], [`status`], [`stat`], [`auxv`] and [`loader`] read what the kernel and the dynamic loader say of a process;
//!   [`ld_cache`] reads the loader's cache.
#![forbid(unsafe_code)]

pub mod address;
pub mod auxv;
pub mod demangle;
mod dynamic;
pub mod elf;
pub mod frames;
pub mod functions;
pub mod glob;
pub mod go;
mod headers;
pub mod instructions;
mod labels;
pub mod ld_cache;
pub mod loader;
mod lsda;
pub mod maps;
mod marks;
pub mod near;
pub mod path;
mod reader;
pub mod relocations;
pub mod resolve;
mod rseq;
pub mod spec;
pub mod stat;
pub mod status;
pub mod symbols;

pub use address::{Bias, FileAddress};
pub use elf::{ElfError, Image};
pub use headers::Class;
pub use spec::{NamePattern, Spec};
pub use symbols::{Symbol, Symbols};
