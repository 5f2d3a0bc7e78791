//! Every parser of foreign bytes, as a function of any bytes.
//!
//! A body must come back, soon and without a panic, whatever it is given; what it checks beyond that it asserts. The fuzz
//! targets of `fuzz/` call these functions, and so do the bounded tests of this package, which need no special compiler.
//! [`TARGETS`] lists them all with inputs to begin with.
#![forbid(unsafe_code)]

mod code;
mod elf;
mod memory;
mod server;
mod text;

pub use code::{analysis, relocation};
pub use elf::{go_table, image, unwind_table};
pub use memory::{description, loader_list, messages, ring};
pub use server::remote;
pub use text::{ld_cache, maps, process, spec};

/// A parser.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its fuzz target.
    pub name: &'static str,
    /// It.
    pub body: fn(&[u8]),
    /// Inputs that it takes, for others to be made of.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 14] = [
    Target { name: "image", body: image, seeds: elf::images },
    Target { name: "unwind_table", body: unwind_table, seeds: elf::unwind_tables },
    Target { name: "go_table", body: go_table, seeds: elf::go_tables },
    Target { name: "maps", body: maps, seeds: text::all_maps },
    Target { name: "ld_cache", body: ld_cache, seeds: text::caches },
    Target { name: "spec", body: spec, seeds: text::specs },
    Target { name: "process", body: process, seeds: text::processes },
    Target { name: "analysis", body: analysis, seeds: code::functions },
    Target { name: "relocation", body: relocation, seeds: code::functions },
    Target { name: "ring", body: ring, seeds: memory::rings },
    Target { name: "loader_list", body: loader_list, seeds: memory::loader_lists },
    Target { name: "description", body: description, seeds: memory::descriptions },
    Target { name: "messages", body: messages, seeds: memory::all_messages },
    Target { name: "remote", body: remote, seeds: server::conversations },
];

/// Numbers taken from the front of an input.
struct Numbers<'a>(&'a [u8]);

impl<'a> Numbers<'a> {
    /// The next byte, 0 at the end.
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// The next eight bytes, the missing ones 0.
    fn word(&mut self) -> u64 {
        u64::from_le_bytes([(); 8].map(|()| self.byte()))
    }

    fn rest(self) -> &'a [u8] {
        self.0
    }
}
