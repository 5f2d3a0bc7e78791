//! Code that the kernel knows by its addresses.

use tests::{Process, Program, Report, Session, Watch, need, rounds, skip, xol};

use crate::probes::{borrowed, probe};

/// A restartable sequence stays whole: nothing in it, nor what leads into it, nor its abort handler's signature is
/// displaced; what is around it is probed, and no increment is lost.
#[test]
fn restartable_sequences() {
    let program = need!(Program::new("rseq.c").flag("-pthread").build());
    let mut target = Process::start(&program, &[]);
    if target.ready.number("supported") == 0 {
        skip!("no rseq(2) here");
    }
    let pid = target.pid().to_string();
    let add = target.address("add");
    let offset = |name: &str| target.address(name) - add;
    let at = |offset: u64| probe(&program, &format!("add_one+{offset}"));
    // lea; mov to the kernel's area; the sequence; its end; the abort handler
    for inside in [7, offset("start"), offset("start") + 3, offset("end") - 4, offset("abort")] {
        let refused = Report::of(&mut xol(["stat", &at(inside), "-p", &pid, "--duration", "1ms"]));
        refused.assert_error(1, &["restartable sequence"]);
    }
    let around = [0, offset("end"), offset("end") + 2, offset("abort") + 5].map(at);
    let watch = Watch::at(target.pid(), &[add, target.address("end")]);
    let mut session = Session::stat(&borrowed(&around), target.pid());
    session.wait_armed(&watch);
    let times = rounds(20_000, 1_000_000);
    let done = target.ask(&format!("add {times}"));
    let report = session.end();
    report.assert_clean();
    assert_eq!(done.number("sum"), 4 * times, "{done:?}");
    let begun = 4 * times + done.number("aborts");
    let counted = around.each_ref().map(|probe| report.hits(probe));
    assert_eq!(counted, [begun, 4 * times, 4 * times, done.number("aborts")], "{done:?} {report:?}");
    target.finish();
}
