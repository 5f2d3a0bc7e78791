//! What the parent and the child that executes share, and where the child has it.
//!
//! One memory file holds a batch of cases, their code and the memory they work on. The child maps the code and that memory
//! a second time, at the addresses of this module: twice, in a low world, which 32-bit addresses reach, and in a high one,
//! where an address that lost its upper half leads nowhere.

/// Cases of a batch.
pub const CASES: usize = 2048;
/// Bytes for the code of a case, original or displaced.
pub const SLOT: usize = 96;
/// A page.
pub const PAGE: usize = 4096;
/// Bytes of an area as XSAVE writes it, of which AVX-512 uses 2688.
pub const VECTOR: usize = PAGE;
/// Memory of a case: a page of data and one of stack.
pub const MEMORY: usize = 2 * PAGE;
/// Different initial vector states of a batch.
pub const VECTORS: usize = 32;
/// Different initial memories of a batch.
pub const MEMORIES: usize = 8;
/// Differences that are kept of a batch.
pub const KEPT: usize = 4;
/// States that a displaced run may end in.
pub const POINTS: usize = 16;

/// Bytes of all slots.
pub const CODE: usize = CASES * SLOT;
const _: () = assert!(CODE.is_multiple_of(PAGE), "code is mapped by pages");

/// A place in the address space where a whole world of code and data is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World(pub u64);

/// The low world and the high one.
pub const WORLDS: [World; 2] = [World(0), World(0x5a3c_0000_0000)];

impl World {
    /// Where the instructions are in place.
    #[must_use]
    pub fn originals(self) -> u64 {
        self.0 + 0x2000_0000
    }

    /// Where they are displaced: near, far above, below.
    #[must_use]
    pub fn copies(self) -> [u64; 3] {
        [self.0 + 0x2100_0000, self.0 + 0x7000_0000, self.0 + 0x0100_0000]
    }

    /// A page of data, with nothing around it.
    #[must_use]
    pub fn data(self) -> u64 {
        self.0 + 0x4000_1000
    }

    /// A page of stack, with nothing around it.
    #[must_use]
    pub fn stack(self) -> u64 {
        self.0 + 0x4000_4000
    }

    /// A page of breakpoints, where branches lead.
    #[must_use]
    pub fn targets(self) -> u64 {
        self.0 + 0x4001_0000
    }

    /// The page behind it: the way out of code that falls through.
    #[must_use]
    pub fn landing(self) -> u64 {
        self.targets() + PAGE as u64
    }
}

/// A place in displaced code whose state is that of an original address.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Point {
    /// Seen from the displaced code's start.
    pub offset: u32,
    /// What to add to the stack pointer.
    pub sp_shift: i32,
    /// The original address.
    pub original: u64,
}

/// One experiment: the same state, before an instruction in place and before it displaced.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Case {
    /// General registers by their encoding numbers.
    pub general: [u64; 16],
    /// The flags.
    pub flags: u64,
    /// Where the instruction is in place.
    pub original: u64,
    /// Where it is displaced.
    pub copy: u64,
    /// Bytes of the displaced form.
    pub copy_len: u32,
    /// Which initial vector state.
    pub vector: u32,
    /// Which initial memory.
    pub memory: u32,
    /// Registers that are said to be dead, as a bit set: the displaced run begins with others in them.
    pub dead: u32,
    /// Flags that are said to be dead.
    pub dead_flags: u64,
    /// How many of `points` there are.
    pub points_len: u32,
    /// See [`Point`].
    pub points: [Point; POINTS],
}

/// All that is compared after a run.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Snapshot {
    /// General registers by their encoding numbers.
    pub general: [u64; 16],
    /// The flags.
    pub flags: u64,
    /// Where the run ended; the world's landing where it fell through.
    pub pc: u64,
    /// The signal that ended it, or 0.
    pub signal: u64,
    /// The signal's `si_code`.
    pub code: i64,
    /// The signal's `si_addr`.
    pub address: u64,
    /// The exception's number.
    pub trap: u64,
    /// The exception's error code.
    pub error: u64,
    /// Bases of `fs` and `gs`, where they can be read.
    pub bases: [u64; 2],
    /// Selectors of `ds`, `es`, `fs`, `gs`.
    pub selectors: [u16; 4],
    /// The vector and x87 state in XSAVE's format, in the form that [`crate::compare`] describes.
    pub vector: [u8; VECTOR],
    /// The page of data, then that of stack.
    pub memory: [u8; MEMORY],
}

/// A case whose runs differed.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Difference {
    /// Which case.
    pub index: u32,
    /// After the run in place.
    pub original: Snapshot,
    /// After the displaced one, in terms of the original.
    pub displaced: Snapshot,
}

/// What the parent asks and the child answers.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Batch {
    /// Initial vector states, in XSAVE's format.
    pub vectors: [[u8; VECTOR]; VECTORS],
    /// Initial memories.
    pub memories: [[u8; MEMORY]; MEMORIES],
    /// The memory that the runs work on.
    pub memory: [u8; MEMORY],
    /// Code in place.
    pub originals: [[u8; SLOT]; CASES],
    /// Code displaced.
    pub copies: [[u8; SLOT]; CASES],
    /// The page of breakpoints, and the one with the way out.
    pub targets: [u8; 2 * PAGE],
    /// In which world the batch runs.
    pub world: u64,
    /// How many cases there are.
    pub count: u32,
    /// The case that is running; told by the child.
    pub progress: u32,
    /// How many differed; told by the child.
    pub found: u32,
    /// How many differed once, and not again; told by the child.
    pub unsteady: u32,
    /// The experiments.
    pub cases: [Case; CASES],
    /// The signal of each, or 0; told by the child.
    pub outcomes: [u8; CASES],
    /// The first ones that differed; told by the child.
    pub differences: [Difference; KEPT],
    /// The child's runs.
    pub runs: [Snapshot; 2],
}
