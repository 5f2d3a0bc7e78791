//! The contract between analysis and everything that installs: patches, their displaced instructions,
//! refusals. How they are found is each ISA's `analyze.rs`; planning of sets is `set.rs`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::address::Address;

/// How a site is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mechanism {
    /// A jump to the stub over one or several whole instructions.
    Jump,
    /// A jump that is longer than the instructions it displaces: its last bytes are those of the next ones, which stay. Or
    /// a short one, to an island.
    Pun,
    /// A breakpoint; the tracer moves the thread to the stub.
    Trap,
}

/// Registers of the ISA as a bit set; bit numbers are the ISA's own encoding numbers
/// (x86-64: rax 0, rcx 1, rdx 2, rbx 3, rsp 4, rbp 5, rsi 6, rdi 7, r8..r15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Registers(pub u32);

impl Registers {
    /// Whether register number `n` is in the set.
    #[must_use]
    pub fn contains(self, n: u32) -> bool {
        n < 32 && self.0 & (1 << n) != 0
    }
}

/// What need not be saved before an instruction runs: overwritten before it is read on the straight run from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dead {
    /// General registers whose value nobody reads again.
    pub registers: Registers,
    /// The arithmetic flags (all of CF, PF, AF, ZF, SF, OF on x86).
    pub flags: bool,
}

/// One original instruction that a patch covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Displaced {
    /// Where the program has it.
    pub address: Address,
    /// Its original bytes.
    pub bytes: Vec<u8>,
    /// What is dead just before it.
    pub dead: Dead,
    /// Whether a probe sits on it.
    pub is_site: bool,
}

/// Most bytes that a patch overwrites: enough for the jumps of any two sites that would overlap to become one.
pub const MAX_OVERWRITTEN: u64 = 16;

/// One change of the program's text, and what it displaces. Serves one or several sites.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// First byte changed.
    pub start: Address,
    /// What is written there.
    pub mechanism: Mechanism,
    /// The original bytes that are overwritten: 1 for `int3`, 5 for an x86 jump, or up to 16 where it begins that
    /// much before a site. Of a pun those behind the displaced instructions keep their value.
    pub overwritten: Vec<u8>,
    /// The displaced instructions, in order, without gaps. A jump may also cover inter-function padding behind the last
    /// (then `overwritten` is longer than these together).
    pub displaced: Vec<Displaced>,
    /// Where a short jump leads on from.
    pub island: Option<Island>,
}

/// What holds the jump to a site's stub, near the site, which has room for a short one only: padding, or the end of an
/// instruction that another patch displaces without overwriting these bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Island {
    /// Where it is: in the site's page.
    pub at: Address,
    /// The original bytes, as many as a jump has.
    pub overwritten: Vec<u8>,
}

impl Island {
    /// The first address behind it.
    #[must_use]
    pub fn end(&self) -> Address {
        self.at + self.overwritten.len() as u64
    }
}

impl Patch {
    /// Whether `island` lies in what this patch displaces: it must then be in the text as long as that is.
    #[must_use]
    pub fn makes_room_for(&self, island: &Island) -> bool {
        self.start < island.at && island.at < self.resume()
    }

    /// Offsets of old instruction boundaries strictly inside the overwritten bytes: each must hold a trapping opcode.
    #[must_use]
    pub fn interior(&self) -> Vec<u8> {
        let end = self.start + self.overwritten.len() as u64;
        self.displaced
            .iter()
            .skip(1)
            .filter(|insn| insn.address < end)
            .map(|insn| u8::try_from(insn.address - self.start).unwrap_or(u8::MAX))
            .collect()
    }

    /// How many of the overwritten bytes change their value, or may: all but a pun's tail.
    #[must_use]
    pub fn written(&self) -> usize {
        let displaced = usize::try_from(self.resume() - self.start).unwrap_or(usize::MAX);
        if self.mechanism == Mechanism::Pun {
            displaced.min(self.overwritten.len())
        } else {
            self.overwritten.len()
        }
    }

