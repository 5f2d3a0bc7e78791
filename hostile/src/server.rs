//! Bytes taken for what a GDB server says.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use insn::Address;
use remote::client::{Action, Client, Features};
use remote::connection::{Connection, LONGEST_REPLY};
use remote::description::{Description, RegisterFile, order};
use remote::packet::frame;
use remote::{Stop, Stream, ThreadId};

/// Never up: the bytes end first.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A server that says these bytes and closes; in answers to packets, each with its acknowledgement, where they are lines.
struct Server {
    answers: VecDeque<Vec<u8>>,
    said: VecDeque<u8>,
}

impl Stream for Server {
    fn receive(&mut self, into: &mut [u8], _deadline: Instant) -> io::Result<usize> {
        let len = into.len().min(self.said.len());
        into.iter_mut().zip(self.said.drain(..len)).for_each(|(place, byte)| *place = byte);
        Ok(len)
    }

    fn send(&mut self, bytes: &[u8], _deadline: Instant) -> io::Result<()> {
        if bytes.starts_with(b"$") {
            let answer = self.answers.pop_front();
            self.said
                .extend(answer.map(|answer| [b"+", frame(&answer).as_slice()].concat()).unwrap_or_default());
        }
        Ok(())
    }
}

/// A whole conversation, packets of a line, and each parser of a reply.
pub fn remote(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
    conversation(Server { answers: lines.collect(), said: VecDeque::new() });
    conversation(Server { answers: VecDeque::new(), said: bytes.iter().copied().collect() });
    packets(bytes);
    let _ = (Stop::parse(bytes), Features::parse(bytes), order(bytes, 4), order(bytes, 8));
    let registers = RegisterFile::parse(bytes).unwrap_or_default();
    let Ok(description) = Description::read(&mut |_| Ok(bytes.to_vec())) else { return };
    for isa in description.isas() {
        let Ok(layout) = description.layout(isa) else { continue };
        let Ok(set) = layout.prstatus(&registers) else { continue };
        let mut same = registers.clone();
        assert!(layout.update(&mut same, &set).is_empty() && same == registers);
    }
}

fn conversation(server: Server) {
    let Ok(mut client) = Client::connect(server, PATIENCE) else { return };
    let thread = ThreadId { process: None, thread: 1 };
    let _ = (client.halted(), client.threads(), client.layout(), client.registers(thread));
    let _ = (client.libraries(), client.named_threads(), client.memory_map(), client.offsets());
    let _ = (client.read(Address(0x1000), &mut [0; 40]), client.write(Address(0x1000), b"}#$*"));
    let _ = (client.resume(&[(thread, Action::Step)], None), client.wait(Instant::now() + PATIENCE));
    if let Ok(file) = client.open("/x") {
        let _ = (client.stat_file(&file), client.read_file(&file, 0, 40), client.close(file));
    }
    let _ = (client.whole_file("/y", 100), client.offer_symbols(|_| None), client.register(thread, 1));
}

fn packets(bytes: &[u8]) {
    let server = Server { answers: VecDeque::new(), said: bytes.iter().copied().collect() };
    let mut connection = Connection::new(server, PATIENCE);
    while let Ok(packet) = connection.receive(Instant::now() + PATIENCE) {
        assert!(packet.is_some_and(|packet| packet.len() <= LONGEST_REPLY));
    }
}

/// A conversation's answers, a description, and packets as they are.
pub(crate) fn conversations() -> Vec<Vec<u8>> {
    let description = b"l<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target><architecture>riscv:rv32\
        </architecture><feature name=\"org.gnu.gdb.riscv.cpu\"><reg name=\"a0\" bitsize=\"32\" regnum=\"10\"/></feature></target>";
    let first: [&[u8]; 14] = [
        b"PacketSize=400;qXfer:features:read+;qXfer:auxv:read+;qXfer:libraries-svr4:read+;QStartNoAckMode+",
        b"",
        b"OK",
        b"vCont;c;C;s;S",
        b"T05thread:1;06:0*(;",
        b"m1,p2.3",
        b"l",
        description,
        b"l\x06\0\0\0\0\x10\0\0\0\0\0\0\0\0\0\0",
        b"OK",
        b"0000xxxx",
        b"l<library-list-svr4><library name=\"/x\" lm=\"0x1\" l_addr=\"0x2\" l_ld=\"0x3\"/></library-list-svr4>",
        b"Text=0;Data=0",
        b"",
    ];
    let raw = b"+$OK#9a+$#00+$#00+$vCont;c;s#a5$T05swbreak:;thread:p1.2;#00-%Stop:W00#00".to_vec();
    vec![first.join(&b'\n'), description[1..].to_vec(), raw]
}
