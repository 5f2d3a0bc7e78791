//! Bytes taken for what the kernel, the loader or the user writes.

use insn::{Address, Isa};
use symbols::Class;
use symbols::auxv::Auxv;
use symbols::demangle;
use symbols::glob::Glob;
use symbols::spec::Spec;
use symbols::{ld_cache as cache, maps as mappings, stat, status};

/// `/proc/PID/maps`.
pub fn maps(bytes: &[u8]) {
    let all = mappings::parse(bytes);
    for mapping in &all {
        let _ = (mapping.is_file(), mapping.special(), mapping.address_of(0x1000));
    }
    let _ = mappings::mapping_of(&all, Address(0x40_1000));
}

/// `/etc/ld.so.cache`.
pub fn ld_cache(bytes: &[u8]) {
    let _ = [Isa::I386, Isa::X86_64].map(|isa| cache::parse(isa, bytes));
}

/// A PROBE as typed. What is understood is understood again as it is printed.
pub fn spec(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = (demangle::demangle(text), Glob::is_pattern(text), Glob::new(text).matches("malloc"));
    if let Ok(spec) = Spec::parse(text) {
        let printed = spec.to_string();
        let again = Spec::parse(&printed);
        assert_eq!(again.as_ref().map(ToString::to_string), Ok(printed), "{text:?} was {spec:?}");
    }
}

/// `/proc/PID/status`, `stat` and `auxv`.
pub fn process(bytes: &[u8]) {
    let _ = (status::Status::parse(bytes), stat::Stat::parse(bytes));
    let _ = [Class::Elf32, Class::Elf64].map(|class| Auxv::parse(class, bytes));
}

pub(crate) fn all_maps() -> Vec<Vec<u8>> {
    let made = b"00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/a (deleted)\n\
        7ffd0000-7ffe0000 rw-p 00000000 00:00 0 [stack]\nffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n";
    vec![made.to_vec()]
}

/// `struct cache_file_new` with two libraries.
pub(crate) fn caches() -> Vec<Vec<u8>> {
    let strings = b"libc.so.6\0/lib/libc.so.6\0libm.so.6\0/lib/libm.so.6\0";
    let first = 48 + 2 * 24;
    let mut bytes = b"glibc-ld.so.cache1.1".to_vec();
    let word = |bytes: &mut Vec<u8>, word: u32| bytes.extend(word.to_le_bytes());
    word(&mut bytes, 2);
    word(&mut bytes, u32::try_from(strings.len()).unwrap_or(0));
    bytes.resize(48, 0);
    for (name, path) in [(0, 10), (25, 35)] {
        [0x303, first + name, first + path, 0, 0, 0].iter().for_each(|field| word(&mut bytes, *field));
    }
    bytes.extend(strings);
    vec![bytes]
}

pub(crate) fn specs() -> Vec<Vec<u8>> {
    [
        "malloc",
        "libc.so.6:malloc",
        "/usr/bin/x:main+0x10",
        "entry:./a:*open*",
        "*:f?o",
        "u:a:0x401000",
        "a:b::c(int)",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(crate) fn processes() -> Vec<Vec<u8>> {
    let read = |name: &str| std::fs::read(format!("/proc/self/{name}")).unwrap_or_default();
    let mut auxv: Vec<u8> = Vec::new();
    for word in [6_u64, 4096, 3, 0x40_0040, 9, 0x40_1000, 0, 0] {
        auxv.extend(word.to_le_bytes());
    }
    let stat = b"12 (a) b) S 1 12 12 0 -1 4194304 1 0 0 0 1 2 0 0 20 0 3 0 4711 1 1 1 1 1 1 0 0 0 0 0 0 0 0 17 1 0 0";
    vec![read("status"), stat.to_vec(), auxv]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_read() {
        assert_eq!(cache::parse(Isa::X86_64, &caches()[0]).map(|libraries| libraries.len()), Ok(2));
        assert_eq!(mappings::parse(&all_maps()[0]).len(), 3);
        let understood =
            specs().iter().filter(|text| Spec::parse(std::str::from_utf8(text).unwrap()).is_ok()).count();
        assert!(understood >= 4, "{understood}");
        assert!(stat::Stat::parse(&processes()[1]).is_some());
    }
}
