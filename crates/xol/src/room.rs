//! Where a process has room for stubs without being in the way of its growth.

use std::ops::Range;

use insn::{Address, Isa};
use symbols::maps::Mapping;

/// How far the heap may grow above its present end, and the main stack below its present start: of 4 GiB there is less to
/// give away. The kernel keeps 128 MiB for the stack (`MIN_GAP`, arch/x86/mm/mmap.c).
struct Growth {
    heap: u64,
    stack: u64,
}

fn growth(isa: Isa) -> Growth {
    match isa.abi().word {
        4 => Growth { heap: 256 << 20, stack: 128 << 20 },
        _ => Growth { heap: 1 << 30, stack: 1 << 30 },
    }
}

/// The lowest address the kernel lets an ordinary process map (`vm.mmap_min_addr`'s default).
const LOWEST: u64 = 0x1_0000;

/// Free address ranges, sorted, up to the next mapping (who places stubs keeps a distance): the gaps between mappings, without those that the heap (from `start_brk`, field 47 of
/// `/proc/PID/stat`) and the main stack grow into.
#[must_use]
pub fn free_ranges<'m>(
    isa: Isa,
    mappings: impl IntoIterator<Item = &'m Mapping>,
    start_brk: Option<u64>,
) -> Vec<Range<Address>> {
    let (growth, end) = (growth(isa), isa.abi().address_end);
    let mut taken: Vec<Range<u64>> =
        mappings.into_iter().flat_map(|mapping| occupied(mapping, &growth)).collect();
    taken.extend(start_brk.map(|start| start..start.saturating_add(growth.heap)));
    taken.sort_by_key(|range| range.start);
    let mut free = Vec::new();
    let mut next = LOWEST;
    for range in taken {
        push_gap(&mut free, next, range.start.min(end));
        next = next.max(range.end);
    }
    push_gap(&mut free, next, end);
    free
}

/// What a mapping occupies now and may come to occupy.
fn occupied(mapping: &Mapping, growth: &Growth) -> Option<Range<u64>> {
    let (start, end) = (mapping.range.start.0, mapping.range.end.0);
    match mapping.path.as_deref() {
        Some("[heap]") => Some(start..end.saturating_add(growth.heap)),
        Some("[stack]") => Some(start.saturating_sub(growth.stack)..end),
        _ => Some(start..end),
    }
}

/// What of 4 GiB is left to the program in one piece, of what is free there without us: the middle half of the largest range.
/// Stubs that may lie in some places only would cut it up, and such a program maps hundreds of megabytes at once.
pub(crate) fn kept_whole(isa: Isa, free: &[Range<Address>]) -> Option<Range<Address>> {
    let largest = free.iter().max_by_key(|range| range.end - range.start)?;
    let quarter = (largest.end - largest.start) / 4;
    (isa.abi().word == 4).then(|| largest.start + quarter..Address(largest.end.0 - quarter))
}

/// What of `free` stubs may take.
pub(crate) fn for_stubs(isa: Isa, free: Vec<Range<Address>>) -> Vec<Range<Address>> {
    let whole = kept_whole(isa, &free);
    without(free, whole.into_iter().collect())
}

/// `free`, which is sorted, without what lies in some of `taken`, of which none is inside another.
pub(crate) fn without(free: Vec<Range<Address>>, mut taken: Vec<Range<Address>>) -> Vec<Range<Address>> {
    taken.sort_by_key(|range| range.start);
    let mut left = Vec::with_capacity(free.len() + taken.len());
    for range in free {
        let mut next = range.start;
        let first = taken.partition_point(|taken| taken.end <= range.start);
        for hole in taken[first..].iter().take_while(|hole| hole.start < range.end) {
            left.extend((next < hole.start).then_some(next..hole.start));
            next = next.max(hole.end);
        }
        left.extend((next < range.end).then_some(next..range.end));
    }
    left
}

/// How many more mappings may be made, where a process has `foreign` of its own and `ours` of ours.
pub(crate) fn mappings_left(foreign: usize, ours: usize) -> usize {
    /// include/linux/mm.h, `DEFAULT_MAX_MAP_COUNT`.
    const DEFAULT: usize = 65530;
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    share_of_mappings(text.trim().parse().unwrap_or(DEFAULT), foreign).saturating_sub(ours)
}

