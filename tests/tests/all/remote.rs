//! The GDB remote protocol's client with the servers that there are: qemu-user's, for every machine, and gdbserver.
//!
//! An emulator shows what the protocol and the registers are like. It cannot show a stale instruction cache.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use insn::Address;
use insn::isa::Isa;
use remote::client::{Action, BreakpointKind, Library};
use remote::description::{Layout, RegisterFile};
use remote::{Cause, Client, Endpoint, Link, RemoteError, Signal, Stop, ThreadId};
use tests::{Machine, PATIENCE, Process, Program, Server, need};

const CALLS: u64 = 5;
/// What `served` computes in so many calls.
const SUM: u64 = ((31 + 2) * 31 + 3) * 31 + 4;

/// One stopped thread.
struct Thread<'a> {
    client: &'a mut Client<Link>,
    layout: &'a Layout,
    id: ThreadId,
}

impl Thread<'_> {
    fn registers(&mut self) -> (Vec<u8>, RegisterFile) {
        self.client.prstatus(self.id, self.layout).expect("registers")
    }

    fn pc(&mut self) -> u64 {
        let abi = self.layout.isa().abi();
        abi.get(&self.registers().0, abi.pc)
    }

    /// The first argument of the function that was just entered.
    fn argument(&mut self) -> u64 {
        let abi = self.layout.isa().abi();
        let registers = self.registers().0;
        match self.layout.isa() {
            Isa::I386 => {
                let mut word = [0; 4];
                let stack = Address(abi.get(&registers, abi.sp)) + 4;
                self.client.read(stack, &mut word).expect("the stack");
                abi.order.number(&word)
            }
            _ => abi.get(&registers, abi.syscall.arguments[0]) & u64::from(u32::MAX),
        }
    }
}

fn next_stop(client: &mut Client<Link>) -> Stop {
    client.wait(Instant::now() + PATIENCE).expect("a stop").expect("within the time")
}

/// Lets everything go on to the next stop, which is a thread's at `signal`.
fn go_on(client: &mut Client<Link>, signal: Signal) -> ThreadId {
    client.resume(&[], Some(Action::Continue)).expect("it goes on");
    let stop = next_stop(client);
    let Stop::Stopped { thread: Some(thread), signal: found, .. } = stop else { panic!("{stop:?}") };
    assert_eq!(found, signal);
    thread
}

fn step(client: &mut Client<Link>, thread: ThreadId) {
    client.resume(&[(thread, Action::Step)], None).expect("it steps");
    let stop = next_stop(client);
    assert!(matches!(stop, Stop::Stopped { signal: Signal::TRAP, .. }), "{stop:?}");
}

fn assert_exit(client: &mut Client<Link>) {
    client.resume(&[], Some(Action::Continue)).expect("it goes on");
    let stop = next_stop(client);
    assert!(matches!(stop, Stop::Exited { status: 0, .. }), "{stop:?}");
}

/// Every register of the set is written and read back, and no other byte changes.
fn assert_registers_round_trip(thread: &mut Thread<'_>) {
    let abi = thread.layout.isa().abi();
    let (before, mut file) = thread.registers();
    let original = file.clone();
    let mut changed = before.clone();
    for slot in abi.syscall.arguments.iter().copied() {
        abi.set(&mut changed, slot, abi.get(&before, slot) ^ 0x5555_aaaa);
    }
    thread.client.set_prstatus(thread.id, thread.layout, &mut file, &changed).expect("registers");
    assert_eq!(thread.registers(), (changed, file.clone()));
    // And by the way that is taken for few.
    let mut restored = file;
    let mut set = thread.registers().0;
    for slot in abi.syscall.arguments.iter().copied() {
        abi.set(&mut set, slot, abi.get(&before, slot));
        thread.client.set_prstatus(thread.id, thread.layout, &mut restored, &set).expect("registers");
    }
    assert_eq!(thread.registers(), (before, original));
}

