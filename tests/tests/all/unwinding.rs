//! Exceptions and panics through probed frames: probes at entries, on calls, and at the instructions behind calls.

use tests::{Process, Program, Session, Watch, need, read_memory, rounds};

use crate::probes::{borrowed, probe_at};

/// The first `call` from one function to another, by its encoding: `e8` and a displacement.
fn call_between(target: &Process, from: &str, to: &str) -> u64 {
    let (from, to) = (target.address(from), target.address(to));
    let code = read_memory(target.pid(), from, 256).expect("text");
    let leads_there = |offset: &usize| {
        let Some([0xe8, a, b, c, d]) = code.get(*offset..offset + 5) else { return false };
        let end = from + *offset as u64 + 5;
        end.wrapping_add_signed(i64::from(i32::from_le_bytes([*a, *b, *c, *d]))) == to
    };
    let offset = (0..code.len()).find(leads_there).expect("a call");
    from + offset as u64
}

fn unwound(program: &std::path::Path) {
    let mut target = Process::start(program, &[]);
    assert_eq!(target.ask("calls 30").number("bad"), 0);
    let call = call_between(&target, "middle", "inner");
    let places = ["inner", "middle", "outer"].map(|name| target.address(name));
    let addresses = [places[0], places[1], places[2], call, call + 5];
    let watch = Watch::at(target.pid(), &addresses);
    let probes = addresses.map(|address| probe_at(&target, program, address));
    for calls in [rounds(3_000, 300_000), 30] {
        let mut session = Session::stat(&borrowed(&probes), target.pid());
        session.wait_armed(&watch);
        let done = target.ask(&format!("calls {calls}"));
        let report = session.end();
        report.assert_clean();
        assert_eq!((done.number("bad"), done.number("cleaned")), (0, calls), "{done:?}");
        let returned = calls - done.number("caught");
        for (probe, wanted) in probes.iter().zip([calls, calls, calls, calls, returned]) {
            assert_eq!((report.hits(probe), report.lost(probe)), (wanted, 0), "{probe}: {report:?}");
        }
    }
    assert_eq!(target.ask("calls 30").number("bad"), 0);
    target.finish();
}

#[test]
fn exceptions() {
    unwound(&need!(Program::new("unwinds.cc").build()));
}

#[test]
fn panics() {
    unwound(&need!(Program::new("panics.rs").build()));
}
