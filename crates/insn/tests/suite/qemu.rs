//! A program under qemu-user, driven through its GDB stub (GDB manual, appendix E, "GDB Remote Serial Protocol").

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An answer comes at once, or the emulator hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The stub takes packets of 4096 bytes (gdbstub.c, `MAX_PACKET_LENGTH`), and memory travels as hexadecimal digits.
const CHUNK: usize = 1024;

/// A stopped program.
pub(crate) struct Emulated {
    child: Child,
    stream: BufReader<UnixStream>,
}

impl Emulated {
    /// Starts `program` on the default processor or another, and it stops before its first instruction; `None`, with a line that
    /// says so, where `qemu` is not installed.
    pub(crate) fn start(qemu: &str, processor: Option<&str>, program: &Path) -> Option<Self> {
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
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            if let Ok(stream) = UnixStream::connect(&socket) {
                break stream;
            }
            if child.try_wait().unwrap().is_some() || Instant::now() > deadline {
                let _ = child.kill();
                panic!("{qemu} does not listen");
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Some(Self { child, stream: BufReader::new(stream) })
    }

    /// Sends a packet and returns its answer.
    fn ask(&mut self, packet: &str) -> String {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        self.stream.get_mut().write_all(format!("${packet}#{sum:02x}").as_bytes()).unwrap();
        let mut answer = Vec::new();
        self.stream.read_until(b'#', &mut answer).unwrap();
        let mut sum = [0; 2];
        self.stream.read_exact(&mut sum).unwrap();
        self.stream.get_mut().write_all(b"+").unwrap();
        let text = String::from_utf8(answer).unwrap();
        let begin = text.find('$').unwrap_or_else(|| panic!("no answer to {packet}: {text}"));
        text[begin + 1..].trim_end_matches('#').to_owned()
    }

    fn expect_ok(&mut self, packet: &str) {
        let answer = self.ask(packet);
        assert_eq!(answer, "OK", "to {packet}");
    }

    /// Fetches the description of the registers and drops it: before that the stub of Power has other ones (target/ppc/gdbstub.c).
    pub(crate) fn describe(&mut self) {
        let answer = self.ask("qXfer:features:read:target.xml:0,ffb");
        assert!(answer.starts_with('l'), "{answer}");
    }

    /// All general registers, as the stub has them one behind the other.
    pub(crate) fn registers(&mut self) -> Vec<u8> {
        bytes(&self.ask("g"))
    }

    pub(crate) fn set_registers(&mut self, registers: &[u8]) {
        self.expect_ok(&format!("G{}", digits(registers)));
    }

    pub(crate) fn read(&mut self, from: u64, len: usize) -> Vec<u8> {
        let mut all = Vec::new();
        for offset in (0..len).step_by(CHUNK) {
            let size = CHUNK.min(len - offset);
            let found = bytes(&self.ask(&format!("m{:x},{size:x}", from + offset as u64)));
            assert_eq!(found.len(), size, "at {from:#x}");
            all.extend(found);
        }
        all
    }

    /// The stub of qemu 7.2 refuses this where code of the same page has been run.
    pub(crate) fn write(&mut self, to: u64, what: &[u8]) {
        for (index, chunk) in what.chunks(CHUNK).enumerate() {
            let at = to + (index * CHUNK) as u64;
            self.expect_ok(&format!("M{at:x},{:x}:{}", chunk.len(), digits(chunk)));
        }
    }

    /// Runs one instruction; the signal that the program stops by (5, SIGTRAP, where nothing is wrong). Over a system call the
    /// stub runs one instruction more.
    pub(crate) fn step(&mut self) -> u8 {
        self.stop("s")
    }

    /// Runs up to a breakpoint instruction or a fault; the signal.
    pub(crate) fn run(&mut self) -> u8 {
        self.stop("c")
    }

    fn stop(&mut self, packet: &str) -> u8 {
        let answer = self.ask(packet);
        let is_stop = answer.starts_with('T') || answer.starts_with('S');
        assert!(is_stop && answer.len() >= 3, "the program does not stop: {answer}");
        u8::from_str_radix(&answer[1..3], 16).unwrap()
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn bytes(digits: &str) -> Vec<u8> {
    (0..digits.len())
        .step_by(2)
        .map(|from| u8::from_str_radix(&digits[from..from + 2], 16).unwrap_or_else(|_| panic!("{digits}")))
        .collect()
}
