//! Which registers a remote has: `target.xml` (GDB manual, appendix "Target Descriptions"), and where they belong in the
//! kernel's `NT_PRSTATUS` set.

use insn::isa::{Isa, Order, RegisterSlot};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use thiserror::Error;

use crate::error::RemoteError;

/// Documents that one description may consist of.
const MOST_DOCUMENTS: usize = 64;
/// How deep they may include one another.
const DEEPEST: usize = 8;
/// Registers of one description: riscv has 4096 control registers alone.
const MOST_REGISTERS: usize = 1 << 15;
/// Bits of one register: SME's largest matrix has 2^19.
const WIDEST: u32 = 1 << 20;

/// A description that is of no use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// The remote has none.
    #[error(
        "the remote describes no target (qXfer:features:read): its registers are not known; use a newer stub, or one built with \
         target descriptions"
    )]
    None,
    /// It is no XML, or not of this kind.
    #[error("the remote's target description {document} is wrong: {why}")]
    Wrong {
        /// The document, by the remote's name for it.
        document: String,
        /// What is wrong.
        why: String,
    },
    /// Not a machine that xol knows.
    #[error("the remote's architecture `{architecture}` is not supported: {known} are", known = known())]
    Architecture {
        /// As the remote names it.
        architecture: String,
    },
    /// The architecture comes in two orders of bytes.
    #[error("the remote does not say in which order it has the bytes of a word (it has no auxiliary vector)")]
    Order,
    /// A register that an ABI cannot do without.
    #[error("the remote's target description or its registers lack `{register}` of {isa}")]
    Register {
        /// Its name.
        register: &'static str,
        /// The ISA's name.
        isa: &'static str,
    },
}

fn known() -> String {
    let mut names: Vec<&str> = MACHINES.iter().map(|machine| machine.architecture).collect();
    names.dedup();
    names.join(", ")
}

/// A register as the remote describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Its name.
    pub name: String,
    /// Its number in the packets `p`, `P` and `T`; the packets `g` and `G` have them in this order.
    pub number: u32,
    /// Its width.
    pub bits: u32,
    /// The feature it belongs to ("org.gnu.gdb.aarch64.core").
    pub feature: String,
}

impl Register {
    /// Bytes that it takes in packets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bits.div_ceil(8) as usize
    }

    /// Never: a description with such a register is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bits == 0
    }
}

/// A target description, its includes included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The architecture by BFD's name for it.
    pub architecture: Option<String>,
    /// The operating system's ABI ("GNU/Linux").
    pub os_abi: Option<String>,
    /// The registers, by number.
    pub registers: Vec<Register>,
}