    /// The address behind the last displaced instruction: where the stub jumps back to.
    #[must_use]
    pub fn resume(&self) -> Address {
        self.displaced.last().map_or(self.start, |last| last.address + last.bytes.len() as u64)
    }

    /// The first address that is neither overwritten nor displaced.
    #[must_use]
    pub fn end(&self) -> Address {
        self.resume().max(self.start + self.overwritten.len() as u64)
    }

    /// The addresses of the sites this patch serves.
    pub fn sites(&self) -> impl Iterator<Item = Address> + '_ {
        self.displaced.iter().filter(|insn| insn.is_site).map(|insn| insn.address)
    }
}

/// Why a site is refused, or why a mechanism does not fit it. Rendered by `Display` as a lower-case fragment.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reason {
    /// The address is in no executable segment.
    #[error("the address is outside executable code")]
    OutsideCode,
    /// The code is of another instruction set than the file's.
    #[error("the code there is {what}, which is not supported")]
    OtherCode {
        /// Which one.
        what: String,
    },
    /// The address is not the start of an instruction.
    #[error("the address is inside the instruction at {start}")]
    InsideInstruction {
        /// Start of the instruction that covers the address.
        start: Address,
    },
    /// The bytes do not decode.
    #[error("the bytes do not decode as an instruction")]
    Undecodable,
    /// The instruction cannot run elsewhere.
    #[error("`{instruction}` cannot be displaced: {why}")]
    NotDisplaceable {
        /// Disassembly.
        instruction: String,
        /// The property of the instruction that forbids it.
        why: String,
    },
    /// The instruction runs between a branch and its end: a thread that goes on behind a breakpoint there has forgotten the
    /// branch.
    #[error("the instruction is in the delay slot of the branch at {branch}")]
    DelaySlot {
        /// The branch.
        branch: Address,
    },
    /// A jump would cover an address the program jumps to.
    #[error("a jump would cover {target}, which the program reaches from elsewhere")]
    TargetInside {
        /// The known target.
        target: Address,
    },
    /// A jump would cover the return address of a call.
    #[error("a jump would cover {target}, to which a call returns")]
    ReturnAddressInside {
        /// The return address.
        target: Address,
    },
    /// The program's code names the address as that of data (perlasm has constants between functions).
    #[error("a patch would change {at}, which the program reads or writes as data")]
    ReadAsData {
        /// The first such byte.
        at: Address,
    },
    /// A jump would run over the end of the function.
    #[error("a jump would run over the end of the function at {end}")]
    EndOfFunction {
        /// First address behind the function.
        end: Address,
    },
    /// A jump would cover bytes behind an instruction that never goes on to them, and they are not padding.
    #[error("a jump would cover {at}, which the instruction before it does not go on to")]
    NotStraight {
        /// The first address behind that instruction.
        at: Address,
    },
    /// No function range is known around the site, so a span of several instructions is not safe.
    #[error(
        "no function is known around the address, so only a single instruction may be replaced, and it is too short"
    )]
    UnknownFunction,
    /// The function does not decode completely, or in one way only.
    #[error(
        "the function does not decode completely: {at} is not an instruction, or a function begins inside it"
    )]
    FunctionUndecodable {
        /// The first such place.
        at: Address,
    },
    /// The kernel restarts a thread whose PC is in such a range (rseq(2)); from a stub it would not, and the sequence
    /// would silently lose its atomicity.
    #[error("the restartable sequence at {start} must not be left or changed")]
    RestartableSequence {
        /// First address of the sequence.
        start: Address,
    },
    /// An exception within a hardware transaction aborts it, each time anew (Intel SDM vol. 1, 16.3.8.2).
    #[error("a breakpoint would abort the transactions of the function at {function}")]
    Transaction {
        /// Start of the function.
        function: Address,
    },
    /// No place for the stub under the constraints.
    #[error("no free address for the stub within reach")]
    NoRoom,
    /// The bytes that a pun leaves as they are allow no free address, or it would have to leave what is to be probed.
    #[error(
        "no jump that ends in the bytes behind it leads to a free address, nor a short one to padding or a neighbour"
    )]
    NoPun,
    /// Stubs at constrained addresses take a mapping each, and the process may not have more.
    #[error(
        "its stub needs a further mapping, and half of those that vm.max_map_count leaves are used (mappings)"
    )]
    Mappings,
    /// Neither stubs nor jumps are there for the ISA.
    #[error("there are no stubs for this instruction set")]
    NoStubs,
    /// Another site's patch is in the way and cannot be merged with it: its mechanism is forced, or the two lie in
    /// functions that overlap and decode differently.
    #[error("the patch of another site is in the way")]
    Overlap,
}