fn assert_memory_round_trip(thread: &mut Thread<'_>) {
    let abi = thread.layout.isa().abi();
    let stack = abi.get(&thread.registers().0, abi.sp);
    let at = Address(stack - 8192);
    // More than a packet holds, and every byte that is special in one.
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(6000).collect();
    thread.client.write(at, &bytes).expect("the stack is writable");
    let mut found = vec![0; bytes.len()];
    thread.client.read(at, &mut found).expect("and readable");
    assert!(found == bytes, "memory differs");
    let nowhere = thread.client.read(Address(8), &mut [0; 4]);
    assert!(matches!(nowhere, Err(RemoteError::Memory { .. })), "{nowhere:?}");
}

/// Counts calls of `probed` by a breakpoint at `entry`; its instruction is stepped.
fn assert_calls(thread: &mut Thread<'_>, entry: u64) {
    let size = thread.layout.isa().abi().breakpoint.len();
    // arm: programs are T32 by Debian's choice.
    let size = if thread.layout.isa() == Isa::Arm { 2 } else { size };
    for call in 0..CALLS {
        thread.client.insert_breakpoint(BreakpointKind::Software, Address(entry), size).expect("inserted");
        assert_eq!(go_on(thread.client, Signal::TRAP), thread.id);
        assert_eq!(thread.pc(), entry);
        assert_eq!(thread.argument(), call);
        thread.client.remove_breakpoint(BreakpointKind::Software, Address(entry), size).expect("removed");
        step(thread.client, thread.id);
        assert_ne!(thread.pc(), entry);
    }
}

fn emulated(isa: Isa) {
    let machine = Machine::of(isa);
    let program = need!(Program::new("served.c").machine(machine).build());
    let mut server = need!(Server::emulated(machine, &program, &[]));
    let mut client = server.connect();
    let stop = client.halted().expect("it stands still");
    let layout = client.layout().expect("a description");
    assert_eq!(layout.isa(), isa);
    let id = stop.thread().expect("qemu names the thread");
    assert_eq!(client.threads().expect("a list"), [id]);
    assert!(client.is_alive(id).expect("an answer"));
    let mut thread = Thread { client: &mut client, layout: &layout, id };
    assert_registers_round_trip(&mut thread);
    assert_memory_round_trip(&mut thread);
    server.process.tell(&format!("calls {CALLS}"));
    assert_calls(&mut thread, machine.entry(&program, "probed"));
    server.process.close_stdin();
    assert_exit(&mut client);
    server.process.wait_ready();
    let done = server.process.hear();
    assert_eq!((done.number("calls"), done.number("sum")), (CALLS, SUM));
}

#[test]
fn emulated_arm64() {
    emulated(Isa::Arm64);
}

#[test]
fn emulated_arm() {
    emulated(Isa::Arm);
}

#[test]
fn emulated_powerpc() {
    emulated(Isa::PowerPc);
}

#[test]
fn emulated_powerpc64() {
    emulated(Isa::PowerPc64);
}

#[test]
fn emulated_powerpc64le() {
    emulated(Isa::PowerPc64Le);
}

#[test]
fn emulated_mips() {
    emulated(Isa::Mips);
}

#[test]
fn emulated_little_endian_mips() {
    emulated(Isa::MipsLe);
}

#[test]
fn emulated_mips64() {
    emulated(Isa::Mips64Le);
}

#[test]
fn emulated_riscv64() {
    emulated(Isa::RiscV64);
}

#[test]
fn emulated_alpha() {
    emulated(Isa::Alpha);
}

#[test]
fn emulated_sparc64() {
    emulated(Isa::Sparc64);
}

#[test]
fn emulated_i386() {
    emulated(Isa::I386);
}

#[test]
fn emulated_x86_64() {
    emulated(Isa::X86_64);
}

/// A program without position-independent code, so that its addresses are those of its file.
fn native() -> Result<PathBuf, String> {
    Program::new("served.c").flag("-no-pie").build()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("our paths are text")
}

/// The native ISA of the tests: `XOL_TEST_ISA`.
fn native_machine(layout: &Layout) -> &'static Machine {
    Machine::of(layout.isa())
}

