//! Stop replies and signals.

use insn::Address;
use remote::{Cause, Signal, Stop, ThreadId};

fn thread(process: Option<u64>, thread: u64) -> ThreadId {
    ThreadId { process, thread }
}

fn stopped(cause: Cause) -> Option<Stop> {
    let (signal, registers) = (Signal::TRAP, Vec::new());
    Some(Stop::Stopped { thread: Some(thread(Some(0x7b), 0x7c)), signal, cause, registers })
}

#[test]
fn a_thread_stops_with_registers() {
    let stop = Stop::parse(b"T05swbreak:;06:0010;10:f014400000000000;thread:p7b.7c;core:1;");
    let registers = vec![(6, vec![0, 0x10]), (0x10, vec![0xf0, 0x14, 0x40, 0, 0, 0, 0, 0])];
    let expected = Stop::Stopped {
        thread: Some(thread(Some(0x7b), 0x7c)),
        signal: Signal::TRAP,
        cause: Cause::Breakpoint,
        registers,
    };
    assert_eq!(stop, Some(expected));
}

#[test]
fn causes_have_names() {
    let cases = [
        ("", Cause::Signal),
        ("hwbreak:;", Cause::HardwareBreakpoint),
        ("awatch:7fff0;", Cause::Watchpoint(Address(0x7fff0))),
        ("library:;", Cause::Libraries),
        ("fork:p7d.7d;", Cause::Fork(thread(Some(0x7d), 0x7d))),
        ("vfork:p7d.7d;", Cause::Vfork(thread(Some(0x7d), 0x7d))),
        ("vforkdone:;", Cause::VforkDone),
        ("exec:2f62696e;", Cause::Exec(b"/bin".to_vec())),
        ("create:;", Cause::Created),
        ("syscall_entry:3b;", Cause::SyscallEntry(0x3b)),
        ("syscall_return:3b;", Cause::SyscallReturn(0x3b)),
        ("replaylog:begin;", Cause::ReplayBegin),
        ("replaylog:end;", Cause::ReplayEnd),
        // What a later protocol may add.
        ("something-new:with:colons;", Cause::Signal),
    ];
    for (text, cause) in cases {
        assert_eq!(Stop::parse(format!("T05{text}thread:p7b.7c;").as_bytes()), stopped(cause), "{text}");
    }
}

#[test]
fn ends_are_told_from_stops() {
    let cases = [
        (
            "S0b",
            Stop::Stopped { thread: None, signal: Signal::SEGV, cause: Cause::Signal, registers: Vec::new() },
        ),
        ("W2a", Stop::Exited { process: None, status: 42 }),
        ("W00;process:7b", Stop::Exited { process: Some(0x7b), status: 0 }),
        ("X09;process:7b", Stop::Killed { process: Some(0x7b), signal: Signal(9) }),
        ("w1;p7b.7c", Stop::ThreadExited { thread: thread(Some(0x7b), 0x7c), status: 1 }),
        ("N", Stop::NoneLeft),
    ];
    for (text, stop) in cases {
        assert_eq!(Stop::parse(text.as_bytes()), Some(stop), "{text}");
    }
}

#[test]
fn what_is_no_stop_is_none() {
    let texts = [
        "",
        "OK",
        "E01",
        "S",
        "S1ff",
        "T",
        "T0",
        "Tzz",
        "T05thread",
        "T05thread:;",
        "T05thread:0;",
        "T05thread:p1;",
        "T05thread:p1.;",
        "T05thread:-1;",
        "T05thread:11111111111111111;",
        "T05watch:xyz;",
        "T05fork:;",
        "T05exec:2;",
        "T0506:0;",
        "T05123456789:00;",
        "W",
        "Wxy",
        "W00;process",
        "W00;process:",
        "W00;thread:1",
        "X100",
        "w1",
        "w;1",
        "N1",
    ];
    for text in texts {
        assert_eq!(Stop::parse(text.as_bytes()), None, "{text}");
    }
}

/// Numbers of the kernel's are those of GDB's for one program only: hence the type.
#[test]
fn signals_are_translated_both_ways() {
    for linux in (1..=15).chain(17..=64) {
        let signal = Signal::from_linux(linux).unwrap_or_else(|| panic!("signal {linux}"));
        assert_eq!(signal.linux(), Some(linux));
    }
    assert_eq!(Signal::from_linux(16), None); // SIGSTKFLT
    for (linux, gdb) in [(5, 5), (7, 10), (10, 30), (11, 11), (17, 20), (19, 17), (34, 46), (64, 78)] {
        assert_eq!(Signal::from_linux(linux), Some(Signal(gdb)));
    }
    for foreign in [0, 7, 29, 76, 79, 255] {
        assert_eq!(Signal(foreign).linux(), None, "{foreign}");
    }
}

#[test]
fn threads_are_written_as_they_are_read() {
    for text in ["1", "7fffffff", "p1.2", "p7b.7c"] {
        assert_eq!(ThreadId::parse(text.as_bytes()).map(|id| id.to_string()).as_deref(), Some(text));
    }
}
