//! Where the dynamic loader stops for debuggers, and what it has loaded (`struct r_debug` in link.h).
//!
//! The loader calls an empty function before and after it changes its list of libraries. A breakpoint there shows each new
//! library before its constructors run.

use insn::Address;
use object::elf;

use crate::address::{Bias, FileAddress};
use crate::elf::Image;
use crate::headers::Class;
use crate::reader::Reader;
use crate::symbols::Symbols;

/// What the loader is doing with its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// `RT_CONSISTENT`: the list is complete.
    Consistent,
    /// `RT_ADD`: a library is being added.
    Adding,
    /// `RT_DELETE`: one is being removed.
    Deleting,
}

/// The loader's rendezvous structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rendezvous {
    /// `r_version`: from 2 on there may be further namespaces (dlmopen).
    pub version: u32,
    /// `r_map`: the first loaded module.
    pub first_module: Address,
    /// `r_brk`: the function that is called at each change.
    pub break_address: Address,
    /// `r_state`.
    pub state: State,
}

/// An entry of the loader's list (`struct link_map`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// `l_addr`.
    pub bias: Bias,
    /// `l_name`; empty for the program itself.
    pub name: String,
    /// `l_ld`: its dynamic section in memory.
    pub dynamic: Address,
}

/// Longer lists and names than any program has.
const MOST_MODULES: usize = 1 << 16;
const LONGEST_NAME: usize = 4096;

/// Reads the rendezvous structure at `at`. `read` fills the buffer from the process's memory, or says that it cannot.
pub fn rendezvous(
    class: Class,
    at: Address,
    read: &mut dyn FnMut(Address, &mut [u8]) -> bool,
) -> Option<Rendezvous> {
    let word = class.word();
    let mut bytes = vec![0; 4 * word];
    if !read(at, &mut bytes) {
        return None;
    }
    // A number and its padding, two addresses, a number.
    let version = Reader::new(&bytes).u32()?;
    let mut reader = Reader::starting_at(&bytes, word as u64)?;
    let (first_module, break_address) = (Address(reader.word(word)?), Address(reader.word(word)?));
    let state = match reader.u32()? {
        0 => State::Consistent,
        1 => State::Adding,
        2 => State::Deleting,
        _ => return None,
    };
    // Before the loader has set it up the structure is all zero.
    (version != 0).then_some(Rendezvous { version, first_module, break_address, state })
}

/// Finds the rendezvous structure of a program: its dynamic section's `DT_DEBUG`, which the loader fills in.
pub fn find_rendezvous(
    image: &Image<'_>,
    bias: Bias,
    read: &mut dyn FnMut(Address, &mut [u8]) -> bool,
) -> Option<Address> {
    const MOST: u64 = 1024;
    let start = bias.run_time(image.segment_address(elf::PT_DYNAMIC)?);
    let word = image.class().word();
    for index in 0..MOST {
        let mut bytes = vec![0; 2 * word];
        if !read(start + index * 2 * word as u64, &mut bytes) {
            return None;
        }
        let mut reader = Reader::new(&bytes);
        let (tag, value) = (reader.word(word)?.cast_signed(), reader.word(word)?);
        match tag {
            elf::DT_NULL => return None,
            elf::DT_DEBUG => return (value != 0).then_some(Address(value)),
            _ => {}
        }
    }
    None
}

/// The modules on the loader's list. Ends early where the list cannot be read or does not end.
pub fn modules(
    class: Class,
    rendezvous: &Rendezvous,
    read: &mut dyn FnMut(Address, &mut [u8]) -> bool,
) -> Vec<Module> {
    let mut found = Vec::new();
    let mut at = rendezvous.first_module;
    while at != Address(0) && found.len() < MOST_MODULES {
        let mut bytes = vec![0; 4 * class.word()];
        if !read(at, &mut bytes) {
            break;
        }
        let mut reader = Reader::new(&bytes);
        let mut word = || Address(reader.word(class.word()).unwrap_or(0));
        let (bias, name, dynamic, next) = (Bias(word().0), word(), word(), word());
        found.push(Module { bias, name: text(name, read), dynamic });
        at = next;
    }
    found
}