#[test]
fn a_program_that_gdbserver_started() {
    let program = need!(native());
    let mut server = need!(Server::gdbserver(&[], &[text(&program)]));
    let mut client = server.connect();
    let id = client.halted().expect("it stands still").thread().expect("a thread");
    let layout = client.layout().expect("a description");
    let entry = native_machine(&layout).entry(&program, "probed");
    let mut thread = Thread { client: &mut client, layout: &layout, id };
    assert_registers_round_trip(&mut thread);
    assert_memory_round_trip(&mut thread);
    server.process.tell(&format!("calls {CALLS}"));
    assert_calls(&mut thread, entry);

    let executable = client.executable(id.process).expect("its path");
    assert_eq!(executable, text(&program.canonicalize().expect("it is there")).as_bytes());
    client.set_file_system(id.process).expect("a file system");
    let bytes = std::fs::read(&program).expect("it is there");
    assert!(client.whole_file(text(&program), bytes.len()).expect("readable") == bytes, "the file differs");
    let file = client.open(text(&program)).expect("readable");
    assert_eq!(client.stat_file(&file).expect("its length").len, bytes.len() as u64);
    client.close(file).expect("closed");
    let missing = client.open("/nowhere/at/all");
    assert!(matches!(missing, Err(RemoteError::File { errno: 2, .. })), "{missing:?}");
    let limited = client.whole_file(text(&program), 1000);
    assert!(matches!(limited, Err(RemoteError::TooLong { limit: 1000, .. })), "{limited:?}");

    server.process.close_stdin();
    assert_exit(&mut client);
}

#[test]
fn a_process_that_gdbserver_attached_to() {
    const THREADS: usize = 3;
    let program = need!(Program::work().flag("-no-pie").build());
    let mut process = Process::start(&program, &["3"]);
    let server = need!(Server::gdbserver(&[], &["--attach", &process.pid().to_string()]));
    let mut client = server.connect();
    let layout = client.layout().expect("a description");
    let threads = client.threads().expect("a list");
    assert_eq!(threads.len(), 1 + THREADS);
    assert_eq!(client.named_threads().expect("a list").len(), 1 + THREADS);
    assert!(threads.iter().all(|thread| thread.process == Some(process.pid().into())));
    assert!(!client.is_alive(ThreadId { thread: 1, ..threads[0] }).expect("an answer"));

    let libraries: Vec<Library> = client.libraries().expect("a list");
    assert!(libraries.iter().any(|library| library.path.contains("libc.so")), "{libraries:?}");
    let auxv = client.auxv().expect("it has one");
    let known = std::fs::read(format!("/proc/{}/auxv", process.pid())).expect("it runs");
    assert_eq!(auxv, known);

    // One thread hits a breakpoint and is stepped; the others stand.
    let work = Address(process.address("work"));
    client.insert_breakpoint(BreakpointKind::Software, work, 1).expect("inserted");
    process.tell("calls 1");
    let hit = go_on(&mut client, Signal::TRAP);
    client.remove_breakpoint(BreakpointKind::Software, work, 1).expect("removed");
    let mut pcs = || -> Vec<u64> {
        let mut pc = |id| Thread { client: &mut client, layout: &layout, id }.pc();
        threads.iter().map(|id| pc(*id)).collect()
    };
    let before = pcs();
    assert_eq!(before[threads.iter().position(|thread| *thread == hit).expect("a known thread")], work.0);
    let mut client = client;
    step(&mut client, hit);
    for (thread, before) in threads.iter().zip(before) {
        let now = Thread { client: &mut client, layout: &layout, id: *thread }.pc();
        assert_eq!(now != before, *thread == hit, "{thread}");
    }

    client.detach(hit.process).expect("let go");
    let done = process.hear();
    assert_eq!((done.number("work"), done.number("bad")), (THREADS as u64, 0));
    process.finish();
}

