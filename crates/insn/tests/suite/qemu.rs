//! A program under qemu-user, driven through its GDB stub.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use insn::xol::{Fault, Memory};
use insn::{Address, Isa};
use remote::client::{Action, BreakpointKind};
use remote::description::{Layout, RegisterFile};
use remote::{Client, Endpoint, Link, Signal, Stop, ThreadId};

use crate::registers::Registers;

/// An answer comes at once, or the emulator hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stopped program of one thread.
pub(crate) struct Emulated {
    child: Child,
    client: Client<Link>,
    thread: ThreadId,
    isa: Isa,
    layout: Layout,
    /// What the stub has said last of the registers.
    known: RegisterFile,
    /// Where `save` and `restore` are, one behind the other, on ISAs with register windows.
    pub(crate) windows: Option<u64>,
}

impl Emulated {
    /// Starts `program` on the default processor or another, and it stops before its first instruction; `None`, with a line that
    /// says so, where `qemu` is not installed.
    pub(crate) fn start(qemu: &str, processor: Option<&str>, isa: Isa, program: &Path) -> Option<Self> {
        let socket = program.with_extension("socket");
        let started = Command::new(qemu)
            .args(processor.into_iter().flat_map(|name| ["-cpu", name]))
            .arg("-g")
            .arg(&socket)
            .arg(program)
            .stdin(Stdio::null())
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                println!("skipped: no {qemu} (Debian: qemu-user): {error}");
                return None;
            }
        };
        let link = connect(&mut child, &Endpoint::Unix(socket));
        let mut client = Client::connect(link, PATIENCE).unwrap();
        let thread = client.halted().unwrap().thread().expect("the stub names its thread");
        let layout = client.layout().unwrap();
        let known = client.registers(thread).unwrap();
        Some(Self { child, client, thread, isa, layout, known, windows: None })
    }

    /// Lets the program go on from these registers, which are the stub's then; with what signal it stops, and its registers.
    pub(crate) fn go(&mut self, from: &Registers, action: Action) -> (Signal, Registers) {
        self.enter_window(from);
        self.client.set_prstatus(self.thread, &self.layout, &mut self.known, &from.bytes).unwrap();
        self.go_on(action)
    }

    /// Brings the thread into the register window that `from` is of: the stub writes registers into the one that it finds.
    pub(crate) fn enter_window(&mut self, from: &Registers) {
        let Some(windows) = self.windows else { return };
        loop {
            let bytes = self.layout.prstatus(&self.known).unwrap();
            let mut here = Registers { isa: self.isa, bytes };
            let instruction = match here.windows_above(from) {
                0 => return,
                1.. => windows + 4,
                _ => windows,
            };
            here.set_pc(instruction);
            // What is in the other window is the same at each visit.
            for number in (8..32).filter(|number| *number != 14 && *number != 30) {
                here.set(number, 0);
            }
            self.client.set_prstatus(self.thread, &self.layout, &mut self.known, &here.bytes).unwrap();
            self.go_on(Action::Step);
        }
    }

    /// The same from where it stands. Over a system call the stub steps one instruction more.
    pub(crate) fn go_on(&mut self, action: Action) -> (Signal, Registers) {
        self.client.resume(&[(self.thread, action)], None).unwrap();
        let signal = match self.client.wait(Instant::now() + PATIENCE).unwrap() {
            Some(Stop::Stopped { signal, .. }) => signal,
            other => panic!("the program does not stop: {other:?}"),
        };
        let (bytes, known) = self.client.prstatus(self.thread, &self.layout).unwrap();
        self.known = known;
        let mut registers = Registers { isa: self.isa, bytes };
        // qemu-user takes s390x's for an instruction that is none.
        let of_breakpoint = if self.isa == Isa::S390x { Signal::ILL } else { Signal::TRAP };
        if signal == of_breakpoint && action == Action::Continue && self.back_to_breakpoint(&mut registers) {
            return (Signal::TRAP, registers);
        }
        (signal, registers)
    }

    /// Some ISAs report a PC behind the breakpoint; whether it is one.
    fn back_to_breakpoint(&mut self, registers: &mut Registers) -> bool {
        let abi = self.isa.abi();
        let at = registers.pc().wrapping_sub(abi.pc_past_breakpoint);
        let is_one = abi.pc_past_breakpoint > 0 && self.read(at, abi.breakpoint.len()) == abi.breakpoint;
        if is_one {
            registers.set_pc(at);
        }
        is_one
    }

    /// Has the stub stop at `at`, an instruction of `len` bytes.
    pub(crate) fn set_breakpoint(&mut self, at: u64, len: usize) {
        self.client.insert_breakpoint(BreakpointKind::Software, Address(at), len).unwrap();
    }

    pub(crate) fn take_breakpoint(&mut self, at: u64, len: usize) {
        self.client.remove_breakpoint(BreakpointKind::Software, Address(at), len).unwrap();
    }

    pub(crate) fn read(&mut self, from: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.client.read(Address(from), &mut bytes).unwrap();
        bytes
    }

    /// The stub of qemu 7.2 refuses this where code of the same page has been run.
    pub(crate) fn write(&mut self, to: u64, what: &[u8]) {
        self.client.write(Address(to), what).unwrap();
    }
}

impl Memory for Emulated {
    fn read(&mut self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        self.client.read(at, into).map_err(|_| Fault::Memory(at))
    }

    fn write(&mut self, at: Address, bytes: &[u8]) -> Result<(), Fault> {
        self.client.write(at, bytes).map_err(|_| Fault::Memory(at))
    }
}

/// Waits until the stub listens.
fn connect(child: &mut Child, to: &Endpoint) -> Link {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = match to.connect(PATIENCE) {
            Ok(link) => return link,
            Err(error) => error,
        };
        if child.try_wait().unwrap().is_some() || Instant::now() > deadline {
            let _ = child.kill();
            panic!("{error}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
