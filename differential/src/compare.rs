//! When two runs were the same.
//!
//! Not compared is what shows, by design, where code ran: the x87 instruction pointer (FIP) names the last x87
//! instruction, displaced or not, and a call that faults by itself has written its return address already.

use crate::world::{Case, MEMORY, PAGE, Snapshot, VECTOR, World};

/// Legacy region of XSAVE: the x87 control word begins it (Intel SDM vol. 1, table 10-2).
const FIP: std::ops::Range<usize> = 8..16;
const STATE: usize = 512;

/// The parts of the vector state that this processor has beyond SSE: (bit in XCR0, offset, length).
pub type Components = [(u32, usize, usize); 4];

/// Brings a state that XSAVE has written into one form: components in their initial state are left out by it. What is
/// behind the last component is 0 already.
pub fn normalise(area: &mut [u8; VECTOR], components: &Components) {
    let held = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|byte| area[STATE + byte]));
    if held & 1 == 0 {
        area[..24].fill(0);
        area[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
        area[32..160].fill(0);
    }
    if held & 2 == 0 {
        area[160..416].fill(0);
    }
    area[FIP].fill(0);
    area[28..32].fill(0); // the mask of MXCSR's bits is the processor's
    for register in 0..8 {
        area[42 + 16 * register..48 + 16 * register].fill(0); // x87 registers have ten bytes
    }
    area[416..STATE + 64].fill(0);
    let mut end = STATE + 64;
    for &(bit, offset, len) in components.iter().filter(|component| component.2 != 0) {
        if held & (1 << bit) == 0 {
            area[offset..offset + len].fill(0);
        }
        if offset > end {
            area[end..offset].fill(0);
        }
        end = end.max(offset + len);
    }
}

/// Puts the end of a displaced run in terms of the original. False if there is no state for where it ended.
#[must_use]
pub fn translate(case: &Case, world: World, original: &Snapshot, displaced: &mut Snapshot) -> bool {
    let offset = displaced.pc.wrapping_sub(case.copy);
    if offset >= u64::from(case.copy_len) {
        return true;
    }
    let points = &case.points[..case.points_len as usize];
    let Some(point) = points.iter().find(|point| u64::from(point.offset) == offset) else { return false };
    if displaced.address == displaced.pc {
        displaced.address = point.original;
    }
    displaced.pc = point.original;
    if point.sp_shift != 0 {
        let pushed = displaced.general[4].wrapping_sub(world.stack());
        let pushed = usize::try_from(pushed).ok().filter(|at| at + 8 <= PAGE);
        if let Some(at) = pushed.map(|at| MEMORY - PAGE + at) {
            displaced.memory[at..at + 8].copy_from_slice(&original.memory[at..at + 8]);
        }
    }
    displaced.general[4] = displaced.general[4].wrapping_add_signed(i64::from(point.sp_shift));
    true
}

/// Whether two runs ended in the same state.
#[must_use]
pub fn same(one: &Snapshot, other: &Snapshot) -> bool {
    one.general == other.general
        && one.flags == other.flags
        && one.pc == other.pc
        && (one.signal, one.code, one.address) == (other.signal, other.code, other.address)
        && (one.trap, one.error) == (other.trap, other.error)
        && one.bases == other.bases
        && one.selectors == other.selectors
        && one.vector == other.vector
        && one.memory == other.memory
}

/// The names of general registers by their encoding numbers.
const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

/// What differs, one line each.
#[must_use]
pub fn differences(one: &Snapshot, other: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    let mut word = |name: &str, one: u64, other: u64| {
        if one != other {
            lines.push(format!("{name}: {one:#x} in place, {other:#x} displaced"));
        }
    };
    for (name, (one, other)) in NAMES.iter().zip(one.general.iter().zip(&other.general)) {
        word(name, *one, *other);
    }
    word("flags", one.flags, other.flags);
    word("pc", one.pc, other.pc);
    word("signal", one.signal, other.signal);
    word("si_code", one.code.cast_unsigned(), other.code.cast_unsigned());
    word("si_addr", one.address, other.address);
    word("trap number", one.trap, other.trap);
    word("error code", one.error, other.error);
    word("fs base", one.bases[0], other.bases[0]);
    word("gs base", one.bases[1], other.bases[1]);
    for (name, (one, other)) in
        ["ds", "es", "fs", "gs"].iter().zip(one.selectors.iter().zip(&other.selectors))
    {
        word(name, u64::from(*one), u64::from(*other));
    }
    bytes(&mut lines, "vector state", &one.vector, &other.vector);
    bytes(&mut lines, "data", &one.memory[..PAGE], &other.memory[..PAGE]);
    bytes(&mut lines, "stack", &one.memory[PAGE..], &other.memory[PAGE..]);
    lines
}

