//! Packets: framing, checksums, run lengths, escapes (GDB manual, appendix "Remote Serial Protocol", "Overview").
//!
//! `$` data `#` and two hexadecimal digits: the sum of the data's bytes modulo 256. A reply may hold runs, `x*N` for a byte that
//! is repeated; what they stand for may hold escapes, where the packet's own definition says that it is binary ([`unescape`]).

/// What is escaped in a binary packet that we send. (A reply also escapes `*`, which would begin a run.)
const SPECIAL: [u8; 3] = [b'$', b'#', b'}'];
const ESCAPE: u8 = b'}';
const FLIP: u8 = 0x20;
/// `N - 29` repetitions follow the byte before a run's `*`.
const RUN: u8 = 29;

/// A packet with this content, ready to be sent. Its escapes, if it is binary, are in the content ([`escape`]).
#[must_use]
pub fn frame(content: &[u8]) -> Vec<u8> {
    let sum = content.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
    [b"$", content, format!("#{sum:02x}").as_bytes()].concat()
}

/// Binary data as it stands in a packet of ours.
#[must_use]
pub fn escape(data: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(data.len());
    for byte in data {
        if SPECIAL.contains(byte) {
            escaped.extend([ESCAPE, byte ^ FLIP]);
        } else {
            escaped.push(*byte);
        }
    }
    escaped
}

/// The data of a binary reply; `None` where it ends within an escape.
#[must_use]
pub fn unescape(escaped: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        data.push(if *byte == ESCAPE { bytes.next()? ^ FLIP } else { *byte });
    }
    Some(data)
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes that hexadecimal digits stand for; `None` where there is anything else, or half a byte.
#[must_use]
pub fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(pair).collect())?
}

/// One byte from its two digits.
pub(crate) fn pair(digits: &[u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()
}

/// Something whole that came over the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// `+`: our packet arrived.
    Ack,
    /// `-`: our packet arrived damaged.
    Nack,
    /// A packet's content, runs expanded.
    Packet(Vec<u8>),
    /// A notification's content (`%` in place of `$`), which nobody acknowledges.
    Notification(Vec<u8>),
    /// A packet with a wrong checksum or an impossible run.
    Damaged,
}

/// More than the limit came: no item of an honest remote is as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Makes items of bytes, in pieces of any size.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    content: Vec<u8>,
    sum: u8,
    is_notification: bool,
    is_damaged: bool,
    /// Bytes since the last item that belong to none.
    noise: usize,
    limit: usize,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug)]
enum State {
    Between,
    Content,
    /// Behind a `*`.
    Run,
    Checksum,
    /// The checksum's second digit, behind this one.
    ChecksumEnd(u8),
}

impl Decoder {
    /// A decoder that holds at most `limit` bytes of a packet, runs expanded, and as many of noise between two.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            state: State::Between,
            content: Vec::new(),
            sum: 0,
            is_notification: false,
            is_damaged: false,
            noise: 0,
            limit,
        }
    }

    /// Takes one byte; gives what it completes.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn push(&mut self, byte: u8) -> Result<Option<Item>, TooLong> {
        match self.state {
            State::Between => return self.between(byte),
            State::Content => self.in_content(byte)?,
            State::Run => self.run(byte)?,
            State::Checksum => self.state = State::ChecksumEnd(byte),
            State::ChecksumEnd(first) => return Ok(Some(self.end([first, byte]))),
        }
        Ok(None)
    }

    fn between(&mut self, byte: u8) -> Result<Option<Item>, TooLong> {
        match byte {
            b'+' => Ok(Some(Item::Ack)),
            b'-' => Ok(Some(Item::Nack)),
            b'$' | b'%' => {
                self.begin(byte);
                Ok(None)
            }
            _ => {
                self.noise += 1;
                if self.noise > self.limit { Err(TooLong) } else { Ok(None) }
            }
        }
    }

    fn begin(&mut self, byte: u8) {
        self.state = State::Content;
        self.content.clear();
        self.sum = 0;
        self.is_notification = byte == b'%';
        self.is_damaged = false;
    }

    fn in_content(&mut self, byte: u8) -> Result<(), TooLong> {
        match byte {
            b'#' => {
                self.state = State::Checksum;
                return Ok(());
            }
            // The end of the one before was lost; what came of it is noise.
            b'$' => {
                self.noise += self.content.len() + 1;
                self.begin(byte);
                return if self.noise > self.limit { Err(TooLong) } else { Ok(()) };
            }
            b'*' => self.state = State::Run,
            _ => self.extend(byte, 1)?,
        }
        self.sum = self.sum.wrapping_add(byte);
        Ok(())
    }

    fn run(&mut self, byte: u8) -> Result<(), TooLong> {
        self.state = State::Content;
        self.sum = self.sum.wrapping_add(byte);
        match self.content.last().copied() {
            Some(last) if (b' '..=b'~').contains(&byte) => self.extend(last, usize::from(byte - RUN)),
            _ => {
                self.is_damaged = true;
                Ok(())
            }
        }
    }

    fn extend(&mut self, byte: u8, times: usize) -> Result<(), TooLong> {
        let len = self.content.len() + times;
        if len > self.limit {
            return Err(TooLong);
        }
        self.content.resize(len, byte);
        Ok(())
    }

    fn end(&mut self, digits: [u8; 2]) -> Item {
        self.state = State::Between;
        self.noise = 0;
        let content = std::mem::take(&mut self.content);
        match pair(&digits) {
            Some(sum) if sum == self.sum && !self.is_damaged => {
                if self.is_notification {
                    Item::Notification(content)
                } else {
                    Item::Packet(content)
                }
            }
            // Nobody asks for a notification again: one that is damaged is noise.
            _ if self.is_notification => Item::Notification(Vec::new()),
            _ => Item::Damaged,
        }
    }
}