/// Half of what the process leaves of `most` mappings, however often we take some of it.
fn share_of_mappings(most: usize, foreign: usize) -> usize {
    most.saturating_sub(foreign) / 2
}

fn push_gap(free: &mut Vec<Range<Address>>, start: u64, end: u64) {
    if start < end {
        free.push(Address(start)..Address(end));
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
        let free = free_ranges(Isa::X86_64, &maps::parse(MAPS), Some(0x0100_0000));
        for taken in [0, 0x1000, 0x0040_0000, 0x004f_ffff, 0x0100_0000, 0x4000_0000, 0x7fff_f000_0000] {
            assert!(!is_free(&free, taken), "{taken:#x} in {free:x?}");
        }
        for gap in [0x0003_0000, 0x0060_0000, 0x5000_0000, 0x7eff_0000_0000, 0x7fff_0000_0000] {
            assert!(is_free(&free, gap), "{gap:#x} not in {free:x?}");
        }
    }

    #[test]
    fn a_32_bit_process_has_room_below_4_gib() {
        const MAPS: &[u8] = b"\
08048000-080cd000 r-xp 00000000 08:01 12 /bin/program
093e0000-09402000 rw-p 00000000 00:00 0 [heap]
f7f29000-f7f2d000 r--p 00000000 00:00 0 [vvar]
ffeb3000-ffed4000 rw-p 00000000 00:00 0 [stack]
";
        let free = free_ranges(Isa::I386, &maps::parse(MAPS), Some(0x093e_0000));
        for taken in [0x0808_0000, 0x1000_0000, 0xf7f2_a000, 0xff00_0000, 0xffff_e000, 1 << 32] {
            assert!(!is_free(&free, taken), "{taken:#x} in {free:x?}");
        }
        for gap in [0x0002_0000, 0x0811_0000, 0x4000_0000, 0xf700_0000] {
            assert!(is_free(&free, gap), "{gap:#x} not in {free:x?}");
        }
    }

    #[test]
    fn half_of_the_mappings_stays_the_programs() {
        assert_eq!(share_of_mappings(1_000, 200), 400);
        assert_eq!(share_of_mappings(1_000, 1_001), 0);
        let (first, mut ours) = (mappings_left(10, 0), 0);
        for _ in 0..3 {
            ours += mappings_left(10, ours);
        }
        assert_eq!(ours, first);
    }

    #[test]
    fn of_4_gib_the_middle_stays_whole() {
        let free = [Address(0x1_0000)..Address(0x800_0000), Address(0x1000_0000)..Address(0xf000_0000)];
        assert_eq!(kept_whole(Isa::I386, &free), Some(Address(0x4800_0000)..Address(0xb800_0000)));
        assert_eq!(kept_whole(Isa::X86_64, &free), None);
        assert_eq!(kept_whole(Isa::I386, &[]), None);
    }

    #[test]
    fn what_is_taken_is_cut_out() {
        let ranges = |pairs: &[(u64, u64)]| -> Vec<_> {
            pairs.iter().map(|(start, end)| Address(*start)..Address(*end)).collect()
        };
        let free = || ranges(&[(10, 20), (30, 40), (50, 60)]);
        assert_eq!(without(free(), Vec::new()), free());
        let taken = ranges(&[(55, 70), (12, 14), (18, 35), (13, 15), (39, 40)]);
        assert_eq!(without(free(), taken), ranges(&[(10, 12), (15, 18), (35, 39), (50, 55)]));
        assert_eq!(without(free(), ranges(&[(0, 100)])), []);
    }

    #[test]
    fn ranges_are_sorted_and_apart() {
        let free = free_ranges(Isa::X86_64, &maps::parse(MAPS), None);
        assert!(free.windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert!(free.iter().all(|range| range.start < range.end));
    }

    #[test]
    fn mappings_that_make_no_sense() {
        let odd = b"0-ffffffffffffffff rw-p 0 0:0 0\nffff-0 rw-p 0 0:0 0\n";
        assert!(free_ranges(Isa::X86_64, &maps::parse(odd), Some(u64::MAX)).len() <= 1);
        assert_eq!(free_ranges(Isa::X86_64, &[], None).len(), 1);
    }
}