/// What tells an ISA: BFD's name, or the feature that holds the core registers and the width of one of them.
struct Machine {
    architecture: &'static str,
    feature: &'static str,
    register: (&'static str, u32),
    isa: Isa,
}

const fn machine(
    architecture: &'static str,
    feature: &'static str,
    register: (&'static str, u32),
    isa: Isa,
) -> Machine {
    Machine { architecture, feature, register, isa }
}

const MACHINES: &[Machine] = &[
    machine("i386:x86-64", "org.gnu.gdb.i386.core", ("rip", 64), Isa::X86_64),
    machine("i386", "org.gnu.gdb.i386.core", ("eip", 32), Isa::I386),
    machine("aarch64", "org.gnu.gdb.aarch64.core", ("pc", 64), Isa::Arm64),
    machine("arm", "org.gnu.gdb.arm.core", ("pc", 32), Isa::Arm),
    machine("powerpc:common", "org.gnu.gdb.power.core", ("pc", 32), Isa::PowerPc),
    machine("powerpc:common64", "org.gnu.gdb.power.core", ("pc", 64), Isa::PowerPc64),
    machine("powerpc:common64", "org.gnu.gdb.power.core", ("pc", 64), Isa::PowerPc64Le),
    machine("riscv:rv32", "org.gnu.gdb.riscv.cpu", ("pc", 32), Isa::RiscV32),
    machine("riscv:rv64", "org.gnu.gdb.riscv.cpu", ("pc", 64), Isa::RiscV64),
    machine("mips", "org.gnu.gdb.mips.cpu", ("pc", 32), Isa::Mips),
    machine("mips", "org.gnu.gdb.mips.cpu", ("pc", 32), Isa::MipsLe),
    machine("mips", "org.gnu.gdb.mips.cpu", ("pc", 64), Isa::Mips64),
    machine("mips", "org.gnu.gdb.mips.cpu", ("pc", 64), Isa::Mips64Le),
    machine("sparc", "org.gnu.gdb.sparc.cpu", ("sp", 32), Isa::Sparc),
    machine("sparc:v9", "org.gnu.gdb.sparc.cpu", ("sp", 64), Isa::Sparc64),
    machine("s390:64-bit", "org.gnu.gdb.s390.core", ("pswa", 64), Isa::S390x),
];

impl Description {
    /// Reads `target.xml` and what it includes; `fetch` gives a document by its name.
    ///
    /// # Errors
    /// [`RemoteError::Description`], and what `fetch` fails with.
    pub fn read(fetch: &mut dyn FnMut(&str) -> Result<Vec<u8>, RemoteError>) -> Result<Self, RemoteError> {
        let mut parser =
            Parser { fetch, made: Self::default(), documents: 0, next: 0, feature: String::new() };
        parser.document("target.xml", 0)?;
        let mut made = parser.made;
        made.registers.sort_by_key(|register| register.number);
        let twice = made.registers.array_windows().find(|[one, next]| one.number == next.number);
        if let Some([one, next]) = twice {
            let why = format!("{} and {} have the same number {}", one.name, next.name, one.number);
            return Err(DescriptionError::Wrong { document: "target.xml".to_owned(), why }.into());
        }
        Ok(made)
    }

    /// The register of this name.
    #[must_use]
    pub fn register(&self, name: &str) -> Option<&Register> {
        self.registers.iter().find(|register| register.name == name)
    }

    /// The ISAs that it may be, which differ in the order of bytes only: by its architecture, which may come in two widths (mips),
    /// or where it names none by its registers.
    #[must_use]
    pub fn isas(&self) -> Vec<Isa> {
        let fits = |machine: &&Machine| match &self.architecture {
            Some(architecture) => {
                let (name, bits) = machine.register;
                architecture == machine.architecture
                    && self.register(name).is_none_or(|register| register.bits == bits)
            }
            None => self.registers.iter().any(|register| {
                register.feature == machine.feature
                    && (register.name.as_str(), register.bits) == machine.register
            }),
        };
        MACHINES.iter().filter(fits).map(|machine| machine.isa).collect()
    }

    /// The ISA of the remote's program. The order of bytes, which no description tells, is needed where the architecture comes in
    /// both ([`order`] finds it in the auxiliary vector), and is checked where it is given.
    ///
    /// # Errors
    /// [`DescriptionError::Architecture`], [`DescriptionError::Order`].
    pub fn isa(&self, order: Option<Order>) -> Result<Isa, DescriptionError> {
        let architecture = || self.architecture.clone().unwrap_or_else(|| "(not named)".to_owned());
        let candidates = self.isas();
        match (candidates.as_slice(), order) {
            ([], _) => Err(DescriptionError::Architecture { architecture: architecture() }),
            ([isa], None) => Ok(*isa),
            (_, None) => Err(DescriptionError::Order),
            (_, Some(order)) => {
                let found = candidates.iter().find(|isa| isa.abi().order == order);
                let other = || format!("{} with bytes in {order:?} order", architecture());
                found.copied().ok_or_else(|| DescriptionError::Architecture { architecture: other() })
            }
        }
    }

    /// Where the ISA's registers are in `g` replies.
    ///
    /// # Errors
    /// [`DescriptionError::Register`] where one is missing that every program needs.
    pub fn layout(&self, isa: Isa) -> Result<Layout, DescriptionError> {
        Layout::new(self, isa)
    }
}

/// A register's place in `g` replies and in the `NT_PRSTATUS` set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    number: u32,
    offset: usize,
    len: usize,
    name: &'static str,
    slot: RegisterSlot,
}

/// Makes an `NT_PRSTATUS` set of a `g` reply, and brings one's changes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    isa: Isa,
    places: Vec<Place>,
    /// Whether the remote describes its registers.
    is_described: bool,
}

impl Layout {
    fn new(description: &Description, isa: Isa) -> Result<Self, DescriptionError> {
        let mut places = Vec::new();
        let mut offset = 0_usize;
        for register in &description.registers {
            let known = isa.abi().registers.iter().find(|(name, _)| *name == register.name);
            // A register that is wider than the ABI's is another one of the same name.
            if let Some((name, slot)) = known.filter(|_| register.len() <= isa.abi().word) {
                let (number, len) = (register.number, register.len());
                places.push(Place { number, offset, len, name, slot: *slot });
            }
            offset = offset.saturating_add(register.len());
        }
        let layout = Self { isa, places, is_described: true };
        match layout.needed().find(|slot| !layout.has(*slot)) {
            None => Ok(layout),
            Some(slot) => Err(layout.lacks(slot)),
        }
    }