fn bytes(lines: &mut Vec<String>, name: &str, one: &[u8], other: &[u8]) {
    let chunks = one.chunks(8).zip(other.chunks(8)).enumerate();
    let differing = chunks.filter(|(_, (one, other))| one != other);
    lines.extend(differing.take(4).map(|(index, (one, other))| {
        format!("{name} +{:#x}: {one:02x?} in place, {other:02x?} displaced", 8 * index)
    }));
}

#[cfg(test)]
mod tests {
    use super::{differences, same, translate};
    use crate::world::{Case, MEMORY, PAGE, POINTS, Point, Snapshot, VECTOR, WORLDS};

    fn snapshot() -> Box<Snapshot> {
        Box::new(Snapshot {
            general: [7; 16],
            flags: 0x202,
            pc: 0x1000,
            signal: 0,
            code: 0,
            address: 0,
            trap: 0,
            error: 0,
            bases: [0; 2],
            selectors: [0; 4],
            vector: [0; VECTOR],
            memory: [0; MEMORY],
        })
    }

    /// A part's name and how it comes to differ.
    type Change = (&'static str, fn(&mut Snapshot));

    #[test]
    fn every_part_of_the_state_is_compared_and_named() {
        let changes: [Change; 12] = [
            ("r12", |it| it.general[12] = 8),
            ("flags", |it| it.flags = 0x203),
            ("pc", |it| it.pc = 1),
            ("signal", |it| it.signal = 11),
            ("si_code", |it| it.code = 1),
            ("si_addr", |it| it.address = 1),
            ("trap number", |it| it.trap = 1),
            ("error code", |it| it.error = 1),
            ("gs base", |it| it.bases[1] = 1),
            ("es", |it| it.selectors[1] = 1),
            ("vector state", |it| it.vector[700] = 1),
            ("stack", |it| it.memory[MEMORY - 1] = 1),
        ];
        assert!(same(&snapshot(), &snapshot()));
        for (name, change) in changes {
            let mut other = snapshot();
            change(&mut other);
            assert!(!same(&snapshot(), &other), "{name}");
            let lines = differences(&snapshot(), &other);
            assert!(lines.len() == 1 && lines[0].starts_with(name), "{lines:?}");
        }
    }

    /// The state equations put a displaced call that faults in terms of the original; elsewhere there is none.
    #[test]
    fn an_end_in_displaced_code_is_put_in_terms_of_the_original() {
        let world = WORLDS[0];
        let mut case = Case {
            general: [0; 16],
            flags: 0,
            original: 0x1000,
            copy: 0x2000,
            copy_len: 23,
            vector: 0,
            memory: 0,
            dead: 0,
            dead_flags: 0,
            points_len: 2,
            points: [Point::default(); POINTS],
        };
        case.points[0] = Point { offset: 0, sp_shift: 0, original: 0x1000 };
        case.points[1] = Point { offset: 6, sp_shift: 8, original: 0x1000 };
        let mut original = snapshot();
        original.general[4] = world.stack() + 0x108;
        let mut displaced = original.clone();
        (displaced.pc, displaced.address) = (0x2006, 0x2006);
        displaced.general[4] -= 8;
        displaced.memory[PAGE + 0x100..PAGE + 0x108].fill(1); // the return address
        (original.pc, original.address) = (0x1000, 0x1000);
        let mut elsewhere = displaced.clone();
        assert!(translate(&case, world, &original, &mut displaced) && same(&original, &displaced));
        elsewhere.pc = 0x2003;
        assert!(!translate(&case, world, &original, &mut elsewhere));
        elsewhere.pc = 0x2000 + 23; // behind it
        assert!(translate(&case, world, &original, &mut elsewhere) && elsewhere.pc == 0x2017);
    }
}
