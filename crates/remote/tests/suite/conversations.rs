//! Written conversations: what is said of each question, and what is made of each answer.

use std::time::{Duration, Instant};

use insn::isa::Isa;
use insn::{Address, isa::Order};
use remote::client::{Action, BreakpointKind, FileStat, Library};
use remote::{Cause, Client, RemoteError, Signal, Stop, ThreadId};

use crate::conversation::{Conversation, play};

fn wait(client: &mut Client<&mut Conversation>) -> Option<Stop> {
    client.wait(Instant::now() + Duration::from_secs(60)).expect("no error")
}

#[test]
fn with_gdbserver() {
    play(include_str!("../conversations/gdbserver.txt"), |client| {
        let id = |thread| ThreadId { process: Some(0x3ecd), thread };
        let (first, second) = (id(0x3ecd), id(0x3ece));
        assert!(client.features().unacknowledged && client.features().steps());
        let Stop::Stopped { thread, registers, .. } = client.halted().unwrap() else { panic!("no stop") };
        assert_eq!(thread, Some(first));
        assert_eq!(registers[1], (7, 0x7fff_ffff_e800_u64.to_le_bytes().to_vec()));
        assert_eq!(client.threads().unwrap(), [first, second]);
        assert_eq!(client.current_thread().unwrap(), Some(second));
        assert!(!client.is_alive(id(1)).unwrap());
        let names: Vec<_> = client.named_threads().unwrap().into_iter().map(|listed| listed.name).collect();
        assert_eq!(names, [Some("served".to_owned()), None]);
        assert_eq!(client.executable(Some(0x3ecd)).unwrap(), b"/tmp/a # b");
        let library = Library {
            path: "/lib/libc.so.6".to_owned(),
            link_map: Address(0x7fff_f7fc_1180),
            bias: 0x7fff_f7dd_4000,
            dynamic: Address(0x7fff_f7fa_5b60),
        };
        assert_eq!(client.libraries().unwrap(), [library]);
        client.pass_signals(&[Signal(14), Signal(20)]).unwrap();
        files(client);
        assert_eq!(client.offsets().unwrap(), None);
        client.select(second).unwrap();
        client.write(Address(0x40_1000), b"#$}\0").unwrap();
        let mut bytes = [0; 4];
        client.read(Address(0x40_1000), &mut bytes).unwrap();
        assert_eq!(&bytes, b"#$}\0");
        let nowhere = client.read(Address(8), &mut bytes).unwrap_err();
        assert!(matches!(nowhere, RemoteError::Memory { address: Address(8), len: 4, .. }), "{nowhere}");
        hits(client, first, second);
    });
}

fn files(client: &mut Client<&mut Conversation>) {
    client.set_file_system(Some(0x3ecd)).unwrap();
    let file = client.open("/tmp/a #").unwrap();
    assert_eq!(client.stat_file(&file).unwrap(), FileStat { mode: 0o100_644, len: 3 });
    assert_eq!(client.read_file(&file, 0, 1 << 20).unwrap(), b"a#*}");
    assert_eq!(client.read_file(&file, 4, 1 << 20).unwrap(), b"");
    client.close(file).unwrap();
    let missing = client.open("/nowhere").unwrap_err();
    assert_eq!(missing.to_string(), "the remote cannot open /nowhere: error 2");
}

fn hits(client: &mut Client<&mut Conversation>, first: ThreadId, second: ThreadId) {
    client.insert_breakpoint(BreakpointKind::Software, Address(0x40_1136), 1).unwrap();
    let actions = [(first, Action::Step), (second, Action::ContinueWith(Signal::SEGV))];
    client.resume(&actions, Some(Action::Continue)).unwrap();
    let stop = wait(client);
    assert!(matches!(stop, Some(Stop::Stopped { cause: Cause::Breakpoint, .. })), "{stop:?}");
    assert_eq!(client.take_output(), b"hello\n");
    client.remove_breakpoint(BreakpointKind::Software, Address(0x40_1136), 1).unwrap();
    client.resume(&[], Some(Action::Continue)).unwrap();
    assert_eq!(wait(client), Some(Stop::Exited { process: Some(0x3ecd), status: 3 }));
}

