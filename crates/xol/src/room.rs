//! Where a process has room for stubs without being in the way of its growth.

use std::ops::Range;

use insn::Address;
use symbols::maps::Mapping;

/// The heap may grow by this much above its present end, and the main stack below its present start.
const GROWTH: u64 = 1 << 30;

/// The lowest address the kernel lets an ordinary process map (`vm.mmap_min_addr`'s default).
const LOWEST: u64 = 0x1_0000;

/// The end of the user's half of a 47-bit address space, less the guard page at its end (x86-64 memory map,
/// Documentation/arch/x86/x86_64/mm.rst).
const HIGHEST: u64 = 0x7fff_ffff_f000;

/// Free address ranges, sorted, up to the next mapping (who places stubs keeps a distance): the gaps between mappings, without those that the heap (from `start_brk`, field 47 of
/// `/proc/PID/stat`) and the main stack grow into.
#[must_use]
pub fn free_ranges(mappings: &[Mapping], start_brk: Option<u64>) -> Vec<Range<Address>> {
    let mut taken: Vec<Range<u64>> = mappings.iter().flat_map(occupied).collect();
    taken.extend(start_brk.map(|start| start..start.saturating_add(GROWTH)));
    taken.sort_by_key(|range| range.start);
    let mut free = Vec::new();
    let mut next = LOWEST;
    for range in taken {
        push_gap(&mut free, next, range.start);
        next = next.max(range.end);
    }
    push_gap(&mut free, next, HIGHEST);
    free
}

/// What a mapping occupies now and may come to occupy.
fn occupied(mapping: &Mapping) -> Option<Range<u64>> {
    let (start, end) = (mapping.range.start.0, mapping.range.end.0);
    match mapping.path.as_deref() {
        Some("[heap]") => Some(start..end.saturating_add(GROWTH)),
        Some("[stack]") => Some(start.saturating_sub(GROWTH)..end),
        _ => Some(start..end),
    }
}

/// How many more mappings may be made: half of what vm.max_map_count leaves beside these.
pub(crate) fn mappings_left(mappings: &[Mapping]) -> usize {
    /// include/linux/mm.h, `DEFAULT_MAX_MAP_COUNT`.
    const DEFAULT: usize = 65530;
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    text.trim().parse().unwrap_or(DEFAULT).saturating_sub(mappings.len()) / 2
}

fn push_gap(free: &mut Vec<Range<Address>>, start: u64, end: u64) {
    if start < end.min(HIGHEST) {
        free.push(Address(start)..Address(end.min(HIGHEST)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symbols::maps;

    const MAPS: &[u8] = b"\
00400000-00500000 r-xp 00000000 08:01 12 /bin/program
01000000-01021000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000100000 r-xp 00000000 08:01 13 /lib/libc.so.6
7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0 [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
";

    fn is_free(free: &[Range<Address>], address: u64) -> bool {
        free.iter().any(|range| range.contains(&Address(address)))
    }

    #[test]
    fn not_where_something_is_or_will_be() {
        let free = free_ranges(&maps::parse(MAPS), Some(0x0100_0000));
        for taken in [0, 0x1000, 0x0040_0000, 0x004f_ffff, 0x0100_0000, 0x4000_0000, 0x7fff_f000_0000] {
            assert!(!is_free(&free, taken), "{taken:#x} in {free:x?}");
        }
        for gap in [0x0003_0000, 0x0060_0000, 0x5000_0000, 0x7eff_0000_0000, 0x7fff_0000_0000] {
            assert!(is_free(&free, gap), "{gap:#x} not in {free:x?}");
        }
    }

    #[test]
    fn ranges_are_sorted_and_apart() {
        let free = free_ranges(&maps::parse(MAPS), None);
        assert!(free.windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert!(free.iter().all(|range| range.start < range.end));
    }

    #[test]
    fn mappings_that_make_no_sense() {
        let odd = b"0-ffffffffffffffff rw-p 0 0:0 0\nffff-0 rw-p 0 0:0 0\n";
        assert!(free_ranges(&maps::parse(odd), Some(u64::MAX)).len() <= 1);
        assert_eq!(free_ranges(&[], None).len(), 1);
    }
}
