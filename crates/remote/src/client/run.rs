//! Letting threads go on, waiting, and processes as a whole.

use std::time::Instant;

use super::Client;
use crate::error::RemoteError;
use crate::link::Stream;
use crate::packet::{hex, unhex};
use crate::stop::{Signal, Stop, ThreadId};

/// What of the target's output is kept, in bytes.
const KEPT_OUTPUT: usize = 1 << 20;

/// How a thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It runs.
    Continue,
    /// It gets this signal and runs.
    ContinueWith(Signal),
    /// It carries out one instruction.
    Step,
    /// It gets this signal, and stops behind the first instruction.
    StepWith(Signal),
}

impl Action {
    fn letter(self) -> char {
        match self {
            Self::Continue => 'c',
            Self::ContinueWith(_) => 'C',
            Self::Step => 's',
            Self::StepWith(_) => 'S',
        }
    }

    /// As in a packet.
    fn text(self) -> String {
        match self {
            Self::Continue | Self::Step => self.letter().to_string(),
            Self::ContinueWith(signal) | Self::StepWith(signal) => {
                format!("{}{:02x}", self.letter(), signal.0)
            }
        }
    }
}

impl<S: Stream> Client<S> {
    /// Lets threads go on: those named as they are named, the others, new ones included, as `others` says; without it they stand.
    /// [`Self::wait`] then tells of the next stop.
    ///
    /// A remote without `vCont` takes one thread at a time: then either all continue, or one does something and `others` continue.
    ///
    /// # Errors
    /// [`RemoteError::Unsupported`] where the remote cannot do that; else a fatal one.
    pub fn resume(
        &mut self,
        threads: &[(ThreadId, Action)],
        others: Option<Action>,
    ) -> Result<(), RemoteError> {
        let packet = if self.features.actions.is_empty() {
            self.without_vcont(threads, others)?
        } else {
            self.vcont(threads, others)?
        };
        if self.is_running {
            return Err(RemoteError::Running { wanted: packet });
        }
        self.connection.send(packet.as_bytes())?;
        self.is_running = true;
        self.selected = None;
        Ok(())
    }

    fn vcont(&self, threads: &[(ThreadId, Action)], others: Option<Action>) -> Result<String, RemoteError> {
        let mut packet = "vCont".to_owned();
        for (thread, action) in threads {
            packet.push_str(&format!(";{}:{thread}", action.text()));
        }
        packet.extend(others.map(|action| format!(";{}", action.text())));
        let mut actions = threads.iter().map(|(_, action)| *action).chain(others);
        if actions.all(|action| self.features.actions.contains(&action.letter())) {
            return Ok(packet);
        }
        Err(RemoteError::Unsupported { sent: packet, what: "let threads go on like that" })
    }

    fn without_vcont(
        &mut self,
        threads: &[(ThreadId, Action)],
        others: Option<Action>,
    ) -> Result<String, RemoteError> {
        let (chosen, action) = match (threads, others) {
            // Where threads are named with their process gdbserver (13.1) looks for a thread -1 of the first one, and does not
            // read `p-1.-1` here: any of any is what it takes for all.
            ([], Some(action)) if self.features.multiprocess => ("p0.0".to_owned(), action),
            ([], Some(action)) => ("-1".to_owned(), action),
            ([(thread, action)], None | Some(Action::Continue)) => (thread.to_string(), *action),
            _ => {
                let what = "let several threads go on one by one";
                return Err(RemoteError::Unsupported { sent: "vCont".to_owned(), what });
            }
        };
        // A remote with one thread may not know `H` at all.
        match self.ask(format!("Hc{chosen}").as_bytes(), "choose a thread") {
            Ok(_) | Err(RemoteError::Unsupported { .. }) => Ok(action.text()),
            Err(error) => Err(error),
        }
    }

    /// Waits for the target's next stop; `None` at the deadline, and it runs on. What it prints meanwhile is kept
    /// ([`Self::take_output`]).
    ///
    /// # Errors
    /// [`RemoteError::Stopped`] where it does not run; [`RemoteError::Unexpected`], [`RemoteError::Refused`], and it counts as
    /// stopped then; else a fatal one.
    pub fn wait(&mut self, deadline: Instant) -> Result<Option<Stop>, RemoteError> {
        if !self.is_running {
            return Err(RemoteError::Stopped);
        }
        while let Some(packet) = self.connection.receive(deadline)? {
            if let Some(stop) = self.meanwhile(&packet)? {
                return Ok(Some(stop));
            }
        }
        Ok(None)
    }

