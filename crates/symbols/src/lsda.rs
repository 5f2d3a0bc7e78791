//! Landing pads: where an exception enters a function in the middle (`.gcc_except_table`).
//!
//! Layout as in the Itanium C++ ABI's exception-handling tables: a header of encodings, then call sites of
//! (start, length, landing pad, action). Landing pads are relative to the header's base, else to the function.

use crate::address::FileAddress;
use crate::elf::Image;
use crate::frames::Frame;
use crate::headers::Class;
use crate::reader::Reader;

/// `DW_EH_PE_omit`.
const OMIT: u8 = 0xff;
/// `DW_EH_PE_pcrel`: the application part of an encoding.
const PC_RELATIVE: u8 = 0x10;

/// Appends the landing pads of one frame; stops at whatever cannot be read. Returns the bytes it looked at.
pub(crate) fn landing_pads(image: &Image<'_>, frame: &Frame, found: &mut Vec<FileAddress>) -> usize {
    let Some((at, bytes)) = frame.lsda.and_then(|at| Some((at, image.tail(at)?))) else { return 0 };
    let mut reader = Reader::new(bytes);
    read(image.class(), &mut reader, at, frame.range.start, found);
    reader.position()
}

fn read(
    class: Class,
    reader: &mut Reader<'_>,
    at: FileAddress,
    function: FileAddress,
    found: &mut Vec<FileAddress>,
) -> Option<()> {
    let base = match reader.u8()? {
        OMIT => function,
        encoding => FileAddress(encoded(class, reader, at, encoding)?),
    };
    if reader.u8()? != OMIT {
        reader.uleb128()?; // where the types are: not asked
    }
    let encoding = reader.u8()?;
    let len = usize::try_from(reader.uleb128()?).ok()?;
    let end = reader.position().checked_add(len)?;
    while reader.position() < end {
        let _start = encoded(class, reader, at, encoding)?;
        let _length = encoded(class, reader, at, encoding)?;
        let pad = encoded(class, reader, at, encoding)?;
        let _action = reader.uleb128()?;
        if pad != 0 {
            found.push(base + pad);
        }
    }
    Some(())
}

/// A pointer in one of the encodings of DWARF's exception headers; indirect ones are given up.
fn encoded(class: Class, reader: &mut Reader<'_>, table: FileAddress, encoding: u8) -> Option<u64> {
    let here = table + reader.position() as u64;
    let signed = |value: i64| value.cast_unsigned();
    let value = match encoding & 0x0f {
        0x00 => reader.word(class.word())?,
        0x04 | 0x0c => reader.u64()?,
        0x01 => reader.uleb128()?,
        0x02 => u64::from(reader.u16()?),
        0x03 => u64::from(reader.u32()?),
        0x09 => reader.sleb128()?,
        0x0a => signed(i64::from(reader.u16()?.cast_signed())),
        0x0b => signed(i64::from(reader.u32()?.cast_signed())),
        _ => return None,
    };
    match encoding & 0xf0 {
        0 => Some(value),
        PC_RELATIVE => Some(here.0.wrapping_add(value)),
        _ => None,
    }
}