#[test]
fn with_a_stub_that_knows_nothing() {
    play(include_str!("../conversations/minimal.txt"), |client| {
        let thread = ThreadId { process: None, thread: 1 };
        let stopped =
            |signal| Stop::Stopped { thread: None, signal, cause: Cause::Signal, registers: Vec::new() };
        assert_eq!(client.halted().unwrap(), stopped(Signal::TRAP));
        client.resume(&[(thread, Action::Step)], None).unwrap();
        assert_eq!(wait(client), Some(stopped(Signal::TRAP)));
        let two = [(thread, Action::Step), (ThreadId { thread: 2, ..thread }, Action::Step)];
        let refused = client.resume(&two, None).unwrap_err();
        assert!(matches!(refused, RemoteError::Unsupported { .. }), "{refused}");
        assert!(!client.is_running());

        client.resume(&[], Some(Action::Continue)).unwrap();
        assert_eq!(wait(client), None, "it runs");
        let running = client.halted().unwrap_err();
        assert!(matches!(running, RemoteError::Running { .. }), "{running}");
        client.interrupt().unwrap();
        assert_eq!(wait(client), Some(stopped(Signal::INT)));
        let stopped = client.interrupt().unwrap_err();
        assert!(matches!(stopped, RemoteError::Stopped), "{stopped}");

        client.write(Address(0x1000), &[0x90, 0x90]).unwrap();
        let none = client.insert_breakpoint(BreakpointKind::Software, Address(0x1000), 1).unwrap_err();
        let text = "the remote does not know `Z0,1000,1`: it cannot insert a breakpoint of this kind";
        assert_eq!(none.to_string(), text);
        assert!(matches!(client.kill(1), Err(RemoteError::Unsupported { .. })));
        // What it did not announce is not even asked for.
        assert!(matches!(client.libraries(), Err(RemoteError::Unsupported { .. })));
        let text = client.description().unwrap_err().to_string();
        assert!(text.starts_with("the remote describes no target"), "{text}");
        assert_eq!(client.current_thread().unwrap(), None);
    });
}

#[test]
fn about_registers() {
    play(include_str!("../conversations/registers.txt"), |client| {
        let thread = ThreadId { process: None, thread: 1 };
        assert!(!client.features().steps());
        let layout = client.layout().unwrap();
        let abi = layout.isa().abi();
        assert_eq!((layout.isa(), abi.order), (Isa::RiscV32, Order::Little));
        let (mut set, mut registers) = client.prstatus(thread, &layout).unwrap();
        assert_eq!(abi.get(&set, abi.pc), 0x20);
        for pc in [0x10, 0x20] {
            abi.set(&mut set, abi.pc, pc);
            client.set_prstatus(thread, &layout, &mut registers, &set).unwrap();
        }
        // Nothing is said where nothing changed.
        client.set_prstatus(thread, &layout, &mut registers, &set).unwrap();
        let mut bytes = [0; 4];
        client.read(Address(0x1000), &mut bytes).unwrap();
        assert_eq!(bytes, [1, b'*', b'#', 2]);
        assert!(matches!(client.read(Address(0x2000), &mut bytes), Err(RemoteError::Memory { .. })));
    });
}

#[test]
fn all_go_on_without_vcont() {
    play(include_str!("../conversations/without_vcont.txt"), |client| {
        let thread = client.halted().unwrap().thread().unwrap();
        client.resume(&[], Some(Action::Continue)).unwrap();
        assert!(matches!(wait(client), Some(Stop::Stopped { signal: Signal(14), .. })));
        let signal = (thread, Action::ContinueWith(Signal(14)));
        client.resume(&[signal], Some(Action::Continue)).unwrap();
        assert!(matches!(wait(client), Some(Stop::Exited { status: 0, .. })));
        assert!(client.is_good());
    });
}