#[test]
fn a_stop_says_that_it_was_a_breakpoint_and_an_interrupt_stops() {
    let program = need!(native());
    let server = need!(Server::gdbserver(&[], &[text(&program)]));
    let mut client = server.connect();
    let layout = client.layout().expect("a description");
    let machine = native_machine(&layout);
    let entry = machine.entry(&program, "main");
    // Written by ourselves, as a tracer does where a remote has no `Z`.
    let breakpoint = machine.isa.abi().breakpoint;
    let mut original = vec![0; breakpoint.len()];
    client.read(Address(entry), &mut original).expect("text");
    client.write(Address(entry), breakpoint).expect("text is writable");
    client.resume(&[], Some(Action::Continue)).expect("it goes on");
    let Stop::Stopped { thread: Some(id), cause, .. } = next_stop(&mut client) else { panic!("no stop") };
    assert!(client.features().breakpoint_stops);
    assert_eq!(cause, Cause::Breakpoint);
    assert_eq!(Thread { client: &mut client, layout: &layout, id }.pc(), entry);
    client.write(Address(entry), &original).expect("text is writable");

    // It waits for a command that does not come.
    client.resume(&[], Some(Action::Continue)).expect("it goes on");
    assert_eq!(client.wait(Instant::now()).expect("no error"), None);
    let refused = client.read(Address(entry), &mut original);
    assert!(matches!(refused, Err(RemoteError::Running { .. })), "{refused:?}");
    client.interrupt().expect("sent");
    let stop = next_stop(&mut client);
    assert!(matches!(stop, Stop::Stopped { signal: Signal::INT, .. }), "{stop:?}");
    client.kill(id.process.expect("a process")).expect("ended");
}

#[test]
fn a_program_is_run_and_killed_by_a_server_of_many() {
    let program = need!(native());
    let server = need!(Server::gdbserver(&["--multi"], &[]));
    let mut client = server.connect();
    assert!(client.features().extended);
    let early = client.layout();
    assert!(matches!(early, Err(RemoteError::NoProcess)), "{early:?}");
    let stop = client.run(&[text(&program).as_bytes(), b"an argument"]).expect("it starts");
    let id = stop.thread().expect("a thread");
    assert_eq!(client.threads().expect("a list"), [id]);
    client.kill(id.process.expect("a process")).expect("ended");
    let gone = client.run(&[b"/nowhere/at/all"]);
    assert!(matches!(gone, Err(RemoteError::Refused { .. })), "{gone:?}");
}

/// A child of ours that speaks the protocol; it is gone when the client is dropped, and what it had started too.
#[test]
fn a_command_is_a_remote() {
    let program = need!(native());
    need!(tests::which("gdbserver").ok_or("no gdbserver on this machine"));
    let endpoint: Endpoint = format!("|gdbserver - {}", program.display()).parse().expect("a command");
    let mut client =
        Client::connect(endpoint.connect(PATIENCE).expect("started"), PATIENCE).expect("it speaks");
    let stop = client.halted().expect("it stands still");
    let process = stop.thread().and_then(|thread| thread.process).expect("gdbserver names the process");
    // Who has inherited it may leave it a zombie.
    let runs = || {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
    };
    assert!(runs());
    drop(client);
    tests::wait_for("the program's end", || (!runs()).then_some(()));
}

#[test]
fn a_command_that_ends_at_once_is_a_closed_connection() {
    let endpoint: Endpoint = "|exit 3".parse().expect("a command");
    let link = endpoint.connect(PATIENCE).expect("a shell");
    let error = Client::connect(link, PATIENCE).expect_err("nobody speaks");
    assert!(matches!(error, RemoteError::Closed { .. }), "{error}");
}

#[test]
fn a_command_that_says_nothing_is_silent_and_ended() {
    let endpoint: Endpoint = "|exec cat >/dev/null".parse().expect("a command");
    let link = endpoint.connect(PATIENCE).expect("a shell");
    let error = Client::connect(link, Duration::from_millis(50)).expect_err("nobody speaks");
    assert!(matches!(error, RemoteError::Silent { .. }), "{error}");
}