    /// The same of a remote that describes none.
    pub(crate) fn assumed(self) -> Self {
        Self { is_described: false, ..self }
    }

    /// What a packet of all registers is to hold: where none are described, up to the last of the set only. The others may be wider
    /// than what the remote gives of them, and would lose the rest. (qemu 7.2 has 32 bits of each of mips's registers of floating point
    /// under o32, also where they have 64; it takes a packet that is shorter, and no single registers.)
    pub(crate) fn whole<'a>(&self, registers: &'a RegisterFile) -> &'a [u8] {
        let bytes = registers.bytes();
        let end = self.places.iter().map(|place| place.offset + place.len).max();
        end.filter(|_| !self.is_described).and_then(|end| bytes.get(..end)).unwrap_or(bytes)
    }

    /// What a tracer cannot do without.
    fn needed(&self) -> impl Iterator<Item = RegisterSlot> + use<> {
        let abi = self.isa.abi();
        let call = &abi.syscall;
        [abi.pc, abi.sp, call.number, call.result]
            .into_iter()
            .chain(call.arguments.iter().copied())
            .chain(abi.flags)
            .chain(abi.next_pc)
    }

    fn lacks(&self, slot: RegisterSlot) -> DescriptionError {
        let abi = self.isa.abi();
        let name =
            abi.registers.iter().find(|(_, known)| *known == slot).map_or("a register", |(name, _)| name);
        DescriptionError::Register { register: name, isa: abi.name }
    }

    /// The ISA whose set it makes.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Whether the remote has this register: where not, its value in the set means nothing.
    #[must_use]
    pub fn has(&self, slot: RegisterSlot) -> bool {
        self.places.iter().any(|place| place.slot == slot)
    }

    /// The `NT_PRSTATUS` set. What the remote does not tell is 0, and the number of the system call that a thread is in, "none".
    ///
    /// # Errors
    /// [`DescriptionError::Register`] where the remote does not tell one that every program needs.
    pub fn prstatus(&self, registers: &RegisterFile) -> Result<Vec<u8>, DescriptionError> {
        let abi = self.isa.abi();
        let mut set = vec![0; abi.regset_len];
        if let Some(slot) = abi.syscall.original_number {
            abi.set(&mut set, slot, self.isa.no_call());
        }
        for place in &self.places {
            match registers.get(place.offset, place.len) {
                Some(bytes) => abi.set(&mut set, place.slot, abi.order.number(bytes)),
                None if self.needed().any(|slot| slot == place.slot) => return Err(self.lacks(place.slot)),
                None => {}
            }
        }
        Ok(set)
    }

    /// Brings what differs in an `NT_PRSTATUS` set into `registers`, every other register untouched; the changed registers by
    /// number, with their new bytes.
    pub fn update(&self, registers: &mut RegisterFile, set: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let abi = self.isa.abi();
        let mut changed = Vec::new();
        for place in &self.places {
            let Some(old) = registers.get(place.offset, place.len) else { continue };
            let mut new = vec![0; place.len];
            abi.order.write(abi.get(set, place.slot), &mut new);
            if new != old {
                registers.set(place.offset, &new);
                changed.push((place.number, new));
            }
        }
        changed
    }
}

/// The bytes of a `g` reply, some of which the remote may not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegisterFile {
    bytes: Vec<u8>,
    /// Whether the byte of that index is known.
    known: Vec<bool>,
}

impl RegisterFile {
    /// Reads a `g` reply: two digits a byte, or `xx`; `None` where it is none.
    #[must_use]
    pub fn parse(reply: &[u8]) -> Option<Self> {
        let (pairs, rest) = reply.as_chunks::<2>();
        if pairs.is_empty() || !rest.is_empty() {
            return None;
        }
        let mut file = Self::default();
        for digits in pairs {
            let unknown = digits == b"xx";
            file.bytes.push(if unknown { 0 } else { crate::packet::pair(digits)? });
            file.known.push(!unknown);
        }
        Some(file)
    }

    /// All bytes, the unknown ones 0.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether every byte is known.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.known.iter().all(|known| *known)
    }

    /// The bytes of one register; `None` where they are not all there and known.
    #[must_use]
    pub fn get(&self, offset: usize, len: usize) -> Option<&[u8]> {
        let range = offset..offset.checked_add(len)?;
        let known = self.known.get(range.clone())?.iter().all(|known| *known);
        self.bytes.get(range).filter(|_| known)
    }

    fn set(&mut self, offset: usize, new: &[u8]) {
        let place = offset.checked_add(new.len()).and_then(|end| self.bytes.get_mut(offset..end));
        if let Some(bytes) = place {
            bytes.copy_from_slice(new);
        }
    }
}

