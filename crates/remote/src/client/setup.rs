//! The first words: what each side can do.

use std::time::Duration;

use super::Client;
use crate::connection::{Connection, LONGEST_REPLY};
use crate::error::RemoteError;
use crate::link::Stream;
use crate::packet::hex;
use crate::stop::{Stop, number, split};

/// What we say of ourselves. Without `xmlRegisters=i386` gdbserver describes a smaller x86; without the events of processes it
/// lets children run with our breakpoints in their memory.
const OURS: &str = "qSupported:multiprocess+;xmlRegisters=i386;swbreak+;hwbreak+;vContSupported+;fork-events+;vfork-events+;\
                    exec-events+;error-message+";
/// The packet size of a remote that announces none (what gdb assumes).
const SMALLEST: usize = 400;
/// The longest packets that we make use of.
const LARGEST: usize = 1 << 16;

/// What a remote announced (GDB manual, "General Query Packets", `qSupported`), or was found to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    /// The longest packet that it takes, in bytes.
    pub packet_size: usize,
    /// Threads are named with their process, and several processes are possible.
    pub multiprocess: bool,
    /// A stop says when a breakpoint instruction caused it, and the PC is at that instruction then.
    pub breakpoint_stops: bool,
    /// The making of processes is reported.
    pub fork_events: bool,
    /// The same of `vfork`.
    pub vfork_events: bool,
    /// Executions are reported.
    pub exec_events: bool,
    /// Signals can be handed to the program without a stop (`QPassSignals`).
    pub pass_signals: bool,
    /// Memory is read in binary (`x`).
    pub binary_reads: bool,
    /// Objects that can be read by `qXfer` ("features", "auxv", "libraries-svr4", "exec-file", "threads", "memory-map").
    pub objects: Vec<String>,
    /// Threads go on one by one by `vCont` with these actions (`c`, `C`, `s`, `S`, `t`, `r`); empty where there is no `vCont`.
    pub actions: Vec<char>,
    /// Processes can be attached to and started (`!`).
    pub extended: bool,
    /// Packets go without acknowledgements.
    pub unacknowledged: bool,
}

impl Features {
    /// Whether this object can be read.
    #[must_use]
    pub fn has_object(&self, object: &str) -> bool {
        self.objects.iter().any(|known| known == object)
    }

    /// Whether a thread can be stepped by the remote: without `vCont` nobody can tell before trying.
    #[must_use]
    pub fn steps(&self) -> bool {
        self.actions.is_empty() || self.actions.contains(&'s')
    }

    /// Reads the answer to `qSupported`; names that are not known are let be.
    #[must_use]
    pub fn parse(reply: &[u8]) -> Self {
        let mut made = Self {
            packet_size: SMALLEST,
            multiprocess: false,
            breakpoint_stops: false,
            fork_events: false,
            vfork_events: false,
            exec_events: false,
            pass_signals: false,
            binary_reads: false,
            objects: Vec::new(),
            actions: Vec::new(),
            extended: false,
            unacknowledged: false,
        };
        for word in reply.split(|byte| *byte == b';') {
            made.take(&String::from_utf8_lossy(word));
        }
        made
    }

    fn take(&mut self, word: &str) {
        if let Some(size) = word.strip_prefix("PacketSize=") {
            let size = number(size.as_bytes()).and_then(|size| usize::try_from(size).ok());
            self.packet_size = size.unwrap_or(SMALLEST).clamp(SMALLEST, LARGEST);
        }
        let Some(name) = word.strip_suffix('+') else { return };
        match name {
            "multiprocess" => self.multiprocess = true,
            "swbreak" => self.breakpoint_stops = true,
            "fork-events" => self.fork_events = true,
            "vfork-events" => self.vfork_events = true,
            "exec-events" => self.exec_events = true,
            "QPassSignals" => self.pass_signals = true,
            "binary-upload" => self.binary_reads = true,
            _ => {
                let object = name.strip_prefix("qXfer:").and_then(|name| name.strip_suffix(":read"));
                self.objects.extend(object.map(str::to_owned));
            }
        }
    }
}

impl<S: Stream> Client<S> {
    /// Begins a conversation; each answer may take `patience`. The target, if there is one, stands still: [`Self::halted`] says
    /// where.
    ///
    /// # Errors
    /// A fatal one, or [`RemoteError::Unexpected`].
    pub fn connect(stream: S, patience: Duration) -> Result<Self, RemoteError> {
        let mut client = Self {
            connection: Connection::new(stream, patience),
            features: Features::parse(b""),
            is_running: false,
            has_process: false,
            selected: None,
            takes_binary: None,
            takes_single_registers: None,
            output: Vec::new(),
        };
        let announced = client.request(OURS.as_bytes())?;
        client.features = Features::parse(&announced);
        if has_word(&announced, b"QStartNoAckMode+") && client.request(b"QStartNoAckMode")? == b"OK" {
            client.connection.stop_acknowledging();
            client.features.unacknowledged = true;
        }
        client.features.extended = client.request(b"!")? == b"OK";
        let actions = client.request(b"vCont?")?;
        client.features.actions = parse_actions(&actions);
        Ok(client)
    }

    /// Why the target stands still (`?`); [`Stop::Exited`] or `NoneLeft` where there is no process yet.
    ///
    /// # Errors
    /// What the remote says.
    pub fn halted(&mut self) -> Result<Stop, RemoteError> {
        let reply = self.ask(b"?", "say why it stands still")?;
        let stop = Stop::parse(&reply).ok_or_else(|| self.unexpected(&reply, "a stop reply"))?;
        self.has_process = matches!(stop, Stop::Stopped { .. });
        Ok(stop)
    }

    /// Offers symbols: the remote asks for names until it has what it needs (`qSymbol`; gdbserver for libthread_db).
    ///
    /// # Errors
    /// What the remote says.
    pub fn offer_symbols(
        &mut self,
        mut address_of: impl FnMut(&str) -> Option<insn::Address>,
    ) -> Result<(), RemoteError> {
        const MOST: usize = 1000;
        let mut packet = "qSymbol::".to_owned();
        for _ in 0..MOST {
            let reply = self.request(packet.as_bytes())?;
            let Some(name) = reply.strip_prefix(b"qSymbol:") else {
                // A remote that wants none says so by the empty reply.
                return if matches!(reply.as_slice(), b"OK" | b"") {
                    Ok(())
                } else {
                    Err(self.unexpected(&reply, "OK or the name of a symbol"))
                };
            };
            let name =
                crate::packet::unhex(name).ok_or_else(|| self.unexpected(&reply, "a name in digits"))?;
            let address = address_of(&String::from_utf8_lossy(&name)).map(|at| format!("{:x}", at.0));
            packet = format!("qSymbol:{}:{}", address.unwrap_or_default(), hex(&name));
        }
        Err(RemoteError::TooLong { sent: self.sent(), limit: LONGEST_REPLY })
    }
}

fn has_word(list: &[u8], word: &[u8]) -> bool {
    list.split(|byte| *byte == b';').any(|known| known == word)
}

/// `vCont;c;C;s;S`.
fn parse_actions(reply: &[u8]) -> Vec<char> {
    let Some((b"vCont", actions)) = split(reply, b';') else { return Vec::new() };
    let single = |action: &[u8]| matches!(action, [letter] if letter.is_ascii_alphabetic());
    actions
        .split(|byte| *byte == b';')
        .filter(|action| single(action))
        .map(|action| char::from(action[0]))
        .collect()
}
