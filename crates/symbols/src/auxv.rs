//! What the kernel told the program at its start: `/proc/PID/auxv` (getauxval(3)).

use insn::Address;
use insn::isa::Order;

use crate::headers::Class;
use crate::reader::Reader;

/// The entries xol asks for (pairs of words).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Auxv {
    /// `AT_PHDR`: the program headers of the program, in memory.
    pub program_headers: Option<Address>,
    /// `AT_PHNUM`.
    pub program_header_count: Option<u64>,
    /// `AT_ENTRY`: the program's entry point.
    pub entry: Option<Address>,
    /// `AT_BASE`: where the dynamic loader is; `None` (or 0) in a static program.
    pub base: Option<Address>,
    /// `AT_SYSINFO_EHDR`: the vdso.
    pub vdso: Option<Address>,
    /// `AT_HWCAP2`: bit 1 says that `rdfsbase` is allowed in user mode on x86-64.
    pub hwcap2: Option<u64>,
    /// `AT_SECURE`: the program gained privileges at exec.
    pub secure: Option<bool>,
}

impl Auxv {
    /// Reads the vector of a little-endian program up to `AT_NULL`.
    #[must_use]
    pub fn parse(class: Class, bytes: &[u8]) -> Self {
        Self::parse_in(class, Order::Little, bytes)
    }

    /// The same of a program with words of that order.
    #[must_use]
    pub fn parse_in(class: Class, order: Order, bytes: &[u8]) -> Self {
        let word = class.word();
        let mut found = Self::default();
        let mut reader = Reader::of(order, bytes);
        while let (Some(kind), Some(value)) = (reader.word(word), reader.word(word)) {
            let address = Some(Address(value)).filter(|address| address.0 != 0);
            // The numbers are those of linux/auxvec.h and asm/auxvec.h.
            match kind {
                0 => break,
                3 => found.program_headers = address,
                5 => found.program_header_count = Some(value),
                7 => found.base = address,
                9 => found.entry = address,
                23 => found.secure = Some(value != 0),
                26 => found.hwcap2 = Some(value),
                33 => found.vdso = address,
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps;

    #[test]
    fn our_own_vector_agrees_with_our_own_maps() {
        let auxv = Auxv::parse(Class::Elf64, &std::fs::read("/proc/self/auxv").unwrap());
        let maps = maps::parse(&std::fs::read("/proc/self/maps").unwrap());
        let at = |address: Option<Address>| maps::mapping_of(&maps, address.unwrap()).unwrap();
        assert!(at(auxv.entry).executable);
        assert_eq!(at(auxv.vdso).special(), Some("vdso"));
        assert_eq!(at(auxv.program_headers).path, at(auxv.entry).path);
        assert!(auxv.program_header_count > Some(0));
    }

    #[test]
    fn nothing_is_read_behind_the_end() {
        let words = [9u64, 0x1000, 0, 0, 33, 0x2000];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let auxv = Auxv::parse(Class::Elf64, &bytes);
        assert_eq!((auxv.entry, auxv.vdso), (Some(Address(0x1000)), None));
        assert_eq!(Auxv::parse(Class::Elf64, &bytes[..12]), Auxv::default());
    }
}