    /// A packet of a running target: a stop, or something on the way.
    fn meanwhile(&mut self, packet: &[u8]) -> Result<Option<Stop>, RemoteError> {
        if let Some(text) = packet.strip_prefix(b"O").and_then(unhex) {
            self.keep(&text);
            return Ok(None);
        }
        if packet.starts_with(b"F") {
            // The program asks for a file of ours (GDB manual, "File-I/O Remote Protocol Extension"): we give none (EUNKNOWN).
            self.connection.send(b"F-1,270f")?;
            return Ok(None);
        }
        self.is_running = false;
        match Stop::parse(packet) {
            Some(stop) => Ok(Some(stop)),
            None if packet.is_empty() => {
                Err(RemoteError::Unsupported { sent: self.sent(), what: "let threads go on" })
            }
            None if super::is_error(packet) => {
                Err(RemoteError::Refused { sent: self.sent(), code: crate::error::excerpt(packet) })
            }
            None => Err(self.unexpected(packet, "a stop reply")),
        }
    }

    fn keep(&mut self, text: &[u8]) {
        self.output.extend_from_slice(text);
        let excess = self.output.len().saturating_sub(KEPT_OUTPUT);
        self.output.drain(..excess);
    }

    /// Asks the running target to stop (0x03): [`Self::wait`] then tells of a stop, which may be another one that came first.
    /// It may never come: qemu-user (7.2) listens only while its program stands still.
    ///
    /// # Errors
    /// [`RemoteError::Stopped`] where it does not run; else a fatal one.
    pub fn interrupt(&mut self) -> Result<(), RemoteError> {
        if !self.is_running {
            return Err(RemoteError::Stopped);
        }
        self.connection.send_byte(3)
    }

    /// Attaches to a process by its number (`vAttach`), which stops.
    ///
    /// # Errors
    /// What the remote says.
    pub fn attach(&mut self, process: u64) -> Result<Stop, RemoteError> {
        self.start(format!("vAttach;{process:x}").as_bytes(), "attach to a process")
    }

    /// Starts a program, a path and its arguments (`vRun`); it stands before its first instruction.
    ///
    /// # Errors
    /// What the remote says.
    pub fn run(&mut self, command: &[&[u8]]) -> Result<Stop, RemoteError> {
        let words: String = command.iter().map(|word| format!(";{}", hex(word))).collect();
        self.start(format!("vRun{words}").as_bytes(), "start a program")
    }

    fn start(&mut self, packet: &[u8], what: &'static str) -> Result<Stop, RemoteError> {
        self.selected = None;
        let reply = self.ask(packet, what)?;
        let stop = Stop::parse(&reply).ok_or_else(|| self.unexpected(&reply, "a stop reply"))?;
        self.has_process = matches!(stop, Stop::Stopped { .. });
        Ok(stop)
    }

    /// Lets go of a process, which runs on (`D`). Breakpoints are the caller's to remove before. `process` is needed where the
    /// remote knows several.
    ///
    /// # Errors
    /// What the remote says.
    pub fn detach(&mut self, process: Option<u64>) -> Result<(), RemoteError> {
        let which = process.filter(|_| self.features.multiprocess).map(|process| format!(";{process:x}"));
        self.selected = None;
        self.command(format!("D{}", which.unwrap_or_default()).as_bytes(), "let go of a process")
    }

    /// Ends a process (`vKill`).
    ///
    /// # Errors
    /// What the remote says.
    pub fn kill(&mut self, process: u64) -> Result<(), RemoteError> {
        self.selected = None;
        self.command(format!("vKill;{process:x}").as_bytes(), "end a process")
    }

    /// Signals that the program gets without a stop (`QPassSignals`); they take the place of those named before.
    ///
    /// # Errors
    /// [`RemoteError::Unsupported`]: all signals stop it then.
    pub fn pass_signals(&mut self, signals: &[Signal]) -> Result<(), RemoteError> {
        let list: Vec<String> = signals.iter().map(|signal| format!("{:x}", signal.0)).collect();
        self.command(format!("QPassSignals:{}", list.join(";")).as_bytes(), "pass signals without a stop")
    }
}