impl Reason {
    /// What kind of reason it is, without the addresses: for counting.
    #[must_use]
    pub fn kind(&self) -> Cow<'_, str> {
        let fixed = match self {
            Self::InsideInstruction { .. } => "the address is inside an instruction",
            Self::NotDisplaceable { why, .. } => return Cow::Borrowed(why),
            Self::DelaySlot { .. } => "the instruction is in the delay slot of a branch",
            Self::TargetInside { .. } => {
                "a jump would cover an address that the program reaches from elsewhere"
            }
            Self::ReturnAddressInside { .. } => "a jump would cover an address to which a call returns",
            Self::ReadAsData { .. } => "a patch would change what the program reads or writes as data",
            Self::EndOfFunction { .. } => "a jump would run over the end of the function",
            Self::NotStraight { .. } => "a jump would cover what the instruction before it does not go on to",
            Self::FunctionUndecodable { .. } => "the function does not decode completely",
            Self::RestartableSequence { .. } => "it belongs to a restartable sequence",
            Self::Transaction { .. } => "a breakpoint would abort transactions",
            Self::OutsideCode
            | Self::OtherCode { .. }
            | Self::Undecodable
            | Self::UnknownFunction
            | Self::NoRoom
            | Self::NoPun
            | Self::Mappings
            | Self::NoStubs
            | Self::Overlap => return Cow::Owned(self.to_string()),
        };
        Cow::Borrowed(fixed)
    }
}

/// A site that cannot be probed.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{address} ({}): {reason}", hex(.bytes))]
pub struct Refusal {
    /// The site.
    pub address: Address,
    /// The bytes found there (up to 16).
    pub bytes: Vec<u8>,
    /// Why.
    pub reason: Reason,
}

/// A mechanism tried for a site and found not to fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// Why it does not fit.
    pub reason: Reason,
}

/// What is to be done for a set of sites of one module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Sorted by start, none changing what another one does; every accepted site is served by exactly one. One without
    /// a site makes room for the island of another.
    pub patches: Vec<Patch>,
    /// Sites no mechanism takes.
    pub refused: Vec<Refusal>,
    /// Sites that are served at another address, `(site, served at)`, sorted: a landing pad of indirect branches
    /// (`endbr64`) stays where it is, and the patch begins at the instruction behind it.
    pub moved: Vec<(Address, Address)>,
    /// For accepted sites whose first-choice mechanism did not fit: what was rejected and why.
    pub rejected: Vec<(Address, Rejected)>,
}

impl Plan {
    /// The patch that serves the instruction at `at`.
    #[must_use]
    pub fn serving(&self, at: Address) -> Option<&Patch> {
        self.patches.iter().find(|patch| patch.sites().any(|site| site == at))
    }

    /// The patch that makes room for the island of `patch`, if another one does.
    #[must_use]
    pub fn host_of(&self, patch: &Patch) -> Option<&Patch> {
        let island = patch.island.as_ref()?;
        let behind = self.patches.partition_point(|other| other.start < island.at);
        self.patches.get(behind.checked_sub(1)?).filter(|other| other.makes_room_for(island))
    }
}

/// Bytes as space-separated hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
