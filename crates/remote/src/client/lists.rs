//! Threads, libraries, memory: what the remote lists.

use std::time::Instant;

use insn::Address;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::Client;
use crate::connection::LONGEST_REPLY;
use crate::description::attribute;
use crate::error::RemoteError;
use crate::link::Stream;
use crate::stop::{ThreadId, number, split};

/// Threads of one remote.
const MOST_THREADS: usize = 1 << 16;

/// A library as the dynamic loader lists it (`struct link_map`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Its path, as the remote sees it.
    pub path: String,
    /// Address of its `link_map`.
    pub link_map: Address,
    /// What is to be added to its file's addresses.
    pub bias: u64,
    /// Address of its dynamic section.
    pub dynamic: Address,
}

/// A thread in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The thread.
    pub id: ThreadId,
    /// Its name, where the remote has one.
    pub name: Option<String>,
}

/// A region of the target's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// "ram", "rom" or "flash".
    pub kind: String,
    /// Where it begins.
    pub start: Address,
    /// How many bytes it has.
    pub len: u64,
}

/// What is to be added to the executable's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offsets {
    /// To those of its sections.
    Sections {
        /// Of `.text`.
        text: u64,
        /// Of `.data`.
        data: u64,
    },
    /// The addresses of its segments.
    Segments {
        /// Of the first.
        text: Address,
        /// Of the second, where it moved.
        data: Option<Address>,
    },
}

impl<S: Stream> Client<S> {
    /// The threads that there are (`qfThreadInfo`).
    ///
    /// # Errors
    /// What the remote says.
    pub fn threads(&mut self) -> Result<Vec<ThreadId>, RemoteError> {
        let mut threads = Vec::new();
        let began = Instant::now();
        let mut reply = self.ask(b"qfThreadInfo", "list threads")?;
        while let Some(list) = reply.strip_prefix(b"m") {
            for id in list.split(|byte| *byte == b',') {
                threads
                    .push(ThreadId::parse(id).ok_or_else(|| self.unexpected(&reply, "a list of threads"))?);
            }
            if threads.len() > MOST_THREADS {
                return Err(RemoteError::TooLong { sent: self.sent(), limit: MOST_THREADS });
            }
            self.check_time(began)?;
            reply = self.ask(b"qsThreadInfo", "list threads")?;
        }
        if reply == b"l" { Ok(threads) } else { Err(self.unexpected(&reply, "a list of threads")) }
    }

    /// The threads with their names (`qXfer:threads:read`).
    ///
    /// # Errors
    /// As [`Client::transfer`].
    pub fn named_threads(&mut self) -> Result<Vec<Listed>, RemoteError> {
        self.list("threads", "thread", |tag| {
            let id = ThreadId::parse(attribute(tag, "id")?.as_bytes())?;
            Some(Listed { id, name: attribute(tag, "name") })
        })
    }

    /// The current thread (`qC`); `None` where the remote does not know.
    ///
    /// # Errors
    /// A fatal one.
    pub fn current_thread(&mut self) -> Result<Option<ThreadId>, RemoteError> {
        let reply = self.request(b"qC")?;
        Ok(reply.strip_prefix(b"QC").and_then(ThreadId::parse))
    }

    /// Whether a thread is alive (`T`).
    ///
    /// # Errors
    /// A fatal one.
    pub fn is_alive(&mut self, thread: ThreadId) -> Result<bool, RemoteError> {
        Ok(self.request(format!("T{thread}").as_bytes())? == b"OK")
    }

    /// The libraries of the current process, those that the loader knows (`qXfer:libraries-svr4:read`).
    ///
    /// # Errors
    /// As [`Client::transfer`].
    pub fn libraries(&mut self) -> Result<Vec<Library>, RemoteError> {
        self.list("libraries-svr4", "library", |tag| {
            let at = |name| attribute(tag, name).and_then(|text| prefixed(&text));
            Some(Library {
                path: attribute(tag, "name")?,
                link_map: Address(at("lm")?),
                bias: at("l_addr")?,
                dynamic: Address(at("l_ld")?),
            })
        })
    }

    /// The target's memory (`qXfer:memory-map:read`): stubs of hardware have it, those of programs rarely.
    ///
    /// # Errors
    /// As [`Client::transfer`].
    pub fn memory_map(&mut self) -> Result<Vec<Region>, RemoteError> {
        self.list("memory-map", "memory", |tag| {
            Some(Region {
                kind: attribute(tag, "type")?,
                start: Address(prefixed(&attribute(tag, "start")?)?),
                len: prefixed(&attribute(tag, "length")?)?,
            })
        })
    }

    /// How the executable was moved (`qOffsets`); `None` where the remote does not say.
    ///
    /// # Errors
    /// What the remote says.
    pub fn offsets(&mut self) -> Result<Option<Offsets>, RemoteError> {
        let reply = self.request(b"qOffsets")?;
        if reply.is_empty() {
            return Ok(None);
        }
        let offsets = offsets(&reply).ok_or_else(|| self.unexpected(&reply, "offsets"))?;
        Ok(Some(offsets))
    }

    /// The elements of one name in an object that is XML.
    fn list<T>(
        &mut self,
        object: &'static str,
        element: &str,
        make: impl Fn(&BytesStart<'_>) -> Option<T>,
    ) -> Result<Vec<T>, RemoteError> {
        if !self.features.has_object(object) {
            let sent = format!("qXfer:{object}:read");
            return Err(RemoteError::Unsupported { sent, what: "read this object" });
        }
        let text = String::from_utf8(self.transfer(object, "")?);
        let text = text.map_err(|error| self.unexpected(error.as_bytes(), "UTF-8"))?;
        let mut made = Vec::new();
        let mut reader = Reader::from_str(&text);
        loop {
            match reader.read_event() {
                Ok(Event::Start(tag) | Event::Empty(tag)) if tag.name().as_ref() == element => {
                    made.push(
                        make(&tag).ok_or_else(|| self.unexpected(tag.as_bytes(), "an element of a list"))?,
                    );
                }
                Ok(Event::Eof) => return Ok(made),
                Ok(_) => {}
                Err(error) => return Err(self.unexpected(error.to_string().as_bytes(), "XML")),
            }
            if made.len() > LONGEST_REPLY {
                return Err(RemoteError::TooLong { sent: self.sent(), limit: LONGEST_REPLY });
            }
        }
    }
}

/// A number with or without `0x`: hexadecimal with, decimal without.
fn prefixed(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => number(digits.as_bytes()),
        None => text.parse().ok(),
    }
}

/// `Text=XX;Data=XX[;Bss=XX]` or `TextSeg=XX[;DataSeg=XX]`.
fn offsets(reply: &[u8]) -> Option<Offsets> {
    let (mut text, mut data, mut is_segments) = (None, None, false);
    for field in reply.split(|byte| *byte == b';') {
        let (name, value) = split(field, b'=')?;
        match name {
            b"Text" => text = number(value),
            b"Data" => data = number(value),
            b"TextSeg" => (text, is_segments) = (number(value), true),
            b"DataSeg" => data = number(value),
            _ => {}
        }
    }
    if is_segments {
        return Some(Offsets::Segments { text: Address(text?), data: data.map(Address) });
    }
    Some(Offsets::Sections { text: text?, data: data? })
}
