//! A written conversation, played back: the client must say exactly what stands there.

use std::collections::VecDeque;
use std::fmt::Write;
use std::io;
use std::time::{Duration, Instant};

use remote::packet::frame;
use remote::{Client, Stream};

/// A line of `> ` what the client says, or `< ` what the remote answers; other lines are remarks. Bytes beyond ASCII, and
/// backslashes, are written `\xNN`.
#[derive(Debug)]
pub(crate) struct Conversation {
    lines: VecDeque<(char, Vec<u8>)>,
    /// Bytes that wait for the client.
    answers: VecDeque<u8>,
    acknowledges: bool,
}

impl Conversation {
    pub(crate) fn new(text: &str) -> Self {
        let line = |line: &str| {
            let (side, content) = line.split_at_checked(2)?;
            let side = side.strip_suffix(' ').and_then(|side| side.chars().next())?;
            "<>".contains(side).then(|| (side, unescape(content)))
        };
        Self { lines: text.lines().filter_map(line).collect(), answers: VecDeque::new(), acknowledges: true }
    }

    /// What both have yet to say.
    pub(crate) fn left(&self) -> usize {
        self.lines.len()
    }

    fn heard(&mut self, packet: &[u8]) {
        let expected = self.lines.pop_front().expect("the conversation is over");
        let (side, content) = expected;
        assert_eq!(side, '>', "the client speaks out of turn: {}", show(packet));
        assert_eq!(show(packet), show(&framed(&content)));
        if self.acknowledges && packet != [3] {
            self.answers.push_back(b'+');
        }
        while self.lines.front().is_some_and(|(side, _)| *side == '<') {
            let (_, answer) = self.lines.pop_front().expect("just seen");
            self.answers.extend(frame(&answer));
        }
        if content == b"QStartNoAckMode" {
            self.acknowledges = false;
        }
    }
}

/// An interrupt goes without a frame.
fn framed(content: &[u8]) -> Vec<u8> {
    if content == [3] { content.to_vec() } else { frame(content) }
}

impl Stream for &mut Conversation {
    fn receive(&mut self, into: &mut [u8], _deadline: Instant) -> io::Result<usize> {
        if self.answers.is_empty() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // In small pieces, as a line may give them.
        let len = into.len().min(self.answers.len()).min(7);
        for (place, byte) in into.iter_mut().zip(self.answers.drain(..len)) {
            *place = byte;
        }
        Ok(len)
    }

    fn send(&mut self, bytes: &[u8], _deadline: Instant) -> io::Result<()> {
        if bytes == b"+" {
            return Ok(());
        }
        assert_ne!(bytes, b"-", "nothing here is damaged");
        self.heard(bytes);
        Ok(())
    }
}

/// Plays a conversation to its end.
pub(crate) fn play(text: &str, client: impl FnOnce(&mut Client<&mut Conversation>)) {
    let mut conversation = Conversation::new(text);
    let patience = Duration::from_secs(60);
    client(&mut Client::connect(&mut conversation, patience).expect("it begins well"));
    assert_eq!(conversation.left(), 0, "not all was said: {conversation:?}");
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend(before.as_bytes());
        let (digits, behind) = after.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
        rest = behind;
    }
    bytes.extend(rest.as_bytes());
    bytes
}

fn show(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = match byte {
            b' '..=b'[' | b']'..=b'~' => write!(text, "{}", char::from(*byte)),
            _ => write!(text, "\\x{byte:02x}"),
        };
        text
    })
}