/// A string of the process; reads in small pieces that do not cross a page, behind which there may be nothing.
fn text(at: Address, read: &mut dyn FnMut(Address, &mut [u8]) -> bool) -> String {
    const PIECE: usize = 64;
    let mut bytes = Vec::new();
    let mut at = at;
    while bytes.len() < LONGEST_NAME {
        let mut piece = [0; PIECE];
        let len = PIECE - usize::try_from(at.0 % PIECE as u64).unwrap_or(0);
        let Some(piece) = piece.get_mut(..len) else { break };
        if !read(at, piece) {
            break;
        }
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            bytes.extend(piece.get(..end).unwrap_or(&[]));
            break;
        }
        bytes.extend_from_slice(piece);
        at += len as u64;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The function of a loader (glibc's ld.so, musl's libc) that is called at each change: for use before the loader has set up
/// its rendezvous structure.
#[must_use]
pub fn loader_break(symbols: &Symbols<'_>) -> Option<FileAddress> {
    let names = ["_dl_debug_state", "r_debug_state", "_rtld_debug_state"];
    let named = |name: &str| symbols.functions().find(|symbol| symbol.name == name);
    names.iter().find_map(|name| named(name)).map(|symbol| symbol.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory at 0x1000.
    fn reader(memory: Vec<u8>) -> impl FnMut(Address, &mut [u8]) -> bool {
        move |at, into| {
            let start = usize::try_from(at.0.wrapping_sub(0x1000)).unwrap_or(usize::MAX);
            let Some(bytes) = start.checked_add(into.len()).and_then(|end| memory.get(start..end)) else {
                return false;
            };
            into.copy_from_slice(bytes);
            true
        }
    }

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn the_list_is_followed_to_its_end() {
        // r_debug, two link_map entries, one name, padding to whole pieces.
        let mut memory = words(&[1, 0x1020, 0x7777, 1]);
        memory.extend(words(&[0, 0x1060, 0xd1, 0x1040]));
        memory.extend(words(&[0x5000, 0x1061, 0xd2, 0]));
        memory.extend(b"\0/lib/x.so\0");
        memory.resize(256, 0);
        let mut read = reader(memory);
        let found = rendezvous(Class::Elf64, Address(0x1000), &mut read).unwrap();
        assert_eq!((found.break_address, found.state), (Address(0x7777), State::Adding));
        let modules = modules(Class::Elf64, &found, &mut read);
        assert_eq!(modules.len(), 2);
        assert_eq!((modules[0].name.as_str(), modules[1].name.as_str()), ("", "/lib/x.so"));
        assert_eq!(modules[1].bias, Bias(0x5000));
    }

    #[test]
    fn a_list_that_bites_its_tail_ends() {
        let mut memory = words(&[1, 0x1020, 0x7777, 0]);
        memory.extend(words(&[0, 0, 0, 0x1020]));
        let mut read = reader(memory);
        let found = rendezvous(Class::Elf64, Address(0x1000), &mut read).unwrap();
        assert_eq!(modules(Class::Elf64, &found, &mut read).len(), MOST_MODULES);
    }

    #[test]
    fn what_is_not_set_up_or_not_readable_is_none() {
        assert_eq!(rendezvous(Class::Elf64, Address(0x1000), &mut reader(words(&[0, 0, 0, 0]))), None);
        assert_eq!(rendezvous(Class::Elf64, Address(0x1000), &mut reader(words(&[1, 0, 0, 9]))), None);
        assert_eq!(rendezvous(Class::Elf64, Address(0x9000), &mut reader(words(&[1, 0, 0, 0]))), None);
    }
}