/// The order of bytes that an auxiliary vector of words of `word` bytes is written in; `None` where it makes sense in none or
/// in both.
#[must_use]
pub fn order(auxv: &[u8], word: usize) -> Option<Order> {
    // linux/auxvec.h: AT_PAGESZ, and more than the highest kind of entry that any architecture has.
    const PAGE_SIZE: u64 = 6;
    const HIGHEST: u64 = 256;
    let makes_sense = |order: &Order| {
        let words: Vec<u64> = auxv.chunks_exact(word.max(1)).map(|word| order.number(word)).collect();
        let entries = words.as_chunks::<2>().0;
        let entries = entries.split(|entry| entry[0] == 0).next().unwrap_or_default();
        let page = entries.iter().find(|entry| entry[0] == PAGE_SIZE);
        entries.iter().all(|entry| entry[0] <= HIGHEST)
            && page.is_some_and(|entry| entry[1].is_power_of_two() && entry[1] >= 1 << 10)
    };
    match [Order::Little, Order::Big].map(|order| Some(order).filter(makes_sense)) {
        [Some(order), None] | [None, Some(order)] => Some(order),
        _ => None,
    }
}

/// Reads documents into a description.
struct Parser<'a> {
    fetch: &'a mut dyn FnMut(&str) -> Result<Vec<u8>, RemoteError>,
    made: Description,
    documents: usize,
    /// The number of the next register, where it has none of its own.
    next: u32,
    feature: String,
}

impl Parser<'_> {
    fn document(&mut self, name: &str, depth: usize) -> Result<(), RemoteError> {
        let wrong = |why: &str| DescriptionError::Wrong { document: name.to_owned(), why: why.to_owned() };
        self.documents += 1;
        if self.documents > MOST_DOCUMENTS || depth > DEEPEST {
            return Err(wrong("it includes too many others").into());
        }
        let bytes = (self.fetch)(name)?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is no UTF-8"))?;
        let mut reader = Reader::from_str(&text);
        let mut text_of = None;
        loop {
            let event = reader.read_event().map_err(|error| wrong(&error.to_string()))?;
            match event {
                Event::Eof => return Ok(()),
                Event::Start(tag) => {
                    text_of = Some(tag.name().as_ref().to_owned());
                    self.tag(&tag, name, depth)?;
                }
                Event::Empty(tag) => self.tag(&tag, name, depth)?,
                Event::End(_) => text_of = None,
                Event::Text(text) => {
                    let text = text.trim().to_owned();
                    self.text(text_of.as_deref(), text);
                }
                _ => {}
            }
        }
    }

    fn text(&mut self, of: Option<&str>, text: String) {
        match of {
            Some("architecture") if !text.is_empty() => self.made.architecture = Some(text),
            Some("osabi") if !text.is_empty() => self.made.os_abi = Some(text),
            _ => {}
        }
    }

    fn tag(&mut self, tag: &BytesStart<'_>, document: &str, depth: usize) -> Result<(), RemoteError> {
        let attribute = |name: &str| attribute(tag, name);
        match tag.name().as_ref() {
            "feature" => self.feature = attribute("name").unwrap_or_default(),
            "reg" => {
                let made = self.register(&attribute);
                made.map_err(|why| DescriptionError::Wrong { document: document.to_owned(), why })?;
            }
            "xi:include" => {
                let name = attribute("href").unwrap_or_default();
                self.document(&name, depth + 1)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn register(&mut self, attribute: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
        let name = attribute("name").ok_or("a register without a name")?;
        let bits = attribute("bitsize").and_then(|bits| bits.parse().ok());
        let bits = bits.filter(|bits| (1..=WIDEST).contains(bits));
        let bits = bits.ok_or_else(|| format!("register {name} has no width that makes sense"))?;
        let number = match attribute("regnum") {
            None => self.next,
            Some(text) => text.parse().map_err(|_| format!("register {name} has the number `{text}`"))?,
        };
        self.next = number.checked_add(1).ok_or_else(|| format!("register {name} has too high a number"))?;
        if self.made.registers.len() >= MOST_REGISTERS {
            return Err("too many registers".to_owned());
        }
        self.made.registers.push(Register { name, number, bits, feature: self.feature.clone() });
        Ok(())
    }
}

/// An attribute's value as text; what is escaped wrongly is not there.
pub(crate) fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = tag.try_get_attribute(name).ok()??;
    quick_xml::escape::unescape(&attribute.value).ok().map(std::borrow::Cow::into_owned)
}
